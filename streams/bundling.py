"""What comes in quick succession goes together: the first at once, the others after a moment, in one bundle.

A broker's work, and a client's, is by the request more than by the record. Who is alone waits for nothing; under load there are
at most `1 / apart_s` bundles a second, each as large as the load makes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

__all__ = ["Bundles"]

T = TypeVar("T")


class Bundles(Generic[T]):
    """Used on one event loop.

    Args:
        go: Takes a bundle.
        apart_s: The least time between two.
    """

    def __init__(self, go: Callable[[list[T]], None], *, apart_s: float) -> None:
        self._go, self._apart_s = go, apart_s
        self._next = 0.0
        self._waiting: list[T] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, items: Iterable[T]) -> None:
        """Let items go, now or with the next bundle; they keep their order."""
        self._waiting += items
        if self._timer is None:
            left = self._next - time.monotonic()
            if left <= 0:
                self.flush()
            else:
                self._timer = asyncio.get_running_loop().call_later(left, self.flush)

    def flush(self) -> None:
        """Let go what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._next = time.monotonic() + self._apart_s
            bundle, self._waiting = self._waiting, []
            self._go(bundle)
