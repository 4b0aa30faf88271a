"""Semaphores for agent services.

    gpu = mesh.semaphore("gpu", capacity=4)
    async with gpu.permits(2, wait_s=60) as permits:
        ...                                             # cancelled when the lease is gone: PermitsLost

Permits mean nothing for who has them: a task that has some and asks for more waits like anybody, if need be for itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from schemas import semaphores as events
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import CoordinationError, PermitsLost
from streams.coordination.leases import Held, Lease
from streams.coordination.waiting import lease_began

if TYPE_CHECKING:
    from streams.coordination.session import Session

__all__ = ["Permits", "Semaphore"]


class Permits(Lease):
    """Permits that are held; made by `Semaphore.permits`.

    Attributes:
        name: The semaphore.
        permits: How many.
    """

    renewed: ClassVar[str] = events.PermitsRenewed.event_type
    expired: ClassVar[str] = events.PermitsExpired.event_type
    lost_error: ClassVar[type[CoordinationError]] = PermitsLost

    def __init__(self, session: Session, granted: dict[str, Any], *, sent: float, renews: bool) -> None:
        """Take what was granted.

        Args:
            session: Whose.
            granted: The fields of `PermitsGranted`.
            sent: When it was asked for, monotonic.
            renews: Whether they are renewed in the background.
        """
        self.name: str = granted["name"]
        self.permits: int = granted["permits"]
        super().__init__(
            session,
            lease_id=granted["request_id"],
            owner=granted["owner"],
            token=granted["token"],
            lease_s=granted["lease_ms"] / 1000,
            since=lease_began(sent, granted),
            renews=renews,
        )

    @property
    def what(self) -> str:
        """What is held, in errors."""
        return f"{self.permits} of semaphore {self.name}"

    def renew_command(self, lease_ms: int | None) -> events.RenewPermits:
        """Return the command that renews it; None keeps the lease's length."""
        return events.RenewPermits(domain=domain_of(self.name), grant=self.id, owner=self.owner, lease_ms=lease_ms)

    def release_command(self) -> events.ReleasePermits:
        """Return the command that gives it back."""
        return events.ReleasePermits(domain=domain_of(self.name), grant=self.id, owner=self.owner)


class Semaphore:
    """A semaphore by its name; made by `mesh.semaphore`.

    Attributes:
        name: Its name.
        capacity: How many permits it has, where nobody has said so before.
    """

    def __init__(self, session: Session, name: str, *, capacity: int | None) -> None:
        self._session = session
        self.name, self.capacity = name, capacity

    def permits(
        self,
        permits: int = 1,
        *,
        wait_s: float | None = None,
        lease_s: float = 30.0,
        priority: int = 0,
        owner: str = "",
        renew: bool = True,
    ) -> Held[Permits]:
        """Hold permits for the time of a block.

        Args:
            permits: How many, all at once.
            wait_s: How long to wait; 0 tries, None waits as long as it takes.
            lease_s: For how long they are granted; renewed at a third of that while the block runs.
            priority: Higher goes first; waiting makes up for it in time.
            owner: Who holds them; the running task unless given.
            renew: Whether they are renewed in the background; otherwise `Permits.renew` does it.

        Raises:
            WaitRefused: (Entering the block.) It was refused; its code says why.
            DeadlockError: (Entering.) It was refused to end a deadlock.
            WaitTimedOut: (Entering.) There was no room in time.
            PermitsLost: (Leaving.) The lease ended before the block did; the block was cancelled.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        command = partial(
            events.AcquirePermits,
            domain=domain_of(self.name),
            request_id="-",
            name=self.name,
            permits=permits,
            capacity=self.capacity,
            wait_ms=milliseconds(wait_s),
            lease_ms=milliseconds(lease_s),
            priority=priority,
        )

        async def acquire() -> Permits:
            asked = command(owner=owner or self._session.owner())
            cancel = partial(events.CancelPermits, domain=asked.domain, owner=asked.owner)
            what = f"{permits} of semaphore {self.name}"
            request, _, fields = await wait_for(self._session, asked, lambda one: cancel(request_id=one), what=what)
            held = Permits(self._session, fields, sent=request.sent, renews=renew)
            request.hand_over(held)
            return held

        return Held(acquire)

    async def set_capacity(self, capacity: int | None) -> int:
        """Say how many permits there are, from now on and also while nobody uses them; return how many are out.

        Where it is cut below what is out, nobody gets any until enough are back. A waiting request for more than the new capacity
        is refused.

        Args:
            capacity: How many; 0 closes, and everybody waits. None takes the setting back: the next first use says how many.

        Raises:
            WaitRefused: It is out of range, or closed and would stay so.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.SetCapacity(
            domain=domain_of(self.name),
            request_id=session.channel.new_id(),
            owner=session.owner(),
            name=self.name,
            capacity=capacity,
        )
        _, fields = await call(session, command, what=f"semaphore {self.name}")
        out: int = fields["out"]
        return out
