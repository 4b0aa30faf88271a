"""Requests that wait for locks: whom for, and which of that counts.

A request waits for the transactions whose locks exclude what it wants (its *holders*), and for requests of others that want what
it excludes and go first (those *ahead*). First come, first served; under wound_wait an older transaction goes before a younger
one that waits under wound_wait, which it would have to wound otherwise.

Standing in a queue must not make a deadlock of its own. Who has a row of a prefix, and wants another one, would wait for who came
before and waits for the whole prefix, who waits for him:

    t1 has d/a        t2 wants d/ (shared): waits for t1        t1 wants d/b: t2 is ahead, and waits for t1

So those ahead that wait for one's own transaction do not count: they cannot have what they want before it ends, whatever it gets.
In the graph of transactions and whom they wait for, these are the ones in the same strongly connected component. It follows that
no cycle of waits that count contains a wait for somebody in the queue: what is left are deadlocks over locks that are held. An
upgrade goes before the queue by this rule, since the others wait for what its transaction has.

Whom a request is said to be behind is as little as tells the same: the nearest ahead, and not whom these are behind themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from processors.core.coordination.components import components
from processors.core.transactions.lock_modes import Lock
from processors.core.transactions.lock_places import Places
from processors.core.transactions.lock_words import Waiting, Who

__all__ = ["Queue"]


class Queue:
    """The requests that wait on one partition.

    Attributes:
        waiting: By domain and request id, in the order in which they came.
        of: By transaction, its requests.
        blocks: By transaction that has locks, the requests that it is a holder for.
        touched: Requests that wait for others than when this was emptied.
    """

    def __init__(self) -> None:
        self.waiting: dict[Who, Waiting] = {}
        self.of: dict[Who, dict[Who, None]] = {}
        self.blocks: dict[Who, set[Who]] = {}
        self.touched: set[Who] = set()
        self._places: Places[Who] = Places()
        self._wounding = 0
        self._knots: dict[Who, int] | None = {}
        self._were_tied = False

    # ---- changes

    def enter(self, one: Waiting, holders: Iterable[Who]) -> None:
        """Let a request wait; it came after all others that do.

        Args:
            one: The request.
            holders: Transactions whose locks exclude what it wants.
        """
        key, who, waiting = one.key, one.who, self.waiting
        for holder in holders:
            one.holders.add(holder)
            self.blocks.setdefault(holder, set()).add(key)
        for lock in one.wants:
            for other in self._places.against(lock):
                its = waiting[other]
                if its.who == who:
                    continue
                if _goes_first(one, its):
                    its.ahead.add(key)
                    one.followers.add(other)
                    self.touched.add(other)
                else:
                    one.ahead.add(other)
                    its.followers.add(key)
        waiting[key] = one
        self.of.setdefault(who, {})[key] = None
        for table, name, span, mode in one.wants:
            self._places.put((table, name, span), key, mode)
        self._wounding += one.strategy == "wound_wait"
        self.touched.add(key)
        self._knots = None

    def leave(self, one: Waiting) -> None:
        """Let a request wait no more."""
        key = one.key
        del self.waiting[key]
        mine = self.of[one.who]
        del mine[key]
        if not mine:
            del self.of[one.who]
        for table, name, span, _ in one.wants:
            self._places.remove((table, name, span), key)
        for other in one.ahead:
            self.waiting[other].followers.discard(key)
        for other in one.followers:
            self.waiting[other].ahead.discard(key)
        self.touched |= one.followers
        self.touched.discard(key)
        for holder in one.holders:
            self._unblock(holder, key)
        self._wounding -= one.strategy == "wound_wait"
        self._knots = None

    def held(self, who: Who, lock: Lock) -> None:
        """Note that a transaction has a lock now."""
        waiting = self.waiting
        if not waiting:
            return
        for key in self._places.against(lock):
            one = waiting[key]
            if one.who != who and who not in one.holders:
                one.holders.add(who)
                self.blocks.setdefault(who, set()).add(key)
                self.touched.add(key)
                self._knots = None

    def freed(self, who: Who) -> None:
        """Note that a transaction has no locks any more."""
        for key in self.blocks.pop(who, ()):
            self.waiting[key].holders.discard(who)
            self.touched.add(key)
            self._knots = None

    def _unblock(self, holder: Who, key: Who) -> None:
        its = self.blocks[holder]
        its.discard(key)
        if not its:
            del self.blocks[holder]

    # ---- questions

    def full(self, wants: Collection[Lock], most: int) -> Lock | None:
        """Return a lock that as many wait for as may."""
        return next((one for one in wants if self._places.count(one[:3]) >= most), None)

    def counted(self, one: Waiting) -> set[Who]:
        """Return those ahead of a request that count."""
        knots = self._components()
        if not knots or not one.ahead:
            return one.ahead
        mine = knots[one.who]
        return {key for key in one.ahead if knots[self.waiting[key].who] != mine}

    def is_free(self, one: Waiting) -> bool:
        """Return whether a request waits for nobody."""
        return not one.holders and (not one.ahead or not self.counted(one))

    def told(self, one: Waiting) -> list[Who]:
        """Return the transactions that a request is told it waits for: with what those are told, it is all that it waits for."""
        waiting = self.waiting
        left = set(self.counted(one))
        holders = set(one.holders)
        near = []
        while left:
            key = max(left, key=lambda key: waiting[key].order)
            nearest = waiting[key]
            near.append(nearest.who)
            left.discard(key)
            left -= self.counted(nearest)
            holders -= nearest.holders
        return sorted(holders) + [who for who in dict.fromkeys(near) if who not in holders]

    def stirred(self) -> list[Waiting]:
        """Return the requests that may have to be told other owners than before, and forget that they have been touched."""
        waiting = self.waiting
        are_tied = bool(self._components())
        keys = set(self.touched)
        for key in self.touched:
            keys |= waiting[key].followers
        if are_tied or self._were_tied:  # which of those ahead count may have changed for anybody
            keys = set(waiting)
        self._were_tied, self.touched = are_tied, set()
        return sorted((waiting[key] for key in keys), key=lambda one: one.order)

    def excluding(self, who: Who, locks: Iterable[Lock]) -> set[Who]:
        """Return the other transactions with requests that exclude a lock, and do not wait for this transaction themselves."""
        found = {self.waiting[key].who for lock in locks for key in self._places.against(lock)}
        found.discard(who)
        return {other for other in found if not self._reaches(other, who)} if who in self.blocks or who in self.of else found

    # ---- inside

    def _reaches(self, start: Who, goal: Who) -> bool:
        seen, left = {start}, [start]
        while left:
            for other in self._leads(left.pop()):
                if other == goal:
                    return True
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        return False

    def _leads(self, who: Who) -> set[Who]:
        """Return all whom a transaction waits for, counted or not."""
        found: set[Who] = set()
        for key in self.of.get(who, ()):
            one = self.waiting[key]
            found |= one.holders
            found.update(self.waiting[other].who for other in one.ahead)
        return found

    def _components(self) -> dict[Who, int]:
        """Return the number of each waiting transaction's component; empty where each is one of its own."""
        if self._knots is None:
            self._knots = self._tied() if self._may_be_tied() else {}
        return self._knots

    def _may_be_tied(self) -> bool:
        """Whether waits may be circular: without holders that wait themselves the queue's order is the only one."""
        if 0 < self._wounding < len(self.waiting):
            return True
        return any(who in self.blocks or len(mine) > 1 for who, mine in self.of.items())

    def _tied(self) -> dict[Who, int]:
        graph = {who: self._leads(who) & self.of.keys() for who in self.of}
        parts = components(graph)
        if len(parts) == len(graph):
            return {}
        return {who: number for number, part in enumerate(parts) for who in part}


def _goes_first(one: Waiting, before: Waiting) -> bool:
    """Whether a request goes before one that came earlier."""
    return one.strategy == before.strategy == "wound_wait" and one.age < before.age
