"""What happened in one saga, as lanes over time in which nothing is not long.

::

            12:00:00.000 – 14:00:01.900  (≈ 2 h)
    flight  ━━━━✗┄┄┄┄━━━━✓                            ◁◁◁✓
    hotel                ━━━━━━━━✓              ◁◁◁✓
    ask                          ········≈·····✗

A lane is a node (in a body: with its pass), a span what it was doing. Where nothing happens for much longer than usual, time is
cut short: a *break* with its real length. The same moments give the same timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Final, Literal

from streams.core.svg import duration

__all__ = ["Break", "Kind", "Lane", "Mark", "Moment", "Span", "Timeline", "What", "as_text", "timeline_of"]

What = Literal[
    "called", "answered", "failed", "gave_up", "waits", "undo_called", "undone", "undo_failed", "incident", "resolved",
    "passed_over", "cancelled",
    "started", "paused", "resumed", "cancel", "signalled", "compensates", "forked", "ignored", "ended",
]  # fmt: skip
"""What a moment is: first those of a node, then those of the saga."""
Kind = Literal["call", "backoff", "wait", "undo", "incident", "passed_over"]
"""What a node is doing during a span."""
End = Literal["ok", "failed", "cancelled", "open"]
"""How a span ended; open: it has not."""

MOMENTS_MAX: Final = 20_000
"""Moments of a timeline: more than the longest history that an instance may have; the rest is left out, and counted."""
IDLE_FACTOR: Final = 5
"""A gap is cut where it is longer than so many times the usual one (the median), to that length."""
IDLE_MS_MIN: Final = 1_000
"""A shorter gap is never cut: it is no waiting."""
COLUMNS_MIN: Final = 20
"""Columns that a text needs beside the names."""

_OPENS: Final[Mapping[str, Kind]] = {
    "called": "call", "failed": "backoff", "waits": "wait", "undo_called": "undo", "undo_failed": "backoff",
    "incident": "incident",
}  # fmt: skip
_CLOSES: Final[Mapping[str, End]] = {
    "answered": "ok", "failed": "failed", "gave_up": "failed", "undone": "ok", "undo_failed": "failed", "resolved": "ok",
    "cancelled": "cancelled", "incident": "failed",
}  # fmt: skip
_GLYPHS: Final[Mapping[Kind, str]] = {"call": "━", "backoff": "┄", "wait": "·", "undo": "◁", "incident": "!", "passed_over": "∅"}
_ENDS: Final[Mapping[End, str]] = {"ok": "✓", "failed": "✗", "cancelled": "×", "open": "▸"}


_COARSE: Final = ((86_400_000, 3_600_000), (3_600_000, 60_000), (60_000, 1_000))
"""From how many ms on a length is told only in a unit of how many."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened.

    Attributes:
        at_ms: When, in ms since 1970.
        what: What.
        node: The node, in a body with its pass: `each[3]/pay`; empty: the saga.
        attempt: Of a call, from 1; 0: none.
        note: More, on one line: a code and reason, the lock that it waits for.
    """

    at_ms: int
    what: What
    node: str = ""
    attempt: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """What a node was doing.

    Attributes:
        kind: What.
        start_ms: From when.
        end_ms: Until when; of an open one: the end of the timeline.
        end: How it ended.
        attempt: Of a call, from 1.
        note: Of its end, or of its beginning.
        left: Where it begins, 0 to 1.
        right: Where it ends, 0 to 1.
    """

    kind: Kind
    start_ms: int
    end_ms: int
    end: End
    attempt: int
    note: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Lane:
    """A node and its spans, in order of time."""

    node: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened to the saga as a whole, `at` 0 to 1."""

    at_ms: int
    what: What
    note: str
    at: float


@dataclass(frozen=True, slots=True)
class Break:
    """Time that was cut short: from `left` to `right`, 0 to 1."""

    start_ms: int
    end_ms: int
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A saga's history, to be drawn.

    Attributes:
        start_ms: The first moment.
        end_ms: The last, or now.
        lanes: In order of their first moment.
        marks: Of the saga as a whole.
        breaks: Where time is cut short.
        retries: Calls that were made again.
        left_out: Moments beyond the limit.
    """

    start_ms: int
    end_ms: int
    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    breaks: tuple[Break, ...]
    retries: int
    left_out: int


@dataclass(slots=True)
class _Open:
    kind: Kind
    start_ms: int
    attempt: int
    note: str


@dataclass(slots=True)
class _Row:
    spans: list[tuple[Kind, int, int, End, int, str]] = field(default_factory=list)
    open: _Open | None = None

    def close(self, at_ms: int, end: End, note: str) -> None:
        if self.open is not None:
            one, self.open = self.open, None
            self.spans.append((one.kind, one.start_ms, at_ms, end, one.attempt, note or one.note))


def timeline_of(moments: Sequence[Moment], *, now_ms: int | None = None) -> Timeline:
    """The timeline of `moments`.

    Args:
        moments: In the order of the log. Time that runs backwards stands still.
        now_ms: Until when what has not ended is drawn; None: until the last moment.
    """
    kept = moments[:MOMENTS_MAX]
    rows: dict[str, _Row] = {}
    marks: list[Moment] = []
    times: set[int] = set()
    retries, clock = 0, 0
    for moment in kept:
        clock = max(clock, moment.at_ms)
        times.add(clock)
        if not moment.node:
            marks.append(Moment(clock, moment.what, "", 0, moment.note))
            continue
        row = rows.setdefault(moment.node, _Row())
        retries += moment.what == "called" and moment.attempt > 1
        if moment.what == "passed_over":
            row.open = _Open("passed_over", clock, 0, moment.note)
            row.close(clock, "ok", "")
            continue
        row.close(clock, _CLOSES.get(moment.what, "ok"), moment.note if moment.what in _CLOSES else "")
        if moment.what in _OPENS:
            row.open = _Open(_OPENS[moment.what], clock, moment.attempt, moment.note)
    end_ms = max(clock, now_ms or 0) if any(row.open for row in rows.values()) or not kept else clock
    start_ms = min(times, default=end_ms)
    scale = _Scale(sorted({*times, end_ms}))
    for row in rows.values():
        row.close(end_ms, "open", "")
    lanes = tuple(
        Lane(node, tuple(Span(*span, scale.at(span[1]), scale.at(span[2])) for span in row.spans)) for node, row in rows.items()
    )
    told = tuple(Mark(mark.at_ms, mark.what, mark.note, scale.at(mark.at_ms)) for mark in marks)
    return Timeline(start_ms, end_ms, lanes, told, tuple(scale.breaks), retries, len(moments) - len(kept))


class _Scale:
    """Where a time stands, 0 to 1, with long gaps cut short."""

    def __init__(self, times: Sequence[int]) -> None:
        gaps = [after - before for before, after in pairwise(times)]
        longest = max(IDLE_MS_MIN, IDLE_FACTOR * median(gaps)) if gaps else 0
        places, place, cut = [0.0], 0.0, []
        for (before, after), gap in zip(pairwise(times), gaps, strict=True):
            shown = min(gap, longest)
            if gap > longest:
                cut.append((before, after, place, place + shown))
            place += shown
            places.append(place)
        whole = place or 1.0
        self._places = {time: at / whole for time, at in zip(times, places, strict=True)}
        self.breaks = [Break(before, after, left / whole, right / whole) for before, after, left, right in cut]

    def at(self, time_ms: int) -> float:
        return self._places[time_ms]


def as_text(timeline: Timeline, *, columns: int = 100) -> list[str]:
    """The timeline as lines of at most `columns` characters (but `COLUMNS_MIN` beside the names, at least).

    The first line has the ends and each break's length, then come the lanes, then what happened to the saga as a whole.
    """
    longest = max([len(lane.node) for lane in timeline.lanes], default=4)
    names = min(longest, max(8, columns // 3))
    width = max(COLUMNS_MIN, columns - names - 2)
    cuts = ", ".join(_about(one.end_ms - one.start_ms) for one in timeline.breaks)
    cuts = f"  (≈ {cuts})" if cuts else ""
    lines = [f"{'':{names}}  {_clock(timeline.start_ms)} – {_clock(timeline.end_ms)}{cuts}"[:columns]]
    for lane in timeline.lanes:
        name = lane.node if len(lane.node) <= names else f"…{lane.node[1 - names :]}"
        lines.append(f"{name:{names}}  {_drawn(lane, timeline.breaks, width)}".rstrip())
    told = ((mark, f": {mark.note}" if mark.note else "") for mark in timeline.marks)
    lines += [f"{_clock(mark.at_ms)}  {mark.what}{note}"[:columns] for mark, note in told]
    if timeline.left_out:
        lines.append(f"{timeline.left_out:,} more are left out")
    return lines


def _drawn(lane: Lane, breaks: Sequence[Break], width: int) -> str:
    cells = [" "] * width
    for span in lane.spans:
        left, right = (min(width - 1, int(place * (width - 1) + 0.5)) for place in (span.left, span.right))
        if cells[left] in _ENDS.values() and left < right:  # the sign of what ended here stays
            left += 1
        for cell in range(left, right + 1):
            cells[cell] = _GLYPHS[span.kind]
        for one in breaks:
            middle = int((one.left + one.right) / 2 * (width - 1) + 0.5)
            if left < middle < right:
                cells[middle] = "≈"
        if span.kind not in {"backoff", "passed_over"}:
            cells[right] = _ENDS[span.end]
    return "".join(cells)


def _about(ms: int) -> str:
    """A length in its two largest units."""
    unit = next((smaller for larger, smaller in _COARSE if ms >= larger), 1)
    return duration(ms // unit * unit)


def _clock(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S.%f}"[:-3]
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
