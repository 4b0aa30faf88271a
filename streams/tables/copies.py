"""The copies of one mesh: which domains it follows, how their rows are read, and at which moment they are seen.

mark ─▶ the domain is followed: from here on its feed tells everything, and what was promised before is waited for
rows ─▶ page after page while the feed goes on, and a second mark: what is in them has then been told as well
gap  ─▶ all of this anew; who reads meanwhile waits
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import murmur2

from schemas.errors import AntiphonError
from schemas.tables import (
    COMMANDS_TOPIC,
    FEED_TOPIC,
    MarkTable,
    ReadRows,
    RowsRead,
    TableMarked,
)
from streams.core.tables.rows import DomainRows, Version
from streams.errors import RequestTimedOut, TopicMissing
from streams.tables.errors import TableError, VersionGone
from streams.tables.feeds import Domain, PartitionFeed
from streams.tables.moments import Moments
from streams.tables.wire import AGAIN_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streams.tables.feeds import Change
    from streams.tables.wire import Wire
    from streams.transport import Log

__all__ = ["Copies"]

log = logging.getLogger(__name__)

MADE_BY: Final = "antiphon worker transactions"
KEPT_TICKS: Final = 8
"""Old versions stay for so many ticks of the clock, two seconds: a transaction that begins can be put back that far."""


class Copies:
    """See the module.

    Args:
        log_: The log.
        wire: What asks the domains.
        answer_s: How long a question may stay without an answer.
        on_change: Called with each change that a followed partition tells, after its rows have it.
    """

    def __init__(self, log_: Log, wire: Wire, *, answer_s: float, on_change: Callable[[Change], None]) -> None:
        self._log, self._wire, self._answer_s, self._told = log_, wire, answer_s, on_change
        self.domains: dict[str, Domain] = {}
        self.ready: dict[str, Domain] = {}
        """Those whose rows can be read."""
        self.moments = Moments(wire, self.domains, answer_s=answer_s, follow=self.followed, soon=self.soon)
        self._feeds: dict[int, PartitionFeed] = {}
        self._partitions = 0
        self._opening: dict[str, asyncio.Future[Domain]] = {}
        self._loading: dict[str, asyncio.Future[Domain]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- opening

    async def followed(self, name: str) -> Domain:
        """Return a domain whose feed is read.

        Raises:
            RequestTimedOut: No worker of transactions answers.
            TopicMissing: There is none, or it has not made its topics yet.
        """
        found = self.domains.get(name)
        if found is not None and found.ended is None:
            return found
        return await self._shared(self._opening, name, self._follow)

    async def loaded(self, name: str) -> Domain:
        """Return a domain whose rows can be read; raises as `followed`."""
        return self.ready.get(name) or await self._shared(self._loading, name, self._load)

    async def _shared(self, under_way: dict[str, asyncio.Future[Domain]], name: str, make: Any) -> Domain:  # noqa: ANN401 - a method
        """Do it once for all that want it at the same time; one that is cancelled does not end it for the others."""
        going = under_way.get(name)
        if going is None:
            going = under_way[name] = asyncio.ensure_future(make(name))
            going.add_done_callback(lambda _: under_way.pop(name, None))
        return await asyncio.shield(going)

    async def _follow(self, name: str) -> Domain:
        await self._wire.open()
        topic = self._wire.prefix + COMMANDS_TOPIC
        if not self._partitions:
            try:
                self._partitions = await self._log.partitions(topic)
            except TopicMissing as error:
                raise TopicMissing(topic, made_by=MADE_BY) from error
        number: int = murmur2(name.encode(), self._partitions)
        feed = self._feeds.get(number)
        if feed is None:
            feed = self._feeds[number] = PartitionFeed(
                self._log,
                self._wire.channel.codec,
                self._wire.prefix + FEED_TOPIC,
                number,
                on_change=self._changed,
                on_lost=self._lost,
            )
        await feed.start()
        domain = self.domains.get(name)
        if domain is None:
            domain = feed.domains[name] = self.domains[name] = Domain(name, feed)
        marked = await self.mark(domain)
        self.moments.promised(domain, marked["prepared"])
        # What the domain has committed before the mark was promised in the others before that, so it is known after this:
        others = {one.feed.number: one for one in self.domains.values() if one is not domain}
        await asyncio.gather(*(self.mark(one) for one in others.values()))
        await self.moments.followed(domain)
        return domain

    async def _load(self, name: str) -> Domain:
        while True:
            domain = await self.followed(name)
            domain.lost = False
            rows = domain.loading = DomainRows()
            async for page in self.pages(name):
                for row in page["rows"]:
                    for one in row["versions"]:
                        version = Version(one["version"], one["value"], one["at_ms"], one["txn"], one["owner"])
                        rows.load(row["table"], row["key"], version)
                last: int = page["position"]
            rows.trim(last)
            await self.mark(domain)  # all that is in the rows has then been told by the feed too, with what belongs together
            if not domain.lost:
                break
        before, domain.rows, domain.loading = domain.rows, rows, None
        if before is not None:
            self._tell_missed(domain, before, rows)
        self.ready[name] = domain
        return domain

    async def pages(self, domain: str, **which: Any) -> AsyncIterator[dict[str, Any]]:  # noqa: ANN401 - fields of ReadRows
        """Yield pages of rows as the domain has them.

        Args:
            domain: Whose.
            **which: Fields of `ReadRows`.

        Raises:
            VersionGone: They are older than what is kept.
            RequestTimedOut: No worker of transactions answers.
        """
        fields = _WHOLE | which
        while True:
            call = self._wire.channel.new_id()
            asked = {**fields, "domain": domain, "request_id": call}
            kind, page = await self._wire.call(ReadRows, asked, key=domain, call=call, what=f"the rows of domain {domain}")
            if kind != RowsRead.event_type:
                raise TableError(f"the rows of domain {domain} were not read: {page.get('reason') or kind}")
            if page["code"]:
                cls = VersionGone if page["code"] == "too_old" else TableError
                raise cls(f"rows of domain {domain}: {page['reason']}")
            yield page
            if not page["more"]:
                return
            last = page["rows"][-1]
            fields["after_table"], fields["after_key"] = last["table"], last["key"]

    async def mark(self, domain: Domain) -> dict[str, Any]:
        """Wait until all that was committed in a domain before now is here; return what the domain said.

        Raises:
            RequestTimedOut: No worker of transactions answers, or its feed does not show the mark.
        """
        until = time.monotonic() + self._answer_s
        while True:
            call = self._wire.channel.new_id()
            asked = {"domain": domain.name, "request_id": call}
            kind, fields = await self._wire.call(MarkTable, asked, key=domain.name, call=call, what=f"a mark in {domain.name}")
            if kind != TableMarked.event_type:
                raise TableError(f"a mark in domain {domain.name} was refused: {fields.get('reason') or kind}")
            reached = domain.feed.reached(fields["position"])
            try:
                async with asyncio.timeout(AGAIN_S):
                    await reached
            except TimeoutError:
                if time.monotonic() >= until:
                    raise RequestTimedOut(
                        f"the feed of domain {domain.name} does not show a mark within {self._answer_s:g} s"
                    ) from None
                continue
            domain.base = max(domain.base, fields["position"])
            return fields

    # ---- the clock

    def tick(self) -> None:
        """Drop old versions, and ask after transactions that one domain has shown and another one has not."""
        floors = {}
        for domain in self.domains.values():
            marks = domain.marks
            marks.append(domain.position)
            if len(marks) > KEPT_TICKS:
                del marks[0]
            floor = min([marks[0], *domain.pins])
            floors[domain.name] = floor
            if domain.rows is not None:
                domain.rows.trim(floor)
            if domain.name not in self._opening and domain.name not in self._loading:
                self._again(domain)
        self.moments.tick(floors)

    def _again(self, domain: Domain) -> None:
        """Try anew what has failed."""
        if domain.rows is not None and domain.name not in self.ready:
            self.soon(self.loaded(domain.name))
        elif domain.ended is not None:
            self.soon(self.followed(domain.name))

    def soon(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        """Do something in the background; what it raises is logged."""

        async def quietly() -> None:
            try:
                await work
            except AntiphonError as error:
                log.warning("in the background: %s", error)

        task = asyncio.ensure_future(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def reload(self, domain: Domain) -> None:
        """Catch up with a domain whose feed does not show what it has committed."""
        if domain.rows is None:
            self.soon(self.mark(domain))
        else:
            self._lost(domain)

    async def close(self) -> None:
        """Follow nothing any more."""
        going = [*self._tasks, *self._opening.values(), *self._loading.values()]
        for one in going:
            one.cancel()
        await asyncio.gather(*going, return_exceptions=True)
        for feed in self._feeds.values():
            await feed.close()

    # ---- inside

    def _changed(self, domain: Domain | None, change: Change) -> None:
        if domain is not None:
            if change["participants"]:
                self.moments.take(domain, change)
            if change["kind"] == "committed":
                for watcher in domain.watchers:
                    watcher(change)
        self._told(change)
        self.moments.news()

    def _lost(self, domain: Domain) -> None:
        domain.lost = True
        self.moments.lost(domain)
        if self.ready.pop(domain.name, None) is not None:
            log.warning("something is missing in the feed of domain %s: its rows are read anew", domain.name)
            self.soon(self.loaded(domain.name))

    def _tell_missed(self, domain: Domain, before: DomainRows, now: DomainRows) -> None:
        """Tell watchers what changed while nothing was heard: of each row the last change."""
        if not domain.watchers:
            return
        old = {(table, key): version for table, key, version in before.all()}
        changes = []
        for table, key, version in now.all():
            was = old.pop((table, key), None)
            if was is None or was.position < version.position:
                changes.append((version.position, table, key, version))
        gone = Version(domain.base, None, 0, "", "")
        changes += [(domain.base, table, key, gone) for (table, key), was in old.items() if was.value is not None]
        for position, table, key, version in sorted(changes, key=lambda one: one[:3]):
            written = {"table": table, "key": key, "value": version.value}
            who = {"at_ms": version.at_ms, "txn": version.txn, "owner": version.owner}
            told = {"position": position, **who, "writes": [written]}
            for watcher in domain.watchers:
                watcher(told)


_WHOLE: Final[dict[str, Any]] = {
    "table": "",
    "prefix": "",
    "after_table": "",
    "after_key": "",
    "at_position": -1,
    "at_ms": -1,
    "history": False,
}
"""The whole domain, as it is now."""
