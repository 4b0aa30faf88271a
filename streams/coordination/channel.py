"""Commands to the coordination processor and their answers: one conversation for all locks of a mesh.

A call is told apart by its id, which is on the command and on each of its answers. Where no answer comes, the command is sent
again under the same id, marked as such, and the processor answers as it did the first time. So a call ends as its answer, or as
`RequestTimedOut` once `client.request_timeout_s` is over; a request that waits for its turn has been answered ("queued"), and
is asked after from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.errors import AntiphonError, SchemaError
from streams.bundling import Bundles
from streams.core.patterns import TopicPattern
from streams.errors import BrokerError, TopicMissing
from streams.requests import (
    REPLIES_SUFFIX,
    REPLY_PARTITION,
    REPLY_PARTITIONS,
    REPLY_RETENTION_MS,
    REPLY_TO,
    REQUEST_ID,
)
from streams.transport import FeedOptions, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.events import Event
    from streams.codec import Codec
    from streams.transport import Feed, Log, Record, Sender

__all__ = ["Channel"]

log = logging.getLogger(__name__)

SEND_APART_S: Final = 0.003
"""Between bundles of commands: more pairs a second with many clients, and nothing lost for who is alone (docs/performance.md)."""

_MADE_BY: Final = "antiphon worker coordination"

Answer = tuple[str, dict[str, Any]]
"""An event's type and fields."""


class Channel:
    """The conversation of one mesh; opened with the first call.

    Args:
        log_: The log.
        codec: For commands and answers.
        sender: What sends commands.
        service: The client id, which names the reply topic.
        source: The CloudEvents source of commands.
        topic_prefix: Before the names of topics, as the processor has it.
    """

    def __init__(self, log_: Log, *, codec: Codec, sender: Sender, service: str, source: str, topic_prefix: str = "") -> None:
        self._log, self.codec, self._sender = log_, codec, sender
        self._replies = service + REPLIES_SUFFIX
        self._source = source
        self._prefix, self._topic = topic_prefix, topic_prefix + COMMANDS_TOPIC
        self._listeners: dict[str, Callable[[Answer | AntiphonError], None]] = {}
        self._feed: Feed | None = None
        self._reader: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._reply_headers: tuple[tuple[str, bytes], ...] = ()
        self._calls = 0
        self._bundles: Bundles[asyncio.Future[None]] = Bundles(_go, apart_s=SEND_APART_S)
        self._posts: Bundles[Outgoing] = Bundles(self._post_all, apart_s=SEND_APART_S)
        self._posting: set[asyncio.Task[None]] = set()
        self.instance = secrets.token_hex(6)
        self.late = 0
        """Answers that nobody waited for any more."""

    def new_id(self) -> str:
        """Return an id that no other call has."""
        self._calls += 1
        return f"{self.instance}.{self._calls}"

    @property
    def is_open(self) -> bool:
        """Whether answers are read."""
        return self._reader is not None and not self._reader.done()

    async def open(self) -> None:
        """Begin to read answers, where that has not begun."""
        if self.is_open:
            return
        async with self._opening:
            if self.is_open:
                return
            if self._feed is not None:  # the reader ended with an error: begin anew
                await self._feed.close()
            await self._log.ensure_topic(self._replies, REPLY_PARTITIONS, {"retention.ms": str(REPLY_RETENTION_MS)})
            partition = secrets.randbelow(await self._log.partitions(self._replies))
            feed = self._log.feed(FeedOptions(TopicPattern.parse(self._replies), None, "latest", read_partition=partition))
            self._feed = feed
            await feed.start()
            self._reply_headers = ((REPLY_TO, self._replies.encode()), (REPLY_PARTITION, str(partition).encode()))
            self._reader = asyncio.ensure_future(self._listen(feed))

    def events_feed(self, topic: str = EVENTS_TOPIC) -> Feed:
        """Return a reader of what everybody is told from now on, on this topic of coordination."""
        return self._log.feed(FeedOptions(TopicPattern.parse(self._prefix + topic), None, "latest"))

    async def publish(self, event: Event) -> None:
        """Tell everybody, and wait until all replicas have it.

        Raises:
            AntiphonError: It was not delivered.
        """
        stamped = event.stamped(id=self.new_id(), source=self._source, time_ms=time.time_ns() // 1_000_000)
        encoded = self.codec.encode(stamped, topic=self._prefix + EVENTS_TOPIC)
        await self._sender.send(Outgoing(encoded.topic, encoded.key, encoded.value, tuple(encoded.headers)))

    def listen(self, call: str, listener: Callable[[Answer | AntiphonError], None]) -> None:
        """Call `listener` with every answer to a call, and with the error that ends the reading of answers."""
        self._listeners[call] = listener

    def forget(self, call: str) -> None:
        """Listen to a call no more."""
        self._listeners.pop(call, None)

    def encoded(self, command: Event, call: str) -> Outgoing:
        """Return a command as the record that is sent."""
        stamped = command.stamped(id=call, source=self._source, time_ms=time.time_ns() // 1_000_000)
        encoded = self.codec.encode(stamped, topic=self._topic)
        headers = (*encoded.headers, (REQUEST_ID, call.encode()), *self._reply_headers)
        return Outgoing(self._topic, encoded.key, encoded.value, headers)

    async def send(self, command: Event, call: str) -> None:
        """Send a command; where it cannot be delivered, its listener is told."""
        record = self.encoded(command, call)
        going: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bundles.add((going,))
        await going
        try:
            await self._sender.send_soon(record, self._undelivered)
        except TopicMissing as error:
            raise TopicMissing(self._topic, made_by=_MADE_BY) from error

    def reply_headers(self, call: str) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that a command needs to be answered: its call, and where the answer goes."""
        return ((REQUEST_ID, call.encode()), *self._reply_headers)

    def post(self, record: Outgoing) -> None:
        """Send a command that is a record already, with the next bundle; where it cannot be delivered, its listener is told."""
        self._posts.add((record,))

    async def call(self, command: Event, *, again_s: float, limit_s: float) -> Answer:
        """Send a command and return its answer; send it again where none comes.

        Raises:
            TimeoutError: None came in time.
            AntiphonError: It could not be sent, or answers cannot be read.
        """
        await self.open()
        call = self.new_id()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | AntiphonError) -> None:
            if future.done():
                return
            if isinstance(answer, AntiphonError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.listen(call, answered)
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    await self.send(command, call)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(again_s):  # `wait_for` of 3.11 loses a cancellation that comes with the answer
                            return await asyncio.shield(future)
        finally:
            self.forget(call)
            if future.done() and not future.cancelled():
                future.exception()  # it may have come with the timeout

    async def close(self) -> None:
        """Read no more."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        self._posts.flush()
        await asyncio.gather(*self._posting)
        self._tell_all(BrokerError("the client was closed"))
        if self._feed is not None:
            await self._feed.close()
            self._feed = None

    # ---- inside

    def _post_all(self, bundle: list[Outgoing]) -> None:
        for number, record in enumerate(bundle):
            if not self._sender.offer(record, self._undelivered):
                task = asyncio.ensure_future(self._post_slowly(bundle[number:]))
                self._posting.add(task)
                task.add_done_callback(self._posting.discard)
                return

    async def _post_slowly(self, records: list[Outgoing]) -> None:
        for record in records:
            try:
                await self._sender.send_soon(record, self._undelivered)
            except AntiphonError as error:
                self._undelivered(error, record)

    def _undelivered(self, error: AntiphonError, record: Outgoing) -> None:
        call = next((value for name, value in record.headers if name == REQUEST_ID), b"").decode()
        listener = self._listeners.get(call)
        if listener is not None:
            listener(error)

    async def _listen(self, feed: Feed) -> None:
        try:
            while True:
                for lane, record in await feed.batch():
                    feed.take(lane, record.offset)
                    feed.ack(lane, record.offset)
                    self._take(record)
        except AntiphonError as error:
            log.warning("the reader of %s ended, the next call begins a new one: %s", self._replies, error)
            self._tell_all(error)

    def _tell_all(self, error: AntiphonError) -> None:
        for listener in list(self._listeners.values()):
            listener(error)

    def _take(self, record: Record) -> None:
        for name, value in record.headers:
            if name == REQUEST_ID:
                call = value.decode("ascii", "replace")
                break
        else:
            return
        listener = self._listeners.get(call)
        if listener is None:
            self.late += call.startswith(self.instance)  # else it is for another instance on a shared partition
            return
        try:
            answer = (self.codec.type_of(record), self.codec.read(record))
        except SchemaError as error:
            listener(error)
            return
        listener(answer)


def _go(bundle: list[asyncio.Future[None]]) -> None:
    for going in bundle:
        if not going.done():
            going.set_result(None)
