"""Records as named tuples: everything that aiokafka's own class has, in a quarter of the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.turns import records
from streams.turns.records import FetchedRecord, install


@pytest.fixture(autouse=True)
def _own_class() -> Iterator[None]:
    """Leave aiokafka as it was."""
    before = fetcher.PartitionRecords
    yield
    fetcher.PartitionRecords = before


def test_the_fields_are_those_of_aiokafka() -> None:
    """Name by name and in order, so that a new field of aiokafka's fails here."""
    assert FetchedRecord._fields == tuple(f.name for f in dataclasses.fields(ConsumerRecord))


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
        assert {f.name: getattr(theirs, f.name) for f in dataclasses.fields(theirs)} == mine._asdict()


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
