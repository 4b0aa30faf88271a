"""Records as a person reads and writes them: typed events by the catalogue, everything else as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import InvalidEvent, SchemaError

if TYPE_CHECKING:
    from streams.codec import Codec

__all__ = ["encode_event", "readable"]


def encode_event(document: dict[str, Any], *, topic: str, codec: Codec) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Value, key and headers of ``{"type": ..., fields...}``; id, source and time are filled in where they are not given.

    Raises:
        SchemaError: no such type, or fields that do not make a valid event.
    """
    import time
    import uuid

    name = document.get("type")
    if not isinstance(name, str):
        raise InvalidEvent('an event needs its "type", such as "change.committed"', topic=topic)
    event = codec.catalogue.class_of(name).from_fields({key: value for key, value in document.items() if key != "type"})
    stamped = event.stamped(id=str(uuid.uuid4()), source="/antiphon/produce", time_ms=int(time.time() * 1000))
    record = codec.encode(stamped, topic)
    return record.value, record.key, record.headers


def readable(message: Any) -> dict[str, Any]:  # noqa: ANN401 confluent_kafka has no types
    """A consumed message as a JSON-able mapping: its place, and its value decoded where it is an event.

    ``error`` says in one line why the value of a record that looks like an event could not be read; the value is then its text.
    """
    from schemas.catalogue import CATALOGUE

    value, kind, decoded, problem = message.value(), None, None, None
    place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    headers = {name: _text(content) for name, content in message.headers() or []}
    if value is not None and value[:1] == b"\0":
        try:
            kind = CATALOGUE.type_of(value, **place)
            decoded = CATALOGUE.read(value, **place)
        except SchemaError as error:
            problem = " ".join(str(error).split())
    return {
        **place,
        "timestamp_ms": message.timestamp()[1],
        "type": kind or headers.get("ce_type"),
        "key": _text(message.key()),
        "value": decoded if decoded is not None else _text(value),
        "headers": headers,
        "error": problem,
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")
