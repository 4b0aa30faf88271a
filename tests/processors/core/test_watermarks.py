"""Watermarks against a dumb oracle that looks at the whole list of records, and the named situations one by one."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core import watermarks
from processors.core.watermarks import BEGINNING, TIME_MAX, Bounds, Verdict, Watermarks, is_time

A, B, C = "a/0", "b/0", "c/0"
NOW = 1_000_000


def _bounds(**given: object) -> Bounds:
    return Bounds(**{"disorder_ms": 10, "idle_after_ms": 1000, "ahead_max_ms": None, **given})  # type: ignore[arg-type]


def test_the_watermark_follows_the_largest_ts_by_the_disorder() -> None:
    """It is the largest ts less the disorder less one, after each record."""
    marks = Watermarks(_bounds())
    seen = []
    for ts in (100, 105, 90, 120):
        marks.observe(A, ts, NOW)
        seen.append(marks.mark)
    assert seen == [89, 94, 94, 109]


def test_late_begins_at_the_watermark() -> None:
    """An event at the watermark is late, one a millisecond after it is in time."""
    marks = Watermarks(_bounds())
    marks.observe(A, 100, NOW)
    assert marks.observe(A, 89, NOW) is Verdict.LATE
    assert marks.observe(A, 90, NOW) is Verdict.IN_TIME


def test_the_slowest_source_holds_time() -> None:
    """Of several sources the one that is furthest behind decides."""
    marks = Watermarks(_bounds())
    marks.observe(B, 50, NOW)
    marks.observe(A, 500, NOW)
    assert marks.mark == 39
    marks.observe(B, 70, NOW)
    assert marks.mark == 59


def test_an_announced_source_holds_time_until_it_is_idle() -> None:
    """A source that has not spoken keeps the beginning of time for `idle_after_ms`, and not longer."""
    marks = Watermarks(_bounds())
    marks.expect([A, B], NOW)
    marks.observe(A, 500, NOW)
    assert marks.mark == BEGINNING
    marks.observe(A, 501, NOW + 999)
    assert marks.mark == BEGINNING
    marks.observe(A, 502, NOW + 1000)
    assert marks.mark == 491


def test_a_source_that_returns_from_idleness_holds_time_again() -> None:
    """Its old records are late, and from its next one in time it is waited for again."""
    marks = Watermarks(_bounds())
    marks.observe(A, 100, NOW)
    marks.observe(B, 100, NOW)
    marks.observe(A, 500, NOW + 1000)
    assert marks.mark == 489
    assert marks.observe(B, 200, NOW + 1001) is Verdict.LATE
    marks.observe(A, 900, NOW + 1001)
    assert marks.mark == 489
    assert marks.observe(B, 600, NOW + 1001) is Verdict.IN_TIME
    assert marks.mark == 589


def test_when_all_are_idle_the_greatest_counts() -> None:
    """Nobody holds time back then, so it goes to the furthest source."""
    marks = Watermarks(_bounds())
    marks.observe(B, 100, NOW)
    marks.observe(A, 500, NOW)
    assert marks.tick(NOW + 999) == 89
    assert marks.tick(NOW + 1000) == 489


def test_a_source_with_unread_records_is_not_idle() -> None:
    """What waits to be read is waited for, and the silence counts anew from then."""
    marks = Watermarks(_bounds())
    marks.observe(B, 100, NOW)
    marks.observe(A, 500, NOW)
    assert marks.tick(NOW + 1000, behind=[B]) == 89
    assert marks.tick(NOW + 1999, behind=()) == 89
    assert marks.tick(NOW + 2000) == 489


def test_silence_counts_from_when_somebody_listens() -> None:
    """After a restart what waits in the log has the whole time to be read, and asking twice changes nothing."""
    marks = Watermarks(_bounds())
    marks.observe(B, 100, NOW)
    marks.observe(A, 500, NOW)
    for later in (5000, 5500, 5999):
        assert marks.tick(NOW + later, listening_since_ms=NOW + 5000) == 89
    assert marks.tick(NOW + 6000, listening_since_ms=NOW + 5000) == 489


def test_without_idleness_a_silent_source_stops_time() -> None:
    """With `idle_after_ms=None` the wall clock has no say."""
    marks = Watermarks(_bounds(idle_after_ms=None))
    marks.observe(B, 100, NOW)
    marks.observe(A, 500, NOW)
    assert marks.tick(NOW + 10**9) == 89
    assert marks.reaches(90, NOW) is None


def test_a_clock_far_ahead_moves_nothing() -> None:
    """What is ahead leaves the watermark alone, and the limit itself is still allowed."""
    marks = Watermarks(_bounds(ahead_max_ms=100))
    assert marks.observe(A, NOW + 101, NOW) is Verdict.AHEAD
    assert marks.mark == BEGINNING
    assert marks.observe(A, NOW + 100, NOW) is Verdict.IN_TIME
    assert marks.mark == NOW + 89


def test_a_source_with_a_broken_clock_only_becomes_idle() -> None:
    """Its records are no sign of life, so it does not hold time back for ever."""
    marks = Watermarks(_bounds(ahead_max_ms=100))
    marks.expect([A, B], NOW)
    marks.observe(A, NOW, NOW)
    for later in (500, 1000):
        assert marks.observe(B, NOW + 10**6, NOW + later) is Verdict.AHEAD
        marks.observe(A, NOW + later, NOW + later)
    assert marks.mark == NOW + 989


def test_time_follows_the_wall_clock_once_all_are_idle() -> None:
    """With `follow_wall_clock` an absence is noticed though nothing comes, and not before the source is idle."""
    marks = Watermarks(_bounds(follow_wall_clock=True))
    marks.observe(A, NOW, NOW)
    assert marks.tick(NOW + 999) == NOW - 11
    assert marks.tick(NOW + 1000) == NOW + 989
    assert marks.tick(NOW + 5000) == NOW + 4989


def test_one_active_source_stops_the_wall_clock() -> None:
    """As long as anybody speaks, time is what the speakers say."""
    marks = Watermarks(_bounds(follow_wall_clock=True))
    marks.observe(A, 100, NOW)
    marks.observe(B, 200, NOW + 900)
    assert marks.tick(NOW + 1500) == 189


def test_the_wall_clock_needs_idleness() -> None:
    """Bounds that contradict themselves are refused with the reason."""
    with pytest.raises(ValueError, match="idle_after_ms is none"):
        Bounds(idle_after_ms=None, follow_wall_clock=True)
    with pytest.raises(ValueError, match="disorder_ms is -1"):
        Bounds(disorder_ms=-1)
    with pytest.raises(ValueError, match="idle_after_ms is 0"):
        Bounds(idle_after_ms=0)


def test_the_most_silent_source_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit on sources the one that spoke longest ago goes, and time stays."""
    monkeypatch.setattr(watermarks, "SOURCES_MAX", 2)
    marks = Watermarks(_bounds())
    marks.observe(A, 100, NOW)
    marks.observe(B, 300, NOW + 1)
    marks.observe(C, 400, NOW + 2)
    assert [one.source for one in marks.view(NOW).sources] == [B, C]
    assert marks.mark == 289


def test_what_can_be_a_time() -> None:
    """Whole milliseconds from 1970 on that JSON keeps exact."""
    assert is_time(0)
    assert is_time(TIME_MAX)
    assert not any(map(is_time, (-1, TIME_MAX + 1, True, 1.0, "1", None)))


def test_people_see_sources_that_have_not_spoken() -> None:
    """The view shows None for what is not known yet, and who is idle."""
    marks = Watermarks(_bounds())
    marks.expect([B], NOW - 1000)
    assert marks.view(NOW).watermark is None
    marks.observe(A, 100, NOW)
    shown = marks.view(NOW)
    assert shown.watermark == 89
    assert [tuple(one) for one in shown.sources] == [(A, 100, 89, NOW, False), (B, None, None, NOW - 1000, True)]


# ---- properties

_RECORD = st.tuples(st.sampled_from([A, B, C]), st.integers(0, 300), st.integers(0, 120))
_BOUNDS = st.builds(
    Bounds,
    disorder_ms=st.integers(0, 50),
    idle_after_ms=st.none() | st.integers(1, 300),
    ahead_max_ms=st.none() | st.integers(0, 250),
) | st.builds(Bounds, disorder_ms=st.integers(0, 50), idle_after_ms=st.integers(1, 300), follow_wall_clock=st.just(True))


def _oracle(records: list[tuple[str, int, int]], bounds: Bounds) -> list[tuple[Verdict, int]]:
    """Say for every record what it is and where time stands, each time from the whole list before it."""
    answers: list[tuple[Verdict, int]] = []
    mark = BEGINNING
    for n, (_, ts, now) in enumerate(records):
        heard = [r for r in records[: n + 1] if bounds.ahead_max_ms is None or r[1] <= r[2] + bounds.ahead_max_ms]
        largest = {s: max(r[1] for r in heard if r[0] == s) for s in {r[0] for r in heard}}
        silent = {s: now - max(r[2] for r in heard if r[0] == s) for s in largest}
        awake = [s for s in largest if bounds.idle_after_ms is None or silent[s] < bounds.idle_after_ms]
        if awake:
            found = min(largest[s] for s in awake)
        else:
            found = max(largest.values(), default=BEGINNING)
            if bounds.follow_wall_clock and largest:
                found = max(found, now)
        mark = max(mark, found - bounds.disorder_ms - 1)
        ahead = bounds.ahead_max_ms is not None and ts > now + bounds.ahead_max_ms
        answers.append((Verdict.AHEAD if ahead else Verdict.LATE if ts <= mark else Verdict.IN_TIME, mark))
    return answers


@settings(max_examples=300, deadline=None)
@given(st.lists(_RECORD, max_size=25), _BOUNDS, st.sets(st.integers(0, 25)))
def test_it_agrees_with_the_whole_list(gaps: list[tuple[str, int, int]], bounds: Bounds, cuts: set[int]) -> None:
    """Verdict and watermark are those of a look at all records so far, wherever the state is stored and loaded in between."""
    now, records = 0, []
    for source, ts, gap in gaps:
        now += gap
        records.append((source, ts, now))
    marks = Watermarks(bounds)
    answers = []
    for n, (source, ts, now) in enumerate(records):
        if n in cuts:
            marks = Watermarks.load(orjson.loads(orjson.dumps(marks.dump())), bounds)
        answers.append((marks.observe(source, ts, now), marks.mark))
    assert answers == _oracle(records, bounds)


@settings(max_examples=300, deadline=None)
@given(st.lists(_RECORD, min_size=1, max_size=15), _BOUNDS, st.integers(0, 700))
def test_it_knows_when_it_will_get_there(gaps: list[tuple[str, int, int]], bounds: Bounds, wanted: int) -> None:
    """`reaches` names the first wall time at which a tick is at the mark, and None where no time is."""
    marks = Watermarks(bounds)
    now = 0
    for source, ts, gap in gaps:
        now += gap
        marks.observe(source, ts, now)
    at = marks.reaches(wanted, now)
    stored = marks.dump()
    first = next((t for t in range(now, now + 2000) if Watermarks.load(stored, bounds).tick(t) >= wanted), None)
    assert at == first
