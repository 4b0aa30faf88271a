"""The automaton of a pattern: states, edges, windows. `compiler` makes it, the backends run it, `draw` shows it.

A *partial match* sits in one state. On an event, starting from that state, every edge whose condition holds is followed:

    take      the event joins the partial match, which goes on in the edge's target
    ignore    the event does not join; the partial match goes on in the target (which may be the same state)
    proceed   no step of its own: the target's edges count as this state's (an epsilon edge)

No edge held: the partial match dies. Several held: it splits. It is a match when it gets to the *final* state, and it dies
with all
that it split into when it gets to a *stop* state (a negation came true). A *pending* state waits for its window to end: what sits
there when the time is up is a match (`notFollowedBy` at the end). There is always one empty partial match in the *start* state.

Source: "Efficient Pattern Matching over Event Streams", Agrawal, Diao, Gyllstrom, Immerman, SIGMOD 2008; Apache Flink CEP 2.2 for
every choice that the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from processors.core.cep.expressions import Agg, Const, Expr, Op
from schemas.errors import AntiphonError

__all__ = [
    "FALSE",
    "TRUE",
    "Action",
    "Automaton",
    "Edge",
    "Kind",
    "PatternError",
    "State",
    "aggregates_of",
    "conjunction",
    "negation",
]

Action = Literal["take", "ignore", "proceed"]
Kind = Literal["start", "normal", "pending", "stop", "final"]

TRUE: Final = Const(True)
FALSE: Final = Const(False)


class PatternError(AntiphonError):
    """A pattern that cannot mean anything: change it as the message says.

    Attributes:
        where: The stage, or the part of the pattern, in words.
        reason: The message without the place.
    """

    retryable = False
    fault = "caller"

    def __init__(self, message: str, where: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where
        self.reason = message


@dataclass(slots=True)
class Edge:
    """A step from one state to another, while `condition` holds of the event and of the events taken so far."""

    action: Action
    target: State
    condition: Expr
    stage: str = ""
    """The stage that a taken event belongs to; empty on other edges."""


@dataclass(slots=True, eq=False)
class State:
    """A state; two states are the same only if they are the same object, and names are unique in an automaton."""

    name: str
    kind: Kind
    stage: str
    """The stage whose event is awaited here."""
    window_ms: int | None = None
    """How long after its last event a partial match may wait here; None is no such limit."""
    edges: list[Edge] = field(default_factory=list)
    index: int = -1

    def add(self, action: Action, target: State, condition: Expr, stage: str = "") -> None:
        """Add an edge; a take belongs to `stage`, by default this state's."""
        self.edges.append(Edge(action, target, condition, (stage or self.stage) if action == "take" else ""))


@dataclass(slots=True, frozen=True)
class Automaton:
    """What a pattern compiles to.

    Attributes:
        states: In the order of their indexes.
        start: The state of the empty partial match.
        window_ms: From the first event to the last; 0 is no such window.
        skip: The strategy after a match: "no_skip", "to_next", "past_last", "to_first" or "to_last".
        skip_stage: The stage that `to_first` and `to_last` skip to.
        throw_on_miss: Whether a match without an event of `skip_stage` is an error.
        stages: The names of the stages that take events, in order of the pattern.
        warnings: What its author should know: state without a bound, and the like.
        empty: Whether the pattern matches nothing at all, too: such matches are never found.
    """

    states: tuple[State, ...]
    start: State
    window_ms: int
    skip: str
    skip_stage: str | None
    throw_on_miss: bool
    stages: tuple[str, ...]
    warnings: tuple[str, ...]
    empty: bool

    @property
    def skips(self) -> bool:
        """Whether a match removes others."""
        return self.skip != "no_skip"

    @property
    def has_pending(self) -> bool:
        """Whether time alone can complete a match."""
        return any(state.kind == "pending" for state in self.states)


def negation(condition: Expr) -> Expr:
    """Not `condition`."""
    if condition == TRUE:
        return FALSE
    if condition == FALSE:
        return TRUE
    if isinstance(condition, Op) and condition.op == "not":
        return condition.args[0]
    return Op("not", (condition,))


def conjunction(*conditions: Expr) -> Expr:
    """All of `conditions`."""
    left = tuple(condition for condition in conditions if condition != TRUE)
    if FALSE in left:
        return FALSE
    if not left:
        return TRUE
    return left[0] if len(left) == 1 else Op("and", left)


def aggregates_of(expr: Expr) -> list[Agg]:
    """The aggregates that `expr` asks for, in order."""
    if isinstance(expr, Agg):
        return [expr]
    if isinstance(expr, Op):
        return [found for argument in expr.args for found in aggregates_of(argument)]
    return []
