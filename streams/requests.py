"""Request and reply over topics.

    requester                                   handler (any of a group)
    request-id  7f…   ──▶  reviews.commands ──▶ handler(event)
    reply-to    billing.replies                     │
    reply-partition 3 ◀──  billing.replies/3  ◀─────┘  request-id 7f…, and either an event or reply-error, reply-reason

One reply topic a service (`<client id>.replies`), one partition of it for each of its instances, so that an instance reads
little that is not its own. The request waits until the reply's reader stands before it is sent.

Guarantees: a request ends as its reply, `RequestFailed` or `RequestTimedOut`. A reply that comes late, or a second time, is
counted and dropped. A handler sees a request at least once, and once only while it is remembered (`DEDUPE_MS`, `DEDUPE_MAX`, in
this process): asked again with the same event id, it gets the same answer without running again. A crash of the handler's
process repeats what it had not answered, so handlers with effects should be idempotent by the event's id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from schemas.errors import AntiphonError, SchemaError
from schemas.events import Event
from streams.core.deadletters import one_line
from streams.core.dedupe import Recent
from streams.core.patterns import TopicPattern
from streams.errors import RequestTimedOut
from streams.transport import FeedOptions, Lane, Outgoing, Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.client import Mesh
    from streams.codec import Codec
    from streams.subscriptions import Delivery, Subscription
    from streams.transport import Feed, Log

__all__ = ["REPLIES_SUFFIX", "Handling", "RequestFailed", "Requester"]

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)

REQUEST_ID: Final = "request-id"
REPLY_TO: Final = "reply-to"
REPLY_PARTITION: Final = "reply-partition"
REPLY_ERROR: Final = "reply-error"
REPLY_REASON: Final = "reply-reason"
REPLY_RETRYABLE: Final = "reply-retryable"
REPLIES_SUFFIX: Final = ".replies"

REPLY_PARTITIONS: Final = 8
"""Of a reply topic that we create: so many instances of a service read only their own replies; more share."""
REPLY_RETENTION_MS: Final = 3_600_000
"""Of a reply topic that we create: the longest timeout that the settings allow."""
DEDUPE_MAX: Final = 10_000
"""Requests remembered by a handler: a second of a fast one; each costs its reply's size."""
DEDUPE_MS: Final = 600_000
"""How long a handler remembers a request: longer than anybody asks again."""
HANDLERS_MAX: Final = 64
"""Requests of one handling at work at a time: enough to hide the waits of a handler, few enough for its own connections."""
DRAIN_S: Final = 5.0
"""How long requests at work may finish when a handling closes; then they are cancelled, and come again elsewhere."""


class RequestFailed(AntiphonError):
    """The handler raised. `error` is the class it raised, `reason` its message, `retryable` whether asking again can help."""

    fault = "operator"

    def __init__(self, what: str, *, error: str, reason: str, retryable: bool) -> None:
        """Say what failed and why.

        Args:
            what: the request's type and id.
            error: the class that the handler raised.
            reason: its message.
            retryable: whether the same request can succeed later.
        """
        self.error = error
        self.reason = reason
        self.retryable = retryable  # type: ignore[misc] # here the handler's own error decides
        super().__init__(f"{what} was refused by its handler: {error}: {reason}")


class Requester:
    """The asking side of one mesh."""

    def __init__(self, mesh: Mesh, log_: Log, *, service: str) -> None:
        """Take the mesh; nothing is read before the first request."""
        self._mesh, self._log = mesh, log_
        self._topic = service + REPLIES_SUFFIX
        self._partition = -1
        self._instance = secrets.token_hex(4)
        self._waiting: dict[str, asyncio.Future[Record]] = {}
        self._feed: Feed | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self.late = 0

    async def request(self, event: Event, *, reply_type: type[E], topic: str | None, timeout_s: float) -> E:
        """See `Mesh.request`."""
        event = self._mesh.stamp(event)
        what = f"{event.event_type} {event.id}"
        request_id = self._instance + secrets.token_hex(12)
        started = time.monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await self._open()
                future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
                self._waiting[request_id] = future
                headers = ((REQUEST_ID, request_id), (REPLY_TO, self._topic), (REPLY_PARTITION, str(self._partition)))
                raw = tuple((name, value.encode()) for name, value in headers)
                await self._mesh.publish(event, topic=topic, headers=raw)
                record = await future
        except TimeoutError as error:
            raise RequestTimedOut(
                f"no reply to {what} on {topic or event.topic} within {timeout_s:g} s ({time.monotonic() - started:.1f} s): "
                f"see whether its handler runs; the request may still be carried out, so ask again with the same id"
            ) from error
        finally:
            self._waiting.pop(request_id, None)
        return self._read(record, reply_type, what)

    def _read(self, record: Record, reply_type: type[E], what: str) -> E:
        headers = dict(record.headers)
        if REPLY_ERROR in headers:
            raise RequestFailed(
                what,
                error=headers[REPLY_ERROR].decode("utf-8", "replace"),
                reason=headers.get(REPLY_REASON, b"").decode("utf-8", "replace"),
                retryable=headers.get(REPLY_RETRYABLE) == b"1",
            )
        reply = self._mesh.codec.decode(record)
        if not isinstance(reply, reply_type):
            raise RequestFailed(
                what,
                error="WrongReplyType",
                reason=f"{reply.event_type} came, {reply_type.event_type} was expected",
                retryable=False,
            )
        return reply

    async def _open(self) -> None:
        async with self._opening:
            if self._reader is not None and not self._reader.done():
                return
            if self._feed is not None:  # the reader ended with an error: begin anew
                await self._feed.close()
            config = {"retention.ms": str(REPLY_RETENTION_MS)}
            await self._log.ensure_topic(self._topic, REPLY_PARTITIONS, config)
            self._partition = secrets.randbelow(await self._log.partitions(self._topic))
            options = FeedOptions(TopicPattern.parse(self._topic), None, "latest", read_partition=self._partition)
            feed = self._log.feed(options)
            self._feed = feed
            await feed.start()
            self._reader = asyncio.ensure_future(self._listen(feed))

    async def _listen(self, feed: Feed) -> None:
        try:
            while True:
                for lane, record in await feed.batch():
                    self._take(feed, lane, record)
        except AntiphonError as error:
            log.warning("the reader of %s ended, the next request begins a new one: %s", self._topic, error)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(error)

    def _take(self, feed: Feed, lane: Lane, record: Record) -> None:
        feed.take(lane, record.offset)
        feed.ack(lane, record.offset)
        request_id = next((value for name, value in record.headers if name == REQUEST_ID), b"").decode("ascii", "replace")
        future = self._waiting.pop(request_id, None)
        if future is None or future.done():
            self.late += request_id.startswith(self._instance)  # else it is for another instance on a shared partition
        else:
            future.set_result(record)

    async def close(self) -> None:
        """Stop to listen; requests that still wait end as timed out."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    RequestTimedOut("the client closed before a reply came: the request may still be carried out")
                )
        if self._feed is not None:
            await self._feed.close()


class Handling:
    """The answering side for one request type; made by `Mesh.handle`.

    Attributes:
        answered: Requests that were handled and answered.
        failed: Requests whose handler raised, and whose caller was told so.
        repeated: Requests that were answered from memory.
    """

    def __init__(
        self,
        mesh: Mesh,
        subscription: Subscription[Any],
        handler: Callable[[Any], Awaitable[Event]],
        *,
        codec: Codec,
        on_closed: Callable[[Handling], None],
    ) -> None:
        """Take the subscription, not open yet."""
        self._mesh, self._subscription, self._handler, self._codec = mesh, subscription, handler, codec
        self._on_closed = on_closed
        self._seen: Recent[tuple[str, asyncio.Future[Outgoing]]] = Recent(size_max=DEDUPE_MAX, age_ms_max=DEDUPE_MS)
        self._tails: dict[bytes | None, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(HANDLERS_MAX)
        self._loop_task: asyncio.Task[None] | None = None
        self.answered = self.failed = self.repeated = 0

    async def open(self) -> None:
        """Begin."""
        try:
            await self._subscription.open()
        except BaseException:
            await self._subscription.close()
            raise
        self._loop_task = asyncio.ensure_future(self._run())

    async def wait(self) -> None:
        """Run until it is closed.

        Raises:
            AntiphonError: What ended it, where it ended by itself.
        """
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)

    async def close(self) -> None:
        """Take no more requests, and let those at work finish."""
        self._on_closed(self)
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)  # `wait` raised what ended it
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._subscription.close()

    async def _run(self) -> None:
        try:
            async for delivery in self._subscription:
                await self._slots.acquire()
                key = delivery.record.key
                task = asyncio.ensure_future(self._one(delivery, self._tails.get(key)))
                self._tails[key] = task
                self._tasks.add(task)
                task.add_done_callback(partial(self._done, key))
        except AntiphonError as error:
            log.error("a handler ended: %s", error)  # noqa: TRY400 - one line; `wait` raises it
            raise

    def _done(self, key: bytes | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if self._tails.get(key) is task:
            del self._tails[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request could not be answered, so it comes again: %s", error)

    async def _one(self, delivery: Delivery[Any], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # one key's requests in order; what became of the one before is its caller's business
        headers = dict(delivery.record.headers)
        request_id = headers.get(REQUEST_ID, b"").decode("ascii", "replace")
        now_ms = time.time_ns() // 1_000_000
        known = self._seen.get(delivery.event.id, now_ms)
        if known is not None:
            first_id, future = known
            self.repeated += 1
            if first_id != request_id and not future.cancelled():  # asked again: the same answer, to the new asker
                await self._reply(headers, await future)
            delivery.ack()
            return
        future = asyncio.get_running_loop().create_future()
        self._seen.put(delivery.event.id, (request_id, future), now_ms)
        try:
            answer = await self._answer(delivery.event)
            future.set_result(answer)
            await self._reply(headers, answer)
        except BaseException:
            self._seen.drop(delivery.event.id)
            future.cancel()
            raise
        delivery.ack()

    async def _answer(self, event: Event) -> Outgoing:
        """Run the handler; what it raises becomes the answer."""
        try:
            reply = await self._handler(event)
            encoded = self._codec.encode(self._mesh.stamp(reply, cause=event))
        except Exception as error:
            self.failed += 1
            if not isinstance(error, AntiphonError) or isinstance(error, SchemaError):
                log.exception("the handler of %s %s raised", event.event_type, event.id)
            retryable = b"1" if getattr(error, "retryable", False) else b"0"
            told = ((REPLY_ERROR, type(error).__name__.encode()), (REPLY_REASON, one_line(str(error)).encode("utf-8", "replace")))
            return Outgoing("", event.id.encode(), None, (*told, (REPLY_RETRYABLE, retryable)))
        self.answered += 1
        return Outgoing("", encoded.key, encoded.value, tuple(encoded.headers))

    async def _reply(self, headers: dict[str, bytes], answer: Outgoing) -> None:
        topic = headers.get(REPLY_TO, b"").decode("utf-8", "replace")
        if not topic:
            return  # a plain event of that type: nobody asked for an answer
        partition = -1
        with contextlib.suppress(ValueError):
            partition = int(headers.get(REPLY_PARTITION, b"-1"))
        addressed = (*answer.headers, (REQUEST_ID, headers.get(REQUEST_ID, b"")))
        try:
            await self._mesh.send(answer._replace(topic=topic, partition=partition, headers=addressed))
        except AntiphonError as error:
            if error.retryable:
                raise
            log.warning("a reply could not be sent to %s, its caller will time out: %s", topic, error)
