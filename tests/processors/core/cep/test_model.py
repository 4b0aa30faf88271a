"""Patterns as data: what can exist, and what cannot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from processors.core.cep.expressions import Const, ExpressionError, Field, Op
from processors.core.cep.limits import ALL_OF_MAX, BRANCHES_MAX, GROUPS_DEPTH_MAX, NAME_CHARS_MAX, STAGES_MAX, WITHIN_MS_MAX
from processors.core.cep.model import Definition, Pattern, Skip, Stage, Times, stages_in
from tests.processors.core.cep.strategies import definitions

A = {"name": "a"}


@settings(max_examples=200)
@given(definitions)
def test_data_is_an_inverse(definition: Definition) -> None:
    """A definition stored as JSON and read again is the same definition, and says nothing that is a default."""
    data = json.loads(json.dumps(definition.to_data()))
    assert Definition.model_validate(data) == definition
    assert Definition.model_validate(definition.model_dump()) == definition
    assert "description" not in data or definition.description


def test_everything_of_the_format_is_read() -> None:
    """Each key of the case format has its place in the model."""
    pattern = Pattern.model_validate(
        {
            "stages": [
                {"name": "start", "where": {"op": "==", "args": [{"field": "name"}, "a"]}},
                {
                    "name": "not c",
                    "contiguity": "relaxed",
                    "negated": True,
                    "where": "name == 'c'",
                },
                {
                    "group": [A, {"name": "b*", "contiguity": "any"}],
                    "contiguity": "strict",
                    "times": {"min": 0, "max": None, "within_ms": 5},
                    "optional": True,
                    "greedy": True,
                    "consecutive": True,
                    "allow_combinations": True,
                    "until": True,
                    "within_ms": 10,
                    "within": "previous_and_current",
                },
            ],
            "within_ms": 100,
            "within": "first_and_last",
            "skip": {"strategy": "to_first", "stage": "a", "throw_on_miss": True},
        }
    )
    start, negated, group = pattern.stages
    assert start.where == Op("==", (Field("name"), Const("a")))
    assert negated.where == Op("==", (Field("name"), Const("c")))
    assert group.times == Times(min=0, within_ms=5)
    assert group.until == Const(True)
    assert [stage.name for stage in stages_in(pattern.stages)] == ["start", "not c", None, "a", "b*"]
    assert pattern.skip == Skip(strategy="to_first", stage="a", throw_on_miss=True)


def test_short_spellings() -> None:
    """A skip strategy may be its name alone, and a branch of one stage may stand without the list."""
    pattern = Pattern.model_validate({"stages": [{"any_of": [A, [{"name": "b"}]]}], "skip": "past_last"})
    assert pattern.skip == Skip(strategy="past_last")
    assert pattern.stages[0].any_of == ((Stage(name="a"),), (Stage(name="b"),))


def test_what_the_compiler_judges_has_a_shape() -> None:
    """What Flink refuses for its meaning is left to the compiler, so that it is one kind of error."""
    for stage in (
        {"name": "a", "greedy": True},
        {"name": "a", "until": "x == 1"},
        {"name": "a", "times": {"min": 3, "max": 2}},
        {"name": "a", "times": {"min": 0, "max": 0}},
        {"name": "a", "optional": True, "consecutive": True},
    ):
        Pattern.model_validate({"stages": [stage, A]})


def _nested(depth: int) -> dict[str, Any]:
    stage: dict[str, Any] = dict(A)
    for _ in range(depth - 1):
        stage = {"group": [stage]}
    return {"stages": [stage]}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"stages": []}, "at least 1 item"),
        ({}, "Field required"),
        ({"stages": [A], "stage": 1}, "Extra inputs"),
        ({"stages": [{}]}, "this has none of them"),
        ({"stages": [{"name": "a", "group": [A]}]}, "this has 'name' and 'group'"),
        ({"stages": [{"group": [A], "any_of": [A, A]}]}, "this has 'group' and 'any_of'"),
        ({"stages": [{"group": [A], "where": "x == 1"}]}, "'group' has no condition of its own"),
        ({"stages": [{"name": "a", "negated": True}]}, "the first stage cannot be negated"),
        ({"stages": [A, {"group": [{"name": "b", "negated": True}]}]}, "the first stage cannot be negated"),
        ({"stages": [A, {"any_of": [A, {"name": "b", "negated": True}]}]}, "the first stage cannot be negated"),
        ({"stages": [A, {"group": [A], "negated": True}]}, "'group' cannot be negated"),
        ({"stages": [A, {"name": "b", "negated": True, "contiguity": "any"}]}, "never 'any'"),
        ({"stages": [{"all_of": [A, {"name": "b", "times": {"min": 2}}]}]}, "'name' and 'where', nothing else"),
        ({"stages": [{"all_of": [A, {"name": "b", "contiguity": "relaxed"}]}]}, "'name' and 'where', nothing else"),
        ({"stages": [{"all_of": [A]}]}, "at least 2 items"),
        ({"stages": [{"all_of": [{"name": str(n)} for n in range(ALL_OF_MAX + 1)]}]}, "at most 6 items"),
        ({"stages": [{"any_of": [A]}]}, "at least 2 items"),
        ({"stages": [{"any_of": [A, []]}]}, "at least 1 item"),
        ({"stages": [{"any_of": [A] * (BRANCHES_MAX + 1)}]}, "at most 32 items"),
        ({"stages": [A] * (STAGES_MAX + 1)}, "at most 100 items"),
        ({"stages": [{"group": [A] * 60}, {"group": [A] * 60}]}, "the pattern has 122 stages, at most 100"),
        (_nested(GROUPS_DEPTH_MAX + 1), "groups nest deeper than 8"),
        ({"stages": [{"name": ""}]}, "at least 1 character"),
        ({"stages": [{"name": " "}]}, "not only blanks"),
        ({"stages": [{"name": "a\n"}]}, "printable"),
        ({"stages": [{"name": "a:b"}]}, "no ':'"),
        ({"stages": [{"name": "x" * (NAME_CHARS_MAX + 1)}]}, "at most 100 characters"),
        ({"stages": [{"name": 5}]}, "valid string"),
        ({"stages": [{"name": "a", "optional": 1}]}, "valid boolean"),
        ({"stages": [{"name": "a", "times": {"min": True}}]}, "valid integer"),
        ({"stages": [{"name": "a", "times": {"max": 1}}]}, "Field required"),
        ({"stages": [{"name": "a", "times": {"min": -1}}]}, "greater than or equal to 0"),
        ({"stages": [{"name": "a", "times": {"min": 1, "max": 1001}}]}, "less than or equal to 1000"),
        ({"stages": [{"name": "a", "times": {"min": 1, "within_ms": 0}}]}, "greater than or equal to 1"),
        ({"stages": [A], "within_ms": 0}, "greater than or equal to 1"),
        ({"stages": [A], "within_ms": 1.5}, "valid integer"),
        ({"stages": [A], "within_ms": WITHIN_MS_MAX + 1}, "less than or equal to"),
        ({"stages": [A], "within": "5m"}, "first_and_last"),
        ({"stages": [A], "skip": "past"}, "past_last"),
        ({"stages": [A], "skip": "to_first"}, "needs 'stage'"),
        ({"stages": [{"name": "a", "where": "x = 1"}]}, "column 3: write '=='"),
        ({"stages": [{"name": "a", "where": {"op": "nor"}}]}, "op: no operator 'nor'"),
    ],
)
def test_impossible_shapes_are_refused(data: dict[str, Any], reason: str) -> None:
    """What the format cannot say is no pattern, and the error says why."""
    with pytest.raises(ValidationError) as caught:
        Pattern.model_validate(data)
    assert reason in str(caught.value)


def test_limits_are_inclusive() -> None:
    """The largest of everything is allowed."""
    Pattern.model_validate(_nested(GROUPS_DEPTH_MAX))
    assert len(Pattern.model_validate({"stages": [A] * STAGES_MAX, "within_ms": WITHIN_MS_MAX}).stages) == STAGES_MAX
    assert Times(min=1000, max=1000).max == 1000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"name": "a b"}, "letters, digits"),
        ({"name": "-a"}, "begins with a letter or digit"),
        ({"name": "a\n"}, "letters, digits"),
        ({"topics": ["a b"]}, "1 to 249 letters"),
        ({"topics": [".."]}, "1 to 249 letters"),
        ({"topics": ["t"] * 21}, "at most 20 items"),
        ({"key": ""}, "at least 1 character"),
        ({"types": ["a\tb"]}, "printable"),
        ({"disorder_ms": -1}, "greater than or equal to 0"),
        ({"idle_after_ms": 0}, "greater than or equal to 1"),
        ({"partial_matches_max": 100_001}, "less than or equal to 100000"),
        ({"on_replace": "drop"}, "'drain' or 'restart'"),
    ],
)
def test_a_definition_has_bounds(data: dict[str, Any], reason: str) -> None:
    """Names, topics and numbers that could not run are refused."""
    with pytest.raises(ValidationError) as caught:
        Definition.model_validate({"name": "a", "pattern": {"stages": [A]}} | data)
    assert reason in str(caught.value)


def test_cases_have_literals() -> None:
    """In a case a bare string is a literal, at every level, and whole numbers beyond 2^53 are doubles."""
    stage = {"name": "a", "where": "name == 'a'"}
    other = {"name": "b", "times": {"min": 1}, "until": {"op": "==", "args": [{"field": "n"}, (1 << 53) + 1]}}
    pattern = Pattern.from_case({"stages": [stage, {"group": [stage]}, {"any_of": [stage, [other]]}, {"all_of": [stage, stage]}]})
    wheres = [s.where for s in stages_in(pattern.stages) if s.name == "a"]
    assert wheres == [Const("name == 'a'")] * 5
    (until,) = [s.until for s in stages_in(pattern.stages) if s.name == "b"]
    assert until == Op("==", (Field("n"), Const(float(1 << 53))))
    with pytest.raises(ExpressionError):
        Pattern.from_case({"stages": [{"name": "a", "where": {"op": "nor"}}]})
    with pytest.raises(ValidationError):
        Pattern.from_case({"stages": 5})
    with pytest.raises(ValidationError):
        Pattern.from_case({})


def test_trees_made_by_hand_keep_the_limits() -> None:
    """A tree that no reader would have made is refused where it enters a stage."""
    with pytest.raises(ValidationError, match="takes 2 arguments"):
        Stage(name="a", where=Op("==", (Const(1),)))


def test_models_are_frozen() -> None:
    """A pattern cannot be changed once it exists."""
    stage = Stage(name="a")
    with pytest.raises(ValidationError):
        stage.name = "b"  # type: ignore[misc]
    assert hash(stage) == hash(Stage(name="a"))
