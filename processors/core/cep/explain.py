"""Why a pattern stands where it stands: what each partial match waits for, and why an event did not move it.

An explanation follows the automaton as the engine does, edge by edge, and takes conditions apart: of an `and` the parts that
are false, of an `or` all of them, of a comparison the values that were seen.

    waits for 'done': type == 'task.done' is false: type is 'task.failed'
    would be ended by 'help': type == 'help.given' is false: type is 'task.failed'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from processors.core.cep.automaton import TRUE
from processors.core.cep.conditions import Node, compile_condition, compile_value
from processors.core.cep.expressions import Agg, Const, Expr, Field, Op, Ts
from processors.core.cep.outputs import EventFields, Stages, stages_of
from processors.core.cep.specialise import steps_of
from processors.core.cep.text import to_text

if TYPE_CHECKING:
    from processors.core.cep.automaton import State
    from processors.core.cep.engine import Matcher

__all__ = ["Explained", "Wait", "explain", "explain_begin", "reasons"]

KeyState = Any
"""The state of a key: opaque, except to its matcher."""

VALUE_CHARS_MAX: Final = 60
"""Characters of a value in a sentence: longer ones are cut."""


@dataclass(frozen=True, slots=True)
class Wait:
    """An event that a partial match waits for, or that would end it.

    Attributes:
        stage: The stage.
        ends: Whether such an event ends the partial match (a negation) in place of moving it on.
        condition: What the event must fulfil, in words.
        holds: Whether the event that was asked about fulfils it; None without one.
        why: Where it does not: the parts that are false, with the values seen.
    """

    stage: str
    ends: bool
    condition: str
    holds: bool | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explained:
    """A partial match, and what an event meant to it.

    Attributes:
        stages: The events it has, by stage.
        state: Its state in the automaton.
        started: Time of its first event, ms.
        deadline: When its time runs out, ms; None is never.
        pending: Whether it is a match then.
        waits: What it waits for, and what would end it.
        outcome: What the event did to it, a sentence; empty without one.
    """

    stages: Stages
    state: str
    started: int
    deadline: int | None
    pending: bool
    waits: tuple[Wait, ...]
    outcome: str = ""


def explain(matcher: Matcher, state: KeyState, event: EventFields | None = None) -> list[Explained]:
    """Explain the partial matches of a key, oldest first.

    Args:
        matcher: Of the pattern.
        state: Of the key, after `event`.
        event: The last event of the key.
    """
    found = []
    for _, at, node, started, _ in matcher.partials(state):
        deadline = _deadline(matcher, at, node, started)
        waits = waits_of(at, event, node)
        pending = at.kind == "pending"
        outcome = "" if event is None else _outcome(waits, event, node, pending=pending)
        found.append(Explained(stages_of(node), at.name, started, deadline, pending, waits, outcome))
    return found


def explain_begin(matcher: Matcher, event: EventFields | None = None) -> tuple[Wait, ...]:
    """What begins a partial match, and why an event did not."""
    return waits_of(matcher.automaton.start, event, None)


def waits_of(state: State, event: EventFields | None, node: Node | None) -> tuple[Wait, ...]:
    """What a partial match in `state` waits for."""
    found: dict[Wait, None] = {}
    for step in steps_of(state, None, None, None):
        if step.kind == "ignore":
            continue
        stage = step.stage
        if step.kind == "stop":
            stage = _stopped_by(state, step.guard) or "a negation"
        holds = None if event is None else bool(compile_condition(step.guard)(event, node))
        why = () if event is None or holds else tuple(dict.fromkeys(reasons(step.guard, event, node)))
        found[Wait(stage, step.kind == "stop", _words(step.guard), holds, why)] = None
    return tuple(found)


def reasons(condition: Expr, event: EventFields, node: Node | None) -> list[str]:
    """Why `condition` does not hold: its smallest parts that are false, each with the values seen.

    Args:
        condition: It is false of the event.
        event: The event.
        node: The last node that the partial match took.
    """
    if isinstance(condition, Op):
        if condition.op == "and":
            return [why for part in condition.args if not _holds(part, event, node) for why in reasons(part, event, node)]
        if condition.op == "or":
            return [why for part in condition.args for why in reasons(part, event, node)]
        if condition.op == "not":
            inner = condition.args[0]
            return [f"{_words(inner)} is true{_seen(inner, event, node)}"]
    return [f"{_words(condition)} is false{_seen(condition, event, node)}"]


def _holds(condition: Expr, event: EventFields, node: Node | None) -> bool:
    return compile_condition(condition)(event, node)


def _words(condition: Expr) -> str:
    return "any event" if condition == TRUE else to_text(condition)


def _seen(condition: Expr, event: EventFields, node: Node | None) -> str:
    """The values of the fields and aggregates of a condition: ": type is 'x', count(a) is 2"."""
    seen: dict[str, None] = {}
    for part in _variables(condition):
        name = to_text(part)
        if isinstance(part, Field) and part.name not in event:
            seen[f"the event has no {name}"] = None
            continue
        value = repr(compile_value(part)(event, node))
        if len(value) > VALUE_CHARS_MAX:
            value = value[:VALUE_CHARS_MAX] + "…"
        seen[f"{name} is {'null' if value == 'None' else value}"] = None
    return f": {', '.join(seen)}" if seen else ""


def _variables(expr: Expr) -> list[Expr]:
    if isinstance(expr, Field | Agg | Ts):
        return [expr]
    if isinstance(expr, Const):
        return []
    return [variable for part in expr.args for variable in _variables(part)]


def _stopped_by(state: State, guard: Expr) -> str:
    """The name of the negation that a stop edge belongs to."""
    stack, seen = [state], {state.index}
    while stack:
        for edge in stack.pop().edges:
            if edge.action != "proceed" or edge.target.index in seen:
                continue
            if edge.target.kind == "stop" and (edge.condition == guard or edge.condition in getattr(guard, "args", ())):
                return edge.target.stage
            seen.add(edge.target.index)
            stack.append(edge.target)
    return ""


def _outcome(waits: tuple[Wait, ...], event: EventFields, node: Node | None, *, pending: bool) -> str:
    if node is not None and node[1].get("id") == event.get("id"):
        return f"it took the event as {node[2]!r}"
    missed = [wait for wait in waits if not wait.ends]
    if pending:
        return "the event is not what must not come: it goes on waiting for its time to end"
    if any(wait.holds for wait in missed):
        return "the event went on in another partial match; this one goes on without it"
    if not missed:
        return "the event changed nothing"
    return "the event did not advance it: " + "; ".join(f"for {wait.stage!r} {' and '.join(wait.why)}" for wait in missed)


def _deadline(matcher: Matcher, at: State, node: Node | None, started: int) -> int | None:
    ends = []
    if matcher.automaton.window_ms:
        ends.append(started + matcher.automaton.window_ms)
    if at.window_ms and node is not None:
        ends.append(int(node[1]["ts"]) + at.window_ms)
    return min(ends, default=None)
