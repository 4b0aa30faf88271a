"""Expressions and templates."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.sagas.expressions import BadExpression, compile_expression, is_true
from streams.core.sagas.limits import EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_VALUES_MAX
from streams.core.sagas.templates import BadTemplate, compile_template, understand
from tests.streams.core.sagas.strategies import json_values

DATA: dict[str, Any] = {
    "input": {"city": "Ulm", "n": 3, "list": [1, {"a": 2}], "yes": True, "a b": 7},
    "flight": {"price": 420.5, "seats": [{"row": 12}]},
    "none": None,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.city", "Ulm"), ("flight.seats[0].row", 12), ("input['a b']", 7), ("input.list[1].a", 2),
        ("input.missing.deeper", None), ("input.list[9]", None), ("input.city.x", None), ("nobody", None), ("none.x", None),
        ("42", 42), ("-1.5", -1.5), ("1e3", 1000.0), ("'a'", "a"), ('"it\'s"', "it's"), ("true", True), ("null", None),
        ("[1, 'a', input.n]", [1, "a", 3]), ("[]", []), ("( input.n )", 3),
        ("input.n == 3", True), ("input.n == 3.0", True), ("1 == true", False), ("true == true", True), ("null == none", True),
        ("[1, true] == [1, true]", True), ("[1] == [true]", False), ("input.n != 3", False), ("input == input", True),
        ("input.n < 4", True), ("input.n >= 4", False), ("'a' < 'b'", True), ("'a' < 1", False), ("true < 2", False),
        ("none < 1", False), ("none >= 1", False),
        ("input.n in [1, 3]", True), ("1 in [true]", False), ("'n' in input", True), ("'l' in input.city", True),
        ("1 in input.city", False), ("input.n not in [1, 3]", False), ("1 not in 5", True),
        ("input.yes and input.n == 3", True), ("input.n and true", False), ("false or input.yes", True), ("not input.n", True),
        ("not not input.yes", True), ("not input.yes or true", True), ("false and false or true", True),
        ("false and (false or true)", False),
        ("size(input.list)", 2), ("size(input.city) == 3", True), ("size(3)", None),
    ],
)  # fmt: skip
def test_what_an_expression_means(text: str, value: object) -> None:
    """Paths, literals, comparisons and logic have one value each; what is missing is null, and unlike things do not compare."""
    found = compile_expression(text).value(DATA)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason", "column"),
    [
        ("", "empty", 1), ("a = 1", "'=='", 3), ("a and", "ends too early", 6), ("a && b", "'and'", 3),
        ("a + 1", "arithmetic", 3), ("a < b < c", "two values at a time", 7), ("f(x)", "no function 'f'", 1),
        ("size(x", "')' is missing", 7), ("a.", "name is missing", 3), ("a[b]", "whole number", 3), ("a[-1]", "whole number", 3),
        ("'abc", "does not end", 1), ("a b", "not expected", 3), ("x not y", "only followed by 'in'", 7),
        ("{'a': 1}", "template", 1), ("[1 2]", "',' is missing", 4), ("or", "not expected", 1), ("1a", "not expected", 1),
        ("(" * (EXPRESSION_DEPTH_MAX + 1), "nests deeper", EXPRESSION_DEPTH_MAX + 1),
        ("not " * 40 + "a", "nests deeper", 121), ("x" * (EXPRESSION_CHARS_MAX + 1), "at most 1000", 1),
        ("1e999", "too large", 1),
    ],
)  # fmt: skip
def test_what_is_no_expression(text: str, reason: str, column: int) -> None:
    """A mistake is told with its column and with what is allowed."""
    with pytest.raises(BadExpression) as caught:
        compile_expression(text)
    assert reason in caught.value.reason
    assert caught.value.column == column


def test_an_expression_knows_what_it_reads() -> None:
    """Every path is told with its column, in order, so that a check can say where a name is wrong."""
    assert compile_expression("a.b == 1 and size(c[0]) < d").reads == ((("a", "b"), 1), (("c", 0), 19), (("d",), 27))


@given(st.text(alphabet="ab.[]()'\"=<>! \n0123and orti,-e", max_size=30), json_values)
def test_a_text_is_an_expression_or_is_refused(text: str, value: object) -> None:
    """Whatever the text, it has a value over any data, or a reason and a column inside the text: nothing else is raised."""
    try:
        expression = compile_expression(text)
    except BadExpression as error:
        column = error.column
    else:
        column = 1
        first, second = (expression.value({"a": value, "b": value}) for _ in range(2))
        assert first == second
        assert is_true(first) is (first is True)
    assert 1 <= column <= len(text) + 1


def test_a_comparison_of_deep_data_does_not_overflow() -> None:
    """Data may nest deeper than Python's calls go."""
    deep: Any = 1
    other: Any = 1
    for _ in range(20_000):
        deep, other = [deep], [other]
    assert compile_expression("a == b").value({"a": deep, "b": other}) is True
    while isinstance(deep, list):  # or freeing it recurses
        deep, other = deep[0], other[0]


def test_a_template_is_filled_in() -> None:
    """Texts behind `=` are expressions, `==` stands for one `=`, and all else stays."""
    template = {
        "who": "=input.city",
        "list": ["=flight.price", 1, None],
        "plain": "a=b",
        "sign": "==x",
        "deep": [{"a": True}],
    }
    value = compile_template(template).value(DATA)
    assert value == {"who": "Ulm", "list": [420.5, 1, None], "plain": "a=b", "sign": "=x", "deep": [{"a": True}]}
    assert [path for path, _ in compile_template(template).expressions] == [("who",), ("list", 0)]


def test_a_template_tells_all_its_mistakes() -> None:
    """Each is at its place, with the column in its text."""
    _, wrong = understand({"a": "=1 +", "b": ["=ok", "=a ="], "c": float("nan"), "d": object(), "e": 2**70})
    assert [(one.path, one.column) for one in wrong] == [(("a",), 4), (("b", 1), 4), (("c",), 0), (("d",), 0), (("e",), 0)]
    with pytest.raises(BadTemplate, match="arithmetic"):
        compile_template("=a + 1")


def test_a_template_has_limits() -> None:
    """Neither depth nor number is unbounded, also where parts are shared or a value contains itself."""
    deep: list[Any] = []
    deep.append(deep)
    assert f"deeper than {TEMPLATE_DEPTH_MAX}" in understand(deep)[1][0].reason
    assert f"at most {TEMPLATE_VALUES_MAX} values" in understand([1] * (TEMPLATE_VALUES_MAX + 1))[1][0].reason
    wide: list[Any] = []
    wide += [wide] * 10  # ten to the power of twenty parts
    assert understand(wide)[1]


@given(json_values)
def test_a_template_without_expressions_is_itself(value: Any) -> None:
    """JSON without texts that begin with `=` means itself."""
    understood, wrong = understand(value)
    if not understood.expressions and not wrong and "=" not in str(value):
        assert understood.value({}) == value
