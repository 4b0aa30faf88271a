"""What is wrong with bytes that cannot be read, or an event that cannot be written: one line, with what to do."""

from __future__ import annotations

from typing import Any, Final, NoReturn, cast

from schemas.avro import MAGIC, PREFIX_BYTES
from schemas.errors import MalformedRecord, UnknownSchema
from schemas.events import Event, shown

__all__ = ["explain_body", "explain_prefix", "unwritable"]

_LONG_MIN: Final = -(1 << 63)
_LONG_MAX: Final = (1 << 63) - 1


def explain_prefix(value: object, place: dict[str, Any]) -> NoReturn:
    """Raise what is wrong with the five bytes before the Avro body."""
    what = "find its producer and send Avro in Confluent wire format"
    if value is None:
        raise MalformedRecord("the record has no value (a tombstone), and an event has one: find its producer", **place)
    if not isinstance(value, bytes):
        raise MalformedRecord(f"the value is {type(value).__name__}: bytes are allowed", **place)
    if value[:1] != MAGIC:
        begins = f"begins with the byte 0x{value[0]:02x} in place of 0x00" if value else "is empty"
        raise MalformedRecord(f"not Confluent wire format: the value {begins}: {what}", **place)
    if len(value) < PREFIX_BYTES:
        raise MalformedRecord(f"cut off: the value has {len(value)} bytes and its header takes {PREFIX_BYTES}: {what}", **place)
    raise UnknownSchema(
        "the schema id is unknown: upgrade if a newer release wrote it, register its class, or set its Schema Registry",
        schema_id=int.from_bytes(value[1:PREFIX_BYTES], "big", signed=True),
        **place,
    )


def explain_body(value: object, name: str, schema_id: int, found: Exception | int, place: dict[str, Any]) -> NoReturn:
    """Raise what is wrong with an Avro body: what fastavro raised, or where it stopped."""
    size = len(cast(bytes, value))
    if isinstance(found, int) and found < size:
        problem = f"{size - found} bytes are left over after {name}: another schema wrote it: correct its producer"
        raise MalformedRecord(problem, schema_id=schema_id, **place)
    words = (
        f"{type(found).__name__}: {' '.join(str(found).split())}" if isinstance(found, Exception) else "its last value goes on"
    )
    problem = f"{name} is cut off or another schema wrote it ({words.rstrip(': ')}): correct its producer"
    raise MalformedRecord(problem, schema_id=schema_id, **place) from (found if isinstance(found, Exception) else None)


def unwritable(event: Event, error: Exception) -> str:
    """Return which field cannot be written and why: what pydantic lets through are large integers and lone surrogates."""
    for name in type(event).payload_fields():
        value = getattr(event, name)
        if isinstance(value, int) and not _LONG_MIN <= value <= _LONG_MAX:
            return f"{name} is {shown(value)}: a whole number of 64 bits is allowed"
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"{name} is {shown(value)}: text without lone surrogates is allowed"
    return f"cannot be written as Avro ({' '.join(str(error).split()) or type(error).__name__}): check its nested values"
