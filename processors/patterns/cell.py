"""What the pattern processors of one worker share: what the patterns topic says, compiled versions, the memory of its lanes.

    batch ─▶ lane opened ─▶ changes applied ─▶ records read ─▶ events through each version ─▶ what changed is stored
                                               └─▶ keyed anew: sent on with their origin

Everything between two `await`s of the processor, so no batch is ever given up in the middle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from processors.patterns.control import words
from processors.patterns.follower import Follower, Snapshot
from processors.patterns.lane import Lane, LaneBatch
from processors.patterns.reading import Reading, Taken, text_of
from processors.patterns.results import Results, Writer
from processors.patterns.versions import Run, Shelf
from processors.rekeying import Rekeying
from streams.errors import BrokerError
from streams.topics import Topics

if TYPE_CHECKING:
    from processors.patterns.control import Control
    from processors.patterns.needs import Need
    from processors.patterns.options import CepOptions
    from streams import App, Batch
    from streams.turns.batch import Record, View

__all__ = ["REKEYING", "Cell"]

log = logging.getLogger(__name__)

REKEYING: Final = Rekeying("cep")
"""Headers of records that are keyed anew."""

Found = dict[int, Taken]


class Cell:
    """See the module.

    Args:
        app: The app.
        options: Topics.
        keyed_topic: The full name of the topic of events that are keyed anew.
    """

    def __init__(self, app: App, options: CepOptions, *, keyed_topic: str) -> None:
        self._app, self._options, self._keyed_topic = app, options, keyed_topic
        self._shelf = Shelf(app.codec.catalogue, frozenset(options.keyed_topics))
        self._follower = Follower(
            app.options.client, options.topic(options.patterns_topic), check=self._problem, changed=self._changed
        )
        self._ready = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: dict[int, Lane] = {}
        self._writer: Writer | None = None
        self._readings: dict[object, Reading] = {}
        self._keyed_partitions: dict[str, int] = {}
        self._routes: tuple[int, dict[str, list[Need]]] = (-1, {})

    # ---- the patterns topic

    async def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow the patterns topic until cancelled."""
        self._loop = loop
        if self._options.keyed_topics:
            self._keyed_partitions = await self._count_partitions()
        self._follower.start()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(self._follower.close)

    async def ready(self) -> None:
        """Wait until the patterns topic has been read to its end once."""
        if not self._ready.is_set():
            await self._ready.wait()

    async def _count_partitions(self) -> dict[str, int]:
        """Return how many partitions the topics have that other workers key anew: from each of them events may come."""
        while True:
            try:
                found = await asyncio.to_thread(Topics(self._app.options.client).list)
            except BrokerError as error:
                log.warning("the partitions of AGENT_CEP_KEYED_TOPICS are not known yet: %s", error)
                await asyncio.sleep(COUNT_AGAIN_S)
                continue
            count = {info.name: info.partitions for info in found}
            for name in self._options.keyed_topics:
                if self._options.topic(name) not in count:
                    log.warning("topic %r of AGENT_CEP_KEYED_TOPICS does not exist: its events count from the first on", name)
            return {name: count.get(self._options.topic(name), 0) for name in self._options.keyed_topics}

    def _changed(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._ready.set()
        self._app.wake()

    def _problem(self, control: Control) -> str:
        """Say why a pattern cannot run in this app; empty where it can."""
        options, definition = self._options, control.definition
        assert definition is not None
        if not definition.topics:
            return "it names no topic"
        for name in definition.topics:
            if name not in options.topics and name not in options.keyed_topics:
                known = ", ".join((*options.topics, *options.keyed_topics))
                return f"it names topic {name!r}, and this app reads {known}: add it to AGENT_CEP_TOPICS and restart the workers"
            if name in options.keyed_topics and definition.key is None:
                return f"topic {name!r} is read for patterns with a key only (AGENT_CEP_KEYED_TOPICS)"
        try:
            self._shelf.get(control.version, definition)  # here and not in a lane, where it would be in every batch's way
        except Exception as error:  # noqa: BLE001 whatever it is, it is this pattern's
            return f"it cannot be compiled ({words(error)})"
        return ""

    # ---- batches

    def direct(self, batch: Batch, *, lanes: View, states: View) -> None:
        """Take a batch of a source topic."""
        self._process(batch, lanes, states, self._read_direct)

    def keyed(self, batch: Batch, *, lanes: View, states: View) -> None:
        """Take a batch of events that were keyed anew."""
        self._process(batch, lanes, states, self._read_keyed)

    def keys(self, batch: Batch) -> None:
        """Take a batch of a topic that is only keyed anew here."""
        reading = self._reading(batch, [], self._routes_of(batch.topic))
        if reading:
            self._route(batch, reading.read(batch.records, "")[1])

    # ---- inside

    def _process(self, batch: Batch, lanes: View, states: View, read: Callable[[Batch], Found]) -> None:
        work = self._open(batch, lanes, states)
        try:
            found = read(batch)
        except Exception:
            work.give_up()
            raise
        work.process(found, behind=lambda run: self._behind(batch, run))
        work.close()

    def _open(self, batch: Batch, lanes: View, states: View) -> LaneBatch:
        if self._writer is None:
            self._writer = Writer(self._app.codec, self._options)
        work = LaneBatch(
            self._lanes.setdefault(batch.partition, Lane()),
            batch,
            lanes=lanes,
            rows=states,
            shelf=self._shelf,
            results=Results(batch, self._writer),
            topics_of=self._topics_of,
            sources_of=self._sources_of,
            row_bytes_max=self._app.options.record_bytes_max * 9 // 10,
        )
        work.open(self._follower.current)
        work.apply(self._follower.current)
        return work

    def _read_direct(self, batch: Batch) -> Found:
        runs = [run for run in self._runs(batch) if run.compiled.need.keyed is None]
        reading = self._reading(batch, runs, self._routes_of(batch.topic))
        if not reading:
            return {}
        taken, routed = reading.read(batch.records, f"{batch.topic}/{batch.partition}")
        self._route(batch, routed)
        return {run.version: one for run, one in zip(runs, taken, strict=True)}

    def _runs(self, batch: Batch) -> list[Run]:
        """Return the versions that take events of this batch."""
        runs = self._lanes[batch.partition].runs.values()
        paused = {run.name for run in runs if run.status == "paused"}
        return [
            run
            for run in runs
            if run.status in ("active", "draining") and run.name not in paused and batch.topic in self._topics_of(run)
        ]

    def _topics_of(self, run: Run) -> tuple[str, ...]:
        need = run.compiled.need
        if need.keyed is not None:
            return (self._keyed_topic,)
        return tuple(map(self._options.topic, need.definition.topics))

    def _sources_of(self, run: Run, partition: int) -> list[str]:
        need, options = run.compiled.need, self._options
        if need.keyed is None:
            return [f"{options.topic(name)}/{partition}" for name in need.definition.topics]
        count = {**dict.fromkeys(options.topics, self._app.source_partitions), **self._keyed_partitions}
        return [f"{options.topic(name)}/{number}" for name in need.definition.topics for number in range(count.get(name, 0))]

    def _behind(self, batch: Batch, run: Run) -> list[str]:
        """Return the sources of a version that are known to have unread records."""
        caught_up, sources = self._app.caught_up, self._sources_of(run, batch.partition)
        if run.compiled.need.keyed is not None and caught_up(self._keyed_topic, batch.partition) is False:
            return sources
        behind = []
        for source in sources:
            topic, _, number = source.rpartition("/")
            if caught_up(topic, int(number)) is False:
                behind.append(source)
        return behind

    def _reading(self, batch: Batch, runs: list[Run], routes: list[Need]) -> Reading:
        key = (batch.topic, tuple(run.version for run in runs), tuple(id(need) for need in routes))
        reading = self._readings.get(key)
        if reading is None:
            if len(self._readings) >= READINGS_MAX:
                self._readings.clear()
            reading = self._readings[key] = Reading(self._app.codec, [run.compiled.need for run in runs], routes)
        return reading

    # ---- keying anew

    def _routes_of(self, topic: str) -> list[Need]:
        """Return the patterns for which the events of a topic are keyed anew."""
        snapshot: Snapshot = self._follower.current
        if self._routes[0] != snapshot.seq:
            routes: dict[str, list[Need]] = {}
            for control in snapshot.controls.values():
                if control.definition is not None and not control.paused:
                    need = self._shelf.get(control.version, control.definition).need
                    for name in need.definition.topics if need.keyed is not None else ():
                        routes.setdefault(self._options.topic(name), []).append(need)
            self._routes = (snapshot.seq, routes)
        return self._routes[1].get(topic, [])

    def _route(self, batch: Batch, routed: Iterable[tuple[Record, str, str]]) -> None:
        for record, field, key in routed:
            headers = REKEYING.headers_on(record, field)
            batch.send(self._keyed_topic, key=key.encode(), value=record.value, headers=headers)

    def _read_keyed(self, batch: Batch) -> Found:
        runs = [run for run in self._runs(batch) if run.compiled.need.keyed is not None]
        found: Found = {run.version: Taken() for run in runs}
        readings: dict[tuple[str, str], tuple[list[Run], Reading]] = {}
        for record in batch.records:
            topic, partition, offset, timestamp, field = REKEYING.origin_of(record)
            known = readings.get((topic, field))
            if known is None:
                mine = [run for run in runs if run.compiled.need.keyed == field and topic in self._names(run)]
                known = readings[topic, field] = (mine, self._reading(batch, mine, []))
            mine, reading = known
            planned = reading.plan(record) if mine else None
            if planned is None or record.key is None:
                continue
            plan, decoded = planned
            key = text_of(record.key)
            event = reading.event(plan, reading.fields(plan, record, decoded), (topic, partition, offset), key, timestamp)
            source = f"{topic}/{partition}"
            for target in plan.targets:
                found[mine[target].version].add(event, source, timestamp)
        return found

    def _names(self, run: Run) -> set[str]:
        return {self._options.topic(name) for name in run.compiled.definition.topics}


COUNT_AGAIN_S: Final = 1.0
"""When a broker that did not answer is asked again for the partitions of topics."""
READINGS_MAX: Final = 256
"""Sets of patterns remembered with what they read; lanes as a rule have the same set."""
