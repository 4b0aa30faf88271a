"""Semaphores: so many permits, given out in the order of the log, with leases, priorities and tokens.

One machine holds the semaphores of one partition. What holds after every command:

* At most `capacity` permits are out, unless the capacity was cut while they were: then nobody gets any until enough are back.
* A request gets all its permits at once or waits for all. First come, first served among equals; a higher priority goes first,
  but each `ageing_ms` of waiting is worth one step. Nobody overtakes a large request that waits at the head.
* The first use says how many permits there are, and they are forgotten with the last use; a command sets it for good. A waiting
  request for more than a new capacity is refused, since all behind it would wait for ever; but 0 closes, and everybody waits.
* Every grant has a token of its own, and tokens of one semaphore grow strictly. A grant is lost at its lease's end, to the
  millisecond of the partition's time, and its permits go to those that are next.
* Each request ends at most once, and is answered the same when it is asked again, as long as its end is remembered.

    3 of 4 are out ──▶ ask 2: waits ──▶ ask 1: waits behind it ──▶ 1 comes back: the first is granted, 4 of 4 are out

              ask ┌─────────┐ room       ┌─────────┐ release
           ──────▶│ waiting │───────────▶│ granted │────────▶ ended: released
                  └─────────┘            └─────────┘────────▶ ended: expired        (not renewed)
                       └──▶ ended: refused (busy, cancelled, victim, too_many, ...), timed out

Not promised: reentrance. An owner that has permits and asks for more waits like anybody, if need be for itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Self

from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Row
from processors.core.coordination.request_checks import Problem, lease_problem
from processors.core.coordination.request_words import BEHIND_SHOWN, Queued, Refused, TimedOut
from processors.core.coordination.semaphore_checks import acquire_problem, cannot_wait, never, not_held, resize_problem
from processors.core.coordination.semaphore_state import Book, Hold
from processors.core.coordination.semaphore_words import (
    AcquirePermits,
    Expired,
    Granted,
    Outcome,
    Released,
    Renewed,
    Resized,
    SemaphoreLimits,
    SetCapacity,
)
from streams.core.at import At

__all__ = ["Semaphores"]

_ENDS: Final = frozenset({"refused", "timed_out", "released", "expired"})


class Semaphores:
    """The semaphores of one partition; see the module."""

    def __init__(self, limits: SemaphoreLimits | None = None) -> None:
        self.limits = limits or SemaphoreLimits()
        self._book = Book(ended_max=self.limits.ended_max)

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: SemaphoreLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        semaphores = cls(limits)
        semaphores._book.load(list(rows))
        return semaphores

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._book.ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._book.ledger.due.next_ms()

    # ---- commands

    def acquire(self, asked: AcquirePermits, at: At) -> list[Outcome]:
        """Ask for permits. The answer is `Granted`, `Refused`, or `Queued` with one of those or `TimedOut` to come."""
        outcomes, ledger = self.tick(at), self._book.ledger
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := acquire_problem(asked, self.limits):
            outcomes.append(Refused(*who, *problem))
        elif known := self._known(asked):
            outcomes.append(known)
        elif asked.again:
            outcomes.append(ledger.forgotten(asked.request_id, asked.owner, asked.name, asked.route))
        elif problem := never(self._book, asked):
            outcomes.append(self._refused(who, problem))
        else:
            semaphore = self._book.semaphores.get(asked.name)
            if semaphore is None:
                semaphore = self._book.resize(asked.name, asked.capacity or 0, fixed=False)
            hold = self._hold(asked, at)
            if semaphore.room(hold.permits) and (not semaphore.queue or (hold.order, hold.request_id) < semaphore.queue[0]):
                outcomes.append(self._grant(hold, at))
            elif problem := cannot_wait(self._book, asked, semaphore, self.limits):
                outcomes.append(self._refused(who, problem))
            else:
                self._book.wait(hold)
                outcomes.append(self._queued(hold))
        return outcomes

    def release(self, grant: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """End a grant; `Released`, or `Refused` where it is not this owner's or has been lost."""
        outcomes = self.tick(at)
        hold = self._named(grant, owner, route, outcomes, "released")
        if hold is not None:
            outcomes.append(Released(owner, grant, route, hold.name, hold.permits, hold.token))
            self._end(hold, "released", (hold.permits, hold.token), at, outcomes)
        return outcomes

    def renew(self, grant: str, owner: str, at: At, *, lease_ms: int | None = None, route: str = "") -> list[Outcome]:
        """Let a grant hold for another lease from now: `Renewed`, or `Refused` as for `release`."""
        outcomes = self.tick(at)
        hold = self._named(grant, owner, route, outcomes, "renewed")
        if hold is not None:
            lease = hold.lease_ms if lease_ms is None else lease_ms
            if problem := lease_problem(lease, self.limits):
                outcomes.append(Refused(owner, grant, route, hold.name, *problem))
            else:
                hold.lease_ms, hold.until_ms = lease, at.now_ms + lease
                self._book.ledger.keep(hold, hold.until_ms)
                outcomes.append(Renewed(owner, grant, route, hold.name, hold.permits, hold.token, hold.until_ms))
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, victim_of: str = "", route: str = "") -> list[Outcome]:
        """End a request that its owner does not want any more: a waiting one is refused as cancelled, a granted one released.

        Args:
            request_id: Which.
            owner: Whose.
            at: When.
            victim_of: Why it is ended by others, as the victim of a deadlock; a grant is then left as it is.
            route: Where the answer goes.
        """
        outcomes = self.tick(at)
        hold = self._book.ledger.requests.get(request_id)
        if hold is not None and not hold.token and hold.owner == owner:
            problem = ("victim", victim_of) if victim_of else ("cancelled", "the request was cancelled by its owner")
            outcomes.append(Refused(owner, request_id, hold.route, hold.name, *problem))
            self._end(hold, "refused", problem, at, outcomes)
        elif not victim_of:
            outcomes += self.release(request_id, owner, at, route=route)
        return outcomes

    def set_capacity(self, asked: SetCapacity, at: At) -> list[Outcome]:
        """Say how many permits there are; `Resized`, then what that gives and takes."""
        outcomes, book, ledger = self.tick(at), self._book, self._book.ledger
        name = asked.name
        who = (asked.owner, asked.request_id, asked.route, name)
        if problem := resize_problem(book, asked, self.limits):
            outcomes.append(Refused(*who, *problem))
            return outcomes
        if reused := ledger.reused(asked.request_id, asked.owner, name, asked.route, ends=("resized",), waits=False):
            outcomes.append(reused)
            return outcomes
        if (past := ledger.ended.get(asked.request_id)) is not None:
            capacity, out = past.arguments
            outcomes.append(Resized(*who, capacity, out, repeated=True))
            return outcomes
        semaphore = book.semaphores.get(name)
        out = 0 if semaphore is None else semaphore.out
        if asked.capacity is not None:
            book.resize(name, asked.capacity, fixed=True)
        elif semaphore is not None and semaphore.fixed:
            book.resize(name, semaphore.capacity, fixed=False)
        outcomes.append(Resized(*who, asked.capacity, out))
        ledger.remember(asked.request_id, asked.owner, name, "resized", (asked.capacity, out))
        if asked.capacity:
            self._refuse_larger(name, asked.capacity, outcomes)
        self._settle(name, at, outcomes)
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: leases end, waiting requests time out, and what this frees goes to those that are next."""
        outcomes: list[Outcome] = []
        ledger = self._book.ledger
        due = ledger.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        for request_id in ledger.due.take(at.now_ms):
            hold = ledger.requests[request_id]
            who = (hold.owner, request_id, hold.route, hold.name)
            if hold.token:
                outcomes.append(Expired(*who, hold.permits, hold.token))
                self._end(hold, "expired", (hold.permits, hold.token), at, outcomes)
            else:
                waited = at.now_ms - hold.asked_ms
                outcomes.append(TimedOut(*who, waited))
                self._end(hold, "timed_out", (waited,), at, outcomes)
        return outcomes

    # ---- refusals

    def _refused(self, who: tuple[str, str, str, str], problem: Problem) -> Refused:
        owner, request_id, _, name = who
        self._book.ledger.remember(request_id, owner, name, "refused", problem)
        return Refused(*who, *problem)

    def _refuse_larger(self, name: str, capacity: int, outcomes: list[Outcome]) -> None:
        """Refuse those that wait for more than there now are."""
        requests = self._book.ledger.requests
        for hold in [requests[request_id] for _, request_id in self._book.semaphores[name].queue]:
            if hold.permits > capacity:
                text = f"{hold.permits} permits of {name} were waited for, and there are only {capacity} now: ask for fewer"
                outcomes.append(Refused(hold.owner, hold.request_id, hold.route, name, "too_many", text))
                self._book.end(hold, "refused", ("too_many", text))

    # ---- requests that are known

    def _known(self, asked: AcquirePermits) -> Outcome | None:
        """Answer a request that was asked before as it was answered then."""
        owner, request_id, route, name, ledger = asked.owner, asked.request_id, asked.route, asked.name, self._book.ledger
        if reused := ledger.reused(request_id, owner, name, route, ends=_ENDS):
            return reused
        hold = ledger.requests.get(request_id)
        if hold is not None:
            if hold.route != route:
                hold.route = route  # whoever asks again listens there
                ledger.keep(hold, hold.until_ms)
            return _granted(hold, repeated=True) if hold.token else self._queued(hold, repeated=True)
        past = ledger.ended.get(request_id)
        if past is None:
            return None
        how = "has expired" if past.kind == "expired" else "has been released"
        text = f"the request was granted and {how}: ask with another id"
        return ledger.repeated(request_id, past, route) or Refused(owner, request_id, route, name, "ended", text, repeated=True)

    def _named(self, grant: str, owner: str, route: str, outcomes: list[Outcome], what: str) -> Hold | None:
        """Return the grant that a command names; where there is none for it, append the answer."""
        ledger = self._book.ledger
        hold, past = ledger.requests.get(grant), ledger.ended.get(grant)
        if problem := identity_problem(grant, owner):
            outcomes.append(Refused(owner, grant, route, "", *problem))
        elif hold is not None and hold.owner == owner and hold.token:
            return hold
        elif past is not None and past.owner == owner and past.kind == what == "released":
            permits, token = past.arguments
            outcomes.append(Released(owner, grant, route, past.resources[0], permits, token, repeated=True))
        else:
            name = hold.name if hold is not None else past.resources[0] if past is not None else ""
            outcomes.append(Refused(owner, grant, route, name, *not_held(hold, past, owner, what)))
        return None

    def _queued(self, hold: Hold, *, repeated: bool = False) -> Queued:
        """Say that a request waits, and for whom: those that have permits, and the one at the head of the queue."""
        semaphore, requests = self._book.semaphores[hold.name], self._book.ledger.requests
        owners = dict.fromkeys(requests[one].owner for one in islice(semaphore.grants, BEHIND_SHOWN))
        owners[requests[semaphore.queue[0][1]].owner] = None
        owners.pop(hold.owner, None)
        return Queued(
            hold.owner,
            hold.request_id,
            hold.route,
            hold.name,
            tuple(owners)[:BEHIND_SHOWN],
            repeated,
            priority=(hold.asked_ms - hold.order[0]) // self.limits.ageing_ms,
            order=hold.order[:1],
            permits=hold.permits,
            capacity=semaphore.capacity,
        )

    # ---- what moves

    def _hold(self, asked: AcquirePermits, at: At) -> Hold:
        asked_ms = self._book.ledger.asked_at(at.now_ms)
        return Hold(
            asked.request_id,
            asked.owner,
            asked.name,
            asked.permits,
            asked.route,
            asked_ms,
            asked.lease_ms,
            until_ms=None if asked.wait_ms is None else at.now_ms + asked.wait_ms,
            order=(asked_ms - asked.priority * self.limits.ageing_ms, at.token()),
        )

    def _grant(self, hold: Hold, at: At) -> Granted:
        self._book.grant(hold, self._book.ledger.next_token(at.token()), at.now_ms + hold.lease_ms)
        return _granted(hold)

    def _end(self, hold: Hold, kind: str, arguments: tuple[int | str, ...], at: At, outcomes: list[Outcome]) -> None:
        self._book.end(hold, kind, arguments)
        self._settle(hold.name, at, outcomes)

    def _settle(self, name: str, at: At, outcomes: list[Outcome]) -> None:
        """Grant from the head of the queue on what there is room for, and forget the semaphore where nobody is left."""
        semaphore, requests = self._book.semaphores.get(name), self._book.ledger.requests
        if semaphore is None:
            return
        while semaphore.queue and semaphore.room((hold := requests[semaphore.queue[0][1]]).permits):
            outcomes.append(self._grant(hold, at))
        self._book.tidy(name)


def _granted(hold: Hold, *, repeated: bool = False) -> Granted:
    assert hold.until_ms is not None, "a grant has a lease"
    who = (hold.owner, hold.request_id, hold.route, hold.name)
    return Granted(*who, hold.permits, hold.token, hold.lease_ms, hold.until_ms, hold.asked_ms, repeated)
