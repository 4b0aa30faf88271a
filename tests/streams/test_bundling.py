"""Bundles: who is alone goes at once, what comes in quick succession goes together, and nothing is lost or turned round."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.bundling import Bundles

NEVER_S = 3_600.0


class Clock:
    """A monotonic clock and a loop's timers that go when they are told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.timers: list[tuple[float, object]] = []
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(asyncio, "get_running_loop", lambda: self)

    def call_later(self, delay: float, call: object) -> Clock.Handle:
        handle = Clock.Handle(self, (self.now + delay, call))
        self.timers.append(handle.timer)
        return handle

    class Handle:
        def __init__(self, clock: Clock, timer: tuple[float, object]) -> None:
            self.clock, self.timer = clock, timer

        def cancel(self) -> None:
            if self.timer in self.clock.timers:
                self.clock.timers.remove(self.timer)

    def go(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and min(self.timers, key=lambda one: one[0])[0] <= end:
            timer = min(self.timers, key=lambda one: one[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()  # type: ignore[operator]
        self.now = end


async def test_the_first_goes_at_once_and_the_next_wait_for_each_other() -> None:
    """Before `add` returns it is gone; those behind it make one bundle."""
    gone: list[list[int]] = []
    bundles = Bundles[int](gone.append, apart_s=0.001)
    bundles.add([1])
    assert gone == [[1]]
    bundles.add([2])
    bundles.add([3, 4])
    assert gone == [[1]]
    assert bundles._timer is not None
    await asyncio.sleep(bundles._timer.when() - asyncio.get_running_loop().time() + 0.01)
    assert gone == [[1], [2, 3, 4]]


async def test_a_flush_lets_go_what_waits_and_its_timer() -> None:
    """Nothing is left for later, and nothing goes twice or empty."""
    gone: list[list[int]] = []
    bundles = Bundles[int](gone.append, apart_s=NEVER_S)
    bundles.flush()
    bundles.add([1])
    bundles.add([2])
    bundles.flush()
    bundles.flush()
    assert gone == [[1], [2]]
    assert bundles._timer is None


def test_a_flush_does_not_let_the_next_go_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer of what was flushed is gone: what comes after it is apart from it."""
    clock = Clock(monkeypatch)
    gone: list[tuple[float, list[int]]] = []
    bundles = Bundles[int](lambda bundle: gone.append((clock.now, bundle)), apart_s=1.0)
    bundles.add([1])
    bundles.add([2])
    clock.go(0.5)
    bundles.flush()
    bundles.add([3])
    clock.go(5.0)
    assert [bundle for _, bundle in gone] == [[1], [2], [3]]
    assert gone[2][0] - gone[1][0] == pytest.approx(1.0)


def test_nothing_is_no_bundle() -> None:
    """Adding nothing sends nothing, and needs no loop."""
    gone: list[list[int]] = []
    bundles = Bundles[int](gone.append, apart_s=NEVER_S)
    bundles.add([])
    bundles.add([1])
    assert gone == [[1]]


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 3)), max_size=40))
def test_bundles_are_apart_and_nothing_waits_longer(steps: list[tuple[float, int]]) -> None:
    """Whenever things come: in order, each once, no two bundles closer than told, none later than that after it was added."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        gone: list[tuple[float, list[tuple[float, int]]]] = []
        bundles = Bundles[tuple[float, int]](lambda bundle: gone.append((clock.now, bundle)), apart_s=1.0)
        added = []
        for wait, items in steps:
            clock.go(wait)
            new = [(clock.now, n) for n in range(items)]
            added += new
            bundles.add(new)
        clock.go(2.0)
    assert [one for _, bundle in gone for one in bundle] == added
    times = [at for at, _ in gone]
    assert all(later - earlier > 1.0 - 1e-6 for earlier, later in pairwise(times))
    assert all(at - when <= 1.0 + 1e-6 for at, bundle in gone for when, _ in bundle)
