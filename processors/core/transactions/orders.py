"""The places of a domain in their order: for pages, and for what a prefix has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Final

__all__ = ["Order", "Place"]

Place = tuple[str, str]
"""Table and key."""

ONE_BY_ONE_MAX: Final = 100
"""New places that are put in one by one: with more of them sorting all again takes no longer, since most are sorted already."""


class Order:
    """The places of one domain. They are sorted when somebody looks: one that is only written to costs nothing."""

    __slots__ = ("_line", "_new", "places")

    def __init__(self) -> None:
        self.places: dict[Place, None] = {}
        self._line: list[Place] | None = None
        self._new: dict[Place, None] = {}

    def add(self, place: Place) -> None:
        """Take a place that is not there."""
        self.places[place] = None
        if self._line is not None:
            self._new[place] = None

    def remove(self, place: Place) -> None:
        """Give a place up."""
        del self.places[place]
        if place in self._new:
            del self._new[place]
        elif self._line is not None:
            del self._line[bisect_left(self._line, place)]

    def line(self) -> list[Place]:
        """Return the places in their order; not to be changed, nor kept."""
        line = self._line
        if line is None:
            line = self._line = sorted(self.places)
        elif self._new:
            if len(self._new) <= ONE_BY_ONE_MAX:
                for place in self._new:
                    insort(line, place)
            else:
                line.extend(sorted(self._new))
                line.sort()
            self._new = {}
        return line

    def span(self, table: str, prefix: str) -> tuple[int, int]:
        """Return where in the line the keys with a prefix begin and end."""
        line = self.line()
        start = bisect_left(line, (table, prefix))

        def beyond(place: Place) -> bool:
            return place[0] != table or not place[1].startswith(prefix)

        return start, bisect_left(line, True, start, key=beyond)

    def after(self, place: Place) -> int:
        """Return where in the line what comes after a place begins."""
        return bisect_right(self.line(), place)
