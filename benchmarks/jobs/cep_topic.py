"""The stream on the log: 20 event types in Confluent wire format, the key as record key, the time as the record's timestamp.

A body holds the key and the value; the time is the record's own. What a pattern does not ask about can be told from the five
bytes before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import ClassVar, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from benchmarks.jobs.cep_stream import EVENT_TYPES, FIRST_TS, KEYS, draws
from schemas.avro import prefix_of
from schemas.catalogue import CATALOGUE
from schemas.events import Event
from streams.topics import Topics

__all__ = ["PARTITIONS", "TOPIC", "event_type", "fill", "register", "written"]

TOPIC: Final = "bench.cep"
PARTITIONS: Final = 4
SCHEMA_ID_FIRST: Final = 90_000
"""Schema ids of the twenty types, in order; far from whatever an installed package has registered."""
KEEP: Final = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
"""The stream's clock stands in 2023: by age, a broker would delete it at once."""
QUEUE_RECORDS: Final = 1_000_000
READ_RECORDS: Final = 10_000
READ_S: Final = 10.0
"""Longest wait for the next records of a topic that has an end."""


def event_type(number: int) -> str:
    """The name of an event type of the stream."""
    return f"bench.cep.t{number:02d}"


def register() -> None:
    """Put the twenty event types into this process's catalogue."""
    for number in range(EVENT_TYPES):
        body = {"event_type": event_type(number), "topic": TOPIC, "key_field": "agent", "schema_version": 1}
        annotations: dict[str, object] = {name: ClassVar[type(value)] for name, value in body.items()}
        annotations |= {"agent": int, "value": float}
        made = type(f"Bench{number}", (Event,), {"__module__": __name__, "__annotations__": annotations, **body})
        CATALOGUE.register(made, schema_id=SCHEMA_ID_FIRST + number)


def _long(number: int) -> bytes:
    """Avro's long: zigzag, seven bits a byte, the lowest first."""
    rest, made = number << 1, bytearray()
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)


def fill(servers: str, count: int) -> None:
    """Make the topic and write the first `count` events of the stream."""
    Topics(servers).create(TOPIC, partitions=PARTITIONS, config=KEEP)
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "queue.buffering.max.kbytes": 1 << 20,
            "partitioner": "murmur2_random",
        }
    )
    prefixes = [prefix_of(SCHEMA_ID_FIRST + number) for number in range(EVENT_TYPES)]
    agents = [_long(key) for key in range(KEYS)]
    double, produce = struct.Struct("<d").pack, producer.produce
    for kind, key, value, ts in draws(count):
        if not ts % 1_000:
            producer.poll(0)
            while len(producer) > QUEUE_RECORDS - 2_000:
                producer.poll(0.05)
        produce(TOPIC, prefixes[kind] + agents[key] + double(value), b"%d" % key, timestamp=ts)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records of the stream could not be written")


def _committed(servers: str, topic: str) -> Iterator[bytes]:
    """The values of a topic's records, of committed kafka transactions alone, from beginning to end."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench-reader",  # asked for by the library; nothing is committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        ended = 0
        while ended < PARTITIONS:
            messages = consumer.consume(READ_RECORDS, READ_S)
            if not messages:
                raise RuntimeError(f"topic {topic} does not come to its end")
            for message in messages:
                error = message.error()
                if error is None:
                    yield message.value() or b""
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended += 1
                else:
                    raise KafkaException(error)
    finally:
        consumer.close()


def written(servers: str, matches_topic: str, timeouts_topic: str) -> dict[str, int]:
    """How many matches and timed-out partial matches a worker has written, and the checksum of BENCH.md over the matches."""
    matches = total = 0
    for value in _committed(servers, matches_topic):
        found = CATALOGUE.read(value)
        matches += 1
        total += sum(event["ts"] - FIRST_TS for stage in found["stages"] for event in stage["events"])
    timed_out = sum(1 for _ in _committed(servers, timeouts_topic))
    return {"matches": matches, "timed_out": timed_out, "checksum": total}
