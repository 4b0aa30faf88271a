"""Which locks exclude each other: rows, and spans of rows (all keys of a table with a prefix).

    held / asked       intend_shared  intend_exclusive  shared  exclusive
    intend_shared            +               +             +         -
    intend_exclusive         +               +             -         -
    shared                   +               -             +         -
    exclusive                -               -             -         -

A row, or a narrower span, inside a span counts against it with its intention: shared as intend_shared, exclusive as
intend_exclusive. So nobody has to take intentions along the path himself; who wants to say that he will lock rows of a span later
may. (Gray, Lorie, Putzolu and Traiger 1976, "Granularity of locks and degrees of consistency in a shared data base".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

__all__ = ["INTENTION", "MODES", "Lock", "covers", "excludes", "locks_of", "stronger"]

Lock = tuple[str, str, bool, str]
"""Table, key or prefix, whether it is a prefix, mode."""

MODES: Final = ("intend_shared", "intend_exclusive", "shared", "exclusive")

_TOGETHER: Final = frozenset(
    {
        ("intend_shared", "intend_shared"),
        ("intend_shared", "intend_exclusive"),
        ("intend_shared", "shared"),
        ("intend_exclusive", "intend_exclusive"),
        ("shared", "shared"),
    }
)
INTENTION: Final = {
    "intend_shared": "intend_shared",
    "shared": "intend_shared",
    "intend_exclusive": "intend_exclusive",
    "exclusive": "intend_exclusive",
}


def compatible(one: str, other: str) -> bool:
    """Return whether two transactions may have the same thing in these modes."""
    return (one, other) in _TOGETHER or (other, one) in _TOGETHER


def excludes(one: Lock, other: Lock) -> bool:
    """Return whether two locks of different transactions exclude each other."""
    if one[0] != other[0]:
        return False
    if one[2] and other[2]:
        if one[1] == other[1]:
            return not compatible(one[3], other[3])
        if other[1].startswith(one[1]):
            return not compatible(one[3], INTENTION[other[3]])
        return one[1].startswith(other[1]) and not compatible(INTENTION[one[3]], other[3])
    if one[2]:
        return other[1].startswith(one[1]) and not compatible(one[3], INTENTION[other[3]])
    if other[2]:
        return one[1].startswith(other[1]) and not compatible(INTENTION[one[3]], other[3])
    return one[1] == other[1] and not compatible(one[3], other[3])


def covers(held: str, asked: str) -> bool:
    """Return whether who has one mode needs no other to have the second."""
    return held in (asked, "exclusive") or (held in ("shared", "intend_exclusive") and asked == "intend_shared")


def stronger(held: str, asked: str) -> str:
    """Return a mode that covers both; shared and intend_exclusive together are exclusive here."""
    if covers(held, asked):
        return held
    if covers(asked, held):
        return asked
    return "exclusive"


def locks_of(writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any]) -> list[Lock]:
    """Return the locks that stand for what a transaction writes, reads and scans."""
    return [
        *((one["table"], one["key"], False, "exclusive") for one in writes),
        *((one["table"], one["key"], False, "shared") for one in reads),
        *((one["table"], one["prefix"], True, "shared") for one in spans),
    ]
