"""One batch of events through one pattern version: time, order, matching, and what is to be stored.

    events ─▶ late? ─┬─ in order already ──────────────────────▶ matcher ─▶ rows, results
                     └─ wait in the row until the watermark ─▶ by time ┘
                        then: what has waited long enough ends

What is found does not depend on how the log was cut into batches: an event is late by the watermark of the records before it;
the events of a key are taken in the order of their times, by arrival where those are equal; a key's clock goes to each of its
events before the event is taken, so it does not matter how often it was moved in between. (With a skip strategy and a wait that
can end in a match it would: there each wait ends on its own, see `Compiled.stepwise`.)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol

from processors.core.cep.outputs import Outputs, SkipMissed
from processors.core.cep.snapshot import StateMismatch
from processors.core.watermarks import Verdict

if TYPE_CHECKING:
    from processors.core.cep.outputs import EventFields, Evicted, Match, TimedOut
    from processors.patterns.reading import Event, Taken
    from processors.patterns.rows import Row, Waiting
    from processors.patterns.versions import Run

__all__ = ["KEYS_MAX", "Finds", "Rows", "Work"]

ROW_BYTES_MAX: Final = 900_000
"""Bytes of a row unless told otherwise: nine tenths of what Kafka then takes as one record, the rest is for its key."""
KEYS_MAX: Final = 5_000
"""Keys whose waits end in one batch: about as long as a batch of records takes. What is left comes in the next, at once."""


class Rows(Protocol):
    """What is needed of the table of states: a view of it in a worker, a dict in a backtest."""

    def get(self, key: tuple[int, str], /) -> Row | None:
        """Return a key's row; None where it has none."""

    def __setitem__(self, key: tuple[int, str], row: Row, /) -> None: ...

    def __delitem__(self, key: tuple[int, str], /) -> None: ...


class Finds(Protocol):
    """Where to write what is found: records in a worker (`results.Results`), a tally in a backtest."""

    def matched(self, name: str, version: int, matches: Iterable[Match]) -> None:
        """Write matches."""

    def timed_out(self, name: str, version: int, found: Iterable[TimedOut]) -> None:
        """Write partial matches whose window ended."""

    def evicted(self, name: str, version: int, found: Iterable[Evicted]) -> None:
        """Write partial matches that had to go for a limit."""

    def failed(self, name: str, version: int, key: str, event: EventFields | None, reason: str) -> None:
        """Write that a key's state was given up."""

    def late(self, name: str, version: int, event: EventFields, watermark: int, reason: str) -> None:
        """Write an event that took no part."""


class Work:
    """What one batch does to one version.

    Args:
        run: The version on this lane.
        rows: The table of states as the batch sees it.
        results: Where to write what is found.
        now_ms: The batch's clock.
        row_bytes_max: Bytes of a row.
    """

    def __init__(self, run: Run, rows: Rows, results: Finds, now_ms: int, *, row_bytes_max: int = ROW_BYTES_MAX) -> None:
        from processors.patterns.rows import Row

        self._row, self._row_bytes_max = Row, row_bytes_max
        self._run, self._rows, self._results, self._now = run, rows, results, now_ms
        self._matcher, self._version = run.matcher, run.version
        self._reset()
        self.changed = False
        """Whether anything is to be stored."""

    def _reset(self) -> None:
        self._states: dict[Any, Any] = {}
        self._before: dict[str, Any] = {}
        self._waiting: dict[str, list[Waiting]] = {}
        self._out = Outputs()

    # ---- events

    def take(self, taken: Taken, clocks: Sequence[int] | None = None) -> None:
        """Take events in the order of the log.

        Args:
            taken: The events.
            clocks: The wall clock at each, never going back, where it is not the batch's: of a log that is read again.
        """
        if not taken.events:
            return
        self.changed = True
        if self._run.compiled.need.buffered:
            self._wait(taken, clocks)
        else:
            inside = self._in_order(taken, clocks)
            if self._run.status == "draining":
                self._match_each([(event, False) for event in inside])
            else:
                self._match(inside)
            self._store()

    def _in_order(self, taken: Taken, clocks: Sequence[int] | None) -> list[Event]:
        """Return those that are not before the clock, which is their own time: without disorder there is nothing to wait for."""
        marks, run = self._run.marks, self._run
        mark, lag = marks.mark, run.compiled.bounds.disorder_ms + 1
        top, ahead = mark + lag, run.compiled.bounds.ahead_max_ms
        limits: Iterable[int | None] = repeat(None if ahead is None else self._now + ahead)
        if clocks is not None and ahead is not None:
            limits = [clock + ahead for clock in clocks]
        inside: list[Event] = []
        newest = -1
        for i, (event, limit) in enumerate(zip(taken.events, limits, strict=False)):
            ts = event["ts"]
            if ts <= mark:
                self._results.late(run.name, run.version, event, mark, "late")
            elif limit is not None and ts > limit:
                self._results.late(run.name, run.version, event, mark, "ahead")
            else:
                inside.append(event)
                if ts > top:
                    top, mark, newest = ts, ts - lag, i
        marks.observe(taken.source, top if newest >= 0 else taken.events[-1]["ts"], self._now if clocks is None else clocks[-1])
        self._newest(taken, newest)
        return inside

    def _newest(self, taken: Taken, at: int) -> None:
        """Remember when the newest event was written, where this batch has one that is newer."""
        run = self._run
        if at >= 0 and (run.newest is None or taken.events[at]["ts"] > run.newest[0]):
            ts = taken.events[at]["ts"]  # nothing is written before it happens: that clock was wrong then
            run.newest = (ts, min(max(taken.logged[at], ts), self._now))

    def _wait(self, taken: Taken, clocks: Iterable[int] | None) -> None:
        run, marks = self._run, self._run.marks
        starts = run.status != "draining"
        newest = -1
        sources = repeat(taken.source) if taken.source else taken.sources
        clocks = repeat(self._now) if clocks is None else clocks
        for i, (event, source, now) in enumerate(zip(taken.events, sources, clocks, strict=False)):
            verdict = marks.observe(source, event["ts"], now)
            if verdict is not Verdict.IN_TIME:
                self._results.late(run.name, run.version, event, marks.mark, verdict.value)
                continue
            if newest < 0 or event["ts"] > taken.events[newest]["ts"]:
                newest = i
            key = event["key"]
            if key not in self._before:
                self._touch(key)
            if not starts and key not in self._states and not self._waiting.get(key):
                continue  # nothing of the old version is left for this key
            self._waiting.setdefault(key, []).append((event, starts))
        self._newest(taken, newest)
        self._store()

    # ---- time

    def tick(self, behind: Iterable[str]) -> bool:
        """Let time pass, end what has waited long enough, and return whether there is more to end at once.

        Args:
            behind: Sources with unread records.
        """
        marks = self._run.marks
        unread = tuple(behind)
        marks.tick(self._now, unread)
        if not unread:
            self._run.follow(self._now)
        left = KEYS_MAX
        if self._run.releases:
            left = self._release(marks.mark, left)
        if self._run.deadlines and left:
            left = self._end(marks.mark, left)
        return not left

    def _release(self, mark: int, left: int) -> int:
        """Take the waiting events that the watermark has passed, of at most so many keys."""
        releases, rows, version = self._run.releases, self._rows, self._version
        ready: list[Waiting] = []
        while releases and releases[0][0] <= mark and left:
            first, key = heapq.heappop(releases)
            row = rows.get((version, key))
            if row is None or row.first != first or key in self._before:
                continue
            left -= 1
            self._touch(key)
            waiting = self._waiting[key]
            ready += sorted((one for one in waiting if one[0]["ts"] <= mark), key=_time_of)
            self._waiting[key] = [one for one in waiting if one[0]["ts"] > mark]
        if self._before:
            self.changed = True
            if self._run.status == "draining":
                self._match_each(ready)
            else:
                self._match([event for event, _ in ready])
            self._store(released=True)
        return left

    def _end(self, mark: int, left: int) -> int:
        """Move the clocks of keys whose waits the watermark has passed."""
        deadlines, rows, version = self._run.deadlines, self._rows, self._version
        while deadlines and deadlines[0][0] <= mark and left:
            due, key = heapq.heappop(deadlines)
            row = rows.get((version, key))
            if row is None or row.due != due or key in self._before:
                continue
            left -= 1
            self._touch(key)
            self._clock(key, mark)
        if self._before:
            self.changed = True
            self._store()
        return left

    def _clock(self, key: str, ts: int) -> None:
        """Move a key's clock, wait by wait."""
        matcher, states = self._matcher, self._states
        at = -1
        while (state := states.get(key)) is not None:
            due = matcher.deadline(state)
            if due is None or due > ts or due <= at:
                return
            at = due
            try:
                matcher.advance(states, key, due, self._out)
            except SkipMissed as missed:
                self._failed(key, None, missed)

    def next_ms(self) -> int | None:
        """Return the event time at which waiting changes something next; stale entries are forgotten on the way."""
        run, rows, version = self._run, self._rows, self._version
        for heap, of in ((run.deadlines, "due"), (run.releases, "first")):
            while heap and ((row := rows.get((version, heap[0][1]))) is None or getattr(row, of) != heap[0][0]):
                heapq.heappop(heap)
        return min((heap[0][0] for heap in (run.deadlines, run.releases) if heap), default=None)

    # ---- matching

    def _match_each(self, events: Sequence[Waiting]) -> None:
        """Take events one by one, per key in order of time, each with whether it may begin a partial match."""
        for event, starts in events:
            if event["key"] not in self._before:
                self._touch(event["key"])
            self._one(event, starts=starts)

    def _match(self, events: Sequence[Event]) -> None:
        """Take events, per key in order of time."""
        before, states = self._before, self._states
        for key in {event["key"] for event in events} - before.keys():
            self._touch(key)
        if self._run.compiled.stepwise:
            for event in events:
                self._one(event, starts=True)
            return
        try:
            self._matcher.run(states, events, self._out)
        except SkipMissed:  # which event it was is seen one by one, from where the batch began
            self._out = Outputs()
            states.clear()
            for key, row in before.items():
                if row is not None and (state := row.state(self._matcher)) is not None:
                    states[key] = state
            for event in events:
                self._one(event, starts=True)

    def _one(self, event: Event, *, starts: bool) -> None:
        key, states = event["key"], self._states
        if not starts and key not in states:
            return
        self._clock(key, event["ts"])
        if not starts and key not in states:
            return
        matcher = self._matcher if starts else self._run.compiled.ending
        try:
            matcher.run(states, (event,), self._out)
        except SkipMissed as missed:
            self._failed(key, event, missed)

    def _failed(self, key: str, event: Event | None, missed: SkipMissed) -> None:
        self._states.pop(key, None)
        self._results.failed(self._run.name, self._version, key, event, str(missed))

    # ---- rows

    def _touch(self, key: str) -> None:
        row = self._before[key] = self._rows.get((self._version, key))
        if row is None:
            return
        if row.waiting:
            self._waiting[key] = list(row.waiting)
        try:
            state = row.state(self._matcher)
        except StateMismatch as problem:
            self._results.failed(self._run.name, self._version, key, None, str(problem))
            return
        if state is not None:
            self._states[key] = state

    def _store(self, *, released: bool = False) -> None:
        """Write what was touched, remember when to look at it again, and hand over what was found.

        No record is to blame for a row that events `released` made too large; each batch would fail by it: its matches go.
        """
        rows, run, states, version, matcher = self._rows, self._run, self._states, self._version, self._matcher
        make, results = self._row, self._results
        for key, row in self._before.items():
            state, waiting = states.get(key), self._waiting.get(key, ())
            due = None if state is None else matcher.deadline(state)
            new = None if state is None and not waiting else make(matcher, state, waiting, due)
            if released and new is not None and state is not None and (size := new.size()) > self._row_bytes_max:
                results.failed(run.name, version, key, None, f"its row has {size} bytes, at most {self._row_bytes_max} are kept")
                new, due = (make(matcher, None, waiting, None) if waiting else None), None
            if new is None:
                if row is not None:
                    del rows[version, key]
                    run.rows -= 1
                continue
            rows[version, key] = new
            if row is None:
                run.rows += 1
            if due is not None and (row is None or row.due != due):
                heapq.heappush(run.deadlines, (due, key))
            if new.first is not None and (row is None or row.first != new.first):
                heapq.heappush(run.releases, (new.first, key))
        run.tidy(rows)
        results.matched(run.name, version, self._out.matches)
        if run.compiled.definition.timed_out:
            results.timed_out(run.name, version, self._out.timed_out)
        results.evicted(run.name, version, self._out.evicted)
        self._reset()


def _time_of(waiting: Waiting) -> int:
    ts: int = waiting[0]["ts"]
    return ts
