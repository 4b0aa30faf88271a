"""Puts a history into Kafka: events and their landings to their topics, what is malformed to the dead letters with its line."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from processors.core.landings import landings
from processors.history import Entry, Malformed
from streams.codec import Codec
from streams.errors import BrokerError, BrokerUnavailable

__all__ = ["Fed", "feed"]

Headers = list[tuple[str, bytes]]

FLUSH_S: Final = 60.0
"""For the last records to be acknowledged; the buffer holds a few seconds' worth."""
TICK_ENTRIES: Final = 2000
"""Entries between two looks at deliveries and at the caller's own business: some 50 ms."""
BUFFER_MAX: Final = 20_000
"""Records on their way at a time: memory stays under some 20 MB, and a slow broker slows the reading down."""

APPLICATION: Final = "antiphon-demo"
SOURCE: Final = "/antiphon/history"


@dataclass(slots=True)
class Fed:
    """What went in: entries read, events, changed files among them, landings, dead letters by the class of their fault."""

    read: int = 0
    produced: int = 0
    files: int = 0
    landings: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.read / self.seconds if self.seconds else 0.0


def feed(
    entries: Iterable[Entry],
    *,
    client: Mapping[str, Any],
    codec: Codec,
    topic_of: Callable[[str], str],
    dead_letter_topic: str,
    history: str,
    tick: Callable[[Fed], None],
    now_ms: int,
) -> Fed:
    """Produce every entry, idempotently, and wait until all are acknowledged.

    Args:
        entries: The history.
        client: librdkafka settings that reach the broker.
        codec: For the events.
        topic_of: The full name of an event type's topic.
        dead_letter_topic: For malformed entries.
        history: Name of the history, for the dead letters.
        tick: Called every `TICK_ENTRIES` entries.
        now_ms: The time now.

    Raises:
        BrokerError: A record was not acknowledged.
        HistoryError: The history cannot be read.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            **client,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": BUFFER_MAX,
            "partitioner": "murmur2_random",
            "log_level": 0,
            "on_delivery": delivered,
        }
    )
    fed, started = Fed(), time.perf_counter()

    def send(topic: str, key: bytes, value: bytes, headers: Headers) -> None:
        while True:
            try:
                return producer.produce(topic, value, key, headers=list(headers))
            except BufferError:
                producer.poll(0.05)

    for entry in entries:
        fed.read += 1
        if isinstance(entry.event, Malformed):
            send(
                dead_letter_topic,
                str(entry.line).encode(),
                entry.event.raw,
                _dead_letter_headers(entry.event, entry.line, history, now_ms),
            )
            fed.dead_letters[entry.event.error] += 1
        else:
            name, event = f"line-{entry.line}", entry.event
            send(*codec.encode(event.stamped(id=name, source=SOURCE, time_ms=event.ts), topic=topic_of(event.topic)))
            for landing in landings(event, id=name, source=SOURCE):
                send(*codec.encode(landing, topic=topic_of(landing.topic)))
                fed.landings += 1
            fed.produced += 1
            fed.files += entry.event.event_type == "file.changed"
        if fed.read % TICK_ENTRIES == 0:
            producer.poll(0)
            _raise_first(failures)
            fed.seconds = time.perf_counter() - started
            tick(fed)
    left = producer.flush(FLUSH_S)
    _raise_first(failures)
    if left:
        raise BrokerUnavailable(
            str(client.get("bootstrap.servers", "")), f"{left} records are not acknowledged after {FLUSH_S:.0f} s"
        )
    fed.seconds = time.perf_counter() - started
    tick(fed)
    return fed


def _dead_letter_headers(malformed: Malformed, line: int, history: str, now_ms: int) -> Headers:
    """Return the headers that every dead letter of ours has; the place is the history and the line in it."""
    words = {
        "dl-app": APPLICATION,
        "dl-topic": history,
        "dl-partition": 0,
        "dl-offset": line,
        "dl-line": line,
        "dl-timestamp-ms": now_ms,
        "dl-processor": "history",
        "dl-error": malformed.error,
        "dl-reason": malformed.reason,
        "dl-fingerprint": hashlib.sha256(f"history:{malformed.error}".encode()).hexdigest()[:16],
        "dl-time-ms": now_ms,
    }
    return [(name, str(value).encode()) for name, value in words.items()]


def _raise_first(failures: list[KafkaError]) -> None:
    if failures:
        raise BrokerError(
            f"{len(failures)} records were not acknowledged, the first because of {failures[0].name()}: {failures[0].str()}"
        )
