"""Source for the generated backend: one function per pattern, made from the steps of `specialise`.

The state of a key is a list: `s[0]` is the time before which nothing can time out, and each further place holds the partial matches
of one state: a list, or None; or, where there can never be two, the one itself. A partial match is its last node,
`(parent, event, stage, started)`: a tuple, shared by all that split from it.

What a class of events does to a state becomes straight code: nothing at all where it leaves them as they are; one assignment where
they all move; a comprehension where they all take the event; a loop only where a condition asks for the events taken before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from processors.core.cep.automaton import FALSE, TRUE, Automaton, State, aggregates_of
from processors.core.cep.conditions import Names, test_source
from processors.core.cep.expressions import Agg, Expr
from processors.core.cep.specialise import OTHER, ClassKey, Facts, Step, constants_of, discriminator, facts_of, residences, steps_of

__all__ = ["Plan", "plan_of", "source_of"]


@dataclass(slots=True)
class Plan:
    """How a pattern is laid out in the generated code.

    Attributes:
        states: The states that hold partial matches; state i lives in place i + 1.
        single: Places that never hold more than one.
        name: The field that tells event classes apart.
        classes: Each class's number; 0 is every other event.
        steps: For each class and state index, what may happen; the start state's too.
        facts: What holds of the partial matches in a state.
    """

    automaton: Automaton
    states: list[State]
    single: set[int]
    name: str | None
    classes: dict[ClassKey, int]
    steps: dict[int, dict[int, list[Step]]]
    facts: dict[int, Facts]
    slots: dict[int, int] = field(default_factory=dict)


def plan_of(automaton: Automaton) -> Plan:
    """Lay a pattern out."""
    states = residences(automaton)
    facts = facts_of(automaton)
    name = discriminator(automaton)
    constants = constants_of(automaton, name) if name is not None else []
    classes: dict[ClassKey, int] = {}
    steps: dict[int, dict[int, list[Step]]] = {}
    known: dict[Any, int] = {}
    for key in [OTHER, *constants]:
        made = {state.index: steps_of(state, name, key, facts.get(state.index)) for state in [automaton.start, *states]}
        identity = tuple((index, tuple(found)) for index, found in made.items())
        identity = tuple(
            (index, tuple((s.kind, s.guard, s.target.index if s.target else -1, s.stage, s.match) for s in found))
            for index, found in identity
        )
        number = known.get(identity)
        if number is None:
            number = known[identity] = len(steps)
            steps[number] = made
        classes[key] = number
    plan = Plan(automaton, states, set(), name, classes, steps, facts)
    plan.slots = {state.index: place for place, state in enumerate(states, 1)}
    plan.single = _singles(plan)
    return plan


def _singles(plan: Plan) -> set[int]:
    """Places that never hold two: every event clears them, and one at most comes in."""
    single = {state.index for state in plan.states}
    changed = True
    while changed:
        changed = False
        for index in sorted(single):
            if any(_inflow(plan, made, index, single) > 1 for made in plan.steps.values()):
                single.discard(index)
                changed = True
    return {plan.slots[index] for index in single}


def _inflow(plan: Plan, made: dict[int, list[Step]], index: int, single: set[int]) -> int:
    """How many partial matches an event may bring into a state; 2 is several."""
    count = 0
    for source, steps in made.items():
        for step in steps:
            if step.target is None or step.target.index != index:
                continue
            if source == index or (source != plan.automaton.start.index and source not in single):
                return 2
            count += 1
    return count


class _Names(Names):
    """Fields in local variables, and aggregates by what is known of the state."""

    def __init__(self, facts: Facts | None, fields: dict[str, str]) -> None:
        super().__init__()
        self._facts = facts
        self._fields = fields
        self._temporary = 0

    def field(self, name: str) -> str:
        if name == "ts":
            return "ts"
        if name == "key":
            return "k"
        return self._fields.setdefault(name, f"f{len(self._fields)}")

    def aggregate(self, agg: Agg) -> str:
        if agg.agg == "last" and self._facts is not None and self._facts.last == {agg.stage}:
            return f"n[1].get({agg.field!r})" if agg.field is not None else "None"
        return super().aggregate(agg)

    def order(self, op: str, left: str, right: str) -> str:
        tests, names = [], []
        for source in (left, right):
            if source.isidentifier():
                tests.append(f"{source}.__class__ in _N")
                names.append(source)
            elif _is_literal(source):
                names.append(source)
            else:
                variable = f"t{self._temporary}"
                self._temporary += 1
                tests.append(f"({variable} := {source}).__class__ in _N")
                names.append(variable)
        helper = "_less" if op == "<" else "_at_most"
        return f"(({names[0]} {op} {names[1]}) if {' and '.join(tests)} else {helper}({left}, {right}))" if tests else f"({left} {op} {right})"


def _is_literal(source: str) -> bool:
    try:
        float(source)
    except ValueError:
        return False
    return True


class _Writer:
    """Lines of source, indented."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)


def source_of(plan: Plan) -> str:
    """The function `run(states, events, out)` of a plan."""
    write = _Writer()
    window = plan.automaton.window_ms
    write("def run(states, events, out):")
    write.depth += 1
    write("get = states.get")
    write("matches = out.matches")
    several = len(plan.steps) > 1
    idle = {number for number, made in plan.steps.items() if _is_idle(plan, made)}
    starting = {number for number, made in plan.steps.items() if made[plan.automaton.start.index]}
    write("for e in events:")
    write.depth += 1
    if several:
        write(f"d = e.get({plan.name!r})")
        write("try:")
        write("    c = CLASSES.get(d, 0)")
        write("except TypeError:")
        write("    c = 0")
        if any(key in {0, 1} for key in plan.classes if key is not OTHER and not isinstance(key, str)):
            write("if c and d.__class__ is bool:")
            write("    c = 0")
    if not window and several and 0 in idle:
        write("if not c:")
        write("    continue")
    write("k = e['key']")
    write("s = get(k)")
    write("ts = e['ts']")
    if window:
        write("if s is not None and s[0] <= ts:")
        write("    s = EXPIRE(states, k, s, ts, out)")
    write("if s is None:")
    write.depth += 1
    _begin(plan, write, starting, several=several)
    write("continue")
    write.depth -= 1
    first = True
    for number, made in plan.steps.items():
        if number in idle:
            continue
        if several:
            write(f"{'if' if first else 'elif'} c == {number}:")
            write.depth += 1
        _class(plan, made, write)
        if several:
            write.depth -= 1
        first = False
    write.depth -= 2
    return "\n".join(write.lines) + "\n"


def _is_idle(plan: Plan, made: dict[int, list[Step]]) -> bool:
    return not made[plan.automaton.start.index] and all(_stays(state, made[state.index]) for state in plan.states)


def _stays(state: State, steps: list[Step]) -> bool:
    """Whether an event leaves what is in `state` as it is."""
    return len(steps) == 1 and steps[0].kind == "ignore" and steps[0].guard == TRUE and steps[0].target is state


def _begin(plan: Plan, write: _Writer, starting: set[int], *, several: bool) -> None:
    """The code for a key without state."""
    first = True
    for number in sorted(starting):
        if several:
            write(f"{'if' if first else 'elif'} c == {number}:")
            write.depth += 1
        body, fields = _Writer(), {}
        body.depth = write.depth
        steps = plan.steps[number][plan.automaton.start.index]
        names = _Names(plan.facts[plan.automaton.start.index], fields)
        stored = any(step.target is not None for step in steps)
        if stored:
            due = f"ts + {plan.automaton.window_ms}" if plan.automaton.window_ms else "0"
            body(f"s = [{due}{', None' * len(plan.states)}]")
        for step in steps:
            _start_step(plan, step, names, body)
        if stored:
            certain = any(step.target is not None and step.guard == TRUE for step in steps)
            body("states[k] = s" if certain else f"if {_any_place(plan)}:")
            if not certain:
                body("    states[k] = s")
        _load(fields, write)
        write.lines += body.lines
        if several:
            write.depth -= 1
        first = False


def _any_place(plan: Plan) -> str:
    return " or ".join(f"s[{place}] is not None" for place in range(1, len(plan.states) + 1))


def _no_place(plan: Plan) -> str:
    return " and ".join(f"s[{place}] is None" for place in range(1, len(plan.states) + 1))


def _load(fields: dict[str, str], write: _Writer) -> None:
    for name, variable in fields.items():
        write(f"{variable} = e.get({name!r})")


def _start_step(plan: Plan, step: Step, names: _Names, write: _Writer) -> None:
    guarded = step.guard != TRUE
    if guarded:
        write("n = None") if aggregates_of(step.guard) else None
        write(f"if {test_source(step.guard, names)}:")
        write.depth += 1
    write(f"m = (None, e, {step.stage!r}, ts)")
    if step.target is not None:
        _put(plan, step.target, "m", write)
    if step.match != FALSE:
        if step.match != TRUE:
            write("n = None")
            write(f"if {test_source(step.match, names)}:")
            write.depth += 1
        write("matches.append(MATCH(k, m, ts, ts))")
        if step.match != TRUE:
            write.depth -= 1
    if guarded:
        write.depth -= 1


def _put(plan: Plan, target: State, variable: str, write: _Writer) -> None:
    """Add one partial match to a state."""
    place = plan.slots[target.index]
    if place in plan.single:
        write(f"s[{place}] = {variable}")
        return
    write(f"p = s[{place}]")
    write("if p is None:")
    write(f"    s[{place}] = [{variable}]")
    write("else:")
    write(f"    p.append({variable})")


def _extend(place: int, variable: str, write: _Writer) -> None:
    """Add a list of partial matches to a place."""
    write(f"p = s[{place}]")
    write("if p is None:")
    write(f"    s[{place}] = {variable}")
    write("else:")
    write(f"    p += {variable}")


def _class(plan: Plan, made: dict[int, list[Step]], write: _Writer) -> None:
    """The code for a key with state and an event of one class."""
    body, fields = _Writer(), {}
    body.depth = write.depth
    active = [state for state in plan.states if not _stays(state, made[state.index])]
    buffered = _buffered(plan, made, active)
    for state in buffered:
        body(f"b{plan.slots[state.index]} = None")
    cleared = False
    grown: set[int] = set()
    # the furthest states first: what an event moves into a state must not be moved again by the same event
    for state in reversed(active):
        cleared = True
        _state(plan, state, made[state.index], {s.index for s in buffered}, fields, body)
        grown |= {plan.slots[step.target.index] for step in made[state.index] if step.target is not None}
    for state in buffered:
        place = plan.slots[state.index]
        body(f"if b{place} is not None:")
        body.depth += 1
        if place in plan.single:
            body(f"s[{place}] = b{place}[0]")
        else:
            _extend(place, f"b{place}", body)
        body.depth -= 1
    names = _Names(plan.facts[plan.automaton.start.index], fields)
    starts = made[plan.automaton.start.index]
    for step in starts:
        _start_step(plan, step, names, body)
        if step.target is not None:
            grown.add(plan.slots[step.target.index])
    _finish(plan, starts, grown, body, cleared=cleared)
    _load(fields, write)
    write.lines += body.lines or ["    " * write.depth + "pass"]


def _finish(plan: Plan, starts: list[Step], grown: set[int], write: _Writer, *, cleared: bool) -> None:
    certain = any(step.guard == TRUE and step.target is not None for step in starts)
    if cleared and not certain:
        write(f"if {_no_place(plan)}:")
        write("    del states[k]")
        write("    continue")
    lists = sorted(place for place in grown if place not in plan.single)
    if lists:
        conditions = " or ".join(f"(s[{place}] is not None and len(s[{place}]) > LIMIT)" for place in lists)
        write(f"if {conditions}:")
        write("    EVICT(states, k, s, out)")


def _buffered(plan: Plan, made: dict[int, list[Step]], active: list[State]) -> list[State]:
    """States that get partial matches before their own are dealt with: those come in afterwards."""
    order = {state.index: place for place, state in enumerate(reversed(active))}
    found: dict[int, State] = {}
    for state in active:
        for step in made[state.index]:
            target = step.target
            if target is not None and target is not state and target.index in order and order[target.index] > order[state.index]:
                found[target.index] = target
    return [state for state in active if state.index in found]


def _state(
    plan: Plan, state: State, steps: list[Step], buffered: set[int], fields: dict[str, str], write: _Writer
) -> None:
    place = plan.slots[state.index]
    names = _Names(plan.facts.get(state.index), fields)
    by_match = any(aggregates_of(step.guard) or aggregates_of(step.match) for step in steps)
    single = place in plan.single
    write(f"{'n' if single else 'l'} = s[{place}]")
    write(f"if {'n' if single else 'l'} is not None:")
    write.depth += 1
    write(f"s[{place}] = None")
    steps = _ordered(steps, state)
    if steps and steps[0].kind == "stop" and steps[0].guard == TRUE:
        steps = []
    if single:
        _one(plan, state, steps, buffered, names, write)
    elif by_match:
        _each(plan, state, steps, buffered, names, write)
    else:
        _all(plan, state, steps, buffered, names, write)
    write.depth -= 1


def _ordered(steps: list[Step], state: State) -> list[Step]:
    """Stops first (they undo the rest), then takes, then what stays."""
    rank = {"stop": 0, "take": 1, "ignore": 2}
    return sorted(steps, key=lambda step: (rank[step.kind], step.target is state))


def _guarded(guard: Expr, names: _Names, write: _Writer) -> bool:
    if guard == TRUE:
        return False
    write(f"if {test_source(guard, names)}:")
    write.depth += 1
    return True


def _stops(steps: list[Step], names: _Names) -> str | None:
    stops = [test_source(step.guard, names) for step in steps if step.kind == "stop"]
    return " or ".join(stops) if stops else None


def _one(plan: Plan, state: State, steps: list[Step], buffered: set[int], names: _Names, write: _Writer) -> None:
    """The code for the only partial match `n` of a state."""
    stop = _stops(steps, names)
    if stop:
        write(f"if not ({stop}):")
        write.depth += 1
        write("pass")
    for step in steps:
        if step.kind != "stop":
            _move(plan, step, buffered, names, write)
    if not any(step.kind != "stop" for step in steps):
        write("pass")
    if stop:
        write.depth -= 1


def _move(plan: Plan, step: Step, buffered: set[int], names: _Names, write: _Writer) -> None:
    """The code for one step of the partial match `n`."""
    guarded = _guarded(step.guard, names, write)
    variable = "n"
    if step.kind == "take":
        write(f"m = (n, e, {step.stage!r}, n[3])")
        variable = "m"
    if step.target is not None:
        place = plan.slots[step.target.index]
        if step.target.index in buffered:
            write(f"b{place} = [{variable}] if b{place} is None else b{place} + [{variable}]")
        else:
            _put(plan, step.target, variable, write)
    if step.match != FALSE:
        inner = _guarded(step.match, names, write)
        write(f"matches.append(MATCH(k, {variable}, ts, n[3]))")
        write.depth -= inner
    write.depth -= guarded


def _each(plan: Plan, state: State, steps: list[Step], buffered: set[int], names: _Names, write: _Writer) -> None:
    """The code for a list, match by match: conditions ask for what each has taken."""
    targets = {}
    for step in steps:
        if step.target is not None:
            targets.setdefault(step.target.index, (f"a{plan.slots[step.target.index]}", step.target))
    for variable, _ in targets.values():
        write(f"{variable} = []")
    write("for n in l:")
    write.depth += 1
    stop = _stops(steps, names)
    if stop:
        write(f"if {stop}:")
        write("    continue")
    for step in steps:
        if step.kind == "stop":
            continue
        guarded = _guarded(step.guard, names, write)
        variable = "n"
        if step.kind == "take":
            write(f"m = (n, e, {step.stage!r}, n[3])")
            variable = "m"
        if step.target is not None:
            write(f"{targets[step.target.index][0]}.append({variable})")
        if step.match != FALSE:
            inner = _guarded(step.match, names, write)
            write(f"matches.append(MATCH(k, {variable}, ts, n[3]))")
            write.depth -= inner
        write.depth -= guarded
    if all(step.kind == "stop" for step in steps):
        write("pass")
    write.depth -= 1
    for variable, target in targets.values():
        write(f"if {variable}:")
        write.depth += 1
        _add(plan, target, variable, buffered, write)
        write.depth -= 1


def _add(plan: Plan, target: State, variable: str, buffered: set[int], write: _Writer) -> None:
    place = plan.slots[target.index]
    if target.index in buffered:
        write(f"b{place} = {variable} if b{place} is None else b{place} + {variable}")
    else:
        _extend(place, variable, write)


def _all(plan: Plan, state: State, steps: list[Step], buffered: set[int], names: _Names, write: _Writer) -> None:
    """The code for a list whose partial matches all go the same way."""
    stop = _stops(steps, names)
    if stop:
        write(f"if not ({stop}):")
        write.depth += 1
    used = False
    for step in steps:
        if step.kind == "stop":
            continue
        guarded = _guarded(step.guard, names, write)
        if step.kind == "take":
            write(f"t = [(n, e, {step.stage!r}, n[3]) for n in l]")
            if step.match != FALSE:
                inner = _guarded(step.match, names, write)
                write("matches += [MATCH(k, m, ts, m[3]) for m in t]")
                write.depth -= inner
            if step.target is not None:
                _add(plan, step.target, "t", buffered, write)
        elif step.target is None:
            write("matches += [MATCH(k, n, ts, n[3]) for n in l]")
        else:
            _add(plan, step.target, "l[:]" if used else "l", buffered, write)
            used = True
        write.depth -= guarded
    if not any(step.kind != "stop" for step in steps):
        write("pass")
    if stop:
        write.depth -= 1


