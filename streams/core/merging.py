"""Records of several partitions in one order of time.

p0   1 4 9          A record goes out once every other partition has shown what it has next, or has ended. Inside a partition the
p1   2 3   ─▶ 1 2 3 4 9     order stays as it is, also where timestamps go backwards; ties go to the lower topic and partition.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Lane", "Merge"]

Lane = tuple[str, int]
"""Topic and partition."""


class _Timed(Protocol):
    @property
    def timestamp(self) -> int: ...


T = TypeVar("T", bound=_Timed)


class Merge(Generic[T]):
    """Holds what cannot go out yet; the caller stops feeding lanes that hold much (`held`).

    Args:
        lanes: All partitions there will be.
    """

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self._waiting: dict[Lane, deque[T]] = {lane: deque() for lane in lanes}
        self._silent: set[Lane] = set(self._waiting)
        self._heap: list[tuple[int, Lane]] = []

    def held(self, lane: Lane) -> int:
        """Return how many records of a lane wait."""
        return len(self._waiting[lane])

    def add(self, lane: Lane, record: T) -> None:
        """Take the next record of a lane."""
        waiting = self._waiting[lane]
        waiting.append(record)
        if len(waiting) == 1:
            self._silent.discard(lane)
            heapq.heappush(self._heap, (record.timestamp, lane))

    def end(self, lane: Lane) -> None:
        """Note that a lane has no more records: nobody waits for it."""
        self._silent.discard(lane)

    def ready(self, ended: Iterable[Lane] = ()) -> Iterator[T]:
        """Give out what may go.

        Args:
            ended: Lanes that have ended, so that they are not waited for once they are empty.
        """
        over = set(ended)
        while self._heap and not self._silent:
            _, lane = heapq.heappop(self._heap)
            waiting = self._waiting[lane]
            yield waiting.popleft()
            if waiting:
                heapq.heappush(self._heap, (waiting[0].timestamp, lane))
            elif lane not in over:
                self._silent.add(lane)
