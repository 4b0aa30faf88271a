"""The client's producer: idempotent, acknowledged by all replicas, bounded in records and in bytes.

    send ──▶ admission (waits while full) ──▶ librdkafka ──▶ broker
                 ▲                                              │ delivery reports, one wake-up of the loop for a poll's worth
                 └───────────── room ◀── settle ◀── poll thread ┘

Guarantees: within one partition records keep the order in which they were accepted, and none is written twice, also when the
broker dies and comes back within `delivery_timeout_s`. Every accepted record ends as exactly one of: its position returned by
`send`, an error raised by `send`, an error given to its `on_error`, or an error raised by the next `flush` or `close`. A caller
that is cancelled does not take its record back: it may be written.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.errors import (
    AntiphonError,
    BrokerAuthenticationFailed,
    BrokerError,
    BrokerUnavailable,
    QueueFull,
    TopicError,
    TopicMissing,
)
from streams.topics import broker_error
from streams.transport import Outgoing, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["DeliveryFailed", "KafkaSender"]

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES_MAX: Final = 64 << 20
"""Bytes published and not acknowledged: a second of a fast network, and nothing beside a service's own memory."""

POLL_S: Final = 0.1
"""One wait for delivery reports; the thread wakes at once when there is one, so this only bounds how long closing takes."""

METADATA_S: Final = 10.0
"""For asking whether a topic exists; the broker answers in milliseconds or is not there."""

ADMISSION_MARGIN_S: Final = 5.0
"""Beyond the delivery timeout: by then every record in flight has been settled, so waiting longer cannot help."""

FAILURES_KEPT_MAX: Final = 100
"""Failures that `DeliveryFailed` carries; all are counted, and more would only repeat the same reason."""

_MISSING: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})
_TOO_LATE: Final = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT})


class DeliveryFailed(BrokerError):
    """Records that were published in the background were not delivered; `failures` has the first of them with their errors."""

    def __init__(self, count: int, failures: tuple[tuple[AntiphonError, Outgoing], ...]) -> None:
        """Count them and tell the first.

        Args:
            count: how many.
            failures: the first `FAILURES_KEPT_MAX` of them.
        """
        self.count = count
        self.failures = failures
        super().__init__(
            f"{count:,} published records were not delivered; the first, to {failures[0][1].topic}: {failures[0][0]}"
        )


@dataclass(slots=True, eq=False)
class _Slot:
    """One record in flight."""

    record: Outgoing
    size: int
    future: asyncio.Future[Position] | None
    on_error: Callable[[AntiphonError, Outgoing], None] | None


@dataclass(slots=True, eq=False)
class _Waiter:
    """One caller that waits for room."""

    slot: _Slot
    granted: asyncio.Future[None]


_Report = tuple[_Slot, "KafkaError | None", int, int]


class KafkaSender:
    """See the module. Made and used on one event loop.

    Args:
        config: What every confluent-kafka client is made with.
        in_flight_max: Records accepted and not acknowledged.
        delivery_timeout_s: How long a record is tried before it fails.
        linger_ms: How long a record waits for company.
        compression: Of batches.
        in_flight_bytes_max: Bytes accepted and not acknowledged.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        in_flight_max: int,
        delivery_timeout_s: float,
        linger_ms: int = 5,
        compression: str = "lz4",
        in_flight_bytes_max: int = IN_FLIGHT_BYTES_MAX,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = str(config["bootstrap.servers"])
        self._in_flight_max, self._bytes_max = in_flight_max, in_flight_bytes_max
        self._delivery_timeout_s = delivery_timeout_s
        self._seen: deque[KafkaError] = deque(maxlen=8)  # librdkafka tells refused credentials only through its error callback
        self._producer = Producer(
            {
                "log_level": 0,  # what matters comes as an error; the rest would go to the caller's terminal
                **config,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "compression.type": compression,
                "delivery.timeout.ms": int(delivery_timeout_s * 1000),
                "partitioner": "murmur2_random",  # Java's, so that a key has one partition whoever writes it
                "queue.buffering.max.messages": max(in_flight_max, 1),
                "queue.buffering.max.kbytes": 2 * (in_flight_bytes_max >> 10) + 1024,  # our own bound is the one that acts
                "allow.auto.create.topics": False,
                "error_cb": self._seen.append,
            }
        )
        self._pending: set[_Slot] = set()
        self._bytes = 0
        self._waiters: deque[_Waiter] = deque()
        self._flushers: list[tuple[set[_Slot], asyncio.Future[None]]] = []
        self._failures: list[tuple[AntiphonError, Outgoing]] = []
        self._failed = 0
        self._known: set[str] = set()
        self._closing = False
        self._stopped = threading.Event()
        self._reports: list[_Report] = []  # touched by the poll thread only
        self._thread = threading.Thread(target=self._poll, name="antiphon-producer", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> tuple[int, int]:
        """Records and bytes that are accepted and not acknowledged."""
        return len(self._pending), self._bytes

    async def send(self, record: Outgoing) -> Position:
        """Append a record and wait until all replicas have it.

        Raises:
            TopicMissing: There is no such topic.
            QueueFull: There was no room for longer than the delivery timeout.
            BrokerError: It was not delivered; the message says why.
        """
        future: asyncio.Future[Position] = self._loop.create_future()
        await self._accept(_Slot(record, record.size_bytes, future, None))
        return await future

    async def send_soon(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None] | None = None) -> None:
        """Append a record in the background; waits only while too much is in flight.

        Args:
            record: What to append.
            on_error: Called on the event loop if it is not delivered; without it `flush` and `close` raise.

        Raises:
            TopicMissing: There is no such topic.
            QueueFull: There was no room for longer than the delivery timeout.
        """
        await self._accept(_Slot(record, record.size_bytes, None, on_error))

    def offer(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None]) -> bool:
        """Append a record in the background if that needs no waiting, without the price of a coroutine.

        Args:
            record: What to append.
            on_error: Called on the event loop if it is not delivered.

        Returns:
            False where there is no room, or its topic was never used: `send_soon` waits.
        """
        size = record.size_bytes
        if self._closing or record.topic not in self._known or self._waiters or not self._fits(size):
            return False
        slot = _Slot(record, size, None, on_error)
        self._reserve(slot)
        try:
            self._produce(slot)
        except AntiphonError as error:
            self._release(slot)
            on_error(error, record)
        return True

    async def flush(self) -> None:
        """Wait until everything accepted so far is settled.

        Raises:
            DeliveryFailed: Records without an `on_error` were not delivered since the last flush.
        """
        if self._pending:
            done: asyncio.Future[None] = self._loop.create_future()
            self._flushers.append((set(self._pending), done))
            await done
        if self._failed:
            failures, count = tuple(self._failures), self._failed
            self._failures, self._failed = [], 0
            raise DeliveryFailed(count, failures)

    async def close(self) -> None:
        """Flush, then end the thread; raises as `flush`."""
        self._closing = True
        try:
            await self.flush()
        finally:
            self._stopped.set()
            await asyncio.shield(asyncio.to_thread(self._thread.join))

    # ---- admission

    async def _accept(self, slot: _Slot) -> None:
        if self._closing:
            raise QueueFull(f"the client is closing: the record for {slot.record.topic} was not accepted")
        if slot.record.topic not in self._known:
            await self._check(slot.record.topic)
        if self._waiters or not self._fits(slot.size):
            await self._wait_for_room(slot)
        else:
            self._reserve(slot)
        try:
            self._produce(slot)
        except BaseException:
            self._release(slot)
            self._admit()
            raise

    def _fits(self, size: int) -> bool:
        return len(self._pending) < self._in_flight_max and (self._bytes + size <= self._bytes_max or not self._pending)

    async def _wait_for_room(self, slot: _Slot) -> None:
        waiter = _Waiter(slot, self._loop.create_future())
        self._waiters.append(waiter)
        limit_s = self._delivery_timeout_s + ADMISSION_MARGIN_S
        try:
            async with asyncio.timeout(limit_s):
                await waiter.granted
        except BaseException as error:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:
                self._release(slot)  # let in, and cancelled in the same moment
            self._admit()
            if isinstance(error, TimeoutError):
                raise QueueFull(
                    f"{len(self._pending):,} records ({self._bytes:,} bytes) in flight to {self._servers} for {limit_s:.0f} s: "
                    f"the broker takes them too slowly or not at all; the record for {slot.record.topic} was not taken"
                ) from error
            raise

    def _admit(self) -> None:
        """Let in those who waited longest, while there is room; each holds its place from now on."""
        while self._waiters and self._fits(self._waiters[0].slot.size):
            waiter = self._waiters.popleft()
            self._reserve(waiter.slot)
            if not waiter.granted.done():
                waiter.granted.set_result(None)

    def _reserve(self, slot: _Slot) -> None:
        self._pending.add(slot)
        self._bytes += slot.size

    def _produce(self, slot: _Slot) -> None:
        topic, key, value, headers, partition = slot.record
        try:
            self._producer.produce(topic, value, key, partition, on_delivery=partial(self._reported, slot), headers=list(headers))
        except BufferError as error:
            raise QueueFull(f"librdkafka's queue to {self._servers} is full: flush, then publish again") from error
        except KafkaException as error:
            raise self._meaning(error.args[0], topic) from error

    async def _check(self, topic: str) -> None:
        """Ask for a topic that was never used: librdkafka alone would wait half a minute, then say it of each record."""
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, topic, METADATA_S)
        except KafkaException as error:
            raise broker_error(self._servers, error.args[0], seen=list(self._seen)) from error
        if metadata.topics[topic].error is not None:
            raise self._meaning(metadata.topics[topic].error, topic)
        self._known.add(topic)

    # ---- delivery

    def _poll(self) -> None:
        while not self._stopped.is_set() or len(self._producer):
            self._producer.poll(POLL_S)
            if self._reports:
                reports, self._reports = self._reports, []
                try:
                    self._loop.call_soon_threadsafe(self._settle, reports)
                except RuntimeError:  # the loop is closed: nobody is left who could hear of it
                    log.warning("the event loop ended with %d delivery reports of %s unread", len(reports), self._servers)
                    return
            if self._stopped.is_set() and not self._pending:
                return

    def _reported(self, slot: _Slot, error: KafkaError | None, message: Any) -> None:  # noqa: ANN401 confluent_kafka has no types
        self._reports.append((slot, error, message.partition(), message.offset()))

    def _settle(self, reports: list[_Report]) -> None:
        for slot, error, where, offset in reports:
            self._release(slot)
            if error is None:
                if slot.future is not None and not slot.future.done():
                    slot.future.set_result(Position(slot.record.topic, where, offset))
            else:
                self._fail(slot, self._meaning(error, slot.record.topic))
        self._admit()

    def _fail(self, slot: _Slot, error: AntiphonError) -> None:
        if isinstance(error, TopicMissing):
            self._known.discard(slot.record.topic)
        if slot.future is not None:
            if not slot.future.done():
                slot.future.set_exception(error)
            return
        if slot.on_error is not None:
            try:
                slot.on_error(error, slot.record)
            except Exception:
                log.exception("on_error raised for a record of topic %s that was not delivered: %s", slot.record.topic, error)
            else:
                return
        self._failed += 1
        if len(self._failures) < FAILURES_KEPT_MAX:
            self._failures.append((error, slot.record))

    def _release(self, slot: _Slot) -> None:
        if slot not in self._pending:
            return
        self._pending.discard(slot)
        self._bytes -= slot.size
        for waiting, done in self._flushers:
            waiting.discard(slot)
            if not waiting and not done.done():
                done.set_result(None)
        self._flushers = [one for one in self._flushers if one[0]]

    def _meaning(self, error: KafkaError, topic: str) -> AntiphonError:
        if error.code() in _MISSING:
            return TopicMissing(topic)
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            return TopicError(topic, f"topic {topic} has no such partition: see `antiphon topics describe {topic}`")
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return BrokerError(
                f"a record for {topic} is larger than the broker takes ({error.str()}): split it, or raise max.message.bytes"
            )
        if error.code() in _TOO_LATE:
            meant = broker_error(self._servers, error, seen=list(self._seen))
            late = f"a record for {topic} was not acknowledged within {self._delivery_timeout_s:g} s"
            return meant if isinstance(meant, BrokerAuthenticationFailed) else BrokerUnavailable(self._servers, late)
        return broker_error(self._servers, error, seen=list(self._seen))
