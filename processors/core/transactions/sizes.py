"""How many bytes of a record things take: what is taken in must fit into every row and answer that it comes to be in.

A row is JSON text, where a character may take six bytes and a quote takes two; answers and the feed are Avro, which is never
more. Most things are so small that this need not be counted: a bound is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from processors.core.transactions.words import Fields, Problem, TableLimits

__all__ = ["CHARACTER_BYTES_MAX", "PLACE_BYTES", "json_bytes", "size_problem", "utf8_bytes"]

PLACE_BYTES: Final = 60
"""What a read or a write takes in JSON beside its names and value: the names of its fields, and numbers."""
NAMES_BYTES_MAX: Final = 4 * 2 * 256
"""Of a table's and a key's name."""
CHARACTER_BYTES_MAX: Final = 6
PARTS: Final = ("reads", "spans", "expects", "writes", "fences")


def utf8_bytes(text: str | None) -> int:
    """Return what a text takes in an answer."""
    return 0 if text is None else len(text) if text.isascii() else len(text.encode())


def json_bytes(text: str | None) -> int:
    """Return what a text takes in a row."""
    return 4 if text is None else len(orjson.dumps(text))


def size_problem(asked: Fields, limits: TableLimits, value_chars: int) -> Problem | None:
    """Return what is wrong with a transaction that would not fit into a row, None where it fits.

    Args:
        asked: The fields of a commit or a prepare.
        limits: How much may be.
        value_chars: Characters of its values.
    """
    most = limits.transaction_bytes_max
    count = sum(len(asked[part]) for part in PARTS)
    if count * (PLACE_BYTES + NAMES_BYTES_MAX) + CHARACTER_BYTES_MAX * value_chars <= most:
        return None
    size = sum(_bytes(one) for part in PARTS for one in asked[part])
    if size <= most:
        return None
    return "too_large", f"the transaction has {size} bytes with its reads, at most {most} are allowed: make several of it"


def _bytes(one: Fields) -> int:
    texts: Iterable[str] = (text for text in one.values() if isinstance(text, str))
    return PLACE_BYTES + sum(map(json_bytes, texts))
