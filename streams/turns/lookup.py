"""The reads that aiokafka cannot do: stable committed offsets (OffsetFetch with require_stable, KIP-447) and true log ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from faust.types import TP

from streams.turns.threads import CallThread

__all__ = ["Lookup"]

log = logging.getLogger(__name__)
T = TypeVar("T")

COMMITTED_TIMEOUT_S: Final = 3.0
"""How long one ask for committed offsets waits; an open kafka transaction makes it time out, and it is asked again."""
OFFSETS_TIMEOUT_S: Final = 10.0
CLOSE_S: Final = 5.0
ASK_AGAIN_S: Final = 0.25
FINAL_CODES: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._AUTHENTICATION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError._INVALID_ARG,
    }
)
"""Asking again does not change these. Everything else passes: a starting broker answers almost anything."""


class Lookup:
    """Blocking reads of offsets, in a thread of their own.

    Args:
        client: librdkafka settings that reach the broker.
        group: The consumer group whose offsets are asked for.
    """

    def __init__(self, client: Mapping[str, Any], group: str) -> None:
        self._thread = CallThread("turn-lookup")
        self._conf = {**client, "log_level": 3}
        self._group = group
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None

    async def run(self, fun: Callable[..., T], *args: Any) -> T:
        """Run a call in the look-up thread."""
        return await self._thread.run(fun, *args)

    async def ask(self, fun: Callable[[Iterable[TP]], dict[TP, int]], tps: Iterable[TP]) -> dict[TP, int]:
        """Run one of the calls below until it is answered.

        Brokers restart and leaders move, and nothing here can go on without the answer.

        Raises:
            KafkaException: The answer is a refusal that asking again does not change.
        """
        began = time.monotonic()
        while True:
            try:
                return await self.run(fun, tps)
            except KafkaException as error:
                kafka_error = error.args[0]
                if kafka_error.code() in FINAL_CODES:
                    raise
                log.warning("asking for offsets again after %.0f s: %s", time.monotonic() - began, kafka_error.str())
            self._admin = (
                None  # a client keeps the leader epochs it has learnt, and asks with them for minutes after a broker restarted
            )
            await asyncio.sleep(ASK_AGAIN_S)

    def committed(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the group's committed offset of each partition, negative where it has none.

        Raises:
            KafkaException: Among others, the offsets are part of a kafka transaction still open.
        """
        if self._consumer is None:
            self._consumer = Consumer(
                {**self._conf, "group.id": self._group, "isolation.level": "read_committed", "enable.auto.commit": False}
            )
        answer = self._consumer.committed([TopicPartition(tp.topic, tp.partition) for tp in tps], timeout=COMMITTED_TIMEOUT_S)
        for found in answer:
            if found.error:
                raise KafkaException(found.error)
        return {TP(found.topic, found.partition): found.offset for found in answer}

    def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the log end offset (the next to be written) of each partition, uncommitted records included."""
        return self._offsets(tps, OffsetSpec.latest())

    def starts(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the log start offset of each partition."""
        return self._offsets(tps, OffsetSpec.earliest())

    def _offsets(self, tps: Iterable[TP], spec: OffsetSpec) -> dict[TP, int]:
        asked = {TopicPartition(tp.topic, tp.partition): spec for tp in tps}
        if not asked:
            return {}
        if self._admin is None:
            self._admin = AdminClient(self._conf)
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=OFFSETS_TIMEOUT_S
        )
        return {TP(at.topic, at.partition): future.result().offset for at, future in futures.items()}

    def close(self) -> None:
        """End the thread and leave nothing open."""
        self._thread.close()
        if self._thread.join(CLOSE_S) and self._consumer is not None:
            self._consumer.close()
            self._consumer = None
