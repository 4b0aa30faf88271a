"""Fencing: a write carries the token of its lock, and whoever keeps the data refuses a smaller one than it has seen.

    holder A   token 33 ──── frozen past its lease ─────────────────────▶ write, 33   refused: 34 has been seen
    holder B                    token 34 ──▶ write, 34   taken

A lease alone cannot stop a holder that does not know that it has lost it; the one who is written to can. Tokens grow strictly
for each resource, so one number each is all that has to be remembered. Source: Kleppmann, "How to do distributed locking", 2016.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Final

__all__ = ["FENCE", "Guard", "fence_headers", "fences_of"]

FENCE: Final = "fence"
"""The header, one a resource: the token in decimal digits, a space, the resource."""
_DIGITS_MAX: Final = 19
"""Of a token of 63 bits."""

Fence = tuple[str, int]


def fence_headers(fences: Iterable[Fence]) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that put these tokens on a record."""
    return tuple((FENCE, f"{token} {resource}".encode()) for resource, token in fences)


def fences_of(headers: Iterable[tuple[str, bytes | None]] | None) -> tuple[Fence, ...]:
    """Return the resources and tokens that a record carries; a token that cannot be read is 0, which every guard refuses."""
    found = []
    for name, value in headers or ():
        if name == FENCE:
            digits, _, resource = (value or b"").decode("utf-8", "replace").partition(" ")
            token = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX else 0
            found.append((resource, token))
    return tuple(found)


class Guard:
    """Remembers the largest token of each resource.

    Args:
        seen: Where: a dict, or a table's view, which makes the guard as durable and as atomic as what it guards.
    """

    def __init__(self, seen: MutableMapping[str, int] | None = None) -> None:
        self._seen: MutableMapping[str, int] = {} if seen is None else seen

    def problem(self, fences: Iterable[Fence], *, required: Iterable[str] = ()) -> str:
        """Return why a write is refused, empty where it is not; remember its tokens in that case only.

        Args:
            fences: The resources and tokens that it carries.
            required: Resources whose token it must carry.
        """
        given = dict(fences)
        for resource in required:
            if resource not in given:
                return f"the write carries no token of {resource}: take the lock, and pass grant.guard() with what you write"
        for resource, token in given.items():
            last = self._seen.get(resource, 0)
            if token <= 0:
                return f"the write carries no token of {resource} that can be read"
            if token < last:
                return f"token {token} of {resource} is too old: {last} has been seen, so its holder has lost the lock"
        for resource, token in given.items():
            if token > self._seen.get(resource, 0):
                self._seen[resource] = token
        return ""
