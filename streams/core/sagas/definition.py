"""What a saga is to do: a graph of named nodes, as values that never change.

::

    ●──▶ seats (lock) ──▶ flight ──▶ hotel ──▶ big? ──▶ approve ──▶ pay (pivot) ──▶ mail
                                                 └───────────────────▲

**Edges.** A node lists in `after` what it follows; a choice names, in its cases, what follows it. An edge is *taken* or *passed
over*, once. A node waits until every edge into it is one or the other, then runs if at least one was taken, and is passed over
otherwise (and so are the edges out of it): branches in parallel meet and the two ways of a choice meet, by the same rule. Only
a `Join` may run earlier: as soon as enough edges were taken. A graph of these has no cycle; what repeats is the *body* of a
`Loop` or an `Each`, a graph of its own that ends before the node does. A graph has ended when each node has run or was passed
over.

**Data.** A node's result can be read by the nodes behind it under the node's name: `flight.price`. There are also `input` (of the
saga), `saga.id`, and inside a body `item` (of an `Each`) and `index` (from 0). A node that was passed over is null. Names are
unique in the whole definition, bodies included. In a body a name means the result of the same pass.

**Templates.** What a node is given is JSON in which a text that begins with `=` is an expression: `"=flight.price"`. One that
begins with `==` is text that begins with one `=`. See `expressions`.

**Failure.** A node that fails at last (attempts used up, a code that is not retried, out of time, rejected) does what `if_fails`
says: *compensate* ends the saga by its compensations, in reverse order of their registration; *go_on* takes the edges out of it,
its result is `{"error": {"code": ..., "reason": ...}}`; *skip* passes over the edges out of it. Behind a pivot that succeeded
there is no way back: what would compensate becomes an incident.

This module only holds; `checking` says what is wrong, `loading` reads and writes data, `graph` has the edges by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from streams.core.sagas.limits import DEADLINE_MS, LEASE_MS, TIMEOUT_MS

__all__ = [
    "KINDS",
    "NO_RETRY",
    "RESERVED",
    "Approval",
    "Case",
    "Child",
    "Choice",
    "Definition",
    "Each",
    "Failing",
    "Join",
    "Lock",
    "Loop",
    "Need",
    "Node",
    "Retry",
    "Schedule",
    "Signal",
    "Step",
    "Template",
    "Timer",
    "walk",
]

Template = Any
"""JSON with expressions in it."""
Failing = Literal["compensate", "go_on", "skip"]
"""What becomes of the saga when a node fails at last."""
Need = Literal["all", "any"] | int
"""How many are needed: of the edges that lead to a join, or of the items of an each."""

RESERVED: Final = frozenset({"input", "item", "index", "saga", "true", "false", "null", "and", "or", "not", "in", "has", "size"})
"""Names that no node can have: expressions use them."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call that failed is tried again. `retries.wait_ms` says when.

    Attributes:
        attempts: At most so many, the first included.
        backoff_ms: The wait before the second.
        factor: Each wait is so many times the one before.
        backoff_ms_max: And never longer than this.
        jitter: The part of a wait, 0 to 1, that is left to chance (which depends on the call's id alone).
        never: Codes of errors that are final at once.
    """

    attempts: int = 3
    backoff_ms: int = 200
    factor: float = 2.0
    backoff_ms_max: int = 30_000
    jitter: float = 0.5
    never: tuple[str, ...] = ()


NO_RETRY: Final = Retry(attempts=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What every node has.

    Attributes:
        name: Unique in the definition: letters, digits and underscores, and no digit first.
        after: What it follows, in the same graph. Empty: it begins, unless a choice names it.
    """

    kind: ClassVar[str] = ""
    name: str
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Node):
    """Call a handler of a participant; its answer is the result.

    Attributes:
        handler: The name under which a participant takes the call.
        input: What it is given (a template).
        compensation: The handler that undoes it, or empty. Registered before the action is called, so that an action whose
            outcome is unknown is undone too: it has to bear that there is nothing to undo.
        compensation_input: A template, in which the step's own name is its answer, or null while there is none; None:
            `{"input": what the action was given, "result": its answer or null}`.
        timeout_ms: Of each attempt.
        retry: Of the action.
        compensation_timeout_ms: Of each attempt to undo.
        compensation_retry: What is still not undone after it is an incident.
        pivot: Once it succeeded, the saga only goes forward.
        grant: A lock node whose grant (resource and token) goes with the action and with its compensation.
        if_fails: See the module.
    """

    kind: ClassVar[str] = "step"
    handler: str
    input: Template = "=input"
    compensation: str = ""
    compensation_input: Template = None
    timeout_ms: int = TIMEOUT_MS
    retry: Retry = Retry()
    compensation_timeout_ms: int = TIMEOUT_MS
    compensation_retry: Retry = Retry(attempts=10)
    pivot: bool = False
    grant: str = ""
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True)
class Case:
    """One way out of a choice: to the node `to` where `when` (an expression, without `=`) is true."""

    when: str
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Node):
    """Take the edge of the first case that is true, and pass over the others; its result is the name of where it led, or null.

    Attributes:
        cases: Tried in order. The nodes they name need not list the choice in `after`, and must not.
        otherwise: Where it leads if none is true; empty: nowhere.
    """

    kind: ClassVar[str] = "choice"
    cases: tuple[Case, ...] = ()
    otherwise: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Node):
    """Wait for branches: its result maps each node in `after` that came to its result.

    Attributes:
        need: How many edges into it must be taken: all, any, or a number. With *all*, one edge that is passed over is a failure,
            unless all are; with the others, too few are a failure.
        rest: What becomes of the branches that only lead here once there are enough: *run_on*, or *cancel*.
        if_fails: What too few lead to.
    """

    kind: ClassVar[str] = "join"
    need: Need = "all"
    rest: Literal["run_on", "cancel"] = "run_on"
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Node):
    """Run a body until an expression is true; its result is the body's result of the last pass.

    Attributes:
        body: A graph. Its nodes can be read in `until` and `result`.
        until: An expression (without `=`), evaluated after each pass.
        passes_max: The bound: it has to be said.
        result: What a pass results in (a template); None: nothing.
        at_bound: Whether the loop fails (code `too_many_passes`) or goes on when the last pass was not enough.
        if_fails: See the module; what fails inside with *compensate* fails the saga, not the loop.
    """

    kind: ClassVar[str] = "loop"
    body: tuple[Node, ...] = ()
    until: str = ""
    passes_max: int = 0
    result: Template = None
    at_bound: Literal["fail", "go_on"] = "fail"
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Each(Node):
    """Run a body for each item of a list; its result is the list of what they result in, in the order of the items.

    Attributes:
        items: An expression (without `=`) that is a list.
        body: A graph; it reads `item` and `index`.
        items_max: The bound: a longer list is a failure (code `too_many_items`). It has to be said.
        parallel_max: At once so many; 0: all.
        result: What an item results in (a template); None: nothing. Where a node of the body with *skip* failed, null.
        need: How many items must succeed; the others are cancelled as soon as they have. An item fails where a node of its body
            fails with *skip* (with *compensate*, the saga does).
        if_fails: See the module.
    """

    kind: ClassVar[str] = "each"
    items: str = ""
    body: tuple[Node, ...] = ()
    items_max: int = 0
    parallel_max: int = 0
    result: Template = None
    need: Need = "all"
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Child(Node):
    """Run another saga, whose id is derived from this one's; its result is the child's.

    Attributes:
        definition: Its name.
        version: Of the definition; it has to be said, for an instance is pinned with all of its children.
        input: A template.
        timeout_ms: After this the child is cancelled; 0: its own deadline counts.
        compensate: Whether the child is compensated where this saga is.
        if_fails: See the module.
    """

    kind: ClassVar[str] = "child"
    definition: str
    version: int = 0
    input: Template = "=input"
    timeout_ms: int = 0
    compensate: bool = True
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Node):
    """Wait for a human: its result is `{"approved": true, "by": ..., "reason": ...}`; *no* is a failure (code `rejected`).

    Attributes:
        ask: What they are shown (a template).
        approvers: Who, in words.
        timeout_ms: After this it has failed (code `timed_out`); 0: the saga's deadline counts.
        if_fails: See the module.
    """

    kind: ClassVar[str] = "approval"
    ask: Template = "=input"
    approvers: str = ""
    timeout_ms: int = 0
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(Node):
    """Wait for a signal that is sent to the saga, one that came before included; its result is what the signal carries.

    Attributes:
        signal: Its name.
        timeout_ms: After this it has failed (code `timed_out`); 0: the saga's deadline counts.
        if_fails: See the module.
    """

    kind: ClassVar[str] = "signal"
    signal: str
    timeout_ms: int = 0
    if_fails: Failing = "compensate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer(Node):
    """Wait; its result is null. Exactly one of the two is said.

    Attributes:
        wait_ms: So long.
        until: Or until the time, in ms since 1970, that this expression (without `=`) is.
    """

    kind: ClassVar[str] = "timer"
    wait_ms: int = 0
    until: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock(Node):
    """Take a lock, held until the saga has ended, its compensations included; its result is `{"resource": ..., "token": ...}`.

    Attributes:
        resource: What it protects: text, or an expression behind `=`.
        mode: *write*, or *read* beside other readers.
        timeout_ms: Not free in time is a failure (code `lock_timed_out`); 0: the saga's deadline counts.
        lease_ms: How soon others may have it when the orchestrator is gone.
        if_fails: See the module.
    """

    kind: ClassVar[str] = "lock"
    resource: str
    mode: Literal["write", "read"] = "write"
    timeout_ms: int = TIMEOUT_MS
    lease_ms: int = LEASE_MS
    if_fails: Failing = "compensate"


KINDS: Final[Mapping[str, type[Node]]] = {
    node.kind: node for node in (Step, Choice, Join, Loop, Each, Child, Approval, Signal, Timer, Lock)
}
"""Every node that there is, by its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When sagas of a definition start by themselves: exactly one of `cron`, `at` and `every_ms` is said. See `schedules`.

    Attributes:
        name: Part of the id of what it starts, `<definition>/<name>/<time>`, so that no time starts two.
        cron: Five fields; times are in `zone`.
        at: ISO 8601 with an offset: `2027-01-01T09:00:00+01:00`.
        every_ms: Counted from 1970, so that all agree when it is.
        zone: IANA's name of a time zone, for `cron`.
        input: What each saga is given: JSON without expressions.
    """

    name: str
    cron: str = ""
    at: str = ""
    every_ms: int = 0
    zone: str = "UTC"
    input: Any = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A saga.

    Attributes:
        name: Of letters, digits, `_`, `-` and `.`.
        version: From 1. An instance keeps the one that it began with.
        nodes: The graph.
        inputs: What the input must have: names at its top. Where it is not empty, expressions may only read these of it.
        result: What the saga results in (a template over all nodes); None: nothing.
        deadline_ms: After this it is cancelled and compensated.
        description: For people.
        schedules: When it starts by itself.
    """

    name: str
    version: int = 1
    nodes: tuple[Node, ...] = ()
    inputs: tuple[str, ...] = ()
    result: Template = None
    deadline_ms: int = DEADLINE_MS
    description: str = ""
    schedules: tuple[Schedule, ...] = ()


def walk(nodes: tuple[Node, ...]) -> Iterator[Node]:
    """Every node of a graph, in order, each followed by those of its body."""
    for node in nodes:
        yield node
        if isinstance(node, Loop | Each):
            yield from walk(node.body)
