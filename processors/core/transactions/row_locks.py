"""Two-phase locking of rows: who has which, who waits for whom, and who gives up.

A transaction gets its locks one request after the other and gives all of them back when it ends (strict two-phase locking).
Requests are served in their order: one waits for the locks of others that exclude its own, and for earlier requests that do; see
`lock_queue` for the order, and `lock_modes` for what excludes what. A request for several locks has all of them or none.

    strategy     an older transaction asks a younger one's      a younger one asks an older one's
    wait_die     it waits                                       it dies: refused, and tries again with its old age
    wound_wait   the younger one is rolled back ("wounded")     it waits
    detect       it waits, and says for whom: cycles are found by the deadlocks processor

The age is that of its first attempt, so that everybody becomes the oldest in time; between equal ones the name decides. A
transaction that has promised its commit cannot be wounded: it is waited for, and needs nothing any more. Under wait_die all waits
are for younger ones, under wound_wait for older or promised ones, so there is no cycle, over several partitions neither; where
transactions of several strategies meet this is not promised. (Rosenkrantz, Stearns and Lewis 1978, "System level concurrency
control for distributed database systems".)

After each command, and whatever the rows were read anew between:

* No two transactions have locks that exclude each other.
* Whoever waits does so for a lock that is held, or for an earlier request that does not wait for him.
* A request ends once: granted, or refused with a code. Asked again it is answered the same.
* A transaction's locks end with it: when it commits, is rolled back, is not heard of for a lease, or is wounded.

Two that share a row and both want it alone would wait for each other; under detect the second one is refused at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from processors.core.transactions.lock_book import LockBook, due_name
from processors.core.transactions.lock_modes import Thing, locks_of
from processors.core.transactions.lock_words import (
    REQUEST,
    SESSION,
    Ended,
    Outcome,
    Queued,
    Session,
    Waiting,
    Who,
)
from streams.core.at import At

__all__ = ["RowLocks"]


class RowLocks(LockBook):
    """The locks of one partition.

    Args:
        limits: What is refused.
    """

    # ---- asking

    def in_the_way(
        self, who: Who, writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any], *, promises: bool = False
    ) -> list[Who]:
        """Return the other transactions whose locks exclude what one writes, reads and scans.

        Args:
            who: Domain and transaction.
            writes: Rows that it writes.
            reads: Rows that it has read.
            spans: Prefixes that it has scanned.
            promises: Whether it will keep what it gets, and must not overtake those that wait: else who wants a row alone would
                wait for ever for promises that share it.
        """
        if not self.sessions or (len(self.sessions) == 1 and who in self.sessions):
            return []
        locks = locks_of(writes, reads, spans)
        found = {other for lock in locks for other in self._held.against(lock)}
        if promises and self.waiting:
            found |= self._queue.excluding(who, self._missing(who, locks))
        found.discard(who)
        return sorted(found)

    def owners(self, them: Iterable[Who]) -> list[str]:
        """Return the owners of transactions, so many as are told."""
        return sorted({self._owner_of(who) for who in them})[: self.limits.told_max]

    # ---- commands

    def lock(self, who: Who, asked: Waiting, request_id: str, at: At) -> list[Outcome]:
        """Ask for locks; the same request again is answered again.

        Args:
            who: Domain and transaction.
            asked: What is asked for; its place in the queue is set here.
            request_id: Names the request.
            at: The moment.
        """
        asked.who, asked.key, asked.order, asked.heard_ms = who, (who[0], request_id), at.token(), at.now_ms
        session = self.sessions.get(who)
        if (owner := self._owner_of(who, asked.owner)) != asked.owner:
            return [self._no(asked, "not_yours", f"it is a transaction of {owner}")]
        self._hear_of_session(asked, at)
        if (again := self._known(asked, at)) is not None:
            return [again]
        if session is not None and session.promised:
            return [self._no(asked, "promised", "it has promised its commit: it gets no locks")]
        asked.age_ms = self._age_of(who, asked.age_ms)
        asked.wants = self._missing(who, asked.locks)
        if (problem := self._too_much(asked)) is not None:
            return [self._no(asked, *problem)]
        self._enter(asked)
        if (problem := self._may_not_wait(asked, at)) is not None:
            behind = self._holders_first(asked)
            self._forget(asked)
            return [self._refuse(asked, problem[0], problem[1], behind, at)]
        outcomes: list[Outcome] = []
        self._settle(at, outcomes)
        return outcomes

    def promise(
        self, who: Who, owner: str, writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any], at: At
    ) -> list[Outcome]:
        """Give a transaction what it needs to keep its promise, without a lease; nothing may be in the way.

        Its requests that still wait are refused: it needs nothing any more. What came of others is returned.
        """
        outcomes: list[Outcome] = []
        age_ms = self._age_of(who, at.now_ms)
        self._end_requests(who, "promised", "its transaction has promised its commit: it gets no more locks", outcomes)
        session = self._session(who, owner, age_ms, at)
        session.lease_ms, session.promised = 0, True
        self._due.end(due_name(SESSION, who))
        for lock in locks_of(writes, reads, spans):
            self._hold(who, session, lock)
        self._settle(at, outcomes)
        return outcomes

    def keep(self, who: Who, owner: str, lease_ms: int, at: At) -> Session | None:
        """Let a transaction's locks hold for another lease; None where it has none."""
        for key in self._queue.of.get(who, ()):
            if self.waiting[key].owner == owner:
                self._hear(self.waiting[key], at)
        session = self.sessions.get(who)
        if session is None or session.owner != owner:
            return None
        if not session.promised:
            session.lease_ms, session.expires_ms = lease_ms, at.now_ms + lease_ms
            self._dirty.add((SESSION, *who))
            self._due.set(due_name(SESSION, who), session.expires_ms)
        return session

    def release(self, who: Who, at: At) -> list[Outcome]:
        """Take a transaction's locks and requests away; return what came of others, and of requests that waited."""
        self._refused.end(who)
        if who not in self.sessions and who not in self._queue.of:
            return []
        outcomes: list[Outcome] = []
        self._end_requests(who, "ended", "its transaction has ended", outcomes)
        self._drop(who)
        self._settle(at, outcomes)
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: leases end, and waits, each at its time, so that who is next has what a lease gave back before."""
        outcomes: list[Outcome] = []
        for name in self._due.take(at.now_ms):
            kind, domain, rest = name.split("\n")
            who = (domain, rest)
            if kind == SESSION:
                session = self.sessions[who]
                outcomes.append(Ended(who, session.owner, "expired", "its lease ended: nothing was heard of it", session.route))
                self._drop(who)
            else:
                one = self.waiting[who]
                behind = self._holders_first(one)
                self._forget(one)
                if one.due_ms is not None and one.due_ms <= at.now_ms:
                    outcomes.append(self._refuse(one, "timed_out", f"waited in vain for {', '.join(behind)}", behind, at))
                else:
                    text = f"nothing was heard of its client for {self.limits.unheard_ms // 1000} s"
                    outcomes.append(self._refuse(one, "expired", text, behind, at))
            self._settle(at, outcomes)
        return outcomes

    # ---- deciding

    def _known(self, asked: Waiting, at: At) -> Outcome | None:
        """Return the answer to a request that was asked before and has not been granted."""
        if (known := self.waiting.get(asked.key)) is not None:
            if known.txn != asked.txn:
                return self._no(asked, "id_reused", "another request has this id: give every request its own")
            known.route = asked.route or known.route
            self._hear(known, at)
            return Queued(known.who, asked.key[1], known.owner, known.route, list(known.behind), repeated=True)
        if (no := self._refused.get(asked.key)) is None:
            return None
        if no.txn != asked.txn:
            return self._no(asked, "id_reused", "another request has this id: give every request its own")
        answer = self._no(asked, no.code, no.reason)
        return answer._replace(waits_for=tuple(no.waits_for), repeated=True)

    def _too_much(self, asked: Waiting) -> tuple[str, str] | None:
        limits, session = self.limits, self.sessions.get(asked.who)
        most = limits.locks_max
        count = len(asked.wants) + (0 if session is None else len(session.locks))
        count += sum(len(self.waiting[key].wants) for key in self._queue.of.get(asked.who, ()))
        if count > most:
            return "too_large", f"a transaction has at most {most} locks: lock a prefix in place of its rows"
        if session is None and len(self.sessions) >= limits.sessions_max:
            return "full", f"{limits.sessions_max} transactions have locks on this partition: let some end"
        return None

    def _may_not_wait(self, one: Waiting, at: At) -> tuple[str, str] | None:
        """Return why a request is refused where it would have to wait."""
        if self._queue.is_free(one):
            return None
        limits = self.limits
        if one.due_ms is not None and one.due_ms <= at.now_ms:
            return "busy", f"{', '.join(self._holders_first(one))} has some of it"
        if len(self.waiting) > limits.waiting_max:
            return "queue_full", f"{limits.waiting_max} requests wait on this partition: try again when some have ended"
        if (full := self._queue.full(one.wants, limits.waiters_max + 1)) is not None:
            text = f"{limits.waiters_max} requests wait for {full[0]} {full[1]} already: try again when some have ended"
            return "queue_full", text
        if one.strategy == "detect" and (other := self._crossed(one)) is not None:
            text = f"{self._owner_of(other)} shares it and waits to have it alone, too: roll back, and let it go first"
            return "upgrade_deadlock", text
        return None

    def _crossed(self, one: Waiting) -> Who | None:
        """Return a holder that waits for more of what both have, so that each would wait for the other."""
        mine = self._has_some_of(one)
        for holder in sorted(one.holders) if mine else ():
            for key in self._queue.of.get(holder, ()):
                other = self.waiting[key]
                if one.who in other.holders and mine & self._has_some_of(other):
                    return holder
        return None

    def _has_some_of(self, one: Waiting) -> set[Thing]:
        session = self.sessions.get(one.who)
        return set() if session is None else {lock[:3] for lock in one.wants if lock[:3] in session.locks}

    def _settle(self, at: At, outcomes: list[Outcome]) -> None:
        """Grant what can be granted, let die and wound where the strategy says so, and tell who waits for others than before."""
        again = bool(self.waiting)
        while again:
            again = False
            for one in list(self.waiting.values()):
                if one.key not in self.waiting:
                    continue
                if self._queue.is_free(one):
                    self._forget(one)
                    self._grant(one, at, outcomes)
                    again = True
                elif one.strategy == "wait_die" and (older := self._older(one)):
                    self._forget(one)
                    text = f"{', '.join(older)} has some of it and is older: try again as old as this time"
                    outcomes.append(self._refuse(one, "died", text, older, at))
                    again = True
                elif one.strategy == "wound_wait" and (younger := self._younger(one)):
                    for other in younger:
                        session = self.sessions[other]
                        text = f"{one.owner} is older and needs some of its locks: try again as old as this time"
                        outcomes.append(Ended(other, session.owner, "wounded", text, session.route))
                        self._drop(other)
                    again = True
                    break  # who came before may have what they gave back
        for one in self._queue.stirred():
            behind = self.owners_told(self._queue.told(one, self.limits.told_max))
            if behind != one.behind:
                one.behind = behind
                self._dirty.add((REQUEST, *one.key))
                outcomes.append(Queued(one.who, one.key[1], one.owner, one.route, list(behind)))

    def _older(self, one: Waiting) -> list[str]:
        """Return the owners of older transactions that a request waits for."""
        them = {who for who in one.holders if self._age(who) < one.age}
        counted = (self.waiting[key] for key in self._queue.counted(one))
        them |= {other.who for other in counted if other.age < one.age}
        return self.owners(them)

    def _younger(self, one: Waiting) -> list[Who]:
        """Return younger transactions that have what a request waits for, and have not promised their commit."""
        return sorted(who for who in one.holders if self._age(who) > one.age and not self.sessions[who].promised)
