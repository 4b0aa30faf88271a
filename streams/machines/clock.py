"""When a partition's time has to be helped on: something is due, and no command comes that would bring the time.

The partition's time is the broker's. A worker cannot read it; it knows how far its own clock is from it by the records that it
wrote itself and read again. All moments here are of the worker's monotonic clock, which nobody sets.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PASS_AGAIN_MS", "PASS_APART_MS", "Clock"]

PASS_AGAIN_MS: Final = 500
"""A record that lets time pass is written again where the one before has not come back: it may have been lost."""
PASS_APART_MS: Final = 5
"""The least between two that did come back: what is due within that goes together."""
MARGIN_MS: Final = 1
"""Beyond the moment, since clocks are read in whole milliseconds."""


class Clock:
    """One partition's time, as its worker guesses it.

    Args:
        mono_ms: Now, by the worker's monotonic clock.
        epoch_ms: Now, by its wall clock, which is believed until a record says better.
    """

    def __init__(self, mono_ms: int, epoch_ms: int) -> None:
        self._ahead_ms = mono_ms - epoch_ms
        self._written_ms: int | None = None
        self._back_ms = mono_ms - PASS_APART_MS

    def read(self, record_ms: int, mono_ms: int) -> None:
        """Note a record's time: it was appended before now, so the broker's clock is at least there."""
        self._ahead_ms = min(self._ahead_ms, mono_ms - record_ms)

    def came_back(self, record_ms: int, mono_ms: int) -> None:
        """Note that what `when` had written is in the log, and at which time: it was appended after it was written."""
        if self._written_ms is not None:
            self._ahead_ms = max(self._ahead_ms, self._written_ms - record_ms)
            self._written_ms, self._back_ms = None, mono_ms

    def when(self, due_ms: int, mono_ms: int) -> tuple[bool, int]:
        """Return whether a record that lets time pass is to be written now, and in how many milliseconds to ask again.

        Args:
            due_ms: What the partition's time has to come to.
            mono_ms: Now.
        """
        earliest = self._back_ms + PASS_APART_MS if self._written_ms is None else self._written_ms + PASS_AGAIN_MS
        at = max(due_ms + self._ahead_ms + MARGIN_MS, earliest)
        if at > mono_ms:
            return False, at - mono_ms
        self._written_ms = mono_ms
        return True, PASS_AGAIN_MS
