"""What is committed, as the partitions tell it: read once for all domains of a partition that are followed.

A bundle says which change was the last before it. Where that one has not been seen something is missing (a worker's bundle was
lost with its broker), and the rows of the domains concerned are read anew; see `streams.tables.copies`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import AntiphonError, SchemaError
from streams.core.patterns import TopicPattern
from streams.transport import FeedOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.codec import Codec
    from streams.core.tables.rows import DomainRows
    from streams.transport import Feed, Log, Record

__all__ = ["Change", "Domain", "PartitionFeed"]

log = logging.getLogger(__name__)

RESTART_S: Final = 0.5
"""Between the end of a reader with an error and the next one."""

Change = dict[str, Any]
"""The fields of `schemas.tables.Change`."""


class Domain:
    """One domain that is followed, and its rows where they are read.

    Attributes:
        name: The domain.
        feed: Of its partition.
        base: The position of the last question that was answered about it: what lies before is known without the feed.
        rows: Its rows; None where only its transactions are followed.
        loading: The rows that are being read, which take what is committed meanwhile.
        own: The position of this mesh's last commit in it.
        pins: Positions that transactions read at, with how many do.
        watchers: Called with each change.
        doubts: Transactions that were promised here when it was opened, and are not decided yet.
        ended: Those that have been decided since it began to open; None once it is open.
    """

    __slots__ = ("base", "doubts", "ended", "feed", "loading", "lost", "marks", "name", "own", "pins", "rows", "watchers")

    def __init__(self, name: str, feed: PartitionFeed) -> None:
        self.name, self.feed = name, feed
        self.base = self.own = 0
        self.rows: DomainRows | None = None
        self.loading: DomainRows | None = None
        self.lost = False
        """Whether something is missing since its rows began to be read."""
        self.pins: dict[int, int] = {}
        self.watchers: list[Callable[[Change], None]] = []
        self.doubts: set[str] = set()
        self.ended: set[str] | None = set()
        self.marks: list[int] = []
        """Its last positions at each tick of the clock, newest last; for trimming."""

    @property
    def position(self) -> int:
        """How far it is known."""
        return max(self.base, self.feed.position)

    def pin(self, position: int) -> None:
        """Keep what is read at a position."""
        self.pins[position] = self.pins.get(position, 0) + 1

    def unpin(self, position: int) -> None:
        """Keep it no more, once nobody else does."""
        left = self.pins[position] - 1
        if left:
            self.pins[position] = left
        else:
            del self.pins[position]


class PartitionFeed:
    """The feed of one partition.

    Args:
        log_: The log.
        codec: Reads records.
        topic: The feed's topic.
        number: The partition.
        on_change: Called with each change of a domain that is followed, after its rows have it.
        on_lost: Called with each domain of which something is missing.

    Attributes:
        number: The partition.
        position: Of the last change that was read.
        domains: Those that are followed.
    """

    def __init__(
        self,
        log_: Log,
        codec: Codec,
        topic: str,
        number: int,
        *,
        on_change: Callable[[Domain | None, Change], None],
        on_lost: Callable[[Domain], None],
    ) -> None:
        self._log, self._codec = log_, codec
        self._options = FeedOptions(TopicPattern.parse(topic), None, "latest", read_partition=number)
        self._on_change, self._on_lost = on_change, on_lost
        self.number = number
        self.position = 0
        self.domains: dict[str, Domain] = {}
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._feed: Feed | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Begin to read, where that has not begun."""
        async with self._starting:
            if self._reader is None:
                self._feed = await self._begin()
                self._reader = asyncio.ensure_future(self._read(self._feed))

    def reached(self, position: int) -> asyncio.Future[None]:
        """Return a future that is done once the feed has come to a position."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if position <= self.position:
            future.set_result(None)
        else:
            heapq.heappush(self._waiters, (position, next(self._order), future))
        return future

    async def close(self) -> None:
        """Read no more."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for *_, future in self._waiters:
            future.cancel()
        if self._feed is not None:
            await self._feed.close()

    async def _begin(self) -> Feed:
        feed = self._log.feed(self._options)
        try:
            await feed.start()
        except BaseException:
            await feed.close()
            raise
        return feed

    async def _read(self, feed: Feed) -> None:
        while True:
            try:
                while True:
                    for lane, record in await feed.batch():
                        feed.take(lane, record.offset)
                        feed.ack(lane, record.offset)
                        self._record(record)
            except AntiphonError as error:
                log.warning("the reader of %s ended, a new one begins: %s", self._options.pattern.text, error)
            await feed.close()
            while True:
                await asyncio.sleep(RESTART_S)
                try:
                    feed = self._feed = await self._begin()
                except AntiphonError as error:
                    log.warning("%s cannot be read yet: %s", self._options.pattern.text, error)
                else:
                    break
            for domain in list(self.domains.values()):
                self._on_lost(domain)

    def _record(self, record: Record) -> None:
        try:
            fields = self._codec.read(record)
        except SchemaError as error:
            log.warning("skipped: %s", error)
            return
        self.take(fields)

    def take(self, fields: dict[str, Any]) -> None:
        """Take a bundle."""
        known, domains = self.position, self.domains
        previous = fields["previous"]
        if previous > known:
            for domain in list(domains.values()):
                if previous > domain.base:
                    self._on_lost(domain)
        on_change = self._on_change
        for change in fields["changes"]:
            position = change["position"]
            if position <= known:
                continue  # told twice
            domain_of = domains.get(change["domain"])
            if domain_of is not None and change["kind"] == "committed":
                rows, loading = domain_of.rows, domain_of.loading
                for each in (rows,) if loading is None else (rows, loading):
                    if each is not None:
                        each.write(change["writes"], position, change["at_ms"], change["txn"], change["owner"])
            known = self.position = position
            on_change(domain_of, change)
        waiters = self._waiters
        while waiters and waiters[0][0] <= known:
            future = heapq.heappop(waiters)[2]
            if not future.done():
                future.set_result(None)
