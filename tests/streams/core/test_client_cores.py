"""The pure parts under the client: acknowledgements, patterns, pace, merging, comparison, memory of requests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.acks import AckWindow
from streams.core.comparison import compare
from streams.core.dedupe import Recent
from streams.core.merging import Merge
from streams.core.pace import FLAT_OUT, Pace, Progress
from streams.core.patterns import TopicPattern
from streams.errors import SettingsError


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.data())
def test_the_position_is_always_the_first_offset_that_is_not_done(gaps: list[int], data: st.DataObject) -> None:
    """Against a dumb oracle, for any order of acks, with gaps and repeated acks."""
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    window = AckWindow(-1)
    for offset in offsets:
        window.take(offset)
    done: set[int] = set()
    for offset in data.draw(st.lists(st.sampled_from(offsets), max_size=120)):
        before = window.position
        moved = window.ack(offset)
        done.add(offset)
        left = [one for one in offsets if one not in done]
        assert window.unacked == len(left)
        first = next((n for n, one in enumerate(offsets) if one not in done), len(offsets))
        assert window.position == (offsets[0] if first == 0 else offsets[first - 1] + 1)
        assert moved == (window.position != before)


def test_patterns_are_names_globs_or_expressions() -> None:
    """Each form matches what it says, hidden topics only by name, and nonsense is refused with what is allowed."""
    assert TopicPattern.parse("a.b").matches("a.b")
    assert not TopicPattern.parse("a.b").matches("aXb")
    assert TopicPattern.parse("agents.*").matches("agents.events.v2")
    assert not TopicPattern.parse("agents.*").matches("agents")
    assert TopicPattern.parse(r"^a\.(x|y)$").matches("a.y")
    assert not TopicPattern.parse("*").matches("__consumer_offsets")
    for wrong in ("", "a b", "^(", "x" * 2_000):
        with pytest.raises(SettingsError):
            TopicPattern.parse(wrong)


def test_pace_follows_the_records_time_and_never_goes_back() -> None:
    """Gaps shrink by the speed and end at their longest; an earlier timestamp is due at once; flat out never waits."""
    pace = Pace(10, gap_ms_max=1_000)
    assert pace.wait_ms(5_000, 0) == 0
    assert pace.wait_ms(6_000, 0) == 100
    assert pace.wait_ms(5_500, 100) == 0
    assert pace.wait_ms(60_000, 100) == 1_000
    assert Pace(FLAT_OUT).wait_ms(10**12, 0) == 0


def test_progress_knows_its_share_and_what_is_left() -> None:
    """Half done in two seconds leaves two; nothing to do is done; nothing done yet has no estimate."""
    assert (Progress(50, 100, 50, 2.0).share, Progress(50, 100, 50, 2.0).eta_s) == (0.5, 2.0)
    assert (Progress(0, 0, 0, 0.0).share, Progress(0, 0, 0, 0.0).eta_s) == (1.0, 0.0)
    assert Progress(0, 5, 0, 1.0).eta_s is None


@dataclass(frozen=True)
class Timed:
    timestamp: int
    lane: tuple[str, int]
    number: int


@given(st.lists(st.lists(st.integers(0, 20), max_size=10), min_size=1, max_size=4))
def test_merging_keeps_each_partition_and_orders_time_across_them(lanes: list[list[int]]) -> None:
    """Everything comes out once; inside a partition the order stays; sorted partitions give a sorted whole."""
    places = [("t", n) for n in range(len(lanes))]
    merge: Merge[Timed] = Merge(places)
    out: list[Timed] = []
    ended: set[tuple[str, int]] = set()
    for place, times in zip(places, lanes, strict=True):
        for number, at in enumerate(times):
            merge.add(place, Timed(at, place, number))
            out += merge.ready(ended)
        ended.add(place)
        if not merge.held(place):
            merge.end(place)
        out += merge.ready(ended)
    assert len(out) == sum(map(len, lanes))
    for place in places:
        assert [one.number for one in out if one.lane == place] == list(range(len(lanes[place[1]])))
    if all(times == sorted(times) for times in lanes):
        assert [one.timestamp for one in out] == sorted(one.timestamp for one in out)


def test_comparison_is_of_what_is_stored() -> None:
    """A tuple equals its list, an int does not equal its float or a bool, and the first difference is the smallest."""
    assert compare({0: {("a", 1): (1, 2)}}, {0: {("a", 1): [1, 2]}, 1: {}}).equal
    assert not compare({0: {"a": 1}}, {0: {"a": 1.0}}).equal
    assert not compare({0: {"a": 1}}, {0: {"a": True}}).equal
    found = compare({0: {"a": 1, "b": 2}}, {0: {"a": 1, "c": 3}, 2: {"z": 0}})
    assert (found.differences, found.count) == (3, 4)
    assert str(found.first_difference) == 'partition 0, key "b": live has 2, rebuilt has nothing'


def test_what_was_seen_lately_is_bounded_in_number_and_age() -> None:
    """The oldest goes first, and nothing outlives its age."""
    recent: Recent[int] = Recent(size_max=2, age_ms_max=100)
    for n in range(3):
        recent.put(str(n), n, 10 * n)
    assert [recent.get(str(n), 20) for n in range(3)] == [None, 1, 2]
    assert recent.get("1", 111) is None
    assert len(recent) == 1
