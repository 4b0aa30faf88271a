"""Reads what is needed to explain a key of a pattern: its state from the worker's tables, its last event from the log.

    <app id>-cep-lanes-changelog     which versions there are, and their watermarks
    <app id>-cep-states-changelog    the partial matches of the key
    the pattern's topics             its last events, looked for from the end backwards

A table does not hold what is no more. So the key's events since a window ago are run once more: what the last of them ended is
told if the end is what the table holds, and left out if not (the worker knew something that the range read does not show).

Nothing is written and no group is joined. What a running worker has not committed yet is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from processors.cep import LANES, STATES
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.explain import Ended, Explained, Wait, ended, explain, explain_begin
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs, SkipMissed
from processors.core.watermarks import BEGINNING
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
    from streams.reader import Bounds
    from streams.transport import Record

__all__ = ["KeyExplained", "Nothing", "explain_key"]

LOOK_BACK: Final = (1_000, 20_000, 400_000)
"""Records of a partition that are searched for the key's last events, from its end; after the last number, all of it if there
was none."""

NEVER_MS: Final = 1 << 63
"""A time that no record has."""

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
        ended: Those that the event ended, or the time since, and why; empty as well where that cannot be known.
        begins: What would begin one, and why the event did not.
        waiting: Events that wait for the watermark; none of them is `event`.
    """

    pattern: str
    version: int
    status: str
    key: str
    partition: int | None
    watermark: int | None
    event: Event | None
    partials: tuple[Explained, ...]
    ended: tuple[Ended, ...]
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
    lane_of: dict[tuple[str, int, int], dict[str, Any]] = {}
    for (partition, raw), value in lanes.items():
        content = orjson.loads(value)
        what = orjson.loads(raw)
        if what[0] == "version" and content["name"] == name:
            versions[what[1]] = content
        if what[0] in {"version", "marks"}:
            lane_of[what[0], what[1], partition] = content
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
        waiting = set() if row is None else {waiting["id"] for waiting, _ in row.waiting}
        read = reading.last_events(need, key, at, codec, options, app_id, over_ms=_span_ms(matcher))
        logged = [one for one in read if one.event["id"] not in waiting]
        event = logged[-1].event if logged else None
        state = None if row is None else row.state(matcher)
        lane = logged[-1].partition if logged else at
        mark = None if lane is None else _watermark(lane_of.get(("marks", version, lane)))
        told = {} if lane is None else lane_of.get(("version", version, lane), {}).get("told", {})
        seen = [one.event for one in logged if one.offset >= told.get(one.topic, ("", 0))[1]]
        found.append(
            KeyExplained(
                name,
                version,
                versions[version]["status"],
                key,
                at,
                mark,
                event,
                () if state is None else tuple(explain(matcher, state, event)),
                _ended(matcher, seen, state, mark) if seen and seen[-1] is event else (),
                explain_begin(matcher, event),
                len(waiting),
            )
        )
    return found


def _span_ms(matcher: Matcher) -> int:
    """How long before the last event the events lie that a partial match may have; 0: nothing says so."""
    return matcher.automaton.window_ms or max((state.window_ms or 0 for state in matcher.automaton.states), default=0)


def _ended(matcher: Matcher, events: Sequence[Event], state: Any, mark: int | None) -> tuple[Ended, ...]:  # noqa: ANN401 the engine's own
    """What the last event and the time since ended, if running the events again comes to what the worker holds."""
    key, states = events[-1]["key"], dict[Hashable, Any]()
    try:
        matcher.run(states, events, Outputs())
        if mark is not None:
            matcher.advance(states, key, mark, Outputs())
    except SkipMissed:
        pass  # `ended` tells it; a worker has dropped the state too
    again = [] if key not in states else _spelled(matcher, states[key])
    began = {event["id"] for event in events}
    known = [] if state is None else [places for places in _spelled(matcher, state) if places[0] in began]
    return ended(matcher, events, clock_ms=mark) if again == known else ()


def _spelled(matcher: Matcher, state: Any) -> list[list[Any]]:  # noqa: ANN401 the engine's own
    """The places of each partial match's events."""
    return sorted([event["id"] for events in partial.stages.values() for event in events] for partial in matcher.view(state))


def _every(raw: bytes) -> bool:  # noqa: ARG001 every key
    return True


class _Log:
    """Bounded readings of the log, counted."""

    def __init__(self, config: Mapping[str, Any], on_read: OnRead | None) -> None:
        self._reader = LogReader(config)
        self._on_read = on_read
        self._count = 0

    def _batches(self, bounds: Bounds) -> Iterator[list[Record]]:
        for batch, _ in self._reader.read(bounds):
            self._count += len(batch)
            if self._on_read is not None:
                self._on_read(self._count)
            yield batch

    def table(self, changelog: str, takes: Callable[[bytes], bool]) -> dict[tuple[int, bytes], bytes]:
        """The latest values of the keys that are wanted, by partition and raw key."""
        latest: dict[tuple[int, bytes], bytes] = {}
        for batch in self._batches(self._reader.bounds([changelog])):
            for record in batch:
                if record.key is None or not takes(record.key):
                    continue
                if record.value is None:
                    latest.pop((record.partition, record.key), None)
                else:
                    latest[record.partition, record.key] = record.value
        return latest

    def last_events(
        self,
        need: Need,
        key: str,
        partition: int | None,
        codec: Codec,
        options: CepOptions,
        app_id: str,
        *,
        over_ms: int,
    ) -> list[Logged]:
        """The last events of a key that a pattern reads, by time: one at least if there is one, and so long before it."""
        keyed = need.keyed is not None
        topics = [options.keyed(app_id)] if keyed else [options.topic(name) for name in need.definition.topics]
        partitions = None if partition is None else frozenset([partition])
        starts: tuple[int | None, ...] = (*(-back for back in LOOK_BACK), None)
        whole = self._reader.bounds(topics, Selection(partitions=partitions))
        found: list[Logged] = []
        for start in starts:
            bounds = self._reader.bounds(topics, Selection(start_offset=start, partitions=partitions))
            first_ms: dict[int, int] = {}
            records = []
            for batch in self._batches(bounds):
                for record in batch:
                    if record.timestamp < first_ms.get(record.partition, NEVER_MS):
                        first_ms[record.partition] = record.timestamp
                    if _text(record.key) == key:
                        records.append(record)
            found = sorted(_events(need, records, codec, keyed=keyed), key=lambda one: int(one.event["ts"]))
            enough = found and first_ms[found[-1].partition] <= found[-1].logged_ms - over_ms
            if enough or (found and start == -LOOK_BACK[-1]) or all(bounds[lane][0] <= whole[lane][0] for lane in bounds):
                break
        return found


@dataclass(frozen=True, slots=True)
class Logged:
    """An event, and where the worker read it: for an event that was keyed anew that is not its own place."""

    event: Event
    topic: str
    partition: int
    offset: int
    logged_ms: int


def _events(need: Need, records: list[Record], codec: Codec, *, keyed: bool) -> list[Logged]:
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
            event = reading.event(plan, reading.fields(plan, record, decoded), place, _text(record.key) or "", timestamp)
        except SchemaError:
            continue
        events.append(Logged(event, record.topic, record.partition, record.offset, record.timestamp))
    return events


def _text(raw: bytes | None) -> str | None:
    """A record's key as patterns see it."""
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _watermark(stored: Any) -> int | None:  # noqa: ANN401 what the table holds
    """The watermark of a lane; None before its first event."""
    if stored is None or stored["marks"]["mark"] == BEGINNING:
        return None
    mark: int = stored["marks"]["mark"]
    return mark
