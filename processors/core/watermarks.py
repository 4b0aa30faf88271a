"""Event time: how far it has come, judged record by record from the records themselves.

    records of one source, by offset      12:00:07  12:00:03  12:00:09  12:00:01
    its watermark (disorder_ms = 5 s)     12:00:02  12:00:02  12:00:04  12:00:04     (less 1 ms each)
                                                                        └ late: not after the watermark

    agents.events/0   ────────────●           the combined watermark is the least of those sources that are not idle,
    agents.reviews/0  ──────●                 and never goes back
    agents.tasks/0    ──●  ┄┄┄┄┄┄┄┄┄ idle
                            ▲
                            └ combined

The rules:

* A **source** is one partition of one topic. Its watermark is `largest ts so far - disorder_ms - 1`: nothing at or before it is
  expected any more (Flink's `BoundedOutOfOrdernessWatermarks`; MillWheel, VLDB 2013, for the idea). It changes with each record,
  so what is late is a function of the order of the records and not of how they were cut into batches.
* The **combined watermark** is the least watermark over the sources that are not idle. A source that was announced (`expect`) and
  has not spoken yet holds time at the beginning until it speaks or is idle.
* A source is **idle** when nothing came from it for `idle_after_ms` of wall time. It no longer holds time back, and does again
  with its next record, which may be late: time does not wait for those who were away. When every source is idle the watermark
  goes to the greatest of theirs, since none of them holds it back. A source known to have unread records (`behind`) is not idle.
* A record is **late** when its `ts` is not after the combined watermark. It never moves time.
* A record is **ahead** when its `ts` is more than `ahead_max_ms` after `now_ms`. It moves nothing and does not count as a sign of
  life either: a source that only sends those becomes idle. So one broken clock takes time forward by `ahead_max_ms` at most, and
  cannot hold it back. The caller reports such records and processes them no further.
* With `follow_wall_clock` the watermark goes on when every source is idle: it is then `now_ms - disorder_ms - 1`, so that the
  absence of an event is noticed on time though no further event comes. The price: what comes in after a silence with a delay of
  more than `disorder_ms` is late.

What depends on `now_ms`, and so may differ in a replay: idleness, the wall clock's part, and what is ahead. With all three off
(`idle_after_ms=None`, `ahead_max_ms=None`) the watermark is a function of the log alone.

    marks = Watermarks.load(stored, bounds)         # None where nothing is stored yet
    verdict = marks.observe("agents.events/0", event["ts"], now_ms)
    marks.mark                                      # nothing at or before it is expected any more
    marks.reaches(deadline, now_ms)                 # when to wake up (wall time) if nothing more comes
    stored = marks.dump()                           # a JSON value; the same object loads from it
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple, TypeGuard

__all__ = [
    "AHEAD_MAX_MS",
    "BEGINNING",
    "IDLE_AFTER_MS",
    "SOURCES_MAX",
    "TIME_MAX",
    "Bounds",
    "SourceView",
    "Verdict",
    "WatermarkView",
    "Watermarks",
    "is_time",
]

BEGINNING: Final = -(2**62)
"""The watermark before anything is known: before every time there is, and arithmetic with it stays within 64 bits."""
TIME_MAX: Final = 2**53 - 1
"""The largest `ts`: above it not every JSON reader keeps milliseconds exact."""
IDLE_AFTER_MS: Final = 60_000
"""Silence that makes a source idle: a minute is longer than a rebalance or a producer's restart, so those are waited for."""
AHEAD_MAX_MS: Final = 60_000
"""How far a clock may be ahead: hosts with NTP differ by well under a second, those whose NTP has died by seconds a day."""
SOURCES_MAX: Final = 10_000
"""Sources remembered, the most silent forgotten first: ten times the partitions of a large topic, 40 bytes each when stored."""


class Verdict(Enum):
    """What time says about one record."""

    IN_TIME = "in time"
    LATE = "late"
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is promised about the times of events.

    Attributes:
        disorder_ms: How far behind the largest `ts` of its source an event may be without being late.
        idle_after_ms: Silence (wall time) after which a source no longer holds time back; None: never.
        ahead_max_ms: How far after the wall clock a `ts` may be; None: any distance.
        follow_wall_clock: Whether time goes on with the wall clock while every source is idle.
    """

    disorder_ms: int = 0
    idle_after_ms: int | None = IDLE_AFTER_MS
    ahead_max_ms: int | None = AHEAD_MAX_MS
    follow_wall_clock: bool = False

    def __post_init__(self) -> None:
        """Refuse bounds that make no sense."""
        for name in ("disorder_ms", "idle_after_ms", "ahead_max_ms"):
            value = getattr(self, name)
            least = 1 if name == "idle_after_ms" else 0
            if value is not None and not least <= value <= TIME_MAX:
                raise ValueError(f"{name} is {value}: {least} to {TIME_MAX} is allowed")
        if self.follow_wall_clock and self.idle_after_ms is None:
            raise ValueError("follow_wall_clock is on and idle_after_ms is none: time follows the wall clock in idleness only")


class SourceView(NamedTuple):
    """One source for people: largest `ts` and watermark (None before it spoke), when it last spoke (wall), whether it is idle."""

    source: str
    largest_ts: int | None
    watermark: int | None
    seen_ms: int
    idle: bool


class WatermarkView(NamedTuple):
    """What console, command line and metrics show of time: the combined watermark (None: nothing yet) and its sources."""

    watermark: int | None
    sources: tuple[SourceView, ...]


def is_time(value: object) -> TypeGuard[int]:
    """Return whether a value can be a `ts`: a whole number of milliseconds from 0 to `TIME_MAX`; a bool is none."""
    return type(value) is int and 0 <= value <= TIME_MAX


class Watermarks:
    """The watermarks of all sources that one key space reads, and the combined one.

    Working state of one batch: made by `load`, advanced by `observe` and `tick`, put away by `dump`. Batches that are dropped
    leave the stored value as it was.
    """

    __slots__ = ("_held_by", "_lag", "_largest", "_seen", "_swept_ms", "bounds", "mark")

    def __init__(self, bounds: Bounds) -> None:
        """Start at the beginning of time, with no sources."""
        self.bounds = bounds
        self.mark = BEGINNING
        """The combined watermark: nothing at or before it is expected any more."""
        self._lag = bounds.disorder_ms + 1
        self._largest: dict[str, int] = {}  # largest ts; BEGINNING before the first
        self._seen: dict[str, int] = {}  # wall time of the last sign of life
        self._held_by: str | None = None  # the source that alone decides the combined mark; None: look at all
        self._swept_ms = -1  # the wall time of the last look at all

    @classmethod
    def load(cls, stored: dict[str, Any] | None, bounds: Bounds) -> Watermarks:
        """Return the watermarks as `dump` gave them, or new ones for None. Other bounds apply from here on; time stays."""
        marks = cls(bounds)
        if stored is not None:
            marks.mark = stored["mark"]
            for source, (largest, seen_ms) in stored["sources"].items():
                marks._largest[source] = largest
                marks._seen[source] = seen_ms
        return marks

    def dump(self) -> dict[str, Any]:
        """Return the state as a JSON value that shares nothing with this object."""
        seen = self._seen
        return {"mark": self.mark, "sources": {source: [largest, seen[source]] for source, largest in self._largest.items()}}

    def expect(self, sources: Iterable[str], now_ms: int) -> None:
        """Announce sources: each holds time back until it speaks or has been silent for `idle_after_ms` from now."""
        for source in sources:
            if source not in self._largest:
                self._add(source, now_ms)

    def observe(self, source: str, ts: int, now_ms: int) -> Verdict:
        """Take in the time of one record.

        Args:
            source: Where it came from, as "topic/partition".
            ts: Its event time (see `is_time`).
            now_ms: The wall clock; one value for a batch will do.

        Returns:
            The verdict; `mark` is the watermark after the record. What is ahead has changed nothing.
        """
        ahead_max_ms = self.bounds.ahead_max_ms
        if ahead_max_ms is not None and ts > now_ms + ahead_max_ms:
            self._sweep(now_ms)
            return Verdict.AHEAD
        if source not in self._largest:
            self._add(source, now_ms)
        if now_ms > self._seen[source]:
            self._seen[source] = now_ms
            self._held_by = None
        moved = ts > self._largest[source]
        if moved:
            self._largest[source] = ts
        if self._held_by is None or now_ms != self._swept_ms:
            self._look_at_all(now_ms)
        elif moved and source == self._held_by:
            self._held_moved(source, now_ms)
        return Verdict.LATE if ts <= self.mark else Verdict.IN_TIME

    def only(self, sources: Collection[str]) -> None:
        """Forget all other sources, which nobody reads any more: they would hold time back until idle. The mark stays."""
        for source in self._largest.keys() - sources:
            del self._largest[source], self._seen[source]
        self._held_by = None

    def hear(self, now_ms: int, behind: Collection[str] = (), *, listening_since_ms: int = 0) -> None:
        """Note who cannot be idle, and move no time: before the records of a batch, so that a backlog is not taken for silence.

        Args:
            now_ms: The wall clock.
            behind: As for `tick`.
            listening_since_ms: As for `tick`.
        """
        for source, seen_ms in self._seen.items():
            if seen_ms < listening_since_ms:
                self._seen[source] = listening_since_ms
        for source in behind:
            if source in self._seen:
                self._seen[source] = max(self._seen[source], now_ms)
            else:
                self._add(source, now_ms)
        self._held_by = None

    def tick(self, now_ms: int, behind: Collection[str] = (), *, listening_since_ms: int = 0) -> int:
        """Let wall time pass without a record and return the combined watermark.

        Args:
            now_ms: The wall clock.
            behind: Sources that have unread records: they are not idle, however long nothing was read from them.
            listening_since_ms: Since when they are read, in wall time: silence before that is nobody's. After a restart every
                source has a full `idle_after_ms` to be heard.
        """
        self.hear(now_ms, behind, listening_since_ms=listening_since_ms)
        self._look_at_all(now_ms)
        return self.mark

    def reaches(self, mark: int, now_ms: int) -> int | None:
        """Return the wall time at which the combined watermark is at `mark` if no further record comes; None: it never is.

        `tick` at that time gets there. It is `now_ms` where the mark is already reached.
        """
        if self.mark >= mark:
            return now_ms
        idle_after_ms = self.bounds.idle_after_ms
        if idle_after_ms is None or not self._seen:
            return None
        moments = sorted({max(now_ms, seen_ms + idle_after_ms) for seen_ms in self._seen.values()})
        for at in moments:
            if self._combined(at) >= mark:
                return at
        return mark + self._lag if self.bounds.follow_wall_clock else None

    def view(self, now_ms: int) -> WatermarkView:
        """Return what people see of this."""
        return WatermarkView(
            None if self.mark == BEGINNING else self.mark,
            tuple(
                SourceView(
                    source,
                    None if largest == BEGINNING else largest,
                    None if largest == BEGINNING else largest - self._lag,
                    self._seen[source],
                    self._is_idle(self._seen[source], now_ms),
                )
                for source, largest in sorted(self._largest.items())
            ),
        )

    # ---- inside

    def _add(self, source: str, now_ms: int) -> None:
        if len(self._largest) >= SOURCES_MAX:
            silent = min(self._seen, key=self._seen.__getitem__)
            del self._largest[silent], self._seen[silent]
        self._largest[source], self._seen[source] = BEGINNING, now_ms
        self._held_by = None

    def _is_idle(self, seen_ms: int, now_ms: int) -> bool:
        idle_after_ms = self.bounds.idle_after_ms
        return idle_after_ms is not None and now_ms - seen_ms >= idle_after_ms

    def _combined(self, now_ms: int) -> int:
        """Return the combined watermark at this wall time, were it not for those before it."""
        active = [self._largest[s] for s, seen_ms in self._seen.items() if not self._is_idle(seen_ms, now_ms)]
        if active:
            return min(active) - self._lag
        mark = max(self._largest.values(), default=BEGINNING) - self._lag
        if self.bounds.follow_wall_clock and self._largest:
            mark = max(mark, now_ms - self._lag)
        return mark

    def _sweep(self, now_ms: int) -> None:
        if now_ms != self._swept_ms:
            self._look_at_all(now_ms)

    def _look_at_all(self, now_ms: int) -> None:
        self.mark = max(self.mark, self._combined(now_ms))
        self._swept_ms = now_ms
        active = {s: self._largest[s] for s, seen_ms in self._seen.items() if not self._is_idle(seen_ms, now_ms)}
        self._held_by = min(active, key=active.__getitem__) if active else None

    def _held_moved(self, source: str, now_ms: int) -> None:
        """Move on after the holding source moved: alone it decides at once, among others all are looked at."""
        if len(self._largest) == 1:
            self.mark = max(self.mark, self._largest[source] - self._lag)
        else:
            self._look_at_all(now_ms)
