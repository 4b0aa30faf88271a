"""Requests that only wait: parties at a barrier, waiters of a latch.

A waiter is believed in while it is heard of: who waits asks again within its lease, and there is no other renewal. One that is
not heard of has died; one whose own limit comes first gives up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_rows import WAITING, Row
from processors.core.coordination.request_checks import Asking
from processors.core.coordination.request_words import Refused, TimedOut
from streams.core.at import At

__all__ = ["LAPSED", "Waiter", "hear_again", "new_waiter"]

LAPSED: Final = ("lapsed", "the request was not asked again within its lease: whoever waited is taken for dead")


@dataclass(slots=True)
class Waiter:
    """One that waits.

    Attributes:
        order: Its place: those of one name are in the order in which they came.
        alive_ms: Until when it is believed in.
        until_ms: When it gives up, or None.
        choices: What its machine has to know besides.
    """

    request_id: str
    owner: str
    name: str
    route: str
    asked_ms: int
    order: int
    lease_ms: int
    alive_ms: int
    until_ms: int | None
    choices: tuple[str | int, ...] = ()

    @property
    def due_ms(self) -> int:
        """When it gives up or is taken for dead, whichever comes first."""
        return self.alive_ms if self.until_ms is None else min(self.alive_ms, self.until_ms)

    @property
    def gives_up(self) -> bool:
        """Whether its own limit comes first."""
        return self.until_ms is not None and self.until_ms <= self.alive_ms

    @property
    def who(self) -> tuple[str, str, str, str]:
        """What begins each of its outcomes."""
        return self.owner, self.request_id, self.route, self.name

    def row(self) -> Row:
        """Return its row."""
        rest = (self.asked_ms, self.order, self.lease_ms, self.alive_ms, self.until_ms)
        return (WAITING, self.owner, self.name, self.route, *rest, *self.choices)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Waiter:
        """Return the waiter of a row."""
        _, owner, name, route, asked_ms, order, lease_ms, alive_ms, until_ms, *choices = row
        return cls(request_id, owner, name, route, asked_ms, order, lease_ms, alive_ms, until_ms, tuple(choices))


def new_waiter(
    ledger: Ledger[Waiter], asked: Asking, route: str, at: At, *, order: int, choices: tuple[str | int, ...] = ()
) -> Waiter:
    """Return the waiter of a request that begins to wait."""
    return Waiter(
        asked.request_id,
        asked.owner,
        asked.name,
        route,
        ledger.asked_at(at.now_ms),
        order,
        asked.lease_ms,
        alive_ms=at.now_ms + asked.lease_ms,
        until_ms=None if asked.wait_ms is None else at.now_ms + asked.wait_ms,
        choices=choices,
    )


def hear_again(ledger: Ledger[Waiter], waiter: Waiter, route: str, at: At) -> None:
    """Note that a waiter has asked again: it lives, and listens there."""
    waiter.route = route
    waiter.alive_ms = max(waiter.alive_ms, at.now_ms + waiter.lease_ms)
    ledger.keep(waiter, waiter.due_ms)


def gone(ledger: Ledger[Waiter], waiter: Waiter, at: At) -> Refused | TimedOut:
    """End a waiter whose time has come, and return what it is told."""
    if waiter.gives_up:
        waited = max(0, at.now_ms - waiter.asked_ms)
        ledger.end(waiter, "timed_out", (waited,))
        return TimedOut(*waiter.who, waited)
    ledger.end(waiter, "refused", LAPSED)
    return Refused(*waiter.who, *LAPSED)
