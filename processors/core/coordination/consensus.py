"""Consensus: members propose values and vote, and one value is decided for ever.

One machine holds the groups of one partition; a group decides once. What holds after every command:

* A decided value was proposed, and a quorum of the members of one term voted for it in that term. It is the only one of its group
  and never changes, whatever becomes of terms and members afterwards; who asks later is told the same.
* Terms of a group are 1, 2, 3 and so on. Each change of its members begins one, so all that vote in a term are counted against
  the same quorum. A round that takes too long begins one, and so do votes so split that no proposal can reach the quorum.
* A member votes once a term. The vote names the term and counts in no other; repeated, it is answered as before.
* Values stay up for vote over terms until one is decided: those that proposed them need not do it again, only votes lapse.
* Members are registered, not believed in: one that died counts for the quorum until a member takes it out.

    term 1   ada joins (of at least 3)                        1 member, 2 votes decide: none is possible
    term 2   bob joins; ada proposes A, bob proposes B        2 members, 2 votes decide
             ada votes A, bob votes B                         split: neither can win any more
    term 3   bob votes A ── ada votes A ──▶ A is decided      everybody who waits is told

The order of the log takes the place of ballots and leaders here (Lamport, *The Part-Time Parliament*, 1998, needs both because
its messages have no common order): whichever proposal first has its quorum in that order is decided. Not promised: that there is
ever a decision. Members that vote for their own proposals only never decide; to vote for a term's first proposal does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from processors.core.coordination.consensus_checks import (
    bad,
    join_problem,
    leave_problem,
    propose_problem,
    vote_problem,
    wait_problem,
)
from processors.core.coordination.consensus_state import Book, Decision, Group, Proposal, Waiter
from processors.core.coordination.consensus_words import (
    Await,
    ConsensusLimits,
    Decided,
    Join,
    Leave,
    Outcome,
    Propose,
    Proposed,
    Standing,
    TermBegan,
    Vote,
    Voted,
    Why,
)
from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Row
from processors.core.coordination.request_checks import Problem, command_problem
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from streams.core.at import At

__all__ = ["Consensus"]

SIZE_MIN: Final = 1
ROUND_MS: Final = 60_000
"""A minute for a round, unless the first member says otherwise: models answer within it."""


class Consensus:
    """The groups of one partition; see the module."""

    def __init__(self, limits: ConsensusLimits | None = None) -> None:
        self.limits = limits or ConsensusLimits()
        self._book = Book(ended_max=self.limits.ended_max)

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: ConsensusLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        consensus = cls(limits)
        consensus._book.load(rows)
        return consensus

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._book.ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        due = [ms for ms in (self._book.ledger.due.next_ms(), self._book.rounds.next_ms()) if ms is not None]
        return min(due, default=None)

    # ---- members

    def join(self, asked: Join, at: At) -> list[Outcome]:
        """Become a member: `TermBegan`, or `Refused`. Who is one is told the present term."""
        outcomes, book = self.tick(at), self._book
        if answer := self._bad_or_known(asked, "joined"):
            outcomes.append(answer)
            return outcomes
        group = book.groups.get(asked.name)
        if group is not None and asked.owner in group.members:
            who = (asked.owner, asked.request_id, asked.route, asked.name)
            outcomes.append(TermBegan(*who, group.term, len(group.members), group.quorum, "joined", asked.owner, repeated=True))
        elif problem := join_problem(book, asked, self.limits):
            outcomes.append(self._refused(asked, problem))
        else:
            book.settle(asked.name, asked.size_min or SIZE_MIN, asked.quorum or "majority", asked.round_ms or ROUND_MS)
            book.add_member(asked.name, asked.owner, at.token())
            outcomes.append(self._changed(asked, "joined", asked.owner))
        return outcomes

    def leave(self, asked: Leave, at: At) -> list[Outcome]:
        """Be a member no more, or take out another: `TermBegan`, or `Refused`."""
        outcomes = self.tick(at)
        if answer := self._bad_or_known(asked, "left"):
            outcomes.append(answer)
        elif problem := leave_problem(self._book, asked):
            outcomes.append(self._refused(asked, problem))
        else:
            self._book.remove_member(asked.name, asked.member)
            outcomes.append(self._changed(asked, "left", asked.member))
        return outcomes

    # ---- proposals and votes

    def propose(self, asked: Propose, at: At) -> list[Outcome]:
        """Put a value up for vote: `Proposed`, `Refused`, or `Decided` where another one is decided."""
        outcomes, book = self.tick(at), self._book
        known = book.proposals.get(asked.request_id)
        if known is not None and known == Proposal(asked.name, asked.owner, asked.value, known.order):
            term = book.groups[asked.name].term
            outcomes.append(Proposed(asked.owner, asked.request_id, asked.route, asked.name, asked.value, term, repeated=True))
        elif answer := self._bad_or_known(asked, "") or self._decided(asked):
            outcomes.append(answer)
        elif problem := propose_problem(book, asked, self.limits):
            outcomes.append(self._refused(asked, problem))
        else:
            book.propose(asked.request_id, Proposal(asked.name, asked.owner, asked.value, at.token()))
            term = book.groups[asked.name].term
            outcomes.append(Proposed(asked.owner, asked.request_id, asked.route, asked.name, asked.value, term))
        return outcomes

    def vote(self, asked: Vote, at: At) -> list[Outcome]:
        """Vote: `Voted`, `Refused`, or `Decided` where that decides or something is decided."""
        outcomes, book = self.tick(at), self._book
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := bad(asked, self.limits):
            outcomes.append(Refused(*who, *problem))
        elif answer := self._decided(asked):
            outcomes.append(answer)
        elif problem := vote_problem(book, asked):
            outcomes.append(Refused(*who, *problem))
        else:
            group = book.groups[asked.name]
            repeated = group.members[asked.owner].voted_term == group.term
            if not repeated:
                book.vote(asked.name, asked.owner, asked.proposal, at.now_ms)
            votes = group.votes[asked.proposal]
            voted = Voted(*who, asked.proposal, group.term, votes, group.quorum, repeated)
            if votes >= group.quorum:
                outcomes.append(Voted(*who[:2], "", asked.name, asked.proposal, group.term, votes, group.quorum))
                self._decide(asked, outcomes)
            else:
                outcomes.append(voted)
                if not group.can_decide:
                    outcomes.append(self._next_term(asked.name, "split"))
        return outcomes

    # ---- those that wait and ask

    def wait(self, asked: Await, at: At) -> list[Outcome]:
        """Wait for the decision: `Decided`, `Refused`, or `Queued` with one of those or `TimedOut` to come."""
        outcomes, book, ledger = self.tick(at), self._book, self._book.ledger
        waiter = ledger.requests.get(asked.request_id)
        if answer := self._bad_or_known(asked, "decided", waits=True) or self._decided(asked):
            outcomes.append(answer)
        elif waiter is not None:
            if waiter.route != asked.route:
                waiter.route = asked.route  # whoever asks again listens there
                ledger.keep(waiter, waiter.until_ms)
            outcomes.append(Queued(asked.owner, asked.request_id, asked.route, asked.name, (), repeated=True))
        elif asked.again:
            outcomes.append(ledger.forgotten(asked.request_id, asked.owner, asked.name, asked.route))
        elif problem := wait_problem(book, asked, self.limits):
            outcomes.append(self._refused(asked, problem))
        else:
            times = (ledger.asked_at(at.now_ms), at.now_ms + asked.wait_ms)
            book.wait(Waiter(asked.request_id, asked.owner, asked.name, asked.route, *times, at.token()))
            outcomes.append(Queued(asked.owner, asked.request_id, asked.route, asked.name, ()))
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """Wait no more: the request is refused as cancelled."""
        outcomes = self.tick(at)
        waiter = self._book.ledger.requests.get(request_id)
        if problem := identity_problem(request_id, owner):
            outcomes.append(Refused(owner, request_id, route, "", *problem))
        elif waiter is None or waiter.owner != owner:
            outcomes.append(Refused(owner, request_id, route, "", "not_waiting", "there is no such request that waits"))
        else:
            problem = ("cancelled", "the request was cancelled by its owner")
            outcomes.append(Refused(owner, request_id, route, waiter.name, *problem))
            self._book.end(waiter, "refused", problem)
        return outcomes

    def standing(self, name: str, owner: str, at: At, *, request_id: str = "", route: str = "") -> list[Outcome]:
        """Tell how a group stands: `Decided`, or `Standing` with what is up for vote; in term 0 where nobody ever joined."""
        outcomes = self.tick(at)
        if problem := command_problem(request_id or "-", owner, name, "the consensus"):
            outcomes.append(Refused(owner, request_id, route, name, *problem))
        elif answer := self._decided(Await(request_id, owner, name, 0, route)):
            outcomes.append(answer)
        else:
            group = self._book.groups.get(name) or Group(0, SIZE_MIN, "majority", ROUND_MS)
            up, open_ = tuple(group.proposals), [self._book.proposals[one] for one in group.proposals]
            proposers, values = tuple(one.proposer for one in open_), tuple(one.value for one in open_)
            who = (owner, request_id, route, name, group.term, tuple(group.members), group.quorum)
            outcomes.append(Standing(*who, up, proposers, values, tuple(group.votes[one] for one in up)))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: waits end, and rounds without a decision give way to the next term."""
        outcomes: list[Outcome] = []
        book = self._book
        due = self.due_ms()
        if due is None or due > at.now_ms:
            return outcomes
        for request_id in book.ledger.due.take(at.now_ms):
            waiter = book.ledger.requests[request_id]
            waited = at.now_ms - waiter.asked_ms
            outcomes.append(TimedOut(waiter.owner, request_id, waiter.route, waiter.name, waited))
            book.end(waiter, "timed_out", (waited,))
        outcomes += [self._next_term(name, "timed_out") for name in book.rounds.take(at.now_ms)]
        return outcomes

    # ---- inside

    def _bad_or_known(self, asked: Join | Leave | Propose | Await, kind: str, *, waits: bool = False) -> Outcome | None:
        """Answer what is wrong by itself, and what was asked before as it was answered then."""
        owner, request_id, route, name, ledger = asked.owner, asked.request_id, asked.route, asked.name, self._book.ledger
        who = (owner, request_id, route, name)
        if problem := bad(asked, self.limits):
            return Refused(*who, *problem)
        if request_id in self._book.proposals:
            return Refused(*who, "id_reused", "a proposal has this id: give every request its own")
        if reused := ledger.reused(request_id, owner, name, route, ends=("refused", "timed_out", kind), waits=waits):
            return reused
        past = ledger.ended.get(request_id)
        if past is None:
            return None
        if past.kind in ("joined", "left"):
            term, members, quorum, why, member = past.arguments
            return TermBegan(*who, term, members, quorum, why, member, repeated=True)
        return ledger.repeated(request_id, past, route)

    def _refused(self, asked: Join | Leave | Propose | Await, problem: Problem) -> Refused:
        self._book.ledger.remember(asked.request_id, asked.owner, asked.name, "refused", problem)
        return Refused(asked.owner, asked.request_id, asked.route, asked.name, *problem)

    def _changed(self, asked: Join | Leave, why: Why, member: str) -> TermBegan:
        """Begin the term of a changed membership, and remember the answer."""
        began = self._next_term(asked.name, why)
        said = (began.term, began.members, began.quorum, why, member)
        self._book.ledger.remember(asked.request_id, asked.owner, asked.name, why, said)
        return TermBegan(asked.owner, asked.request_id, asked.route, asked.name, *said)

    def _next_term(self, name: str, why: Why) -> TermBegan:
        self._book.next_term(name)
        group = self._book.groups[name]
        return TermBegan("", "", "", name, group.term, len(group.members), group.quorum, why, "")

    def _decided(self, asked: Propose | Vote | Await) -> Decided | None:
        """Tell what is decided, where something is."""
        decision = self._book.decisions.get(asked.name)
        return None if decision is None else _told(decision, asked, repeated=True)

    def _decide(self, asked: Vote, outcomes: list[Outcome]) -> None:
        """Decide, and tell everybody, who voted last, and all that wait."""
        book, name = self._book, asked.name
        chosen = book.decide(name, asked.proposal)
        first = Await(chosen.proposal, chosen.proposer, name, 0)
        outcomes += [_told(chosen, first), _told(chosen, asked, repeated=True)]
        for request_id in list(book.waiting.get(name, ())):
            waiter = book.ledger.requests[request_id]
            outcomes.append(_told(chosen, waiter, repeated=True))
            book.end(waiter, "decided", ())


def _told(chosen: Decision, to: Propose | Vote | Await | Waiter, *, repeated: bool = False) -> Decided:
    """Tell somebody what is decided."""
    who = (to.owner, to.request_id, to.route, to.name)
    return Decided(*who, chosen.value, chosen.proposal, chosen.proposer, chosen.term, chosen.voters, repeated)
