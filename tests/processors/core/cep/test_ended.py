"""What the last event of a key ended, and why: told by running the key's events once more."""

from __future__ import annotations

from typing import Any

import pytest

from processors.core.cep.explain import Ended, ended
from processors.core.cep.model import Pattern
from tests.processors.core.cep.streams import BACKENDS, Backend, feed, matcher, pattern, stage

GUARDED = pattern(stage("a"), stage("n", negated=True), stage("b"), within_ms=100)
PENDING = pattern(stage("a"), stage("n", negated=True), within_ms=100)


def _ended(found: Pattern, words: str, backend: Backend = "auto", clock_ms: int | None = None, **more: Any) -> list[Ended]:
    return list(ended(matcher(found, backend, **more), feed(words), clock_ms=clock_ms))


def _told(found: list[Ended]) -> list[tuple[str, str, int]]:
    return [(" ".join(e["id"] for events in one.stages.values() for e in events), one.how, one.at) for one in found]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_negation_that_came_true_is_named_with_its_condition_and_values(backend: Backend) -> None:
    """What must not come came: its stage, its condition, and what the event had."""
    (found,) = _ended(GUARDED, "a1 x2 n3", backend)
    assert _told([found]) == [("a1.1", "stopped", 3)]
    assert found.why == "'n' must not come and came: kind in ['n'] is true: kind is 'n'"
    assert (found.started, [event["id"] for event in found.stages["a"]]) == (1, ["a1.1"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_event_in_the_place_of_the_next_one_says_which_had_to_be(backend: Backend) -> None:
    """A strict stage is broken by any other event: the stage, and which part of its condition was false."""
    (found,) = _ended(pattern(stage("a"), stage("b", contiguity="strict")), "a1 x2", backend)
    assert found.how == "broken"
    assert found.why == "the event had to be the next one: for 'b' kind in ['b'] is false: kind is 'x'"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_window_that_ended_before_the_event_says_for_what_it_waited(backend: Backend) -> None:
    """The event came when the time was up: it counts for nothing, and the end is that of the window."""
    (found,) = _ended(pattern(stage("a"), stage("b"), within_ms=10), "a1 b11", backend)
    assert _told([found]) == [("a1.1", "timed out", 11)]
    assert found.why == "its window ended before 'b' came"


def test_a_window_between_two_events_ends_too() -> None:
    """The window of a single step counts from the event before."""
    (found,) = _ended(pattern(stage("a"), stage("b", within_ms=5, within="previous_and_current")), "a1 x9")
    assert _told([found]) == [("a1.1", "timed out", 6)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_that_passed_after_the_last_event_ends_what_its_window_bounds(backend: Backend) -> None:
    """The watermark went on without an event: what was open is told with its deadline, and only what is over."""
    assert _told(_ended(GUARDED, "a1 a50 x60", backend, clock_ms=101)) == [("a1.1", "timed out", 101)]
    assert _told(_ended(GUARDED, "a1 a50 x60", backend, clock_ms=100)) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_absence_that_was_waited_for_is_a_match_and_absence_that_was_not_is_stopped(backend: Backend) -> None:
    """At the end of a pattern the clock completes it, and the unwanted event ends it."""
    (found,) = _ended(PENDING, "a1 x2", backend, clock_ms=200)
    assert (found.how, found.at, found.why) == ("matched", 101, "what must not come ('n') did not come in time")
    assert _told(_ended(PENDING, "a1 n2", backend, clock_ms=200)) == [("a1.1", "stopped", 2)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_event_completed_is_told_as_a_match(backend: Backend) -> None:
    """A match is an end as well."""
    (found,) = _ended(pattern(stage("a"), stage("b")), "a1 b2", backend)
    assert (found.how, found.why) == ("matched", "the event completed it as 'b'")


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_goes_on_has_not_ended(backend: Backend) -> None:
    """Relaxed waiting, taking into a loop, and beginning anew end nothing."""
    assert _ended(GUARDED, "a1 x2", backend) == []
    assert _ended(pattern(stage("a", times={"min": 2, "max": None}), stage("b"), within_ms=100), "a1 a2 a3", backend) == []
    assert _ended(GUARDED, "a1", backend) == []


def test_what_a_match_skips_past_is_told() -> None:
    """A skip strategy takes other partial matches away with the match."""
    found = _ended(pattern(stage("a"), stage("c"), stage("b"), skip="past_last"), "a1 c2 a3 b4")
    assert _told(found) == [("a1.1 c2.2", "matched", 4), ("a3.3", "skipped", 4)]


def test_what_the_limit_evicts_is_told() -> None:
    """With too many partial matches of a key the oldest goes, and the limit is named."""
    (found,) = _ended(pattern(stage("a"), stage("b"), within_ms=100), "a1 a2 a3", partial_matches_max=2)
    assert (_told([found]), "more than 2 partial matches" in found.why) == ([("a1.1", "evicted", 3)], True)


def test_each_partial_match_has_its_own_reason() -> None:
    """Two partial matches of a key end differently with one event: one by its window, one by the negation."""
    assert _told(_ended(GUARDED, "a1 a50 n101")) == [("a1.1", "timed out", 101), ("a50.2", "stopped", 101)]


def test_skipping_to_a_stage_that_took_nothing_is_an_end_for_the_whole_key() -> None:
    """`throw_on_miss` is an error of the pattern: the worker drops the key's state, and the reason is told."""
    optional = pattern(
        stage("a"), stage("c", optional=True), stage("b"), skip={"strategy": "to_first", "stage": "c", "throw_on_miss": True}
    )
    (found,) = _ended(optional, "a1 b2")
    assert (found.how, "'c'" in found.why) == ("skipped", True)
