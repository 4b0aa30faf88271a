"""Records to the events that windows see, and the headers of those that are sent on by their key.

Avro of the catalogue            type: the schema id's     fields: the value's
a CloudEvent in structured mode  type: the event's         fields: its data
a JSON object                    type: its `type`          fields: its own
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import orjson

from processors.rekeying import Rekeying
from schemas.cloudevents import is_structured
from schemas.errors import MalformedRecord
from schemas.events import ATTRIBUTES

if TYPE_CHECKING:
    from streams.codec import Codec
    from streams.turns.batch import Record

__all__ = ["REKEYING", "read"]

REKEYING: Final = Rekeying("windows")
"""Headers of events that are sent on; the field says for which definitions: those with that key."""
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
