"""Locks: exclusive and shared, in the order of the log, with leases, priorities and fencing tokens.

One machine holds the locks of one partition. What holds after every command:

* A resource has one owner with an exclusive grant, or any number of owners with shared ones.
* A request for several resources gets all or waits for all; it never holds a part. It stands in the queue of each, and whoever
  comes later and conflicts with it waits behind it, so a stream of single requests does not starve it.
* First come, first served among equals. A higher priority goes first, but each `ageing_ms` of waiting is worth one step.
* An owner that holds a resource gets it again at once, ahead of the queue, as a nested grant under the same token. It has it
  until the last of them is released; when only shared ones are left, others may share.
* A shared holder that asks for exclusive (an *upgrade*, of one resource) goes ahead of the queue and waits for the other shared
  holders only. A second one would wait for the first and the first for it, so it is refused.
* Tokens of new holdings grow strictly. A grant is lost at its lease's end, to the millisecond of the partition's time.
* Each request ends at most once, and is answered the same when it is asked again, as long as its end is remembered.

              ask ┌─────────┐ free       ┌─────────┐ release
           ──────▶│ waiting │───────────▶│ granted │────────▶ ended: released
                  └─────────┘            └─────────┘────────▶ ended: expired        (not renewed)
                       └──▶ ended: refused (busy, cancelled, victim, ...), timed out

Not promised: that nobody waits in a circle. `waits` lists who waits for whom, and `abort` ends one of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Self

from processors.core.coordination.lock_answers import granted, named, queued, repeated
from processors.core.coordination.lock_checks import identity_problem, lease_problem, request_problem
from processors.core.coordination.lock_rows import Asked, Key, Row
from processors.core.coordination.lock_rules import BLOCKERS_SHOWN, cannot_wait, free, never, waits
from processors.core.coordination.lock_state import Book
from processors.core.coordination.lock_words import (
    AcquireRequest,
    Expired,
    Granted,
    Left,
    LockLimits,
    Outcome,
    Refused,
    Released,
    Renewed,
    TimedOut,
    Wait,
)
from streams.core.at import At

__all__ = ["Locks"]


class Locks:
    """The locks of one partition; see the module."""

    def __init__(self, limits: LockLimits | None = None) -> None:
        self.limits = limits or LockLimits()
        self._book = Book()

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: LockLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        locks = cls(limits)
        locks._book.load(rows)
        return locks

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._book.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._book.due.next_ms()

    # ---- commands

    def acquire(self, asked: AcquireRequest, at: At) -> list[Outcome]:
        """Ask for resources. The answer is `Granted`, `Refused`, or `Queued` with one of those or `TimedOut` to come."""
        book, outcomes = self._book, self.tick(at)
        if problem := request_problem(asked, self.limits):
            outcomes.append(Refused(asked.owner, asked.request_id, asked.route, asked.resources, *problem))
            return outcomes
        known = book.requests.get(asked.request_id) or book.ended.get(asked.request_id)
        if known is not None:
            outcomes.append(repeated(book, asked, known))
            return outcomes
        if asked.again:
            text = "the request is not known any more, or never came: ask anew, with another request id"
            outcomes.append(Refused(asked.owner, asked.request_id, asked.route, asked.resources, "forgotten", text))
            return outcomes
        request = self._request(asked, at)
        problem = never(book, request, self.limits)
        if problem is None and free(book, request):
            outcomes.append(self._grant(request, at))
            self._grant_nested(request.owner, at, outcomes)
            return outcomes
        if problem := problem or cannot_wait(book, request, self.limits, tries=asked.wait_ms == 0):
            outcomes.append(Refused(asked.owner, asked.request_id, asked.route, asked.resources, *problem))
            book.remember(asked.request_id, asked.owner, asked.resources, "refused", problem, keep=self.limits.ended_max)
            return outcomes
        book.wait(request)
        outcomes.append(queued(book, request, asked.route))
        return outcomes

    def release(self, grant: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """End a grant; `Released`, or `Refused` where it is not this owner's or has been lost."""
        outcomes = self.tick(at)
        request = named(self._book, grant, owner, route, outcomes, "released")
        if request is not None:
            outcomes.append(Released(owner, grant, route, request.resources, request.tokens))
            self._end(request, "released", (request.tokens,), at, outcomes)
        return outcomes

    def renew(self, grant: str, owner: str, at: At, *, lease_ms: int | None = None, route: str = "") -> list[Outcome]:
        """Let a grant hold for another lease from now: `Renewed`, or `Refused` as for `release`."""
        outcomes = self.tick(at)
        request = named(self._book, grant, owner, route, outcomes, "renewed")
        if request is not None:
            lease = request.lease_ms if lease_ms is None else lease_ms
            if problem := lease_problem(lease, self.limits):
                outcomes.append(Refused(owner, grant, route, request.resources, *problem))
            else:
                self._book.renew(request, lease, at.now_ms + lease)
                outcomes.append(Renewed(owner, grant, route, request.resources, request.tokens, at.now_ms + lease))
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """End a request that its owner does not want any more: a waiting one is refused as cancelled, a granted one released."""
        outcomes = self.tick(at)
        request = self._book.requests.get(request_id)
        if request is None or request.tokens or request.owner != owner:
            return outcomes + self.release(request_id, owner, at, route=route)
        return outcomes + self._refuse(request_id, "cancelled", "the request was cancelled by its owner", at)

    def abort(self, request_id: str, reason: str, at: At) -> list[Outcome]:
        """Refuse a waiting request as the victim of a deadlock; nothing, where it does not wait any more."""
        return self._refuse(request_id, "victim", reason, at)

    def release_owner(self, owner: str, at: At, *, request_id: str = "", route: str = "") -> list[Outcome]:
        """Release everything an owner has and cancel what it waits for."""
        outcomes = self.tick(at)
        if problem := identity_problem(request_id or "-", owner):
            outcomes.append(Refused(owner, request_id, route, (), *problem))
            return outcomes
        book = self._book
        waiting = [book.requests[one] for one in sorted(book.waiting_of.get(owner, ()))]
        granted = [book.requests[one] for one in sorted(book.granted_of.get(owner, ()))]
        for request in waiting:
            refusal = ("cancelled", "its owner has left")
            outcomes.append(Refused(owner, request.request_id, request.route, request.resources, *refusal))
        for request in granted:
            outcomes.append(Released(owner, request.request_id, request.route, request.resources, request.tokens))
        freed: dict[str, None] = {}
        for request in waiting:
            freed.update(dict.fromkeys(request.resources))
            book.end(request, "refused", ("cancelled", "its owner has left"), keep=self.limits.ended_max)
        for request in granted:
            freed.update(dict.fromkeys(request.resources))
            book.end(request, "released", (request.tokens,), keep=self.limits.ended_max)
        self._settle(list(freed), at, outcomes)
        outcomes.append(Left(owner, request_id, route, len(granted), len(waiting)))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: leases end, waiting requests time out, and what this frees goes to those that are next."""
        outcomes: list[Outcome] = []
        book = self._book
        due = book.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        for request_id in book.due.take(at.now_ms):
            request = book.requests[request_id]
            who = (request.owner, request_id, request.route, request.resources)
            if not request.tokens:
                waited = at.now_ms - request.asked_ms
                outcomes.append(TimedOut(*who, waited))
                self._end(request, "timed_out", (waited,), at, outcomes)
                continue
            after: list[Outcome] = []
            self._end(request, "expired", (request.tokens,), at, after)
            heirs = {one.owner: None for one in after if type(one) is Granted}
            outcomes.append(Expired(*who, request.tokens, tuple(heirs)[:BLOCKERS_SHOWN]))
            outcomes += after
        return outcomes

    def waits(self) -> list[Wait]:
        """Return who waits for whom; see `lock_rules.waits`."""
        return waits(self._book)

    # ---- inside

    def _request(self, asked: AcquireRequest, at: At) -> Asked:
        book = self._book
        exclusive = asked.mode == "exclusive"
        asked_ms = book.asked_at(at.now_ms)
        upgrade = exclusive and self._shares_any(asked)
        return Asked(
            asked.request_id,
            asked.owner,
            asked.resources,
            asked.route,
            exclusive=exclusive,
            asked_ms=asked_ms,
            lease_ms=asked.lease_ms,
            until_ms=None if asked.wait_ms is None else at.now_ms + asked.wait_ms,
            priority=asked.priority,
            order=(0 if upgrade else 1, asked_ms - asked.priority * self.limits.ageing_ms, at.token()),
        )

    def _shares_any(self, asked: AcquireRequest) -> bool:
        """Whether the owner has one of the resources as shared only."""
        for name in asked.resources:
            resource = self._book.resources.get(name)
            share = None if resource is None else resource.shares.get(asked.owner)
            if share is not None and not share.exclusive:
                return True
        return False

    def _grant(self, request: Asked, at: At) -> Granted:
        book, token = self._book, 0
        tokens = []
        for name in request.resources:
            resource = book.resources.get(name)
            share = None if resource is None else resource.shares.get(request.owner)
            if share is not None and (share.exclusive or not request.exclusive):
                tokens.append(share.token)
            else:
                token = token or book.next_token(at.token())
                tokens.append(token)
        book.grant(request, tuple(tokens), at.now_ms + request.lease_ms)
        return granted(request, request.route)

    def _refuse(self, request_id: str, code: str, text: str, at: At) -> list[Outcome]:
        outcomes = self.tick(at)
        request = self._book.requests.get(request_id)
        if request is not None and not request.tokens:
            outcomes.append(Refused(request.owner, request_id, request.route, request.resources, code, text))
            self._end(request, "refused", (code, text), at, outcomes)
        return outcomes

    def _end(self, request: Asked, kind: str, arguments: tuple[Any, ...], at: At, outcomes: list[Outcome]) -> None:
        """End a request, and give what that frees to those that are next."""
        book, keep = self._book, self.limits.ended_max
        for name in book.end(request, kind, arguments, keep=keep):
            while (upgrade := self._upgrade_of(request.owner, name)) is not None:
                lost = ("upgrade_lost", "the shared grant that was to be upgraded has ended: ask for an exclusive one")
                outcomes.append(Refused(upgrade.owner, upgrade.request_id, upgrade.route, upgrade.resources, *lost))
                book.end(upgrade, "refused", lost, keep=keep)
        self._settle(request.resources, at, outcomes)

    def _upgrade_of(self, owner: str, name: str) -> Asked | None:
        """Return an owner's request at the head of a queue that stands there as an upgrade."""
        resource = self._book.resources.get(name)
        if resource is None or not resource.queue or resource.queue[0][0][0] != 0:
            return None
        request = self._book.requests[resource.queue[0][1]]
        return request if request.owner == owner else None

    def _settle(self, names: Iterable[str], at: At, outcomes: list[Outcome]) -> None:
        """Grant every waiting request that can be, after something ended at these resources."""
        book = self._book
        for name in names:
            place = ((-1, 0, 0), "")
            while (resource := book.resources.get(name)) is not None:  # made anew when its only request moves from wait to grant
                index = bisect_right(resource.queue, place)
                if index == len(resource.queue):
                    break
                place = resource.queue[index]
                request = book.requests[place[1]]
                if free(book, request):
                    outcomes.append(self._grant(request, at))
                    self._grant_nested(request.owner, at, outcomes)
                elif request.exclusive:
                    break

    def _grant_nested(self, owner: str, at: At, outcomes: list[Outcome]) -> None:
        """Grant what an owner waits for and can have now that it has got something: it waits for nobody at what it has."""
        book = self._book
        again = True
        while again:
            again = False
            for request_id in sorted(book.waiting_of.get(owner, ())):
                request = book.requests[request_id]
                if free(book, request):
                    outcomes.append(self._grant(request, at))
                    again = True
