"""What a transaction of a history is: appends to lists and reads of whole lists, so that a read tells all that came before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["NEVER_NS", "Op", "Outcome", "Transaction", "Value", "external"]

NEVER_NS: Final = 1 << 62
Value = int | str
"""Of an element of a list: appended once in a history."""


class Outcome(StrEnum):
    """What its client knows of a transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    Attributes:
        kind: "append", "read" or "scan".
        key: The key, or the prefix that was scanned.
        value: What was appended.
        found: What was read, by key: of a scan only the keys that it returned.
    """

    kind: str
    key: str
    value: Value | None = None
    found: dict[str, tuple[Value, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction.

    Attributes:
        place: File and line, for messages.
        name: Its id.
        process: Who ran it; one at a time.
        isolation: The level it asked for; empty where that is not recorded.
        outcome: What became of it.
        invoked_ns: When it began, by a clock that all processes share.
        ended_ns: When its outcome was known; `NEVER_NS` where it is not.
        ops: In their order.
    """

    place: str
    name: str
    process: str
    isolation: str
    outcome: Outcome
    invoked_ns: int
    ended_ns: int
    ops: tuple[Op, ...]

    def appends(self) -> dict[str, list[Value]]:
        """Return what it appended, by key, in its order."""
        found: dict[str, list[Value]] = {}
        for op in self.ops:
            if op.kind == "append":
                assert op.value is not None
                found.setdefault(op.key, []).append(op.value)
        return found


def external(transaction: Transaction) -> list[tuple[str, tuple[Value, ...], bool, bool]]:
    """Return its reads without what it appended itself: key, list, whether it was a scan, whether its own appends were there."""
    own: dict[str, list[Value]] = {}
    reads: list[tuple[str, tuple[Value, ...], bool, bool]] = []
    for op in transaction.ops:
        if op.kind == "append":
            assert op.value is not None
            own.setdefault(op.key, []).append(op.value)
            continue
        for key, values in op.found.items():
            mine = own.get(key, [])
            ends = not mine or list(values[-len(mine) :]) == mine
            reads.append((key, values[: len(values) - len(mine)] if mine and ends else values, op.kind == "scan", ends))
    return reads
