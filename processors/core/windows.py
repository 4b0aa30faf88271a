"""Windows over keys: events of several topics, joined by a field, counted and measured by event time.

    agents.events/0  ●──●────●──▶ ┐                        ┌▶ results      WindowResult   complete, revised, early
    agents.reviews/0 ●─●──────●─▶ ├▶ time ─▶ key ─▶ window ┼▶ left out     EventLeftOut   late, ahead, no_key, no_time
                                  ┘                        └▶ evicted      WindowEvicted  a limit was reached

How the parts divide the work, and where their rules stand:

* `processors.core.watermarks`: how far time has come, what is late for it, what is ahead;
* `processors.core.windowing.keyed`: which windows an event is in, when they are complete, corrected, closed;
* `processors.core.windowing.due`: which key has something to say when the watermark moves, also when none of its events comes;
* `processors.core.aggregates`: the numbers.

What holds:

* Each window of each key has exactly one result of status `complete`, unless it is evicted, and then that is an output instead.
* What a key's windows say is a function of the key's events and of the watermark at each of them: not of batch boundaries, and
  not of when other keys' windows were closed. Each result has an id made of definition, key, window and revision, so that a
  replay gives the same ids.
* Every event is counted or left out, with the reason. Nothing is left out because of its payload's values: those are `skipped` by
  the aggregate that cannot use them.
* The state of a key goes when its last window is closed. What is left of a partition then is the row of its clock.

Its state are rows of a table, beside those of the calendar:

    "clock~"       watermarks, number of keys, what has been counted so far
    "key|<key>"    [windows, floor, deadline at which it stands in the calendar, place of the event that made it]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, Protocol

from processors.core.step import Step
from processors.core.watermarks import BEGINNING, Verdict, Watermarks, WatermarkView, is_time
from processors.core.windowing import keyed
from processors.core.windowing.definitions import Definition
from processors.core.windowing.due import Calendar
from schemas.events import Event
from schemas.windows import EventLeftOut, WindowEvicted, WindowResult, WindowSpan

__all__ = ["CLOCK", "KEYS_A_BATCH_MAX", "KEY_CHARS_MAX", "Occurrence", "Rows", "Windows", "WindowsView", "key_of", "step", "view"]

CLOCK: Final = "clock~"
KEY_PREFIX: Final = "key|"
KEY_CHARS_MAX: Final = 1024
"""Characters of a correlation key: a path as long as most file systems allow in practice."""
KEYS_A_BATCH_MAX: Final = 5000
"""Keys whose windows one batch completes without an event of theirs: bounds what it puts into a turn. The rest follow at once."""

_COUNTED: Final = ("events", "results", "late", "ahead", "no_key", "no_time", "evicted")


class Rows(Protocol):
    """The rows of one partition, to read: a dict, or a batch's view of a table."""

    def get(self, key: str, default: Any = None, /) -> Any:  # noqa: ANN401 as a mapping's
        """Return the row, or `default`."""


class Occurrence(NamedTuple):
    """One event as windows see it: its place in the log, its payload, and its time where the payload has none (epoch ms)."""

    topic: str
    partition: int
    offset: int
    fields: Mapping[str, Any]
    stamp: int = 0


class WindowsView(NamedTuple):
    """What console, command line and metrics show of one partition of one definition."""

    time: WatermarkView
    keys: int
    next_deadline: int | None
    counted: dict[str, int]


def step(rows: Rows, event: Occurrence, now_ms: int, definition: Definition) -> Step[dict[str, Any]]:
    """Take in one event of a partition.

    Args:
        rows: The partition's rows before it; only read.
        event: The event.
        now_ms: The wall clock: it decides on idleness and on what is ahead.
        definition: The windows; a table's definition stays the same (see `Definition.digest`).

    Returns:
        The rows that changed (None for one that goes), and the outputs.
    """
    work = Windows(definition, rows, now_ms)
    work.take(event)
    return work.done()


def view(rows: Rows, definition: Definition, now_ms: int) -> WindowsView:
    """Return what people see of one partition."""
    clock = rows.get(CLOCK) or {"time": None, "keys": 0, "counted": dict.fromkeys(_COUNTED, 0)}
    return WindowsView(
        Watermarks.load(clock["time"], definition.bounds).view(now_ms),
        clock["keys"],
        Calendar(rows, horizon_ms=definition.horizon_ms).next(),
        dict(clock["counted"]),
    )


class Windows:
    """One partition's windows while one batch works on them: any number of `take`, then `done`.

    The rows given are never changed, so a batch that is dropped leaves nothing behind.
    """

    __slots__ = ("_calendar", "_changed", "_counted", "_keys", "_outputs", "_rows", "_time", "definition", "now_ms")

    def __init__(self, definition: Definition, rows: Rows, now_ms: int) -> None:
        """Open the rows; see `step`."""
        self.definition, self.now_ms, self._rows = definition, now_ms, rows
        clock = rows.get(CLOCK) or {"time": None, "keys": 0, "counted": dict.fromkeys(_COUNTED, 0)}
        self._time = Watermarks.load(clock["time"], definition.bounds)
        self._keys: int = clock["keys"]
        self._counted = dict(clock["counted"])
        self._calendar = Calendar(rows, horizon_ms=definition.horizon_ms)
        self._changed: dict[str, Any] = {}
        self._outputs: list[Event] = []

    @property
    def mark(self) -> int:
        """The combined watermark so far."""
        return self._time.mark

    def expect(self, sources: Collection[str]) -> None:
        """Announce sources; see `Watermarks.expect`."""
        self._time.expect(sources, self.now_ms)

    def tick(self, behind: Collection[str] = (), *, listening_since_ms: int = 0) -> None:
        """Let wall time pass; see `Watermarks.tick`."""
        self._time.tick(self.now_ms, behind, listening_since_ms=listening_since_ms)

    def take(self, event: Occurrence) -> None:
        """Take in one event."""
        d = self.definition
        self._counted["events"] += 1
        key = key_of(event.fields.get(d.key))
        ts = event.stamp if d.time is None or event.fields.get(d.time) is None else event.fields[d.time]
        if not is_time(ts):
            self._leave_out(event, key, None, "no_time")
            return
        source = f"{event.topic}/{event.partition}"
        if self._time.observe(source, ts, self.now_ms) is Verdict.AHEAD:
            self._leave_out(event, key, ts, "ahead")
            return
        if key is None:
            self._leave_out(event, key, ts, "no_key")
            return
        row = self._row(key)
        before = keyed.load(row)
        passed = keyed.advance(d, before, self.mark)
        if row is not None:
            self._tell(key, row[3], passed.results, ())
        taken = keyed.take(d, passed.state, ts, event.fields, self.mark)
        if taken.late:
            self._leave_out(event, key, ts, "late")
        elif row is None:
            self._keys += 1
        born = row[3] if row is not None and passed.state.windows else f"{source}/{event.offset}"
        self._tell(key, born, taken.results, taken.dropped)
        if taken.state is not before:
            self._store(key, taken.state, None if row is None else row[2], born)
        if self._keys > d.keys_max:
            self._make_room(key)

    def done(self) -> Step[dict[str, Any]]:
        """Complete and close what the watermark has reached, and return rows and outputs. Call it once, last."""
        for deadline, key in self._calendar.pop(self.mark, keys_max=KEYS_A_BATCH_MAX):
            row = self._row(key)
            if row is None or row[2] != deadline:
                continue  # it stands elsewhere by now
            passed = keyed.advance(self.definition, keyed.load(row), self.mark)
            self._tell(key, row[3], passed.results, ())
            self._store(key, passed.state, None, row[3])
        self._changed.update(self._calendar.changed)
        clock = {"time": self._time.dump(), "keys": self._keys, "counted": self._counted}
        if clock != self._rows.get(CLOCK):
            self._changed[CLOCK] = clock
        return Step(self._changed, tuple(self._outputs))

    def wake_at(self) -> int | None:
        """Return the wall time at which there is something to do if nothing more comes, or None; ask after `done`."""
        deadline = self._calendar.next()
        return None if deadline is None else self._time.reaches(deadline, self.now_ms)

    # ---- inside

    def _row(self, key: str) -> Any:  # noqa: ANN401 a JSON value
        name = KEY_PREFIX + key
        return self._changed[name] if name in self._changed else self._rows.get(name)

    def _store(self, key: str, state: keyed.KeyState, stands_at: int | None, born: str) -> None:
        """Store a key's state, and enter the key into the calendar where it does not stand at its deadline or before it."""
        deadline = keyed.deadline(self.definition, state)
        if deadline is None:
            self._changed[KEY_PREFIX + key] = None
            self._keys -= 1
            return
        if stands_at is None or deadline < stands_at:
            self._calendar.put(key, deadline)
            stands_at = deadline
        self._changed[KEY_PREFIX + key] = [*keyed.dump(state), stands_at, born]

    def _make_room(self, newest: str) -> None:
        """Evict the key that ends soonest, and not the one that has just come."""
        last = 2**62
        spared: list[tuple[int, str]] = []
        while self._keys > self.definition.keys_max and (found := self._calendar.pop(last, keys_max=1)):
            [(deadline, key)] = found
            row = self._row(key)
            if row is None or row[2] != deadline:
                continue
            if key == newest:
                spared.append((deadline, key))
                continue
            state = keyed.load(row)
            due = keyed.deadline(self.definition, state)
            if due is not None and due > deadline:  # it stood too early: judge it by its true deadline
                self._store(key, state, None, row[3])
                continue
            self._tell(key, row[3], (), keyed.evicted(self.definition, state))
            self._changed[KEY_PREFIX + key] = None
            self._keys -= 1
        for deadline, key in spared:
            self._calendar.put(key, deadline)

    # ---- outputs

    def _leave_out(self, event: Occurrence, key: str | None, ts: int | None, reason: str) -> None:
        self._counted[reason] += 1
        place = f"{event.topic}/{event.partition}/{event.offset}"
        self._publish(
            EventLeftOut.from_fields,
            f"left-out/{place}",
            correlation_key=key or "",
            input_topic=event.topic,
            input_partition=event.partition,
            input_offset=event.offset,
            ts=ts,
            watermark=None if self.mark == BEGINNING else self.mark,
            reason=reason,
        )

    def _tell(self, key: str, born: str, results: Collection[keyed.Result], dropped: Collection[keyed.Dropped]) -> None:
        self._counted["results"] += len(results)
        self._counted["evicted"] += len(dropped)
        for one in results:
            self._publish(
                WindowResult.from_fields,
                f"{_digest(key, born)}/{one.start}-{one.end}/{one.revision}",
                correlation_key=key,
                start=one.start,
                end=one.end,
                status=one.status,
                revision=one.revision,
                final=one.final,
                events=one.events,
                values=self._named(one.values),
                skipped={name: n for name, n in self._named(one.skipped).items() if n},
                replaces=[WindowSpan(start=start, end=end) for start, end in one.replaces],
            )
        for gone in dropped:
            self._publish(
                WindowEvicted.from_fields,
                f"{_digest(key, born)}/{gone.start}-{gone.end}/evicted",
                correlation_key=key,
                start=gone.start,
                end=gone.end,
                reason=gone.reason,
                events=gone.events,
                values=self._named(gone.values),
                skipped={name: n for name, n in self._named(gone.skipped).items() if n},
            )

    def _named(self, numbers: Collection[Any]) -> dict[str, Any]:
        return dict(zip(self.definition.aggregates, numbers, strict=True))

    def _publish(self, make: Callable[[dict[str, Any]], Event], own_id: str, **fields: object) -> None:
        name = self.definition.name
        self._outputs.append(
            make(
                {
                    **fields,
                    "window": name,
                    "detected_at": self.now_ms,
                    "id": f"{name}/{own_id}",
                    "source": f"/antiphon/windows/{name}",
                }
            )
        )


def key_of(value: object) -> str | None:
    """Return a correlation key as text: a text that is not empty and not too long, or a whole number; None for what is none."""
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and 0 < len(value) <= KEY_CHARS_MAX else None


def _digest(key: str, born: str) -> str:
    """Return what makes a window's id its own: two lives of one key are two, and a key of any length and kind fits."""
    return hashlib.blake2b(f"{born}\0{key}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
