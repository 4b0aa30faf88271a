"""What the lock machine remembers: its requests by id, with resources and owners as indexes of them.

All indexes are made from the rows (`lock_rows`): who holds a resource, its queue, deadlines.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Any

from processors.core.coordination.lock_rows import ENDED, META, Asked, Key, Order, Past, Row
from streams.core.at import Deadlines

__all__ = ["Book", "Resource", "Share"]


class Share:
    """What one owner has of one resource: its grants of it, each with its token there."""

    __slots__ = ("exclusive", "grants")

    def __init__(self) -> None:
        self.exclusive = 0
        """How many of the grants are exclusive."""
        self.grants: dict[str, int] = {}

    @property
    def token(self) -> int:
        """What a further grant of this owner gets here: nested grants share one token, only an upgrade has a new one."""
        return max(self.grants.values())


class Resource:
    """Who holds a resource and who waits for it, in order."""

    __slots__ = ("queue", "shares", "writers")

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.queue: list[tuple[Order, str]] = []
        self.writers: list[tuple[Order, str]] = []
        """Those of the queue that want it for themselves."""

    def holders(self) -> Iterator[tuple[str, str]]:
        """Yield owner and grant of all that hold it, in an order that depends on nothing but the rows."""
        for owner in sorted(self.shares):
            for grant in sorted(self.shares[owner].grants):
                yield owner, grant


class Book:
    """The requests of one partition with their indexes; every change is noted for the next `changes`."""

    def __init__(self) -> None:
        self.requests: dict[str, Asked] = {}
        self.ended: dict[str, Past] = {}
        """Oldest first."""
        self.resources: dict[str, Resource] = {}
        self.waiting_of: dict[str, set[str]] = {}
        self.granted_of: dict[str, set[str]] = {}
        self.due = Deadlines()
        self.token = 0
        self.clock_ms = 0
        self.number = 0
        self._dirty: set[str] = set()
        self._meta = False

    # ---- rows

    def load(self, rows: Iterable[tuple[Key, Row]]) -> None:
        """Take the rows of an empty book and make its indexes."""
        ended: list[tuple[int, str, Past]] = []
        for key, row in rows:
            if key == META:
                self.token, self.clock_ms, self.number = row
            elif row[0] == ENDED:
                past = Past.of(row)
                ended.append((past.number, str(key[1]), past))
            else:
                asked = Asked.of(str(key[1]), row)
                if asked.tokens:
                    self._hold(asked)
                else:
                    self._line_up(asked)
        self.ended = {request_id: held for _, request_id, held in sorted(ended, key=lambda one: one[0])}

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those that went."""
        changed: dict[Key, Row | None] = {}
        for request_id in sorted(self._dirty):
            if (asked := self.requests.get(request_id)) is not None:
                row: Row | None = asked.row()
            elif (held := self.ended.get(request_id)) is not None:
                row = (ENDED, held.owner, held.resources, held.number, held.kind, held.arguments)
            else:
                row = None
            changed["r", request_id] = row
        if self._meta:
            changed[META] = (self.token, self.clock_ms, self.number)
        self._dirty, self._meta = set(), False
        return changed

    def touch(self, request_id: str) -> None:
        """Note that a request changed."""
        self._dirty.add(request_id)

    # ---- time and position

    def next_token(self, least: int) -> int:
        """Return a token that is at least `least` and larger than every one before."""
        self.token = max(least, self.token + 1)
        self._meta = True
        return self.token

    def asked_at(self, now_ms: int) -> int:
        """Return the time of a request that begins to wait: never before that of an earlier one, whatever the clock does."""
        if now_ms > self.clock_ms:
            self.clock_ms = now_ms
            self._meta = True
        return self.clock_ms

    # ---- a request's way

    def wait(self, asked: Asked) -> None:
        """Put a request into its queues."""
        self._line_up(asked)
        self._dirty.add(asked.request_id)

    def grant(self, asked: Asked, tokens: tuple[int, ...], expires_ms: int) -> None:
        """Give a request, waiting or new, what it asks for."""
        if asked.request_id in self.requests:
            self._step_out(asked)
        asked.tokens, asked.until_ms = tokens, expires_ms
        self._hold(asked)
        self._dirty.add(asked.request_id)

    def renew(self, asked: Asked, lease_ms: int, expires_ms: int) -> None:
        """Let a grant hold until then."""
        asked.lease_ms, asked.until_ms = lease_ms, expires_ms
        self.due.set(asked.request_id, expires_ms)
        self._dirty.add(asked.request_id)

    def end(self, asked: Asked, kind: str, arguments: tuple[Any, ...], *, keep: int) -> list[str]:
        """End a request, remember its answer, and return the resources its owner does not hold any more because of this."""
        request_id = asked.request_id
        freed: list[str] = []
        if asked.tokens:
            _take(self.granted_of, asked)
            for name in asked.resources:
                resource = self.resources[name]
                share = resource.shares[asked.owner]
                del share.grants[request_id]
                share.exclusive -= asked.exclusive
                if not share.grants:
                    del resource.shares[asked.owner]
                    freed.append(name)
                    self._tidy(name, resource)
        else:
            self._step_out(asked)
        del self.requests[request_id]
        self.due.end(request_id)
        self.remember(request_id, asked.owner, asked.resources, kind, arguments, keep=keep)
        return freed

    def remember(
        self, request_id: str, owner: str, resources: tuple[str, ...], kind: str, arguments: tuple[Any, ...], *, keep: int
    ) -> None:
        """Remember the answer of a request that has ended, and forget the oldest one."""
        self.number += 1
        self._meta = True
        self.ended[request_id] = Past(owner, resources, self.number, kind, arguments)
        self._dirty.add(request_id)
        while len(self.ended) > keep:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            self._dirty.add(oldest)

    # ---- indexes

    def _add(self, asked: Asked, by_owner: dict[str, set[str]]) -> None:
        self.requests[asked.request_id] = asked
        by_owner.setdefault(asked.owner, set()).add(asked.request_id)
        if asked.until_ms is not None:
            self.due.set(asked.request_id, asked.until_ms)

    def _line_up(self, asked: Asked) -> None:
        self._add(asked, self.waiting_of)
        place = (asked.order, asked.request_id)
        for name in asked.resources:
            resource = self.resources.get(name)
            if resource is None:
                resource = self.resources[name] = Resource()
            insort(resource.queue, place)
            if asked.exclusive:
                insort(resource.writers, place)

    def _step_out(self, asked: Asked) -> None:
        _take(self.waiting_of, asked)
        place = (asked.order, asked.request_id)
        for name in asked.resources:
            resource = self.resources[name]
            del resource.queue[bisect_left(resource.queue, place)]
            if asked.exclusive:
                del resource.writers[bisect_left(resource.writers, place)]
            self._tidy(name, resource)

    def _hold(self, asked: Asked) -> None:
        self._add(asked, self.granted_of)
        for name, token in zip(asked.resources, asked.tokens, strict=True):
            resource = self.resources.get(name)
            if resource is None:
                resource = self.resources[name] = Resource()
            share = resource.shares.get(asked.owner)
            if share is None:
                share = resource.shares[asked.owner] = Share()
            share.exclusive += asked.exclusive
            share.grants[asked.request_id] = token

    def _tidy(self, name: str, resource: Resource) -> None:
        if not resource.shares and not resource.queue:
            del self.resources[name]


def _take(by_owner: dict[str, set[str]], asked: Asked) -> None:
    mine = by_owner[asked.owner]
    mine.discard(asked.request_id)
    if not mine:
        del by_owner[asked.owner]
