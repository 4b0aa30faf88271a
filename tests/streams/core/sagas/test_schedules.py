"""When sagas start by themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.sagas.definition import Schedule
from streams.core.sagas.schedules import next_ms, start_id, why_wrong


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def times(schedule: Schedule, after: str, count: int) -> list[str]:
    """The next times, as UTC."""
    found: list[str] = []
    at: int | None = ms(after)
    while at is not None and len(found) < count:
        at = next_ms(schedule, at)
        if at is not None:
            found.append(datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="minutes").removesuffix("+00:00"))
    return found


def test_at_is_once() -> None:
    """A time is the next until it has come, and then there is none."""
    schedule = Schedule(name="a", at="2027-01-01T09:00:00+01:00")
    assert times(schedule, "2026-06-01T00:00:00+00:00", 3) == ["2027-01-01T08:00"]
    assert next_ms(schedule, ms("2027-01-01T08:00:00+00:00")) is None


@given(st.integers(1_000, 10**9), st.integers(0, 4 * 10**12))
def test_every_is_counted_from_1970(every_ms: int, after_ms: int) -> None:
    """The next time is later, a multiple, and not more than one period away: all agree on it, whenever they ask."""
    found = next_ms(Schedule(name="a", every_ms=every_ms), after_ms)
    assert found is not None
    assert after_ms < found <= after_ms + every_ms
    assert found % every_ms == 0


def test_cron_counts_by_the_clock_of_its_zone() -> None:
    """Nine in the morning is another time in summer than in winter."""
    schedule = Schedule(name="a", cron="0 9 * * mon-fri", zone="Europe/Berlin")
    assert times(schedule, "2026-03-26T10:00:00+00:00", 3) == ["2026-03-27T08:00", "2026-03-30T07:00", "2026-03-31T07:00"]


def test_a_skipped_time_counts_once_and_later() -> None:
    """At 02:30 on the day on which clocks go from 02:00 to 03:00, a daily saga starts at 03:30."""
    schedule = Schedule(name="a", cron="30 2 * * *", zone="Europe/Berlin")
    assert times(schedule, "2026-03-28T03:00:00+00:00", 2) == ["2026-03-29T01:30", "2026-03-30T00:30"]
    assert times(schedule, "2026-03-29T01:10:00+00:00", 1) == ["2026-03-29T01:30"]
    hourly = Schedule(name="a", cron="0 * * * *", zone="Europe/Berlin")
    assert times(hourly, "2026-03-29T00:00:00+00:00", 2) == ["2026-03-29T01:00", "2026-03-29T02:00"]


def test_a_time_that_comes_twice_counts_once() -> None:
    """At 02:30 on the day on which clocks go from 03:00 back to 02:00, a daily saga starts the first time only."""
    schedule = Schedule(name="a", cron="30 2 * * *", zone="Europe/Berlin")
    assert times(schedule, "2026-10-24T23:00:00+00:00", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert times(schedule, "2026-10-25T01:15:00+00:00", 1) == ["2026-10-26T01:30"]


@settings(max_examples=60)
@given(
    st.sampled_from(
        ["*/7 * * * *", "30 2 * * *", "0 */3 * * *", "15 1-3 * 3,10 sun", "0 0 29 2 *", "5 4 l * *", "0 12 * * fri#2"]
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001
)
def test_cron_goes_forward_and_misses_nothing(cron: str, zone: str, begin: datetime) -> None:
    """Each time is later than the one before, and asking from any moment in between gives the same next time."""
    schedule = Schedule(name="a", cron=cron, zone=zone)
    after = round(begin.replace(tzinfo=UTC).timestamp() * 1000)
    first = next_ms(schedule, after)
    assert first is not None
    assert first > after
    second = next_ms(schedule, first)
    assert second is not None
    assert second > first
    assert next_ms(schedule, (after + first) // 2) == first or (after + first) // 2 == first
    assert next_ms(schedule, first - 1) == first
    local = datetime.fromtimestamp(first / 1000, UTC).astimezone(ZoneInfo(zone))
    assert local.second == 0


@pytest.mark.parametrize(
    ("schedule", "attribute", "words"),
    [
        ({"cron": "0 0 30 2 *"}, "cron", "never fires"),
        ({"cron": "0 0 31 4,6,9,11 *"}, "cron", "never fires"),
        ({"cron": "* * * *"}, "cron", "five fields"),
        ({"cron": "* * * * * *"}, "cron", "five fields"),
        ({"cron": "R * * * *"}, "cron", "field 1, 'r'"),
        ({"cron": "H * * * *"}, "cron", "field 1, 'h'"),
        ({"cron": "0 0 * foo *"}, "cron", "field 4"),
        ({"cron": "60 0 * * *"}, "cron", "no cron line"),
        ({"cron": "0 0 * * *", "zone": "../etc"}, "zone", "no time zone"),
        ({"cron": "0 0 * * *", "zone": ""}, "zone", "no time zone"),
        ({"at": "2027-01-01T09:00:00"}, "at", "with the offset"),
        ({"at": "tomorrow"}, "at", "with the offset"),
        ({"at": "0001-01-01T00:00:00+05:00"}, "at", "from 1970 on"),
        ({"every_ms": -1}, "every_ms", "longer than nothing"),
        ({}, "name", "exactly one"),
        ({"every_ms": 5, "at": "2027-01-01T09:00:00Z"}, "every_ms", "exactly one"),
    ],
)
def test_what_has_no_times(schedule: dict[str, Any], attribute: str, words: str) -> None:
    """A schedule that cannot have a time says which attribute is wrong, and why."""
    found, reason = why_wrong(Schedule(name="a", **schedule))
    assert found == attribute
    assert words in reason


@settings(max_examples=200)
@given(st.text(alphabet="0123456789*/,-#lLmonjan? ", max_size=25), st.text(max_size=5), st.integers(-(10**15), 10**15))
def test_any_line_has_times_or_is_refused(cron: str, at: str, after_ms: int) -> None:
    """Nothing else is raised, whatever is written; and what is not refused has a next time, or none."""
    for schedule in (Schedule(name="a", cron=cron), Schedule(name="a", at=at), Schedule(name="a", every_ms=after_ms)):
        if why_wrong(schedule) == ("", ""):
            found = next_ms(schedule, after_ms)
            assert found is None or found > after_ms


def test_the_29th_of_february_on_a_monday_fires() -> None:
    """What is rare is not refused."""
    schedule = Schedule(name="a", cron="0 0 29 2 *")
    assert times(schedule, "2026-01-01T00:00:00+00:00", 2) == ["2028-02-29T00:00", "2032-02-29T00:00"]


def test_what_a_time_starts_has_one_id() -> None:
    """Two workers that start the saga of one time name it alike."""
    schedule = Schedule(name="nightly", cron="0 0 * * *")
    assert start_id("trip", schedule, 5) == start_id("trip", schedule, 5) == "trip/nightly/5"
