"""Which locks exclude each other: rows, and spans of rows (all keys of a table with a prefix).

    held / asked       intend_shared  intend_exclusive  shared  exclusive
    intend_shared            +               +             +         -
    intend_exclusive         +               +             -         -
    shared                   +               -             +         -
    exclusive                -               -             -         -

A row, or a narrower span, inside a span counts against it with its intention: shared as intend_shared, exclusive as
intend_exclusive. So nobody has to take intentions along the path himself; they are for whole spans, for who wants to say that he
will lock rows of one later. Who has a span as shared and intends exclusive locks inside has both, and excludes what either
excludes (in the books "SIX"). (Gray, Lorie, Putzolu and Traiger 1976, "Granularity of locks and degrees of consistency in a
shared data base".)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

__all__ = ["EXCLUDED", "INTENTION", "MODES", "Lock", "Thing", "covers", "excludes", "joined", "locks_of"]

Thing = tuple[str, str, bool]
"""Table, key or prefix, whether it is a prefix."""

Lock = tuple[str, str, bool, str]
"""A thing and a mode."""

MODES: Final = ("intend_shared", "intend_exclusive", "shared", "exclusive")
"""What can be asked for."""
BOTH: Final = "shared_and_intend_exclusive"

EXCLUDED: Final[dict[str, frozenset[str]]] = {
    "intend_shared": frozenset({"exclusive"}),
    "intend_exclusive": frozenset({"shared", BOTH, "exclusive"}),
    "shared": frozenset({"intend_exclusive", BOTH, "exclusive"}),
    BOTH: frozenset({"intend_exclusive", "shared", BOTH, "exclusive"}),
    "exclusive": frozenset({"intend_shared", "intend_exclusive", "shared", BOTH, "exclusive"}),
}
"""By mode, those that nobody else may have of the same thing; the matrix above, and both together."""

INTENTION: Final = {
    "intend_shared": "intend_shared",
    "shared": "intend_shared",
    "intend_exclusive": "intend_exclusive",
    BOTH: "intend_exclusive",
    "exclusive": "intend_exclusive",
}
"""How a lock counts against a wider span."""


def excludes(one: Lock, other: Lock) -> bool:
    """Return whether two locks of different transactions exclude each other."""
    (table, name, span, mode), (table_, name_, span_, mode_) = one, other
    if table != table_:
        return False
    if (name, span) == (name_, span_):
        return mode_ in EXCLUDED[mode]
    if span and name_.startswith(name):
        return INTENTION[mode_] in EXCLUDED[mode]
    return span_ and name.startswith(name_) and mode_ in EXCLUDED[INTENTION[mode]]


def covers(held: str, asked: str) -> bool:
    """Return whether who has one mode needs no other to have the second."""
    return held == asked or joined(held, asked) == held


def joined(one: str, other: str) -> str:
    """Return the mode of who has both: it excludes what either excludes, and nothing else."""
    excluded = EXCLUDED[one] | EXCLUDED[other]
    return next(mode for mode, its in EXCLUDED.items() if its == excluded)


def locks_of(writes: Sequence[Any], reads: Sequence[Any], spans: Sequence[Any]) -> list[Lock]:
    """Return the locks that stand for what a transaction writes, reads and scans."""
    return [
        *((one["table"], one["key"], False, "exclusive") for one in writes),
        *((one["table"], one["key"], False, "shared") for one in reads),
        *((one["table"], one["prefix"], True, "shared") for one in spans),
    ]
