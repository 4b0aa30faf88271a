"""What is known of one saga: its frames, and in each the runs of its nodes.

A *frame* is one running of a graph: that of the definition (prefix empty), or one pass of a body (prefix `legs[3]/`). A *run* is
what became of one node in one frame; its *path* is prefix and name, which no other run of the saga has.

    ["i", saga]           Instance.row      one a saga
    ["f", saga, prefix]   Frame.row         one a pass of a body that runs
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from sagas.core.engine.plan import GraphPlan, Plan

__all__ = [
    "BACKOFF",
    "BODY",
    "CALLED",
    "CANCELLED",
    "CHILD",
    "COMPENSATING",
    "DONE",
    "ENDED",
    "FAILED",
    "HELD",
    "INCIDENT",
    "LOCKING",
    "PASSED",
    "RUNNING",
    "WAITING",
    "Frame",
    "Instance",
    "Run",
    "Undo",
    "prefix_of",
]

CALLED: Final = "called"
BACKOFF: Final = "backoff"
WAITING: Final = "waiting"
BODY: Final = "body"
CHILD: Final = "child"
LOCKING: Final = "locking"
INCIDENT: Final = "incident"
"""Behind the pivot a failed node waits for an operator."""
HELD: Final = "held"
"""Would have begun if the saga were not paused."""
DONE: Final = "done"
PASSED: Final = "passed"
FAILED: Final = "failed"
"""Failed, and the edges out of it are passed over."""
CANCELLED: Final = "cancelled"
_FINISHED: Final = frozenset({DONE, PASSED, FAILED, CANCELLED})

RUNNING: Final = "running"
COMPENSATING: Final = "compensating"
ENDED: Final = "ended"


@dataclass(slots=True)
class Run:
    """What became of a node.

    Attributes:
        status: See above.
        began_ms: When it began.
        due_ms: When something is due: a timeout, the next attempt, the end of a wait; 0: nothing is.
        again_ms: When the call is sent again, since it may be lost; 0: it is not.
        attempt: Of a call.
        sent: How often this attempt was sent.
        input: What an action was given; of an approval what is asked; of an each its items.
        result: What it results in.
        extra: Of a loop the pass, of an each [next item, results, how many are done, how many failed], of a join that it waits,
            of an incident [code, reason].
    """

    status: str
    began_ms: int = 0
    due_ms: int = 0
    again_ms: int = 0
    attempt: int = 0
    sent: int = 0
    input: Any = None
    result: Any = None
    extra: Any = None

    @property
    def finished(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _FINISHED

    def row(self) -> list[Any]:
        """Return it as JSON; what is finished needs less."""
        if self.finished:
            return [self.status, self.began_ms, self.attempt, self.result]
        return [
            self.status, self.began_ms, self.attempt, self.result, self.due_ms, self.again_ms, self.sent, self.input, self.extra,
        ]  # fmt: skip

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        """Return the run of a row."""
        status, began_ms, attempt, result, *rest = row
        due_ms, again_ms, sent, given, extra = rest or (0, 0, 0, None, None)
        return cls(status, began_ms, due_ms, again_ms, attempt, sent, given, result, _copied(extra))


def _copied(extra: Any) -> Any:  # noqa: ANN401 - JSON
    return [_copied(one) if isinstance(one, list) else one for one in extra] if isinstance(extra, list) else extra


@dataclass(slots=True)
class Frame:
    """One running of a graph.

    Attributes:
        prefix: Before the names of its nodes.
        graph: What runs.
        scope: What expressions read.
        runs: By node name; what is missing has not begun.
        left: Nodes that have not finished.
        own: What `scope` has beside the frame outside: `item` and `index`.
    """

    prefix: str
    graph: GraphPlan
    scope: dict[str, Any]
    runs: dict[str, Run]
    left: int
    own: dict[str, Any] = field(default_factory=dict)

    def row(self) -> list[Any]:
        """Return it as JSON."""
        return [self.own, {name: run.row() for name, run in self.runs.items()}]


@dataclass(slots=True)
class Undo:
    """What undoes a step: registered before its action is called.

    Attributes:
        path: The step's, or a child's.
        status: Empty: registered; called, backoff, incident, child; done or skipped.
        due_ms: When its timeout is over, or its next attempt is due; 0: nothing is due.
        again_ms: When its call is sent again.
        attempt: Of its call.
        sent: How often this attempt was sent.
        tried: Attempts before an operator had it tried again: those count no more.
        code: Why it failed last.
        reason: The same for people.
        given: One item: what it is given, where the frame of its step is gone.
    """

    path: str
    status: str = ""
    due_ms: int = 0
    again_ms: int = 0
    attempt: int = 0
    sent: int = 0
    tried: int = 0
    code: str = ""
    reason: str = ""
    given: list[Any] | None = None

    def row(self) -> list[Any]:
        """Return it as JSON."""
        return [
            self.path, self.status, self.due_ms, self.again_ms, self.attempt, self.sent, self.tried, self.code, self.reason,
            self.given,
        ]  # fmt: skip


@dataclass(slots=True)
class Instance:
    """One saga.

    Attributes:
        saga: Its id.
        plan: Its definition: this one for ever.
        input: What it was given.
        began_ms: When it began.
        deadline_ms: When it is given up.
        parent: The saga whose child it is.
        parent_path: The node of the parent.
        forked_from: Whose fork it is.
        by: Who started it.
        status: Running, compensating or ended.
        outcome: Completed, compensated or cancelled; empty before the end.
        code: Why it is compensated.
        reason: The same for people.
        result: What it results in.
        ended_ms: When it ended.
        pivoted: Whether a pivot has succeeded.
        paused: Whether it is paused.
        number: Which of the ended it is.
        routes: Who is told its end.
        undos: In the order of their registration.
        signals: Those that nobody has waited for yet, by name.
        seen: Ids of signals that came.
        locks: By path [resource, token, when it is renewed, lease, mode, number of the request]; token 0: not held.
        chars: Of all data in it, about.
        happened: Moments so far.
        ignored: Answers that did not count.
        kept: Steps whose results come from the saga it is a fork of.
        frames: By prefix.
        active: Runs that wait for something, by path.
    """

    saga: str
    plan: Plan
    input: Any
    began_ms: int
    deadline_ms: int
    parent: str = ""
    parent_path: str = ""
    forked_from: str = ""
    by: str = ""
    status: str = RUNNING
    outcome: str = ""
    code: str = ""
    reason: str = ""
    result: Any = None
    ended_ms: int = 0
    pivoted: bool = False
    paused: bool = False
    number: int = 0
    routes: list[str] = field(default_factory=list)
    undos: list[Undo] = field(default_factory=list)
    signals: dict[str, list[Any]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    locks: dict[str, list[Any]] = field(default_factory=dict)
    chars: int = 0
    happened: int = 0
    ignored: int = 0
    kept: list[str] = field(default_factory=list)
    frames: dict[str, Frame] = field(default_factory=dict)
    active: dict[str, Run] = field(default_factory=dict)
    moments: list[dict[str, Any]] = field(default_factory=list)
    """Of this step; not kept."""
    dirty: set[str] = field(default_factory=set)
    """Prefixes of frames that have changed, or are gone; not kept."""

    @property
    def domain(self) -> str:
        """The part of its id before the first slash: the key of its records."""
        return self.saga.partition("/")[0]

    def note(self, what: str, path: str = "", attempt: int = 0, note: str = "") -> None:
        """Note that something happened."""
        self.happened += 1
        self.moments.append({"what": what, "node": path, "attempt": attempt, "note": note})

    def row(self) -> list[Any]:
        """Return it as JSON, its frames of bodies excepted; nothing in it is changed later."""
        top = self.frames.get("")
        definition = self.plan.definition
        return [
            [definition.name, definition.version, self.plan.digest],
            self.input,
            [self.began_ms, self.deadline_ms, self.ended_ms],
            [self.parent, self.parent_path, self.forked_from, self.by],
            [self.status, self.outcome, self.code, self.reason, self.result],
            [self.pivoted, self.paused, self.number, self.chars, self.happened, self.ignored],
            self.routes[:],
            [undo.row() for undo in self.undos],
            {name: values[:] for name, values in self.signals.items()},
            self.seen[:],
            {path: lock[:] for path, lock in self.locks.items()},
            self.kept,
            None if top is None else top.row(),
        ]

    @classmethod
    def of(cls, saga: str, row: list[Any], plan: Plan) -> Self:
        """Return the saga of a row; frames are added by `add_frame`, outer ones first."""
        _, given, times, whence, how, facts, routes, undos, signals, seen, locks, kept, _ = row
        began_ms, deadline_ms, ended_ms = times
        parent, parent_path, forked_from, by = whence
        status, outcome, code, reason, result = how
        pivoted, paused, number, chars, happened, ignored = facts
        return cls(
            saga, plan, given, began_ms, deadline_ms, parent, parent_path, forked_from, by, status, outcome, code, reason, result,
            ended_ms, pivoted, paused, number, routes[:], [Undo(*one) for one in undos],
            {name: values[:] for name, values in signals.items()}, seen[:], {path: lock[:] for path, lock in locks.items()},
            chars, happened, ignored, kept,
        )  # fmt: skip

    # ---- frames

    def new_frame(self, prefix: str, graph: GraphPlan, own: dict[str, Any]) -> Frame:
        """Begin a frame: what it can read is what the frame outside can, and its own."""
        scope = {"input": self.input, "saga": {"id": self.saga}} if not prefix else dict(self.outside(prefix).scope)
        scope.update(own)
        frame = self.frames[prefix] = Frame(prefix, graph, scope, {}, len(graph.nodes), own)
        self.dirty.add(prefix)
        return frame

    def load_frame(self, prefix: str, row: list[Any]) -> None:
        """Take a frame from its row; the frames outside are there."""
        own, runs = row
        graph = self.plan.graph if not prefix else self.body_of(prefix)
        frame = self.new_frame(prefix, graph, own)
        self.dirty.discard(prefix)
        for name, one in runs.items():
            run = frame.runs[name] = Run.of(one)
            if run.finished:
                frame.left -= 1
                if run.status == DONE:
                    frame.scope[name] = run.result
            else:
                self.active[prefix + name] = run

    def outside(self, prefix: str) -> Frame:
        """Return the frame that has the node whose body this prefix is."""
        return self.frames[prefix_of(prefix[:-1])]

    def body_of(self, prefix: str) -> GraphPlan:
        """Return the graph that runs under a prefix."""
        name = prefix[:-1].rpartition("/")[2].partition("[")[0]
        body = self.outside(prefix).graph.nodes[name].body
        assert body is not None, f"{name} has a body"
        return body

    def find(self, path: str) -> tuple[Frame, Run] | None:
        """Return a run and its frame."""
        prefix = prefix_of(path)
        frame = self.frames.get(prefix)
        run = None if frame is None else frame.runs.get(path[len(prefix) :])
        return None if frame is None or run is None else (frame, run)

    def due_ms(self) -> int:
        """Return when something is due next; a saga that runs always has its deadline."""
        due_ms = self.deadline_ms if self.status == RUNNING and not self.pivoted else 0
        for run in self.active.values():
            for ms in (run.due_ms, run.again_ms):
                if ms and (not due_ms or ms < due_ms):
                    due_ms = ms
        if self.status == COMPENSATING:
            for undo in self.undos:
                for ms in (undo.due_ms, undo.again_ms):
                    if ms and (not due_ms or ms < due_ms):
                        due_ms = ms
        for lock in self.locks.values():
            if lock[2] and (not due_ms or lock[2] < due_ms):
                due_ms = lock[2]
        return due_ms


def prefix_of(path: str) -> str:
    """Return the prefix of a path: of its frame."""
    return path[: path.rfind("/") + 1]
