"""One pattern version on trial: its events by lane, the worker's `Work` for each, and what the end of the range leaves open.

See `backtest` for what stands in the place of a worker's tables, topics and clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import murmur2

from processors.core.cep.engine import Matcher
from processors.core.cep.outputs import EventFields, Outputs
from processors.core.watermarks import BEGINNING
from processors.patterns.found import Found, Tally
from processors.patterns.reading import Taken
from processors.patterns.versions import Compiled, Run
from processors.patterns.work import Work

if TYPE_CHECKING:
    from processors.core.cep.model import Definition
    from processors.core.cep.outputs import PartialMatch
    from processors.patterns.reading import Event
    from processors.patterns.rows import Row
    from schemas.catalogue import Catalogue

__all__ = ["Open", "OpenPartial", "Trial"]


class _Metered(Matcher):
    """A matcher that remembers how many partial matches a key had at most."""

    def __init__(self, compiled: Compiled) -> None:
        super().__init__(compiled.matcher.automaton, partial_matches_max=compiled.matcher.partial_matches_max)
        self.most, self.most_key = 0, ""
        self._plain_run = self.run
        self.run = self._metered_run

    def _metered_run(self, states: Any, events: Iterable[EventFields], out: Outputs) -> None:  # noqa: ANN401 the engine's own
        run, count, get = self._plain_run, self.count, states.get
        for event in events:
            run(states, (event,), out)
            state = get(event["key"])
            if state is not None and ((n := count(state)) > self.most or (n == self.most and event["key"] < self.most_key)):
                self.most, self.most_key = n, event["key"]


@dataclass(slots=True)
class _Lane:
    """One partition's worth of one pattern.

    Attributes:
        run: As in a worker.
        clock: The wall clock, as far as this lane's events told it.
        before: It, at the last event that was matched.
        taken: Events read and not yet matched.
        clocks: The wall clock at each.
        heard: When each source was heard last; without those that are idle.
        idle_ms: The next of them is not idle before.
    """

    run: Run
    clock: int
    before: int
    heard: dict[str, int]
    idle_ms: int = BEGINNING
    taken: Taken = field(default_factory=Taken)
    clocks: list[int] = field(default_factory=list)

    def parts(self) -> Iterator[tuple[Taken, list[int]]]:
        """Give out what was taken, cut where a worker would have noticed that a source is silent, and lets time go on."""
        taken, clocks = self.taken, self.clocks
        self.taken, self.clocks = Taken(), []
        begin = 0
        for end in (*(i for i, clock in enumerate(clocks) if self._fell_silent(taken, i, clock)), len(clocks)):
            if begin == 0 and end == len(clocks):
                yield taken, clocks
            elif begin < end:
                part = Taken()
                part.source, part.sources = taken.source, taken.sources[begin:end]
                part.events, part.logged = taken.events[begin:end], taken.logged[begin:end]
                yield part, clocks[begin:end]
            begin = end

    def _fell_silent(self, taken: Taken, at: int, clock: int) -> bool:
        """Hear an event, and return whether a source had become idle since the one before."""
        idle_after_ms = self.run.compiled.definition.idle_after_ms
        silent: list[str] = []
        if clock >= self.idle_ms:
            silent = [source for source, heard in self.heard.items() if clock - heard >= idle_after_ms]
            for source in silent:
                del self.heard[source]
            self.idle_ms = min(self.heard.values(), default=clock) + idle_after_ms
        ahead_max_ms = self.run.compiled.bounds.ahead_max_ms
        if ahead_max_ms is None or taken.events[at]["ts"] <= clock + ahead_max_ms:
            self.heard[taken.sources[at]] = clock
        return bool(silent)


@dataclass(frozen=True, slots=True)
class OpenPartial:
    """A partial match that the end of the range left open.

    Attributes:
        of: Its records, by stage.
        deadline: When its time is up, ms; None: never.
        pending: Whether it is a match then, if nothing comes that ends it before.
    """

    of: Found
    deadline: int | None
    pending: bool


@dataclass(frozen=True, slots=True)
class Open:
    """What the end of the range left open.

    Attributes:
        keys: Keys with partial matches or waiting events.
        partial_matches: How many partial matches.
        pending: How many of them are matches once their time is up.
        waiting: Events that wait for the watermark: they have not been matched.
        first_deadline: The earliest deadline, ms; None where nothing has one.
        watermarks: The least and the greatest watermark over the lanes that have events, ms; None without any.
        partials: The first of them by deadline.
    """

    keys: int
    partial_matches: int
    pending: int
    waiting: int
    first_deadline: int | None
    watermarks: tuple[int, int] | None
    partials: tuple[OpenPartial, ...]


class Trial:
    """One pattern version on trial.

    Args:
        label: What to call it: name@version, or a file.
        definition: It.
        catalogue: The event types, which tell the keys of records.
        rekeyed: Topics whose events are always keyed anew (`CepOptions.keyed_topics`).
        prefix: What goes before topic names.
        limit: How many matches are kept to be shown.

    Raises:
        PatternError: The pattern does not compile.
    """

    def __init__(
        self,
        label: str,
        definition: Definition,
        catalogue: Catalogue,
        *,
        rekeyed: frozenset[str] = frozenset(),
        prefix: str = "",
        limit: int = 20,
    ) -> None:
        self.label, self.definition = label, definition
        self.compiled = Compiled(definition, catalogue, rekeyed)
        self._meter = self.compiled.matcher = _Metered(self.compiled)
        self.topics = tuple(prefix + name for name in definition.topics)
        self.announced = tuple(prefix + name for name in definition.topics if name not in rekeyed)
        """Topics whose every partition holds time back until it speaks or is idle."""
        self.tally = Tally(limit)
        self.taken = 0
        """Events of its topics and types that have a key, late ones among them."""
        self._lanes: dict[int, _Lane] = {}
        self._rows: dict[tuple[int, str], Row] = {}
        self._partitions: Mapping[str, int] = {}
        self._began_ms = 0

    @property
    def merged(self) -> bool:
        """Whether its lanes have several sources, so that records are to be read in the order of time."""
        return len(self.topics) > 1 or self.compiled.need.keyed is not None

    @property
    def most(self) -> tuple[int, str]:
        """The most partial matches that a key had after an event, and the key."""
        return self._meter.most, self._meter.most_key

    def begin(self, partitions: Mapping[str, int], began_ms: int) -> None:
        """Learn how many partitions each topic has, and when the range begins."""
        self._partitions, self._began_ms = partitions, began_ms

    # ---- events

    def add(self, key: str, lane: int, event: Event, source: str, logged: int) -> None:
        """Take an event to its lane; `match` goes on with it."""
        keyed = self.compiled.need.keyed is not None
        number = murmur2(key.encode("utf-8", "backslashreplace"), self._lane_count) if keyed else lane
        at = self._lanes.get(number)
        if at is None:
            at = self._lanes[number] = self._new_lane(number)
        at.clock = max(logged, at.clock)
        at.taken.add(event, source, logged)
        at.clocks.append(at.clock)
        self.taken += 1

    @property
    def _lane_count(self) -> int:
        return max(self._partitions[name] for name in self.announced or self.topics)

    def _new_lane(self, number: int) -> _Lane:
        run = Run.load(len(self._lanes), self.compiled, "active", None)  # rows of all lanes are in one dict: a number for each
        keyed = self.compiled.need.keyed is not None
        numbers = {name: range(self._partitions[name]) if keyed else (number,) for name in self.announced}
        sources = [f"{name}/{one}" for name, of in numbers.items() for one in of]
        run.marks.expect(sources, self._began_ms)
        return _Lane(run, self._began_ms, self._began_ms, dict.fromkeys(sources, self._began_ms))

    def match(self) -> None:
        """Match what has been read."""
        for lane in self._lanes.values():
            if not lane.clocks:
                continue
            if not self.compiled.need.buffered:
                lane.taken.source = lane.taken.sources[0]  # one log: `Work` does not look for another
            for part, clocks in lane.parts():
                self._pass_time(lane, clocks[0])
                work = Work(lane.run, self._rows, self.tally, clocks[-1])
                work.take(part, clocks)
                lane.before = clocks[-1]
                while work.tick(()):
                    pass  # waits of thousands of keys end

    def _pass_time(self, lane: _Lane, until_ms: int) -> None:
        """Let time pass without an event, waking when a worker does: where silence lets something end."""
        now, run = lane.before, lane.run
        while True:
            work = Work(run, self._rows, self.tally, now)
            due = work.next_ms()
            at = None if due is None else run.reaches(due, now)
            if at is None or at > until_ms:
                return
            now = max(at, now + 1)
            work = Work(run, self._rows, self.tally, now)
            while work.tick(()):
                pass  # waits of thousands of keys end

    # ---- the end

    def end(self, now_ms: int) -> None:
        """Let time pass to the end of the range, and not beyond it."""
        for lane in self._lanes.values():
            self._pass_time(lane, now_ms)

    def open(self, limit: int) -> Open:
        """Return what is open."""
        partials: list[OpenPartial] = []
        waiting = 0
        for (_, key), row in self._rows.items():
            waiting += len(row.waiting)
            state = row.state(self.compiled.matcher)
            views: list[PartialMatch] = [] if state is None else self.compiled.matcher.view(state)
            partials += [OpenPartial(Found.of(key, one.stages), one.deadline, one.pending) for one in views]
        partials.sort(key=lambda one: (one.deadline is None, one.deadline or 0, one.of))
        marks = [lane.run.marks.mark for lane in self._lanes.values() if lane.run.marks.mark != BEGINNING]
        return Open(
            keys=len(self._rows),
            partial_matches=len(partials),
            pending=sum(1 for one in partials if one.pending),
            waiting=waiting,
            first_deadline=partials[0].deadline if partials else None,
            watermarks=(min(marks), max(marks)) if marks else None,
            partials=tuple(partials[:limit]),
        )
