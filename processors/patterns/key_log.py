"""What an explanation reads: the changelogs of the tables, and a key's last events, from the end of their topics backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from processors.patterns.cell import REKEYING
from processors.patterns.reading import Event, Reading, text_of
from processors.patterns.refusals import QUICK
from schemas.errors import SchemaError
from streams.reader import LogReader, Selection

if TYPE_CHECKING:
    from processors.patterns.needs import Need
    from processors.patterns.options import CepOptions
    from streams.codec import Codec
    from streams.reader import Bounds
    from streams.transport import Record

__all__ = ["KeyLog", "Logged", "OnRead"]

LOOK_BACK: Final = (1_000, 20_000, 400_000)
"""Records of a partition that are searched for the key's last events, from its end; after the last number, all of it if there
was none."""

NEVER_MS: Final = 1 << 63
"""A time that no record has."""

OnRead = Callable[[int], None]


class KeyLog:
    """Bounded readings of the log, counted."""

    def __init__(self, config: Mapping[str, Any], on_read: OnRead | None) -> None:
        self._reader = LogReader({**config, **QUICK})
        self._on_read = on_read
        self._count = 0

    def _batches(self, bounds: Bounds) -> Iterator[list[Record]]:
        for batch, _ in self._reader.read(bounds):
            self._count += len(batch)
            if self._on_read is not None:
                self._on_read(self._count)
            yield batch

    def table(self, changelog: str, takes: Callable[[bytes], bool]) -> dict[tuple[int, bytes], bytes]:
        """The latest values of the keys that are wanted, by partition and raw key."""
        latest: dict[tuple[int, bytes], bytes] = {}
        for batch in self._batches(self._reader.bounds([changelog])):
            for record in batch:
                if record.key is None or not takes(record.key):
                    continue
                if record.value is None:
                    latest.pop((record.partition, record.key), None)
                else:
                    latest[record.partition, record.key] = record.value
        return latest

    def last_events(
        self,
        need: Need,
        key: str,
        partition: int | None,
        codec: Codec,
        options: CepOptions,
        app_id: str,
        *,
        over_ms: int,
    ) -> list[Logged]:
        """The last events of a key that a pattern reads, by time: one at least if there is one, and so long before it."""
        keyed = need.keyed is not None
        topics = [options.keyed(app_id)] if keyed else [options.topic(name) for name in need.definition.topics]
        partitions = None if partition is None else frozenset([partition])
        starts: tuple[int | None, ...] = (*(-back for back in LOOK_BACK), None)
        whole = self._reader.bounds(topics, Selection(partitions=partitions))
        found: list[Logged] = []
        for start in starts:
            bounds = self._reader.bounds(topics, Selection(start_offset=start, partitions=partitions))
            first_ms: dict[int, int] = {}
            records = []
            for batch in self._batches(bounds):
                for record in batch:
                    if record.timestamp < first_ms.get(record.partition, NEVER_MS):
                        first_ms[record.partition] = record.timestamp
                    if record.key is not None and text_of(record.key) == key:
                        records.append(record)
            found = sorted(_events(need, records, codec, keyed=keyed), key=lambda one: int(one.event["ts"]))
            enough = found and first_ms[found[-1].partition] <= found[-1].logged_ms - over_ms
            if enough or (found and start == -LOOK_BACK[-1]) or all(bounds[lane][0] <= whole[lane][0] for lane in bounds):
                break
        return found


@dataclass(frozen=True, slots=True)
class Logged:
    """An event, and where the worker read it: for an event that was keyed anew that is not its own place."""

    event: Event
    topic: str
    partition: int
    offset: int
    logged_ms: int


def _events(need: Need, records: list[Record], codec: Codec, *, keyed: bool) -> list[Logged]:
    """The events that a pattern sees in records of one key; a record that is none was dead-lettered by the worker."""
    reading = Reading(codec, [need])
    events = []
    for record in records:
        place, timestamp = (record.topic, record.partition, record.offset), record.timestamp
        assert record.key is not None, "it is the key's"
        try:
            if keyed:
                topic, partition, offset, timestamp, field = REKEYING.origin_of(record)
                if field != need.keyed:
                    continue
                place = (topic, partition, offset)
            planned = reading.plan(record)
            if planned is None:
                continue
            plan, decoded = planned
            event = reading.event(plan, reading.fields(plan, record, decoded), place, text_of(record.key), timestamp)
        except SchemaError:
            continue
        events.append(Logged(event, record.topic, record.partition, record.offset, record.timestamp))
    return events
