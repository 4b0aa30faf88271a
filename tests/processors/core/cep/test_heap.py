"""The queue that decides between equals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processors.core.cep import heap

RANKS = st.lists(st.integers(0, 5), max_size=24)


@given(RANKS)
def test_entries_leave_in_order_of_rank(ranks: list[int]) -> None:
    """Whatever the inner order, the lowest rank leaves first."""
    queue: list[tuple[int, int]] = []
    for place, rank in enumerate(ranks):
        heap.push(queue, (rank, place))
    assert [heap.pop(queue)[0] for _ in ranks] == sorted(ranks)


def test_equals_stand_where_java_puts_them() -> None:
    """Recorded from java.util.PriorityQueue of OpenJDK 17: additions, two removals from the front, a removal of several."""
    queue: list[tuple[int, str]] = []
    for word in ["3a", "1b", "1c", "2d", "1e", "1f", "3g", "2h", "1i", "0j", "2k"]:
        heap.push(queue, (int(word[0]), word))
    assert _words(queue) == "0j 1b 1c 1i 1e 1f 3g 3a 2h 2d 2k"
    heap.pop(queue)
    assert _words(queue) == "1b 1i 1c 2k 1e 1f 3g 3a 2h 2d"
    heap.pop(queue)
    assert _words(queue) == "1i 1e 1c 2k 2d 1f 3g 3a 2h"
    heap.discard(queue, lambda entry: entry[1] in {"1c", "3a", "1i"})
    assert _words(queue) == "1e 1f 2d 2k 3g 2h"


def _words(queue: list[tuple[int, str]]) -> str:
    return " ".join(word for _, word in queue)


@given(RANKS, st.integers(0, 5))
def test_discarding_keeps_a_heap_of_the_rest(ranks: list[int], unwanted: int) -> None:
    """What is taken out is gone, and the rest leaves in order."""
    queue: list[tuple[int, int]] = []
    for place, rank in enumerate(ranks):
        heap.push(queue, (rank, place))
    assert heap.discard(queue, lambda entry: entry[0] == unwanted) == (unwanted in ranks)
    left = [rank for rank in ranks if rank != unwanted]
    assert [heap.pop(queue)[0] for _ in left] == sorted(left)
