"""Conditions in Python, by operators: `field("price") > last("failed", "price")`. They make the trees of `expressions`.

::

    from processors.core.cep import builder as cep

    (cep.field("type") == "tool.failed") & ~cep.field("tool").is_in(["lint", "format"])
    cep.field("price") - cep.last("a", "price", default=0) > 10
    cep.count("a") >= 3

`&`, `|` and `~` stand for and, or, not; Python lets nobody redefine the words, so a condition in `if`, `and` or `a < b < c`
raises `TypeError`. Mind that `&` binds tighter than `==`: each side stands in parentheses. There are no functions of your own: a
pattern lives on a topic, where code cannot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from processors.core.cep.expressions import Agg, Const, Expr, Field, Op, Scalar, Ts, from_data, to_data
from processors.core.cep.text import from_text, to_text

__all__ = [
    "Operand",
    "Term",
    "avg",
    "const",
    "count",
    "expression_of",
    "field",
    "first",
    "last",
    "max",
    "min",
    "sum",
    "text",
    "ts",
]


class Term:
    """A value or a condition under construction; immutable.

    Attributes:
        expr: The tree.
    """

    __slots__ = ("expr",)
    __hash__ = None  # type: ignore[assignment] # `==` makes a condition, so a term cannot be looked up

    expr: Expr

    def __init__(self, expr: Expr) -> None:
        """Wrap a tree.

        Raises:
            ExpressionError: It is beyond the limits.
        """
        self.expr = from_data(to_data(expr))

    def __repr__(self) -> str:
        return f"Term({to_text(self.expr)})"

    def __bool__(self) -> NoReturn:
        """Refuse to be true or false: there is no event yet.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a condition has no truth here: write & | ~ for and, or, not, and (a < b) & (b < c) for a < b < c")

    def __eq__(self, other: Operand) -> Term:  # type: ignore[override] # a condition, not an answer
        return _op("==", self, other)

    def __ne__(self, other: Operand) -> Term:  # type: ignore[override] # a condition, not an answer
        return _op("!=", self, other)

    def __lt__(self, other: Operand) -> Term:
        return _op("<", self, other)

    def __le__(self, other: Operand) -> Term:
        return _op("<=", self, other)

    def __gt__(self, other: Operand) -> Term:
        return _op(">", self, other)

    def __ge__(self, other: Operand) -> Term:
        return _op(">=", self, other)

    def __add__(self, other: Operand) -> Term:
        return _op("+", self, other)

    def __radd__(self, other: Operand) -> Term:
        return _op("+", other, self)

    def __sub__(self, other: Operand) -> Term:
        return _op("-", self, other)

    def __rsub__(self, other: Operand) -> Term:
        return _op("-", other, self)

    def __mul__(self, other: Operand) -> Term:
        return _op("*", self, other)

    def __rmul__(self, other: Operand) -> Term:
        return _op("*", other, self)

    def __truediv__(self, other: Operand) -> Term:
        return _op("/", self, other)

    def __rtruediv__(self, other: Operand) -> Term:
        return _op("/", other, self)

    def __mod__(self, other: Operand) -> Term:
        return _op("mod", self, other)

    def __rmod__(self, other: Operand) -> Term:
        return _op("mod", other, self)

    def __neg__(self) -> Term:
        return _op("neg", self)

    def __abs__(self) -> Term:
        return _op("abs", self)

    def __and__(self, other: Term | bool) -> Term:
        return _joined("and", self, other)

    def __or__(self, other: Term | bool) -> Term:
        return _joined("or", self, other)

    def __invert__(self) -> Term:
        return _op("not", self)

    def is_in(self, choices: Iterable[Scalar]) -> Term:
        """One of `choices` equals this."""
        if isinstance(choices, str):
            raise TypeError("is_in() takes a list of values; for a part of a string write contains()")
        return Term(Op("in", (self.expr, Const(tuple(choices)))))

    def is_null(self) -> Term:
        """There is no value: the field is missing, or null."""
        return _op("==", self, None)

    def contains(self, part: Operand) -> Term:
        """This is a string, and `part` a part of it."""
        return _op("contains", self, part)

    def starts_with(self, beginning: Operand) -> Term:
        """This is a string that begins with `beginning`."""
        return _op("starts_with", self, beginning)


Operand = Term | int | float | str | bool | None
"""What stands beside an operator: a term, or a constant."""


def expression_of(condition: Operand) -> Expr:
    """The tree of a term or a constant.

    Raises:
        TypeError: It is neither, for instance a function.
    """
    if isinstance(condition, Term):
        return condition.expr
    if callable(condition):
        raise TypeError(
            "a pattern lives on a topic, where no function can: write the condition with field(), last() and operators"
        )
    if condition is None or isinstance(condition, int | float | str):
        return Const(condition)
    raise TypeError(f"a {type(condition).__name__} is no value; those are terms, numbers, strings, True, False and None")


def _op(op: str, *args: Operand) -> Term:
    return Term(Op(op, tuple(expression_of(argument) for argument in args)))


def _joined(op: str, left: Term, right: Term | bool) -> Term:
    """`a & b & c` as one operator with three arguments, as text has it."""
    if not isinstance(right, Term | bool):
        raise TypeError(f"beside & and | stand conditions, not {right!r}: put each comparison in parentheses")
    first = left.expr.args if isinstance(left.expr, Op) and left.expr.op == op and len(left.expr.args) > 1 else (left.expr,)
    return Term(Op(op, (*first, expression_of(right))))


def field(name: str) -> Term:
    """A field of the current event; null where it has none. `id`, `key` and `ts` work too."""
    return Term(Field(name))


def ts() -> Term:
    """The current event's time in milliseconds."""
    return Term(Ts())


def const(value: Scalar) -> Term:
    """A constant, where the other side of the operator is no term."""
    return Term(Const(value))


def text(condition: str) -> Term:
    """A condition as text: `text("price > last(failed.price)")`.

    Raises:
        ExpressionError: With the column and what is allowed.
    """
    return Term(from_text(condition))


def count(stage: str) -> Term:
    """How many events the partial match has taken for `stage`, the current one not included."""
    return Term(Agg("count", stage))


def sum(stage: str, field: str) -> Term:  # noqa: A001 called as cep.sum
    """The sum of a field over the events taken for `stage`; of nothing it is 0. Only numbers count."""
    return Term(Agg("sum", stage, field))


def avg(stage: str, field: str, *, default: Scalar = None) -> Term:
    """The mean of a field over the events taken for `stage`; of nothing it is `default`. Only numbers count."""
    return Term(Agg("avg", stage, field, default))


def min(stage: str, field: str, *, default: Scalar = None) -> Term:  # noqa: A001 called as cep.min
    """The smallest value of a field over the events taken for `stage`; of nothing it is `default`. Only numbers count."""
    return Term(Agg("min", stage, field, default))


def max(stage: str, field: str, *, default: Scalar = None) -> Term:  # noqa: A001 called as cep.max
    """The largest value of a field over the events taken for `stage`; of nothing it is `default`. Only numbers count."""
    return Term(Agg("max", stage, field, default))


def first(stage: str, field: str, *, default: Scalar = None) -> Term:
    """A field of the first event taken for `stage`; `default` where there is none yet."""
    return Term(Agg("first", stage, field, default))


def last(stage: str, field: str, *, default: Scalar = None) -> Term:
    """A field of the last event taken for `stage`; `default` where there is none yet."""
    return Term(Agg("last", stage, field, default))
