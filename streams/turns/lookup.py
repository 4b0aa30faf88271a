"""The reads that aiokafka cannot do: stable committed offsets (OffsetFetch with require_stable, KIP-447) and true log ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from faust.types import TP

__all__ = ["Lookup"]

T = TypeVar("T")

COMMITTED_TIMEOUT_S: Final = 3.0
"""How long one ask for committed offsets waits; while a kafka transaction holds them open it ends by timeout and is asked again."""
OFFSETS_TIMEOUT_S: Final = 10.0


class Lookup:
    """Blocking reads of offsets, in a thread of their own.

    Args:
        client: librdkafka settings that reach the broker.
        group: The consumer group whose offsets are asked for.
    """

    def __init__(self, client: Mapping[str, Any], group: str) -> None:
        self._pool = ThreadPoolExecutor(1, "turn-lookup")
        self._conf = {**client, "log_level": 3}
        self._group = group
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None

    async def run(self, fun: Callable[..., T], *args: Any) -> T:
        """Run a call in the look-up thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, fun, *args)

    def committed(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return the group's committed offset of each partition, negative where it has none.

        Raises:
            KafkaException: Among others, the offsets are part of a kafka transaction still open.
        """
        if self._consumer is None:
            self._consumer = Consumer({**self._conf, "group.id": self._group, "isolation.level": "read_committed", "enable.auto.commit": False})
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
        futures = self._admin.list_offsets(asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=OFFSETS_TIMEOUT_S)
        return {TP(at.topic, at.partition): future.result().offset for at, future in futures.items()}

    def close(self) -> None:
        """End the thread and leave nothing open."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
