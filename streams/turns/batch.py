"""What a processor sees: a batch of one partition's records, and its view of the tables.

    @app.agent(app.batch_topic("agents.events"))
    async def count(stream):
        async for batch in stream:                  # one Batch at a time for each partition, in offset order
            counts = batch.view(table)              # this partition of the table, with everything not yet committed laid over it
            for record in batch.records:            # none when a timer fired
                counts[record.key] += 1
                batch.send("totals", key=record.key, value=b"...")
            batch.wake_at(batch.now_ms + 5_000)     # come back then, even when nothing arrives

Nothing a batch does is visible before its kafka transaction commits, and all of it vanishes when the processor raises. What a
view hands out is a copy where it can be changed in place, so dropping a batch really drops it.

A view looks through layers, newest first:

    own writes ─▶ batches finished but not committed ─▶ the committed partition
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from streams.codec import Record as DecodableRecord
from streams.errors import ProcessorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faust.types import TP

    from schemas.events import Event
    from streams.codec import Codec

__all__ = ["GONE", "MISSING", "Batch", "Effects", "Output", "Record", "View", "current_batch", "isolated"]

E = TypeVar("E", bound="Event")

MISSING: Final = object()
GONE: Final = object()
"""Marks a deleted key in a layer of writes."""

_ATOMS: Final = frozenset({int, str, bytes, float, bool, type(None)})
_BYTES: Final = (bytes, type(None))
_HEADER_OVERHEAD_BYTES: Final = 512
"""What a record's framing may take beside key, value and headers; generous, since the broker's limit counts the whole batch."""

Headers = list[tuple[str, bytes]]
Output = tuple[str, bytes | None, bytes | None, int, Headers | None]


class Record(DecodableRecord, Protocol):
    """A record as read from the log: what the codec reads, and its key and time."""

    @property
    def timestamp(self) -> int:
        """Its timestamp, epoch ms."""

    @property
    def key(self) -> bytes | None:
        """Its key."""


class Partitioned(Protocol):
    """Where a table keeps its committed contents: see `streams.turns.stores`."""

    def get(self, partition: int, key: Any, default: Any = None) -> Any: ...
    def items(self, partition: int) -> Iterator[tuple[Any, Any]]: ...


class TableLike(Protocol):
    """The part of a table that a view needs."""

    name: str
    default: Callable[[], Any] | None
    immutable_values: bool

    @property
    def parts(self) -> Partitioned: ...
    def encode(self, writes: Mapping[Any, Any]) -> dict[bytes, bytes | None]: ...


def isolated(value: Any) -> Any:
    """Return a value that can be changed without touching the stored one; values that cannot change are returned as they are."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return {k: v if type(v) in _ATOMS else isolated(v) for k, v in value.items()}
    if kind is list:
        return [v if type(v) in _ATOMS else isolated(v) for v in value]
    if kind is tuple:
        return tuple(v if type(v) in _ATOMS else isolated(v) for v in value)
    return copy.deepcopy(value)


class View:
    """One table partition as one batch sees it. A mapping; what it returns may be changed, and is stored when it is set."""

    __slots__ = ("_below", "_copies", "_default", "_immutable", "_owner", "_partition", "_parts", "_writes")

    def __init__(
        self, table: TableLike, partition: int, writes: dict[Any, Any], below: tuple[dict[Any, Any], ...], owner: Batch
    ) -> None:
        self._writes, self._below, self._parts, self._partition = writes, below, table.parts, partition
        self._default, self._immutable, self._owner = table.default, table.immutable_values, owner
        self._copies: dict[Any, Any] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the key's value, or `default`; the table's own default factory is not asked."""
        value = self._writes.get(key, MISSING)
        if value is not MISSING:
            return default if value is GONE else value
        if self._copies and (value := self._copies.get(key, MISSING)) is not MISSING:
            return value
        for layer in self._below:
            if (value := layer.get(key, MISSING)) is not MISSING:
                break
        else:
            value = self._parts.get(self._partition, key, MISSING)
        if value is MISSING or value is GONE:
            return default
        if type(value) in _ATOMS or self._immutable:
            return value
        mine = self._copies[key] = isolated(value)
        return mine

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, MISSING)
        if value is not MISSING:
            return value
        if self._default is None:
            raise KeyError(key)
        return self._default()

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._owner.ended:
            raise ProcessorError("a table was written after its batch ended: write inside the loop over the stream")
        self._writes[key] = value

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self[key] = GONE

    def __contains__(self, key: Any) -> bool:
        return self.get(key, MISSING) is not MISSING

    def pop(self, key: Any, default: Any = None) -> Any:
        """Delete the key and return its value, or return `default` where it is absent."""
        value = self.get(key, MISSING)
        if value is MISSING:
            return default
        self[key] = GONE
        return value

    def items(self) -> list[tuple[Any, Any]]:
        """Return this partition's keys and values as they are now.

        It reads the whole partition: keep an index for what is asked often.
        """
        merged: dict[Any, Any] = dict(self._parts.items(self._partition))
        for layer in reversed(self._below):
            merged.update(layer)
        merged.update(self._writes)
        return [(k, self.get(k)) for k, v in merged.items() if v is not GONE]

    def __iter__(self) -> Iterator[Any]:
        return iter([k for k, _ in self.items()])

    def __len__(self) -> int:
        return len(self.items())


class Effects:
    """What one finished batch leaves to be committed: outputs, table writes and the offset that covers its records."""

    __slots__ = (
        "at_once",
        "dead_letters",
        "encoded",
        "next_offset",
        "outputs",
        "patience_s",
        "ready_at",
        "records",
        "run_s",
        "tp",
        "writes",
    )

    def __init__(self, tp: TP, *, next_offset: int, records: int) -> None:
        self.tp, self.next_offset, self.records = tp, next_offset, records
        self.outputs: list[Output] = []
        self.at_once: list[Output] = []
        """What is sent before, and without, the kafka transaction."""
        self.writes: dict[TableLike, dict[Any, Any]] = {}
        self.encoded: dict[TableLike, dict[bytes, bytes | None]] = {}
        self.dead_letters = 0
        self.ready_at = self.run_s = self.patience_s = 0.0

    @property
    def visible(self) -> bool:
        """Whether committing this changes anything that somebody can see."""
        return bool(self.records or self.outputs or self.encoded)


class Batch:
    """Consecutive records of one partition, with the turn's clock. Its effects are visible all together or not at all."""

    __slots__ = (
        "_below",
        "_codec",
        "_effects",
        "_published",
        "_views",
        "attempts",
        "due_ms",
        "ended",
        "error",
        "failed_in",
        "held_by",
        "now_ms",
        "on_end",
        "records",
        "started_at",
        "tp",
        "waiting",
    )

    def __init__(
        self,
        tp: TP,
        records: Sequence[Record],
        *,
        now_ms: int,
        next_offset: int,
        below: Callable[[TableLike], tuple[dict[Any, Any], ...]],
        codec: Codec,
    ) -> None:
        self.tp, self.records, self.now_ms = tp, records, now_ms
        self._below, self._codec = below, codec
        self._effects = Effects(tp, next_offset=next_offset, records=len(records))
        self._views: dict[TableLike, View] = {}
        self._published: dict[int | None, int] = {}
        self.due_ms: int | None = None
        self.ended = False
        self.error: BaseException | None = None
        self.failed_in = ""
        self.held_by: set[str] = set()
        self.waiting = 0
        self.attempts = 0
        self.started_at = 0.0
        self.on_end: Callable[[Batch], None] | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def topic(self) -> str:
        """The topic the records came from."""
        return cast(str, self.tp.topic)

    @property
    def partition(self) -> int:
        """The partition the records came from, and whose part of every table this batch sees."""
        return cast(int, self.tp.partition)

    @property
    def effects(self) -> Effects:
        """What the batch has collected so far."""
        return self._effects

    def view(self, table: TableLike) -> View:
        """Return this batch's view of a table: its own partition, with its own writes and the uncommitted ones below it."""
        view = self._views.get(table)
        if view is None:
            if self.ended:
                raise ProcessorError("a table was opened after its batch ended: read and write inside the loop over the stream")
            writes = self._effects.writes[table] = {}
            view = self._views[table] = View(table, self.partition, writes, self._below(table), self)
        return view

    def send(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1
    ) -> None:
        """Write a record when, and only when, the turn commits. `partition` -1: the key chooses (murmur2, as in Java)."""
        if self.ended:
            raise ProcessorError(f"a record for {topic!r} was sent after its batch ended: send inside the loop over the stream")
        self._effects.outputs.append((topic, key, value, partition, headers))

    def send_at_once(
        self, topic: str, *, key: bytes | None, value: bytes | None, headers: Headers | None = None, partition: int = -1
    ) -> None:
        """Write a record as soon as the batch has ended, before its turn commits; again if the batch runs again.

        Only for what follows from the log up to here and from nothing else (no clock, no chance, no other system): then every
        later run of these records says it too, and who reads it early reads nothing that does not stay. It arrives at least once,
        or not at all where the broker is away for ten seconds: whoever waits for it asks again.
        """
        if self.ended:
            raise ProcessorError(f"a record for {topic!r} was sent after its batch ended: send inside the loop over the stream")
        self._effects.at_once.append((topic, key, value, partition, headers))

    def commit_within(self, seconds: float) -> None:
        """Say that nobody waits for this batch's kafka transaction: it begins at least so long after the one before.

        An idle partition commits at once all the same; under load there are fewer, larger transactions.
        """
        self._effects.patience_s = seconds

    def publish(
        self,
        event: Event,
        *,
        cause: Record | None = None,
        topic: str | None = None,
        key: bytes | None = None,
        partition: int = -1,
    ) -> Event:
        """Write a typed event when the turn commits, with the CloudEvents attributes filled in, and return it as published.

        Args:
            event: The event; attributes it already has are kept.
            cause: The record that caused it: gives correlation id, causation id and trace context. None where a timer did.
            topic: The topic, else the event type's own.
            key: The record key, else the event's own.
            partition: The partition, else the key's.

        Returns:
            The stamped event. Its id is made of the cause's log position and the number of what it has caused so far, so it is
            the same however the log is cut into batches, and a replay can be compared with what happened.
        """
        at_offset = None if cause is None else cause.offset
        number = self._published[at_offset] = self._published.get(at_offset, 0) + 1
        place = f"{self.topic}/{self.partition}"
        place += f"/{at_offset}" if at_offset is not None else f"/t{self.now_ms}"
        stamped = self._codec.stamp(event, id=f"{place}/{number}", source=f"/antiphon/{place}", time_ms=self.now_ms, cause=cause)
        at, own_key, value, headers = self._codec.encode(stamped, topic=topic)
        self.send(at, key=own_key if key is None else key, value=value, headers=headers, partition=partition)
        return stamped

    def events(self, *types: type[E]) -> Iterator[tuple[Record, E]]:
        """Decode the records of these event types, in order; records of other types are skipped by their schema id, undecoded.

        Raises:
            SchemaError: A record is not a known event; inside a batch this isolates and dead-letters that record alone.
        """
        wanted = {t.event_type for t in types}
        codec = self._codec
        for record in self.records:
            if not wanted or codec.type_of(record) in wanted:
                yield record, cast(E, codec.decode(record))

    def wake_at(self, ms: int) -> None:
        """Ask for a batch on this partition at `ms` (epoch milliseconds), with or without records. The earliest request wins."""
        self.due_ms = ms if self.due_ms is None else min(self.due_ms, ms)

    # ---- used by the runtime

    def taken(self, holder: str) -> None:
        """Note that a processor has started on this batch."""
        self.held_by.add(holder)

    def finished(self, holder: str, error: BaseException | None) -> None:
        """Note that a processor is done with this batch, or has failed in it; the last one ends it."""
        self.held_by.discard(holder)
        if error is not None and self.error is None:
            self.error, self.failed_in = error, holder
        self.waiting -= 1
        if self.waiting <= 0 and not self.ended:
            self.ended = True
            if self.on_end is not None:
                self.on_end(self)

    def seal(self, *, record_bytes_max: int) -> Effects:
        """Check and encode everything collected, so that what goes wrong is this batch's failure and not the turn's.

        Raises:
            ProcessorError: An output or a table value cannot be written, with its place.
        """
        effects = self._effects
        given: list[Any] = [*effects.outputs, *effects.at_once]  # whatever the processor's hints said
        for topic, key, value, _, headers in given:
            if not isinstance(key, _BYTES) or not isinstance(value, _BYTES):
                raise ProcessorError(
                    f"output to {topic!r}: key and value are bytes or None, not {type(key).__name__} and {type(value).__name__}"
                )
            size = len(key or b"") + len(value or b"") + _HEADER_OVERHEAD_BYTES
            for name, content in headers or ():
                if not isinstance(name, str) or not isinstance(content, _BYTES):
                    raise ProcessorError(
                        f"output to {topic!r}: headers are pairs of str and bytes or None, not {name!r}: {content!r}"
                    )
                size += len(name) + len(content or b"")
            if size > record_bytes_max:
                raise ProcessorError(
                    f"output to {topic!r} has {size} bytes; at most {record_bytes_max}: split it or raise message.max.bytes"
                )
        for table, writes in effects.writes.items():
            if writes:
                effects.encoded[table] = table.encode(writes)
                if not table.immutable_values:  # the processor may keep a reference to what it stored and change it later
                    for key, value in writes.items():
                        if type(value) not in _ATOMS and value is not GONE:
                            writes[key] = isolated(value)
                for raw_key, raw_value in effects.encoded[table].items():
                    if len(raw_key) + len(raw_value or b"") + _HEADER_OVERHEAD_BYTES > record_bytes_max:
                        raise ProcessorError(
                            f"table {table.name!r}: key {raw_key[:100]!r}: the value has more than {record_bytes_max} bytes"
                        )
        return effects


_current: ContextVar[Batch | None] = ContextVar("antiphon_batch", default=None)


def joined_batch() -> Batch | None:
    """Return the batch that a send made here belongs to; None outside batches.

    Raises:
        ProcessorError: The batch has ended, or was given up: what its processor still sends must reach nobody.
    """
    batch = _current.get()
    if batch is not None and batch.ended:
        raise ProcessorError(
            f"sent after its batch of {batch.topic}/{batch.partition} ended: send inside the loop over the stream"
        )
    return batch


def current_batch() -> Batch | None:
    """Return the batch that the running processor is working on, if it is working on one."""
    batch = _current.get()
    return None if batch is None or batch.ended else batch


def enter_batch(batch: Batch | None) -> None:
    """Make `batch` the current one for this task."""
    _current.set(batch)
