"""What the consensus machine keeps: those that wait as requests of a `ledger`, and rows for groups and what is in them.

    ["r", request id]     [1 waits, owner, name, route, asked_ms, wait until, order of asking]
    ["g", name]           [term, least size, "majority" or "all", round_ms, round until or null]
    ["m", name, member]   [order of joining, term voted in, proposal voted for]
    ["p", proposal]       [name, proposer, value, order of proposing]
    ["d", name]           [value, proposal, proposer, term, voters]

A vote is in its member's row, so a vote writes one row, and those of earlier terms need not be deleted. Members, proposals,
waiting requests and the count of votes are indexes made from these. Group and decision are never deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from processors.core.coordination.consensus_words import Quorum
from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_rows import WAITING, Key, Row
from streams.core.at import Deadlines

__all__ = ["Book", "Decision", "Group", "Member", "Proposal", "Waiter"]

GROUP: Final = "g"
MEMBER: Final = "m"
PROPOSAL: Final = "p"
DECISION: Final = "d"


@dataclass(slots=True)
class Waiter:
    """Somebody waits for a decision."""

    request_id: str
    owner: str
    name: str
    route: str
    asked_ms: int
    until_ms: int
    order: int

    def row(self) -> Row:
        """Return its row."""
        return (WAITING, self.owner, self.name, self.route, self.asked_ms, self.until_ms, self.order)


@dataclass(slots=True)
class Member:
    """A member with its last vote."""

    order: int
    voted_term: int = 0
    proposal: str = ""

    def row(self) -> Row:
        """Return its row."""
        return (self.order, self.voted_term, self.proposal)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A value up for vote."""

    name: str
    proposer: str
    value: str
    order: int

    def row(self) -> Row:
        """Return its row."""
        return (self.name, self.proposer, self.value, self.order)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and by whom."""

    value: str
    proposal: str
    proposer: str
    term: int
    voters: tuple[str, ...]

    def row(self) -> Row:
        """Return its row."""
        return (self.value, self.proposal, self.proposer, self.term, self.voters)


@dataclass(slots=True)
class Group:
    """Members that decide about one value.

    Attributes:
        round_until_ms: When the round of this term ends without a decision; None before its first vote.
        members: In the order in which they joined.
        proposals: Their ids, oldest first.
        votes: How many each proposal has in this term.
        open_bytes: Of the values up for vote.
    """

    term: int
    size_min: int
    quorum_rule: Quorum
    round_ms: int
    round_until_ms: int | None = None
    members: dict[str, Member] = field(default_factory=dict)
    proposals: dict[str, None] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    open_bytes: int = 0

    @property
    def quorum(self) -> int:
        """How many votes decide."""
        size = max(len(self.members), self.size_min)
        return size if self.quorum_rule == "all" else size // 2 + 1

    @property
    def can_decide(self) -> bool:
        """Whether those that have not voted in this term can still decide, for an open proposal or a new one."""
        left = len(self.members) - self.votes.total()
        return max(self.votes.values(), default=0) + left >= self.quorum

    def row(self) -> Row:
        """Return its row."""
        return (self.term, self.size_min, self.quorum_rule, self.round_ms, self.round_until_ms)


class Book:
    """The groups of one partition; every change is noted for the next `changes`."""

    def __init__(self, *, ended_max: int) -> None:
        self.ledger: Ledger[Waiter] = Ledger(ended_max=ended_max)
        self.groups: dict[str, Group] = {}
        self.members: dict[tuple[Any, ...], Member] = {}
        self.proposals: dict[str, Proposal] = {}
        self.decisions: dict[str, Decision] = {}
        self.waiting: dict[str, dict[str, None]] = {}
        """The requests that wait for each group's decision, oldest first."""
        self.rounds = Deadlines()
        self.values_bytes = 0
        self.ledger.kinds |= {GROUP: self.groups, MEMBER: self.members, PROPOSAL: self.proposals, DECISION: self.decisions}

    def load(self, rows: Iterable[tuple[Key, Row]]) -> None:
        """Take the rows of an empty book and make its indexes."""
        members: list[tuple[str, str, Member]] = []
        proposals: list[tuple[str, Proposal]] = []
        for (kind, first, *rest), row in self.ledger.load(rows, lambda request_id, row: Waiter(request_id, *row[1:])):
            name = str(first)
            if kind == GROUP:
                self.groups[name] = Group(*row)
            elif kind == MEMBER:
                members.append((name, str(rest[0]), Member(*row)))
            elif kind == PROPOSAL:
                proposals.append((name, Proposal(*row)))
            else:
                value, proposal, proposer, term, voters = row
                self._keep_decision(name, Decision(value, proposal, proposer, term, tuple(voters)))
        for name, owner, member in sorted(members, key=lambda one: one[2].order):
            self._enter(name, owner, member)
        for proposal_id, proposal in sorted(proposals, key=lambda one: one[1].order):
            self._put_up(proposal_id, proposal)
        for name, group in self.groups.items():
            self._clock(name, group)
        for waiter in sorted(self.ledger.requests.values(), key=lambda one: one.order):
            self._line_up(waiter)

    def touch(self, name: str) -> None:
        """Note that a group is new or has changed."""
        self.ledger.touch(GROUP, name)
        self._clock(name, self.groups[name])

    # ---- members and terms

    def settle(self, name: str, size_min: int, quorum_rule: Quorum, round_ms: int) -> None:
        """Say how a group decides, where it is new or has no members."""
        group = self.groups.setdefault(name, Group(0, size_min, quorum_rule, round_ms))
        if not group.members:
            group.size_min, group.quorum_rule, group.round_ms = size_min, quorum_rule, round_ms

    def add_member(self, name: str, owner: str, order: int) -> None:
        """Let somebody be a member."""
        self._enter(name, owner, Member(order))
        self.ledger.touch(MEMBER, name, owner)

    def remove_member(self, name: str, owner: str) -> None:
        """Let somebody be a member no more."""
        del self.groups[name].members[owner]
        del self.members[name, owner]
        self.ledger.touch(MEMBER, name, owner)

    def next_term(self, name: str) -> None:
        """Begin the next term: no vote of the one before counts in it."""
        group = self.groups[name]
        group.term += 1
        group.round_until_ms = None
        group.votes.clear()
        self.touch(name)

    # ---- proposals and votes

    def propose(self, proposal_id: str, proposal: Proposal) -> None:
        """Put a value up for vote."""
        self._put_up(proposal_id, proposal)
        self.ledger.touch(PROPOSAL, proposal_id)

    def vote(self, name: str, owner: str, proposal_id: str, now_ms: int) -> None:
        """Count a vote; the first of a term starts its round's clock."""
        group = self.groups[name]
        member = group.members[owner]
        member.voted_term, member.proposal = group.term, proposal_id
        group.votes[proposal_id] += 1
        self.ledger.touch(MEMBER, name, owner)
        if group.round_until_ms is None:
            group.round_until_ms = now_ms + group.round_ms
            self.touch(name)

    def decide(self, name: str, proposal_id: str) -> Decision:
        """Decide for a proposal: it is kept for ever, and none is up for vote any more."""
        group, chosen = self.groups[name], self.proposals[proposal_id]
        voters = tuple(o for o, m in group.members.items() if (m.voted_term, m.proposal) == (group.term, proposal_id))
        for other in group.proposals:
            del self.proposals[other]
            self.ledger.touch(PROPOSAL, other)
        self.values_bytes -= group.open_bytes
        group.proposals, group.open_bytes, group.round_until_ms = {}, 0, None
        group.votes.clear()
        decision = Decision(chosen.value, proposal_id, chosen.proposer, group.term, voters)
        self._keep_decision(name, decision)
        self.ledger.touch(DECISION, name)
        self.touch(name)
        return decision

    # ---- those that wait

    def wait(self, waiter: Waiter) -> None:
        """Let somebody wait for a decision."""
        self.ledger.keep(waiter, waiter.until_ms)
        self._line_up(waiter)

    def end(self, waiter: Waiter, kind: str, arguments: tuple[Any, ...]) -> None:
        """End a wait, and remember its answer."""
        line = self.waiting[waiter.name]
        del line[waiter.request_id]
        if not line:
            del self.waiting[waiter.name]
        self.ledger.end(waiter, kind, arguments)

    # ---- indexes

    def _enter(self, name: str, owner: str, member: Member) -> None:
        group = self.groups[name]
        group.members[owner] = self.members[name, owner] = member
        if member.voted_term == group.term and name not in self.decisions:
            group.votes[member.proposal] += 1

    def _put_up(self, proposal_id: str, proposal: Proposal) -> None:
        group, size = self.groups[proposal.name], len(proposal.value.encode())
        self.proposals[proposal_id] = proposal
        group.proposals[proposal_id] = None
        group.open_bytes += size
        self.values_bytes += size

    def _keep_decision(self, name: str, decision: Decision) -> None:
        self.decisions[name] = decision
        self.values_bytes += len(decision.value.encode())

    def _clock(self, name: str, group: Group) -> None:
        if group.round_until_ms is None:
            self.rounds.end(name)
        else:
            self.rounds.set(name, group.round_until_ms)

    def _line_up(self, waiter: Waiter) -> None:
        self.waiting.setdefault(waiter.name, {})[waiter.request_id] = None
        self.ledger.due.set(waiter.request_id, waiter.until_ms)
