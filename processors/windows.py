"""Runs `processors.core.windows`: the definitions of a file, over the topics that they name.

    agents.events ──┬──▶ windows-agents.events ─┬─▶ antiphon.windows      results
    agents.reviews ─┤                           ├─▶ antiphon.late         events in no window
                    │                           └─▶ antiphon.evictions    windows that a limit pushed out
                    └──▶ <app id>-windows-keyed ──▶ windows-keyed ─▶ the same three

An event goes straight to the windows of a definition whose topic is keyed by its field already; else it is sent on first, keyed
by that field and with its origin, so that one partition owns a key whatever topics its events come from. Both steps are exactly
once. Time is told by the origin in either case: by topic and partition of the event, not of its copy.

Each definition has a table, whose name holds a digest of what decides its meaning: a definition that asks something else starts
with no state, and never reads another's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from processors.core.windowing.definitions import Definition, DefinitionError, load
from processors.core.windows import Occurrence, Windows, key_of
from processors.window_records import REKEYING, read
from schemas.errors import UnknownSchema
from streams.errors import SettingsError
from streams.machines.options import PrefixedOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch, Table
    from streams.codec import Codec
    from streams.turns.batch import Record

__all__ = ["ENV_PREFIX", "WindowOptions", "register", "table_name"]

log = logging.getLogger(__name__)

ENV_PREFIX: Final = "AGENT_WINDOWS_"


class WindowOptions(PrefixedOptions):
    """Options of the window processor. Topic names here and in definitions are without the prefix."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    definitions: Path | None = Field(None, description="A YAML or JSON file of definitions (docs/windows.md); none: no windows.")
    keyed_topic: str = Field("", description="Where events go that are keyed anew; empty: <app id>-windows-keyed.")

    @classmethod
    def load(cls) -> WindowOptions:
        """Read the environment.

        Raises:
            SettingsError: One line for each value that is not allowed.
        """
        return cls.environment()

    def read(self) -> tuple[Definition, ...]:
        """Read the definitions.

        Raises:
            SettingsError: The file cannot be read, or a definition breaks a rule; one line for each.
        """
        if self.definitions is None:
            return ()
        try:
            return load(self.definitions.read_text(encoding="utf-8"), where=str(self.definitions))
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{ENV_PREFIX}DEFINITIONS: {self.definitions} cannot be read: {e}") from None
        except DefinitionError as e:
            raise SettingsError(str(e)) from None


class _Running(NamedTuple):
    """A definition and its table."""

    definition: Definition
    table: Table
    topics: frozenset[str]
    keyed: bool


def table_name(definition: Definition) -> str:
    """Return the name of a definition's table."""
    return f"windows-{definition.name}-{definition.digest()}"


def register(app: App, options: WindowOptions | None = None) -> None:
    """Declare a processor for each topic that a definition names, a table for each definition, and the topic between.

    Without definitions it declares nothing.
    """
    options = options or WindowOptions.load()
    running = [_run(app, options, definition) for definition in options.read()]
    if not running:
        log.warning("no windows: %sDEFINITIONS names no file with definitions", ENV_PREFIX)
        return
    shell = _Shell(app, options, running)
    for name in sorted({topic for one in running for topic in one.topics}):
        _declare_source(app, shell, name)
    if any(one.keyed for one in running):
        _declare_keyed(app, shell)


def _run(app: App, options: WindowOptions, definition: Definition) -> _Running:
    topics = frozenset(map(options.topic, definition.topics))
    table: Table = app.Table(table_name(definition), immutable_values=True)
    keyed = _is_keyed_by_another(app.codec, definition) if definition.rekey is None else definition.rekey
    return _Running(definition, table, topics, keyed)


def _is_keyed_by_another(codec: Codec, d: Definition) -> bool:
    """Return whether a definition's events may be keyed by another field than its key, or lie on topics cut differently."""
    if len(d.topics) > 1 or not d.types:
        return True
    try:
        return any(codec.catalogue.class_of(name).key_field != d.key for name in d.types)
    except UnknownSchema:
        return True


def _declare_source(app: App, shell: _Shell, name: str) -> None:
    @app.agent(app.batch_topic(name), name=f"windows-{name}")
    async def windows(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            shell.source(batch)


def _declare_keyed(app: App, shell: _Shell) -> None:
    @app.agent(app.batch_topic(app.own_topic(shell.keyed_topic)), name="windows-keyed")
    async def windows_keyed(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            shell.keyed(batch)


class _Shell:
    """What the processors of one worker share."""

    def __init__(self, app: App, options: WindowOptions, running: list[_Running]) -> None:
        self._app, self._options, self._running = app, options, running
        self.keyed_topic = options.topic(options.keyed_topic or f"{app.conf.id}-windows-keyed")
        self._listening: dict[tuple[str, int], tuple[int, int]] = {}

    def source(self, batch: Batch) -> None:
        """Take a batch of a source topic: into the windows that it is keyed for, and on to the others."""
        mine = [one for one in self._running if batch.topic in one.topics]
        routes = sorted({one.definition.key for one in mine if one.keyed})
        taken = [(one, self._open(batch, one)) for one in mine if not one.keyed]
        wanted = _wanted(mine)
        for record in batch.records:
            found = read(self._app.codec, record, wanted)
            if found is None:
                continue
            event_type, fields = found
            event = Occurrence(record.topic, record.partition, record.offset, fields, record.timestamp)
            for one, work in taken:
                if _wants(one, event_type):
                    work.take(event)
            for field in routes:
                if any(one.keyed and one.definition.key == field and _wants(one, event_type) for one in mine):
                    self._send_on(batch, record, field, key_of(fields.get(field)))
        for one, work in taken:
            self._close(batch, one, work)

    def keyed(self, batch: Batch) -> None:
        """Take a batch of events that were sent on."""
        taken = [(one, self._open(batch, one)) for one in self._running if one.keyed]
        wanted = _wanted([one for one, _ in taken])
        for record in batch.records:
            topic, partition, offset, timestamp, field = REKEYING.origin_of(record)
            found = read(self._app.codec, record, wanted)
            if found is None:
                continue
            event_type, fields = found
            event = Occurrence(topic, partition, offset, fields, timestamp)
            for one, work in taken:
                if one.definition.key == field and topic in one.topics and _wants(one, event_type):
                    work.take(event)
        for one, work in taken:
            self._close(batch, one, work)

    # ---- inside

    def _send_on(self, batch: Batch, record: Record, field: str, key: str | None) -> None:
        """Send an event to the partition of its key; one without goes where all can see that it has none."""
        headers = REKEYING.headers_on(record, field)
        if key is None:
            batch.send(self.keyed_topic, key=None, value=record.value, headers=headers, partition=batch.partition)
        else:
            batch.send(self.keyed_topic, key=key.encode(), value=record.value, headers=headers)

    def _open(self, batch: Batch, one: _Running) -> Windows:
        work = Windows(one.definition, batch.view(one.table), batch.now_ms)
        sources = self._sources(batch, one)
        work.expect(sources)
        work.tick(self._behind(batch, one, sources), listening_since_ms=self._listening_since_ms(batch, one))
        return work

    def _close(self, batch: Batch, one: _Running, work: Windows) -> None:
        rows, done = batch.view(one.table), work.done()
        for name, row in done.state.items():
            if row is not None:
                rows[name] = row
            elif name in rows:
                del rows[name]
        for output in done.outputs:
            batch.publish(output, topic=self._options.topic(output.topic))
        wake_ms = work.wake_at()
        if wake_ms is not None:
            batch.wake_at(wake_ms)

    def _sources(self, batch: Batch, one: _Running) -> list[str]:
        numbers: Iterable[int] = range(self._app.source_partitions) if one.keyed else (batch.partition,)
        return [f"{topic}/{number}" for topic in sorted(one.topics) for number in numbers]

    def _listening_since_ms(self, batch: Batch, one: _Running) -> int:
        """Return when this partition became this worker's: a silence counts from when somebody listens."""
        generation, lane = self._app.consumer_generation_id, (one.definition.name, batch.partition)
        known = self._listening.get(lane)
        if known is None or known[0] != generation:
            known = self._listening[lane] = (generation, batch.now_ms)
        return known[1]

    def _behind(self, batch: Batch, one: _Running, sources: list[str]) -> list[str]:
        """Return the sources that have unread records, as far as this worker can tell."""
        if one.keyed and self._app.caught_up(self.keyed_topic, batch.partition) is False:
            return sources
        places = ((source, *source.rsplit("/", 1)) for source in sources)
        return [source for source, topic, number in places if self._app.caught_up(topic, int(number)) is False]


def _wanted(running: list[_Running]) -> frozenset[str] | None:
    """Return the types that some definition reads; None for all."""
    types = [one.definition.types for one in running]
    return frozenset(name for names in types for name in names) if all(types) else None


def _wants(one: _Running, event_type: str) -> bool:
    types = one.definition.types
    return not types or event_type in types
