"""An in-memory log for your own unit tests: the client facade without a broker.

    async def test_my_service():
        log = InMemoryLog()
        log.create_topic("agents.events", partitions=4)
        async with log.connect() as mesh:
            await my_service.run_once(mesh)
            assert log.events("agents.events") == [...]

It passes the contract suite that the real broker passes (`tests/contracts/`): order within a partition, the same partition for
a key, groups that share partitions, offsets that follow the contiguous acknowledgements, redelivery, late acknowledgements
ignored. It does not have what only a broker has: durability, kafka transactions, compaction, faults. Nothing of the product
itself runs on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from confluent_kafka import murmur2

from schemas.errors import AntiphonError
from streams.client import connect
from streams.codec import Codec
from streams.errors import QueueFull, TopicError, TopicExists, TopicMissing
from streams.settings import Settings
from streams.transport import FeedOptions, Lane, Outgoing, Position, Record

if TYPE_CHECKING:
    from schemas.events import Event

__all__ = ["InMemoryLog"]

RECORDS_MAX: Final = 1_000_000
"""Records of one log: a unit test that writes more has a loop without an end."""

DEFAULT_PARTITIONS: Final = 4
"""As the worker's topics have by default."""


class InMemoryLog:
    """Topics, partitions, records and group offsets of one test."""

    def __init__(self, *, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        """Make an empty one.

        Args:
            clock_ms: Gives the records' timestamps, for tests that want their own time.
        """
        self._clock_ms = clock_ms
        self._topics: dict[str, list[list[Record]]] = {}
        self._committed: dict[tuple[str, str, int], int] = {}
        self._feeds: list[_MemoryFeed] = []
        self._next = 0
        self._count = 0

    # ---- for tests

    def connect(self, *, settings: Settings | None = None, codec: Codec | None = None, source: str = "") -> connect:
        """Return a connection to this log, to be used as `streams.client.connect` is."""
        return connect(settings if settings is not None else Settings(), codec=codec, source=source, log=self)

    def create_topic(self, topic: str, *, partitions: int = DEFAULT_PARTITIONS) -> None:
        """Create a topic.

        Raises:
            TopicExists: It is there already.
        """
        if topic in self._topics:
            raise TopicExists(topic)
        self._topics[topic] = [[] for _ in range(partitions)]
        self._changed()

    def records(self, topic: str) -> list[Record]:
        """Return a topic's records, partition by partition.

        Raises:
            TopicMissing: There is no such topic.
        """
        return [record for partition in self._partitions(topic) for record in partition]

    def events(self, topic: str, codec: Codec | None = None) -> list[Event]:
        """Return a topic's events, partition by partition."""
        decode = (codec or Codec()).decode
        return [decode(record) for record in self.records(topic)]

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offsets that a group has committed, by partition."""
        return {partition: offset for (name, at, partition), offset in self._committed.items() if (name, at) == (group, topic)}

    def read(self, topic: str) -> Iterator[Record]:
        """Replay a topic in the order of time, each partition in its own order."""
        yield from sorted(self.records(topic), key=lambda record: record.timestamp)

    # ---- the log

    async def open(self) -> None:
        """It is always there."""

    def sender(self, *, prompt: bool = False) -> _MemorySender:  # noqa: ARG002 - nothing here waits for company
        """Return a sender."""
        return _MemorySender(self)

    def feed(self, options: FeedOptions) -> _MemoryFeed:
        """Return a new feed."""
        return _MemoryFeed(self, options)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return len(self._partitions(topic))

    async def ensure_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:  # noqa: ARG002 - nothing here is ever deleted
        """Create a topic where it is missing."""
        if topic not in self._topics:
            self.create_topic(topic, partitions=partitions)

    async def read_back(self, topic: str, partition: int, *, start_ms: int, count_max: int) -> list[Record]:
        """Return a partition's records since a time, the last ones where there are more than `count_max`, as of now."""
        return [record for record in self._partitions(topic)[partition][-count_max:] if record.timestamp >= start_ms]

    async def close(self) -> None:
        """Nothing to end: other connections may go on."""

    def append(self, record: Outgoing) -> Position:
        """Append a record."""
        partitions = self._partitions(record.topic)
        if self._count >= RECORDS_MAX:
            raise QueueFull(f"the in-memory log has {RECORDS_MAX:,} records: it is for unit tests")
        number = record.partition
        if number < 0:
            if record.key is None:
                number, self._next = self._next % len(partitions), self._next + 1
            else:
                number = murmur2(record.key, len(partitions))
        if number >= len(partitions):
            raise TopicError(record.topic, f"topic {record.topic} has no partition {number}: it has {len(partitions)}")
        partition = partitions[number]
        position = Position(record.topic, number, len(partition))
        partition.append(Record(*position, self._clock_ms(), record.key, record.value, tuple(record.headers)))
        self._count += 1
        for feed in self._feeds:
            feed.wake.set()
        return position

    def _partitions(self, topic: str) -> list[list[Record]]:
        try:
            return self._topics[topic]
        except KeyError:
            raise TopicMissing(topic) from None

    def _matching(self, options: FeedOptions) -> list[tuple[str, int]]:
        only = options.read_partition
        return [
            (topic, number)
            for topic, partitions in sorted(self._topics.items())
            if options.pattern.matches(topic)
            for number in range(len(partitions))
            if only is None or number == only
        ]

    def join(self, feed: _MemoryFeed) -> None:
        """Let a feed in."""
        self._feeds.append(feed)
        self._changed()

    def leave(self, feed: _MemoryFeed) -> None:
        """Let a feed go; its group shares its partitions anew."""
        if feed in self._feeds:
            self._feeds.remove(feed)
            self.save(feed, feed.lanes.values())
            feed.assign(())
            self._changed()

    def save(self, feed: _MemoryFeed, lanes: Iterable[Lane]) -> None:
        """Keep what is acknowledged as the group's offsets."""
        if feed.options.group is not None:
            for lane in lanes:
                if lane.window.position >= 0 and not lane.over:
                    self._committed[feed.options.group, lane.topic, lane.partition] = lane.window.position

    def _changed(self) -> None:
        """Share partitions among the members of each group; without a group everyone has all."""
        groups: dict[str, list[_MemoryFeed]] = {}
        for feed in self._feeds:
            if feed.options.group is None:
                feed.assign(self._matching(feed.options))
            else:
                groups.setdefault(feed.options.group, []).append(feed)
        for members in groups.values():
            shares: list[list[tuple[str, int]]] = [[] for _ in members]
            every = sorted({place for member in members for place in self._matching(member.options)})
            for place in every:
                able = [n for n, member in enumerate(members) if member.options.pattern.matches(place[0])]
                shares[min(able, key=lambda n: (len(shares[n]), n))].append(place)
            for member, share in zip(members, shares, strict=True):
                member.give_up(share)
            for member, share in zip(members, shares, strict=True):
                member.assign(share)

    def start_of(self, feed: _MemoryFeed, topic: str, partition: int) -> int:
        """Return where a feed begins in a partition."""
        group = feed.options.group
        if group is not None and (group, topic, partition) in self._committed:
            return self._committed[group, topic, partition]
        late = feed.options.start == "latest" and not feed.started
        return len(self._topics[topic][partition]) if late else 0

    def slice(self, topic: str, partition: int, start: int, count: int) -> Sequence[Record]:
        """Return records of a partition."""
        return self._topics[topic][partition][start : start + count]


class _MemorySender:
    """Appends at once."""

    def __init__(self, log: InMemoryLog) -> None:
        self._log = log

    async def send(self, record: Outgoing) -> Position:
        await asyncio.sleep(0)  # as with a broker, others run meanwhile
        return self._log.append(record)

    async def send_soon(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None] | None = None) -> None:  # noqa: ARG002 - a missing topic is raised here, and nothing else can fail
        await self.send(record)

    def offer(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None]) -> bool:
        try:
            self._log.append(record)
        except AntiphonError as error:
            on_error(error, record)
        return True

    async def flush(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.flush()


class _MemoryFeed:
    """One subscription's share."""

    def __init__(self, log: InMemoryLog, options: FeedOptions) -> None:
        self._log = log
        self.options = options
        self.lanes: dict[tuple[str, int], Lane] = {}
        self._read: dict[tuple[str, int], int] = {}
        self.wake = asyncio.Event()
        self.started = False

    async def start(self) -> None:
        literal = self.options.pattern.literal
        if literal:
            await self._log.partitions(literal)
        self._log.join(self)
        self.started = True

    def give_up(self, keep: Iterable[tuple[str, int]]) -> None:
        """End the lanes that are not to be kept, committing them."""
        for place in set(self.lanes) - set(keep):
            lane = self.lanes.pop(place)
            self._log.save(self, [lane])
            lane.over = True

    def assign(self, places: Iterable[tuple[str, int]]) -> None:
        """Have exactly these partitions."""
        wanted = list(places)
        self.give_up(wanted)
        for place in wanted:
            if place not in self.lanes:
                self._read[place] = self._log.start_of(self, *place)
                self.lanes[place] = Lane(*place, self._read[place])
        self.wake.set()

    async def batch(self) -> Sequence[tuple[Lane, Record]]:
        while True:
            self.wake.clear()
            found: list[tuple[Lane, Record]] = []
            for place, lane in self.lanes.items():
                room = min(self.options.buffer_max - len(found), self.options.unacked_max - len(lane.window))
                records = self._log.slice(*place, self._read[place], max(0, room))
                self._read[place] += len(records)
                found += [(lane, record) for record in records]
            if found:
                return found
            await self.wake.wait()

    def take(self, lane: Lane, offset: int) -> bool:
        if not lane.over:
            lane.window.take(offset)
        return not lane.over

    def ack(self, lane: Lane, offset: int) -> bool:
        if lane.over:
            return False
        lane.window.ack(offset)
        self.wake.set()
        return True

    async def commit(self) -> None:
        self._log.save(self, self.lanes.values())

    async def close(self) -> None:
        self._log.leave(self)
        self.wake.set()
