"""The generated backend where the order of partial matches counts: skip strategies, and windows between two events.

State, clock, skip strategy and limits are the general backend's, to the letter. What is generated is what an event does: for
each class of events and each state one function that makes the steps which are possible there, in the order in which the
automaton would; and
for most pairs of the two none at all, because nothing happens. As long as nothing happens to a partial match, it stays where
it is in the heap, so an event that concerns nobody costs a look at each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, MutableMapping
from typing import Any

from processors.core.cep import heap
from processors.core.cep.automaton import FALSE, TRUE, Automaton, PatternError, State
from processors.core.cep.conditions import SCOPE, test_source
from processors.core.cep.general import GeneralBackend, KeyState, Partial, has_cycle
from processors.core.cep.outputs import EventFields, Outputs
from processors.core.cep.plan import InlineNames, Plan, Writer, plan_of
from processors.core.cep.specialise import OTHER, Step

__all__ = ["OrderedBackend", "why_not_ordered"]

Handler = Callable[[Partial, EventFields, int, Hashable, int, list[Partial], list[Partial], KeyState], None]

STEPS_MAX = 20_000
"""Steps over all classes and states: the size of the source; beyond it the general backend is as good."""


def why_not_ordered(automaton: Automaton) -> str | None:
    """Why a pattern needs the general backend; None if it does not."""
    if has_cycle(automaton):
        return "a loop over what may be empty"
    if len(automaton.states) > 150:
        return "more than 150 states"
    return None


class OrderedBackend(GeneralBackend):
    """Runs one pattern by functions made for it.

    Raises:
        PatternError: The pattern needs the general backend; says why.
    """

    name = "generated"

    def __init__(self, automaton: Automaton, partial_matches_max: int) -> None:
        reason = why_not_ordered(automaton)
        if reason is not None:
            raise PatternError(f"{reason} needs the general backend", "pattern")
        super().__init__(automaton, partial_matches_max)
        self._plan = plan_of(automaton)
        self.source, scope = _source(self._plan)
        exec(compile(self.source, f"<pattern {'-'.join(automaton.stages)}>", "exec"), scope)  # noqa: S102 our own source, literals through repr
        start = automaton.start.index
        self._handlers: list[list[Handler | None]] = []
        for number, made in self._plan.steps.items():
            handlers: list[Handler | None] = [None] * len(automaton.states)
            for index in made:
                handlers[index] = scope.get(f"h{number}_{index}")
            self._handlers.append(handlers)
        self._starting = [handlers[start] for handlers in self._handlers]
        self._idle = [all(handler is None for handler in handlers) for handlers in self._handlers]
        self._classes = {key: number for key, number in self._plan.classes.items() if key is not OTHER and number}
        self._booleans = any(not isinstance(key, str) and key in {0, 1} for key in self._classes)

    def run(self, states: MutableMapping[Hashable, KeyState], events: Iterable[EventFields], out: Outputs) -> None:
        """Take in events; see `GeneralBackend.run`."""
        name, number_of, booleans = self._plan.name, self._classes.get, self._booleans
        starting, idle, get = self._starting, self._idle, states.get
        empty = 1 if self.automaton.skips else 0
        number = 0
        for event in events:
            if name is not None:
                value = event.get(name)
                try:
                    number = number_of(value, 0)
                except TypeError:  # a list or a mapping: equal to no constant
                    number = 0
                if booleans and value.__class__ is bool:
                    number = 0
            key = event["key"]
            state = get(key)
            ts = event["ts"]
            if state is None:
                if starting[number] is None:
                    continue
                state = self._new()
            elif state.due <= ts:
                self._advance(state, key, ts, out)
            if not idle[number]:
                self._step(state, key, ts, event, number, out)
            if len(state.partial) <= empty and self._is_empty(state):
                states.pop(key, None)
            else:
                states[key] = state

    def _step(self, state: KeyState, key: Hashable, ts: int, event: EventFields, number: int, out: Outputs) -> None:
        handlers = self._handlers[number]
        skips = self.automaton.skips
        partial = state.partial
        place = 0
        for held in partial:
            if handlers[held[1].index] is not None:
                break
            place += 1
        else:
            if skips or self._starting[number] is None:
                return
        seq = state.seq
        state.seq = seq + 1
        found: list[Partial] = []
        kept = partial[:place]
        for held in partial[place:]:
            handler = handlers[held[1].index]
            if handler is not None:
                handler(held, event, ts, key, seq, kept, found, state)
            elif skips:
                heap.push(kept, held)
            else:
                kept.append(held)
        if not skips:
            begin = self._starting[number]
            if begin is not None:
                begin(self._start, event, ts, key, seq, kept, found, state)
        state.partial = kept
        if found or state.completed:
            self._emit(state, found, key, ts, out)
        if len(state.partial) - skips > self.partial_matches_max:
            self._evict(state, key, ts, out)


def _source(plan: Plan) -> tuple[str, dict[str, Any]]:
    """The functions of a plan, `h<class>_<state>`, and the names they use."""
    automaton = plan.automaton
    final = next(state for state in automaton.states if state.kind == "final")
    scope: dict[str, Any] = {**SCOPE, "PUSH": heap.push, "UP": heap.up, "FINAL": final}
    scope.update({f"S{state.index}": state for state in plan.states})
    write = Writer()
    if sum(len(steps) for made in plan.steps.values() for steps in made.values()) > STEPS_MAX:
        raise PatternError(f"more than {STEPS_MAX} steps need the general backend", "pattern")
    for number, made in plan.steps.items():
        for index, steps in made.items():
            state = automaton.states[index]
            if state.kind == "start":
                if steps:
                    _handler(plan, number, state, steps, write)
            elif not _stays(state, steps):
                _handler(plan, number, state, steps, write)
    return "\n".join(write.lines) + "\n", scope


def _stays(state: State, steps: list[Step]) -> bool:
    return len(steps) == 1 and steps[0].kind == "ignore" and steps[0].guard == TRUE and steps[0].target is state


def _handler(plan: Plan, number: int, state: State, steps: list[Step], write: Writer) -> None:
    skips = plan.automaton.skips
    start = state.kind == "start"
    names = InlineNames(plan.facts.get(state.index), {})
    write(f"def h{number}_{state.index}(p, e, ts, k, seq, kept, found, s):")
    write.depth += 1
    write(f"n = {'None' if start else 'p[2]'}")
    stops = [step.guard for step in steps if step.kind == "stop"]
    stopped = " or ".join(test_source(guard, names) for guard in stops)
    always = TRUE in stops
    if stops and not always:
        write(f"x = {stopped}")
    rank, started = ("seq", "ts") if start else ("p[0]", "p[3]")
    for step in steps:
        if step.kind == "stop" or (always and step.match == FALSE):
            continue
        guarded = step.guard != TRUE
        if guarded:
            write(f"if {test_source(step.guard, names)}:")
            write.depth += 1
        node, previous = "n", "p[4]"
        if step.kind == "take":
            write(f"m = (n, e, {step.stage!r}, seq)")
            node, previous = "m", "ts"
        if step.target is not None and not always:
            if stops:
                write("if not x:")
                write.depth += 1
            _place(plan, step.target, f"({rank}, S{step.target.index}, {node}, {started}, {previous})", start, previous, write)
            write.depth -= bool(stops)
        if step.match != FALSE:
            inner = step.match != TRUE
            if inner:
                write(f"if {test_source(step.match, names)}:")
                write.depth += 1
            entry = f"({rank}, FINAL, {node}, {started}, {previous})"
            write(f"PUSH(found, {entry})" if skips else f"found.append({entry})")
            write.depth -= inner
        write.depth -= guarded
    if start and skips and not always:
        # the empty partial match stays, unless a negation ended it
        write("PUSH(kept, p)" if not stops else "if not x: PUSH(kept, p)")
    write("return")
    write.depth -= 1


def _place(plan: Plan, target: State, entry: str, start: bool, previous: str, write: Writer) -> None:
    """Keep a partial match; the key's next deadline with it."""
    if plan.automaton.skips:
        write("i = len(kept)")
        write(f"q = {entry}")
        write("kept.append(q)")
        write("if i and kept[(i - 1) >> 1][0] > q[0]:")
        write("    UP(kept, i)")
    else:
        write(f"kept.append({entry})")
    if start and plan.automaton.window_ms:
        write(f"if s.due > ts + {plan.automaton.window_ms}:")
        write(f"    s.due = ts + {plan.automaton.window_ms}")
    if target.window_ms:
        write(f"if s.due > {previous} + {target.window_ms}:")
        write(f"    s.due = {previous} + {target.window_ms}")
