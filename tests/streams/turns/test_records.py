"""Records as named tuples, a batch at a time: everything that aiokafka's own class has, in a quarter of the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from confluent_kafka import Producer
from hypothesis import example, given
from hypothesis import strategies as st

from streams.broker import EmbeddedBroker
from streams.turns import records
from streams.turns.records import FetchedRecord, install

FIELDS = {field.name for field in dataclasses.fields(ConsumerRecord)}


@pytest.fixture(autouse=True)
def _own_class() -> Iterator[None]:
    """Leave aiokafka as it was."""
    before, getall = fetcher.PartitionRecords, fetcher.FetchResult.getall
    yield
    fetcher.PartitionRecords, fetcher.FetchResult.getall = before, getall


def test_the_fields_are_those_of_aiokafka() -> None:
    """Name by name, so that a new field of aiokafka's fails here."""
    assert {name for name in FIELDS if not hasattr(FetchedRecord, name)} == set()
    assert set(FetchedRecord._fields) < FIELDS


async def fetched(kafka: EmbeddedBroker, topic: str, count: int, **settings: Any) -> list[Any]:
    """Read a topic's partition from its beginning with aiokafka."""
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest", **settings
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_real_fetch_gives_equal_records(kafka: EmbeddedBroker, topic: Callable[..., str]) -> None:
    """Keys, values, headers, times and sizes of real records, null ones too, are those of aiokafka's own class."""
    name = topic("records", partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "compression.type": "gzip"})
    producer.produce(name, b"value", b"key", headers=[("h", b"1"), ("h", b"2"), ("none", None)], timestamp=1_700_000_000_000)
    producer.produce(name, None, b"deleted")
    producer.produce(name, b"", None)
    producer.produce(name, b"x" * 10_000, b"")
    assert producer.flush(30) == 0
    fetcher.PartitionRecords = records._stock
    stock = await fetched(kafka, name, 4)
    install()
    ours = await fetched(kafka, name, 4)
    assert {type(r) for r in stock} == {ConsumerRecord}
    assert {type(r) for r in ours} == {FetchedRecord}
    for theirs, mine in zip(stock, ours, strict=True):
        assert {name: getattr(theirs, name) for name in FIELDS} == {name: getattr(mine, name) for name in FIELDS}


async def test_a_consumer_with_deserialisers_keeps_aiokafka_s_class(kafka: EmbeddedBroker, topic: Callable[..., str]) -> None:
    """The class is chosen for the whole process, so consumers that Faust did not make must find what they expect."""
    name = topic("records", partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(name, b"value", b"key")
    assert producer.flush(30) == 0
    install()
    install()
    (record,) = await fetched(kafka, name, 1, value_deserializer=bytes.decode)
    assert type(record) is ConsumerRecord
    assert record.value == "value"


# ---- what is handed out, and the position, against aiokafka's own class


@dataclass(frozen=True)
class Written:
    """A batch of a log: how many records, of which producer, and what kind."""

    records: int
    producer: int = -1
    marker: bytes = b""
    """What a control batch says: aborted or committed."""
    gap: int = 0
    """Offsets that compaction left empty behind it."""


ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"
ATTRIBUTES = 21
"""Where the attributes of a batch stand: int16, big endian."""
TRANSACTIONAL, CONTROL = 0x10, 0x20


def log_of(batches: list[Written]) -> tuple[bytes, int]:
    """The bytes of a log, without right checksums, and the offset of its end."""
    log, offset = b"", 0
    for batch in batches:
        transactional = batch.producer >= 0
        builder = DefaultRecordBatchBuilder(
            2, 0, transactional, batch.producer, 0 if transactional else -1, 0 if transactional else -1, 1 << 20
        )
        count = 1 if batch.marker else batch.records
        for i in range(count):
            key = batch.marker or (b"k%d" % i if i % 3 else None)
            builder.append(i, 1_000 + offset + i, key, b"v%d" % (offset + i), [("h", b"1")] if i % 2 else [])
        made = bytearray(builder.build())
        made[0:8] = offset.to_bytes(8, "big")
        made[ATTRIBUTES + 1] |= CONTROL if batch.marker else 0
        made[23:27] = (count - 1 + batch.gap).to_bytes(4, "big")  # the last offset's distance
        log += bytes(made)
        offset += count + batch.gap
    return log, offset


def handed_out(kind: Any, log: bytes, aborted: list[tuple[int, int]], start: int, sizes: list[int]) -> list[Any]:
    """Read a log in pieces of these sizes: every piece's records, and the position after it."""
    place = TopicPartition("t", 0)
    partition = kind(place, MemoryRecords(log), list(aborted), start, None, None, False, fetcher.READ_COMMITTED)

    class Assignment:
        active = True
        position, paused = start, False

        def state_value(self, tp: Any) -> Any:
            return self

        def consumed_to(self, position: int) -> None:
            self.position = position

    state = Assignment()
    result = fetcher.FetchResult(place, assignment=state, partition_records=partition, backoff=0)
    pieces: list[Any] = []
    for size in sizes:
        if not result.has_more():
            break
        fields = [tuple(getattr(r, f) for f in FetchedRecord._fields) for r in result.getall(size)]
        pieces.append((fields, state.position))
    return pieces


written = st.one_of(
    st.builds(Written, st.integers(1, 6), gap=st.sampled_from([0, 0, 2])),
    st.builds(Written, st.integers(1, 6), st.integers(0, 2)),
    st.builds(Written, st.just(1), st.integers(0, 2), st.sampled_from([ABORT, COMMIT])),
)


@example([Written(3, 1), Written(2, 2), Written(1, 1, ABORT), Written(2, 1), Written(1, 2, COMMIT)], [(1, 0)], 0, 4)
@example([Written(6), Written(3, gap=2)], [], 4, 2)
@given(
    st.lists(written, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=3),
    st.integers(0, 12),
    st.integers(1, 9),
)
def test_what_is_handed_out_is_what_aiokafka_hands_out(
    batches: list[Written], aborted: list[tuple[int, int]], start: int, size: int
) -> None:
    """Aborted kafka transactions, markers, compaction, a position inside a batch, small pieces: the same, piece by piece."""
    log, end = log_of(batches)
    start = min(start, end - 1)
    install()
    read = [size] * (end + 2)
    ours = handed_out(fetcher.PartitionRecords, log, aborted, start, read)
    theirs = handed_out(records._stock, log, aborted, start, read)
    assert ours[: len(theirs)] == theirs
    assert all(not found and at == theirs[-1][1] for found, at in ours[len(theirs) :])
    one_by_one = records._Records(
        TopicPartition("t", 0), MemoryRecords(log), list(aborted), start, None, None, False, fetcher.READ_COMMITTED
    )
    assert [tuple(record) for record in one_by_one] == [record for piece, _ in theirs for record in piece]


def test_a_broken_batch_is_refused() -> None:
    """With checksums on, a batch whose bytes changed is an error and not records."""
    log, _ = log_of([Written(3, 1)])
    broken = log[:-1] + bytes([log[-1] ^ 1])
    read = records._Records(TopicPartition("t", 0), MemoryRecords(broken), [], 0, None, None, True, 0)
    with pytest.raises(CorruptRecordException):
        read.take(10)


def test_records_of_a_moved_position_are_dropped() -> None:
    """After a seek nothing of an older fetch is handed out."""
    log, _ = log_of([Written(3)])
    install()
    place = TopicPartition("t", 0)

    class Elsewhere:
        active, paused, position = True, False, 99

        def state_value(self, tp: Any) -> Any:
            return self

    partition = fetcher.PartitionRecords(place, MemoryRecords(log), [], 0, None, None, False, 0)
    assert fetcher.FetchResult(place, assignment=Elsewhere(), partition_records=partition, backoff=0).getall(5) == []
