"""Which locks there are against another one: found by place, and not by looking at all.

rows      by table and key; and the keys of a table in their order, for spans that contain them
spans     by table and prefix; a row's or narrower span's own are found by the lengths that prefixes have there
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from processors.core.transactions.lock_modes import EXCLUDED, INTENTION, Lock, Thing

__all__ = ["Places"]

Id = TypeVar("Id")
_NOBODY: Final[frozenset[str]] = frozenset()


class _Names(Generic[Id]):
    """The locks of a table's rows, or of its spans."""

    __slots__ = ("lengths", "line", "of")

    def __init__(self) -> None:
        self.of: dict[str, dict[Id, str]] = {}
        self.line: list[str] = []
        self.lengths: dict[int, int] = {}

    def put(self, name: str, one: Id, mode: str) -> None:
        modes = self.of.get(name)
        if modes is None:
            modes = self.of[name] = {}
            insort(self.line, name)
            self.lengths[len(name)] = self.lengths.get(len(name), 0) + 1
        modes[one] = mode

    def remove(self, name: str, one: Id) -> None:
        modes = self.of[name]
        del modes[one]
        if modes:
            return
        del self.of[name]
        del self.line[bisect_left(self.line, name)]
        self.lengths[len(name)] -= 1
        if not self.lengths[len(name)]:
            del self.lengths[len(name)]

    def inside(self, prefix: str) -> Iterator[str]:
        """Yield the names that begin with a prefix, itself not."""
        line = self.line
        for index in range(bisect_left(line, prefix), len(line)):
            if not line[index].startswith(prefix):
                return
            if line[index] != prefix:
                yield line[index]

    def around(self, name: str) -> Iterator[str]:
        """Yield those that the name begins with, itself not."""
        for length in self.lengths:
            if length < len(name) and name[:length] in self.of:
                yield name[:length]


class Places(Generic[Id]):
    """Locks of somebody, at most one of each thing."""

    __slots__ = ("_rows", "_spans")

    def __init__(self) -> None:
        self._rows: dict[str, _Names[Id]] = {}
        self._spans: dict[str, _Names[Id]] = {}

    def put(self, thing: Thing, one: Id, mode: str) -> None:
        """Let somebody have a lock; in place of another of the same thing, if there is one."""
        tables = self._spans if thing[2] else self._rows
        names = tables.get(thing[0])
        if names is None:
            names = tables[thing[0]] = _Names()
        names.put(thing[1], one, mode)

    def remove(self, thing: Thing, one: Id) -> None:
        """Take a lock away."""
        tables = self._spans if thing[2] else self._rows
        tables[thing[0]].remove(thing[1], one)
        if not tables[thing[0]].of:
            del tables[thing[0]]

    def count(self, thing: Thing) -> int:
        """Return how many have a lock of just this thing."""
        names = (self._spans if thing[2] else self._rows).get(thing[0])
        return 0 if names is None else len(names.of.get(thing[1], _NOBODY))

    def against(self, lock: Lock) -> Iterator[Id]:
        """Yield all whose locks exclude this one, some of them more than once; himself, too, where he has one."""
        table, name, span, mode = lock
        spans, rows = self._spans.get(table), self._rows.get(table)
        if spans is not None:
            excluded = EXCLUDED[INTENTION[mode]]
            for wider in spans.around(name):
                yield from (one for one, its in spans.of[wider].items() if its in excluded)
            if not span and name in spans.of:  # a row that is called as a prefix is inside it
                yield from (one for one, its in spans.of[name].items() if its in excluded)
        same = spans if span else rows
        excluded = EXCLUDED[mode]
        if same is not None and name in same.of:
            yield from (one for one, its in same.of[name].items() if its in excluded)
        if not span:
            return
        for inner in (spans, rows):
            if inner is None:
                continue
            for narrower in inner.inside(name):
                yield from (one for one, its in inner.of[narrower].items() if INTENTION[its] in excluded)
        if rows is not None and name in rows.of:
            yield from (one for one, its in rows.of[name].items() if INTENTION[its] in excluded)
