"""Source for the generated backend: one function per pattern, made from the steps of `specialise`.

The state of a key is a list: `s[0]` is the time before which nothing can time out, and each further place holds the partial
matches of one state: a list, or None; or, where there can never be two, the one itself. A partial match is its last node,
`(parent, event, stage, started)`: a tuple, shared by all that split from it.

What a class of events does to a state becomes straight code: nothing at all where it leaves them as they are; one assignment
where
they all move; a comprehension where they all take the event; a loop only where a condition asks for the events taken before.
"""

from __future__ import annotations

from dataclasses import replace

from processors.core.cep.automaton import FALSE, TRUE, State, aggregates_of
from processors.core.cep.conditions import test_source
from processors.core.cep.expressions import Expr
from processors.core.cep.plan import LocalNames, Plan, Writer
from processors.core.cep.specialise import OTHER, Step

__all__ = ["source_of"]


def source_of(plan: Plan) -> str:
    """The function `run(states, events, out)` of a plan."""
    write = Writer()
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


def _begin(plan: Plan, write: Writer, starting: set[int], *, several: bool) -> None:
    """The code for a key without state."""
    first = True
    for number in sorted(starting):
        if several:
            write(f"{'if' if first else 'elif'} c == {number}:")
            write.depth += 1
        body = Writer()
        fields: dict[str, str] = {}
        body.depth = write.depth
        steps = plan.steps[number][plan.automaton.start.index]
        names = LocalNames(plan.facts[plan.automaton.start.index], fields)
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


def _load(fields: dict[str, str], write: Writer) -> None:
    for name, variable in fields.items():
        write(f"{variable} = e.get({name!r})")


def _start_step(plan: Plan, step: Step, names: LocalNames, write: Writer) -> None:
    if step.kind != "take":  # nothing was taken that a negation could undo
        return
    guarded = step.guard != TRUE
    if guarded:
        if aggregates_of(step.guard):
            write("n = None")
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


def _put(plan: Plan, target: State, variable: str, write: Writer) -> None:
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


def _extend(place: int, variable: str, write: Writer) -> None:
    """Add a list of partial matches to a place."""
    write(f"p = s[{place}]")
    write("if p is None:")
    write(f"    s[{place}] = {variable}")
    write("else:")
    write(f"    p += {variable}")


def _class(plan: Plan, made: dict[int, list[Step]], write: Writer) -> None:
    """The code for a key with state and an event of one class."""
    body = Writer()
    fields: dict[str, str] = {}
    body.depth = write.depth
    active = [state for state in plan.states if not _stays(state, made[state.index])]
    buffered = _buffered(made, active)
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
    names = LocalNames(plan.facts[plan.automaton.start.index], fields)
    starts = made[plan.automaton.start.index]
    for step in starts:
        _start_step(plan, step, names, body)
        if step.target is not None:
            grown.add(plan.slots[step.target.index])
    window = plan.automaton.window_ms
    if window and any(step.target is not None for step in starts):
        body(f"if ts + {window} < s[0]:  # a clock that jumped back")
        body(f"    s[0] = ts + {window}")
    _finish(plan, starts, grown, body, cleared=cleared)
    _load(fields, write)
    write.lines += body.lines or ["    " * write.depth + "pass"]


def _finish(plan: Plan, starts: list[Step], grown: set[int], write: Writer, *, cleared: bool) -> None:
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


def _buffered(made: dict[int, list[Step]], active: list[State]) -> list[State]:
    """States that get partial matches before their own are dealt with: those come in afterwards."""
    order = {state.index: place for place, state in enumerate(reversed(active))}
    found: dict[int, State] = {}
    for state in active:
        for step in made[state.index]:
            target = step.target
            if target is not None and target is not state and target.index in order and order[target.index] > order[state.index]:
                found[target.index] = target
    return [state for state in active if state.index in found]


def _state(plan: Plan, state: State, steps: list[Step], buffered: set[int], fields: dict[str, str], write: Writer) -> None:
    place = plan.slots[state.index]
    names = LocalNames(plan.facts.get(state.index), fields)
    by_match = any(aggregates_of(step.guard) or aggregates_of(step.match) for step in steps)
    single = place in plan.single
    write(f"{'n' if single else 'l'} = s[{place}]")
    write(f"if {'n' if single else 'l'} is not None:")
    write.depth += 1
    write(f"s[{place}] = None")
    steps = _ordered(steps, state)
    if any(step.kind == "stop" and step.guard == TRUE for step in steps):
        # what is a match at once is one, even if the same event stops the rest
        steps = [replace(step, target=None) for step in steps if step.kind != "stop" and step.match != FALSE]
    if single:
        _one(plan, steps, buffered, names, write)
    elif by_match:
        _each(plan, steps, buffered, names, write)
    else:
        _all(plan, steps, buffered, names, write)
    write.depth -= 1


def _ordered(steps: list[Step], state: State) -> list[Step]:
    """Stops first (they undo the rest), then takes, then what stays."""
    rank = {"stop": 0, "take": 1, "ignore": 2}
    return sorted(steps, key=lambda step: (rank[step.kind], step.target is state))


def _guarded(guard: Expr, names: LocalNames, write: Writer) -> bool:
    if guard == TRUE:
        return False
    write(f"if {test_source(guard, names)}:")
    write.depth += 1
    return True


def _stops(steps: list[Step], names: LocalNames) -> str | None:
    stops = [test_source(step.guard, names) for step in steps if step.kind == "stop"]
    return " or ".join(stops) if stops else None


def _one(plan: Plan, steps: list[Step], buffered: set[int], names: LocalNames, write: Writer) -> None:
    """The code for the only partial match `n` of a state."""
    stop = _stops(steps, names)
    if stop:
        write(f"x = {stop}")
    for step in steps:
        if step.kind == "stop":
            continue
        guarded = _guarded(step.guard, names, write)
        variable = _taken(step, write)
        if step.target is not None:
            place = plan.slots[step.target.index]
            held = _unless_stopped(stop, write)
            if step.target.index in buffered:
                write(f"b{place} = [{variable}] if b{place} is None else b{place} + [{variable}]")
            else:
                _put(plan, step.target, variable, write)
            write.depth -= held
        _matched(step, variable, names, write)
        write.depth -= guarded


def _taken(step: Step, write: Writer) -> str:
    """The variable of the partial match after a step of `n`."""
    if step.kind != "take":
        return "n"
    write(f"m = (n, e, {step.stage!r}, n[3])")
    return "m"


def _matched(step: Step, variable: str, names: LocalNames, write: Writer) -> None:
    if step.match != FALSE:
        inner = _guarded(step.match, names, write)
        write(f"matches.append(MATCH(k, {variable}, ts, n[3]))")
        write.depth -= inner


def _unless_stopped(stop: str | None, write: Writer) -> bool:
    if stop is None:
        return False
    write("if not x:")
    write.depth += 1
    return True


def _each(plan: Plan, steps: list[Step], buffered: set[int], names: LocalNames, write: Writer) -> None:
    """The code for a list, match by match: conditions ask for what each has taken."""
    targets: dict[int, tuple[str, State]] = {}
    for step in steps:
        if step.target is not None:
            targets.setdefault(step.target.index, (f"a{plan.slots[step.target.index]}", step.target))
    for variable, _ in targets.values():
        write(f"{variable} = []")
    write("for n in l:")
    write.depth += 1
    stop = _stops(steps, names)
    if stop:
        write(f"x = {stop}")
    for step in steps:
        if step.kind == "stop":
            continue
        guarded = _guarded(step.guard, names, write)
        variable = _taken(step, write)
        if step.target is not None:
            held = _unless_stopped(stop, write)
            write(f"{targets[step.target.index][0]}.append({variable})")
            write.depth -= held
        _matched(step, variable, names, write)
        write.depth -= guarded
    if not any(step.kind != "stop" for step in steps):
        write("pass")
    write.depth -= 1
    for variable, target in targets.values():
        write(f"if {variable}:")
        write.depth += 1
        _add(plan, target, variable, buffered, write)
        write.depth -= 1


def _add(plan: Plan, target: State, variable: str, buffered: set[int], write: Writer) -> None:
    place = plan.slots[target.index]
    if target.index in buffered:
        write(f"b{place} = {variable} if b{place} is None else b{place} + {variable}")
    else:
        _extend(place, variable, write)


def _all(plan: Plan, steps: list[Step], buffered: set[int], names: LocalNames, write: Writer) -> None:
    """The code for a list whose partial matches all go the same way."""
    stop = _stops(steps, names)
    if stop:
        write(f"x = {stop}")
    left = sum(1 for step in steps if step.kind == "ignore" and step.target is not None)
    for step in steps:
        if step.kind == "stop":
            continue
        guarded = _guarded(step.guard, names, write)
        variable = "l"
        if step.kind == "take":
            write(f"t = [(n, e, {step.stage!r}, n[3]) for n in l]")
            variable = "t"
        if step.match != FALSE:
            inner = _guarded(step.match, names, write)
            write(f"matches += [MATCH(k, m, ts, m[3]) for m in {variable}]")
            write.depth -= inner
        if step.target is not None:
            held = _unless_stopped(stop, write)
            if step.kind == "ignore":
                left -= 1
                variable = "l[:]" if left else "l"  # the list itself goes to the last: what it grows by is nobody else's
            _add(plan, step.target, variable, buffered, write)
            write.depth -= held
        write.depth -= guarded
