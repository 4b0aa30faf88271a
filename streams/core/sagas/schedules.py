"""When a saga starts by itself: `next_ms(schedule, after_ms)`.

=========  =====================================================================================================================
at         Once.
every_ms   At every multiple since 1970: all workers agree on the times, and a restart changes none.
cron       Five fields (minute, hour, day of the month, month, day of the week) in the schedule's time zone. Where both days are
           said, either counts, as cron does it.
=========  =====================================================================================================================

Where clocks are set: a time that there is twice counts once, the first; one that is skipped counts as late as the clocks went
forward (02:30 at 03:30). So a daily saga runs once each day. An hourly one does not run in the hour that is repeated.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from streams.core.sagas.definition import Schedule

__all__ = ["next_ms", "start_id", "why_wrong"]

_NAMES: Final = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_FIELD: Final = re.compile(rf"(?:[0-9*/,#?-]|{_NAMES}|l)+")
"""What a field is made of; croniter would also draw a time by chance (R) or by a hash (H)."""
_CRON_CHARS_MAX: Final = 200
"""Characters of a cron line: all sixty minutes written out."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime(2026, 1, 1)  # noqa: DTZ001 a wall clock's time
_LAST_MS: Final = 250_000_000_000_000
"""In the year 9892: Python's calendar ends soon after."""
_SHIFT: Final = timedelta(hours=3)
"""Clocks are never set by more at once, where anybody lives."""
_YEARS_MAX: Final = 50
"""Years until the next time of a cron line: the 29th of February is a Monday only every 28 years, or 40."""


def why_wrong(schedule: Schedule) -> tuple[str, str]:
    """The attribute that is wrong, and why; two empty texts where the schedule has times."""
    said = [name for name in ("cron", "at", "every_ms") if getattr(schedule, name)]
    if len(said) != 1:
        return (said[-1] if said else "name"), f"exactly one of cron, at and every_ms is wanted, and there are {len(said)}"
    if schedule.at:
        reason = "" if _time_of(schedule.at) else "write the time as 2027-01-01T09:00:00+01:00, with the offset, from 1970 on"
        return ("at", reason) if reason else ("", "")
    if schedule.every_ms:
        return ("", "") if schedule.every_ms > 0 else ("every_ms", "a time is longer than nothing")
    try:
        ZoneInfo(schedule.zone)
    except (ValueError, OSError, LookupError):
        return "zone", f"there is no time zone {schedule.zone!r}; write it as Europe/Berlin, or UTC"
    reason = _why_no_cron(schedule.cron)
    return ("cron", reason) if reason else ("", "")


def _why_no_cron(line: str) -> str:
    fields = line.lower().split()
    if len(fields) != 5 or len(line) > _CRON_CHARS_MAX:
        return f"five fields are wanted (minute hour day month weekday), and there are {len(fields)}"
    for number, field in enumerate(fields, start=1):
        if not _FIELD.fullmatch(field):
            return f"field {number}, {field!r}: allowed are numbers, names of months and weekdays, and * / , - #"
    try:
        croniter(line.lower(), _FIRST, max_years_between_matches=_YEARS_MAX).get_next(datetime)
    except CroniterBadDateError:
        return f"{line!r} never fires: there is no such day in the next {_YEARS_MAX} years"
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        return f"no cron line: {error}"
    return ""


def next_ms(schedule: Schedule, after_ms: int) -> int | None:
    """The first time of `schedule`, in ms since 1970, that is later than `after_ms`; None: there is none any more.

    Args:
        schedule: `why_wrong` finds nothing.
        after_ms: In ms since 1970.
    """
    if after_ms > _LAST_MS:
        return None
    after_ms = max(after_ms, -1)
    if schedule.at:
        time = _time_of(schedule.at)
        return time if time is not None and time > after_ms else None
    if schedule.every_ms:
        return (after_ms // schedule.every_ms + 1) * schedule.every_ms
    return _next_of_cron(schedule.cron.lower(), ZoneInfo(schedule.zone), after_ms)


def start_id(definition: str, schedule: Schedule, time_ms: int) -> str:
    """The id of the saga that `schedule` starts at `time_ms`: the same whoever starts it, and how often."""
    return f"{definition}/{schedule.name}/{time_ms}"


def _time_of(text: str) -> int | None:
    try:
        time = datetime.fromisoformat(text)
        offset = time.utcoffset()
        found = None if offset is None else _ms(time)
    except (ValueError, OverflowError):
        return None
    return found if found is not None and found > 0 else None


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _next_of_cron(line: str, zone: ZoneInfo, after_ms: int) -> int | None:
    after = _EPOCH + timedelta(milliseconds=after_ms)
    local = after.astimezone(zone)
    set_soon = (after - _SHIFT).astimezone(zone).utcoffset() != (after + 2 * _SHIFT).astimezone(zone).utcoffset()
    begin = local.replace(tzinfo=None) - (_SHIFT if set_soon else timedelta())
    times = croniter(line, begin, max_years_between_matches=_YEARS_MAX)
    found: int | None = None
    until: datetime | None = None
    try:
        while True:
            wall: datetime = times.get_next(datetime)
            if until is not None and wall > until:
                return found
            time_ms = _ms(wall.replace(tzinfo=zone))
            if time_ms <= after_ms:
                continue
            found = time_ms if found is None else min(found, time_ms)
            if until is None:  # a skipped time is later than its successors on the clock
                until = wall + _SHIFT
            if not _is_skipped(wall, zone):
                return found
    except CroniterBadDateError:
        return found


def _is_skipped(wall: datetime, zone: ZoneInfo) -> bool:
    there = wall.replace(tzinfo=zone)
    return there.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wall
