"""Requests that wait for locks: whom for, and which of that counts.

A request waits for the transactions whose locks exclude what it wants (its *holders*), and for requests of others that want what
it excludes and go first (those *ahead*). First come, first served; under wound_wait an older transaction goes before a younger
one that waits under wound_wait, which it would have to wound otherwise.

Standing in a queue must not make a deadlock of its own. Who has a row of a prefix, and wants another one, would wait for who came
before and waits for the whole prefix, who waits for him:

    t1 has d/a        t2 wants d/ (shared): waits for t1        t1 wants d/b: t2 is ahead, and waits for t1

So those ahead that wait for one's own transaction do not count: they cannot have what they want before it ends, whatever it gets.
Waits for holders count always; then, request by request as they came, those for requests ahead, unless whoever is ahead waits for
this transaction by what counts so far. It follows that no cycle of waits has one in it that is for somebody in the queue: the
last of these to be counted would have closed it. What is left are deadlocks over locks that are held. An upgrade goes before the
queue by this rule, since the others wait for what its transaction has.

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
        self._passed: dict[Who, set[Who]] | None = {}
        """By request, those ahead that do not count for it; None: it has to be found out anew."""
        self._circular = False
        """Whether there may be circles of waits, before what does not count is left out: without them, all counts."""
        self._told_passed: dict[Who, set[Who]] = {}

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
        others = {other for lock in one.wants for other in self._places.against(lock)}
        for its in sorted((waiting[other] for other in others), key=_order):
            if its.who == who:
                continue
            if _goes_first(one, its):
                its.ahead[key] = None
                one.followers.add(its.key)
                self.touched.add(its.key)
            else:
                one.ahead[its.key] = None
                its.followers.add(key)
        waiting[key] = one
        self.of.setdefault(who, {})[key] = None
        for table, name, span, mode in one.wants:
            self._places.put((table, name, span), key, mode)
        self.touched.add(key)
        if who in self.blocks or one.followers or len(self.of[who]) > 1:
            self._look_for_circle(who)
        self._changed()

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
            del self.waiting[other].ahead[key]
        self.touched |= one.followers
        self.touched.discard(key)
        for holder in one.holders:
            self._unblock(holder, key)
        self._changed()

    def held(self, who: Who, lock: Lock) -> None:
        """Note that a transaction has a lock now.

        That closes no circle: who waits for it now had its request ahead, or was passed over by it, and then there was one.
        """
        waiting = self.waiting
        if not waiting:
            return
        for key in self._places.against(lock):
            one = waiting[key]
            if one.who != who and who not in one.holders:
                one.holders.add(who)
                self.blocks.setdefault(who, set()).add(key)
                self.touched.add(key)
        self._changed()

    def freed(self, who: Who) -> None:
        """Note that a transaction has no locks any more."""
        for key in self.blocks.pop(who, ()):
            self.waiting[key].holders.discard(who)
            self.touched.add(key)
        self._changed()

    def _unblock(self, holder: Who, key: Who) -> None:
        its = self.blocks[holder]
        its.discard(key)
        if not its:
            del self.blocks[holder]

    # ---- questions

    def full(self, wants: Collection[Lock], most: int) -> Lock | None:
        """Return a lock that as many wait for as may."""
        return next((one for one in wants if self._places.count(one[:3]) >= most), None)

    def counted(self, one: Waiting) -> dict[Who, None]:
        """Return those ahead of a request that count, in the order in which they came."""
        passed = self._all_passed().get(one.key)
        return {key: None for key in one.ahead if key not in passed} if passed else one.ahead

    def is_free(self, one: Waiting) -> bool:
        """Return whether a request waits for nobody."""
        return not one.holders and (not one.ahead or not self.counted(one))

    def told(self, one: Waiting, most: int) -> list[Who]:
        """Return the transactions that a request is told it waits for: with what those are told, it is all that it waits for.

        Args:
            one: The request.
            most: How many of those ahead are looked for.
        """
        waiting = self.waiting
        near: dict[Who, None] = {}
        covered: set[Who] = set()
        holders = set(one.holders)
        for key in reversed(self.counted(one)):
            if key not in covered:
                nearest = waiting[key]
                near[nearest.who] = None
                holders -= nearest.holders
                covered.update(self.counted(nearest))
                if len(near) >= most:
                    break
        return sorted(holders) + [who for who in near if who not in holders]

    def stirred(self) -> list[Waiting]:
        """Return the requests that may have to be told other owners than before, and forget that they have been touched."""
        waiting = self.waiting
        before, now = self._told_passed, self._all_passed()
        if before or now:
            self.touched.update(key for key in before.keys() | now.keys() if key in waiting and before.get(key) != now.get(key))
        keys = set(self.touched)
        for key in self.touched:
            keys |= waiting[key].followers
        self.touched, self._told_passed = set(), now
        return sorted((waiting[key] for key in keys), key=_order)

    def excluding(self, who: Who, locks: Iterable[Lock]) -> set[Who]:
        """Return the other transactions with requests that exclude a lock, and do not wait for this transaction themselves."""
        found = {self.waiting[key].who for lock in locks for key in self._places.against(lock)}
        found.discard(who)
        return {other for other in found if not self._reaches(other, who)} if who in self.blocks or who in self.of else found

    # ---- inside

    def _reaches(self, start: Who, goal: Who) -> bool:
        """Whether a transaction waits for another one, by what counts."""
        seen, left = {start}, [start]
        while left:
            for key in self.of.get(left.pop(), ()):
                one = self.waiting[key]
                for other in one.holders | {self.waiting[ahead].who for ahead in self.counted(one)}:
                    if other == goal:
                        return True
                    if other not in seen:
                        seen.add(other)
                        left.append(other)
        return False

    def _changed(self) -> None:
        if self._circular:
            self._passed = None

    def _look_for_circle(self, who: Who) -> None:
        """See whether what was added makes a transaction wait for itself: other circles there were before, or there are none."""
        if self._circular:
            return
        seen: set[Who] = set()
        left = [who]
        while left:
            for other in self._leads(left.pop()):
                if other == who:
                    self._circular = True
                    return
                if other not in seen and other in self.of:
                    seen.add(other)
                    left.append(other)

    def _all_passed(self) -> dict[Who, set[Who]]:
        if self._passed is None:
            self._passed, self._circular = {}, False
            graph = {who: self._leads(who) & self.of.keys() for who in self.of}
            for part in components(graph):
                if len(part) > 1:
                    self._circular = True
                    self._untie(part, self._passed)
        return self._passed

    def _leads(self, who: Who) -> set[Who]:
        """Return all whom a transaction waits for or has ahead."""
        found: set[Who] = set()
        for key in self.of[who]:
            one = self.waiting[key]
            found |= one.holders
            found.update(self.waiting[other].who for other in one.ahead)
        return found

    def _untie(self, part: set[Who], passed: dict[Who, set[Who]]) -> None:
        """Find those ahead that do not count, among transactions that all lead to each other; others count."""
        number = {who: at for at, who in enumerate(part)}
        requests = sorted((self.waiting[key] for who in part for key in self.of[who]), key=_order)
        reach = [0] * len(part)  # a bit for each transaction that one waits for
        for one in requests:
            for holder in one.holders & number.keys():
                reach[number[one.who]] |= 1 << number[holder]
        for middle in range(len(part)):
            for start in range(len(part)):
                if reach[start] >> middle & 1:
                    reach[start] |= reach[middle]
        for one in requests:
            mine = number[one.who]
            for key in one.ahead:
                its = number.get(self.waiting[key].who)
                if its is None:
                    continue
                if reach[its] >> mine & 1:
                    passed.setdefault(one.key, set()).add(key)
                elif not reach[mine] >> its & 1:
                    gain = reach[its] | 1 << its
                    for start in range(len(part)):
                        if start == mine or reach[start] >> mine & 1:
                            reach[start] |= gain


def _order(one: Waiting) -> int:
    return one.order


def _goes_first(one: Waiting, before: Waiting) -> bool:
    """Whether a request goes before one that came earlier."""
    return one.strategy == before.strategy == "wound_wait" and one.age < before.age
