"""A lane without Kafka: real batches and views over tables in memory, committed, dropped or moved as a test likes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from processors.core.cep.model import Definition
from processors.patterns.cell import REKEYING, Cell
from processors.patterns.control import encode
from processors.patterns.follower import Teller
from processors.patterns.options import CepOptions
from processors.patterns.rows import RowCodec
from schemas.catalogue import CATALOGUE
from streams.codec import Codec
from streams.turns.batch import Batch
from streams.turns.records import FetchedRecord
from streams.turns.stores import MemoryParts
from streams.turns.tables import JsonCodec

SOURCE, KEYED = "in", "app-cep-keyed"
NOW = 1_800_000_000_000


class MemoryTable:
    """What a view needs of a table."""

    default: Callable[[], Any] | None = None
    immutable_values = True

    def __init__(self, name: str, codec: Any) -> None:
        self.name, self.codec = name, codec
        self.parts = MemoryParts(codec)
        self.log: dict[bytes, bytes | None] = {}

    def encode(self, writes: Any) -> dict[bytes, bytes | None]:
        from streams.turns.batch import GONE

        return {
            self.codec.encode_key(key): None if value is GONE else self.codec.encode_value(value) for key, value in writes.items()
        }


class Bench:
    """One partition of a pattern app.

    Attributes:
        out: What was committed, decoded, in order.
        ends: Topic to its end: what `caught_up` is told.
    """

    def __init__(self, *topics: str) -> None:
        self.options = CepOptions(topics=topics or (SOURCE,))
        self.codec = Codec(CATALOGUE)
        self.lanes, self.states = MemoryTable("cep-lanes", JsonCodec()), MemoryTable("cep-states", RowCodec())
        self.out: list[dict[str, Any]] = []
        self.sent: list[tuple[str, bytes | None, bytes | None, Any]] = []
        self.now, self.behind = NOW, False
        self.offsets: dict[str, int] = {}
        self.wake: int | None = None
        self.controls = 0
        self.teller: Teller
        self.cell: Cell
        self.other_worker()

    def other_worker(self) -> None:
        """Let another process have the lane: it knows the tables' changelogs and the patterns topic, and nothing else."""
        for table in (self.lanes, self.states):
            table.parts = MemoryParts(table.codec)
            records = [FetchedRecord("log", 0, i, 0, 0, key, value, ()) for i, (key, value) in enumerate(table.log.items())]
            table.parts.load(0, records)
        app: Any = SimpleNamespace(
            codec=self.codec,
            options=SimpleNamespace(client={"bootstrap.servers": "nowhere:1"}, record_bytes_max=1_000_000),
            caught_up=lambda _topic, _partition: not self.behind,
            source_partitions=1,
            wake=lambda: None,
        )
        self.cell = Cell(app, self.options, keyed_topic=KEYED)
        known = getattr(self, "teller", None)
        self.teller = known if known is not None else Teller(self.cell._problem)
        self.cell._follower.current = self.teller.snapshot()

    # ---- the patterns topic

    def control(self, name: str, value: bytes | None) -> int:
        """Put a record on the patterns topic; return its offset."""
        offset = self.controls
        self.controls += 1
        self.teller.take(name.encode(), value, offset)
        self.cell._follower.current = self.teller.snapshot()
        return offset

    def publish(self, definition: Definition, **more: Any) -> int:
        """Publish a pattern; return its version."""
        return self.control(definition.name, encode(definition, now_ms=self.now, **more))

    # ---- records

    def records(self, events: Iterable[dict[str, Any]], topic: str = SOURCE, **given: Any) -> list[FetchedRecord]:
        """Return the next records of a topic, JSON objects; `_key` is the record's key."""
        made = []
        for event in events:
            body = {k: v for k, v in event.items() if k != "_key"}
            offset = self.offsets.get(topic, 0)
            self.offsets[topic] = offset + 1
            key = event.get("_key", "k")
            value = given.get("value") or json.dumps(body).encode()
            made.append(FetchedRecord(topic, 0, offset, self.now, 0, None if key is None else key.encode(), value, ()))
        return made

    def batch(self, records: list[FetchedRecord], topic: str = SOURCE, *, commit: bool = True, after_ms: int = 1) -> Batch:
        """Run one batch; commit or drop what it left."""
        self.now += after_ms
        batch = Batch(
            TP(topic, 0),
            records,
            now_ms=self.now,
            next_offset=records[-1].offset + 1 if records else self.offsets.get(topic, 0),
            below=lambda _table: (),
            codec=self.codec,
        )
        take = self.cell.keyed if topic == KEYED else self.cell.direct
        take(batch, lanes=batch.view(self.lanes), states=batch.view(self.states))
        effects = batch.seal(record_bytes_max=1_000_000)
        if commit:
            self.wake = batch.due_ms
            for table, writes in effects.writes.items():
                encoded = effects.encoded.get(table, {})
                assert isinstance(table, MemoryTable)
                table.parts.apply(0, writes, encoded, None)
                table.log.update(encoded)
            for output_topic, key, value, _, headers in effects.outputs:
                self.sent.append((output_topic, key, value, headers))
                if output_topic != KEYED:
                    fields = CATALOGUE.read(value)
                    self.out.append(
                        {"event": CATALOGUE.type_of(value), "to": output_topic, "headers": dict(headers or ()), **fields}
                    )
        return batch

    def feed(self, *events: dict[str, Any], topic: str = SOURCE) -> None:
        """Run one batch of these events."""
        self.batch(self.records(events, topic), topic)

    def idle(self, ms: int) -> None:
        """Let wall time pass with nothing to read, waking whenever asked."""
        until = self.now + ms
        while self.wake is not None and self.wake <= until:
            self.batch([], after_ms=max(1, self.wake - self.now))
        if self.now < until:
            self.batch([], after_ms=until - self.now)

    def relay(self) -> None:
        """Bring the events that were keyed anew to where they are matched."""
        keyed = [(key, value, headers) for topic, key, value, headers in self.sent if topic == KEYED]
        self.sent = [one for one in self.sent if one[0] != KEYED]
        records = []
        for key, value, headers in keyed:
            offset = self.offsets.get(KEYED, 0)
            self.offsets[KEYED] = offset + 1
            records.append(FetchedRecord(KEYED, 0, offset, self.now, 0, key, value, tuple(headers)))
        assert all({REKEYING.origin_header, REKEYING.field_header} <= dict(record.headers).keys() for record in records)
        self.batch(records, KEYED)

    # ---- what was said

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return what was said of one kind."""
        return [one for one in self.out if one["event"] == f"pattern.{event}"]

    def found(self, event: str = "matched") -> list[tuple[Any, ...]]:
        """Return version, key and stages with offsets of what was said of one kind, in order."""
        return [
            (
                one["version"],
                one["correlation_key"],
                {stage["stage"]: [event["offset"] for event in stage["events"]] for stage in one["stages"]},
            )
            for one in self.of(event)
        ]

    def rows(self, version: int) -> list[Any]:
        """Return the keys of the states of a version, as the changelog has them."""
        keys = [json.loads(key) for key, value in self.states.log.items() if value is not None]
        return [key for of, key in keys if of == version]


def pattern(name: str = "p", *stages: dict[str, Any], **more: Any) -> Definition:
    """Return a definition over the source topic; a stage may be just its name, which is the event type that it takes."""
    body = {key: more.pop(key) for key in ("within_ms", "skip", "within") if key in more}
    return Definition.model_validate({"name": name, "topics": [SOURCE], "pattern": {"stages": list(stages), **body}, **more})


def stage(name: str, contiguity: str = "relaxed", **more: Any) -> dict[str, Any]:
    """Return a stage that takes events of the type of its name."""
    return {"name": name, "contiguity": contiguity, "where": f"type == '{name}'", **more}


def event(kind: str, ts: int, key: str | None = "k", **fields: Any) -> dict[str, Any]:
    """Return an event; `ts` is relative to the beginning of the bench."""
    return {"type": kind, "ts": NOW - 1_000_000 + ts, "_key": key, **fields}
