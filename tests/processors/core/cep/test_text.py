"""Conditions as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.core.cep.expressions import Agg, Const, Expr, ExpressionError, Field, Op, Ts
from processors.core.cep.text import from_text, to_text
from tests.processors.core.cep.strategies import expressions

A, B = Field("a"), Field("b")


@given(expressions)
def test_text_is_an_inverse(expr: Expr) -> None:
    """A tree written as text and read again is the same tree."""
    assert from_text(to_text(expr)) == expr


@pytest.mark.parametrize(
    ("text", "expr"),
    [
        (
            "type == 'tool.failed' and price > last(failed.price)",
            Op(
                "and",
                (Op("==", (Field("type"), Const("tool.failed"))), Op(">", (Field("price"), Agg("last", "failed", "price")))),
            ),
        ),
        ("a or b and not a", Op("or", (A, Op("and", (B, Op("not", (A,))))))),
        ("a and b and a", Op("and", (A, B, A))),
        ("(a and b) and a", Op("and", (Op("and", (A, B)), A))),
        ("a - b - 1", Op("-", (Op("-", (A, B)), Const(1)))),
        ("a - (b - 1)", Op("-", (A, Op("-", (B, Const(1)))))),
        ("a % 2 == 0", Op("==", (Op("mod", (A, Const(2))), Const(0)))),
        ("a in ['x', 1, null, true]", Op("in", (A, Const(("x", 1, None, True))))),
        ("a in ('x', 'y')", Op("in", (A, Const(("x", "y"))))),
        ("a not in []", Op("not", (Op("in", (A, Const(()))),))),
        ("-a", Op("neg", (A,))),
        ("-1", Const(-1)),
        ("neg(1)", Op("neg", (Const(1),))),
        ("-9223372036854775808", Const(-(1 << 63))),
        ("abs(a) >= .5", Op(">=", (Op("abs", (A,)), Const(0.5)))),
        (
            "contains(a, 'x') or starts_with(a, 'y')",
            Op("or", (Op("contains", (A, Const("x"))), Op("starts_with", (A, Const("y"))))),
        ),
        ("ts", Ts()),
        ("field('ts')", Field("ts")),
        ("field('a b')", Field("a b")),
        ("count(failed) > 2", Op(">", (Agg("count", "failed"), Const(2)))),
        ("count('not c')", Agg("count", "not c")),
        ("last('not c'.price, 0)", Agg("last", "not c", "price", 0)),
        ("avg(a.b, default=1.5)", Agg("avg", "a", "b", 1.5)),
        ("min(stage='a b', field='c d')", Agg("min", "a b", "c d")),
        ("all(a)", Op("and", (A,))),
        ("any()", Op("or", ())),
        ("add(a, b, 1)", Op("+", (A, B, Const(1)))),
        ("a == True and b == None", Op("and", (Op("==", (A, Const(True))), Op("==", (B, Const(None)))))),
        ("  a\n  and\tb ", Op("and", (A, B))),
        ("größe > 1", Op(">", (Field("größe"), Const(1)))),
    ],
)
def test_text_is_read(text: str, expr: Expr) -> None:
    """Each spelling makes the tree that Python's precedence says."""
    assert from_text(text) == expr


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("", 1, 1, "the condition is empty"),
        ("a = 1", 1, 3, "write '==', not '='"),
        ("a == 1 && b", 1, 9, "write 'and', not '&&'"),
        ("a || b", 1, 4, "write 'or', not '||'"),
        ("a <> b", 1, 3, "write '!=', not '<>'"),
        ("a is None", 1, 1, "write '== null'"),
        ("a < b < 1", 1, 9, "'a < b and b < c'"),
        ("'x' in a", 1, 8, "write contains(a, 'x')"),
        ("a in [b]", 1, 7, "not allowed here"),
        ("failed.price > 1", 1, 1, "last(failed.price)"),
        ("a['x'] == 1", 1, 1, "fields of fields are not supported"),
        ("a if b else 1", 1, 1, "use 'and' and 'or'"),
        ("a, b", 1, 1, "join them with 'and'"),
        ("f'{a}' == 'x'", 1, 1, "take away the f"),
        ("lambda: a", 1, 1, "no functions of your own"),
        ("[1]", 1, 1, "only behind 'in'"),
        ("a == {1}", 1, 6, "in brackets"),
        ("{'op': 'and'}", 1, 1, "cannot be mixed with text"),
        ("(a := 1)", 1, 2, "compare with '=='"),
        ("a ** 2 > 1", 1, 6, "there are + - * / %"),
        ("a & b", 1, 5, "write 'and' and 'or'"),
        ("~a", 1, 1, "not allowed here"),
        ("b'x' == a", 1, 1, "not allowed here"),
        ("a # why", 1, 3, "comments are not allowed"),
        ("a\nand b ** 2", 2, 10, "no such operator"),
        ("é == 'ü' and foo(1)", 1, 14, "no function foo()"),
        ("lst(a.b)", 1, 1, "Did you mean last()?"),
        ("a.b(1)", 1, 1, "no such function"),
        ("contains(a)", 1, 1, "takes 2 arguments, not 1"),
        ("contains(a, part='x')", 1, 1, "without names and stars"),
        ("contains(*a)", 1, 1, "without names and stars"),
        ("field(a)", 1, 1, "the field's name in quotes"),
        ("count(a.b)", 1, 7, "count() is of a stage"),
        ("count(a, 1)", 1, 1, "too many arguments"),
        ("count()", 1, 1, "needs a stage"),
        ("last(a)", 1, 6, "last() is of a field of a stage; write last(stage.field)"),
        ("last(a.b.c)", 1, 6, "no stage"),
        ("last(a.b, b)", 1, 11, "not allowed here"),
        ("last(a.b, sum=1)", 1, 11, "stage=, field= and default="),
        ("1e999 > a", 1, 1, "numbers are finite"),
        ("a > 9223372036854775808", 1, 5, "at most 64 bits"),
        ("a > " + "9" * 5000, 1, 1, "at most 64 bits"),
        ("a ==", 1, 5, "the condition ends too early; allowed are"),
        ("a == 1 and and b", 1, 12, "no expression here; allowed are"),
        ("(a", 1, 1, "'(' was never closed"),
        ("a == 'x", 1, 6, "unterminated string"),
        ("ﬁ == 1", 1, 1, "field('...')"),
        ("(" * 190 + "a" + ")" * 191, 1, 382, "unmatched ')'"),
        ("not " * 2000 + "a", 1, 161, "nests deeper than 40"),
        ("-" * 5000 + "a", 1, 1, "parentheses too deep"),
        ("-" * 60 + "a", 1, 41, "nests deeper than 40"),
        (" and ".join(["a"] * 500), 1, 1 + 499 * 6, "more than 500 parts"),
        ("a" * 10_001, None, None, "at most 10000 are allowed"),
        ("a == '\ud800'", None, None, ""),
        ("a\0", None, None, ""),
    ],
)
def test_what_is_wrong_is_said_with_its_column(text: str, line: int | None, column: int | None, reason: str) -> None:
    """An error points at line and column, and says what to write instead."""
    with pytest.raises(ExpressionError) as caught:
        from_text(text)
    assert reason in caught.value.reason
    if line is not None:
        assert (caught.value.line, caught.value.column) == (line, column)


@given(st.text(max_size=30) | st.text("ab.()[]'\"=<>+-*/%, \nandornti1#", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but the error that says why, and what is read can be written."""
    try:
        expr = from_text(text)
    except ExpressionError:
        return
    assert from_text(to_text(expr)) == expr
