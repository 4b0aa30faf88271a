"""Alternation and all-of, which Flink does not have: what they mean, and that both backends agree."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors.core.cep.streams import BACKENDS, Backend, feed, member, pattern, run, spelled, stage

KINDS = st.lists(st.sampled_from("abcx"), max_size=9)


def _stream(kinds: list[str]) -> list[dict[str, object]]:
    return feed(" ".join(f"{kind}{at}" for at, kind in enumerate(kinds, 1)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_alternation_takes_the_first_branch_that_comes(backend: Backend) -> None:
    """Relaxed, the wait ends with the first event that begins any branch, and the branch is told by its stage's name."""
    either = {"any_of": [stage("b"), stage("c")], "contiguity": "relaxed"}
    out = run(pattern(stage("a"), either), feed("a1 x2 c3 b4"), backend)
    assert [sorted(match.stages) for match in out.matches] == [["a", "c"]]
    assert spelled(out) == ["a1.1 c3.3"]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=60)
@given(KINDS)
def test_an_alternation_of_single_stages_is_one_stage_with_either_condition(backend: Backend, kinds: list[str]) -> None:
    """`A | B` of disjoint stages matches what one stage with both conditions matches, for every contiguity."""
    for contiguity in ("strict", "relaxed", "any"):
        either = {"any_of": [stage("b"), stage("c")], "contiguity": contiguity}
        one = stage("bc", "bc", contiguity)
        events = _stream(kinds)
        for more in ({}, {"within_ms": 4}):
            left = run(pattern(stage("a"), either, stage("x"), **more), events, backend)
            right = run(pattern(stage("a"), one, stage("x"), **more), events, backend)
            assert spelled(left) == spelled(right)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=60)
@given(KINDS)
def test_a_repeated_alternation_is_a_repeated_stage_with_either_condition(backend: Backend, kinds: list[str]) -> None:
    """With `times` an alternation loops like the stage that has both conditions."""
    times = {"min": 1, "max": 3}
    either = {"any_of": [stage("b"), stage("c")], "contiguity": "relaxed", "times": times}
    one = {"group": [stage("bc", "bc")], "contiguity": "relaxed", "times": times}
    events = _stream(kinds)
    assert spelled(run(pattern(stage("a"), either), events, backend)) == spelled(run(pattern(stage("a"), one), events, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_branches_may_be_sequences_with_negations_inside(backend: Backend) -> None:
    """A branch is a sequence like any other: here b then c without x in between, or d."""
    either = {
        "any_of": [[stage("b"), stage("x", negated=True), stage("c")], [stage("d")]],
        "contiguity": "relaxed",
        "optional": True,
    }
    found = pattern(stage("a"), either, stage("e"))
    assert spelled(run(found, feed("a1 b2 c3 e4"), backend)) == ["a1.1 b2.2 c3.3 e4.4", "a1.1 e4.4"]
    assert spelled(run(found, feed("a1 b2 x3 c4 e5"), backend)) == ["a1.1 e5.5"]
    assert spelled(run(found, feed("a1 d2 e3"), backend)) == ["a1.1 d2.2 e3.3", "a1.1 e3.3"]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=60)
@given(KINDS)
def test_all_of_at_the_beginning_is_every_order(backend: Backend, kinds: list[str]) -> None:
    """At the beginning, all-of finds what the patterns of all its orders find together, each once.

    Relaxed, that is so for two: with a third the wait ends with whichever comes first, not with the next of one order.
    """
    events = _stream(kinds)
    for names, contiguity, more in (
        ("ab", "relaxed", {}),
        ("abc", "strict", {"consecutive": True}),
        ("abc", "any", {"allow_combinations": True}),
    ):
        together = run(pattern({"all_of": [member(name) for name in names], **more}, stage("x"), within_ms=6), events, backend)
        apart = [
            match
            for order in permutations(names)
            for match in spelled(
                run(pattern(*(stage(kind, None, contiguity) for kind in order), stage("x"), within_ms=6), events, backend)
            )
        ]
        assert spelled(together) == sorted(apart)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_of_after_a_stage_takes_what_comes_in_the_order_it_comes(backend: Backend) -> None:
    """Each member is taken once, whichever comes first; a second event of a kind that is there already is ignored."""
    found = pattern(stage("a"), {"all_of": [member("b"), member("c")], "contiguity": "relaxed"})
    assert spelled(run(found, feed("a1 c2 c3 x4 b5"), backend)) == ["a1.1 c2.2 b5.5"]
    strict = pattern(stage("a"), {"all_of": [member("b"), member("c")], "contiguity": "strict", "consecutive": True})
    assert spelled(run(strict, feed("a1 c2 b3 a4 b5 x6 c7"), backend)) == ["a1.1 c2.2 b3.3"]
