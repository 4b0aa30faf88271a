"""Two-phase locking of rows: who has which, who waits for whom, and who gives up.

    ["l", domain, txn]      what it has: [owner, age, lease, expires, position, promised, route, [[table, key, span, mode], ...]]
    ["q", domain, request id]   what it waits for: [txn, owner, age, strategy, due, lease, route, order, [owners], [locks]]

A transaction gets its locks one request after the other and gives all of them back when it ends. Requests are served in their
order: one waits for the locks of others that exclude its own, and for earlier requests that do. One that wants more of what its
transaction has already goes before the others, since they wait for it anyway.

    strategy     an older transaction asks a younger one's      a younger one asks an older one's
    wait_die     it waits                                       it dies: refused, and tries again with its old age
    wound_wait   the younger one is rolled back ("wounded")     it waits
    detect       it waits, and says for whom: cycles are found by the deadlocks processor

The age is that of its first attempt, so that everybody becomes the oldest in time. A transaction that has promised its commit
cannot be wounded: it is waited for, and needs nothing any more. Under wait_die all waits are for younger ones, under wound_wait
for older or promised ones, so there is no cycle. (Rosenkrantz, Stearns and Lewis 1978, "System level concurrency control for
distributed database systems".)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from processors.core.transactions.lock_modes import Lock, excludes, locks_of, stronger
from processors.core.transactions.lock_words import (
    REQUEST,
    SESSION,
    Ended,
    Granted,
    LockLimits,
    Outcome,
    Queued,
    Refused,
    Session,
    Waiting,
    Who,
)
from streams.core.at import At, Deadlines

__all__ = ["RowLocks"]


class RowLocks:
    """The locks of one partition.

    Args:
        limits: What is refused.
    """

    def __init__(self, limits: LockLimits | None = None) -> None:
        self.limits = limits or LockLimits()
        self.sessions: dict[Who, Session] = {}
        self.waiting: dict[Who, Waiting] = {}
        """By domain and request id, in the order in which they are served."""
        self._rows: dict[tuple[str, str], dict[Who, str]] = {}
        self._spans: dict[str, dict[str, dict[Who, str]]] = {}
        self._due = Deadlines()
        self._dirty: set[tuple[str, ...]] = set()

    # ---- state

    def load(self, rows: Iterable[tuple[tuple[Any, ...], list[Any]]]) -> None:
        """Take rows, in any order."""
        waiting = []
        for (kind, domain, name), row in rows:
            who = (domain, name)
            if kind == SESSION:
                session = self.sessions[who] = Session.of(row)
                for thing, mode in session.locks.items():
                    self._put(who, thing, mode)
                if session.lease_ms:
                    self._due.set(f"{SESSION}\n{domain}\n{name}", session.expires_ms)
            else:
                waiting.append((row[7], who, row))
        for _, who, row in sorted(waiting):
            one = self.waiting[who] = Waiting.of(row)
            if one.due_ms is not None:
                self._due.set(f"{REQUEST}\n{who[0]}\n{who[1]}", one.due_ms)

    def changes(self) -> Iterator[tuple[tuple[str, ...], list[Any] | None]]:
        """Yield the rows that have changed since the last call, None for those that are gone."""
        for key in sorted(self._dirty):
            who = key[1], key[2]
            kept = self.sessions.get(who) if key[0] == SESSION else self.waiting.get(who)
            yield key, None if kept is None else kept.row()
        self._dirty = set()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do."""
        return self._due.next_ms()

    # ---- asking

    def in_the_way(self, who: Who, writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any]) -> list[Who]:
        """Return the other transactions whose locks exclude what one writes, reads and scans."""
        if not self.sessions or (len(self.sessions) == 1 and who in self.sessions):
            return []
        found: dict[Who, None] = {}
        for lock in locks_of(writes, reads, spans):
            found.update(dict.fromkeys(self._holders(who, lock)))
        return list(found)

    def owners(self, them: Iterable[Who]) -> list[str]:
        """Return the owners of transactions, so many as are told."""
        return sorted({self.sessions[who].owner for who in them})[: self.limits.told_max]

    # ---- commands

    def lock(self, who: Who, asked: Waiting, request_id: str, at: At) -> list[Outcome]:
        """Ask for locks; the same request again is answered again.

        Args:
            who: Domain and transaction.
            asked: What is asked for; its order is set here.
            request_id: Names the request.
            at: The moment.
        """
        key, session = (who[0], request_id), self.sessions.get(who)
        if (known := self.waiting.get(key)) is not None:
            known.route = asked.route or known.route
            self._dirty.add((REQUEST, *key))
            return [Queued(who, request_id, known.owner, known.route, list(known.behind), repeated=True)]
        if session is not None and session.promised:
            return [
                Refused(who, request_id, asked.owner, asked.route, "promised", "it has promised its commit: it gets no locks")
            ]
        if session is not None and session.owner != asked.owner:
            return [Refused(who, request_id, asked.owner, asked.route, "not_yours", f"it is a transaction of {session.owner}")]
        new = self._missing(session, asked.locks)
        if problem := self._too_much(session, new):
            return [Refused(who, request_id, asked.owner, asked.route, *problem)]
        asked.locks = new
        outcomes: list[Outcome] = []
        if not self._waits_for(who, asked, None):
            self._grant(who, request_id, asked, at, outcomes)
            self._settle(at, outcomes)  # what it has more than before may be in the way of who waits
            return outcomes
        if asked.due_ms is not None and asked.due_ms <= at.now_ms:
            behind = self._behind(who, asked, None)
            return [
                Refused(who, request_id, asked.owner, asked.route, "busy", f"{', '.join(behind)} has some of it", tuple(behind))
            ]
        if len(self.waiting) >= self.limits.waiting_max:
            text = f"{self.limits.waiting_max} requests wait on this partition: try again when some have ended"
            return [Refused(who, request_id, asked.owner, asked.route, "queue_full", text)]
        asked.order = at.token()
        self.waiting[key] = asked
        self._dirty.add((REQUEST, *key))
        if asked.due_ms is not None:
            self._due.set(f"{REQUEST}\n{key[0]}\n{key[1]}", asked.due_ms)
        self._settle(at, outcomes)
        return outcomes

    def promise(self, who: Who, owner: str, writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any], at: At) -> None:
        """Give a transaction what it needs to keep its promise, without a lease; nothing may be in the way."""
        session = self._session(who, owner, at)
        session.lease_ms, session.promised = 0, True
        self._due.end(f"{SESSION}\n{who[0]}\n{who[1]}")
        for lock in locks_of(writes, reads, spans):
            self._hold(who, session, lock)

    def keep(self, who: Who, owner: str, lease_ms: int, at: At) -> Session | None:
        """Let a transaction's locks hold for another lease; None where it has none."""
        session = self.sessions.get(who)
        if session is None or session.owner != owner:
            return None
        if not session.promised:
            session.lease_ms, session.expires_ms = lease_ms, at.now_ms + lease_ms
            self._dirty.add((SESSION, *who))
            self._due.set(f"{SESSION}\n{who[0]}\n{who[1]}", session.expires_ms)
        return session

    def release(self, who: Who, at: At) -> list[Outcome]:
        """Take a transaction's locks and requests away; return what came of others."""
        if who not in self.sessions and not any(key[0] == who[0] and one.txn == who[1] for key, one in self.waiting.items()):
            return []
        outcomes: list[Outcome] = []
        self._drop(who)
        self._settle(at, outcomes)
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: leases end, and waits."""
        outcomes: list[Outcome] = []
        for name in list(self._due.take(at.now_ms)):
            kind, domain, rest = name.split("\n")
            if kind == SESSION:
                session = self.sessions[domain, rest]
                outcomes.append(Ended((domain, rest), session.owner, "expired", "its lease ended: nothing was heard of it", ""))
                self._drop((domain, rest))
            elif (one := self.waiting.pop((domain, rest), None)) is not None:
                self._dirty.add((REQUEST, domain, rest))
                behind = self._behind((domain, one.txn), one, None)
                text = f"waited in vain for {', '.join(behind)}"
                who = (domain, one.txn)
                outcomes.append(Refused(who, rest, one.owner, one.route, "timed_out", text, tuple(behind)))
        if outcomes:
            self._settle(at, outcomes)
        return outcomes

    # ---- inside

    def _settle(self, at: At, outcomes: list[Outcome]) -> None:
        """Grant what can be granted, let die and wound where the strategy says so, and tell who waits for others than before."""
        again = True
        while again:
            again = False
            for key, one in list(self.waiting.items()):
                if key not in self.waiting:
                    continue
                who = (key[0], one.txn)
                blockers = self._waits_for(who, one, key)
                if not blockers:
                    self._forget(key)
                    self._grant(who, key[1], one, at, outcomes)
                elif one.strategy == "wait_die" and (older := self._older(who, one, blockers)):
                    self._forget(key)
                    text = f"{self._owner_of(older[0])} has some of it and is older: try again as old as this time"
                    outcomes.append(Refused(who, key[1], one.owner, one.route, "died", text, tuple(self._told(blockers))))
                    again = True
                elif one.strategy == "wound_wait" and (younger := self._younger(who, one, blockers)):
                    for other in younger:
                        owner = self._owner_of(other)
                        route = self._route_of(other)
                        self._drop(other)
                        text = f"{one.owner} is older and needs some of its locks: try again as old as this time"
                        outcomes.append(Ended(other, owner, "wounded", text, route))
                    again = True
                    break
        for key, one in self.waiting.items():
            behind = self._behind((key[0], one.txn), one, key)
            if behind != one.behind:
                one.behind = behind
                self._dirty.add((REQUEST, *key))
                outcomes.append(Queued((key[0], one.txn), key[1], one.owner, one.route, list(behind)))

    def _waits_for(self, who: Who, asked: Waiting, key: Who | None) -> list[Who]:
        """Return the transactions that a request waits for: holders, and those of earlier requests."""
        found: dict[Who, None] = {}
        session = self.sessions.get(who)
        for lock in asked.locks:
            found.update(dict.fromkeys(self._holders(who, lock)))
        for other, one in self.waiting.items():
            if other == key:
                break
            theirs = (other[0], one.txn)
            if theirs == who or theirs in found:
                continue
            if any(excludes(lock, its) and not _wants_more(session, lock) for lock in asked.locks for its in one.locks):
                found[theirs] = None
        return sorted(found)  # not as they were put in: a reload puts them in another order

    def _holders(self, who: Who, lock: Lock) -> Iterator[Who]:
        table, key, span, _ = lock
        for prefix, holders in self._spans.get(table, {}).items():
            if key.startswith(prefix) or (span and prefix.startswith(key)):
                for other, mode in holders.items():
                    if other != who and excludes(lock, (table, prefix, True, mode)):
                        yield other
        if span:
            for (its, row), holders in self._rows.items():
                if its == table and row.startswith(key):
                    for other, mode in holders.items():
                        if other != who and excludes(lock, (table, row, False, mode)):
                            yield other
        else:
            for other, mode in self._rows.get((table, key), {}).items():
                if other != who and excludes(lock, (table, key, False, mode)):
                    yield other

    def _grant(self, who: Who, request_id: str, asked: Waiting, at: At, outcomes: list[Outcome]) -> None:
        session = self._session(who, asked.owner, at)
        session.age_ms, session.lease_ms, session.route = asked.age_ms, asked.lease_ms, asked.route
        session.expires_ms = at.now_ms + asked.lease_ms
        self._due.set(f"{SESSION}\n{who[0]}\n{who[1]}", session.expires_ms)
        for lock in asked.locks:
            self._hold(who, session, lock)
        outcomes.append(Granted(who, request_id, asked.owner, asked.route, at.offset + 1, list(asked.locks), asked.lease_ms))

    def _session(self, who: Who, owner: str, at: At) -> Session:
        session = self.sessions.get(who)
        if session is None:
            session = self.sessions[who] = Session(owner, at.now_ms, 0, 0, at.offset + 1)
        self._dirty.add((SESSION, *who))
        return session

    def _hold(self, who: Who, session: Session, lock: Lock) -> None:
        thing = lock[:3]
        held = session.locks.get(thing)
        mode = lock[3] if held is None else stronger(held, lock[3])
        session.locks[thing] = mode
        self._put(who, thing, mode)

    def _put(self, who: Who, thing: tuple[str, str, bool], mode: str) -> None:
        table, key, span = thing
        holders = self._spans.setdefault(table, {}).setdefault(key, {}) if span else self._rows.setdefault((table, key), {})
        holders[who] = mode

    def _drop(self, who: Who) -> None:
        for key, one in list(self.waiting.items()):
            if key[0] == who[0] and one.txn == who[1]:
                self._forget(key)
        session = self.sessions.pop(who, None)
        if session is None:
            return
        self._dirty.add((SESSION, *who))
        self._due.end(f"{SESSION}\n{who[0]}\n{who[1]}")
        for table, name, span in session.locks:
            if not span:
                holders = self._rows[table, name]
                del holders[who]
                if not holders:
                    del self._rows[table, name]
                continue
            spans = self._spans[table]
            del spans[name][who]
            if not spans[name]:
                del spans[name]
            if not spans:
                del self._spans[table]

    def _forget(self, key: Who) -> None:
        del self.waiting[key]
        self._due.end(f"{REQUEST}\n{key[0]}\n{key[1]}")
        self._dirty.add((REQUEST, *key))

    @staticmethod
    def _missing(session: Session | None, asked: list[Lock]) -> list[Lock]:
        """Return the locks that a transaction does not have yet, each in the mode that it will then be held in."""
        wanted: dict[tuple[str, str, bool], str] = {}
        held = {} if session is None else session.locks
        for table, key, span, mode in asked:
            thing = (table, key, span)
            before = wanted.get(thing) or held.get(thing)
            wanted[thing] = mode if before is None else stronger(before, mode)
        return [(*thing, mode) for thing, mode in wanted.items() if held.get(thing) != mode]

    def _too_much(self, session: Session | None, new: list[Lock]) -> tuple[str, str] | None:
        if len(new) + (0 if session is None else len(session.locks)) > self.limits.locks_max:
            return "too_large", f"a transaction has at most {self.limits.locks_max} locks: lock a prefix in place of its rows"
        if session is None and new and len(self.sessions) >= self.limits.sessions_max:
            return "full", f"{self.limits.sessions_max} transactions have locks on this partition: let some end"
        return None

    def _age(self, who: Who) -> tuple[int, str]:
        session = self.sessions.get(who)
        if session is not None:
            return session.age_ms, who[1]
        return next((one.age_ms, who[1]) for key, one in self.waiting.items() if (key[0], one.txn) == who)

    def _older(self, who: Who, one: Waiting, blockers: list[Who]) -> list[Who]:
        return [other for other in blockers if self._age(other) < (one.age_ms, who[1])]

    def _younger(self, who: Who, one: Waiting, blockers: list[Who]) -> list[Who]:
        return [
            other
            for other in blockers
            if self._age(other) > (one.age_ms, who[1]) and not ((its := self.sessions.get(other)) and its.promised)
        ]

    def _owner_of(self, who: Who) -> str:
        session = self.sessions.get(who)
        if session is not None:
            return session.owner
        return next(one.owner for key, one in self.waiting.items() if (key[0], one.txn) == who)

    def _route_of(self, who: Who) -> str:
        found = next((one.route for key, one in self.waiting.items() if (key[0], one.txn) == who), "")
        session = self.sessions.get(who)
        return found or ("" if session is None else session.route)

    def _told(self, them: Iterable[Who]) -> list[str]:
        return sorted({self._owner_of(who) for who in them})[: self.limits.told_max]

    def _behind(self, who: Who, one: Waiting, key: Who | None) -> list[str]:
        return self._told(self._waits_for(who, one, key))


def _wants_more(session: Session | None, lock: Lock) -> bool:
    return session is not None and lock[:3] in session.locks
