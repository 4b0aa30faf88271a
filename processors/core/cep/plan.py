"""How a pattern is laid out before its source is written: event classes, the steps of each, and what lives in which place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from processors.core.cep.automaton import Automaton, State
from processors.core.cep.conditions import Names
from processors.core.cep.expressions import Agg
from processors.core.cep.specialise import (
    OTHER,
    ClassKey,
    Facts,
    Step,
    constants_of,
    discriminator,
    facts_of,
    residences,
    steps_of,
)

__all__ = ["InlineNames", "LocalNames", "Plan", "Writer", "plan_of"]


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
        identity = tuple(
            (index, tuple((step.kind, step.guard, step.target and step.target.index, step.stage, step.match) for step in found))
            for index, found in made.items()
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


class LocalNames(Names):
    """Fields in local variables, and aggregates by what is known of the state."""

    def __init__(self, facts: Facts | None, fields: dict[str, str]) -> None:
        super().__init__()
        self._facts = facts
        self._fields = fields
        self._temporary = 0

    def field(self, name: str) -> str:
        """The local variable of a field of the current event."""
        if name == "ts":
            return "ts"
        if name == "key":
            return "k"
        return self._fields.setdefault(name, f"f{len(self._fields)}")

    def aggregate(self, agg: Agg) -> str:
        """Source for an aggregate over the events taken."""
        if agg.agg == "last" and self._facts is not None and self._facts.last == {agg.stage}:
            return f"n[1].get({agg.field!r})" if agg.field is not None else "None"
        return super().aggregate(agg)

    def order(self, op: str, left: str, right: str) -> str:
        """Source for `left op right`: numbers, the common case, without a call."""
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
        return (
            f"(({names[0]} {op} {names[1]}) if {' and '.join(tests)} else {helper}({left}, {right}))"
            if tests
            else f"({left} {op} {right})"
        )


class InlineNames(LocalNames):
    """As `LocalNames`, with fields looked up where they stand: for code that seldom needs them."""

    def field(self, name: str) -> str:
        """Source for the value of a field of the current event."""
        return {"ts": "ts", "key": "k"}.get(name, f"e.get({name!r})")


def _is_literal(source: str) -> bool:
    try:
        float(source)
    except ValueError:
        return False
    return True


class Writer:
    """Lines of source, indented."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def __call__(self, line: str) -> None:
        """Write a line."""
        self.lines.append("    " * self.depth + line)
