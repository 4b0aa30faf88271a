"""What the semaphore machine keeps: requests as in `ledger`, and a row for each semaphore.

    ["r", request id]   [1 waiting, owner, name, permits, route, asked_ms, lease_ms, wait until or null, order]
                        [2 granted, owner, name, permits, route, asked_ms, lease_ms, expires_ms, token]
    ["s", name]         [capacity, whether it was set by command]

Queues, who has permits and how many are out are made from these.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final

from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_rows import GRANTED, WAITING, Key, Row

__all__ = ["SEMAPHORE", "Book", "Hold", "Semaphore"]

SEMAPHORE: Final = "s"

Order = tuple[int, int]
"""A waiter's place: by time asked less priority's worth of it, then by log position."""


@dataclass(slots=True)
class Hold:
    """A request that waits, or has permits.

    Attributes:
        until_ms: While it waits, when it gives up, or None; once granted, when its lease ends.
        order: Its place while it waits.
        token: 0 while it waits.
    """

    request_id: str
    owner: str
    name: str
    permits: int
    route: str
    asked_ms: int
    lease_ms: int
    until_ms: int | None
    order: Order
    token: int = 0

    def row(self) -> Row:
        """Return its row."""
        state, last = (GRANTED, self.token) if self.token else (WAITING, self.order)
        return (state, self.owner, self.name, self.permits, self.route, self.asked_ms, self.lease_ms, self.until_ms, last)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Hold:
        """Return the request of a row."""
        state, *fields, last = row
        return cls(request_id, *fields, *((tuple(last), 0) if state == WAITING else ((0, 0), last)))


class Semaphore:
    """How many permits there are and how many are out, who has them and who waits.

    Attributes:
        fixed: Whether the capacity was set by command; it is then kept while nobody uses it.
        grants: Those that have permits, by their request ids, oldest first.
        queue: Those that wait, in order.
    """

    __slots__ = ("capacity", "fixed", "grants", "out", "queue")

    def __init__(self, capacity: int, *, fixed: bool = False) -> None:
        self.capacity, self.fixed, self.out = capacity, fixed, 0
        self.grants: dict[str, None] = {}
        self.queue: list[tuple[Order, str]] = []

    def row(self) -> Row:
        """Return its row."""
        return (self.capacity, int(self.fixed))

    def room(self, permits: int) -> bool:
        """Return whether so many are free: never, while more are out than there are."""
        return self.out + permits <= self.capacity


class Book:
    """The semaphores of one partition; every change is noted for the next `changes`."""

    def __init__(self, *, ended_max: int) -> None:
        self.ledger: Ledger[Hold] = Ledger(ended_max=ended_max)
        self.semaphores: dict[str, Semaphore] = {}
        self.fixed = 0
        """How many are kept while nobody uses them."""
        self.ledger.kinds[SEMAPHORE] = self.semaphores

    def load(self, rows: list[tuple[Key, Row]]) -> None:
        """Take the rows of an empty book and make its indexes."""
        for key, (capacity, fixed) in self.ledger.load(rows, Hold.of):
            self.semaphores[str(key[1])] = Semaphore(capacity, fixed=bool(fixed))
            self.fixed += fixed
        for hold in sorted(self.ledger.requests.values(), key=lambda one: one.token):
            self._enter(hold)
            if hold.until_ms is not None:
                self.ledger.due.set(hold.request_id, hold.until_ms)

    def resize(self, name: str, capacity: int, *, fixed: bool) -> Semaphore:
        """Give a semaphore, known or new, its capacity."""
        semaphore = self.semaphores.get(name)
        if semaphore is None:
            semaphore = self.semaphores[name] = Semaphore(capacity)
        self.fixed += fixed - semaphore.fixed
        semaphore.capacity, semaphore.fixed = capacity, fixed
        self.ledger.touch(SEMAPHORE, name)
        return semaphore

    def wait(self, hold: Hold) -> None:
        """Put a request into the queue."""
        self._enter(hold)
        self.ledger.keep(hold, hold.until_ms)

    def grant(self, hold: Hold, token: int, expires_ms: int) -> None:
        """Give a request, waiting or new, its permits."""
        if hold.request_id in self.ledger.requests:
            self._leave(hold)
        hold.token, hold.until_ms = token, expires_ms
        self._enter(hold)
        self.ledger.keep(hold, expires_ms)

    def end(self, hold: Hold, kind: str, arguments: tuple[int | str, ...]) -> None:
        """End a request, waiting or granted, and remember its answer."""
        self._leave(hold)
        self.ledger.end(hold, kind, arguments)

    def tidy(self, name: str) -> None:
        """Forget a semaphore that nobody uses and whose capacity was not set by command."""
        semaphore = self.semaphores[name]
        if not (semaphore.fixed or semaphore.grants or semaphore.queue):
            del self.semaphores[name]
            self.ledger.touch(SEMAPHORE, name)

    def _enter(self, hold: Hold) -> None:
        semaphore = self.semaphores[hold.name]
        if hold.token:
            semaphore.grants[hold.request_id] = None
            semaphore.out += hold.permits
        else:
            insort(semaphore.queue, (hold.order, hold.request_id))

    def _leave(self, hold: Hold) -> None:
        semaphore = self.semaphores[hold.name]
        if hold.token:
            del semaphore.grants[hold.request_id]
            semaphore.out -= hold.permits
        else:
            del semaphore.queue[bisect_left(semaphore.queue, (hold.order, hold.request_id))]
