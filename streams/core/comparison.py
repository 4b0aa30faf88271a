"""Whether two projections are equal, and if not, where they first differ, in words.

Keys and values are compared as the canonical JSON in which tables are stored, so that a tuple equals the list it becomes, and
`1` does not equal `1.0` or `True`. "First" is the smallest partition, then the smallest key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

__all__ = ["Comparison", "Difference", "Partitions", "canonical", "compare"]

SHOWN_CHARS_MAX: Final = 300
"""Characters of a key or value in a message, which stays one line of a terminal or two."""

DIFFERENCES_COUNTED_MAX: Final = 1_000_000
"""Differences that are counted: one is enough to know, a million is enough to see that everything is wrong."""

Partitions = Mapping[int, Mapping[Any, Any]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key on which two projections differ.

    Attributes:
        partition: Where.
        key: The key.
        live: The live value as JSON, None where it has none.
        rebuilt: The rebuilt value as JSON, None where it has none.
    """

    partition: int
    key: str
    live: str | None
    rebuilt: str | None

    def __str__(self) -> str:
        """One line."""
        live = "nothing" if self.live is None else _short(self.live)
        rebuilt = "nothing" if self.rebuilt is None else _short(self.rebuilt)
        return f"partition {self.partition}, key {_short(self.key)}: live has {live}, rebuilt has {rebuilt}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        equal: Whether nothing differs.
        count: Keys that were compared.
        differences: Keys that differ.
        first_difference: The first of them.
    """

    equal: bool
    count: int
    differences: int = 0
    first_difference: Difference | None = None

    def __str__(self) -> str:
        """One line."""
        if self.first_difference is None:
            return f"equal: {self.count:,} keys"
        return f"{self.differences:,} of {self.count:,} keys differ; first: {self.first_difference}"


def compare(live: Partitions, rebuilt: Partitions) -> Comparison:
    """Compare two projections, partition by partition.

    Args:
        live: Partition to key to value.
        rebuilt: The same, from elsewhere.
    """
    count = differences = 0
    first: Difference | None = None
    for partition in sorted({*live, *rebuilt}):
        ours = {canonical(key): value for key, value in live.get(partition, {}).items()}
        theirs = {canonical(key): value for key, value in rebuilt.get(partition, {}).items()}
        keys = ours.keys() | theirs.keys()
        count += len(keys)
        apart = [key for key in keys if not _same(ours, theirs, key)]
        if apart:
            differences = min(DIFFERENCES_COUNTED_MAX, differences + len(apart))
            if first is None:
                key = min(apart)
                first = Difference(partition, key.decode("utf-8", "replace"), _text(ours, key), _text(theirs, key))
    return Comparison(first is None, count, differences, first)


def canonical(value: Any) -> bytes:  # noqa: ANN401 - whatever a table holds
    """Return a value as canonical JSON; what JSON cannot say is shown as Python does."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)


def _same(ours: Mapping[bytes, Any], theirs: Mapping[bytes, Any], key: bytes) -> bool:
    return key in ours and key in theirs and canonical(ours[key]) == canonical(theirs[key])


def _text(side: Mapping[bytes, Any], key: bytes) -> str | None:
    return canonical(side[key]).decode("utf-8", "replace") if key in side else None


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}… ({len(text):,} characters)"
