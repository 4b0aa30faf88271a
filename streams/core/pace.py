"""When a record of a replay is due, and how far a replay is.

    recorded   12:00:00.000   12:00:01.000   12:00:00.500   12:01:00.000
    speed 10   at once        after 100 ms   at once        after 6 s, or after `gap_ms_max`

Time never runs backwards: a record with an earlier timestamp than one before it is due at once. All numbers are milliseconds; the
caller's clock is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FLAT_OUT", "Pace", "Progress"]

FLAT_OUT: Final = 0.0
"""The speed of a replay that never waits."""


class Pace:
    """The clock of one replay.

    Args:
        speed: 1 is real time, 10 is ten times as fast, `FLAT_OUT` does not wait.
        gap_ms_max: The longest wait between two records, so that a quiet night does not take a night.

    Raises:
        ValueError: A number is negative.
    """

    __slots__ = ("_due_ms", "_gap_ms_max", "_last_ms", "_speed")

    def __init__(self, speed: float, *, gap_ms_max: float = float("inf")) -> None:
        if speed < 0 or gap_ms_max < 0:
            raise ValueError(f"speed {speed} and longest gap {gap_ms_max} must not be negative: 0 is flat out, 1 is real time")
        self._speed = speed
        self._gap_ms_max = gap_ms_max
        self._due_ms: float | None = None
        self._last_ms = 0

    def wait_ms(self, timestamp_ms: int, now_ms: float) -> float:
        """Return how long to wait before a record with this timestamp is handed out.

        Args:
            timestamp_ms: The record's.
            now_ms: Any clock that grows steadily.
        """
        if not self._speed:
            return 0.0
        if self._due_ms is None:
            self._due_ms, self._last_ms = now_ms, timestamp_ms
            return 0.0
        gap = (timestamp_ms - self._last_ms) / self._speed
        if gap > 0:
            self._last_ms = timestamp_ms
            self._due_ms += min(gap, self._gap_ms_max)
        return max(0.0, self._due_ms - now_ms)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long reading is.

    Offsets are counted, not records: compaction and control markers leave gaps that nobody can know.

    Attributes:
        done: Offsets behind us.
        total: Offsets in all.
        records: Records handed out.
        elapsed_s: Time since the beginning.
    """

    done: int
    total: int
    records: int
    elapsed_s: float

    @property
    def share(self) -> float:
        """How much is done, 0 to 1; an empty range is done."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def rate(self) -> float:
        """Offsets a second."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at the rate so far; None before anything is done."""
        if self.done >= self.total:
            return 0.0
        return (self.total - self.done) / self.rate if self.rate > 0 else None
