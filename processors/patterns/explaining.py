"""Reads what is needed to explain a key of a pattern: its state from the worker's tables, its last event from the log.

    <app id>-cep-lanes-changelog     which versions there are, and their watermarks
    <app id>-cep-states-changelog    the partial matches of the key
    the pattern's topics             its last event, looked for from the end backwards

Nothing is written and no group is joined. What a running worker has not committed yet is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from processors.cep import LANES, STATES
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.explain import Explained, Wait, explain, explain_begin
from processors.core.cep.model import Definition
from processors.patterns.cell import REKEYING
from processors.patterns.needs import Need
from processors.patterns.reading import Event, Reading
from processors.patterns.rows import Row
from schemas.errors import SchemaError
from streams.codec import Codec
from streams.errors import TopicMissing
from streams.reader import LogReader, Selection

if TYPE_CHECKING:
    from processors.patterns.options import CepOptions
    from streams.transport import Record

__all__ = ["KeyExplained", "Nothing", "explain_key"]

LOOK_BACK: Final = (1_000, 20_000, 400_000)
"""Records of a partition that are searched for the key's last event, from its end; after the last number, all of it."""

OnRead = Callable[[int], None]


class Nothing(LookupError):
    """There is nothing to explain: says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class KeyExplained:
    """A key under one version of a pattern.

    Attributes:
        pattern: The pattern's name.
        version: The version.
        status: "active", "paused", "draining" or "dropping".
        key: The correlation key.
        partition: The partition that holds its state; None where it has none.
        watermark: Event time there, ms; None where no event has come.
        event: The key's last event; None where the log has none.
        partials: Its partial matches, explained.
        begins: What would begin one, and why the event did not.
        waiting: Events that wait for the watermark.
    """

    pattern: str
    version: int
    status: str
    key: str
    partition: int | None
    watermark: int | None
    event: Event | None
    partials: tuple[Explained, ...]
    begins: tuple[Wait, ...]
    waiting: int


def explain_key(
    name: str,
    key: str,
    *,
    app_id: str,
    options: CepOptions,
    config: Mapping[str, Any],
    on_read: OnRead | None = None,
) -> list[KeyExplained]:
    """Explain a key, under each version of a pattern that workers still run; the newest last.

    Args:
        name: The pattern.
        key: The correlation key, as text.
        app_id: The app whose workers run patterns.
        options: Topics.
        config: What every confluent-kafka client is made with.
        on_read: Called with the number of records read so far.

    Raises:
        Nothing: No worker runs such a pattern.
        BrokerError: The broker does not answer or refuses.
    """
    reading = _Log(config, on_read)
    try:
        lanes = reading.table(f"{app_id}-{LANES}-changelog", _every)
    except TopicMissing as error:
        raise Nothing(
            f"no worker of app {app_id!r} has run patterns here: start `antiphon worker cep`, or name its app"
        ) from error
    versions: dict[int, dict[str, Any]] = {}
    marks: dict[tuple[int, int], Any] = {}
    for (partition, raw), value in lanes.items():
        content = orjson.loads(value)
        what = orjson.loads(raw)
        if what[0] == "version" and content["name"] == name:
            versions[what[1]] = content
        elif what[0] == "marks":
            marks[what[1], partition] = content
    if not versions:
        raise Nothing(f"no worker runs a pattern {name!r}: `antiphon cep ls` lists those that are published")
    wanted = {orjson.dumps([version, key]): version for version in versions}
    rows = reading.table(f"{app_id}-{STATES}-changelog", lambda raw: raw in wanted)
    codec = Codec()
    found = []
    for version in sorted(versions):
        definition = Definition.model_validate(versions[version]["definition"])
        matcher = Matcher(compile_pattern(definition.pattern), partial_matches_max=definition.partial_matches_max)
        held = [(partition, value) for (partition, raw), value in rows.items() if wanted[raw] == version]
        at = held[0][0] if held else None
        row = Row.read(held[0][1]) if held else None
        need = Need(definition, codec.catalogue, frozenset(options.keyed_topics))
        event = reading.last_event(need, key, at, codec, options, app_id)
        state = None if row is None else row.state(matcher)
        found.append(
            KeyExplained(
                name,
                version,
                versions[version]["status"],
                key,
                at,
                None if at is None else _watermark(marks.get((version, at))),
                event,
                () if state is None else tuple(explain(matcher, state, event)),
                explain_begin(matcher, event),
                0 if row is None else len(row.waiting),
            )
        )
    return found


def _every(raw: bytes) -> bool:  # noqa: ARG001 every key
    return True


class _Log:
    """Bounded readings of the log, counted."""

    def __init__(self, config: Mapping[str, Any], on_read: OnRead | None) -> None:
        self._reader = LogReader(config)
        self._on_read = on_read
        self._count = 0

    def _read(self, topics: list[str], selection: Selection) -> list[Record]:
        return [record for batch in self._batches(topics, selection) for record in batch]

    def _batches(self, topics: list[str], selection: Selection) -> Any:  # noqa: ANN401 batches of records
        for batch, _ in self._reader.read(self._reader.bounds(topics, selection)):
            self._count += len(batch)
            if self._on_read is not None:
                self._on_read(self._count)
            yield batch

    def table(self, changelog: str, takes: Callable[[bytes], bool]) -> dict[tuple[int, bytes], bytes]:
        """The latest values of the keys that are wanted, by partition and raw key."""
        latest: dict[tuple[int, bytes], bytes] = {}
        for batch in self._batches([changelog], Selection()):
            for record in batch:
                if record.key is None or not takes(record.key):
                    continue
                if record.value is None:
                    latest.pop((record.partition, record.key), None)
                else:
                    latest[record.partition, record.key] = record.value
        return latest

    def last_event(
        self, need: Need, key: str, partition: int | None, codec: Codec, options: CepOptions, app_id: str
    ) -> Event | None:
        """The last event of a key that a pattern reads; None where the log has none."""
        keyed = need.keyed is not None
        topics = [options.keyed(app_id)] if keyed else [options.topic(name) for name in need.definition.topics]
        partitions = None if partition is None else frozenset([partition])
        starts: tuple[int | None, ...] = (*(-back for back in LOOK_BACK), None)
        for start in starts:
            selection = Selection(start_offset=start, partitions=partitions)
            records = [record for record in self._read(topics, selection) if _text(record.key) == key]
            events = _events(need, records, codec, keyed=keyed)
            if events:
                return max(events, key=lambda event: int(event["ts"]))
        return None


def _events(need: Need, records: list[Record], codec: Codec, *, keyed: bool) -> list[Event]:
    """The events that a pattern sees in records of one key; a record that is none was dead-lettered by the worker."""
    reading = Reading(codec, [need])
    events = []
    for record in records:
        place, timestamp = (record.topic, record.partition, record.offset), record.timestamp
        try:
            if keyed:
                topic, partition, offset, timestamp, field = REKEYING.origin_of(record)
                if field != need.keyed:
                    continue
                place = (topic, partition, offset)
            planned = reading.plan(record)
            if planned is None:
                continue
            plan, decoded = planned
            events.append(reading.event(plan, reading.fields(plan, record, decoded), place, _text(record.key) or "", timestamp))
        except SchemaError:
            continue
    return events


def _text(raw: bytes | None) -> str | None:
    """A record's key as patterns see it."""
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _watermark(stored: Any) -> int | None:  # noqa: ANN401 what the table holds
    mark = stored.get("mark") if isinstance(stored, dict) else None
    return mark if isinstance(mark, int) and mark > 0 else None
