"""The fencing tokens that one partition's writes have come with: who comes with a smaller one has lost the lock.

["fence", resource]   the largest token that was seen
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from processors.core.transactions.words import Fields
from streams.core.guards import Guard

__all__ = ["FENCE", "Fences"]

FENCE: Final = "fence"


class _Tokens(dict[str, int]):
    """The largest by resource; what was set is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.dirty: set[str] = set()

    def __setitem__(self, resource: str, token: int) -> None:
        super().__setitem__(resource, token)
        self.dirty.add(resource)


class Fences:
    """The largest tokens seen.

    Args:
        most: Resources that are remembered; none is ever forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tokens = _Tokens()
        self._guard = Guard(self._tokens)

    def load(self, resource: str, token: int) -> None:
        """Take a row."""
        self._tokens.update({resource: token})

    def changes(self) -> Iterator[tuple[tuple[str, str], int]]:
        """Yield what has changed since the last call."""
        for resource in self._tokens.dirty:
            yield (FENCE, resource), self._tokens[resource]
        self._tokens.dirty = set()

    def full(self, fences: Sequence[Fields]) -> str:
        """Return why there is no room for the tokens of a write, empty where there is."""
        if len(self._tokens) + len(fences) <= self._most:
            return ""
        new = len({one["resource"] for one in fences} - self._tokens.keys())
        if not new or len(self._tokens) + new <= self._most:
            return ""
        return f"this partition knows tokens of {len(self._tokens)} resources, at most {self._most}: use fewer names"

    def problem(self, fences: Sequence[Fields]) -> str:
        """Return why a write is refused, empty where it is not; its tokens are remembered in that case only."""
        return self._guard.problem((one["resource"], one["token"]) for one in fences)
