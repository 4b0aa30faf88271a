"""What everybody is told: the events of coordination from now on, read once for all observers of a mesh.

    async with session.news.follow("planner", {"election.elected", "election.ended"}) as told:
        ...                                             # what is asked now is older than all that comes
        async for kind, fields in told: ...

Nothing is missed between two events of one observer, unless it falls so far behind that it is ended (`BEHIND_MAX`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from schemas.coordination import EVENTS_TOPIC
from schemas.errors import AntiphonError, SchemaError
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import TracebackType

    from streams.coordination.channel import Answer, Channel
    from streams.transport import Feed, Record

__all__ = ["Following", "News"]

log = logging.getLogger(__name__)

BEHIND_MAX: Final = 10_000
"""Events that an observer may be behind: about ten megabytes, and more than a person or a model ever catches up with."""


class News:
    """The reader of one mesh; opened with its first observer, and closed with the last.

    Args:
        channel: Reads topics of coordination.
        topic: Which.
    """

    def __init__(self, channel: Channel, topic: str = EVENTS_TOPIC) -> None:
        self._channel, self._topic = channel, topic
        self._followers: set[Following] = set()
        self._feed: Feed | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    def follow(self, name: str, kinds: Collection[str], *, field: str = "name") -> Following:
        """Return an iterator over the events of these types whose field has this name; it begins where its block begins."""
        return Following(self, name, frozenset(kinds), field)

    async def add(self, one: Following) -> None:
        """Begin to tell an observer."""
        async with self._changing:
            if self._reader is None or self._reader.done():
                if self._feed is not None:  # the reader ended with an error: begin anew
                    await self._feed.close()
                feed = self._feed = self._channel.events_feed(self._topic)
                await feed.start()
                self._reader = asyncio.ensure_future(self._read(feed))
            self._followers.add(one)

    async def drop(self, one: Following) -> None:
        """Tell an observer no more."""
        async with self._changing:
            self._followers.discard(one)
            if not self._followers:
                await self._end()

    async def close(self) -> None:
        """End all observers."""
        self._fail(BrokerError("the client was closed"))
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        feed, self._feed = self._feed, None
        if feed is not None:
            await feed.close()

    async def _read(self, feed: Feed) -> None:
        try:
            while True:
                for lane, record in await feed.batch():
                    feed.take(lane, record.offset)
                    feed.ack(lane, record.offset)
                    self._tell(record)
        except AntiphonError as error:
            log.warning("the reader of coordination's events ended: %s", error)
            self._fail(error)

    def _tell(self, record: Record) -> None:
        codec, answer = self._channel.codec, None
        try:
            kind = codec.type_of(record)
            for one in list(self._followers):
                if kind in one.kinds:
                    answer = answer or (kind, codec.read(record))
                    one.tell(answer)
        except SchemaError as error:
            log.warning("skipped: %s", error)

    def _fail(self, error: AntiphonError) -> None:
        for one in self._followers:
            one.fail(error)


class Following:
    """One observer; made by `News.follow`."""

    def __init__(self, news: News, name: str, kinds: frozenset[str], field: str = "name") -> None:
        self.kinds, self._field = kinds, field
        self._news, self._name = news, name
        self._told: deque[Answer] = deque()
        self._error: AntiphonError | None = None
        self._wake = asyncio.Event()

    def tell(self, answer: Answer) -> None:
        """Take an event."""
        if answer[1].get(self._field) != self._name or self._error is not None:
            return
        if len(self._told) >= BEHIND_MAX:
            self.fail(AntiphonError(f"an observer of {self._name} is {BEHIND_MAX} events behind: begin anew, and be quicker"))
            return
        self._told.append(answer)
        self._wake.set()

    def fail(self, error: AntiphonError) -> None:
        """End with an error, once what was told before is read."""
        self._error = self._error or error
        self._wake.set()

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            TopicMissing: There is no coordination processor yet.
            BrokerError: The broker does not answer.
        """
        await self._news.add(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End."""
        await self._news.drop(self)

    def __aiter__(self) -> Self:
        """The observer itself."""
        return self

    async def __anext__(self) -> Answer:
        """Wait for the next event."""
        while not self._told:
            if self._error is not None:
                raise self._error
            self._wake.clear()
            await self._wake.wait()
        return self._told.popleft()

    def skip(self) -> None:
        """Drop what has been told so far, for who asks anew instead."""
        self._told.clear()
