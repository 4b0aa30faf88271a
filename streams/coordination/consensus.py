"""Consensus for agent services: a group that decides once.

    plan = mesh.consensus("merge-plan/42", member="reviewer-1", size_min=3)
    decision = await plan.agree({"order": ["a", "b"]})       # all in one: join, propose, vote until it is decided

    await plan.join()                                        # or step by step
    proposal = await plan.propose({"order": ["b", "a"]})
    await plan.vote(proposal)
    decision = await plan.decided(timeout_s=60)
    print(decision.value, decision.voters)

Values are JSON, 16,384 bytes at most; what is larger is stored elsewhere, and its hash is decided.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from schemas import consensus as events
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import AlreadyDecided, WaitRefused, WaitTimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.coordination.session import Session

__all__ = ["Consensus", "ConsensusStanding", "Decision", "Proposal"]

WAIT_S: Final = 60.0
"""One question for the decision; who waits longer asks anew, so those that died do not stay."""
_CHANGES = frozenset(one.event_type for one in (events.TermBegan, events.ValueProposed, events.VoteCounted, events.ValueDecided))
_TRY_ANEW = frozenset({"stale_term", "voted", "too_few"})
"""Why a vote of `agree` may not count: another term has begun, this one's is given, or others have to join first."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value that is up for vote.

    Attributes:
        id: Names it.
        value: The value.
        proposer: The member that proposed it.
        votes: How many it has in the present term, as far as is known.
    """

    id: str
    value: Any
    proposer: str
    votes: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, for ever.

    Attributes:
        value: The value.
        proposal: The proposal's id.
        proposer: The member that proposed it.
        term: In which it was decided.
        voters: The members that voted for it in that term: a quorum.
    """

    value: Any
    proposal: str
    proposer: str
    term: int
    voters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConsensusStanding:
    """How it stands where nothing is decided.

    Attributes:
        term: 1, 2, 3 and so on; 0 before anybody has joined.
        members: In the order in which they joined.
        quorum: So many votes for one proposal decide.
        proposals: What is up for vote, oldest first.
    """

    term: int
    members: tuple[str, ...]
    quorum: int
    proposals: tuple[Proposal, ...]


class Consensus:
    """A consensus by its name, for one member; made by `mesh.consensus`."""

    def __init__(
        self,
        session: Session,
        name: str,
        *,
        member: str,
        size_min: int | None,
        quorum: Literal["majority", "all"] | None,
        round_s: float | None,
    ) -> None:
        self._session = session
        self.name, self.member = name, member or session.owner()
        self._what = f"consensus {name}"
        self._how: dict[str, Any] = {"size_min": size_min, "quorum": quorum, "round_ms": milliseconds(round_s)}
        self._term = 0

    async def join(self) -> int:
        """Be a member, and return the term that this began; who is one already stays it, in the present term.

        Raises:
            WaitRefused: It was refused; its code says why: settings_differ, members_full, bad_name and so on.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        _, fields = await self._call(events.JoinConsensus, **self._how)
        self._term = fields["term"]
        return self._term

    async def leave(self, member: str = "") -> int:
        """Be a member no more, or take out another one that died; return the term that this began.

        Args:
            member: The other one.

        Raises:
            WaitRefused: Who leaves is no member, or who takes it out is none ("not_member").
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        _, fields = await self._call(events.LeaveConsensus, member=member or self.member)
        self._term = fields["term"]
        return self._term

    async def propose(self, value: Any) -> Proposal:  # noqa: ANN401 - any JSON value
        """Put a value up for vote, in this term and all that follow. This is no vote for it.

        Args:
            value: Anything that JSON holds.

        Raises:
            AlreadyDecided: A value is decided; the error has it.
            WaitRefused: It was refused; its code says why: not_member, proposals_full, bad_value and so on.
            TypeError: The value is none that JSON holds.
            ValueError: It has numbers that JSON has not.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
        kind, fields = await self._call(events.ProposeValue, value=text)
        if kind == events.ValueDecided.event_type:
            raise AlreadyDecided(self._what, _decision(fields))
        return Proposal(fields["request_id"], _value(fields["value"]), self.member)

    async def vote(self, proposal: Proposal | str, *, term: int | None = None) -> Decision | None:
        """Vote for a proposal, and return the decision where that decides, or something is decided.

        Args:
            proposal: Which, or its id.
            term: In which term the vote counts; the present one, whichever that is, unless given.

        Raises:
            WaitRefused: It does not count; its code says why: voted, stale_term, too_few, no_proposal, not_member.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        chosen = proposal if isinstance(proposal, str) else proposal.id
        while True:
            try:
                kind, fields = await self._call(events.VoteForProposal, proposal=chosen, term=term or self._term)
            except WaitRefused as refused:
                if term is not None or refused.code != "stale_term":
                    raise
            else:
                return _decision(fields) if kind == events.ValueDecided.event_type else None
            standing = await self.standing()
            if isinstance(standing, Decision):
                return standing

    async def decided(self, timeout_s: float | None = None) -> Decision:
        """Wait for the decision; a member or not, before it or after.

        Args:
            timeout_s: How long; 0 asks whether there is one, None waits as long as it takes.

        Raises:
            WaitTimedOut: Nothing was decided in time.
            WaitRefused: It was refused; its code says why: undecided (of 0), queue_full, bad_name.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        began, domain = time.monotonic(), domain_of(self.name)
        cancel = partial(events.CancelWait, domain=domain, owner=self.member)
        while True:
            left_s = WAIT_S if timeout_s is None else timeout_s - (time.monotonic() - began) if timeout_s else 0.0
            wait_ms = round(min(max(left_s, 0.001 if timeout_s != 0 else 0.0), WAIT_S) * 1000)
            asked = events.AwaitDecision(domain=domain, request_id="-", owner=self.member, name=self.name, wait_ms=wait_ms)
            try:
                request, _, fields = await wait_for(self._session, asked, lambda one: cancel(request_id=one), what=self._what)
            except WaitTimedOut:
                if timeout_s is not None and time.monotonic() - began >= timeout_s:
                    raise
                continue
            request.end()
            return _decision(fields)

    async def standing(self) -> ConsensusStanding | Decision:
        """Ask how it stands.

        Raises:
            WaitRefused: The name is not allowed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        kind, told = await self._call(events.AskConsensus)
        if kind == events.ValueDecided.event_type:
            return _decision(told)
        self._term = told["term"]
        columns = zip(told["proposals"], told["values"], told["proposers"], told["votes"], strict=True)
        proposals = tuple(Proposal(one, _value(value), proposer, votes) for one, value, proposer, votes in columns)
        return ConsensusStanding(told["term"], tuple(told["members"]), told["quorum"], proposals)

    async def observe(self) -> AsyncIterator[ConsensusStanding | Decision]:
        """Yield how it stands, again after each change (several at once count as one), and at last the decision.

        Raises:
            TopicMissing: There is no coordination processor yet.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The broker does not answer any more.
        """
        async with self._session.news.follow(self.name, _CHANGES) as told:
            while True:
                told.skip()  # the answer is younger than all that has been told
                standing = await self.standing()
                yield standing
                if isinstance(standing, Decision):
                    return
                await anext(told)

    async def agree(self, value: Any) -> Decision:  # noqa: ANN401 - any JSON value
        """Join, propose, and in each term vote for the oldest proposal until one is decided.

        Where all members do this, a quorum of living ones decides in the first term in which nobody joins or leaves.

        Args:
            value: Proposed, where nothing is decided yet.

        Raises:
            WaitRefused: Joining or proposing was refused; its code says why.
            TypeError: The value is none that JSON holds.
            ValueError: It has numbers that JSON has not.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The broker does not answer any more.
        """
        await self.join()
        try:
            await self.propose(value)
        except AlreadyDecided as error:
            return error.decision
        voted_in = 0
        async for standing in self.observe():
            if isinstance(standing, Decision):
                return standing
            if standing.term == voted_in or not standing.proposals or len(standing.members) < standing.quorum:
                continue
            try:
                decision = await self.vote(standing.proposals[0], term=standing.term)
            except WaitRefused as refused:
                if refused.code not in _TRY_ANEW:
                    raise
                voted_in = standing.term if refused.code == "voted" else 0
            else:
                voted_in = standing.term
                if decision is not None:
                    return decision
        raise AssertionError("what is observed ends with a decision")

    async def _call(self, command: type[Any], **fields: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 - the command's fields
        made = command(
            domain=domain_of(self.name), request_id=self._session.channel.new_id(), owner=self.member, name=self.name, **fields
        )
        return await call(self._session, made, what=self._what)


def _value(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what was proposed; as it is where another kind of client proposed what is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _decision(told: dict[str, Any]) -> Decision:
    return Decision(_value(told["value"]), told["proposal"], told["proposer"], told["term"], tuple(told["voters"]))
