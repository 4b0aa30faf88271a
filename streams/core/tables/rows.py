"""The rows of one domain as a client has them: several versions of each, so that a transaction reads where it began.

    row "repo/a":   (7, "[1]")   (12, "[1,2]")   (19, None)          a version is a position; None is a deletion
    read at 6: never there       at 13: "[1,2]"      at 20: deleted

A read at a position sees, of each row, the newest version that is not newer. Reads below `floor` are not answered: what they
would have to see may be gone. `trim` raises the floor and drops what only reads below it saw.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

__all__ = ["NEWEST", "DomainRows", "Version"]

NEWEST: Final = sys.maxsize
"""A position after all others: to read what is there now."""


class Version(NamedTuple):
    """One version of a row.

    Attributes:
        position: Of the commit that wrote it.
        value: JSON text; None where it was deleted.
        at_ms: When, by the partition's time.
        txn: The transaction that wrote it.
        owner: Its agent.
    """

    position: int
    value: str | None
    at_ms: int
    txn: str
    owner: str


class _Table:
    __slots__ = ("keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, list[Version]] = {}
        self.keys: list[str] = []
        """In order, for scans."""


class DomainRows:
    """All rows of a domain.

    Attributes:
        floor: The oldest position that can be read.
    """

    __slots__ = ("_old", "_tables", "floor")

    def __init__(self, floor: int = 0) -> None:
        self._tables: dict[str, _Table] = {}
        self._old: deque[tuple[int, str, str]] = deque()
        """Where a version was written over another one: by position, for `trim`."""
        self.floor = floor

    def load(self, table: str, key: str, version: Version) -> None:
        """Take a row as the arbiter has it, unless a newer one is here."""
        rows = self._table(table)
        row = rows.rows.get(key)
        if row is None:
            rows.rows[key] = [version]
            insort(rows.keys, key)
        elif row[-1].position < version.position:
            row.append(version)
            self._old.append((version.position, table, key))

    def write(self, writes: Iterable[dict[str, Any]], position: int, at_ms: int, txn: str, owner: str) -> None:
        """Take what a commit wrote, in the order of positions; what is here already is passed over."""
        tables, old = self._tables, self._old
        for write in writes:
            name, key = write["table"], write["key"]
            table = tables.get(name)
            if table is None:
                table = tables[name] = _Table()
            row = table.rows.get(key)
            if row is None:
                table.rows[key] = [Version(position, write["value"], at_ms, txn, owner)]
                insort(table.keys, key)
            elif row[-1][0] < position:
                row.append(Version(position, write["value"], at_ms, txn, owner))
            else:
                continue
            old.append((position, name, key))

    def read(self, table: str, key: str, at: int) -> Version | None:
        """Return the version that a read at this position sees; a deletion is one too. None: there was none."""
        rows = self._tables.get(table)
        if rows is None:
            return None
        row = rows.rows.get(key)
        if row is None:
            return None
        newest = row[-1]
        if newest[0] <= at:
            return newest
        for version in reversed(row):
            if version[0] <= at:
                return version
        return None

    def scan(self, table: str, prefix: str, at: int) -> Iterator[tuple[str, Version]]:
        """Yield the rows that a read at this position sees, by key; deleted ones are not there."""
        rows = self._tables.get(table)
        if rows is None:
            return
        keys = rows.keys
        for index in range(bisect_left(keys, prefix), len(keys)):
            key = keys[index]
            if not key.startswith(prefix):
                return
            version = self.read(table, key, at)
            if version is not None and version.value is not None:
                yield key, version

    def all(self) -> Iterator[tuple[str, str, Version]]:
        """Yield the newest version of every row, deletions too."""
        for name, table in self._tables.items():
            for key in table.keys:
                yield name, key, table.rows[key][-1]

    def trim(self, floor: int) -> None:
        """Drop what no read at or above this position sees."""
        self.floor = max(self.floor, floor)
        old = self._old
        while old and old[0][0] <= floor:
            _, name, key = old.popleft()
            table = self._tables[name]
            row = table.rows.get(key)
            if row is None:
                continue
            keep = len(row) - 1
            while row[keep][0] > floor and keep:
                keep -= 1
            del row[:keep]
            if len(row) == 1 and row[0].value is None and row[0].position <= floor:
                del table.rows[key]
                del table.keys[bisect_left(table.keys, key)]

    def _table(self, name: str) -> _Table:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = _Table()
        return table
