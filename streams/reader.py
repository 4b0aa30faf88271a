"""Reads a bounded part of topics, once, from one thread: the base of replay, of rebuilt projections and of the dead letter tools.

    where each partition begins and ends is fixed first  ─▶  records below the ends, in batches  ─▶  done

Guarantees: within a partition records come in their order, committed ones only. It ends, also where the last offsets of a
partition hold no record (compacted away, control markers, aborted kafka transactions): what counts is the reader's position,
not the last record. The end is the log's own end, not the last stable offset: a kafka transaction that was open when the
reading began is waited for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.core.merging import Merge
from streams.errors import BrokerUnavailable, SettingsError, TopicError
from streams.fetching import record_of
from streams.topics import REFUSED, Topics, broker_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streams.transport import Record

__all__ = ["Bounds", "LogReader", "Selection"]

Lane = tuple[str, int]
Bounds = dict[Lane, tuple[int, int]]
"""Topic and partition to the first offset and the one after the last."""

POLL_S: Final = 0.2
"""One wait for records."""
FETCH_MAX: Final = 2_000
"""Records of one batch: large enough that the hand-over costs nothing, small enough for a progress bar."""
TIMEOUT_S: Final = 10.0
"""For one question about offsets."""
STALL_S: Final = 120.0
"""Without any progress for this long the reading gives up: the broker is gone, or a kafka transaction stays open past every
usual timeout."""
HELD_MAX: Final = 10_000
"""Records of one partition that wait for the others when several are merged; it pauses beyond that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records. What is not given does not restrict; what is given must all hold.

    Attributes:
        start_offset: From this offset of each partition on; negative counts from the end.
        end_offset: Below this offset.
        start_ms: With a timestamp from this on.
        end_ms: With a timestamp below this.
        key: With exactly this key.
        first_key: With a key from this on, in byte order.
        last_key: With a key up to this, inclusive.
        partitions: In these partitions.

    Raises:
        SettingsError: A range is the wrong way round.
    """

    start_offset: int | None = None
    end_offset: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    key: bytes | None = None
    first_key: bytes | None = None
    last_key: bytes | None = None
    partitions: frozenset[int] | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("offset", self.start_offset, self.end_offset),
            ("time", self.start_ms, self.end_ms),
            ("key", self.first_key, self.last_key),
        ):
            if low is not None and high is not None and not (isinstance(low, int) and low < 0) and low > high:  # type: ignore[operator]
                raise SettingsError(f"{name} range {low!r} to {high!r} is the wrong way round: the first must not be larger")

    def takes(self, record: Record) -> bool:
        """Return whether a record within the offsets is selected."""
        if self.start_ms is not None and record.timestamp < self.start_ms:
            return False
        if self.end_ms is not None and record.timestamp >= self.end_ms:
            return False
        if self.key is not None and record.key != self.key:
            return False
        if self.first_key is not None and (record.key is None or record.key < self.first_key):
            return False
        return self.last_key is None or (record.key is not None and record.key <= self.last_key)


class LogReader:
    """See the module.

    Args:
        config: What every confluent-kafka client is made with.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = dict(config)
        self._servers = str(config["bootstrap.servers"])
        self.topics = Topics(self._config)

    def bounds(self, topics: Iterable[str], selection: Selection | None = None) -> Bounds:
        """Return where each partition begins and ends for a selection, as of now.

        Raises:
            TopicMissing: A topic does not exist.
            TopicError: A partition was asked for that there is not.
            BrokerError: The broker does not answer or refuses.
        """
        chosen = selection or Selection()
        found: Bounds = {}
        for topic in topics:
            partitions = {one.partition: (one.first_offset, one.next_offset) for one in self.topics.describe(topic).partitions}
            absent = sorted((chosen.partitions or frozenset()) - partitions.keys())
            if absent:
                raise TopicError(topic, f"topic {topic} has no partition {absent[0]}: it has {len(partitions)}")
            for partition, (low, high) in partitions.items():
                if chosen.partitions is None or partition in chosen.partitions:
                    start, end = low, high
                    if chosen.start_offset is not None:
                        start = chosen.start_offset + (high if chosen.start_offset < 0 else 0)
                    if chosen.end_offset is not None:
                        end = min(end, chosen.end_offset)
                    found[topic, partition] = (min(max(start, low), high), end)
        return found if chosen.start_ms is None else self._later(found, chosen.start_ms)

    def _later(self, bounds: Bounds, start_ms: int) -> Bounds:
        """Move the beginnings to the first record of a time: earlier ones have earlier timestamps, all of them."""
        consumer = self._consumer()
        try:
            asked = [TopicPartition(topic, partition, start_ms) for topic, partition in bounds]
            answers = consumer.offsets_for_times(asked, TIMEOUT_S)
        except KafkaException as error:
            raise broker_error(self._servers, error.args[0]) from error
        finally:
            consumer.close()
        moved = {(one.topic, one.partition): one.offset for one in answers}
        return {lane: (max(start, moved[lane]) if moved[lane] >= 0 else end, end) for lane, (start, end) in bounds.items()}

    def read(self, bounds: Bounds, *, merged: bool = False) -> Iterator[tuple[list[Record], int]]:
        """Read everything within the bounds.

        Args:
            bounds: As `bounds` gave them.
            merged: In the order of time over all partitions, instead of as they come.

        Yields:
            Records, and how many offsets are behind us so far. A batch may be empty where only markers were passed.

        Raises:
            BrokerError: The broker does not answer or refuses, or nothing moved for `STALL_S`.
        """
        open_lanes = {lane: start for lane, (start, end) in bounds.items() if start < end}
        if not open_lanes:
            return
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(topic, partition, start) for (topic, partition), start in open_lanes.items()])
            yield from self._merged(consumer, bounds, open_lanes) if merged else self._batches(consumer, bounds, open_lanes)
        except KafkaException as error:
            raise broker_error(self._servers, error.args[0], seen=self._errors) from error
        finally:
            consumer.close()

    def _batches(self, consumer: Any, bounds: Bounds, open_lanes: dict[Lane, int]) -> Iterator[tuple[list[Record], int]]:  # noqa: ANN401
        done = 0
        last_move = time.monotonic()
        while open_lanes:
            moved, records = 0, []
            first = consumer.poll(POLL_S)
            for message in [] if first is None else [first, *consumer.consume(FETCH_MAX - 1, 0)]:
                lane = (message.topic(), message.partition())
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    if error.retriable():
                        continue
                    raise broker_error(self._servers, error, seen=self._errors)
                if lane not in open_lanes:
                    continue
                end = bounds[lane][1]
                if error is None and message.offset() < end:
                    records.append(record_of(message))
                at = min(end, message.offset() + (error is None))
                moved += at - open_lanes[lane]
                open_lanes[lane] = at
                if at >= end:
                    del open_lanes[lane]
                    if open_lanes:
                        consumer.pause([TopicPartition(*lane)])
            refused = next((one for one in self._errors if one.code() in REFUSED), None)
            if refused is not None:
                raise broker_error(self._servers, refused)
            if moved or records:
                done += moved
                last_move = time.monotonic()
                yield records, done
                last_move = time.monotonic()  # the reader of what we yield may take its time
            elif time.monotonic() - last_move > STALL_S:
                lane = min(open_lanes)
                raise BrokerUnavailable(
                    self._servers,
                    f"{lane[0]}/{lane[1]} stands at offset {open_lanes[lane]} of {bounds[lane][1]} for {STALL_S:.0f} s; "
                    f"a kafka transaction may be open",
                )

    def _merged(self, consumer: Any, bounds: Bounds, open_lanes: dict[Lane, int]) -> Iterator[tuple[list[Record], int]]:  # noqa: ANN401
        merge: Merge[Record] = Merge(bounds)
        ended = bounds.keys() - open_lanes.keys()
        for lane in ended:
            merge.end(lane)
        paused: set[Lane] = set()
        for records, done in self._batches(consumer, bounds, open_lanes):
            for record in records:
                merge.add((record.topic, record.partition), record)
            for lane in bounds.keys() - open_lanes.keys() - ended:
                ended = ended | {lane}
                if not merge.held(lane):
                    merge.end(lane)
            yield list(merge.ready(ended)), done
            full = {lane for lane in open_lanes if merge.held(lane) >= HELD_MAX}
            free = {lane for lane in paused & open_lanes.keys() if merge.held(lane) <= HELD_MAX // 2}
            if full - paused:
                consumer.pause([TopicPartition(*lane) for lane in full - paused])
            if free:
                consumer.resume([TopicPartition(*lane) for lane in free])
            paused = (paused | full) - free

    def _consumer(self) -> Any:  # noqa: ANN401
        self._errors: list[KafkaError] = []
        return Consumer(
            {
                "log_level": 0,
                **self._config,
                "group.id": "antiphon-reader",  # asked for by the library; nothing is committed to it
                "enable.auto.commit": False,
                "enable.partition.eof": True,  # where offsets end in markers, the end is told only so
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",  # where retention has removed the beginning meanwhile
                "error_cb": self._errors.append,
            }
        )
