"""What the election machine keeps: candidates as requests of a `ledger`, and a row for each election.

    ["r", request id]   [1 waits, ..., wait until or null, order, last term], where ... is:
                        owner, name, route, value, priority, asked_ms, lease_ms, expires_ms
                        [2 leads, ..., null, token, term]
    ["e", name]         [term, token]

Who leads and who is next are made from these. An election's row is never deleted: its terms go on where they were.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_rows import GRANTED, WAITING, Key, Row

__all__ = ["ELECTION", "Book", "Candidate", "Election"]

ELECTION: Final = "e"

Order = tuple[int, int]
"""A candidate's place: the higher priority first, then by log position."""


@dataclass(slots=True)
class Candidate:
    """A candidate that waits or leads.

    Attributes:
        until_ms: When its lease ends: one lease for its whole way, so being elected gives no new one.
        gives_up_ms: When it does not want to wait any more, or None; also once it has been elected.
        order: Its place while it waits.
        token: Of its leadership; 0 while it waits.
        term: Which it leads, or was the last it led; 0 if none.
    """

    request_id: str
    owner: str
    name: str
    route: str
    value: str
    priority: int
    asked_ms: int
    lease_ms: int
    until_ms: int
    gives_up_ms: int | None
    order: Order
    token: int = 0
    term: int = 0

    @property
    def due_ms(self) -> int:
        """When something happens to it that nobody commands."""
        return self.until_ms if self.gives_up_ms is None else min(self.until_ms, self.gives_up_ms)

    def row(self) -> Row:
        """Return its row."""
        state, place = (GRANTED, self.token) if self.token else (WAITING, self.order)
        who = (self.owner, self.name, self.route, self.value, self.priority)
        return (state, *who, self.asked_ms, self.lease_ms, self.until_ms, self.gives_up_ms, place, self.term)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Candidate:
        """Return the candidate of a row."""
        state, owner, name, route, value, priority, asked_ms, lease_ms, until_ms, gives_up_ms, place, term = row
        order, token = (tuple(place), 0) if state == WAITING else ((0, 0), place)
        who = (request_id, owner, name, route, value, priority)
        return cls(*who, asked_ms, lease_ms, until_ms, gives_up_ms, order, token, term)


class Election:
    """Its last term with the token of it, who leads, and who waits, in order. Somebody waits only while somebody leads."""

    __slots__ = ("leader", "queue", "term", "token")

    def __init__(self, term: int = 0, token: int = 0) -> None:
        self.term, self.token = term, token
        self.leader = ""
        """The candidacy that leads; empty where none does."""
        self.queue: list[tuple[Order, str]] = []

    def row(self) -> Row:
        """Return its row."""
        return (self.term, self.token)


class Book:
    """The elections of one partition; every change is noted for the next `changes`."""

    def __init__(self, *, ended_max: int) -> None:
        self.ledger: Ledger[Candidate] = Ledger(ended_max=ended_max)
        self.elections: dict[str, Election] = {}
        self.ledger.kinds[ELECTION] = self.elections

    def load(self, rows: Iterable[tuple[Key, Row]]) -> None:
        """Take the rows of an empty book and make its indexes."""
        for key, (term, token) in self.ledger.load(rows, Candidate.of):
            self.elections[str(key[1])] = Election(term, token)
        for candidate in self.ledger.requests.values():
            if candidate.token:
                self.elections[candidate.name].leader = candidate.request_id
            else:
                self._line_up(candidate)
            self.ledger.due.set(candidate.request_id, candidate.due_ms)

    def open(self, name: str) -> Election:
        """Return an election, known or new."""
        if (election := self.elections.get(name)) is None:
            election = self.elections[name] = Election()
            self.ledger.touch(ELECTION, name)
        return election

    def wait(self, candidate: Candidate, order: Order) -> None:
        """Put a candidate, new or so far the leader, into the queue."""
        election = self.elections[candidate.name]
        if candidate.token:
            election.leader, candidate.token = "", 0
        candidate.order = order
        self._line_up(candidate)
        self.keep(candidate)

    def elect(self, candidate: Candidate, least_token: int) -> None:
        """Let a candidate, waiting or new, lead the next term."""
        election = self.elections[candidate.name]
        assert not election.leader, "one leads at a time"
        if candidate.request_id in self.ledger.requests:
            self._step_out(candidate)
        election.term += 1
        election.token = self.ledger.next_token(least_token)
        election.leader = candidate.request_id
        candidate.term, candidate.token, candidate.gives_up_ms = election.term, election.token, None
        self.ledger.touch(ELECTION, candidate.name)
        self.keep(candidate)

    def keep(self, candidate: Candidate) -> None:
        """Note that a candidate is new or has changed."""
        self.ledger.keep(candidate, candidate.due_ms)

    def end(self, candidate: Candidate, kind: str, arguments: tuple[Any, ...]) -> None:
        """End a candidacy, and remember its answer."""
        if candidate.token:
            self.elections[candidate.name].leader = ""
        else:
            self._step_out(candidate)
        self.ledger.end(candidate, kind, arguments)

    def _line_up(self, candidate: Candidate) -> None:
        insort(self.elections[candidate.name].queue, (candidate.order, candidate.request_id))

    def _step_out(self, candidate: Candidate) -> None:
        queue = self.elections[candidate.name].queue
        del queue[bisect_left(queue, (candidate.order, candidate.request_id))]
