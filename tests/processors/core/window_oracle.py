"""A dumb oracle of windows: for every window there could be, it looks at the whole list of events. Slow and easy to check."""

from __future__ import annotations

from typing import Any, NamedTuple

from processors.core.windowing.definitions import Definition, Session, Sliding

BEGINNING = -(2**62)


class Happened(NamedTuple):
    """One event: which source sent it, its key, its time and its number."""

    source: int
    key: str
    ts: int
    x: int


class Expected(NamedTuple):
    """One result: window, status, revision, number of events and their sum, and the spans it replaces."""

    key: str
    start: int
    end: int
    status: str
    revision: int
    events: int
    total: float
    replaces: tuple[tuple[int, int], ...] = ()


def marks_of(events: list[Happened], disorder_ms: int) -> list[int]:
    """Return the watermark after each event, without idleness."""
    marks, mark = [], BEGINNING
    for n in range(len(events)):
        seen = events[: n + 1]
        mark = max(mark, min(max(e.ts for e in seen if e.source == s) for s in {e.source for e in seen}) - disorder_ms - 1)
        marks.append(mark)
    return marks


def expected(d: Definition, events: list[Happened]) -> tuple[list[Expected], set[int]]:
    """Return every result, and the indexes of the late events."""
    marks = marks_of(events, d.disorder_ms)
    results: list[Expected] = []
    late: set[int] = set()
    for key in sorted({e.key for e in events}):
        mine = [i for i, e in enumerate(events) if e.key == key]
        found, left_out = _sessions(d, events, mine, marks) if isinstance(d.window, Session) else _fixed(d, events, mine, marks)
        results += found
        late |= left_out
    return results, late


def _fixed(d: Definition, events: list[Happened], mine: list[int], marks: list[int]) -> tuple[list[Expected], set[int]]:
    """Windows that are known beforehand: their times do not depend on other events, or only on which times there are."""
    assert not isinstance(d.window, Session)
    size, lateness = d.window.size_ms, d.allowed_lateness_ms
    if isinstance(d.window, Sliding):
        starts = sorted({events[i].ts - size + 1 for i in mine})
    else:
        step = d.window.advance_ms
        starts = sorted(
            {s for i in mine for s in range(-size * step, events[i].ts + 1) if s % step == 0 and s > events[i].ts - size}
        )
    results: list[Expected] = []
    taken: set[int] = set()
    for start in starts:
        last = start + size - 1
        counted = [i for i in mine if start <= events[i].ts <= last and last > marks[i] - lateness]
        makes = [i for i in counted if not isinstance(d.window, Sliding) or events[i].ts == last]
        if not makes:
            continue
        passed = next((j for j in range(len(events)) if marks[j] >= last), None)
        if passed is None:
            continue
        first = max(passed, makes[0])
        whole = [i for i in counted if i <= first]
        told = [whole, *([i for i in counted if i <= late] for late in counted if late > first)]
        for n, part in enumerate(told):
            status = "revised" if n else "complete"
            total = float(sum(events[i].x for i in part))
            results.append(Expected(events[mine[0]].key, start, last + 1, status, n, len(part), total))
    for i in mine:
        ts, horizon = events[i].ts, marks[i] - lateness
        if isinstance(d.window, Sliding):
            ends = [ts + size - 1]
        else:
            ends = [s + size - 1 for s in range(ts - size + 1, ts + 1) if s % d.window.advance_ms == 0]
        if any(end > horizon for end in ends):
            taken.add(i)
    return results, set(mine) - taken


class _Group:
    def __init__(self, members: list[int], revision: int, told: set[tuple[int, int]]) -> None:
        self.members, self.revision, self.told, self.done = members, revision, told, False


def _sessions(d: Definition, events: list[Happened], mine: list[int], marks: list[int]) -> tuple[list[Expected], set[int]]:
    """Sessions: after each event of the stream, group anew what is not closed."""
    assert isinstance(d.window, Session)
    gap, lateness, key = d.window.gap_ms, d.allowed_lateness_ms, events[mine[0]].key
    results: list[Expected] = []
    late: set[int] = set()
    groups: list[_Group] = []

    def span(g: _Group) -> tuple[int, int]:
        times = [events[i].ts for i in g.members]
        return min(times), max(times) + gap

    def tell(g: _Group) -> None:
        start, end = span(g)
        total = float(sum(events[i].x for i in g.members))
        replaces = tuple(sorted(g.told - {(start, end)}))
        status = "revised" if g.told else "complete"
        results.append(Expected(key, start, end, status, g.revision, len(g.members), total, replaces))
        g.revision, g.told, g.done = g.revision + 1, {(start, end)}, True

    for i, mark in enumerate(marks):
        for g in sorted(groups, key=lambda g: span(g)[1]):
            if not g.done and span(g)[1] <= mark:
                tell(g)
        groups = [g for g in groups if span(g)[1] > mark - lateness]
        if i not in mine:
            continue
        ts = events[i].ts
        near = [g for g in groups if any(abs(events[m].ts - ts) <= gap for m in g.members)]
        if not near and ts + gap <= mark - lateness:
            late.add(i)
            continue
        joined = _Group(
            [i, *(m for g in near for m in g.members)],
            max((g.revision for g in near), default=0),
            {s for g in near for s in g.told},
        )
        groups = [*(g for g in groups if g not in near), joined]
        if span(joined)[1] <= mark:
            tell(joined)
    return results, late


def seen(event: Any, value: str) -> Expected:
    """Return a result as the oracle writes it."""
    return Expected(
        event.correlation_key,
        event.start,
        event.end,
        event.status,
        event.revision,
        event.events,
        event.values[value],
        tuple((one.start, one.end) for one in event.replaces),
    )
