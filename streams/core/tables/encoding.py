"""Commits and prepares as Avro, written by hand: they are on the way of every transaction.

It writes what `schemas.tables` says, field by field; a test compares it with the general writer. Avro's own rules: numbers are
zigzag varints, a text is its length and its bytes, an array is a count, its items and a zero, a union is the number of its branch
(https://avro.apache.org/docs/1.11.1/specification/).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from streams.core.tables.bodies import VALIDATED, Part

__all__ = ["Said", "commit_body"]

ISOLATIONS: Final = ("read_committed", "repeatable_read", "snapshot", "serializable")
_ISOLATION: Final = {name: bytes([2 * number]) for number, name in enumerate(ISOLATIONS)}
_FALSE, _TRUE = b"\x00", b"\x01"
_NONE: Final = b"\x00"
"""An empty array, an empty text, and the null of a union alike."""
_SOME: Final = b"\x02"
"""The other branch of a union."""
_MINUS_ONE: Final = b"\x01"


def _varint(number: int) -> bytes:
    left = number << 1 if number >= 0 else ((-number - 1) << 1) | 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


_SMALL: Final = tuple(_varint(number) for number in range(512))


class Said(NamedTuple):
    """What a transaction says to one domain when it commits.

    Attributes:
        domain: Which.
        txn: The transaction.
        owner: Who commits.
        isolation: Its level.
        part: What it did there.
        fences: Resources and tokens of the locks that it is guarded by.
        priority: For conflicts that are resolved by it.
        participants: All that take part, where they are several; None for a commit in one domain.
        timeout_ms: How long votes may take.
    """

    domain: str
    txn: str
    owner: str
    isolation: str
    part: Part
    fences: Collection[tuple[str, int]]
    priority: int
    participants: Collection[str] | None = None
    timeout_ms: int = 0


def commit_body(said: Said, *, again: bool) -> bytes:
    """Return the Avro value of a `CommitTransaction`, or of a `PrepareTransaction` where there are participants.

    Raises:
        UnicodeEncodeError: A text has lone surrogates.
    """
    part = said.part
    snapshot, reads, spans = VALIDATED[said.isolation]
    out = [_name(said.domain), _text(said.txn), _name(said.owner), _ISOLATION[said.isolation]]
    out.append(_number(part.snapshot) if snapshot else _MINUS_ONE)
    if reads and part.reads:
        _places(out, part.reads)
    else:
        out.append(_NONE)
    if spans and part.spans:
        _places(out, part.spans)
    else:
        out.append(_NONE)
    if part.expects:
        out.append(_number(len(part.expects)))
        for (table, key), version in part.expects.items():
            out += (_name(table), _name(key), _number(version))
    out.append(_NONE)
    if part.writes:
        out.append(_number(len(part.writes)))
        for (table, key), (value, policy) in part.writes.items():
            out += (_name(table), _name(key))
            out += (_NONE,) if value is None else (_SOME, _text(value))
            out.append(_name(policy) if policy else _NONE)
    out.append(_NONE)
    if said.fences:
        out.append(_number(len(said.fences)))
        for resource, token in said.fences:
            out += (_text(resource), _number(token))
    out += (_NONE, _number(said.priority), _TRUE if again else _FALSE)
    if said.participants is not None:
        if said.participants:
            out.append(_number(len(said.participants)))
            out += map(_name, said.participants)
        out += (_NONE, _number(said.timeout_ms))
    return b"".join(out)


_NAMES_KEPT: Final = 4_096
"""Names whose bytes are kept: a name has 256 characters at most, and those that are used are used again."""


@lru_cache(_NAMES_KEPT)
def _name(name: str) -> bytes:
    return _text(name)


def _text(text: str) -> bytes:
    data = text.encode()
    size = len(data)
    return (_SMALL[size] if size < 512 else _varint(size)) + data


def _number(number: int) -> bytes:
    return _SMALL[number] if 0 <= number < 512 else _varint(number)


def _places(out: list[bytes], places: Collection[tuple[str, str]]) -> None:
    out.append(_number(len(places)))
    for table, key in places:
        out += (_name(table), _name(key))
    out.append(_NONE)
