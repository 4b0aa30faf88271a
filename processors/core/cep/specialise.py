"""An automaton, taken apart for code generation: what an event of one class does to a partial match in one state.

*Event classes.* Most conditions say `type == "x"`. The field that is compared with constants most often tells events apart:
each of its
constants is a class, everything else is class 0. Within a class those comparisons are known, and most conditions with them.

*Facts of a state.* Which stage a partial match took last, and how many events of a stage it has, is often the same for
everything in a state. Then `count(s)` is a constant and `last(s.x)` is one look-up.

*Steps.* With both, the proceed edges of a state are followed once, here, and what is left is a short list of steps with the
conditions that only the event can decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from processors.core.cep.automaton import FALSE, TRUE, Automaton, State, aggregates_of, conjunction, negation
from processors.core.cep.conditions import compile_condition
from processors.core.cep.expressions import Agg, Const, Expr, Field, Op

__all__ = ["OTHER", "ClassKey", "Facts", "Step", "constants_of", "discriminator", "facts_of", "fold", "residences", "steps_of"]

COUNT_MAX: Final = 16
"""Events of one stage that the facts tell apart: a counted loop is seldom longer, and a longer one is looked up."""

_ARITHMETIC: Final = frozenset({"+", "-", "*", "/", "mod", "neg", "abs"})
"""Operators whose value is a number."""
CLASSES_MAX: Final = 64
"""Event classes of one pattern: each is source of its own."""


class _Other:
    """The class of the events whose discriminating field has none of the constants."""

    def __repr__(self) -> str:
        return "OTHER"


OTHER: Final = _Other()
ClassKey = Any
"""A constant of the discriminating field, or `OTHER`."""


@dataclass(frozen=True, slots=True)
class Step:
    """What may become of a partial match.

    Attributes:
        kind: "take" the event, "ignore" it, or "stop": the partial match and all that it became is gone.
        guard: When.
        target: Where it goes on; None: nowhere.
        stage: Whose event it is.
        match: When it is a match as well (of a take), or a match now (of an ignore).
    """

    kind: Literal["take", "ignore", "stop"]
    guard: Expr
    target: State | None
    stage: str = ""
    match: Expr = FALSE


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of every partial match in a state.

    Attributes:
        last: The stages of its last event; the empty string is none.
        counts: For each stage that an aggregate asks for, how many events it may have; `COUNT_MAX` is that or more.
    """

    last: frozenset[str]
    counts: dict[str, frozenset[int]]

    def joined(self, other: Facts) -> Facts:
        """What holds if one of the two does."""
        return Facts(self.last | other.last, {stage: counts | other.counts[stage] for stage, counts in self.counts.items()})

    def after(self, stage: str) -> Facts:
        """What holds after an event of `stage`."""
        counts = dict(self.counts)
        if stage in counts:
            counts[stage] = frozenset(min(count + 1, COUNT_MAX) for count in counts[stage])
        return Facts(frozenset([stage]), counts)


# ---------------------------------------------------------------------- classes


def discriminator(automaton: Automaton) -> str | None:
    """The field that is compared with constants most often; None where no field is."""
    votes: dict[str, int] = {}
    for state in automaton.states:
        for edge in state.edges:
            for name, _ in _comparisons(edge.condition):
                votes[name] = votes.get(name, 0) + 1
    names = [name for name in votes if name not in {"ts", "id", "key"} and len(constants_of(automaton, name)) <= CLASSES_MAX]
    return max(names, key=lambda name: votes[name], default=None)


def constants_of(automaton: Automaton, name: str) -> list[Any]:
    """The constants that field `name` is compared with, each once."""
    found: dict[Any, None] = {}
    for state in automaton.states:
        for edge in state.edges:
            for field, values in _comparisons(edge.condition):
                if field == name:
                    found.update(dict.fromkeys(values))
    return list(found)


def _comparisons(expr: Expr) -> Iterable[tuple[str, tuple[Any, ...]]]:
    if not isinstance(expr, Op):
        return
    comparison = _compared(expr)
    if comparison is not None:
        yield comparison
    for argument in expr.args:
        yield from _comparisons(argument)


def _compared(expr: Op) -> tuple[str, tuple[Any, ...]] | None:
    """The field and the constants of `field == constant` or `field in (constants)`."""
    if expr.op not in {"==", "!=", "in"}:
        return None
    left, right = expr.args[0], expr.args[1]
    if isinstance(left, Const) and expr.op != "in":
        left, right = right, left
    if not isinstance(left, Field) or not isinstance(right, Const):
        return None
    values = right.value if expr.op == "in" else (right.value,)
    if not isinstance(values, tuple) or not values or not all(_tells_apart(value) for value in values):
        return None
    return left.name, values


def _tells_apart(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool) and value == value)  # noqa: PLR0124 not NaN


# ---------------------------------------------------------------------- folding


def fold(expr: Expr, name: str | None, key: ClassKey, facts: Facts | None) -> Expr:  # noqa: PLR0911 one return a kind
    """`expr` for events of class `key` of field `name`, and partial matches of which `facts` hold."""
    if isinstance(expr, Field):
        return Const(key) if expr.name == name and key is not OTHER else expr
    if isinstance(expr, Agg):
        return _known(expr, facts)
    if not isinstance(expr, Op):
        return expr
    if key is OTHER:
        comparison = _compared(expr)
        if comparison is not None and comparison[0] == name:
            return TRUE if expr.op == "!=" else FALSE
    args = tuple(fold(argument, name, key, facts) for argument in expr.args)
    if expr.op == "not":
        return _boolean(negation(_tested(args[0])))
    if expr.op == "and":
        return _boolean(conjunction(*(_tested(argument) for argument in args)))
    if expr.op == "or":
        left = tuple(tested for tested in (_tested(argument) for argument in args) if tested != FALSE)
        if TRUE in left:
            return TRUE
        return FALSE if not left else _boolean(left[0]) if len(left) == 1 else Op("or", left)
    folded = Op(expr.op, args)
    if all(isinstance(argument, Const) for argument in args) and expr.op in {"==", "!=", "<", "<=", ">", ">=", "in"}:
        return TRUE if compile_condition(folded)({}, None) else FALSE
    return folded


def _tested(expr: Expr) -> Expr:
    """A constant as a condition: everything but True is false."""
    return (TRUE if expr.value is True else FALSE) if isinstance(expr, Const) else expr


def _boolean(expr: Expr) -> Expr:
    """An expression whose value is a boolean: what stood alone in an `and`, an `or` or a double `not` may be compared further."""
    return expr if isinstance(expr, Const) or (isinstance(expr, Op) and expr.op not in _ARITHMETIC) else Op("and", (expr,))


def _known(agg: Agg, facts: Facts | None) -> Expr:
    counts = facts.counts.get(agg.stage) if facts is not None else None
    if counts is None or len(counts) != 1:
        return agg
    (count,) = counts
    if agg.agg == "count":
        return Const(count) if count < COUNT_MAX else agg
    if count == 0:
        return Const(0.0 if agg.agg == "sum" else agg.default)
    return agg


# ---------------------------------------------------------------------- steps


def steps_of(state: State, name: str | None, key: ClassKey, facts: Facts | None) -> list[Step]:
    """What an event of class `key` may make of a partial match in `state`; steps that cannot happen are left out."""
    found: list[Step] = []
    stack: list[tuple[State, Expr]] = [(state, TRUE)]
    while stack:  # in the order in which the automaton follows its edges: with a skip strategy it counts
        at, guard = stack.pop()
        for edge in at.edges:
            condition = conjunction(guard, fold(edge.condition, name, key, facts))
            if condition == FALSE:
                continue
            if edge.action == "proceed":
                stack.append((edge.target, condition))
            elif edge.target.kind == "stop":
                found.append(Step("stop", condition, None))
            elif edge.target.kind == "final":
                found.append(Step("take" if edge.action == "take" else "ignore", condition, None, edge.stage, TRUE))
            elif edge.action == "take":
                found.append(Step("take", condition, edge.target, edge.stage, _completes(edge.target, name, key, facts)))
            else:
                found.append(Step("ignore", condition, edge.target))
    if state.kind == "start":
        return [step for step in found if step.kind != "ignore"]
    return found


def _completes(state: State, name: str | None, key: ClassKey, facts: Facts | None) -> Expr:
    """When proceed edges lead from `state` to the final one."""
    ways: list[Expr] = []

    def follow(at: State, guard: Expr, seen: frozenset[int]) -> None:
        for edge in at.edges:
            if edge.action != "proceed" or edge.target.index in seen:
                continue
            condition = conjunction(guard, fold(edge.condition, name, key, facts))
            if condition == FALSE:
                continue
            if edge.target.kind == "final":
                ways.append(condition)
            else:
                follow(edge.target, condition, seen | {edge.target.index})

    follow(state, TRUE, frozenset([state.index]))
    if not ways:
        return FALSE
    if TRUE in ways:
        return TRUE
    unique = tuple(dict.fromkeys(ways))
    return unique[0] if len(unique) == 1 else Op("or", unique)


def residences(automaton: Automaton) -> list[State]:
    """The states in which partial matches stay, each after those it can be reached from, as far as there is such an order."""
    order: list[State] = []
    seen = {automaton.start.index}

    def visit(state: State) -> None:
        for step in steps_of(state, None, None, None):
            target = step.target
            if target is not None and target.index not in seen:
                seen.add(target.index)
                visit(target)
        if state is not automaton.start:
            order.append(state)

    visit(automaton.start)
    order.reverse()
    return order


def facts_of(automaton: Automaton) -> dict[int, Facts]:
    """The facts of the start state and of every residence, by index."""
    asked = {agg.stage for state in automaton.states for edge in state.edges for agg in aggregates_of(edge.condition)}
    facts = {automaton.start.index: Facts(frozenset([""]), {stage: frozenset([0]) for stage in asked})}
    work = [automaton.start]
    while work:
        state = work.pop()
        known = facts[state.index]
        for step in steps_of(state, None, None, None):
            if step.target is None:
                continue
            reached = known.after(step.stage) if step.kind == "take" else known
            before = facts.get(step.target.index)
            joined = reached if before is None else before.joined(reached)
            if joined != before:
                facts[step.target.index] = joined
                work.append(step.target)
    return facts
