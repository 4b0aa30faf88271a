"""Records to the events that windows see, and the headers of those that are sent on by their key.

Avro of the catalogue            type: the schema id's     fields: the value's
a CloudEvent in structured mode  type: the event's         fields: its data
a JSON object                    type: its `type`          fields: its own
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.cloudevents import is_structured
from schemas.errors import MalformedRecord
from schemas.events import ATTRIBUTES

if TYPE_CHECKING:
    from streams.codec import Codec
    from streams.turns.batch import Record

__all__ = ["headers_on", "origin_of", "read"]

ORIGIN_HEADER: Final = "windows_origin"
"""Of an event that is sent on: topic/partition/offset/timestamp of the original."""
FIELD_HEADER: Final = "windows_field"
"""The field whose value is its key; it is for the definitions with that key."""
_MAGIC: Final = b"\x00"


def read(codec: Codec, record: Record, wanted: Collection[str] | None) -> tuple[str, dict[str, Any]] | None:
    """Return type and fields of a record, or None: it has no value, or its type is not wanted and it stays undecoded.

    Args:
        codec: Of typed events.
        record: The record.
        wanted: Event types; None for all.

    Raises:
        SchemaError: It is no event.
    """
    value = record.value
    if value is None:
        return None
    if value[:1] == _MAGIC:
        event_type = codec.type_of(record)
        return (event_type, codec.read(record)) if wanted is None or event_type in wanted else None
    if is_structured(record.headers):
        event = codec.decode(record)
        event_type, fields = event.event_type, event.model_dump(exclude=set(ATTRIBUTES))
    else:
        fields = _json(record, value)
        named = fields.get("type")
        event_type = named if isinstance(named, str) else ""
    return (event_type, fields) if wanted is None or event_type in wanted else None


def _json(record: Record, value: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(value)
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        return fields
    raise MalformedRecord(
        "neither Confluent wire format nor a JSON object: its producer writes another format",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
    )


def headers_on(record: Record, field: str) -> list[tuple[str, bytes]]:
    """Return the headers of an event that is sent on, keyed by a field: its own, its origin and the field."""
    origin = f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}"
    return [*record.headers, (ORIGIN_HEADER, origin.encode()), (FIELD_HEADER, field.encode())]


def origin_of(record: Record) -> tuple[str, int, int, int, str]:
    """Return topic, partition, offset and timestamp of the original, and the field whose value is the key.

    Raises:
        MalformedRecord: The record was not written by this processor.
    """
    headers = dict(record.headers)
    try:
        topic, partition, offset, timestamp = headers[ORIGIN_HEADER].decode().rsplit("/", 3)
        return topic, int(partition), int(offset), int(timestamp), headers[FIELD_HEADER].decode()
    except (KeyError, ValueError):
        raise MalformedRecord(
            f"no {ORIGIN_HEADER} and {FIELD_HEADER} as the window processor writes them: nobody else writes to this topic",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
        ) from None
