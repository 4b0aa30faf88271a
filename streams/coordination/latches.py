"""Countdown latches for agent services.

await mesh.latch("release-7/ready", count=3).count_down("docs")      # counts once, however often it is said
await mesh.latch("release-7/ready", count=3).wait(timeout_s=600)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from schemas import latches as events
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import WaitTimedOut
from streams.coordination.leases import RENEW_SHARE

if TYPE_CHECKING:
    from streams.coordination.session import Session

__all__ = ["Latch"]


class Latch:
    """A latch by its name; made by `mesh.latch`.

    Attributes:
        name: Its name.
        count: How many things have to happen, the same for all; None where others have made it.
    """

    def __init__(self, session: Session, name: str, *, count: int | None) -> None:
        self._session = session
        self.name, self.count = name, count

    async def count_down(self, what: str = "", *, by: int = 1) -> int:
        """Say that something has happened; return what remains.

        Args:
            what: Names what has happened. It counts once, whoever says it, so a service that was killed and does its work anew
                may say it again. Without a name each call counts.
            by: How many this is.

        Raises:
            WaitRefused: There is no such latch, or it has another count.
            RequestTimedOut: No coordination processor answers; with a name the call can be repeated.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.CountDown(
            domain=domain_of(self.name),
            request_id=what or session.channel.new_id(),
            owner=session.owner(),
            name=self.name,
            count=self.count,
            by=by,
        )
        _, fields = await call(session, command, what=f"latch {self.name}")
        remaining: int = fields["remaining"]
        return remaining

    async def wait(self, *, timeout_s: float | None = None, lease_s: float = 30.0, owner: str = "") -> None:
        """Wait until it is open; where it is already, return at once.

        Args:
            timeout_s: How long to wait; None waits as long as it takes.
            lease_s: After this time without a sign of life the waiter is forgotten; it gives one every third of it.
            owner: Who waits; the running task unless given.

        Raises:
            WaitTimedOut: It was not open in time.
            WaitRefused: There is no such latch, it has another count, or was removed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        session = self._session
        asked = events.AwaitLatch(
            domain=domain_of(self.name),
            request_id="-",
            owner=owner or session.owner(),
            name=self.name,
            count=self.count,
            wait_ms=milliseconds(timeout_s),
            lease_ms=milliseconds(lease_s),
        )
        cancel = partial(events.CancelAwaitLatch, domain=asked.domain, owner=asked.owner)
        what = f"latch {self.name}"
        request, _, _ = await wait_for(
            session, asked, lambda one: cancel(request_id=one), what=what, ask_after_s=lease_s / RENEW_SHARE
        )
        request.end()

    async def is_open(self) -> bool:
        """Return whether it is open; raises as `wait` does."""
        try:
            await self.wait(timeout_s=0)
        except WaitTimedOut:
            return False
        return True

    async def remove(self) -> bool:
        """Forget it: who waits is refused, and the next use makes a new one. Return whether it was there.

        Raises:
            WaitRefused: The name is not allowed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.RemoveLatch(
            domain=domain_of(self.name), request_id=session.channel.new_id(), owner=session.owner(), name=self.name
        )
        _, fields = await call(session, command, what=f"latch {self.name}")
        return bool(fields["token"])
