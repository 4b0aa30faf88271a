"""Row locks as plainly as they can be written: a list of grants and a list of requests, and everything is found by looking.

It does not say what has to happen next: it follows what the machine says, one outcome after the other, and says whether each was
allowed, and whether something that had to happen did not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from processors.core.transactions.lock_modes import Lock
from processors.core.transactions.lock_words import Ended, Granted, Outcome, Queued, Refused

WHOLE = {"shared", "exclusive"}


def within(one: Lock, other: Lock) -> bool:
    """Whether the rows of one are all rows of the other."""
    if one[0] != other[0]:
        return False
    return one[1].startswith(other[1]) if other[2] else one == (*other[:3], one[3])


def against(one: Lock, other: Lock) -> bool:
    """Whether two transactions must not have these.

    Both take a row, and one of them alone; or one takes all where the other says that it will take some.
    """
    if one[3] in WHOLE and other[3] in WHOLE:
        return (within(one, other) or within(other, one)) and "exclusive" in (one[3], other[3])
    if one[3] in WHOLE:
        return within(other, one) and (one[3] == "exclusive" or other[3] == "intend_exclusive")
    return other[3] in WHOLE and against(other, one)


@dataclass
class Asked:
    """A request that waits."""

    txn: str
    id: str
    locks: list[Lock]
    strategy: str
    age: tuple[int, str]
    due_ms: int | None
    lease_ms: int
    heard_ms: int
    behind: list[str] = field(default_factory=list)


@dataclass
class Oracle:
    """What is so, by what was said."""

    unheard_ms: int
    now_ms: int = 0
    grants: list[tuple[str, Lock]] = field(default_factory=list)
    waiting: list[Asked] = field(default_factory=list)
    expires: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    ages: dict[str, tuple[int, str]] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)

    # ---- looking

    def find(self, request_id: str) -> Asked | None:
        return next((one for one in self.waiting if one.id == request_id), None)

    def has(self, txn: str) -> list[Lock]:
        return [lock for who, lock in self.grants if who == txn]

    def wants(self, one: Asked) -> list[Lock]:
        """Of what it asks for, what its transaction has not in this mode."""
        has = self.has(one.txn)
        return [lock for lock in one.locks if not _has_already(has, lock)]

    def holders(self, one: Asked) -> set[str]:
        return {txn for txn, its in self.grants if txn != one.txn and any(against(lock, its) for lock in self.wants(one))}

    def ahead(self, one: Asked) -> list[Asked]:
        """Requests that go first: earlier ones; among those of wound_wait, those of older transactions."""
        found = []
        for other in self.waiting:
            if other.txn == one.txn or not any(against(a, b) for a in self.wants(one) for b in self.wants(other)):
                continue
            earlier = self.waiting.index(other) < self.waiting.index(one)
            if one.strategy == other.strategy == "wound_wait":
                earlier = other.age < one.age
            if earlier:
                found.append(other)
        return found

    def edges(self) -> dict[str, set[str]]:
        """Who waits for whom: for holders; and as they came for those ahead, unless that closes a circle."""
        found: dict[str, set[str]] = {}
        for one in self.waiting:
            found.setdefault(one.txn, set()).update(self.holders(one))
        for one in self.waiting:
            found[one.txn] |= {other.txn for other in self.ahead(one) if one.txn not in reached(found, other.txn)}
        return found

    def counted(self, one: Asked, edges: dict[str, set[str]] | None = None) -> list[Asked]:
        """Those ahead that do not wait for it."""
        edges = self.edges() if edges is None else edges
        return [other for other in self.ahead(one) if one.txn not in reached(edges, other.txn)]

    def blockers(self, one: Asked, edges: dict[str, set[str]]) -> set[str]:
        return self.holders(one) | {other.txn for other in self.counted(one, edges)}

    # ---- following

    def drop(self, txn: str) -> None:
        self.grants = [one for one in self.grants if one[0] != txn]
        self.waiting = [one for one in self.waiting if one.txn != txn]
        self.expires.pop(txn, None)
        self.promised.discard(txn)

    def follow(self, outcomes: list[Outcome]) -> None:
        """Take what was said, and complain about what was not allowed."""
        for said in outcomes:
            txn = said.who[1]
            if isinstance(said, Granted):
                one = self._waits(said.request_id)
                assert not self.holders(one), f"{txn} was granted {one.locks} beside {self.holders(one)}"
                assert not self.counted(one), f"{txn} was granted before {self.counted(one)}"
                assert said.locks == one.locks
                self.waiting.remove(one)
                self.grants += [(txn, lock) for lock in one.locks]
                self.leases[txn] = one.lease_ms
                self.expires[txn] = max(self.expires.get(txn, 0), self.now_ms + one.lease_ms)
            elif isinstance(said, Queued):
                self._waits(said.request_id).behind = said.behind
            elif isinstance(said, Refused):
                one = self._waits(said.request_id)
                self._allowed(one, said)
                self.waiting.remove(one)
            else:
                self._ended(said)
                self.drop(txn)

    def _waits(self, request_id: str) -> Asked:
        one = self.find(request_id)
        assert one is not None, f"{request_id} does not wait"
        return one

    def _allowed(self, one: Asked, said: Refused) -> None:
        blockers = self.blockers(one, self.edges())
        if said.code == "died":
            assert one.strategy == "wait_die"
            assert any(self.ages[txn] < one.age for txn in blockers)
        elif said.code == "busy":
            assert blockers
            assert 0 < (one.due_ms or 0) <= self.now_ms
        elif said.code == "timed_out":
            assert 0 < (one.due_ms or 0) <= self.now_ms
        elif said.code == "expired":
            assert one.heard_ms + self.unheard_ms <= self.now_ms
        elif said.code == "upgrade_deadlock":
            assert one.strategy == "detect"
            assert any(one.txn in self.holders(other) for other in self.waiting if other.txn in self.holders(one))
        else:
            assert said.code == "promised", said
            assert one.txn in self.promised

    def _ended(self, said: Ended) -> None:
        txn = said.who[1]
        assert txn not in self.promised, "a promise was broken"
        if said.code == "expired":
            assert self.expires[txn] <= self.now_ms
        else:
            older = [one for one in self.waiting if txn in self.holders(one) and one.age < self.ages[txn]]
            assert any(one.strategy == "wound_wait" for one in older), f"{txn} was wounded for nobody"

    # ---- complaining

    def check(self, strategies: set[str]) -> None:
        """Complain about what is so and must not be."""
        for who, lock in self.grants:
            for whose, its in self.grants:
                assert who == whose or not against(lock, its), f"{who} has {lock} and {whose} has {its}"
        edges = self.edges()
        real: dict[str, set[str]] = {}
        for one in self.waiting:
            blockers = self.blockers(one, edges)
            assert blockers, f"{one.txn} waits for nobody: {one.locks}"
            assert one.due_ms is None or one.due_ms > self.now_ms, f"{one.id} waits too long"
            real.setdefault(one.txn, set()).update(blockers)
        told: dict[str, set[str]] = {}
        for one in self.waiting:
            told.setdefault(one.txn, set()).update(owner.removeprefix("agent-") for owner in one.behind)
        for one in self.waiting:
            blockers = self.blockers(one, edges)
            said = {owner.removeprefix("agent-") for owner in one.behind}
            assert said <= blockers, f"{one.id} was told {said}, and waits for {blockers}"
            closure = said.union(*(reached(told, txn) for txn in said)) if said else set()
            assert blockers <= closure, f"{one.id} was told {said}, and waits for {blockers}"
            for other in self.counted(one, edges):
                assert one.txn not in reached(real, other.txn), "a queue has made a deadlock"
            if strategies == {"wait_die"}:
                assert all(self.ages[txn] > one.age for txn in blockers)
            if strategies == {"wound_wait"}:
                assert all(self.ages[txn] < one.age or txn in self.promised for txn in blockers)
        if len(strategies) == 1 and strategies != {"detect"}:
            for txn in real:
                assert txn not in reached(real, txn), f"{txn} waits for itself: {real}"


def reached(edges: dict[str, set[str]], start: str) -> set[str]:
    """Return where edges lead from a node; itself only where they lead back."""
    found: set[str] = set()
    left = [start]
    while left:
        for other in edges.get(left.pop(), ()):
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def _has_already(has: list[Lock], lock: Lock) -> bool:
    """Whether what a transaction has of just this row or span makes a mode needless: it excludes all that the mode does."""
    modes = {one[3] for one in has if one[:3] == lock[:3]}
    implied = {
        "exclusive": {"exclusive", "shared", "intend_exclusive", "intend_shared"},
        "shared": {"shared", "intend_shared"},
        "intend_exclusive": {"intend_exclusive", "intend_shared"},
        "intend_shared": {"intend_shared"},
    }
    return any(lock[3] in implied[mode] for mode in modes)
