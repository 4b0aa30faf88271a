"""The rows of a partition, with their versions.

    ["k", table, key]   [trimmed, [[version, value, transaction, owner, at_ms, priority], ...]]  oldest first; null: deleted
    ["meta"]            [last change, newest version of a row that is gone, when it was written, newest end that is forgotten]

A version is the position of the commit that wrote it. A row keeps what is younger than the horizon and the version before, at
most `versions_max`, fewer where values are large; `trimmed` is the newest that went. A deleted row goes when its deletion is
older than the horizon.

A scan is checked by the changes since its snapshot, which are kept in order beside the rows; where the snapshot is older than
these, or they are more than it has rows, by its rows. Both say the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from processors.core.transactions.orders import Order, Place
from processors.core.transactions.sizes import CHARACTER_BYTES_MAX, PLACE_BYTES, json_bytes
from processors.core.transactions.words import TableLimits
from schemas.naming import domain_of

__all__ = ["META", "ROW", "Place", "Rows"]

ROW: Final = "k"
META: Final = ("meta",)
SMALL_BYTES: Final = 300_000
"""Room in a record for versions with values so small that they are not counted, beside those that are (`row_bytes_max`)."""
FEW_CHANGES: Final = 100
"""That are looked through for a scan without asking whether its rows would be fewer."""

Version = list[Any]
Row = list[Any]


class Rows:
    """Rows by place; every change is noted for the next `changes`.

    Args:
        limits: How much is kept.
    """

    def __init__(self, limits: TableLimits) -> None:
        self._limits = limits
        names_chars = 2 * limits.name_chars_max
        self._small_chars = (SMALL_BYTES // limits.versions_max - PLACE_BYTES) // CHARACTER_BYTES_MAX - names_chars
        self._rows: dict[Place, Row] = {}
        self._domains: dict[str, Order] = {}
        self._positions: list[int] = []
        self._changed: list[Place] = []
        self._graves: deque[tuple[int, int, Place]] = deque()
        """Deletions: when, version, where."""
        self._dirty: set[Place] = set()
        self.gone = self.gone_ms = self.last = 0
        """Newest version of a row that was deleted and is forgotten, when that was; position of the last change of any kind."""

    def __len__(self) -> int:
        return len(self._rows)

    # ---- state

    def load(self, rows: Iterable[tuple[Place, Row]]) -> None:
        """Take rows, in any order, into an empty store."""
        newest: list[tuple[int, Place]] = []
        graves: list[tuple[int, int, Place]] = []
        for place, row in rows:
            self._rows[place] = row
            last = row[1][-1]
            newest.append((last[0], place))
            if last[1] is None:
                graves.append((last[4], last[0], place))
            self._domain(place).add(place)
        newest.sort()
        newest = newest[-self._limits.recent_max :]
        self._positions = [version for version, _ in newest]
        self._changed = [place for _, place in newest]
        self._whole = len(newest) == len(self._rows)
        graves.sort(key=lambda one: one[1])
        self._graves = deque(graves)

    _whole = True
    """Whether all rows' newest versions are among the recent changes."""

    def changes(self) -> Iterator[tuple[tuple[str, ...], Row | None]]:
        """Yield the rows that have changed since the last call, None for those that are gone."""
        for place in self._dirty:
            yield (ROW, *place), self._rows.get(place)
        self._dirty = set()

    # ---- reading

    def version(self, table: str, key: str) -> int:
        """Return the newest version of a row, 0 where it never was or is forgotten; a deletion is a version."""
        row = self._rows.get((table, key))
        return 0 if row is None else row[1][-1][0]

    def newest(self, place: Place) -> Version | None:
        """Return the newest version of a row."""
        row = self._rows.get(place)
        return None if row is None else row[1][-1]

    def at(self, place: Place, position: int) -> Version | None:
        """Return the newest version that is not newer than a position, where it is kept."""
        row = self._rows.get(place)
        if row is None:
            return None
        for version in reversed(row[1]):
            if version[0] <= position:
                found: Version = version
                return found
        return None

    def trimmed(self, place: Place) -> int:
        """Return the newest version of a row that is not kept any more, 0 where all are."""
        row = self._rows.get(place)
        return 0 if row is None else row[0]

    def changed_since(self, domain: str, table: str, prefix: str, snapshot: int) -> list[Place]:
        """Return the rows of a prefix that were changed after a snapshot, in their order."""
        rows, order = self._rows, self._domains.get(domain)
        if order is None:
            return []
        start = bisect_right(self._positions, snapshot)
        changed = len(self._positions) - start if start or self._whole else len(order.places)
        if changed <= FEW_CHANGES and (start or self._whole):
            candidates: Iterable[Place] = self._changed[start:]
        else:
            first, end = order.span(table, prefix)
            if end - first <= changed:
                line = order.line()
                return [line[n] for n in range(first, end) if rows[line[n]][1][-1][0] > snapshot]
            candidates = self._changed[start:]
        found = {
            place
            for place in candidates
            if place[0] == table and place[1].startswith(prefix) and place in rows and rows[place][1][-1][0] > snapshot
        }
        return sorted(found)

    def page(self, domain: str, table: str, prefix: str, after: Place) -> Iterator[tuple[Place, Row]]:
        """Yield the rows of a domain by table and key, after one; of one table and prefix where a table is given."""
        order = self._domains.get(domain)
        if order is None:
            return
        line, rows = order.line(), self._rows
        first, end = order.span(table, prefix) if table else (0, len(line))
        for n in range(max(first, order.after(after)), end):
            yield line[n], rows[line[n]]

    # ---- writing

    def write(self, place: Place, value: str | None, by: tuple[int, str, str, int, int]) -> None:
        """Add a version to a row.

        Args:
            place: Which row.
            value: JSON text, None for a deletion.
            by: Its version, the transaction, its owner, when, its priority.
        """
        position, txn, owner, now_ms, priority = by
        row = self._rows.get(place)
        new = [position, value, txn, owner, now_ms, priority]
        if row is None:
            if value is None:
                return  # nothing is there to delete
            row = self._rows[place] = [0, [new]]
            self._domain(place).add(place)
        else:  # a new list each time: the table may still hold the one before, and fall back to it
            self._rows[place] = self._longer(row, new, now_ms)
        if value is None:
            self._graves.append((now_ms, position, place))
        self._positions.append(position)
        self._changed.append(place)
        self._dirty.add(place)
        if len(self._positions) > 2 * self._limits.recent_max:
            del self._positions[: -self._limits.recent_max], self._changed[: -self._limits.recent_max]
            self._whole = False

    def bury(self, now_ms: int) -> None:
        """Forget rows whose deletion is older than the horizon."""
        graves, rows = self._graves, self._rows
        while graves and graves[0][0] < now_ms - self._limits.horizon_ms:
            at_ms, version, place = graves.popleft()
            row = rows.get(place)
            if row is None or row[1][-1][0] != version:
                continue  # it was written again
            del rows[place]
            domain = domain_of(place[1])
            self._domains[domain].remove(place)
            if not self._domains[domain].places:
                del self._domains[domain]
            self._dirty.add(place)
            self.gone, self.gone_ms = max(self.gone, version), max(self.gone_ms, at_ms)

    def _longer(self, row: Row, new: Version, now_ms: int) -> Row:
        """Return a row with one version more, and without those that need not be kept."""
        versions, old_ms = row[1], now_ms - self._limits.horizon_ms
        small = len(new[1] or "") <= self._small_chars
        if small and len(versions) < self._limits.versions_max and (len(versions) == 1 or versions[1][4] >= old_ms):
            return [row[0], [*versions, new]]
        kept = [*versions, new]
        drop = max(0, len(kept) - self._limits.versions_max)
        while drop + 1 < len(kept) and kept[drop + 1][4] < old_ms:
            drop += 1
        if not small:
            drop = max(drop, self._too_large(kept))
        return [kept[drop - 1][0] if drop else row[0], kept[drop:]]

    def _too_large(self, versions: list[Version]) -> int:
        """Return how many of the oldest versions are too much for a row; small ones may be added to it afterwards."""
        left = self._limits.row_bytes_max
        for number in range(len(versions) - 1, -1, -1):
            left -= PLACE_BYTES + sum(json_bytes(versions[number][n]) for n in (1, 2, 3))
            if left < 0 and number + 1 < len(versions):
                return number + 1
        return 0

    def _domain(self, place: Place) -> Order:
        domain = domain_of(place[1])
        found = self._domains.get(domain)
        if found is None:
            found = self._domains[domain] = Order()
        return found
