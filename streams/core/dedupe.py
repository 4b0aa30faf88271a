"""A bounded memory of what was seen lately.

Guarantees: `get` finds whatever was put within the last `age_ms_max`, as long as fewer than `size_max` other keys came since;
nothing older is kept, so memory is bounded by both.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")


class Recent(Generic[T]):
    """Keys with their values, the oldest dropped first.

    Args:
        size_max: Keys to keep.
        age_ms_max: How long to keep one.
    """

    def __init__(self, *, size_max: int, age_ms_max: int) -> None:
        self._size_max = size_max
        self._age_ms_max = age_ms_max
        self._kept: OrderedDict[str, tuple[int, T]] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def get(self, key: str, now_ms: int) -> T | None:
        """Return the value of a key, or None where it is unknown or too old."""
        self._expire(now_ms)
        kept = self._kept.get(key)
        return None if kept is None else kept[1]

    def put(self, key: str, value: T, now_ms: int) -> None:
        """Keep a value; a key that is there already gets a new value and a new age."""
        self._kept.pop(key, None)
        self._kept[key] = (now_ms, value)
        self._expire(now_ms)

    def drop(self, key: str) -> None:
        """Forget a key."""
        self._kept.pop(key, None)

    def _expire(self, now_ms: int) -> None:
        while self._kept:
            born_ms, _ = next(iter(self._kept.values()))
            if len(self._kept) <= self._size_max and now_ms - born_ms <= self._age_ms_max:
                return
            self._kept.popitem(last=False)
