"""What a view of locks is made of: requests that wait or hold, and the places (locks, semaphores) where they do."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

__all__ = ["LOCKS", "SEMAPHORES", "TOLD", "Key", "Place", "Request"]

LOCKS: Final = "locks"
SEMAPHORES: Final = "semaphores"
TOLD: Final = "told"
"""Waits of what is not coordinated here (transactions, sagas), which say themselves whom they wait for."""

Key = tuple[str, str, str]
"""Primitive, domain, request id."""


@dataclass(slots=True, eq=False)
class Request:
    """A request that waits or holds.

    Attributes:
        names: What it is for; empty where only owners are told.
        order: Its place in its queues: smaller goes first, and among equals the smaller number.
        waits_for: Owners, for those that tell themselves.
        tokens: Of a grant; empty while it waits.
        kind: "locks" or "semaphores"; "transaction", "saga" and so on for what is told by others.
        since_ms: When it began to wait, or was granted, by the partition's time.
        number: Events of the view until then: an order within a domain.
        permits: Of a semaphore.
        expires_ms: Of a grant, by the partition's time.
        lease_ms: Of a wait that is told: for how long it counts without being told again; 0 for ever.
    """

    key: Key
    owner: str
    names: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    waits_for: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    kind: str = ""
    since_ms: int = 0
    number: int = 0
    exclusive: bool = True
    priority: int = 0
    permits: int = 0
    expires_ms: int = 0
    lease_ms: int = 0

    @property
    def holds(self) -> bool:
        """Whether it has what it asked for."""
        return bool(self.tokens)


class Place:
    """One lock or semaphore: who holds it and who waits.

    Attributes:
        holders: Those that hold it, oldest first.
        queue: Those that wait; `line` has them in order.
        capacity: Of a semaphore, where an event has told it.
        resized: The number of the event that last changed the capacity.
    """

    __slots__ = ("_before", "_index", "_line", "capacity", "holders", "queue", "resized")

    def __init__(self) -> None:
        self.holders: dict[Key, Request] = {}
        self.queue: dict[Key, Request] = {}
        self.capacity: int | None = None
        self.resized = 0
        self._line: list[Request] | None = None
        self._index: dict[Key, int] = {}
        self._before: list[int] = []

    def add(self, request: Request) -> None:
        """Let a request hold or wait here."""
        if request.holds:
            self.holders[request.key] = request
        else:
            self.queue[request.key] = request
            self._line = None

    def remove(self, request: Request) -> None:
        """Let a request be gone from here."""
        if request.holds:
            self.holders.pop(request.key, None)
        else:
            self.queue.pop(request.key, None)
            self._line = None

    def line(self) -> list[Request]:
        """Return those that wait, the next one first."""
        if self._line is None:
            self._line = sorted(self.queue.values(), key=lambda one: (one.order, one.number))
            self._index, self._before, last = {}, [], -1
            for index, one in enumerate(self._line):
                self._index[one.key] = index
                self._before.append(last)
                if one.exclusive:
                    last = index
        return self._line

    def ahead(self, request: Request, among: AbstractSet[str] | None = None) -> Iterator[Request]:
        """Yield the nearest that go first and conflict, back to an exclusive one: that one waits for the rest.

        Args:
            request: One that waits here.
            among: Pass over all owners but these; None: over nobody.
        """
        line = self.line()
        index = self._index[request.key]
        if among is not None:
            for at in range(index - 1, -1, -1):
                if line[at].owner in among and (request.exclusive or line[at].exclusive):
                    yield line[at]
                    if line[at].exclusive:
                        return
            return
        last = self._before[index]
        if request.exclusive:
            for at in range(index - 1, last, -1):
                yield line[at]
        if last >= 0:
            yield line[last]
