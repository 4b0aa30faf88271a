"""The rows that keep the lock machine.

    ["r", request id]   [1 waiting, owner, exclusive, resources, route, asked_ms, lease_ms, wait until or null, priority, order]
                        [2 granted, owner, exclusive, resources, route, asked_ms, lease_ms, expires_ms, priority, tokens]
                        [3 ended, owner, resources, number, outcome, arguments]
    ["lock"]            [last token, last asked_ms, last number of an ended request]

A request is one row from its first to its last state, so a command writes a row, however many wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from processors.core.coordination.lock_words import Mode

__all__ = ["ENDED", "GRANTED", "META", "WAITING", "Asked", "Key", "Order", "Past", "Row"]

Key = tuple[str | int, ...]
Row = Any
Order = tuple[int, int, int]
"""A waiter's place: upgrades before all others, then by time asked less priority's worth of it, then by log position."""

WAITING: Final = 1
GRANTED: Final = 2
ENDED: Final = 3
META: Final[Key] = ("lock",)


@dataclass(slots=True)
class Asked:
    """A request that waits or holds.

    Attributes:
        order: Its place while it waits.
        until_ms: While it waits, when it gives up, or None; once granted, when its lease ends.
        tokens: Empty while it waits.
    """

    request_id: str
    owner: str
    resources: tuple[str, ...]
    route: str
    exclusive: bool
    asked_ms: int
    lease_ms: int
    until_ms: int | None
    priority: int
    order: Order
    tokens: tuple[int, ...] = ()

    @property
    def mode(self) -> Mode:
        """As it was asked for."""
        return "exclusive" if self.exclusive else "shared"

    def row(self) -> Row:
        """Return its row."""
        state, last = (GRANTED, self.tokens) if self.tokens else (WAITING, self.order)
        rest = (self.asked_ms, self.lease_ms, self.until_ms, self.priority, last)
        return (state, self.owner, int(self.exclusive), self.resources, self.route, *rest)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Asked:
        """Return the request of a row."""
        state, owner, exclusive, resources, route, asked_ms, lease_ms, until_ms, priority, last = row
        order, tokens = (tuple(last), ()) if state == WAITING else ((0, 0, 0), tuple(last))
        names = tuple(resources)
        return cls(request_id, owner, names, route, bool(exclusive), asked_ms, lease_ms, until_ms, priority, order, tokens)


@dataclass(slots=True)
class Past:
    """An ended request: its answer, for one that asks again."""

    owner: str
    resources: tuple[str, ...]
    number: int
    kind: str
    arguments: tuple[Any, ...]

    def row(self) -> Row:
        """Return its row."""
        return (ENDED, self.owner, self.resources, self.number, self.kind, self.arguments)

    @classmethod
    def of(cls, row: Row) -> Past:
        """Return the ended request of a row."""
        _, owner, resources, number, kind, arguments = row
        return cls(owner, tuple(resources), number, kind, tuple(arguments))
