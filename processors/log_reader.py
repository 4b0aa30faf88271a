"""Reads whole topics as they are now, read committed, and asks a group how far it is. For reports and proofs, not for work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import BrokerUnavailable
from streams.topics import broker_error

__all__ = ["LogReader", "LogRecord"]

STALL_S: Final = 30.0
"""Without a record or an end for so long, the broker is gone: it answers a fetch within half a second."""
CHUNK: Final = 5000
"""Records taken at a time."""
CHUNK_S: Final = 0.05
"""How long they are waited for: the end of a topic, where there are fewer, costs this once a topic."""

AGAIN_S: Final = 0.05
"""Between two questions to a broker that has not settled."""
UNSETTLED: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
"""Errors that pass by themselves."""

T = TypeVar("T")


class LogRecord(NamedTuple):
    """A record, in the shape in which the runtime's codec reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class LogReader:
    """Topics of a cluster, to read; a context manager.

    Args:
        client: librdkafka settings that reach the broker.
        group: The group whose positions `committed` tells. It is not joined and nothing is committed.
    """

    def __init__(self, client: Mapping[str, Any], *, group: str) -> None:
        self._servers = str(client.get("bootstrap.servers", ""))
        self._consumer = Consumer(
            {
                **client,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the connection."""
        self._consumer.close()

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic.

        Raises:
            BrokerError: The broker does not answer.
        """
        return sorted(self._patiently(lambda: self._consumer.list_topics(topic, timeout=STALL_S)).topics[topic].partitions)

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last stable record, by partition."""
        return {p: self._watermarks(topic, p)[1] for p in self.partitions(topic)}

    def committed(self, topic: str) -> dict[int, int]:
        """Return the group's next offset, by partition; 0 where it has none."""
        wanted = [TopicPartition(topic, p) for p in self.partitions(topic)]
        places = self._patiently(lambda: self._consumer.committed(wanted, timeout=STALL_S))
        return {place.partition: max(0, place.offset) for place in places}

    def read(self, topic: str) -> Iterator[LogRecord]:
        """Yield every record of a topic, each partition in order, up to its present end.

        Raises:
            BrokerError: The broker does not answer.
        """
        waiting = set(self.partitions(topic))
        self._consumer.assign([TopicPartition(topic, p, 0) for p in waiting])
        deadline = time.monotonic() + STALL_S
        try:
            while waiting:
                # Any: by its own types a record's topic or offset may be None, which only one that was not sent yet has.
                messages: list[Any] = self._consumer.consume(CHUNK, timeout=CHUNK_S)
                if messages:
                    deadline = time.monotonic() + STALL_S
                elif time.monotonic() > deadline:
                    raise BrokerUnavailable(self._servers, f"no record of {topic} for {STALL_S:.0f} s")
                for message in messages:
                    if (error := message.error()) is None:
                        yield LogRecord(
                            message.topic(),
                            message.partition(),
                            message.offset(),
                            message.timestamp()[1],
                            message.key(),
                            message.value(),
                            message.headers() or (),
                        )
                    elif error.code() == KafkaError._PARTITION_EOF:
                        waiting.discard(message.partition())
                    else:
                        raise broker_error(self._servers, error)
        finally:
            self._consumer.unassign()

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        place = TopicPartition(topic, partition)
        first, after = self._patiently(lambda: self._consumer.get_watermark_offsets(place, timeout=STALL_S))
        return int(first), int(after)

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask again while the broker chooses who answers: a fresh one needs seconds for its leaders and coordinators."""
        deadline = time.monotonic() + STALL_S
        while True:
            try:
                return ask()
            except KafkaException as e:
                if e.args[0].code() not in UNSETTLED or time.monotonic() > deadline:
                    raise broker_error(self._servers, e.args[0]) from e
            time.sleep(AGAIN_S)
