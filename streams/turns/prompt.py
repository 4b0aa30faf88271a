"""Records that do not wait for the turn's kafka transaction: what follows from the log alone, and so cannot turn out otherwise.

They are sent as soon as their batch has ended well, and again whenever it runs again: at least once, and perhaps not at all where
the broker is away for long. Whoever waits for one has to be able to ask again.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.bundling import Bundles

if TYPE_CHECKING:
    from streams.turns.batch import Output

__all__ = ["PromptSender"]

log = logging.getLogger(__name__)

DELIVERY_TIMEOUT_MS: Final = 10_000
"""Longer than a broker's restart; who still waits after that has asked again."""
APART_S: Final = 0.003
"""Between bundles: a broker of small records spends its time on requests."""
QUEUE_KBYTES_MAX: Final = 64 << 10
"""A second of a fast network; what comes beyond it is dropped and counted."""
TELL_EVERY_S: Final = 10.0
"""How often failures are told."""
CLOSE_S: Final = 2.0
READY_S: Final = 2.0


class PromptSender:
    """An idempotent producer that nobody waits for. Used by one thread.

    Args:
        client: librdkafka settings that reach the broker.

    Attributes:
        failed: Records that were not delivered.
    """

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._conf: dict[str, Any] = {
            **client,
            "linger.ms": 0,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "delivery.report.only.error": True,
            "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
            "allow.auto.create.topics": False,
            "log_level": 3,
            "error_cb": self._noticed,
        }
        self._producer: Producer | None = None
        self._broken = False
        self._bundles = Bundles(self._go, apart_s=APART_S)
        self._told_at = -TELL_EVERY_S
        self.failed = 0

    def send(self, outputs: Iterable[Output]) -> None:
        """Send records, or let them wait a moment for others."""
        self._bundles.add(outputs)

    def _go(self, outputs: list[Output]) -> None:
        if self._producer is None or self._broken:
            self._producer, self._broken = Producer(self._conf), False
        producer, reported = self._producer, self._reported
        for topic, key, value, partition, headers in outputs:
            try:
                if headers:
                    producer.produce(topic, value, key, partition, on_delivery=reported, headers=headers)  # type: ignore[arg-type]
                else:
                    producer.produce(topic, value, key, partition, on_delivery=reported)
            except BufferError as error:
                self._failed(f"the queue is full ({error})")
            except KafkaException as error:
                self._failed(error.args[0].str())
        producer.poll(0)

    def ready(self) -> None:
        """Connect, where that has not happened: the first record then waits for nothing. Blocks; nothing is raised."""
        if self._producer is None:
            self._producer = Producer(self._conf)
            with contextlib.suppress(KafkaException):
                self._producer.list_topics(timeout=READY_S)

    def close(self) -> None:
        """Send what is left, also what waits for others, for a moment. Not on the loop: nothing is added any more."""
        self._bundles.flush()
        if self._producer is not None:
            self._producer.flush(CLOSE_S)
            self._producer = None

    def _reported(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._failed(error.str())

    def _noticed(self, error: KafkaError) -> None:
        self._broken = self._broken or error.fatal()  # an idempotent producer that has lost its place: a new one goes on

    def _failed(self, reason: str) -> None:
        self.failed += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            log.warning("%d records were not delivered, whoever waits for them asks again; the last: %s", self.failed, reason)
