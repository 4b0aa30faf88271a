"""The patterns of an installation, kept on a compacted topic: publish, replace, pause, resume, remove, list.

    store = PatternStore(settings.kafka.client_config(), CepOptions.load())
    published = store.publish(definition)           # refused here where it does not compile
    published.version                               # its offset on the topic: known, growing, never given twice

What is written takes effect on every worker without a restart, partition by partition, and each says from which offset
(`PatternActivated`). Two people who change the same pattern at once: the later record counts; a pause that a publication has
overtaken is refused by the workers and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer

from processors.core.cep.automaton import PatternError
from processors.core.cep.engine import compile_pattern
from processors.core.cep.model import Definition
from processors.patterns.control import Control, ControlError, encode, read
from processors.patterns.options import CepOptions
from processors.patterns.refusals import hear
from schemas.errors import AntiphonError, Fault
from streams.reader import LogReader
from streams.topics import COMPACTED, Topics, broker_error

__all__ = ["PatternMissing", "PatternStore", "Published", "StoredPattern"]

TIMEOUT_S: Final = 20.0
"""For one record to be acknowledged; a broker that just started elects leaders within seconds."""


class PatternMissing(AntiphonError):
    """No pattern has this name; `antiphon cep ls` lists those there are."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


@dataclass(frozen=True, slots=True)
class Published:
    """A pattern as published.

    Attributes:
        name: The pattern.
        version: Its version: the offset of its record.
        replaces: The version before; None where it is new.
        warnings: What its author should know, such as state without a bound.
    """

    name: str
    version: int
    replaces: int | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredPattern:
    """A pattern as it stands on the topic.

    Attributes:
        name: The pattern.
        version: Of the last good definition; None where there is none.
        paused: Whether it rests.
        definition: The last good one.
        published_at: When its record was written, ms; 0 where unknown.
        problem: Why the last record is not taken; empty where it is.
        history: Versions still on the topic, oldest first: compaction removes older ones in time.
        offset: Of the last record that is taken; None where there is none.
        refused: Why the workers refuse it; empty where they do not, and where they were not asked (`PatternStore.list`).
    """

    name: str
    version: int | None = None
    paused: bool = False
    definition: Definition | None = None
    published_at: int = 0
    problem: str = ""
    history: tuple[tuple[int, Definition], ...] = field(default=(), repr=False)
    offset: int | None = None
    refused: str = ""


class PatternStore:
    """See the module.

    Args:
        config: What every confluent-kafka client is made with.
        options: Topics.
        replication_factor: Copies of the patterns topic, where it is made here.
    """

    def __init__(self, config: Mapping[str, Any], options: CepOptions | None = None, *, replication_factor: int = 1) -> None:
        self._config = dict(config)
        self._options = options or CepOptions.load()
        self.topic = self._options.topic(self._options.patterns_topic)
        self._replication_factor = replication_factor

    # ---- changing

    def publish(self, definition: Definition, *, on_replace: Literal["drain", "restart"] | None = None) -> Published:
        """Publish a pattern, or the next version of it.

        Args:
            definition: The pattern; its topics are named without the installation's prefix.
            on_replace: What becomes of the partial matches of the version before, in place of what the definition says.

        Raises:
            PatternError: It does not compile; nothing has been written.
            ControlError: It is too large.
            BrokerError: The broker does not answer or refuses.
        """
        if on_replace is not None:
            definition = definition.model_copy(update={"on_replace": on_replace})
        warnings = list(compile_pattern(definition.pattern).warnings)
        if not definition.topics:
            raise PatternError("it names no topic: workers have nothing to read", "topics")
        before = self.list().get(definition.name)
        version = self._write(definition.name, encode(definition, now_ms=_now_ms()))
        replaces = None if before is None else before.version
        return Published(definition.name, version, replaces, tuple(warnings))

    def pause(self, name: str) -> StoredPattern:
        """Let a pattern rest: events pass unseen, and what waits does not time out until it is resumed.

        Raises:
            PatternMissing: There is none of this name.
            BrokerError: The broker does not answer or refuses.
        """
        return self._rest(name, paused=True)

    def resume(self, name: str) -> StoredPattern:
        """Let a paused pattern go on, from the next record of each partition.

        Raises:
            PatternMissing: There is none of this name.
            BrokerError: The broker does not answer or refuses.
        """
        return self._rest(name, paused=False)

    def remove(self, name: str) -> None:
        """Remove a pattern; its state is deleted.

        Raises:
            PatternMissing: There is none of this name.
            BrokerError: The broker does not answer or refuses.
        """
        if name not in self.list():
            raise PatternMissing(f"no pattern is called {name!r}: `antiphon cep ls` lists them")
        self._write(name, None)

    def _rest(self, name: str, *, paused: bool) -> StoredPattern:
        stored = self.get(name)
        if stored.definition is None or stored.version is None:
            raise PatternMissing(f"pattern {name!r} has no definition that is taken ({stored.problem}): publish it again")
        if stored.paused == paused:
            return stored
        self._write(name, encode(stored.definition, paused=paused, version=stored.version, now_ms=_now_ms()))
        after = self.list().get(name)
        if after is None:  # removed meanwhile: workers refuse this record, and compaction must not let it outlive the removal
            self._write(name, None)
            raise PatternMissing(f"pattern {name!r} was removed meanwhile: publish it again")
        return after

    # ---- looking

    def get(self, name: str, *, refusals: bool = False) -> StoredPattern:
        """Return one pattern.

        Args:
            name: The pattern.
            refusals: As for `list`.

        Raises:
            PatternMissing: There is none of this name.
            BrokerError: The broker does not answer or refuses.
        """
        found = self.list(refusals=refusals).get(name)
        if found is None:
            raise PatternMissing(f"no pattern is called {name!r}: `antiphon cep ls` lists them")
        return found

    def list(self, *, refusals: bool = False) -> dict[str, StoredPattern]:
        """Return all patterns by name.

        Args:
            refusals: Read too what the workers have said of them (`processors.patterns.refusals`).

        Raises:
            BrokerError: The broker does not answer or refuses.
        """
        if not Topics(self._config).exists(self.topic):
            return {}
        reader = LogReader(self._config)
        found: dict[str, StoredPattern] = {}
        removed: dict[str, int] = {}
        for records, _ in reader.read(reader.bounds([self.topic])):
            for record in records:
                _fold(found, removed, record.key, record.value, record.offset)
        return self._with_refusals(dict(sorted(found.items()))) if refusals else dict(sorted(found.items()))

    # ---- inside

    def _with_refusals(self, found: dict[str, StoredPattern]) -> dict[str, StoredPattern]:
        heard = hear(self._config, self._options.topic(self._options.changes_topic), found)
        return {
            name: one
            if one.version is None or one.offset is None
            else replace(one, refused=heard.refusal(name, version=one.version, offset=one.offset))
            for name, one in found.items()
        }

    def _write(self, name: str, value: bytes | None) -> int:
        Topics(self._config).ensure(self.topic, 1, COMPACTED, replication_factor=self._replication_factor)
        given = {"enable.idempotence": True, "message.timeout.ms": int(TIMEOUT_S * 1000)}
        producer = Producer({"log_level": 0, **self._config, **given})
        told: list[tuple[KafkaError | None, int]] = []
        try:
            producer.produce(
                self.topic, value, name.encode(), partition=0, on_delivery=lambda error, m: told.append((error, m.offset() or 0))
            )
            producer.flush(2 * TIMEOUT_S)
        except KafkaException as error:
            raise broker_error(str(self._config["bootstrap.servers"]), error.args[0]) from error
        if not told or told[0][0] is not None:
            reason = told[0][0] if told and told[0][0] is not None else KafkaError(KafkaError._MSG_TIMED_OUT)
            raise broker_error(str(self._config["bootstrap.servers"]), reason)
        return told[0][1]


def _fold(found: dict[str, StoredPattern], removed: dict[str, int], key: bytes | None, value: bytes | None, offset: int) -> None:
    name = (key or b"").decode("utf-8", "backslashreplace")
    before = found.get(name, StoredPattern(name))
    try:
        control: Control = read(key, value, offset)
        if before.version is not None and control.version < before.version:
            raise ControlError(f"it names version {control.version}, and {before.version} is known: it was overtaken")
        if control.version < removed.get(name, -1):
            return  # a pause or resume that crossed with the removal
    except ControlError as error:
        found[name] = replace(before, problem=str(error))
        return
    if control.definition is None:
        found.pop(name, None)
        removed[name] = offset
        return
    published_at = orjson.loads(value or b"{}").get("published_at")
    older = (one for one in before.history if one[0] != control.version)
    history = (*older, (control.version, control.definition))
    found[name] = StoredPattern(
        name,
        control.version,
        control.paused,
        control.definition,
        published_at if type(published_at) is int else 0,
        history=history,
        offset=offset,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
