"""Who has which locks and who waits: what the row locks consist of, and the small steps that change it.

All of it is in rows (see `lock_words`); whom a request waits for follows from them. What has changed is noted with each step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from processors.core.transactions.lock_modes import Lock, Thing, covers, joined
from processors.core.transactions.lock_places import Places
from processors.core.transactions.lock_queue import Queue
from processors.core.transactions.lock_refused import RefusedRequests
from processors.core.transactions.lock_words import (
    REFUSED,
    REQUEST,
    SESSION,
    Granted,
    LockLimits,
    No,
    Outcome,
    Refused,
    Session,
    Waiting,
    Who,
)
from streams.core.at import At, Deadlines

__all__ = ["LockBook", "due_name"]


class LockBook:
    """A base of `RowLocks`.

    Args:
        limits: What is refused.
    """

    def __init__(self, limits: LockLimits | None = None) -> None:
        self.limits = limits or LockLimits()
        self.sessions: dict[Who, Session] = {}
        self._held: Places[Who] = Places()
        self._queue = Queue()
        self.waiting = self._queue.waiting
        """By domain and request id, in the order in which they came."""
        self._refused = RefusedRequests(self.limits.refused_max)
        self._due = Deadlines()
        self._dirty: set[tuple[str, str, str]] = set()

    # ---- state

    def load(self, rows: Iterable[tuple[tuple[Any, ...], list[Any]]]) -> None:
        """Take rows, in any order."""
        waiting, refused = [], []
        for (kind, domain, name), row in rows:
            who = (domain, name)
            if kind == SESSION:
                session = self.sessions[who] = Session.of(row)
                for thing, mode in session.locks.items():
                    self._held.put(thing, who, mode)
                if session.lease_ms:
                    self._due.set(due_name(SESSION, who), session.expires_ms)
            elif kind == REQUEST:
                waiting.append(Waiting.of(who, row))
            else:
                refused.append((who, No(*row)))
        for one in sorted(waiting, key=lambda one: one.order):
            self._enter(one)
        self._queue.stirred()
        self._refused.load(refused)
        self._dirty = set()

    def changes(self) -> Iterator[tuple[tuple[str, ...], list[Any] | None]]:
        """Yield the rows that have changed since the last call, None for those that are gone."""
        for kind, domain, name in sorted(self._dirty):
            kept = (self.sessions if kind == SESSION else self.waiting).get((domain, name))
            yield (kind, domain, name), None if kept is None else kept.row()
        self._dirty = set()
        for (domain, name), no in self._refused.changes():
            yield (REFUSED, domain, name), None if no is None else list(no)

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do."""
        return self._due.next_ms()

    # ---- doing

    def _enter(self, one: Waiting) -> None:
        self._queue.enter(one, {who for lock in one.wants for who in self._held.against(lock) if who != one.who})
        self._dirty.add((REQUEST, *one.key))
        self._set_due(one)

    def _hear_of_session(self, asked: Waiting, at: At) -> None:
        """Let a transaction's locks hold for another lease where it asks for something."""
        session = self.sessions.get(asked.who)
        if session is None or session.promised or session.owner != asked.owner:
            return
        session.route = asked.route or session.route
        session.expires_ms = max(session.expires_ms, at.now_ms + session.lease_ms)
        self._due.set(due_name(SESSION, asked.who), session.expires_ms)
        self._dirty.add((SESSION, *asked.who))

    def _hear(self, one: Waiting, at: At) -> None:
        one.heard_ms = at.now_ms
        self._dirty.add((REQUEST, *one.key))
        self._set_due(one)

    def _set_due(self, one: Waiting) -> None:
        unheard_ms = one.heard_ms + self.limits.unheard_ms
        self._due.set(due_name(REQUEST, one.key), unheard_ms if one.due_ms is None else min(one.due_ms, unheard_ms))

    def _grant(self, one: Waiting, at: At, outcomes: list[Outcome]) -> None:
        session = self._session(one.who, one.owner, one.age_ms, at)
        session.lease_ms, session.route = one.lease_ms, one.route
        session.expires_ms = max(session.expires_ms, at.now_ms + one.lease_ms)
        self._due.set(due_name(SESSION, one.who), session.expires_ms)
        for lock in one.wants:
            self._hold(one.who, session, lock)
        outcomes.append(Granted(one.who, one.key[1], one.owner, one.route, at.offset + 1, list(one.locks), one.lease_ms))

    def _session(self, who: Who, owner: str, age_ms: int, at: At) -> Session:
        session = self.sessions.get(who)
        if session is None:
            session = self.sessions[who] = Session(owner, age_ms, 0, 0, at.offset + 1)
        self._dirty.add((SESSION, *who))
        return session

    def _hold(self, who: Who, session: Session, lock: Lock) -> None:
        thing, had = lock[:3], session.locks.get(lock[:3])
        mode = lock[3] if had is None else joined(had, lock[3])
        if mode != had:
            session.locks[thing] = mode
            self._held.put(thing, who, mode)
            self._queue.held(who, (*thing, mode))

    def _drop(self, who: Who) -> None:
        """Take a transaction's locks and requests away."""
        self._refused.end(who)
        for key in list(self._queue.of.get(who, ())):
            self._forget(self.waiting[key])
        session = self.sessions.pop(who, None)
        if session is None:
            return
        self._dirty.add((SESSION, *who))
        self._due.end(due_name(SESSION, who))
        for thing in session.locks:
            self._held.remove(thing, who)
        self._queue.freed(who)

    def _forget(self, one: Waiting) -> None:
        """Let a request wait no more."""
        self._queue.leave(one)
        self._due.end(due_name(REQUEST, one.key))
        self._dirty.add((REQUEST, *one.key))

    def _end_requests(self, who: Who, code: str, reason: str, outcomes: list[Outcome]) -> None:
        for key in sorted(self._queue.of.get(who, ())):
            one = self.waiting[key]
            self._forget(one)
            outcomes.append(self._no(one, code, reason))

    def _refuse(self, one: Waiting, code: str, reason: str, waits_for: list[str], at: At) -> Refused:
        """Refuse a request, and remember it for who asks again."""
        self._refused.add(one.key, No(one.txn, at.token(), code, reason, waits_for))
        return self._no(one, code, reason)._replace(waits_for=tuple(waits_for))

    @staticmethod
    def _no(one: Waiting, code: str, reason: str) -> Refused:
        return Refused(one.who, one.key[1], one.owner, one.route, code, reason)

    def _missing(self, who: Who, asked: list[Lock]) -> list[Lock]:
        """Return the locks that a transaction does not have yet, one of each thing."""
        wanted: dict[Thing, str] = {}
        session = self.sessions.get(who)
        held = {} if session is None else session.locks
        for table, name, span, mode in asked:
            thing = (table, name, span)
            if thing not in held or not covers(held[thing], mode):
                wanted[thing] = joined(wanted[thing], mode) if thing in wanted else mode
        return [(*thing, mode) for thing, mode in wanted.items()]

    # ---- who

    def _age(self, holder: Who) -> tuple[int, str]:
        return self.sessions[holder].age_ms, holder[1]

    def _age_of(self, who: Who, asked_ms: int) -> int:
        """Return the age that a transaction has here already, or the one that it says: an age that moved might close a cycle."""
        if who in self.sessions:
            return self.sessions[who].age_ms
        return next((self.waiting[key].age_ms for key in self._queue.of.get(who, ())), asked_ms)

    def owners_told(self, them: Iterable[Who]) -> list[str]:
        """Return the owners of transactions, the nearest as many as are told."""
        return sorted(list(dict.fromkeys(self._owner_of(who) for who in them))[: self.limits.told_max])

    def _holders_first(self, one: Waiting) -> list[str]:
        """Return the owners that a request waits for, those that have what it wants before those that wait for it."""
        return self.owners_told([*sorted(one.holders), *self._queue.told(one, self.limits.told_max)])

    def _owner_of(self, who: Who, default: str = "") -> str:
        if who in self.sessions:
            return self.sessions[who].owner
        return next((self.waiting[key].owner for key in self._queue.of.get(who, ())), default)


def due_name(kind: str, who: Who) -> str:
    """Return what a deadline is called."""
    return f"{kind}\n{who[0]}\n{who[1]}"
