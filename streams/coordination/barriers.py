"""Barriers for agent services.

    passed = await mesh.barrier("phase-1", parties=3).wait(timeout_s=60)
    if passed.last: ...                                 # one of them does what is to be done once

While it waits a party asks again within its lease, so one that is killed is taken for dead at its lease's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from schemas import barriers as events
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import BarrierBroken
from streams.coordination.leases import RENEW_SHARE

if TYPE_CHECKING:
    from streams.coordination.session import Session

__all__ = ["Barrier", "Passed"]


@dataclass(frozen=True, slots=True)
class Passed:
    """A generation that has tripped, as one of its parties sees it.

    Attributes:
        generation: Which one: a token, larger than that of every generation before.
        parties: How many there were.
        index: How many of them came before this one.
    """

    generation: int
    parties: int
    index: int

    @property
    def last(self) -> bool:
        """Whether this one came last, and so let all go on."""
        return self.index == self.parties - 1


class Barrier:
    """A barrier by its name; made by `mesh.barrier`.

    Attributes:
        name: Its name.
        parties: How many have to arrive; the same for all.
    """

    def __init__(self, session: Session, name: str, *, parties: int) -> None:
        self._session = session
        self.name, self.parties = name, parties

    async def wait(
        self,
        *,
        timeout_s: float | None = None,
        lease_s: float = 30.0,
        on_timeout: events.Leaving = "break",
        on_death: events.Leaving = "break",
        owner: str = "",
    ) -> Passed:
        """Arrive, and wait until all have arrived.

        Args:
            timeout_s: How long to wait; None waits as long as it takes.
            lease_s: After this time without a sign of life this party is taken for dead; it gives one every third of it.
            on_timeout: What becomes of the generation when this party gives up, also by being cancelled: it breaks for all, or
                this one withdraws and the others wait on.
            on_death: The same for when it dies. With "withdraw" the others wait for it, or for another party in its place.
            owner: The party, which arrives once in a generation; the running task unless given.

        Raises:
            BarrierBroken: Somebody broke the generation, or nobody has reset the barrier since.
            WaitTimedOut: Not all arrived in time.
            WaitRefused: It was refused: another number of parties, arrived twice, and so on.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        what, session = f"barrier {self.name}", self._session
        asked = events.ArriveAtBarrier(
            domain=domain_of(self.name),
            request_id="-",
            owner=owner or session.owner(),
            name=self.name,
            parties=self.parties,
            wait_ms=milliseconds(timeout_s),
            lease_ms=milliseconds(lease_s),
            on_timeout=on_timeout,
            on_death=on_death,
        )
        cancel = partial(events.CancelArrival, domain=asked.domain, owner=asked.owner)
        request, kind, fields = await wait_for(
            session, asked, lambda one: cancel(request_id=one), what=what, ask_after_s=lease_s / RENEW_SHARE, anew=False
        )
        request.end()
        if kind == events.BarrierBroken.event_type:
            raise BarrierBroken(what, generation=fields["generation"], code=fields["code"], by=fields["by"])
        return Passed(fields["generation"], fields["parties"], fields["index"])

    async def reset(self, generation: int | None = None) -> bool:
        """Make the barrier as new; where parties wait their generation breaks. Return whether there was anything to do.

        Args:
            generation: Only if it is this one, as `BarrierBroken` names it: so all who learn of the break may ask for it.

        Raises:
            WaitRefused: The name is not allowed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.ResetBarrier(
            domain=domain_of(self.name),
            request_id=session.channel.new_id(),
            owner=session.owner(),
            name=self.name,
            generation=generation,
        )
        _, fields = await call(session, command, what=f"barrier {self.name}")
        return bool(fields["generation"])
