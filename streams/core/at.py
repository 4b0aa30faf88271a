"""Where and when a command is carried out: the position that fencing tokens are made of, and the partition's time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["TIES_BITS", "At", "Deadlines"]

TIES_BITS: Final = 20
"""Bits for grants of one position: a million, more than waiters are allowed; 43 are left for the position."""
_STALE_MAX: Final = 1_024
"""Dead entries of a heap that are left there before it is made anew: below this it costs nothing to speak of."""


@dataclass(frozen=True, slots=True)
class At:
    """The moment of one step.

    Attributes:
        offset: The command's offset on its partition; for what was due, that of the record that brought the time.
        n: Which of several steps at this offset it is.
        now_ms: The partition's time, epoch milliseconds, as the records say it: for leases, timeouts and ageing only. Order comes
            from the log.
    """

    offset: int
    n: int
    now_ms: int

    def token(self) -> int:
        """Return the smallest token of this position; never 0, which means "no token"."""
        return max(1, (max(0, self.offset) << TIES_BITS) | self.n)


class Deadlines:
    """One deadline a name, and which comes first. Setting, ending and taking cost O(log n) each, amortised."""

    __slots__ = ("_heap", "_of")

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._of)

    def set(self, name: str, ms: int) -> None:
        """Give a name its deadline, in place of the one it had."""
        if self._of.get(name) == ms:
            return
        self._of[name] = ms
        heapq.heappush(self._heap, (ms, name))
        if len(self._heap) > 2 * len(self._of) + _STALE_MAX:  # a long lease released early leaves its entry for long
            self._heap = [(at, one) for one, at in self._of.items()]
            heapq.heapify(self._heap)

    def end(self, name: str) -> None:
        """Take a name's deadline away, if it has one."""
        self._of.pop(name, None)

    def next_ms(self) -> int | None:
        """Return the earliest deadline."""
        heap, of = self._heap, self._of
        while heap and of.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take(self, now_ms: int) -> Iterator[str]:
        """Yield the names whose deadline has come, earliest first and then by name, each taken away as it is yielded."""
        while (at := self.next_ms()) is not None and at <= now_ms:
            name = heapq.heappop(self._heap)[1]
            del self._of[name]
            yield name
