"""Subscriptions: typed deliveries from topics that match a pattern, each processed at least once.

    async with mesh.subscribe("agents.*", group="billing") as deliveries:
        async for delivery in deliveries:            # asking for the next one acknowledges this one
            await charge(delivery.event)

With `ack="explicit"` each delivery is acknowledged by `delivery.ack()`, in any order; the group's offset follows the contiguous
acknowledged ones, so a crash repeats what was not acknowledged and never skips it. What cannot be decoded goes to `on_error`:

    raise         the loop ends with the `SchemaError`, the record stays unacknowledged        (the default)
    skip          it is counted and acknowledged
    dead-letter   it goes to `<group>.dead-letters` with its bytes and is acknowledged after that is written
    a function    gets the error and the record, and returns one of the three words
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar

from schemas.errors import SchemaError
from schemas.events import Event
from streams.core.deadletters import dead_letter_headers, dead_letter_topic
from streams.errors import AntiphonError
from streams.transport import Outgoing, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from types import TracebackType

    from streams.codec import Codec
    from streams.transport import Feed, Lane, Position, Sender

__all__ = ["Ack", "Delivery", "ErrorAction", "OnPoison", "Subscription"]

log = logging.getLogger(__name__)

E_co = TypeVar("E_co", bound=Event, covariant=True)

Ack = Literal["auto", "explicit"]
ErrorAction = Literal["raise", "skip", "dead-letter"]

YIELD_EVERY: Final = 256
"""Deliveries given without a pause: a full buffer must not keep the event loop's other tasks waiting."""

DEAD_LETTER_PROCESSOR: Final = "subscription"
"""Who set a record aside, where it was a subscription and no processor."""


class Delivery(Generic[E_co]):
    """One event as it was received.

    Attributes:
        event: The event, decoded.
        record: The record it came as.
    """

    __slots__ = ("_feed", "_lane", "event", "record")

    def __init__(self, event: E_co, record: Record, feed: Feed, lane: Lane) -> None:
        """Made by a subscription."""
        self.event = event
        self.record = record
        self._feed = feed
        self._lane = lane

    @property
    def position(self) -> Position:
        """Where it lies."""
        return self.record.position

    def ack(self) -> bool:
        """Say that it is done. Returns False where that is too late: its partition was given away, it comes again elsewhere."""
        return self._feed.ack(self._lane, self.record.offset)


OnPoison = ErrorAction | Callable[[SchemaError, Record], ErrorAction | Awaitable[ErrorAction]]
"""What to do with a record that is no event."""


class Subscription(Generic[E_co]):
    """An asynchronous iterator of deliveries; made by `Mesh.subscribe`.

    Attributes:
        delivered: Deliveries given out.
        skipped: Records that could not be decoded and were skipped.
        dead_lettered: Records that could not be decoded and were set aside.
        filtered: Records of types that were not asked for.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        codec: Codec,
        sender: Sender,
        app: str,
        types: Collection[type[E_co]] = (),
        ack: Ack = "auto",
        on_error: OnPoison = "raise",
        on_closed: Callable[[Subscription[Any]], None] | None = None,
    ) -> None:
        """See `Mesh.subscribe`; `app` names the dead letter topic."""
        self._feed, self._codec, self._sender, self._app = feed, codec, sender, app
        self._types = frozenset(one.event_type for one in types)
        self._auto = ack == "auto"
        self._on_error = on_error
        self._on_closed = on_closed
        self._queue: deque[tuple[Lane, Record]] = deque()
        self._last: Delivery[E_co] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._since_pause = 0
        self._closed = False
        self.delivered = self.skipped = self.dead_lettered = self.filtered = 0

    async def open(self) -> Self:
        """Begin; returns when an event published from now on will be seen. Iterating does this by itself.

        Raises:
            TopicMissing: The pattern names one topic and it does not exist.
            BrokerError: The broker does not answer or refuses.
        """
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._feed.start())
        await asyncio.shield(self._opening)
        return self

    async def close(self) -> None:
        """Commit what is acknowledged and leave the group; what was delivered and not acknowledged comes again."""
        if self._closed:
            return
        self._closed = True
        if self._on_closed is not None:
            self._on_closed(self)
        if self._opening is not None:
            try:
                await self._feed.close()
            finally:
                if not self._opening.done():
                    self._opening.cancel()
                await asyncio.gather(self._opening, return_exceptions=True)  # what it raised was raised by open()

    async def commit(self) -> None:
        """Make the acknowledgements so far durable now, instead of within a second."""
        await self._feed.commit()

    async def __aenter__(self) -> Self:
        """Begin."""
        try:
            return await self.open()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[Delivery[E_co]]:
        """The deliveries."""
        return self

    async def __anext__(self) -> Delivery[E_co]:
        """Acknowledge the last delivery and wait for the next.

        Raises:
            SchemaError: A record is no event, and `on_error` says raise.
            BrokerError: The broker refuses, or the group cannot be joined.
        """
        if self._closed:
            raise StopAsyncIteration
        if self._last is not None:
            self._last.ack()
            self._last = None
        if self._opening is None or not self._opening.done():
            await self.open()
        while True:
            while self._queue:
                delivery = await self._deliver(*self._queue.popleft())
                if delivery is not None:
                    self.delivered += 1
                    if self._auto:
                        self._last = delivery
                    return delivery
            self._queue.extend(await self._feed.batch())
            self._since_pause = 0

    async def _deliver(self, lane: Lane, record: Record) -> Delivery[E_co] | None:
        self._since_pause += 1
        if self._since_pause >= YIELD_EVERY:
            self._since_pause = 0
            await asyncio.sleep(0)
        if not self._feed.take(lane, record.offset):
            return None  # the group gave the partition away: its records are somebody else's now
        try:
            if self._types and self._codec.type_of(record) not in self._types:
                self.filtered += 1
                self._feed.ack(lane, record.offset)
                return None
            event: Any = self._codec.decode(record)
        except SchemaError as error:
            await self._poison(error, record)
            self._feed.ack(lane, record.offset)
            return None
        return Delivery(event, record, self._feed, lane)

    async def _poison(self, error: SchemaError, record: Record) -> None:
        action = self._on_error
        if callable(action):
            answer = action(error, record)
            action = await answer if inspect.isawaitable(answer) else answer
        if action == "skip":
            self.skipped += 1
            log.warning("skipped: %s", error)
        elif action == "dead-letter":
            await self._sender.send(self._letter(error, record))
            self.dead_lettered += 1
            log.error("dead letter: %s", error)
        elif action == "raise":
            raise error
        else:
            raise AntiphonError(f"on_error returned {action!r}: raise, skip or dead-letter is allowed") from error

    def _letter(self, error: SchemaError, record: Record) -> Outgoing:
        headers = dead_letter_headers(
            record.headers,
            app=self._app,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            processor=DEAD_LETTER_PROCESSOR,
            error=error,
            reason=str(error),
            now_ms=int(time.time() * 1000),
        )
        return Outgoing(dead_letter_topic(self._app), record.key, record.value, tuple(headers))
