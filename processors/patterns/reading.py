"""Records to the events that patterns see: skipped by type before decoding, and decoded once for all patterns.

    Avro of the catalogue            type: the schema id's     fields: the value's
    a JSON object                    type: its `type`          fields: its own
    a CloudEvent in structured mode  type: the event's         fields: its data

An event is a dict of the fields that some pattern names, and four that every event has: `id` (topic, partition, offset), `key`
(the correlation key as text), `ts` (the field `ts` where that is a whole number of milliseconds, else the record's timestamp)
and `type`. A value that is no number, string or boolean is null, and so are NaN and the infinities. A record without a value or
a key is nobody's event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from fastavro import schemaless_reader

from processors.core.watermarks import is_time
from processors.patterns.picking import maker, picker, scalar
from schemas.cloudevents import is_structured
from schemas.errors import MalformedRecord
from schemas.events import ATTRIBUTES

if TYPE_CHECKING:
    from processors.patterns.needs import Need
    from processors.patterns.picking import Make, Pick
    from schemas.entries import Entry
    from streams.codec import Codec
    from streams.turns.batch import Record

__all__ = ["Event", "Plan", "Reading", "Taken", "key_text", "scalar", "text_of"]

Event = dict[str, Any]
Place = tuple[str, int, int]

Adds = list[tuple[Callable[[Event], None], Callable[[int], None]]]
"""For each pattern, what takes an event and what takes when it was written."""

PREFIX_BYTES: Final = 5
"""Magic byte and schema id: what tells the event type."""
_OBJECT: Final = b"{"
_MAGIC: Final = b"\x00"


class Taken:
    """What one pattern takes of a batch.

    Attributes:
        events: In the order of the log.
        source: Where all came from, "topic/partition"; empty where they came from several.
        sources: Where each came from, then.
        logged: When each was written to the log, ms.
    """

    __slots__ = ("events", "logged", "source", "sources")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.source = ""
        self.sources: list[str] = []
        self.logged: list[int] = []

    def add(self, event: Event, source: str, logged: int) -> None:
        """Take one event, of several sources."""
        self.events.append(event)
        self.sources.append(source)
        self.logged.append(logged)


class Plan:
    """What is done with the records of one event type.

    Attributes:
        type: The type.
        targets: The places of the patterns that read it.
        names: The fields that they name.
        routes: The fields by which it is keyed anew.
        wanted: Whether anybody wants such records.
        entry: The schema of records in wire format.
        bare: Whether nothing of the value is asked for, so that it is not decoded at all.
        pick: Reads what is asked for without the rest, where the schema is flat and the newest.
        make: Makes the event likewise, where nothing is keyed anew.
    """

    __slots__ = ("bare", "entry", "make", "names", "pick", "routes", "targets", "type", "wanted")

    def __init__(
        self,
        event_type: str,
        targets: tuple[int, ...],
        names: tuple[str, ...],
        routes: tuple[str, ...],
        entry: Entry | None = None,
    ) -> None:
        self.type, self.targets, self.names, self.routes, self.entry = event_type, targets, names, routes, entry
        self.wanted = bool(targets or routes)
        self.bare = False
        self.pick: Pick | None = None
        self.make: Make | None = None
        if entry is not None:
            has = {field["name"] for schema in (entry.writer, entry.reader) if schema is not None for field in schema["fields"]}
            self.names = tuple(name for name in names if name in has)
            self.bare = not (self.names or routes or "ts" in has)
            if entry.reader is None:
                self.pick = picker(entry.writer, ("ts", *self.names, *routes))
                if targets and not routes:
                    self.make = maker(entry.writer, self.names, event_type)
            if self.bare and targets:
                self.make = _bare(event_type)


def _bare(event_type: str) -> Make:
    """Make events of which nothing is asked but that they are there."""

    def make(_: bytes, place: Place, key: str, ts: int) -> Event:
        return {"id": place, "key": key, "ts": ts, "type": event_type}

    return make


class Reading:
    """Reads the records of one topic for the patterns that are to see them.

    Args:
        codec: Of typed events.
        needs: The patterns.
        routes: Patterns whose events are to be keyed anew.
    """

    def __init__(self, codec: Codec, needs: Sequence[Need], routes: Iterable[Need] = ()) -> None:
        self._codec, self._needs, self._routes = codec, needs, tuple(routes)
        self._plans: dict[str, Plan] = {}
        self._by_prefix: dict[bytes, Plan] = {}
        self._keys: dict[bytes, str] = {}  # one text for all events of a key: its hash is known then, and it is there once

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._needs or self._routes)

    def plan(self, record: Record) -> tuple[Plan, dict[str, Any] | None] | None:
        """Return what to do with a record, and its fields where they had to be decoded to know that; None: nothing.

        Raises:
            SchemaError: It is no event.
        """
        value = record.value
        if value is None:
            return None
        known = self._by_prefix.get(value[:PREFIX_BYTES])
        if known is not None:
            return (known, None) if known.wanted else None
        if value[:1] == _MAGIC:
            plan = self._by_prefix[value[:PREFIX_BYTES]] = self._of_schema(self._codec.type_of(record), value[:PREFIX_BYTES])
            return (plan, None) if plan.wanted else None
        event_type, fields = self._from_json(record, value)
        plan = self._of_type(event_type)
        return (plan, fields) if plan.wanted else None

    def fields(self, plan: Plan, record: Record, decoded: dict[str, Any] | None) -> dict[str, Any]:
        """Return the fields of a record.

        Raises:
            SchemaError: It cannot be decoded.
        """
        if decoded is not None:
            return decoded
        if plan.bare:
            return _NOTHING
        if plan.pick is not None:
            try:
                return plan.pick(record.value)  # type: ignore[arg-type] # a value in wire format
            except Exception:  # noqa: BLE001, S110 whatever it stumbles over, fastavro's answer counts
                pass
        if (entry := plan.entry) is not None:  # as the catalogue reads it; what is odd is left to it, to be told with its place
            source = BytesIO(record.value)  # type: ignore[arg-type] # a value in wire format
            source.seek(PREFIX_BYTES)
            try:
                fields = cast("dict[str, Any]", schemaless_reader(source, entry.writer, entry.reader))
            except Exception:  # noqa: BLE001 fastavro raises seven kinds; the catalogue says which and where
                fields = None
            if fields is not None and source.tell() == len(record.value):  # type: ignore[arg-type] # as above
                return fields
        return self._codec.catalogue.read(record.value, topic=record.topic, partition=record.partition, offset=record.offset)

    def event(self, plan: Plan, fields: dict[str, Any], place: Place, key: str, timestamp: int) -> Event:
        """Return the event that patterns see."""
        ts = fields.get("ts")
        if ts is None or not is_time(ts):
            ts = timestamp
        event: Event = {"id": place, "key": key, "ts": ts, "type": plan.type}
        for name in plan.names:
            value = fields.get(name)
            if value.__class__ in _AS_IT_IS or (isinstance(value, float) and value - value == 0.0):  # neither NaN nor infinite
                event[name] = value
            elif value is not None:
                event[name] = scalar(value)
        return event

    def read(self, records: Iterable[Record], source: str) -> tuple[list[Taken], list[tuple[Record, str, str]]]:
        """Read records that are keyed as the patterns want them.

        Args:
            records: The records, of one partition.
            source: It, as "topic/partition".

        Returns:
            For each pattern its events, and the records to be keyed anew, each with the field and its value.

        Raises:
            SchemaError: A record is no event; nothing has been changed then.
        """
        found = [Taken() for _ in self._needs]
        for taken in found:
            taken.source = source
        adds = [(taken.events.append, taken.logged.append) for taken in found]
        routed: list[tuple[Record, str, str]] = []
        by_prefix, keys = self._by_prefix, self._keys
        if len(keys) > KEYS_MAX:
            keys.clear()
        for record in records:
            value = record.value
            if value is None:
                continue
            plan = by_prefix.get(value[:PREFIX_BYTES])
            if plan is None or plan.make is None or (raw := record.key) is None:
                if plan is None or plan.wanted:
                    self._read(record, plan, adds, routed)
                continue  # most records of a busy topic end here
            key = keys.get(raw) or self._key(raw)
            timestamp = record.timestamp
            try:
                event = plan.make(value, (record.topic, record.partition, record.offset), key, timestamp)
            except Exception:  # noqa: BLE001 whatever it stumbles over, fastavro's answer counts
                self._read(record, plan, adds, routed)
                continue
            for target in plan.targets:
                add, note = adds[target]
                add(event)
                note(timestamp)
        return found, routed

    # ---- inside

    def _read(self, record: Record, plan: Plan | None, adds: Adds, routed: list[tuple[Record, str, str]]) -> None:
        """Read one record the long way."""
        decoded = None
        if plan is None:
            planned = self.plan(record)
            if planned is None:
                return
            plan, decoded = planned
        fields = self.fields(plan, record, decoded)
        for field in plan.routes:
            text = key_text(fields.get(field))
            if text is not None:
                routed.append((record, field, text))
        if not plan.targets or record.key is None:
            return
        key, place = self._key(record.key), (record.topic, record.partition, record.offset)
        event = self.event(plan, fields, place, key, record.timestamp)
        for target in plan.targets:
            add, note = adds[target]
            add(event)
            note(record.timestamp)

    def _key(self, raw: bytes) -> str:
        key = self._keys.get(raw)
        if key is None:
            key = self._keys[raw] = text_of(raw)
        return key

    def _of_schema(self, event_type: str, prefix: bytes) -> Plan:
        schema_id = int.from_bytes(prefix[1:], "big", signed=True)
        entry = next(one for one in self._codec.catalogue.entries() if one.schema_id == schema_id)
        plan = self._of_type(event_type)
        return Plan(event_type, plan.targets, plan.names, plan.routes, entry)

    def _of_type(self, event_type: str) -> Plan:
        plan = self._plans.get(event_type)
        if plan is None:
            wanted = [i for i, need in enumerate(self._needs) if _reads(need, event_type)]
            names = {name for i in wanted for name in self._needs[i].fields}
            routes = {need.keyed for need in self._routes if need.keyed is not None and _reads(need, event_type)}
            plan = Plan(event_type, tuple(wanted), tuple(sorted(names)), tuple(sorted(routes)))
            if len(self._plans) < PLANS_MAX:
                self._plans[event_type] = plan
        return plan

    def _from_json(self, record: Record, value: bytes) -> tuple[str, dict[str, Any]]:
        if is_structured(record.headers):
            event = self._codec.decode(record)
            return event.event_type, event.model_dump(exclude=set(ATTRIBUTES))
        place: dict[str, Any] = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if value.lstrip()[:1] != _OBJECT:
            raise MalformedRecord("neither Confluent wire format nor a JSON object: its producer writes another format", **place)
        try:
            fields = orjson.loads(value)
        except ValueError as error:
            raise MalformedRecord(f"it begins as a JSON object and is none ({error})", **place) from None
        event_type = fields.get("type")
        return (event_type if isinstance(event_type, str) else ""), fields


_NOTHING: Final[dict[str, Any]] = {}
_AS_IT_IS: Final = frozenset({str, int, bool})
KEYS_MAX: Final = 100_000
"""Keys remembered as text, about 10 MB."""
PLANS_MAX: Final = 10_000
"""Event types remembered: plain JSON may name any number of them."""


def _reads(need: Need, event_type: str) -> bool:
    types = need.definition.types
    return not types or event_type in types


def text_of(raw: bytes) -> str:
    """Return a record's key as text: bytes that are no UTF-8 are escaped."""
    return raw.decode("utf-8", "backslashreplace")


def key_text(value: object) -> str | None:
    """Return a correlation key as text; None where the value is no key."""
    if isinstance(value, str):
        return value
    if value.__class__ is bool:
        return "true" if value else "false"
    return str(value) if value.__class__ in (int, float) else None
