"""Leader election: one leader a term, terms that grow by one, a token for each, and candidates that wait in order.

One machine holds the elections of one partition. What holds after every command:

* An election has one leader or none, and none only where it has no candidate. Each leadership is a term of its own: terms of an
  election are 1, 2, 3 and so on for ever, and the token of each term, a log position, is larger than that of the one before.
* Who is elected next: the highest priority, and among equals who came first. A leader is not deposed by a higher priority.
* A candidacy is a lease from its first moment, renewed by heartbeat while it waits and while it leads; being elected does not
  lengthen it. So a candidate that died is gone after its lease whether it led or not, and however many die at once, one that
  lives leads within a lease.
* What time ends, it ends for all before anybody is elected: nobody is elected whose own lease is over.
* Who steps down goes behind whoever is there; its candidacy goes on. Who resigns is no candidate any more.
* Each candidacy ends at most once, and is answered the same when it is asked again, as long as its end is remembered.

           stand ┌─────────┐ elected   ┌─────────┐ resign
          ──────▶│ waiting │──────────▶│ leading │─────────▶ ended: resigned
                 └─────────┘◀──────────└─────────┘─────────▶ ended: expired      (not heard of)
                      │       step down
                      └──▶ ended: refused (led, full), resigned, expired, timed out

Not promised: that a leader knows at once that it is none any more (frozen, or cut off, it learns it late). The token tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from processors.core.coordination.election_state import Book, Candidate, Election
from processors.core.coordination.election_words import (
    Campaign,
    Elected,
    ElectionLimits,
    Ended,
    How,
    Outcome,
    Renewed,
    Standing,
    StepDown,
)
from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Row
from processors.core.coordination.request_checks import Problem, command_problem, lease_problem, range_problem, waiting_problem
from processors.core.coordination.request_words import BEHIND_SHOWN, Queued, Refused, TimedOut
from streams.core.at import At

__all__ = ["Elections"]

_ENDS: Final = frozenset({"refused", "timed_out", "resigned", "expired"})


class Elections:
    """The elections of one partition; see the module."""

    def __init__(self, limits: ElectionLimits | None = None) -> None:
        self.limits = limits or ElectionLimits()
        self._book = Book(ended_max=self.limits.ended_max)

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: ElectionLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        elections = cls(limits)
        elections._book.load(rows)
        return elections

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._book.ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._book.ledger.due.next_ms()

    # ---- commands

    def stand(self, asked: Campaign, at: At) -> list[Outcome]:
        """Stand as a candidate. The answer is `Elected`, `Refused`, or `Queued` with what becomes of it to come."""
        outcomes, book, ledger = self.tick(at), self._book, self._book.ledger
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := self._campaign_problem(asked):
            outcomes.append(Refused(*who, *problem))
        elif known := self._known(asked, at):
            outcomes.append(known)
        elif asked.again:
            outcomes.append(ledger.forgotten(asked.request_id, asked.owner, asked.name, asked.route))
        elif problem := self._no_room(asked):
            ledger.remember(asked.request_id, asked.owner, asked.name, "refused", problem)
            outcomes.append(Refused(*who, *problem))
        else:
            candidate = self._candidate(asked, at)
            if book.open(asked.name).leader:
                book.wait(candidate, (-candidate.priority, at.token()))
                outcomes.append(self._queued(candidate))
            else:
                book.elect(candidate, at.token())
                outcomes.append(_elected(candidate))
        return outcomes

    def renew(self, candidacy: str, owner: str, at: At, *, lease_ms: int | None = None, route: str = "") -> list[Outcome]:
        """Believe in a candidate, waiting or leading, for another lease from now: `Renewed`, or `Refused` where it has ended."""
        outcomes = self.tick(at)
        candidate = self._named(candidacy, owner, route, outcomes)
        if candidate is not None:
            lease = candidate.lease_ms if lease_ms is None else lease_ms
            if problem := lease_problem(lease, self.limits):
                outcomes.append(Refused(owner, candidacy, route, candidate.name, *problem))
            else:
                candidate.lease_ms, candidate.until_ms = lease, at.now_ms + lease
                self._book.keep(candidate)
                term = candidate.term if candidate.token else 0
                who = (owner, candidacy, route, candidate.name)
                outcomes.append(Renewed(*who, term, candidate.token, candidate.until_ms))
        return outcomes

    def resign(self, candidacy: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """End a candidacy that its owner does not want any more, waiting or leading: `Ended`, and the next one is elected."""
        outcomes = self.tick(at)
        past = self._book.ledger.ended.get(candidacy)
        if past is not None and past.kind == "resigned" and past.owner == owner:
            term, token = past.arguments
            outcomes.append(Ended(owner, candidacy, route, past.resources[0], term, token, "resigned", repeated=True))
            return outcomes
        candidate = self._named(candidacy, owner, route, outcomes)
        if candidate is not None:
            outcomes.append(self._end(candidate, "resigned", route))
            self._elect_next(candidate.name, at, outcomes)
        return outcomes

    def step_down(self, asked: StepDown, at: At) -> list[Outcome]:
        """Let another candidate lead: `Ended`, then `Elected` for the other, and the candidacy waits behind it."""
        outcomes, book = self.tick(at), self._book
        leader = self._named(asked.request_id, asked.owner, asked.route, outcomes)
        if leader is None:
            return outcomes
        who = (asked.owner, asked.request_id, asked.route, leader.name)
        if not leader.token and leader.term == asked.term > 0:  # this very leadership has ended so: asked again
            outcomes.append(Ended(*who, asked.term, 0, "stepped_down", repeated=True))
        elif not leader.token or leader.term != asked.term:
            leads = f"it leads term {leader.term}" if leader.token else "it waits"
            text = f"the candidacy does not lead term {asked.term}: {leads}"
            outcomes.append(Refused(*who, "not_leader", text))
        elif (follower := self._follower(book.elections[leader.name], asked.successor)) is None:
            text = f"{asked.successor!r} is no candidate that waits" if asked.successor else "nobody else is a candidate"
            outcomes.append(Refused(*who, "no_successor", f"{text}: lead on, or resign"))
        else:
            outcomes.append(Ended(*who, leader.term, leader.token, "stepped_down"))
            book.wait(leader, (-leader.priority, at.token()))
            book.elect(follower, at.token())
            outcomes.append(_elected(follower))
        return outcomes

    def standing(self, name: str, owner: str, at: At, *, request_id: str = "", route: str = "") -> list[Outcome]:
        """Tell how an election stands."""
        outcomes = self.tick(at)
        if problem := command_problem(request_id or "-", owner, name, "the election"):
            outcomes.append(Refused(owner, request_id, route, name, *problem))
            return outcomes
        election = self._book.elections.get(name) or Election()
        leader = self._book.ledger.requests.get(election.leader)
        owners = self._owners(election)[1:] if leader is not None else ()
        now = ("", "", "", 0) if leader is None else (leader.owner, leader.request_id, leader.value, leader.until_ms)
        token = 0 if leader is None else leader.token
        candidates = len(election.queue) + (leader is not None)
        outcomes.append(Standing(owner, request_id, route, name, election.term, token, *now, candidates, owners))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: candidacies that nobody renewed end, waits end, and then the next ones are elected."""
        outcomes: list[Outcome] = []
        ledger = self._book.ledger
        due = ledger.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        names: dict[str, None] = {}
        for request_id in ledger.due.take(at.now_ms):
            candidate = ledger.requests[request_id]
            if candidate.until_ms <= at.now_ms:
                names |= {candidate.name: None} if candidate.token else {}
                outcomes.append(self._end(candidate, "expired", candidate.route))
            else:
                waited = at.now_ms - candidate.asked_ms
                outcomes.append(TimedOut(candidate.owner, request_id, candidate.route, candidate.name, waited))
                self._book.end(candidate, "timed_out", (waited,))
        for name in names:
            self._elect_next(name, at, outcomes)
        return outcomes

    # ---- what is wrong

    def _campaign_problem(self, asked: Campaign) -> Problem | None:
        limits = self.limits
        if problem := waiting_problem(asked, limits, "the election"):
            return problem
        if len(asked.value) > limits.value_chars_max or not asked.value.isprintable():
            text = f"the value has {len(asked.value)} characters: at most {limits.value_chars_max} printable ones are allowed"
            return "bad_value", text
        return range_problem("bad_priority", "priority", asked.priority, -limits.priority_max, limits.priority_max)

    def _no_room(self, asked: Campaign) -> Problem | None:
        """Return why a candidate is refused though nothing is wrong with it."""
        limits, election = self.limits, self._book.elections.get(asked.name)
        if election is None and len(self._book.elections) >= limits.elections_max:
            text = f"{limits.elections_max} elections are remembered on this partition, for ever"
            return "full", f"{text}: use names again, or more partitions"
        if len(self._book.ledger.requests) >= limits.requests_max:
            return "full", f"{limits.requests_max} candidates are known on this partition: let some end, or use more partitions"
        if election is None or not election.leader:
            return None
        if asked.wait_ms == 0:
            return "led", f"{self._owners(election)[0]} leads {asked.name} in term {election.term}: wait, or try again later"
        if len(election.queue) >= limits.waiters_max:
            return "queue_full", f"{limits.waiters_max} candidates wait in {asked.name}: try again when some have ended"
        return None

    # ---- candidates that are known

    def _known(self, asked: Campaign, at: At) -> Outcome | None:
        """Answer a candidate that was there before as it was answered then; that it asks again is a heartbeat too."""
        ledger, request_id, route = self._book.ledger, asked.request_id, asked.route
        if reused := ledger.reused(request_id, asked.owner, asked.name, route, ends=_ENDS):
            return reused
        candidate = ledger.requests.get(request_id)
        if candidate is not None:
            candidate.route, candidate.until_ms = route, at.now_ms + candidate.lease_ms  # whoever asks again listens there
            self._book.keep(candidate)
            return _elected(candidate, repeated=True) if candidate.token else self._queued(candidate, repeated=True)
        past = ledger.ended.get(request_id)
        if past is None:
            return None
        text = f"the candidacy has {past.kind}: stand with another id"
        who = (asked.owner, request_id, route, asked.name)
        return ledger.repeated(request_id, past, route) or Refused(*who, "ended", text, repeated=True)

    def _named(self, candidacy: str, owner: str, route: str, outcomes: list[Outcome]) -> Candidate | None:
        """Return the candidate that a command names; where there is none for it, append the answer."""
        candidate, past = self._book.ledger.requests.get(candidacy), self._book.ledger.ended.get(candidacy)
        if problem := identity_problem(candidacy, owner):
            outcomes.append(Refused(owner, candidacy, route, "", *problem))
            return None
        if candidate is not None and candidate.owner == owner:
            return candidate
        known = candidate or past
        if known is not None and known.owner != owner:
            code, text = "not_owner", f"the candidacy is {known.owner}'s: only its owner commands it"
        elif past is not None and past.kind == "expired":
            code, text = "expired", "the lease ended before, and the candidacy is lost: a later leader has a larger token"
        else:
            code, text = "not_candidate", "there is no such candidacy: it ended, or never was"
        name = candidate.name if candidate is not None else past.resources[0] if past is not None else ""
        outcomes.append(Refused(owner, candidacy, route, name, code, text))
        return None

    def _owners(self, election: Election) -> tuple[str, ...]:
        """Return the owners of the leader and of those that are next, some of them where they are many."""
        requests = self._book.ledger.requests
        first = [election.leader, *(request_id for _, request_id in election.queue[: BEHIND_SHOWN - 1])]
        return tuple(requests[request_id].owner for request_id in first if request_id)

    def _queued(self, candidate: Candidate, *, repeated: bool = False) -> Queued:
        """Say that a candidate waits, and for whom: whoever leads. Those that go first keep it from nothing that it has not."""
        election = self._book.elections[candidate.name]
        leader = self._owners(election)[:1]
        return Queued(candidate.owner, candidate.request_id, candidate.route, candidate.name, leader, repeated)

    def _follower(self, election: Election, successor: str) -> Candidate | None:
        """Return who leads next: the first in order, or the first that is this owner's."""
        waiting = (self._book.ledger.requests[request_id] for _, request_id in election.queue)
        return next((one for one in waiting if successor in ("", one.owner)), None)

    # ---- what moves

    def _candidate(self, asked: Campaign, at: At) -> Candidate:
        return Candidate(
            asked.request_id,
            asked.owner,
            asked.name,
            asked.route,
            asked.value,
            asked.priority,
            asked_ms=self._book.ledger.asked_at(at.now_ms),
            lease_ms=asked.lease_ms,
            until_ms=at.now_ms + asked.lease_ms,
            gives_up_ms=None if asked.wait_ms is None else at.now_ms + asked.wait_ms,
            order=(0, 0),
        )

    def _end(self, candidate: Candidate, how: How, route: str) -> Ended:
        led = (candidate.term, candidate.token) if candidate.token else (0, 0)
        self._book.end(candidate, how, led)
        return Ended(candidate.owner, candidate.request_id, route, candidate.name, *led, how)

    def _elect_next(self, name: str, at: At, outcomes: list[Outcome]) -> None:
        election = self._book.elections[name]
        if not election.leader and (follower := self._follower(election, "")) is not None:
            self._book.elect(follower, at.token())
            outcomes.append(_elected(follower))


def _elected(candidate: Candidate, *, repeated: bool = False) -> Elected:
    who = (candidate.owner, candidate.request_id, candidate.route, candidate.name)
    led = (candidate.value, candidate.term, candidate.token)
    return Elected(*who, *led, candidate.lease_ms, candidate.until_ms, candidate.asked_ms, repeated)
