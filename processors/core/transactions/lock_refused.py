"""Requests for locks that were refused, for who asks again: the first answer may have been lost, and stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from processors.core.transactions.lock_words import No, Who

__all__ = ["RefusedRequests"]


class RefusedRequests:
    """So many as may be, the newest of them.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[Who, No] = {}
        """By domain and request id, oldest first."""
        self._of: dict[Who, set[Who]] = {}
        self._dirty: set[Who] = set()

    def load(self, rows: Iterable[tuple[Who, No]]) -> None:
        """Take rows, in any order."""
        for key, no in sorted(rows, key=lambda row: row[1].order):
            self._all[key] = no
            self._of.setdefault((key[0], no.txn), set()).add(key)

    def changes(self) -> Iterator[tuple[Who, No | None]]:
        """Yield what has changed since the last call, None for what is gone."""
        for key in sorted(self._dirty):
            yield key, self._all.get(key)
        self._dirty = set()

    def get(self, key: Who) -> No | None:
        """Return what was said to a request, by its domain and id."""
        return self._all.get(key)

    def add(self, key: Who, no: No) -> None:
        """Remember what was said to a request."""
        if self._all:
            no = no._replace(order=max(no.order, self._all[next(reversed(self._all))].order + 1))
        self._all[key] = no
        self._of.setdefault((key[0], no.txn), set()).add(key)
        self._dirty.add(key)
        if len(self._all) > self._most:
            self._remove(next(iter(self._all)))

    def end(self, who: Who) -> None:
        """Forget a transaction's: whoever asks for locks of one that has ended is told that."""
        if who in self._of:
            for key in list(self._of[who]):
                self._remove(key)

    def _remove(self, key: Who) -> None:
        no = self._all.pop(key)
        who = key[0], no.txn
        mine = self._of[who]
        mine.discard(key)
        if not mine:
            del self._of[who]
        self._dirty.add(key)
