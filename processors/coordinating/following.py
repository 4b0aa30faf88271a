"""Reads all partitions of a topic from given offsets on, read committed, as far as there is something: without a group."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from processors.log_reader import LogRecord
from schemas.cloudevents import from_headers

__all__ = ["Following", "happened_ms"]

log = logging.getLogger(__name__)

FETCH_WAIT_MS: Final = 100
"""How long the broker may hold an empty fetch; one with records is answered at once."""
ASK_S: Final = 2.0
"""How long the broker is asked for the topic's partitions; it is asked again."""


def happened_ms(record: LogRecord, kind: str) -> int:
    """Return when an event of coordination happened, epoch milliseconds: the partition's time, which the processor put on it.

    The record itself was written with its kafka transaction, along with many others. What clients tell of their own waits
    counts from when it was written, since their clocks may be wrong.

    Raises:
        InvalidEvent: Its attributes are not allowed.
    """
    if kind.startswith("wait."):
        return record.timestamp
    time_ms: int = from_headers(record.headers)[1].get("time_ms", 0)
    return time_ms or record.timestamp


class Following:
    """Reads a topic; not shared by threads.

    Args:
        client: librdkafka settings that reach the broker.
        topic: The topic.
        offsets: For each partition the offset to begin at; the beginning where there is none.

    Attributes:
        offsets: The next of each partition.
        lost: Whether what was to be read next is not there any more: retention has taken it, or it is another topic by now.
    """

    def __init__(self, client: Mapping[str, Any], topic: str, offsets: Mapping[int, int]) -> None:
        self._topic, self.offsets = topic, dict(offsets)
        self.begun = self.lost = False
        self._consumer = Consumer(
            {
                "log_level": 0,
                **client,
                "group.id": f"antiphon-following-{secrets.token_hex(6)}",  # asked for by the library; nothing is committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
            }
        )

    def begin(self) -> bool:
        """Ask for the partitions, and begin; return whether that was possible. May wait for the broker for a moment."""
        if self.begun:
            return True
        try:
            found = self._consumer.list_topics(self._topic, timeout=ASK_S).topics[self._topic]
        except KafkaException as error:
            log.warning("topic %s: %s", self._topic, error.args[0].str())
            return False
        if found.error is not None or not found.partitions:
            return False  # it is not there yet
        self._consumer.assign([TopicPartition(self._topic, p, self.offsets.get(p, OFFSET_BEGINNING)) for p in found.partitions])
        self.begun = True
        return True

    def take(self, count: int) -> list[LogRecord]:
        """Return what has come, at most so many records; does not wait."""
        taken: list[LogRecord] = []
        try:
            messages: list[Any] = self._consumer.consume(count, 0)
        except KafkaException as error:
            log.warning("topic %s: %s; reading goes on", self._topic, error.args[0].str())
            return taken
        for message in messages:
            if (problem := message.error()) is not None:
                self.lost = self.lost or problem.code() == KafkaError._AUTO_OFFSET_RESET
                log.warning("topic %s: %s; reading goes on", self._topic, problem.str())
                continue
            partition, offset = message.partition(), message.offset()
            self.offsets[partition] = offset + 1
            headers = message.headers() or ()
            taken.append(
                LogRecord(self._topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)
            )
        return taken

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()
