"""The catalogue: which schema id is which event type and version, and the way between events and their bytes.

    event ──encode──▶  00 │ id │ Avro  ──type_of──▶ "lock.granted"     the five bytes of the prefix, nothing decoded
                                       ──read─────▶ dict               Avro only, for the hot path
                                       ──decode───▶ Event              old versions come out as the newest

Any bytes at all either decode or raise a `SchemaError` that names topic, partition, offset and schema id. No bytes make it hang
or allocate more than a small multiple of their own length.

`CATALOGUE` is the built-in one, from the files in `schemas/avro/`. `python -m schemas.catalogue --write|--check` keeps these.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any, Final, cast

from fastavro import schemaless_reader

from schemas.avro import PREFIX_BYTES, SCHEMA_ID_MAX, Schema, is_plain, parsed, prefix_of, schema_of, write_body
from schemas.committed import BUILT_IN_ID_MAX, Committed, load, main
from schemas.compatibility import is_backward
from schemas.entries import Entry, Kind
from schemas.errors import IncompatibleSchema, InvalidEvent, MalformedRecord, SchemaError, UnknownSchema
from schemas.events import ATTRIBUTES, Event, shown
from schemas.explain import explain_body, explain_prefix, unwritable
from schemas.families import BUILT_IN

__all__ = ["CATALOGUE", "USER_ID_MIN", "Catalogue", "Entry", "built_in"]

USER_ID_MIN: Final = BUILT_IN_ID_MAX + 1
"""Users' own types are numbered from here; this distribution's below."""

_NO_ATTRIBUTES: Final[dict[str, Any]] = {name: Event.model_fields[name].default for name in ATTRIBUTES}
_new, _set = object.__new__, object.__setattr__  # events are frozen; a plain class has no __new__ of its own


class Catalogue:
    """Event types, their versions and their schema ids. Register everything first, then share it: reading takes no lock."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._kinds: dict[str, Kind] = {}
        self._by_prefix: dict[bytes, Entry] = {}
        self._writers: dict[type[Event], tuple[bytes, Schema, bool]] = {}

    # ---- what is in it

    def register(
        self, cls: type[Event], *, schema_id: int | None = None, older: Mapping[int, Schema] | None = None
    ) -> type[Event]:
        """Add an event class of your own.

        Args:
            cls: The class, which is the newest version of its type.
            schema_id: Its id, from 1000; None where a Schema Registry gives the ids.
            older: The schemas of its older versions by their ids, for records still in the log.

        Returns:
            The class.

        Raises:
            InvalidEvent: The class has no type, or a field that Avro does not do.
            IncompatibleSchema: The id or the type is taken, the id is out of range, or the newest version cannot read an older
            one.
        """
        ids = [i for i in (schema_id, *(older or ())) if i is not None]
        for i in ids:
            if not USER_ID_MIN <= i <= SCHEMA_ID_MAX:
                raise IncompatibleSchema(
                    f"{cls.__name__}: ids from {USER_ID_MIN} to {SCHEMA_ID_MAX} are yours, those below this distribution's",
                    schema_id=i,
                )
            if prefix_of(i) in self._by_prefix:
                raise IncompatibleSchema(
                    f"{cls.__name__}: the id is {self._by_prefix[prefix_of(i)].event_type}'s: use another", schema_id=i
                )
        self.add_class(cls)
        try:
            for i, schema in (older or {}).items():
                self.adopt(i, schema, event_type=cls.event_type)
        except SchemaError:
            self._forget(cls, older or {})
            raise
        if schema_id is not None:
            self.bind(cls, schema_id)
        return cls

    def add_class(self, cls: type[Event], schema: Schema | None = None) -> None:
        """Add a class without an id: it can be read once an id is adopted, and written once one is bound.

        Raises:
            InvalidEvent: The class has no type, or a field that Avro does not do.
            IncompatibleSchema: Another class has the type.
        """
        if getattr(cls, "event_type", None) is None:
            raise InvalidEvent(f"class {cls.__module__}.{cls.__qualname__} has no event_type: give it one")
        known = self._kinds.get(cls.event_type)
        if known is not None and known.cls is not cls:
            raise IncompatibleSchema(
                f"{cls.event_type} is {known.cls.__module__}.{known.cls.__qualname__}'s type: give {cls.__name__} another"
            )
        schema = schema if schema is not None else schema_of(cls)
        self._kinds[cls.event_type] = Kind(cls, schema, parsed(schema), is_plain(cls))

    def bind(self, cls: type[Event], schema_id: int) -> None:
        """Give a class the id that it is written with; without a Schema Registry a class has one."""
        kind = self._kind(cls)
        prefix = prefix_of(schema_id)
        self._by_prefix[prefix] = Entry(schema_id, cls.event_type, cls.schema_version, kind.ready, None, cls, kind.plain)
        self._writers.setdefault(cls, (prefix, kind.ready, kind.plain))

    def adopt(self, schema_id: int, schema: Schema, *, event_type: str | None = None, version: int = 0) -> Entry:
        """Add a schema that others write with: an older version, or one that a Schema Registry knows.

        Args:
            schema_id: Its id.
            schema: The schema, whose full name is the event type unless that is given.
            event_type: The event type.
            version: Its version, where known.

        Raises:
            IncompatibleSchema: It is no safe Avro schema, or the newest version of the type cannot read it.
        """
        try:
            writer = parsed(schema)
        except IncompatibleSchema as e:
            raise IncompatibleSchema(e.reason, schema_id=schema_id) from e
        name = event_type or str(writer["name"])
        version = version or _version_in(schema)
        kind = self._kinds.get(name)
        if kind is not None and (violations := is_backward(schema, kind.schema)):
            raise IncompatibleSchema(
                f"{name} version {kind.cls.schema_version} cannot read it: {'; '.join(violations)}: upgrade this program",
                schema_id=schema_id,
            )
        if kind is None:
            entry = Entry(schema_id, name, version, writer, None, None, plain=False)
        else:
            entry = Entry(schema_id, name, version, writer, kind.ready, kind.cls, kind.plain)
        self._by_prefix[prefix_of(schema_id)] = entry
        return entry

    def without_ids(self) -> Catalogue:
        """Return a catalogue of the same classes and no ids, for a Schema Registry to number."""
        new = Catalogue()
        new._kinds = dict(self._kinds)
        return new

    def entries(self) -> tuple[Entry, ...]:
        """Return everything that has an id, in the order of ids."""
        return tuple(sorted(self._by_prefix.values(), key=lambda entry: entry.schema_id))

    def classes(self) -> tuple[type[Event], ...]:
        """Return the event classes."""
        return tuple(kind.cls for kind in self._kinds.values())

    def class_of(self, event_type: str) -> type[Event]:
        """Return the class of an event type.

        Raises:
            UnknownSchema: There is none.
        """
        kind = self._kinds.get(event_type)
        if kind is None:
            raise UnknownSchema(
                f"no event type is called {shown(event_type)}: known are {', '.join(sorted(self._kinds))}; register its class"
            )
        return kind.cls

    def schema(self, cls: type[Event]) -> Schema:
        """Return the newest Avro schema of a class, as JSON."""
        return self._kind(cls).schema

    def knows(self, schema_id: int) -> bool:
        """Return whether an id is in it."""
        return prefix_of(schema_id) in self._by_prefix

    # ---- events to bytes

    def encode(self, event: Event, *, schema_id: int | None = None) -> bytes:
        """Return an event's fields as Avro in Confluent wire format; the attributes are headers, see `schemas.cloudevents`.

        Args:
            event: The event.
            schema_id: The id to write, where a Schema Registry gave one; the class's own otherwise.

        Raises:
            UnknownSchema: Its class has no id.
            InvalidEvent: A value does not fit its Avro type (an int of more than 64 bits, text that is no text).
        """
        cls = type(event)
        writer = self._writers.get(cls)
        if writer is None or schema_id is not None:
            writer = self._writer(cls, schema_id)
        prefix, schema, plain = writer
        try:
            return write_body(prefix, schema, event.__dict__ if plain else event.model_dump(exclude=set(ATTRIBUTES)))
        except Exception as e:
            raise InvalidEvent(f"{cls.event_type}: {unwritable(event, e)}") from e

    def _writer(self, cls: type[Event], schema_id: int | None) -> tuple[bytes, Schema, bool]:
        kind = self._kind(cls)
        if schema_id is None:
            raise UnknownSchema(
                f"{cls.event_type} has no schema id: run `python -m schemas.catalogue --write`, or register it with an id"
            )
        return prefix_of(schema_id), kind.ready, kind.plain

    # ---- bytes to events

    def type_of(
        self, value: bytes | None, *, topic: str | None = None, partition: int | None = None, offset: int | None = None
    ) -> str:
        """Return the event type from the five bytes before the Avro body; nothing is decoded.

        Raises:
            MalformedRecord: These bytes are not Confluent wire format.
            UnknownSchema: The id is not in the catalogue.
        """
        try:
            return self._by_prefix[value[:PREFIX_BYTES]].event_type  # type: ignore[index]
        except (KeyError, TypeError):
            explain_prefix(value, {"topic": topic, "partition": partition, "offset": offset})

    def read(
        self, value: bytes | None, *, topic: str | None = None, partition: int | None = None, offset: int | None = None
    ) -> dict[str, Any]:
        """Return the fields as the newest schema has them, from Avro alone: types hold, the class's validators have not run.

        Raises:
            SchemaError: They cannot be read, see `decode`.
        """
        return self._read(value, topic, partition, offset)[1]

    def _read(
        self, value: bytes | None, topic: str | None, partition: int | None, offset: int | None
    ) -> tuple[Entry, dict[str, Any]]:
        try:
            entry = self._by_prefix[value[:PREFIX_BYTES]]  # type: ignore[index]
        except (KeyError, TypeError):
            explain_prefix(value, {"topic": topic, "partition": partition, "offset": offset})
        source = BytesIO(value)  # type: ignore[arg-type]
        source.seek(PREFIX_BYTES)
        try:
            fields = cast("dict[str, Any]", schemaless_reader(source, entry.writer, entry.reader))
        except Exception as e:  # noqa: BLE001 - fastavro raises seven kinds on bytes that are no Avro; each becomes a SchemaError
            found: Exception | int = e
        else:
            found = source.tell()
            if found == len(value):  # type: ignore[arg-type]
                return entry, fields
        return explain_body(value, entry.name, entry.schema_id, found, {"topic": topic, "partition": partition, "offset": offset})

    def decode(
        self,
        value: bytes | None,
        *,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        attributes: Mapping[str, Any] | None = None,
        expected: str | None = None,
    ) -> Event:
        """Return the event.

        Args:
            value: The record's value.
            topic: Where it was, for messages.
            partition: Where it was.
            offset: Where it was.
            attributes: The CloudEvents attributes, already checked: see `schemas.cloudevents.from_headers`.
            expected: The event type that it must be.

        Raises:
            MalformedRecord: Not Confluent wire format, cut off, more than an event, or of another type than expected.
            UnknownSchema: The id is not in the catalogue, or this release has no class for it.
            IncompatibleSchema: The newest schema cannot read it.
            InvalidEvent: Well-formed, and the class's validators refuse it.
        """
        entry, fields = self._read(value, topic, partition, offset)
        cls = entry.cls
        if cls is not None and entry.plain and (expected is None or expected == entry.event_type):
            event = _new(cls)
            _set(event, "__dict__", {**_NO_ATTRIBUTES, **attributes, **fields} if attributes else {**_NO_ATTRIBUTES, **fields})
            _set(event, "__pydantic_fields_set__", set(fields))
            _set(event, "__pydantic_extra__", None)
            _set(event, "__pydantic_private__", None)
            return event
        place: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset, "schema_id": entry.schema_id}
        if expected is not None and expected != entry.event_type:
            raise MalformedRecord(
                f"wrong type or version: {shown(expected)} was expected and the id is {entry.name}: "
                f"its producer mixes up ids or headers, correct it",
                **place,
            )
        if cls is None:
            raise UnknownSchema(f"{entry.event_type} has no class here: register it, or use the release that has it", **place)
        try:
            return cls.from_fields({**fields, **attributes} if attributes else fields)
        except InvalidEvent as e:
            raise InvalidEvent(e.reason, **place) from e

    # ---- inside

    def _kind(self, cls: type[Event]) -> Kind:
        kind = self._kinds.get(getattr(cls, "event_type", ""))
        if kind is None or kind.cls is not cls:
            raise UnknownSchema(f"class {cls.__module__}.{cls.__qualname__} is not in the catalogue: register it")
        return kind

    def _forget(self, cls: type[Event], ids: Iterable[int]) -> None:
        self._kinds.pop(cls.event_type, None)
        for i in ids:
            self._by_prefix.pop(prefix_of(i), None)


def _version_in(schema: Schema) -> int:
    """Return the version that a schema of ours says it is; 0 for another's."""
    version = schema.get("version")
    return version if type(version) is int else 0


def built_in(classes: Iterable[type[Event]] = BUILT_IN, committed: Iterable[Committed] | None = None) -> Catalogue:
    """Return a catalogue of this distribution's event types, from the committed schemas.

    A class whose version is not committed can be read and not written, so `python -m schemas.catalogue --write` still starts.
    """
    known = {(c.event_type, c.version): c for c in (load() if committed is None else committed)}
    catalogue = Catalogue()
    for cls in classes:
        mine = known.pop((cls.event_type, cls.schema_version), None)
        catalogue.add_class(cls, None if mine is None else mine.schema)
        if mine is not None:
            catalogue.bind(cls, mine.schema_id)
    for c in known.values():
        catalogue.adopt(c.schema_id, c.schema, event_type=c.event_type, version=c.version)
    return catalogue


CATALOGUE: Final = built_in()

if __name__ == "__main__":
    sys.exit(main(BUILT_IN))
