"""Why a pattern stands where it stands: what each partial match waits for, and why an event did not move it.

An explanation follows the automaton as the engine does, edge by edge, and takes conditions apart: of an `and` the parts that
are false, of an `or` all of them, of a comparison the values that were seen.

    waits for 'done': type == 'task.done' is false: type is 'task.failed'
    would be ended by 'help': type == 'help.given' is false: type is 'task.failed'

What is gone leaves no trace in a key's state. `ended` finds it again by running the key's events once more: which negation, which
event in a place where another had to be, or which deadline ended a partial match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from processors.core.cep.automaton import TRUE, conjunction
from processors.core.cep.conditions import Node, compile_condition, compile_value
from processors.core.cep.expressions import Agg, Const, Expr, Field, Op, Ts
from processors.core.cep.outputs import EventFields, Outputs, SkipMissed, Stages, stages_of
from processors.core.cep.specialise import steps_of
from processors.core.cep.text import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processors.core.cep.automaton import State
    from processors.core.cep.engine import Matcher

__all__ = ["Ended", "Explained", "Wait", "ended", "explain", "explain_begin", "reasons"]

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


How = Literal["matched", "timed out", "stopped", "broken", "skipped", "evicted"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A partial match that is no more.

    Attributes:
        stages: The events it had, by stage.
        started: Time of its first event, ms.
        at: When it ended, ms.
        how: "matched"; "timed out" (its window ended); "stopped" (a negation came true); "broken" (the event was not the one that
            had to be next); "skipped" (a match skipped past it); "evicted" (too many of the key).
        why: The same in a sentence, with the values seen.
    """

    stages: Stages
    started: int
    at: int
    how: How
    why: str


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


def ended(matcher: Matcher, events: Sequence[EventFields], *, clock_ms: int | None = None) -> tuple[Ended, ...]:
    """What the last event of a key ended, the time that it brought, and the time that has passed since.

    The events are run again, from nothing, so only what they began is found. A partial match that goes on and has matched as well
    is not among them.

    Args:
        matcher: Of the pattern.
        events: Of one key, in the order in which they were taken; at least one.
        clock_ms: The key's clock by now, if it is known to be later than the last event.

    Returns:
        By what ended them: the clock before the last event, the event, the clock after it; oldest first in each.
    """
    *before, last = events
    key, states, out = last["key"], dict[Any, KeyState](), Outputs()
    found: list[Ended] = []
    try:
        matcher.run(states, before, Outputs())
        if (state := states.get(key)) is not None:
            found += _out_of_time(matcher, state, last["ts"])
        matcher.advance(states, key, last["ts"], Outputs())
        held = [] if (state := states.get(key)) is None else matcher.partials(matcher.copy(state))
        matcher.run(states, [last], out)
    except SkipMissed as missed:
        return (*found, Ended({}, last["ts"], last["ts"], "skipped", str(missed)))
    state = states.get(key)
    kept = set() if state is None else {_root(partial[2]) for partial in matcher.partials(state)}
    for _, at, node, started, _ in held:
        fate = _fate(at, node, last) or (None if _root(node) in kept else _dropped(out))
        if fate is not None:
            found.append(Ended(stages_of(node), started, last["ts"], *fate))
    if state is not None and clock_ms is not None:
        found += _out_of_time(matcher, state, clock_ms)
    return tuple(found)


def _out_of_time(matcher: Matcher, state: KeyState, clock_ms: int) -> list[Ended]:
    """What ends when the clock gets to `clock_ms`."""
    found = []
    for _, at, node, started, _ in matcher.partials(state):
        deadline = _deadline(matcher, at, node, started)
        if deadline is None or deadline > clock_ms:
            continue
        stages = stages_of(node)
        if at.kind == "pending":
            found.append(Ended(stages, started, deadline, "matched", f"what must not come ({at.stage!r}) did not come in time"))
        else:
            awaited = ", ".join(repr(wait.stage) for wait in waits_of(at, None, node) if not wait.ends)
            found.append(Ended(stages, started, deadline, "timed out", f"its window ended before {awaited} came"))
    return found


def _fate(at: State, node: Node | None, event: EventFields) -> tuple[How, str] | None:
    """How and why `event` ends a partial match in `at`; None: it goes on."""
    holding = [step for step in steps_of(at, None, None, None) if _holds(step.guard, event, node)]
    for step in holding:
        if step.kind == "stop":
            negation = _stopped_by(at, step.guard)
            what = f"{negation!r} must not come and came" if negation else "what must not come came"
            guard = _plain(step.guard)
            return "stopped", f"{what}: {_words(guard)} is true{_seen(guard, event, node)}"
    if any(step.target is not None for step in holding):
        return None
    if holding:
        taken = next((step.stage for step in holding if step.stage), "")
        return "matched", f"the event completed it as {taken!r}" if taken else "the event was not the one that must not be next"
    waits = [wait for wait in waits_of(at, event, node) if not wait.ends]
    why = "; ".join(f"for {wait.stage!r} {' and '.join(wait.why)}" for wait in waits)
    return "broken", f"the event had to be the next one: {why}"


def _root(node: Node | None) -> int:
    """Tell partial matches apart by the event that they began with."""
    assert node is not None, "the empty partial match is left out"
    while node[0] is not None:
        node = node[0]
    return id(node[1])


def _dropped(out: Outputs) -> tuple[How, str]:
    """What else takes partial matches away."""
    if out.evicted:
        return "evicted", out.evicted[0].reason
    return "skipped", "a match that the event completed skips past it"


def waits_of(state: State, event: EventFields | None, node: Node | None) -> tuple[Wait, ...]:
    """What a partial match in `state` waits for."""
    found: dict[Wait, None] = {}
    for step in steps_of(state, None, None, None):
        if step.kind == "ignore":
            continue
        stage = step.stage
        if step.kind == "stop":
            stage = _stopped_by(state, step.guard) or "a negation"
        guard = _plain(step.guard)
        holds = None if event is None else _holds(guard, event, node)
        why = () if event is None or holds else tuple(dict.fromkeys(reasons(guard, event, node)))
        found[Wait(stage, step.kind == "stop", _words(guard), holds, why)] = None
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


def _plain(guard: Expr) -> Expr:
    """A guard without the repetitions that come from following several edges."""
    parts = list(_parts(guard))
    return conjunction(*dict.fromkeys(parts)) if len(parts) > 1 else guard


def _parts(guard: Expr) -> Iterator[Expr]:
    """What an `and` joins, however deep."""
    if isinstance(guard, Op) and guard.op == "and" and guard.args:
        for part in guard.args:
            yield from _parts(part)
    else:
        yield guard


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
