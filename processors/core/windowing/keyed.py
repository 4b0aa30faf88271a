"""The windows of one key: where an event goes, what a passing watermark says, and when a window is closed.

    event time ──▶      start            last                     last + allowed lateness
                        ├── in the window ─┤┄┄ still corrected ┄┄┄┄┄┄┤ closed
    watermark here:     nothing (or early) ▲ result: complete        ▲ forgotten
                                           └─ each event after it: revised

The rules, for every kind:

* A window is **complete** when the watermark is at its last instant, and **closed** when the watermark less the allowed lateness
  is.
* An event counts in each of its windows that is not closed. If all of them are, it is **late** and counts in none.
* A complete window has one result of status `complete`; each event that still finds it then gives one of status `revised`, with
  the next `revision`. Without allowed lateness a window closes as it completes, and its result is `final`.

| kind | windows of an event at t | last instant |
| --- | --- | --- |
| tumbling, hopping | each [s, s + size) with s a multiple of the advance that holds t | s + size - 1 |
| sliding | (x - size, x] for each event time x of the key from t to t + size - 1 | x |
| session | the one of its neighbours: events at most the gap apart, from either side, are in one session | its last event + gap |

Sliding windows keep one **pane** for each event time; a window's numbers are its panes merged. So the state grows with the event
times within the size, and not with the product of both. An event at t gives the result for (t - size, t]; where that window is
closed already it only corrects the later ones that are not. (What SQL calls RANGE BETWEEN size PRECEDING AND CURRENT ROW.)

Sessions that an event joins become one, and where they had results already, the next result says which it replaces.

What `take` and `advance` make depends on the key's events and on the watermark at each of them, and on nothing else: not on when
`advance` was called in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from processors.core.aggregates import add, fresh, merge, result, weight
from processors.core.windowing.definitions import Definition, Session, Sliding

__all__ = ["BYTES_PER_KEY_MAX", "Dropped", "KeyState", "Result", "advance", "deadline", "dump", "evicted", "load", "take"]

BYTES_PER_KEY_MAX: Final = 500_000
"""What one key's windows may take when stored: half of what Kafka takes as one record by default."""
_WINDOW_BYTES: Final = 120
"""A window without its aggregates, its numbers at their longest."""

_MUTE: Final = -1
"""The revision of a pane whose own window was closed before it came: it counts in later ones and has no result."""

Status = Literal["early", "complete", "revised"]


class Window(NamedTuple):
    """One window of a key, or one pane.

    `end` is the last instant of a tumbling, hopping or session window and the event time of a pane. `revision` counts the results
    so far. `told` has the spans of complete results that are still out. `weight` is about how many bytes it takes when stored.
    """

    start: int
    end: int
    events: int
    complete: bool
    revision: int
    told: Sequence[Sequence[int]]
    skipped: Sequence[int]
    states: Sequence[Any]
    weight: int


class KeyState(NamedTuple):
    """All windows of a key, in the order of their ends; `floor`: windows that end by then were evicted, and stay gone."""

    windows: tuple[Window, ...] = ()
    floor: int | None = None


class Result(NamedTuple):
    """What a window says. `start` to `end` (not included) is its time; `values` and `skipped` go by the order of aggregates."""

    start: int
    end: int
    status: Status
    revision: int
    final: bool
    events: int
    values: tuple[float | None, ...]
    skipped: tuple[int, ...]
    replaces: tuple[tuple[int, int], ...] = ()


class Dropped(NamedTuple):
    """A window that a limit pushed out, as it stood."""

    start: int
    end: int
    reason: Literal["windows_per_key", "bytes_per_key", "keys"]
    events: int
    values: tuple[float | None, ...]
    skipped: tuple[int, ...]


class Taken(NamedTuple):
    """What one event did to its key. `late`: it is in no window, and the state is the same object."""

    state: KeyState
    results: tuple[Result, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    late: bool = False


def load(stored: Sequence[Any] | None) -> KeyState:
    """Return a state as `dump` gave it, or an empty one for None."""
    return KeyState() if stored is None else KeyState(tuple(Window(*one) for one in stored[0]), stored[1])


def dump(state: KeyState) -> list[Any]:
    """Return a state as a JSON value."""
    return [[list(window) for window in state.windows], state.floor]


def deadline(d: Definition, state: KeyState) -> int | None:
    """Return the least watermark at which `advance` does something, or None."""
    keep = _keep_ms(d)
    return min(
        (w.end + keep if w.complete or w.revision == _MUTE else w.end for w in state.windows),
        default=None,
    )


def advance(d: Definition, state: KeyState, mark: int) -> Taken:
    """Let the watermark pass: complete windows give their results, earliest end first, and closed ones go."""
    horizon, keep = _horizon(d, state, mark), _keep_ms(d)
    results: list[Result] = []
    windows: list[Window] = []
    for w in state.windows:
        if w.end <= mark and not w.complete and w.revision != _MUTE:
            w, told = _told(d, w, state.windows)  # noqa: PLW2901 the same window, reported
            results.append(told)
        windows.append(w)
    left = tuple(w for w in windows if w.end + keep - d.allowed_lateness_ms > horizon)
    if not results and len(left) == len(state.windows):
        return Taken(state)
    return Taken(KeyState(left, state.floor) if left else KeyState(), tuple(results))


def take(d: Definition, state: KeyState, ts: int, fields: Mapping[str, Any], mark: int) -> Taken:
    """Take in one event of the key, after `advance` to the same watermark.

    Args:
        d: The definition.
        state: The key's state; not changed.
        ts: The event's time.
        fields: Its payload.
        mark: The watermark after the event.
    """
    horizon = _horizon(d, state, mark)
    if isinstance(d.window, Session):
        touched, others = _session(d, state.windows, ts, fields, horizon)
    elif isinstance(d.window, Sliding):
        touched, others = _pane(d, state.windows, ts, fields, horizon)
    else:
        touched, others = _spans(d, state.windows, ts, fields, horizon)
    if not touched:
        return Taken(state, late=True)
    windows = sorted((*touched, *others), key=_by_end)
    windows, results = _report(d, windows, touched, ts, mark, horizon)
    kept, dropped = _bounded(d, windows)
    floor = windows[len(dropped) - 1].end if dropped else state.floor
    return Taken(KeyState(tuple(kept), floor), tuple(results), tuple(dropped))


def evicted(d: Definition, state: KeyState) -> tuple[Dropped, ...]:
    """Return all windows of a key that has to go."""
    return tuple(Dropped(*_shown(d, w), "keys", w.events, _values(d, w), tuple(w.skipped)) for w in state.windows)


# ---- where an event goes: the windows it is in, with it counted, and the others


def _spans(
    d: Definition, windows: Sequence[Window], ts: int, fields: Mapping[str, Any], horizon: int
) -> tuple[list[Window], list[Window]]:
    assert not isinstance(d.window, Sliding | Session)
    size, step = d.window.size_ms, d.window.advance_ms
    newest = ts - ts % step
    mine = {(s, s + size - 1) for s in range(newest, ts - size, -step) if s + size - 1 > horizon}
    touched, others = [], []
    for w in windows:
        if (w.start, w.end) in mine:
            mine.discard((w.start, w.end))
            touched.append(_counted(d, w, fields))
        else:
            others.append(w)
    touched += [_counted(d, _empty(d, start, end), fields) for start, end in sorted(mine)]
    return touched, others


def _session(
    d: Definition, windows: Sequence[Window], ts: int, fields: Mapping[str, Any], horizon: int
) -> tuple[list[Window], list[Window]]:
    assert isinstance(d.window, Session)
    gap = d.window.gap_ms
    joined = [w for w in windows if w.start - gap <= ts <= w.end]
    if not joined and ts + gap <= horizon:
        return [], list(windows)
    merged = _empty(d, ts, ts + gap)
    for w in joined:
        merged = _merged(d, merged, w)
    return [_counted(d, merged, fields)], [w for w in windows if w not in joined]


def _pane(
    d: Definition, windows: Sequence[Window], ts: int, fields: Mapping[str, Any], horizon: int
) -> tuple[list[Window], list[Window]]:
    assert isinstance(d.window, Sliding)
    if ts + d.window.size_ms - 1 <= horizon:
        return [], list(windows)
    pane = next((w for w in windows if w.end == ts), None)
    others = [w for w in windows if w.end != ts]
    if pane is None:
        pane = _empty(d, ts, ts)
        if ts <= horizon:
            pane = pane._replace(revision=_MUTE)
    return [_counted(d, pane, fields)], others


# ---- results


def _report(
    d: Definition, windows: list[Window], touched: list[Window], ts: int, mark: int, horizon: int
) -> tuple[list[Window], list[Result]]:
    """Report the windows that the event has changed and that are complete, or due for an early result."""
    results: list[Result] = []
    reported: list[Window] = []
    reach = ts + d.window.size_ms - 1 if isinstance(d.window, Sliding) else None
    for w in windows:
        changed = any(w is one for one in touched) if reach is None else ts <= w.end <= reach
        if changed and w.end <= mark and w.end > horizon and w.revision != _MUTE:
            w, told = _told(d, w, windows)  # noqa: PLW2901 the same window, reported
            results.append(told)
        elif changed and d.early_every is not None and w.events % d.early_every == 0:
            results.append(_result(d, w, [w], "early", ()))
            w = w._replace(revision=w.revision + 1)  # noqa: PLW2901 likewise
        reported.append(w)
    return reported, results


def _told(d: Definition, w: Window, windows: Sequence[Window]) -> tuple[Window, Result]:
    """Return a window as reported, and its result."""
    parts = [w]
    if isinstance(d.window, Sliding):
        parts = [p for p in windows if w.end - d.window.size_ms < p.end <= w.end]
    span = (w.start, w.end)
    replaces = tuple((s, e) for s, e in w.told if (s, e) != span)
    made = _result(d, w, parts, "revised" if w.told else "complete", replaces)
    return w._replace(complete=True, revision=w.revision + 1, told=(span,)), made


def _result(d: Definition, w: Window, parts: Sequence[Window], status: Status, replaces: tuple[tuple[int, int], ...]) -> Result:
    whole = parts[0]
    for part in parts[1:]:
        whole = _merged(d, whole, part)
    start, end = _shown(d, w)
    replaced = tuple((s, _shown_end(d, e)) for s, e in replaces)
    final = status != "early" and not d.allowed_lateness_ms
    return Result(start, end, status, w.revision, final, whole.events, _values(d, whole), tuple(whole.skipped), replaced)


def _shown(d: Definition, w: Window) -> tuple[int, int]:
    start = w.end - d.window.size_ms + 1 if isinstance(d.window, Sliding) else w.start
    return start, _shown_end(d, w.end)


def _shown_end(d: Definition, end: int) -> int:
    return end if isinstance(d.window, Session) else end + 1


def _values(d: Definition, w: Window) -> tuple[float | None, ...]:
    return tuple(result(a, s) for a, s in zip(d.aggregates.values(), w.states, strict=True))


# ---- single windows


def _by_end(w: Window) -> tuple[int, int]:
    return w.end, w.start


def _keep_ms(d: Definition) -> int:
    """Return how long after its last instant a window, or a pane, may still be needed."""
    return d.allowed_lateness_ms + (d.window.size_ms - 1 if isinstance(d.window, Sliding) else 0)


def _horizon(d: Definition, state: KeyState, mark: int) -> int:
    """Return the time by which windows that end are closed."""
    horizon = mark - d.allowed_lateness_ms
    return horizon if state.floor is None else max(horizon, state.floor)


def _empty(d: Definition, start: int, end: int) -> Window:
    return Window(start, end, 0, False, 0, (), (0,) * len(d.aggregates), tuple(fresh(a) for a in d.aggregates.values()), 0)


def _counted(d: Definition, w: Window, fields: Mapping[str, Any]) -> Window:
    states, skipped, heavy = [], w.skipped, _WINDOW_BYTES + 40 * len(w.told) + 12 * len(w.skipped)
    for n, a in enumerate(d.aggregates.values()):
        state, bad = add(a, w.states[n], fields)
        states.append(state)
        heavy += weight(state)
        if bad:
            skipped = [*skipped[:n], skipped[n] + 1, *skipped[n + 1 :]]
    return Window(w.start, w.end, w.events + 1, w.complete, w.revision, w.told, skipped, states, heavy)


def _merged(d: Definition, one: Window, other: Window) -> Window:
    states = [merge(a, s, t) for a, s, t in zip(d.aggregates.values(), one.states, other.states, strict=True)]
    return Window(
        min(one.start, other.start),
        max(one.end, other.end),
        one.events + other.events,
        False,
        max(one.revision, other.revision),
        sorted(tuple(span) for span in (*one.told, *other.told)),
        [n + m for n, m in zip(one.skipped, other.skipped, strict=True)],
        states,
        0,
    )


def _bounded(d: Definition, windows: Sequence[Window]) -> tuple[Sequence[Window], list[Dropped]]:
    """Return the windows that stay, and the oldest as dropped where they are too many or too large; the newest stays."""
    heavy, first = sum(w.weight for w in windows), 0
    dropped: list[Dropped] = []
    while first < len(windows) - 1 and (len(windows) - first > d.windows_per_key_max or heavy > BYTES_PER_KEY_MAX):
        w = windows[first]
        reason: Literal["windows_per_key", "bytes_per_key"] = (
            "windows_per_key" if len(windows) - first > d.windows_per_key_max else "bytes_per_key"
        )
        dropped.append(Dropped(*_shown(d, w), reason, w.events, _values(d, w), tuple(w.skipped)))
        heavy -= w.weight
        first += 1
    return windows[first:], dropped
