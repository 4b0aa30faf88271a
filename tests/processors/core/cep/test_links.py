"""Patterns that cannot mean anything are refused, with the place and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from processors.core.cep.automaton import PatternError
from processors.core.cep.engine import compile_pattern
from processors.core.cep.model import Pattern

A = {"name": "a", "where": "kind == 'a'"}
B = {"name": "b", "where": "kind == 'b'", "contiguity": "relaxed"}
NOT_B = {**B, "negated": True}


def compiled(*stages: dict[str, Any], **more: Any) -> Any:
    """The automaton of a pattern as data."""
    return compile_pattern(Pattern.model_validate({"stages": list(stages), **more}))


@pytest.mark.parametrize(
    ("stages", "more", "place", "advice"),
    [
        ([{**A, "optional": True}, NOT_B, {**B, "name": "c"}], {}, "b", "two patterns"),
        ([A, {**NOT_B, "times": {"min": 2, "max": 2}}, {**B, "name": "c"}], {}, "b", "take `times` off"),
        ([A, {**NOT_B, "optional": True}, {**B, "name": "c"}], {}, "b", "take `optional` off"),
        ([{**A, "times": {"min": 2, "max": None}, "greedy": True}, {**B, "optional": True}], {}, "b", "greedy"),
        ([{**A, "times": {"min": 0, "max": None}, "optional": True}, B], {}, "a", "said twice"),
        ([{**A, "consecutive": True}, B], {}, "a", "give the stage `times`"),
        ([{**A, "allow_combinations": True}, B], {}, "a", "give the stage `times`"),
        (
            [{**A, "times": {"min": 1, "max": None}, "consecutive": True, "allow_combinations": True}, B],
            {},
            "a",
            "exclude each other",
        ),
        ([{**A, "greedy": True}, B], {}, "a", "give it `times`"),
        (
            [{**A, "times": {"min": 1, "max": None}, "allow_combinations": True, "greedy": True}, B],
            {},
            "a",
            "exclude each other",
        ),
        ([{**A, "times": {"min": 2, "max": 3}, "until": "kind == 'x'"}, B], {}, "a", "without an upper bound"),
        ([A, {**B, "name": "a"}], {}, "a", "every name must be another"),
        ([A, {"group": [{**B, "name": "a"}], "contiguity": "relaxed"}], {}, "a", "every name must be another"),
        ([A, NOT_B], {}, "b", "until when?"),
        ([A, B], {"skip": {"strategy": "to_first", "stage": "z"}}, "skip", "a, b"),
        ([A, {**B, "within_ms": 50, "within": "previous_and_current"}], {"within_ms": 10}, "b", "shorten the first"),
        (
            [A, {"any_of": [[{"name": "x", "optional": True}, {"name": "y"}], [{"name": "z"}]], "contiguity": "relaxed"}],
            {},
            "any_of",
            "optional",
        ),
        (
            [A, {"any_of": [[{"name": "x"}, {**NOT_B}], [{"name": "z"}]], "contiguity": "relaxed"}],
            {},
            "any_of",
            "after the alternation",
        ),
    ],
)
def test_a_pattern_without_a_meaning_is_refused(stages: list[Any], more: dict[str, Any], place: str, advice: str) -> None:
    """The error names the stage and says what to change."""
    with pytest.raises(PatternError) as caught:
        compiled(*stages, **more)
    assert caught.value.where == place
    assert advice in str(caught.value)
    assert caught.value.fault == "caller"


def test_a_counted_loop_of_a_thousand_is_allowed_and_more_states_are_not() -> None:
    """The number of states is bounded, and the bound leaves room for the longest loop."""
    assert len(compiled({**A, "times": {"min": 1000, "max": 1000}}, B).states) > 1000
    with pytest.raises(PatternError, match="states"):
        compiled({**A, "times": {"min": 1, "max": 1000}}, {**B, "times": {"min": 1, "max": 1000}})


def test_an_unbounded_wait_is_a_warning() -> None:
    """Without a window a relaxed wait never ends: the author is told which stage, and what to add."""
    (warning,) = compiled(A, B).warnings
    assert "wait for b" in warning
    assert "`within`" in warning
    assert compiled(A, B, within_ms=1000).warnings == ()
    assert compiled(A, {**B, "contiguity": "strict"}).warnings == ()


def test_a_step_window_bounds_the_wait_of_its_stage_only() -> None:
    """A stage with a window of its own does not wait for ever, the next one without does."""
    stepped = {**B, "within_ms": 10, "within": "previous_and_current"}
    assert compiled(A, stepped).warnings == ()
    (warning,) = compiled(A, stepped, {"name": "c", "contiguity": "relaxed"}).warnings
    assert "wait for c" in warning


def test_combinations_in_a_loop_are_a_warning() -> None:
    """A loop that also skips what fits doubles its partial matches with every event."""
    loop = {**A, "times": {"min": 1, "max": None}, "allow_combinations": True}
    assert any("doubles" in warning for warning in compiled(loop, B, within_ms=10).warnings)


def test_a_pattern_that_matches_nothing_is_a_warning() -> None:
    """A pattern that no event can be part of is allowed, and its author told."""
    (warning,) = compiled({"name": "a", "where": {"const": False}}, B, within_ms=5).warnings
    assert "matches nothing" in warning


def test_a_window_of_nothing_is_none_in_flinks_cases_and_a_mistake_elsewhere() -> None:
    """Flink takes a window of 0 ms for no window, and the smallest counts; people are told that it is none."""
    data = {"stages": [{"name": "a"}, {"name": "b", "within_ms": 5}], "within_ms": 0}
    assert compile_pattern(Pattern.from_case(data)).window_ms == 0
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Pattern.model_validate(data)
