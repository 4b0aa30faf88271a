"""How transactions ended, for who asks again: the newest of a partition, by what they were called.

    ["t", domain, txn]   [state, position, code, reason, when]

They are forgotten in the order of their ends. Who asks for the second time, and for something that is not known here, may have
been carried out and forgotten, or never have come; it is carried out only where the first cannot be:

* Its snapshot is not older than the newest end that is forgotten: it was sent after its snapshot, so its end would be known.
* It names none, and all that ended within the time in which clients ask again is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["ENDED", "Endings"]

ENDED: Final = "t"

Who = tuple[str, str]
"""Domain and transaction."""
Ending = list[Any]


class Endings:
    """The ends of one partition's transactions.

    Args:
        most: How many are remembered.
        again_ms: For how long clients ask again that name no snapshot.
    """

    def __init__(self, most: int, again_ms: int) -> None:
        self._most, self._again_ms = most, again_ms
        self._all: OrderedDict[Who, Ending] = OrderedDict()
        self._newest = 0
        self._dirty: set[Who] = set()
        self.forgotten = 0
        """Position of the newest end that is forgotten; 0: none is."""

    def load(self, rows: Iterable[tuple[Who, Ending]]) -> None:
        """Take rows, in any order."""
        self._all = OrderedDict(sorted(rows, key=lambda one: (one[1][1], one[0])))
        self._newest = next(reversed(self._all.values()))[1] if self._all else 0

    def changes(self) -> Iterator[tuple[tuple[str, str, str], Ending | None]]:
        """Yield what has changed since the last call, None for what is forgotten."""
        get = self._all.get
        for who in self._dirty:
            yield (ENDED, *who), get(who)
        self._dirty = set()

    def get(self, who: Who) -> Ending | None:
        """Return how a transaction ended, where that is remembered."""
        return self._all.get(who)

    def add(self, who: Who, ending: Ending) -> None:
        """Remember how a transaction ended; its position is not smaller than that of any before."""
        kept = self._all
        kept[who] = ending
        self._dirty.add(who)
        if ending[1] == self._newest:
            self._sort_newest()
        self._newest = ending[1]
        if len(kept) > self._most:
            oldest, gone = kept.popitem(last=False)
            self._dirty.add(oldest)
            self.forgotten = gone[1]

    def may_be_forgotten(self, snapshot: int, now_ms: int) -> bool:
        """Return whether one that is not known may have ended, and who asks for it is to be told that nobody knows.

        Args:
            snapshot: The position that its reads saw; -1: it has none.
            now_ms: Now.
        """
        if not self.forgotten:
            return False
        if snapshot >= 0:
            return snapshot < self.forgotten
        oldest: Ending = next(iter(self._all.values()))
        return bool(oldest[4] > now_ms - self._again_ms)

    def _sort_newest(self) -> None:
        """Bring those that ended at the newest position into the order in which they would be loaded."""
        tail = []
        for who, ending in reversed(self._all.items()):
            if ending[1] != self._newest:
                break
            tail.append(who)
        for who in sorted(tail):
            self._all.move_to_end(who)
