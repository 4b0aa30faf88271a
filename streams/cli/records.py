"""Records as a person reads and writes them: typed events by the catalogue, everything else as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.errors import InvalidEvent, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.codec import Codec

__all__ = ["encode_event", "readable", "readable_parts"]


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
    """A consumed message as a JSON-able mapping (see `readable_parts`)."""
    return readable_parts(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp_ms=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=message.headers() or [],
    )


def readable_parts(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
) -> dict[str, Any]:
    """A record as a JSON-able mapping: its place, and its value decoded where it is an event.

    ``error`` says in one line why the value of a record that looks like an event could not be read; the value is then its text.
    """
    from schemas.catalogue import CATALOGUE

    kind = decoded = problem = None
    named = {name: _text(content) for name, content in headers}
    if value is not None and value[:1] == b"\0":
        try:
            kind = CATALOGUE.type_of(value, topic=topic, partition=partition, offset=offset)
            decoded = CATALOGUE.read(value, topic=topic, partition=partition, offset=offset)
        except SchemaError as error:
            problem = " ".join(str(error).split())
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp_ms": timestamp_ms,
        "type": kind or named.get("ce_type"),
        "key": _text(key),
        "value": decoded if decoded is not None else _text(value),
        "headers": named,
        "error": problem,
    }


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", "backslashreplace")
