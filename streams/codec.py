"""Events to records and back: Avro value, CloudEvents headers, key; ids from the catalogue, or from a Schema Registry.

    event ──encode──▶ topic, key, value, headers        record ──type_of──▶ "lock.granted", nothing decoded
          ◀──decode── record                                   ──read─────▶ dict, the value's fields alone

A record is anything with aiokafka's shape (attributes) or confluent-kafka's (methods).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from schemas.avro import PREFIX_BYTES
from schemas.catalogue import CATALOGUE, Catalogue
from schemas.cloudevents import Headers, from_headers, is_structured, read_structured, to_headers
from schemas.errors import InvalidEvent, MalformedRecord, SchemaError, UnknownSchema
from schemas.events import Event, shown
from streams.registry import SchemaRegistry

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["Codec", "Encoded", "Message", "Record", "as_record"]


class Record(Protocol):
    """A record as read from the log; aiokafka's ConsumerRecord has this shape."""

    @property
    def topic(self) -> str:
        """The topic."""

    @property
    def partition(self) -> int:
        """The partition."""

    @property
    def offset(self) -> int:
        """The offset."""

    @property
    def value(self) -> bytes | None:
        """The value."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The headers, in order."""


class Message(Protocol):
    """A record as confluent-kafka has it, in the part that is read here."""

    def topic(self) -> str | None: ...  # noqa: D102
    def partition(self) -> int | None: ...  # noqa: D102
    def offset(self) -> int | None: ...  # noqa: D102
    def timestamp(self) -> tuple[int, int]: ...  # noqa: D102
    def key(self) -> Any: ...  # noqa: ANN401, D102
    def value(self) -> Any: ...  # noqa: ANN401, D102
    def headers(self) -> Any: ...  # noqa: ANN401, D102


class Plain(NamedTuple):
    """A record of values, for sources of another shape."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Encoded(NamedTuple):
    """An event as a record to produce."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


def as_record(source: Record | Message) -> Record:
    """Return a record from aiokafka's ConsumerRecord as it is, and from confluent-kafka's Message with its values read."""
    if not callable(source.topic):
        return source
    headers = [(name, value if value is not None else b"") for name, value in source.headers() or ()]
    return Plain(
        topic=source.topic() or "",
        partition=source.partition() or 0,
        offset=source.offset() or 0,
        timestamp=source.timestamp()[1],
        key=source.key(),
        value=source.value(),
        headers=headers,
    )


class Codec:
    """Encodes and decodes events for one program. Not shared between threads."""

    def __init__(self, catalogue: Catalogue = CATALOGUE, registry: SchemaRegistry | None = None) -> None:
        """Take the event types.

        Args:
            catalogue: The event types; with a registry its ids do not count.
            registry: Where ids come from; None for the catalogue's own.
        """
        self._registry = registry
        self.catalogue = catalogue if registry is None else catalogue.without_ids()
        self._ids: dict[tuple[type[Event], str], int] = {}

    @classmethod
    def from_settings(cls, settings: Settings, catalogue: Catalogue = CATALOGUE) -> Codec:
        """Return a codec with the registry that the settings name, if they name one."""
        return cls(catalogue, SchemaRegistry.from_settings(settings.registry))

    def prepare(self, classes: Iterable[type[Event]], topic: str | None = None) -> None:
        """Ask a registry for the ids of these classes now, so that no later call waits for it; without one, do nothing.

        Args:
            classes: The event classes that will be encoded.
            topic: The topic they go to, else each class's own.

        Raises:
            SchemaError: The registry does not answer, or refuses.
        """
        if self._registry is not None:
            for cls in classes:
                self._id(cls, topic or cls.topic)

    def encode(self, event: Event, topic: str | None = None) -> Encoded:
        """Return the event as a record.

        Args:
            event: The event, stamped: it has an id and a source.
            topic: Where it goes, else its class's own topic.

        Raises:
            InvalidEvent: It has no id or source, or a value that Avro cannot hold.
            SchemaError: Its class has no schema id, or the registry does not give one.
        """
        at = topic or event.topic
        try:
            schema_id = None if self._registry is None else self._id(type(event), at)
            return Encoded(at, event.key(), self.catalogue.encode(event, schema_id=schema_id), to_headers(event))
        except SchemaError as e:
            raise _placed(e, at) from e

    def type_of(self, record: Record | Message) -> str:
        """Return a record's event type without decoding it.

        Raises:
            SchemaError: It is no event, or an unknown one.
        """
        record = as_record(record)
        value = record.value
        try:
            return self.catalogue.type_of(value, topic=record.topic, partition=record.partition, offset=record.offset)
        except MalformedRecord:
            if not is_structured(record.headers):
                raise
            try:
                return read_structured(value).event_type
            except SchemaError as e:
                raise _placed(e, record) from e
        except UnknownSchema:
            self._fetch(record)
            return self.catalogue.type_of(value, topic=record.topic, partition=record.partition, offset=record.offset)

    def read(self, record: Record | Message) -> dict[str, Any]:
        """Return the fields of a record's value, without attributes and validators: the fast way.

        Raises:
            SchemaError: It is no event, or an unknown one.
        """
        record = as_record(record)
        try:
            return self.catalogue.read(record.value, topic=record.topic, partition=record.partition, offset=record.offset)
        except UnknownSchema:
            self._fetch(record)
            return self.catalogue.read(record.value, topic=record.topic, partition=record.partition, offset=record.offset)

    def decode(self, record: Record | Message) -> Event:
        """Return a record's event with its attributes, in binary or in structured mode.

        Raises:
            SchemaError: It is no event, an unknown one, or not the one its headers say; the message has topic, partition and
            offset.
        """
        record = as_record(record)
        value, headers = record.value, record.headers
        if value is None or value[:1] != b"\x00":
            return self._decode_structured(record)
        try:
            named, attributes = from_headers(headers)
        except InvalidEvent as e:
            raise _placed(e, record) from e
        for attempt in (1, 2):
            try:
                return self.catalogue.decode(
                    value,
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    attributes=attributes,
                    expected=named or None,
                )
            except UnknownSchema:
                if attempt == 2 or self._registry is None or self.catalogue.knows(_id_in(value)):
                    raise
                self._fetch(record)
        raise AssertionError("unreachable: the second attempt returns or raises")

    def stamp(self, event: Event, *, id: str, source: str, time_ms: int, cause: Record | Message | Event | None = None) -> Event:  # noqa: A002 - CloudEvents' word
        """Return the event with its empty attributes filled in.

        Args:
            event: The event; attributes it already has are kept.
            id: Its id.
            source: Who made it.
            time_ms: When it happened.
            cause: The record or event that caused it, which gives causation, correlation and trace. A record without an id
                counts as `topic/partition/offset`.
        """
        if cause is None:
            return event.stamped(id=id, source=source, time_ms=time_ms)
        if isinstance(cause, Event):
            return event.caused_by(cause).stamped(id=id, source=source, time_ms=time_ms)
        cause = as_record(cause)
        before = self._attributes(cause)
        parent = before.get("id") or f"{cause.topic}/{cause.partition}/{cause.offset}"
        return event.stamped(
            id=id,
            source=source,
            time_ms=time_ms,
            causation_id=parent,
            correlation_id=before.get("correlation_id") or parent,
            traceparent=before.get("traceparent", ""),
            tracestate=before.get("tracestate", ""),
        )

    def close(self) -> None:
        """Close the registry's connections."""
        if self._registry is not None:
            self._registry.close()

    # ---- inside

    def _attributes(self, record: Record) -> dict[str, Any]:
        try:
            if (record.value or b"")[:1] != b"\x00" and is_structured(record.headers):
                return read_structured(record.value).attributes
            return from_headers(record.headers)[1]
        except SchemaError as e:
            raise _placed(e, record) from e

    def _decode_structured(self, record: Record) -> Event:
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if not is_structured(record.headers):
            return self.catalogue.decode(record.value, **place)  # type: ignore[arg-type] # raises: it is no wire format
        try:
            whole = read_structured(record.value)
            if isinstance(whole.data, bytes):
                inner = Plain(record.topic, record.partition, record.offset, 0, None, whole.data, ())
                if self._registry is not None and whole.data[:1] == b"\x00" and len(whole.data) >= PREFIX_BYTES:
                    self._fetch(inner)
                return self.catalogue.decode(whole.data, attributes=whole.attributes, expected=whole.event_type, **place)  # type: ignore[arg-type]
            if not isinstance(whole.data, dict):
                raise MalformedRecord(f"data is {shown(whole.data)}: an object, or Avro as data_base64, is allowed")
            return self.catalogue.class_of(whole.event_type).from_fields({**whole.data, **whole.attributes})
        except SchemaError as e:
            raise _placed(e, record) from e

    def _id(self, cls: type[Event], topic: str) -> int:
        known = self._ids.get((cls, topic))
        if known is None:
            assert self._registry is not None
            known = self._registry.id_of(topic, cls.event_type, self.catalogue.schema(cls))
            self.catalogue.bind(cls, known)
            self._ids[cls, topic] = known
        return known

    def _fetch(self, record: Record) -> None:
        """Learn a record's schema from the registry.

        Raises:
            SchemaError: There is no registry, it does not know the id, or the schema is of no use.
        """
        schema_id = _id_in(cast(bytes, record.value))
        if self.catalogue.knows(schema_id):
            return
        try:
            if self._registry is None:
                self.catalogue.type_of(record.value)
            else:
                self.catalogue.adopt(schema_id, self._registry.schema(schema_id))
        except SchemaError as e:
            raise _placed(e, record) from e


def _id_in(value: bytes) -> int:
    return int.from_bytes(value[1:PREFIX_BYTES], "big", signed=True)


def _placed(error: SchemaError, place: Record | str) -> SchemaError:
    """Return the same error with the topic, or the record's whole place, in front."""
    if isinstance(place, str):
        topic, partition, offset = place, None, None
    else:
        topic, partition, offset = place.topic, place.partition, place.offset
    return type(error)(error.reason, topic=topic, partition=partition, offset=offset, schema_id=error.schema_id)
