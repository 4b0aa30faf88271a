"""Faust's transport with batches on it.

Topics carry batches, the producer's sends join the turn, the consumer thread reads committed records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, Final

from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, RecordMetadata

from streams.turns import records
from streams.turns.batch import Headers, joined_batch

if TYPE_CHECKING:
    from faust.types import FutureMessage

__all__ = ["BatchTopic", "TurnProducer", "TurnThread"]

UNKNOWN_OFFSET: Final = -1
"""An output's own offset is not known before its turn commits."""


class BatchTopic(Topic):
    """A topic whose events are batches. Offsets are the turn's business, so Faust acknowledges nothing on it."""

    batched = True

    def _compile_decode(self) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 Faust's signature
            return self._create_event(None, message.value, None, message=message)

        return decode

    async def maybe_declare(self) -> None:
        """Check or create the topic in `streams.turns.preflight` instead: Faust would create whatever is misspelt."""


def _headers(headers: Any) -> Headers | None:
    if not headers:
        return None
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(k, v if isinstance(v, bytes) else str(v).encode()) for k, v in pairs]


class TurnProducer(driver.Producer):
    """Sends made inside a batch, by whatever Faust call, join its turn; others stay Faust's at-least-once sends."""

    async def send(
        self,
        topic: str,
        key: Any,
        value: Any,
        partition: Any,
        timestamp: Any,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Send a record."""
        batch = joined_batch()
        if batch is None:
            sent: Awaitable[RecordMetadata] = await super().send(
                topic, key, value, partition, timestamp, headers, transactional_id=transactional_id
            )
            return sent
        batch.send(topic, key=key, value=value, partition=-1 if partition is None else partition, headers=_headers(headers))
        return _promised(topic, partition)

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Send a record; inside a batch there is nothing to wait for before the turn commits."""
        return await (await self.send(*args, **kwargs))

    def send_soon(self, fut: FutureMessage) -> None:
        """Send a record from code that cannot await (`topic.send_soon`): stock Faust buffers it, outside every transaction."""
        batch = joined_batch()
        if batch is None:
            super().send_soon(fut)
            return
        message = fut.message
        topic = message.channel.get_topic_name()
        partition = -1 if message.partition is None else message.partition
        batch.send(topic, key=message.key, value=message.value, partition=partition, headers=_headers(message.headers))
        fut.set_result(_metadata(topic, message.partition))


def _metadata(topic: str, partition: int | None) -> RecordMetadata:
    at = -1 if partition is None else partition
    return RecordMetadata(topic=topic, partition=at, topic_partition=TP(topic, at), offset=UNKNOWN_OFFSET)


def _promised(topic: str, partition: int | None) -> Awaitable[RecordMetadata]:
    future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
    future.set_result(_metadata(topic, partition))
    return future


class TurnThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, reading committed records and answering quickly."""

    def _stopped_set(self) -> None:
        """A crash ends this thread before it is told to stop; mode then fails on the closed loop and leaves it half stopped."""
        try:
            super()._stopped_set()
        except RuntimeError:
            if not self.thread_loop.is_closed():
                raise
            self._stopped.set()

    def _create_worker_consumer(self, transport: Any) -> Any:
        records.install()
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = self.app.options.fetch_wait_ms
        return consumer
