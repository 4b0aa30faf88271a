"""The shell of windows without Kafka: real batches and tables in memory, committed or dropped as a test likes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from faust.types import TP

from processors import windows
from processors.window_records import REKEYING
from processors.windows import WindowOptions, register, table_name
from schemas.catalogue import CATALOGUE
from schemas.errors import MalformedRecord, SchemaError
from schemas.work import ChangeCommitted, FileChanged
from streams.codec import Codec
from streams.errors import SettingsError
from streams.turns.batch import GONE, Batch
from streams.turns.records import FetchedRecord
from streams.turns.stores import MemoryParts
from streams.turns.tables import JsonCodec

NOW = 1_800_000_000_000
KEYED = "app-windows-keyed"
PER_AGENT = """
name: per-agent
topics: [agents.events]
types: [change.committed]
key: agent
window: {kind: tumbling, size_ms: 1000}
ahead_max_ms: null
aggregates: {added: {agg: sum, field: added}}
"""
PER_TASK = """
name: per-task
topics: [agents.events, reviews]
key: task
window: {kind: tumbling, size_ms: 1000}
idle_after_ms: 5000
ahead_max_ms: null
aggregates: {n: {agg: count}}
"""


class MemoryTable:
    """What a view needs of a table; its rows go through their codec as through a changelog."""

    default = None
    immutable_values = True

    def __init__(self, name: str) -> None:
        self.name, self.codec = name, JsonCodec()
        self.parts = MemoryParts(self.codec)

    def encode(self, writes: Any) -> dict[bytes, bytes | None]:
        return {self.codec.encode_key(k): None if v is GONE else self.codec.encode_value(v) for k, v in writes.items()}


class FakeApp:
    """Collects what `register` declares, and says what a test wants of lag and generation."""

    def __init__(self) -> None:
        self.codec = Codec(CATALOGUE)
        self.conf = SimpleNamespace(id="app")
        self.source_partitions, self.consumer_generation_id = 1, 1
        self.behind: set[str] = set()
        self.tables: dict[str, MemoryTable] = {}
        self.agents: dict[str, tuple[str, Any]] = {}
        self.owned: list[str] = []

    def Table(self, name: str, **_: Any) -> MemoryTable:  # noqa: N802 as Faust calls it
        self.tables[name] = MemoryTable(name)
        return self.tables[name]

    def batch_topic(self, name: str) -> str:
        return name

    def own_topic(self, name: str) -> str:
        self.owned.append(name)
        return name

    def agent(self, topic: str, *, name: str) -> Any:
        def declare(fun: Any) -> Any:
            self.agents[topic] = (name, fun)
            return fun

        return declare

    def caught_up(self, topic: str, partition: int) -> bool:
        return f"{topic}/{partition}" not in self.behind


class Worker:
    """One partition of an app with these definitions."""

    def __init__(self, directory: Path, *definitions: str) -> None:
        file = directory / "windows.json"
        file.write_text(json.dumps([yaml.safe_load(one) for one in definitions]))
        self.app = FakeApp()
        register(self.app, WindowOptions(definitions=file))  # type: ignore[arg-type]
        self.now, self.offsets = NOW, dict.fromkeys(self.app.agents, 0)
        self.out: list[dict[str, Any]] = []
        self.sent: list[tuple[bytes | None, bytes, dict[str, bytes], int]] = []
        self.wake: int | None = None

    def record(self, topic: str, value: bytes | None, headers: Any = ()) -> FetchedRecord:
        """Return the next record of a topic."""
        offset = self.offsets[topic]
        self.offsets[topic] = offset + 1
        return FetchedRecord(topic, 0, offset, self.now, 0, b"k", value, tuple(headers))

    def change(self, ts: int, *, agent: str = "a", task: str = "t") -> FetchedRecord:
        """Return a record with a typed event, as Avro."""
        event = ChangeCommitted(agent=agent, task=task, ts=ts, arrived=ts, files=1, added=10, removed=0, id="x", source="/s")
        return self.record("agents.events", CATALOGUE.encode(event))

    async def batch(self, topic: str, *records: FetchedRecord, now: int | None = None, commit: bool = True) -> None:
        """Run one batch through the processor of a topic; commit or drop it."""
        self.now = now or self.now + 1
        batch = Batch(
            TP(topic, 0), records, now_ms=self.now, next_offset=self.offsets[topic], below=lambda _: (), codec=self.app.codec
        )

        async def stream() -> Any:
            yield batch

        await self.app.agents[topic][1](stream())
        effects = batch.seal(record_bytes_max=1_000_000)
        if not commit:
            return
        self.wake = batch.due_ms
        for table, writes in effects.writes.items():
            table.parts.apply(0, writes, effects.encoded.get(table, {}), None)  # type: ignore[attr-defined]
        for output_topic, key, value, partition, headers in effects.outputs:
            assert value is not None
            if output_topic == KEYED:
                self.sent.append((key, value, dict(headers or ()), partition))
            else:
                fields = CATALOGUE.read(value)
                self.out.append({"to": output_topic, "key": key, "ce": dict(headers or ()), **fields})

    async def pass_on(self) -> None:
        """Let the keyed topic have what was sent to it."""
        records = [self.record(KEYED, value, headers.items())._replace(key=key) for key, value, headers, _ in self.sent]
        self.sent.clear()
        await self.batch(KEYED, *records)


async def test_events_that_are_keyed_right_go_straight_into_windows(tmp_path: Path) -> None:
    """One topic whose types are keyed by the definition's field needs no topic between; results are keyed and have ids."""
    worker = Worker(tmp_path, PER_AGENT)
    assert set(worker.app.agents) == {"agents.events"}
    await worker.batch("agents.events", worker.change(NOW), worker.change(NOW + 1), worker.change(NOW + 2000, agent="b"))
    [closed] = worker.out
    assert (closed["to"], closed["key"], closed["events"], closed["values"]) == ("antiphon.windows", b"a", 2, {"added": 20.0})
    assert closed["ce"]["ce_source"] == b"/antiphon/windows/per-agent"
    assert closed["ce"]["ce_id"].startswith(b"per-agent/")


async def test_a_batch_that_is_dropped_leaves_nothing_behind(tmp_path: Path) -> None:
    """The same records again give the same results with the same ids."""
    worker = Worker(tmp_path, PER_AGENT)
    records = [worker.change(NOW), worker.change(NOW + 2000)]
    await worker.batch("agents.events", *records, commit=False)
    await worker.batch("agents.events", *records)
    assert [one["events"] for one in worker.out] == [1]


async def test_topics_are_joined_by_a_field(tmp_path: Path) -> None:
    """Events go on keyed by the field, with their origin; JSON and Avro meet in one window, and time waits for both topics."""
    worker = Worker(tmp_path, PER_TASK)
    assert worker.app.owned == [KEYED]
    review = worker.record("reviews", json.dumps({"type": "review.rejected", "task": "t", "ts": NOW + 1}).encode())
    await worker.batch("agents.events", worker.change(NOW, task="t"), worker.change(NOW + 3000, task="u"))
    origin, field = REKEYING.origin_header, REKEYING.field_header
    assert [(key, headers[origin].decode(), headers[field]) for key, _, headers, _ in worker.sent] == [
        (b"t", f"agents.events/0/0/{NOW}", b"task"), (b"u", f"agents.events/0/1/{NOW}", b"task"),
    ]  # fmt: skip
    await worker.pass_on()
    assert worker.out == []
    await worker.batch("reviews", review)
    await worker.batch("reviews", worker.record("reviews", json.dumps({"task": "v", "ts": NOW + 1000}).encode()))
    await worker.pass_on()
    assert [(one["correlation_key"], one["events"]) for one in worker.out] == [("t", 2)]


@pytest.mark.parametrize("waiting", ["reviews/0", f"{KEYED}/0"])
async def test_a_source_with_unread_records_is_waited_for(tmp_path: Path, waiting: str) -> None:
    """A silent topic holds time while it is behind, or what was sent on is not read yet, and no longer when it is idle."""
    worker = Worker(tmp_path, PER_TASK)
    await worker.batch("agents.events", worker.change(NOW), worker.change(NOW + 3000))
    await worker.pass_on()
    asked = worker.wake
    assert asked == worker.now + 5000
    worker.app.behind = {waiting}
    await worker.batch(KEYED, now=asked)
    assert worker.out == []
    worker.app.behind = set()
    assert worker.wake == asked + 5000
    await worker.batch(KEYED, now=worker.wake)
    assert [one["events"] for one in worker.out] == [1]


async def test_after_a_rebalance_a_silence_counts_anew(tmp_path: Path) -> None:
    """What was written while nobody listened has the whole time to be read, also where the first batch is dropped."""
    worker = Worker(tmp_path, PER_TASK)
    await worker.batch("agents.events", worker.change(NOW), worker.change(NOW + 3000))
    await worker.pass_on()
    worker.app.consumer_generation_id = 2
    begins = NOW + 60_000
    await worker.batch(KEYED, now=begins, commit=False)
    await worker.batch(KEYED, now=begins + 100)
    assert worker.out == []
    assert worker.wake == begins + 5000
    await worker.batch(KEYED, now=worker.wake)
    assert [one["events"] for one in worker.out] == [1]


async def test_an_event_without_the_field_is_seen_to_have_none(tmp_path: Path) -> None:
    """It goes on to a fixed partition, and comes out as left out, with its origin."""
    worker = Worker(tmp_path, PER_TASK)
    await worker.batch("reviews", worker.record("reviews", json.dumps({"ts": NOW}).encode()))
    assert [(key, partition) for key, _, _, partition in worker.sent] == [(None, 0)]
    await worker.pass_on()
    [left] = worker.out
    assert (left["to"], left["reason"], left["input_topic"], left["input_offset"]) == ("antiphon.late", "no_key", "reviews", 0)


async def test_types_that_nobody_reads_are_passed_over(tmp_path: Path) -> None:
    """So are records without a value; neither tells the time."""
    worker = Worker(tmp_path, PER_AGENT)
    other = FileChanged(agent="a", task="t", ts=NOW + 9000, arrived=NOW, path="p", added=1, removed=0, id="x", source="/s")
    await worker.batch(
        "agents.events",
        worker.change(NOW),
        worker.record("agents.events", CATALOGUE.encode(other)),
        worker.record("agents.events", None),
        worker.record("agents.events", b'{"type": "else", "agent": "a"}'),
    )
    assert worker.out == []


@pytest.mark.parametrize("value", [b"", b"[1]", b"{", b"\x00\x00\x00\x00\xff"])
async def test_what_is_no_event_is_refused(tmp_path: Path, value: bytes) -> None:
    """It raises, so that the runtime sets the record aside with its reason."""
    worker = Worker(tmp_path, PER_TASK)
    with pytest.raises(SchemaError, match=r"agents\.events"):
        await worker.batch("agents.events", worker.record("agents.events", value))


async def test_what_others_write_to_the_keyed_topic_is_refused(tmp_path: Path) -> None:
    """A record without an origin has no source, and so no time."""
    worker = Worker(tmp_path, PER_TASK)
    with pytest.raises(MalformedRecord, match="nobody else writes"):
        await worker.batch(KEYED, worker.record(KEYED, b"{}"))


def test_another_question_has_a_table_of_its_own(tmp_path: Path) -> None:
    """What decides the meaning of the state is in the table's name; what does not, is not."""
    options = [tmp_path / f"{n}.yaml" for n in range(3)]
    for path, change in zip(options, ("", "disorder_ms: 5\n", "allowed_lateness_ms: 1\n"), strict=True):
        path.write_text(PER_AGENT + change)
    first, second, third = (table_name(WindowOptions(definitions=path).read()[0]) for path in options)
    assert first == second == third
    options[0].write_text(PER_AGENT.replace("size_ms: 1000", "size_ms: 2000"))
    assert table_name(WindowOptions(definitions=options[0]).read()[0]) != first


def test_without_definitions_nothing_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs every installed processor does not need windows."""
    monkeypatch.delenv("AGENT_WINDOWS_DEFINITIONS", raising=False)
    app = FakeApp()
    register(app)  # type: ignore[arg-type]
    assert not app.agents
    assert not app.tables


def _with(window: str, more: str = "") -> str:
    return PER_AGENT.replace("{kind: tumbling, size_ms: 1000}", window) + more


TWICE = "{name: w, topics: [t], key: k, window: {kind: session, gap_ms: 1}, aggregates: {n: {agg: count}}}"
WRONG = {
    r"definition 1 \(per-agent\): window: .*'hopping'": _with("{kind: rolling, size_ms: 1}"),
    r"window.tumbling.size_ms: .*greater than or equal to 1": _with("{kind: tumbling, size_ms: 0}"),
    r"in no window": _with("{kind: hopping, size_ms: 10, advance_ms: 11}"),
    r"would have 2501 windows": _with("{kind: hopping, size_ms: 5000, advance_ms: 2}"),
    r"there is none before": _with("{kind: sliding, size_ms: 1}", "early_every: 2\n"),
    r"aggregates.added.agg: ": PER_AGENT.replace("agg: sum", "agg: total"),
    r"surprise: Extra inputs": PER_AGENT + "surprise: 1\n",
    r"topics names one twice": PER_AGENT.replace("[agents.events]", "[a, a]"),
    r"idle_after_ms is null": PER_AGENT + "follow_wall_clock: true\nidle_after_ms: null\n",
    r"w: the name is used twice": f"[{TWICE}, {TWICE}]",
    r"a mapping is expected, and this is str": "just text",
    r"no YAML: .*line 1": "a: [",
}


@pytest.mark.parametrize(("says", "text"), WRONG.items(), ids=WRONG.keys())
def test_a_wrong_definition_is_told_with_its_place(tmp_path: Path, says: str, text: str) -> None:
    """The file, the definition and the field, and what is allowed."""
    file = tmp_path / "w.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says) as caught:
        WindowOptions(definitions=file).read()
    assert str(caught.value).startswith(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the variable that named it."""
    with pytest.raises(SettingsError, match=r"AGENT_WINDOWS_DEFINITIONS: .*none.yaml cannot be read"):
        WindowOptions(definitions=tmp_path / "none.yaml").read()


def test_wrong_options_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the variable and its value."""
    monkeypatch.setenv(f"{windows.ENV_PREFIX}TOPIC_PREFIX", "a b")
    with pytest.raises(SettingsError, match="AGENT_WINDOWS_TOPIC_PREFIX = 'a b'"):
        WindowOptions.load()
