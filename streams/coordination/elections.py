"""Leader election for agent services.

    planner = mesh.election("planner")
    async with planner.lead(value="host-7:8080") as leadership:       # waits until it is elected
        await mesh.publish(PlanMade(...), headers=leadership.guard())  # refused by a guard once another one leads
        ...                                                            # cancelled when the lease is gone: LeadershipLost

    async for leader in planner.observe():                             # who leads now, then each change
        print(leader.term, leader.owner or "nobody", leader.value)

A candidacy is a lease also while it waits: it is asked after three times a lease, so one that is killed is no candidate any more
when its lease is over, and one that was frozen for longer stands anew when it thaws.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from schemas import elections as events
from schemas.errors import AntiphonError
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import CoordinationError, LeadershipLost, WaitRefused
from streams.coordination.leases import RENEW_SHARE, Held, Lease
from streams.coordination.waiting import lease_began
from streams.core.guards import fence_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.coordination.session import Session

__all__ = ["Election", "ElectionStanding", "Leader", "Leadership"]

_CHANGES = frozenset({events.LeaderElected.event_type, events.CandidacyEnded.event_type})
_GUARD = "election:"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads an election.

    Attributes:
        owner: Who; empty where nobody leads.
        value: What it proclaims.
        term: Which one; where nobody leads, the last.
        token: The term's fencing token; 0 where nobody leads.
    """

    owner: str
    value: str
    term: int
    token: int

    def __bool__(self) -> bool:
        """Whether somebody leads."""
        return self.token > 0


@dataclass(frozen=True, slots=True)
class ElectionStanding:
    """How an election stands.

    Attributes:
        leader: Who leads.
        candidates: How many candidates there are, the leader among them.
        next_owners: Who follows, in order, fifteen at most.
    """

    leader: Leader
    candidates: int
    next_owners: tuple[str, ...]


class Leadership(Lease):
    """One term as its leader has it; made by `Election.lead`.

    Attributes:
        name: The election.
        term: Which one: 1, 2, 3 and so on.
        token: Larger than that of every term before.
    """

    renewed: ClassVar[str] = events.CandidacyRenewed.event_type
    expired: ClassVar[str] = events.CandidacyEnded.event_type
    lost_error: ClassVar[type[CoordinationError]] = LeadershipLost

    def __init__(self, session: Session, elected: dict[str, Any], *, sent: float, renews: bool) -> None:
        """Take what was won.

        Args:
            session: Whose.
            elected: The fields of `LeaderElected`.
            sent: When it was asked for, monotonic.
            renews: Whether it is renewed in the background.
        """
        self.name: str = elected["name"]
        self.term: int = elected["term"]
        super().__init__(
            session,
            lease_id=elected["request_id"],
            owner=elected["owner"],
            token=elected["token"],
            lease_s=elected["lease_ms"] / 1000,
            since=lease_began(sent, elected),
            renews=renews,
        )

    @property
    def what(self) -> str:
        """What is held, in errors."""
        return f"term {self.term} of election {self.name}"

    def guard(self) -> tuple[tuple[str, bytes], ...]:
        """Return the header that puts the token on a record: `mesh.publish(event, headers=leadership.guard())`.

        A guard knows it as `election:<name>`.

        Raises:
            LeadershipLost: It does not lead any more.
        """
        self.check()
        return fence_headers([(_GUARD + self.name, self.token)])

    async def step_down(self, successor: str = "") -> None:
        """Let another candidate lead, and be no candidate any more; what comes after it in the block goes on without a term.

        To lead again, stand again: behind whoever waits then.

        Args:
            successor: The owner that is to follow; the next in order unless given.

        Raises:
            WaitRefused: There is no such candidate ("no_successor"): this one goes on leading.
            LeadershipLost: It had been lost before.
            RequestTimedOut: No answer came; it goes on leading, or has stepped down.
            BrokerError: The command was not delivered.
        """
        self.check()
        domain = domain_of(self.name)
        command = events.StepDown(domain=domain, request_id=self.id, owner=self.owner, term=self.term, successor=successor)
        try:
            await call(self._session, command, what=self.what)
        except WaitRefused as refused:
            if refused.code == "no_successor":
                raise
            self.lose(refused.reason)
            raise self.loss() from refused
        self.why = "it stepped down"
        self.end()
        with contextlib.suppress(AntiphonError):  # the candidacy ends by itself too
            await self._channel.send(self.release_command(), self._channel.new_id())

    def renew_command(self, lease_ms: int | None) -> events.RenewCandidacy:
        """Return the command that renews it; None keeps the lease's length."""
        return events.RenewCandidacy(domain=domain_of(self.name), request_id=self.id, owner=self.owner, lease_ms=lease_ms)

    def release_command(self) -> events.Resign:
        """Return the command that gives it back."""
        return events.Resign(domain=domain_of(self.name), request_id=self.id, owner=self.owner)


class Election:
    """An election by its name; made by `mesh.election`."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.name = name

    def lead(
        self,
        *,
        value: str = "",
        priority: int = 0,
        wait_s: float | None = None,
        lease_s: float = 10.0,
        owner: str = "",
        renew: bool = True,
    ) -> Held[Leadership]:
        """Lead for the time of a block; wait until elected to enter it, and resign at its end.

        Args:
            value: What everybody is told while it leads: its address, for one. 1,024 characters at most.
            priority: Higher is elected first; a leader is not deposed.
            wait_s: How long to wait; 0 tries, None waits as long as it takes.
            lease_s: How long this candidate is believed in without being heard of, waiting or leading; renewed at a third of it.
            owner: Who stands; the running task unless given. Who stands twice is two candidates.
            renew: Whether the leadership is renewed in the background; otherwise `Leadership.renew` does it.

        Raises:
            WaitRefused: (Entering the block.) It was refused; its code says why: led, queue_full, bad_name and so on.
            WaitTimedOut: (Entering.) It was not elected in time.
            LeadershipLost: (Leaving.) The lease ended before the block did; the block was cancelled.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        command = partial(
            events.StandForElection,
            domain=domain_of(self.name),
            request_id="-",
            name=self.name,
            value=value,
            priority=priority,
            lease_ms=milliseconds(lease_s),
        )

        async def elected() -> Leadership:
            asked = command(owner=owner or self._session.owner())
            resign = partial(events.Resign, domain=asked.domain, owner=asked.owner)
            what, began = f"election {self.name}", time.monotonic()
            while True:
                left_s = wait_s if not wait_s else max(0.001, wait_s - (time.monotonic() - began))
                request, kind, fields = await wait_for(
                    self._session,
                    asked.model_copy(update={"wait_ms": milliseconds(left_s)}),
                    lambda one: resign(request_id=one),
                    what=what,
                    ask_after_s=lease_s / RENEW_SHARE,
                )
                if kind == events.LeaderElected.event_type:
                    leadership = Leadership(self._session, fields, sent=request.sent, renews=renew)
                    request.hand_over(leadership)
                    return leadership
                request.end()  # it was not heard of for its lease, frozen or cut off: stand anew

        return Held(elected)

    async def standing(self) -> ElectionStanding:
        """Ask how it stands.

        Raises:
            WaitRefused: The name is not allowed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.AskElection(
            domain=domain_of(self.name), request_id=session.channel.new_id(), owner=session.owner(), name=self.name
        )
        _, told = await call(session, command, what=f"election {self.name}")
        leader = Leader(told["leader"], told["value"], told["term"], told["token"])
        return ElectionStanding(leader, told["candidates"], tuple(told["next_owners"]))

    async def observe(self) -> AsyncIterator[Leader]:
        """Yield who leads now, and then each change: a new leader, or nobody any more.

        In the order of terms; none is left out from now on, and none comes twice. That one follows another is two changes:
        nobody leads, then the follower does.

        Raises:
            TopicMissing: There is no coordination processor yet.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The broker does not answer any more.
        """
        async with self._session.news.follow(self.name, _CHANGES) as told:
            leader = (await self.standing()).leader
            yield leader
            async for kind, fields in told:
                if kind == events.LeaderElected.event_type:
                    if fields["term"] <= leader.term:
                        continue
                    leader = Leader(fields["owner"], fields["value"], fields["term"], fields["token"])
                elif leader and fields["term"] == leader.term:
                    leader = Leader("", "", leader.term, 0)
                else:
                    continue
                yield leader
