"""Conditions as Python source: an expression tree becomes one expression of the generated code, never walked again.

The rules of the values are the case format's: numbers compare with numbers, strings with strings, everything else is false;
`True` is not
1; arithmetic on what is no number is null; a field that is missing is null; `and`, `or`, `not` count everything but `True` as
false.

Source that is made here uses the names of `SCOPE`, the event as `e`, the last node taken as `n` and its time as `ts`.
A *node* is `(parent, event, stage, seq)`: the events of a partial match from the last to the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from processors.core.cep.expressions import Agg, Const, Expr, Field, Op, Ts

__all__ = [
    "SCOPE",
    "Condition",
    "Names",
    "Node",
    "compile_condition",
    "compile_value",
    "events_of",
    "test_source",
    "value_source",
]

Node = tuple[Any, dict[str, Any], str, int]
Value = Any
"""What a field may hold: a number, a string, a boolean, null, or anything else, which no comparison holds of."""
Condition = Callable[[dict[str, Any], "Node | None"], bool]

_ORDER: Final = {"<", "<=", ">", ">="}
_BOOLEAN: Final = {"==", "!=", "in", "and", "or", "not", "contains", "starts_with", *_ORDER}


def _is_number(value: object) -> bool:
    return value.__class__ is int or value.__class__ is float


def _equal(left: object, right: object) -> bool:
    if left.__class__ is bool or right.__class__ is bool:
        return left is right
    return bool(left == right)


def _less(left: Value, right: Value) -> bool:
    kind, other = left.__class__, right.__class__
    if kind is int or kind is float:
        return (other is int or other is float) and left < right
    return kind is str and other is str and left < right


def _at_most(left: Value, right: Value) -> bool:
    kind, other = left.__class__, right.__class__
    if kind is int or kind is float:
        return (other is int or other is float) and left <= right
    return kind is str and other is str and left <= right


def _contains(left: object, right: object) -> bool:
    return left.__class__ is str and right.__class__ is str and right in left


def _starts_with(left: Value, right: object) -> bool:
    return left.__class__ is str and right.__class__ is str and bool(left.startswith(right))


def _among(value: object, choices: tuple[object, ...]) -> bool:
    return any(_equal(value, choice) for choice in choices)


def _as_double(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all doubles
        return math.inf if value > 0 else -math.inf


def _arithmetic(op: str, *values: Value) -> float | None:
    if not all(_is_number(value) for value in values):
        return None
    result = _as_double(values[0])
    for value in values[1:]:
        number = _as_double(value)
        if op == "+":
            result += number
        elif op == "-":
            result -= number
        elif op == "*":
            result *= number
        elif number == 0:
            return None
        elif op == "/":
            result /= number
        else:
            quotient = result / number
            if not math.isfinite(quotient):
                return math.nan
            result -= math.floor(quotient) * number
    return result


def _neg(value: Value) -> float | None:
    return -value if _is_number(value) else None


def _abs(value: Value) -> float | None:
    return abs(value) if _is_number(value) else None


def events_of(node: Node | None, stage: str) -> list[dict[str, Any]]:
    """The events that the partial match took for `stage`, in order."""
    found = []
    while node is not None:
        if node[2] == stage:
            found.append(node[1])
        node = node[0]
    found.reverse()
    return found


def _count(node: Node | None, stage: str) -> int:
    count = 0
    while node is not None:
        if node[2] == stage:
            count += 1
        node = node[0]
    return count


def _last(node: Node | None, stage: str, name: str | None, default: object) -> object:
    while node is not None:
        if node[2] == stage:
            return _value(node[1], name)
        node = node[0]
    return default


def _first(node: Node | None, stage: str, name: str | None, default: object) -> object:
    taken = events_of(node, stage)
    return _value(taken[0], name) if taken else default


def _value(event: dict[str, Any], name: str | None) -> object:
    return None if name is None else event.get(name)


def _numbers(node: Node | None, stage: str, name: str | None) -> list[float]:
    values = (_value(event, name) for event in events_of(node, stage))
    return [value for value in values if value.__class__ is int or value.__class__ is float]


def _sum(node: Node | None, stage: str, name: str | None, default: object) -> object:  # noqa: ARG001 the sum of nothing is 0
    return sum(map(_as_double, _numbers(node, stage, name)), 0.0)


def _avg(node: Node | None, stage: str, name: str | None, default: object) -> object:
    numbers = [_as_double(number) for number in _numbers(node, stage, name)]
    return sum(numbers) / len(numbers) if numbers else default


def _min(node: Node | None, stage: str, name: str | None, default: object) -> object:
    return min(_numbers(node, stage, name), default=default)


def _max(node: Node | None, stage: str, name: str | None, default: object) -> object:
    return max(_numbers(node, stage, name), default=default)


SCOPE: Final[dict[str, Any]] = {
    "_N": frozenset({int, float}),
    "_equal": _equal,
    "_less": _less,
    "_at_most": _at_most,
    "_contains": _contains,
    "_starts_with": _starts_with,
    "_among": _among,
    "_arithmetic": _arithmetic,
    "_neg": _neg,
    "_abs": _abs,
    "_count": _count,
    "_last": _last,
    "_first": _first,
    "_sum": _sum,
    "_avg": _avg,
    "_min": _min,
    "_max": _max,
}
"""What generated source may call."""


class Names:
    """How a piece of generated source spells a field of the event and an aggregate. The plain one looks both up where they stand.

    Attributes:
        fields: The field names that were asked for.
    """

    def __init__(self) -> None:
        self.fields: dict[str, None] = {}

    def field(self, name: str) -> str:
        """Source for the value of a field of the current event."""
        self.fields[name] = None
        return f"e.get({name!r})"

    def aggregate(self, agg: Agg) -> str:
        """Source for an aggregate over the events taken."""
        if agg.agg == "count":
            return f"_count(n, {agg.stage!r})"
        return f"_{agg.agg}(n, {agg.stage!r}, {agg.field!r}, {_literal(agg.default)})"

    def order(self, op: str, left: str, right: str) -> str:
        """Source for `left op right`, op being "<" or "<="."""
        return f"_{'less' if op == '<' else 'at_most'}({left}, {right})"


def compile_condition(condition: Expr) -> Condition:
    """`condition` as a function of the event and the last node taken."""
    source = f"lambda e, n: {test_source(condition, Names())}"
    compiled: Condition = eval(compile(source, "<condition>", "eval"), dict(SCOPE))  # noqa: S307 our own source: every literal goes through repr
    return compiled


def compile_value(expr: Expr) -> Callable[[dict[str, Any], Node | None], Value]:
    """`expr` as a function of the event and the last node taken that returns its value: for explanations."""
    source = f"lambda e, n: {value_source(expr, Names())}"
    compiled: Callable[[dict[str, Any], Node | None], Value] = eval(compile(source, "<value>", "eval"), dict(SCOPE))  # noqa: S307 as above
    return compiled


def test_source(expr: Expr, names: Names) -> str:  # noqa: PLR0911 one return a kind of expression
    """Source that is `True` where `expr` holds and `False` where it does not."""
    if isinstance(expr, Const):
        return "True" if expr.value is True else "False"
    if not isinstance(expr, Op) or expr.op not in _BOOLEAN:
        return f"({value_source(expr, names)} is True)"
    if expr.op in {"and", "or"}:
        if not expr.args:
            return "True" if expr.op == "and" else "False"
        return "(" + f" {expr.op} ".join(test_source(argument, names) for argument in expr.args) + ")"
    if expr.op == "not":
        return f"(not {test_source(expr.args[0], names)})"
    left, right = expr.args[0], expr.args[1]
    if expr.op in {"==", "!="}:
        return _equality(left, right, names, negate=expr.op == "!=")
    if expr.op == "in":
        return _membership(left, right, names)
    if expr.op in _ORDER:
        return _ordering(expr.op, left, right, names)
    return f"_{expr.op}({value_source(left, names)}, {value_source(right, names)})"


def value_source(expr: Expr, names: Names) -> str:
    """Source for the value of `expr`."""
    if isinstance(expr, Const):
        return _literal(expr.value)
    if isinstance(expr, Field):
        return names.field(expr.name)
    if isinstance(expr, Ts):
        return names.field("ts")
    if isinstance(expr, Agg):
        return names.aggregate(expr)
    if expr.op in _BOOLEAN:
        return test_source(expr, names)
    values = ", ".join(value_source(argument, names) for argument in expr.args)
    return f"_{expr.op}({values})" if expr.op in {"neg", "abs"} else f"_arithmetic({expr.op!r}, {values})"


def _equality(left: Expr, right: Expr, names: Names, *, negate: bool) -> str:
    if isinstance(left, Const) and not isinstance(right, Const):
        left, right = right, left
    if isinstance(right, Const) and not isinstance(left, Const):
        value = right.value
        if isinstance(value, str) or (_is_number(value) and value not in {0, 1}):
            return f"({value_source(left, names)} {'!=' if negate else '=='} {_literal(value)})"
        if value is None or isinstance(value, bool):
            return f"({value_source(left, names)} {'is not' if negate else 'is'} {value!r})"
    source = f"_equal({value_source(left, names)}, {value_source(right, names)})"
    return f"(not {source})" if negate else source


def _membership(left: Expr, right: Expr, names: Names) -> str:
    choices = right.value if isinstance(right, Const) and isinstance(right.value, tuple) else ()
    if all(isinstance(choice, str) for choice in choices):
        return f"({value_source(left, names)} in {choices!r})"
    return f"_among({value_source(left, names)}, {_literal(choices)})"


def _ordering(op: str, left: Expr, right: Expr, names: Names) -> str:
    if op in {">", ">="}:
        op, left, right = "<" if op == ">" else "<=", right, left
    return names.order(op, value_source(left, names), value_source(right, names))


def _literal(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_literal(item)}, " for item in value) + ")"
    return repr(value)
