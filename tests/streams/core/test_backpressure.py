"""The gate of one partition: closed at its high mark, open at its low one, unchanged between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.backpressure import Gate


def test_a_gate_closes_at_the_high_mark_and_opens_at_the_low_one() -> None:
    """Between the two marks a gate stays as it was."""
    gate = Gate(low=10, high=20)
    assert [gate.measure(n) for n in (0, 19, 20, 11, 19, 10, 11, 19, 25)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (5, 5), (6, 5)])
def test_marks_that_cannot_hold_are_refused(low: int, high: int) -> None:
    """A gate whose marks are not 0 <= low < high says so with both."""
    with pytest.raises(ValueError, match=f"low={low} and high={high}"):
        Gate(low=low, high=high)


@given(st.integers(0, 50), st.integers(1, 50), st.lists(st.integers(0, 150)))
def test_a_gate_never_flaps(low: int, width: int, waits: list[int]) -> None:
    """Whatever is measured, a change of the gate needs a mark to be crossed, so between two changes lies the whole width."""
    gate, high = Gate(low=low, high=low + width), low + width
    closed = False
    for waiting in waits:
        after = gate.measure(waiting)
        assert after == gate.closed
        if after != closed:
            assert waiting >= high if after else waiting <= low
        elif waiting >= high:
            assert after
        elif waiting <= low:
            assert not after
        closed = after
