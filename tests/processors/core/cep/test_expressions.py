"""Conditions as data: read, written, refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from processors.core.cep.expressions import Agg, Const, Expr, ExpressionError, Field, Op, Ts, from_data, to_data, walk
from processors.core.cep.limits import CHOICES_MAX, FIELD_CHARS_MAX, NODES_MAX, OPERATORS_DEPTH_MAX, STRING_CHARS_MAX
from tests.processors.core.cep.strategies import expressions


@given(expressions)
def test_data_form_is_an_inverse(expr: Expr) -> None:
    """A tree written as JSON and read again is the same tree, with the same hash."""
    again = from_data(json.loads(json.dumps(to_data(expr))))
    assert again == expr
    assert hash(again) == hash(expr)


@pytest.mark.parametrize(
    ("data", "expr"),
    [
        (1, Const(1)),
        ("a", Const("a")),
        (None, Const(None)),
        ({"const": "a"}, Const("a")),
        ({"field": "ts"}, Field("ts")),
        ({"ts": True}, Ts()),
        ({"agg": "count", "stage": "s"}, Agg("count", "s")),
        ({"agg": "last", "stage": "s", "field": "f", "default": 0}, Agg("last", "s", "f", 0)),
        ({"op": "in", "args": [{"field": "a"}, ["x", 1]]}, Op("in", (Field("a"), Const(("x", 1))))),
        ({"op": "in", "args": [{"field": "a"}, {"const": ["x"]}]}, Op("in", (Field("a"), Const(("x",))))),
        ({"op": "and", "args": []}, Op("and", ())),
    ],
)
def test_every_form_is_read(data: Any, expr: Expr) -> None:
    """Each form of the format makes the tree that its name says."""
    assert from_data(data) == expr


def test_constants_are_equal_as_in_a_condition() -> None:
    """1 is 1.0 and not `True`, alone, in a list and as a default; anything else tells two conditions apart."""
    assert Const(1) == Const(1.0)
    assert Const(1) != Const(True)
    assert Const((0, 1)) != Const((False, True))
    assert Agg("last", "s", "f", 1) != Agg("last", "s", "f", True)
    assert Agg("last", "s", "f", 1) == Agg("last", "s", "f", 1.0)
    assert len({Const(1), Const(True), Const(1.0)}) == 2
    assert Const(None) != "x"
    assert Agg("last", "s", "f") != "x"


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        ({"op": "=", "args": [1, 2]}, "op", "no operator '='"),
        ({"op": "contain", "args": [1, 2]}, "op", "Did you mean 'contains'?"),
        ({"op": ["and"], "args": []}, "op", "no operator ['and']"),
        ({"op": "not", "args": [1, 2]}, "args", "takes 1 argument, not 2"),
        ({"op": "+", "args": []}, "args", "at least 1 argument, not 0"),
        ({"op": "and"}, "args", "needs 'args'"),
        ({"op": "and", "args": [True, {"fild": "x"}]}, "args[1]", "Did you mean 'field'?"),
        (
            {"op": "and", "args": [{"op": "==", "args": [1, {"agg": "mean", "stage": "s"}]}]},
            "args[0].args[1].agg",
            "count sum avg",
        ),
        ({"op": "==", "args": [1, ["a"]]}, "args[1]", "only as second argument of 'in'"),
        ({"op": "in", "args": [1, {"field": "a"}]}, "args[1]", "a list of literals"),
        ({"op": "in", "args": [1, [[2]]]}, "args[1][0]", "a list is no literal"),
        ({"op": "in", "args": [1, {"const": 2}]}, "args[1].const", "a list of literals"),
        ({"field": ""}, "field", "1 to 200 characters"),
        ({"field": "x" * (FIELD_CHARS_MAX + 1)}, "field", "1 to 200 characters"),
        ({"field": "a", "stage": "b"}, "", "'stage' is not allowed beside 'field'"),
        ({"agg": "last", "field": "a"}, "", "needs 'stage'"),
        ({"agg": "last", "stage": 5}, "stage", "a stage is named by a string"),
        ({"agg": "last", "stage": "s", "feild": "f"}, "", "Did you mean 'field'?"),
        ({"ts": False}, "ts", "not False"),
        ({"const": {}}, "const", "a dict is no literal"),
        ({}, "", "no expression: {nothing}"),
        ([1], "", "only as second argument of 'in'"),
        (float("nan"), "", "numbers are finite"),
        (1 << 63, "", "at most 64 bits"),
        ("x" * (STRING_CHARS_MAX + 1), "", "at most 4096"),
        ({"op": "in", "args": [1, [0] * (CHOICES_MAX + 1)]}, "args[1]", "at most 1000 are allowed"),
        (b"x", "", "a bytes is no literal"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: Any, path: str, reason: str) -> None:
    """An error names the path in the data, what is wrong, and what is allowed."""
    with pytest.raises(ExpressionError) as caught:
        from_data(data)
    assert caught.value.path == path
    assert reason in str(caught.value)
    assert str(caught.value).startswith(path)
    assert not caught.value.retryable


def test_limits_are_exact() -> None:
    """The deepest and the longest condition are read, one more is refused."""
    deep: Any = True
    for _ in range(OPERATORS_DEPTH_MAX - 1):
        deep = {"op": "not", "args": [deep]}
    from_data(deep)
    with pytest.raises(ExpressionError, match="nests deeper than 40"):
        from_data({"op": "not", "args": [deep]})
    assert len(list(walk(from_data({"op": "and", "args": [True] * (NODES_MAX - 1)})))) == NODES_MAX
    with pytest.raises(ExpressionError, match="more than 500 parts"):
        from_data({"op": "and", "args": [True] * NODES_MAX})


def test_cases_have_doubles() -> None:
    """A whole number beyond 2^53 stays as it is, and in a case file it is the nearest double."""
    assert from_data((1 << 53) + 1) == Const((1 << 53) + 1)
    rounded = from_data((1 << 53) + 1, doubles=True)
    assert isinstance(rounded, Const)
    assert rounded.value == float(1 << 53)
    assert from_data(10**30, doubles=True) == Const(1e30)
    with pytest.raises(ExpressionError, match="64 bits"):
        from_data(10**400, doubles=True)


def test_a_whole_string_is_not_taken_for_text() -> None:
    """A string or null that is the whole condition is written so that nobody reads it as text, or as no condition."""
    assert to_data(Const("a == 1")) == {"const": "a == 1"}
    assert to_data(Const(None)) == {"const": None}
