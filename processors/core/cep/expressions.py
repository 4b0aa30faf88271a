"""Conditions as data: a small tree of constants, fields, aggregates and operators, without a single opaque callable.

::

    price > last(failed.price)                      text, see `text`

    {"op": ">", "args": [{"field": "price"},        data: what lives on a topic, and what the oracle's case files hold
                         {"agg": "last", "stage": "failed", "field": "price"}]}

    Op(">", (Field("price"), Agg("last", "failed", "price")))      the tree here

Values are numbers, strings, booleans and null. The rules (Apache Flink's, as the oracle runs them):

* numbers compare with numbers, strings with strings; every other order comparison is false. `==` is false across types, and a
  boolean is no number: `True` is not 1;
* arithmetic on what is no number, and division by zero, is null; `mod` has the sign of the divisor;
* `and`, `or`, `not` and a whole condition count everything but `true` as false;
* an aggregate runs over the events that the partial match under test has already taken for a stage, the current one not included.
  `sum` and `count` of nothing are 0, the others `default`. A stage that does not exist has taken nothing;
* a field that the event does not have is null.

Trees are immutable and hashable. Constants are equal if they are equal in a condition: 1 and 1.0 are, 1 and `True` are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from processors.core.cep.limits import (
    CHOICES_MAX,
    DOUBLE_MAX,
    EXACT_MAX,
    FIELD_CHARS_MAX,
    INT_MAX,
    INT_MIN,
    NODES_MAX,
    OPERATORS_DEPTH_MAX,
    STRING_CHARS_MAX,
)
from schemas.errors import AntiphonError, Fault
from streams.core.words import did_you_mean

__all__ = [
    "AGGREGATES",
    "OPERATORS",
    "Agg",
    "Const",
    "Expr",
    "ExpressionError",
    "Field",
    "Op",
    "Scalar",
    "Ts",
    "from_data",
    "to_data",
    "walk",
]

Scalar = int | float | str | bool | None

MANY: Final = 1 << 30
"""No upper bound on the number of arguments, but `NODES_MAX`."""

OPERATORS: Final[Mapping[str, tuple[int, int]]] = {
    "==": (2, 2), "!=": (2, 2), "<": (2, 2), "<=": (2, 2), ">": (2, 2), ">=": (2, 2), "in": (2, 2),
    "and": (0, MANY), "or": (0, MANY), "not": (1, 1),
    "+": (1, MANY), "-": (1, MANY), "*": (1, MANY), "/": (1, MANY), "mod": (1, MANY), "neg": (1, 1), "abs": (1, 1),
    "contains": (2, 2), "starts_with": (2, 2),
}  # fmt: skip
"""Every operator with the fewest and the most arguments it takes. Arithmetic with several goes from left to right."""

AGGREGATES: Final = ("count", "sum", "avg", "min", "max", "first", "last")
"""Aggregates over the events of a stage. All but `count` are of a field."""


class ExpressionError(AntiphonError, ValueError):
    """A condition that cannot be read: change it as the message says.

    Attributes:
        reason: What is wrong and what is allowed, without the place.
        path: Where in the data form, as `args[1].op`; empty for the whole, and in the text form.
        column: Where in the text form, in characters from 1; None in the data form.
        line: Of the text form, from 1.
    """

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"

    def __init__(self, reason: str, *, path: str = "", column: int | None = None, line: int = 1) -> None:
        """Put the place in front of the reason."""
        self.reason = reason
        self.path = path
        self.column = column
        self.line = line
        place = path or ("" if column is None else f"column {column}" if line == 1 else f"line {line}, column {column}")
        super().__init__(f"{place}: {reason}" if place else reason)


def _same(left: object, right: object) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A constant; a tuple of constants is the second argument of `in` and nothing else."""

    value: Scalar | tuple[Scalar, ...]

    def __eq__(self, other: object) -> bool:
        """Equal as in a condition: 1 is 1.0 and not `True`."""
        return isinstance(other, Const) and _same(self.value, other.value)

    def __hash__(self) -> int:
        return hash(self.value)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the current event; `id`, `key` and `ts` (and, through Kafka, `type`) work too."""

    name: str


@dataclass(frozen=True, slots=True)
class Ts:
    """The current event's time in milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Agg:
    """An aggregate over the events already taken for a stage.

    Attributes:
        agg: One of `AGGREGATES`.
        stage: The stage's name.
        field: What is aggregated; not needed by `count`.
        default: The value where there is nothing to aggregate.
    """

    agg: str
    stage: str
    field: str | None = None
    default: Scalar = None

    def __eq__(self, other: object) -> bool:
        """Equal in every part; defaults as constants."""
        if not isinstance(other, Agg):
            return NotImplemented
        mine, theirs = (self.agg, self.stage, self.field), (other.agg, other.stage, other.field)
        return mine == theirs and _same(self.default, other.default)

    def __hash__(self) -> int:
        return hash((self.agg, self.stage, self.field, self.default))


@dataclass(frozen=True, slots=True)
class Op:
    """An operator with its arguments."""

    op: str
    args: tuple[Expr, ...]


Expr = Const | Field | Ts | Agg | Op
"""A condition or a value."""

_FORMS: Final = (
    'a literal, {"const": v}, {"field": f}, {"ts": true}, {"agg": a, "stage": s, "field": f}, {"op": o, "args": [...]}'
)
Json = Any
"""What `json.loads` returns."""


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything inside it, outermost first."""
    yield expr
    if isinstance(expr, Op):
        for argument in expr.args:
            yield from walk(argument)


def to_data(expr: Expr) -> Json:
    """The JSON value of `expr`; `from_data` makes the same tree of it.

    A string or null that is the whole condition is written `{"const": ...}`: bare, one is text and the other no condition.
    """
    return {"const": expr.value} if isinstance(expr, Const) and isinstance(expr.value, str | None) else _to_data(expr)


def _to_data(expr: Expr) -> Json:
    if isinstance(expr, Const):
        return list(expr.value) if isinstance(expr.value, tuple) else expr.value
    if isinstance(expr, Field):
        return {"field": expr.name}
    if isinstance(expr, Ts):
        return {"ts": True}
    if isinstance(expr, Agg):
        data: dict[str, Any] = {"agg": expr.agg, "stage": expr.stage}
        if expr.field is not None:
            data["field"] = expr.field
        if expr.default is not None:
            data["default"] = expr.default
        return data
    return {"op": expr.op, "args": [_to_data(argument) for argument in expr.args]}


def from_data(data: Json, *, doubles: bool = False) -> Expr:
    """The tree of a JSON value.

    Args:
        data: As in the module's docstring. A bare string is a literal.
        doubles: Make whole numbers that a double cannot hold the nearest double, as the oracle's case format says; else they stay
            as they are.

    Raises:
        ExpressionError: With the path in `data`, what is wrong and what is allowed.
    """
    return _Reader(doubles=doubles).read(data, "", 1)


class _Reader:
    """One reading: counts the parts."""

    def __init__(self, *, doubles: bool) -> None:
        self._doubles = doubles
        self._nodes = 0

    def read(self, data: Json, path: str, depth: int) -> Expr:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ExpressionError(f"the condition has more than {NODES_MAX} parts: make it shorter", path=path)
        if depth > OPERATORS_DEPTH_MAX:
            raise ExpressionError(f"the condition nests deeper than {OPERATORS_DEPTH_MAX}: make it flatter", path=path)
        if isinstance(data, Mapping):
            return self._mapping(data, path, depth)
        if isinstance(data, list | tuple):
            raise ExpressionError("a list stands only as second argument of 'in'", path=path)
        return Const(self._scalar(data, path))

    def _mapping(self, data: Mapping[Any, Any], path: str, depth: int) -> Expr:
        if "op" in data:
            _check_keys(data, ("op", "args"), path)
            return self._operator(data, path, depth)
        if "agg" in data:
            _check_keys(data, ("agg", "stage", "field", "default"), path)
            return self._aggregate(data, path)
        if "const" in data:
            _check_keys(data, ("const",), path)
            return Const(self._scalar(data["const"], _at(path, "const")))
        if "field" in data:
            _check_keys(data, ("field",), path)
            return Field(_name(data["field"], "a field", _at(path, "field")))
        if "ts" in data:
            _check_keys(data, ("ts",), path)
            if data["ts"] is not True:
                raise ExpressionError(f"the event's time is written {{'ts': true}}, not {data['ts']!r}", path=_at(path, "ts"))
            return Ts()
        found = ", ".join(repr(key) for key in data) or "nothing"
        hint = next((hint for key in data if (hint := did_you_mean(key, ("const", "field", "ts", "agg", "op")))), "")
        raise ExpressionError(f"no expression: {{{found}}}. Allowed are {_FORMS}.{hint}", path=path)

    def _operator(self, data: Mapping[Any, Any], path: str, depth: int) -> Expr:
        op = _one_of(data["op"], "operator", tuple(OPERATORS), _at(path, "op"))
        args, where = data.get("args"), _at(path, "args")
        if not isinstance(args, list | tuple):
            raise ExpressionError(f"{op!r} needs 'args', a list of its arguments", path=where)
        fewest, most = OPERATORS[op]
        if not fewest <= len(args) <= most:
            wanted = f"{fewest}" if fewest == most else f"at least {fewest}"
            raise ExpressionError(f"{op!r} takes {wanted} argument{'' if fewest == 1 else 's'}, not {len(args)}", path=where)
        if op == "in":
            return Op(op, (self.read(args[0], f"{where}[0]", depth + 1), self._choices(args[1], f"{where}[1]")))
        return Op(op, tuple(self.read(argument, f"{where}[{index}]", depth + 1) for index, argument in enumerate(args)))

    def _choices(self, data: Json, path: str) -> Const:
        if isinstance(data, Mapping) and list(data) == ["const"]:
            data, path = data["const"], _at(path, "const")
        if not isinstance(data, list | tuple):
            raise ExpressionError("the second argument of 'in' is a list of literals", path=path)
        if len(data) > CHOICES_MAX:
            raise ExpressionError(f"'in' has {len(data)} values, at most {CHOICES_MAX} are allowed", path=path)
        return Const(tuple(self._scalar(value, f"{path}[{index}]") for index, value in enumerate(data)))

    def _aggregate(self, data: Mapping[Any, Any], path: str) -> Agg:
        agg = _one_of(data["agg"], "aggregate", AGGREGATES, _at(path, "agg"))
        field = data.get("field")
        if "stage" not in data:
            raise ExpressionError(f"{agg!r} needs 'stage', the name of the stage whose events it is about", path=path)
        return Agg(
            agg,
            _name(data["stage"], "a stage", _at(path, "stage")),
            None if field is None else _name(field, "a field", _at(path, "field")),
            self._scalar(data.get("default"), _at(path, "default")),
        )

    def _scalar(self, value: Json, path: str) -> Scalar:
        if value is None or isinstance(value, bool):
            return cast("Scalar", value)
        if isinstance(value, str):
            if len(value) > STRING_CHARS_MAX:
                raise ExpressionError(f"a string of {len(value)} characters, at most {STRING_CHARS_MAX} are allowed", path=path)
            return value
        if isinstance(value, int) and self._doubles and EXACT_MAX < abs(value) < DOUBLE_MAX:
            value = float(value)
        if isinstance(value, int):
            if not INT_MIN <= value <= INT_MAX:
                raise ExpressionError("a whole number has at most 64 bits; write a larger one as 1e30", path=path)
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise ExpressionError(f"{value} is no number that can be stored; numbers are finite", path=path)
            return value
        literals = "literals are numbers, strings, true, false and null"
        raise ExpressionError(f"a {type(value).__name__} is no literal; {literals}", path=path)


def _at(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _name(value: Json, what: str, path: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= FIELD_CHARS_MAX:
        raise ExpressionError(f"{what} is named by a string of 1 to {FIELD_CHARS_MAX} characters", path=path)
    return value


def _one_of(word: Json, what: str, known: tuple[str, ...], path: str) -> str:
    if not isinstance(word, str) or word not in known:
        raise ExpressionError(f"no {what} {word!r}; there are {' '.join(known)}.{did_you_mean(word, known)}", path=path)
    return word


def _check_keys(data: Mapping[Any, Any], allowed: tuple[str, ...], path: str) -> None:
    for key in data:
        if key not in allowed:
            only = f"{key!r} is not allowed beside {allowed[0]!r}; only {', '.join(allowed)}"
            raise ExpressionError(f"{only}.{did_you_mean(key, allowed)}", path=path)
