"""The order in which equals leave a queue: the binary heap of `java.util.PriorityQueue`, over a plain list.

Matches that began with the same event are equal to Flink's skip strategies. Which of them is found first, and so which of the
others it
removes, comes from the inner order of that heap: not stable, but exact. Patterns that came from Flink must find the same
matches here, so the order is kept. Entries are tuples whose item 0 is the rank; the functions change the list in place.

Source: J. W. J. Williams, "Algorithm 232: Heapsort", 1964; the sift order and `removeAll` of OpenJDK 17.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["discard", "pop", "push", "up"]

Entry = tuple[Any, ...]


def push(heap: list[Entry], entry: Entry) -> None:
    """Add an entry: it moves up while its parent ranks strictly higher."""
    heap.append(entry)
    up(heap, len(heap) - 1)


def up(heap: list[Any], place: int) -> None:
    """Move the entry at `place` up while its parent ranks strictly higher."""
    entry = heap[place]
    rank = entry[0]
    while place:
        parent = (place - 1) >> 1
        above = heap[parent]
        if above[0] <= rank:
            break
        heap[place] = above
        place = parent
    heap[place] = entry


def pop(heap: list[Entry]) -> Entry:
    """Take the first entry out; the last one fills its place and moves down."""
    first = heap[0]
    last = heap.pop()
    if heap:
        _down(heap, 0, last)
    return first


def discard(heap: list[Any], unwanted: Callable[[Any], bool]) -> bool:
    """Take out what is `unwanted`, then rebuild from the middle; whether there was any."""
    kept = [entry for entry in heap if not unwanted(entry)]
    if len(kept) == len(heap):
        return False
    heap[:] = kept
    for place in range((len(heap) >> 1) - 1, -1, -1):
        _down(heap, place, heap[place])
    return True


def _down(heap: list[Any], place: int, entry: Entry) -> None:
    size = len(heap)
    half = size >> 1
    rank = entry[0]
    while place < half:
        child = 2 * place + 1
        other = child + 1
        if other < size and heap[child][0] > heap[other][0]:
            child = other
        if rank <= heap[child][0]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = entry
