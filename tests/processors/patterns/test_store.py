"""The patterns topic: what is published, paused, removed and listed, by calls and from the command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from confluent_kafka import Producer
from typer.testing import CliRunner

from processors.core.cep.automaton import PatternError
from processors.patterns import manage
from processors.patterns.control import ControlError, encode, read
from processors.patterns.options import CepOptions
from processors.patterns.store import PatternMissing, PatternStore
from schemas.catalogue import CATALOGUE
from schemas.cep import PatternRefused
from streams.broker import EmbeddedBroker
from streams.codec import Codec
from streams.errors import SettingsError
from streams.reader import LogReader
from streams.topics import Topics
from tests.processors.patterns.lane_bench import pattern, stage

FOLLOWED = pattern("followed", stage("a"), stage("b"), within_ms=1_000)


@pytest.fixture
def store(kafka: EmbeddedBroker) -> PatternStore:
    return PatternStore({"bootstrap.servers": kafka.bootstrap_servers}, CepOptions(topic_prefix=f"{secrets.token_hex(4)}."))


def test_versions_grow_and_a_pause_keeps_the_version(store: PatternStore) -> None:
    """A version is the offset of its record; pausing and resuming write records and keep it; removing ends the name only."""
    assert store.list() == {}
    first = store.publish(FOLLOWED)
    second = store.publish(FOLLOWED, on_replace="restart")
    assert (first.replaces, second.replaces) == (None, first.version)
    assert second.version > first.version
    assert store.pause("followed").paused
    stored = store.resume("followed")
    assert (stored.version, stored.paused) == (second.version, False)
    assert stored.definition is not None
    assert stored.definition.on_replace == "restart"
    assert [version for version, _ in stored.history] == [first.version, second.version]
    store.remove("followed")
    assert store.list() == {}
    assert store.publish(FOLLOWED).version > second.version
    with pytest.raises(PatternMissing, match="antiphon cep ls"):
        store.pause("unknown")


def test_a_pause_that_crosses_with_a_removal_does_not_bring_the_pattern_back(
    store: PatternStore, kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the last record of the name is a removal again: compaction may keep that one alone."""
    store.publish(FOLLOWED)
    write = store._write

    def crossed(name: str, value: bytes | None) -> int:
        if value is not None:
            write(name, None)
        return write(name, value)

    monkeypatch.setattr(store, "_write", crossed)
    with pytest.raises(PatternMissing, match="removed meanwhile"):
        store.pause("followed")
    assert store.list() == {}
    reader = LogReader({"bootstrap.servers": kafka.bootstrap_servers})
    values = [record.value for records, _ in reader.read(reader.bounds([store.topic])) for record in records]
    assert [value is None for value in values] == [False, True, False, True]


def test_what_does_not_compile_is_not_published(store: PatternStore) -> None:
    """A pattern that the compiler refuses, or that reads nothing, leaves no record; warnings come with what is published."""
    doubled = FOLLOWED.model_copy(
        update={"pattern": FOLLOWED.pattern.model_copy(update={"stages": (FOLLOWED.pattern.stages[0],) * 2})}
    )
    with pytest.raises(PatternError):
        store.publish(doubled)
    with pytest.raises(PatternError, match="names no topic"):
        store.publish(FOLLOWED.model_copy(update={"topics": ()}))
    assert store.list() == {}
    assert store.publish(pattern("forever", stage("a"), stage("b"))).warnings


def test_a_bad_record_is_shown_and_hides_nothing(store: PatternStore, kafka: EmbeddedBroker) -> None:
    """Where the last record of a pattern means nothing, the last good definition stays listed, with what is wrong."""
    version = store.publish(FOLLOWED).version
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(store.topic, b"\xff", b"followed")
    producer.flush(10)
    stored = store.get("followed")
    assert (stored.version, stored.definition) == (version, FOLLOWED)
    assert "no JSON" in stored.problem


@pytest.mark.parametrize(
    ("key", "content", "reason"),
    [
        (None, {}, "no key"),
        (b"\xff", {}, "no UTF-8"),
        (b"p", [], "no JSON object"),
        (b"p", {"format": 2}, "format is 2"),
        (b"p", {"format": 1}, "definition"),
        (b"p", {"format": 1, "version": 9}, "version is 9"),
        (b"p", {"format": 1, "version": -1}, "version is -1"),
        (b"p", {"format": 1, "paused": "yes"}, "paused is 'yes'"),
        (b"p", {"format": 1, "definition": FOLLOWED.to_data()}, "the same name"),
    ],
)
def test_records_that_mean_nothing(key: bytes | None, content: object, reason: str) -> None:
    """Each is refused with its reason, and none raises anything else."""
    with pytest.raises(ControlError, match=reason):
        read(key, json.dumps(content).encode(), 5)


def test_a_record_comes_back_as_it_was_written() -> None:
    """A definition survives the topic; its version is the record's offset unless it names another."""
    control = read(b"followed", encode(FOLLOWED, now_ms=1), 7)
    assert (control.definition, control.version, control.paused) == (FOLLOWED, 7, False)
    control = read(b"followed", encode(FOLLOWED, now_ms=1, paused=True, version=7), 9)
    assert (control.version, control.paused) == (7, True)
    assert read(b"followed", None, 11).definition is None


def test_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are names with commas; a name in both lists, and a wrong prefix, are told in one line."""
    monkeypatch.setenv("AGENT_CEP_TOPICS", "orders, payments")
    monkeypatch.setenv("AGENT_CEP_TOPIC_PREFIX", "x.")
    options = CepOptions.load()
    assert (options.topics, options.topic("a"), options.keyed("app")) == (("orders", "payments"), "x.a", "x.app-cep-keyed")
    monkeypatch.setenv("AGENT_CEP_KEYED_TOPICS", "payments")
    with pytest.raises(SettingsError, match="payments is among"):
        CepOptions.load()
    monkeypatch.setenv("AGENT_CEP_TOPIC_PREFIX", "a b")
    with pytest.raises(SettingsError, match="AGENT_CEP_TOPIC_PREFIX = 'a b'"):
        CepOptions.load()


@pytest.fixture
def command(store: PatternStore, kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("AGENT_CEP_TOPIC_PREFIX", store.topic.removesuffix("antiphon.patterns"))
    app = typer.Typer()
    commands: dict[str, Callable[..., None]] = {
        "publish": manage.publish, "ls": manage.list_patterns, "show": manage.show, "pause": manage.pause,
        "resume": manage.resume, "remove": manage.remove, "matches": manage.matches,
    }  # fmt: skip
    for name, function in commands.items():
        app.command(name)(function)
    return app


def test_from_the_command_line(command: typer.Typer, tmp_path: Path) -> None:
    """Publish from a file, list, show, pause, resume, remove: each says what it did; an unknown name ends with code 4."""
    file = tmp_path / "two.yaml"
    file.write_text(
        "name: followed\ntopics: [in]\npattern: {within_ms: 1000, stages: [{name: a, where: type == 'a'}, {name: b}]}\n"
        "---\nname: single\ntopics: [in]\npattern: {stages: [{name: a}]}\n"
    )
    run = CliRunner()

    def said(*arguments: str, code: int = 0) -> str:
        done = run.invoke(command, arguments)
        assert done.exit_code == code, done.output
        return done.output

    assert "followed version 0" in said("publish", str(file))
    assert "replaces 0 (restart)" in said("publish", str(file), "--replace", "restart")
    assert "is paused" in said("pause", "single")
    assert "single version 3 is already paused" in said("pause", "single")
    listed = {one["name"]: one for one in json.loads(said("ls", "--json"))}
    assert (listed["single"]["status"], listed["followed"]["status"]) == ("paused", "active")
    assert "followed" in said("ls")
    assert "goes on" in said("resume", "single")
    assert "single version 3 is not paused" in said("resume", "single")
    assert "where: type == 'a'" in said("show", "followed")
    assert json.loads(said("show", "followed", "--json"))["definition"]["name"] == "followed"
    assert "is removed" in said("remove", "single")
    said("show", "single", code=4)
    said("publish", str(tmp_path / "absent.yaml"), code=4)


def test_nothing_is_published_of_a_file_that_names_no_topic(command: typer.Typer, store: PatternStore, tmp_path: Path) -> None:
    """The file and the pattern are named, the code is that of wrong usage, and the good one before it is not published either."""
    file = tmp_path / "unread.yaml"
    file.write_text("name: good\ntopics: [in]\npattern: {stages: [{name: a}]}\n---\nname: bad\npattern: {stages: [{name: a}]}\n")
    done = CliRunner().invoke(command, ["publish", str(file)])
    assert done.exit_code == 2
    assert f"{file}: pattern 'bad' names no topic to read: give it `topics: [...]`" in " ".join(done.stderr.split("\n"))
    assert store.list() == {}


def test_nothing_is_published_of_a_file_with_one_too_large(
    command: typer.Typer, store: PatternStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small one before it stays unpublished too."""
    file = tmp_path / "large.yaml"
    small = "name: {}\ntopics: [in]\ndescription: {}\npattern: {{stages: [{{name: a}}]}}\n"
    file.write_text(small.format("good", "short") + "---\n" + small.format("bad", "x" * 2_000))
    monkeypatch.setattr("processors.patterns.control.CONTROL_BYTES_MAX", 2_000)
    done = CliRunner().invoke(command, ["publish", str(file)])
    assert done.exit_code == 2
    assert "pattern 'bad': the definition has" in " ".join(done.stderr.split("\n"))
    assert store.list() == {}


def test_a_refusal_of_the_workers_is_shown(command: typer.Typer, store: PatternStore, kafka: EmbeddedBroker) -> None:
    """`ls` and `show` give the workers' reason; a kafka transaction that a killed worker left open is not waited for."""
    version = store.publish(FOLLOWED).version
    changes = store.topic.replace("antiphon.patterns", "antiphon.pattern-changes")
    Topics({"bootstrap.servers": kafka.bootstrap_servers}).ensure(changes, 1)
    refused = PatternRefused(
        id="1", source="/test", pattern="followed", version=version, reason="it names topic 'in'", detected_at=1
    )
    record = Codec(CATALOGUE).encode(refused, changes)
    told = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    told.produce(changes, record.value, record.key)
    told.produce(changes, b"no event", record.key)
    assert told.flush(10) == 0
    left = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": changes})
    left.init_transactions(20)
    left.begin_transaction()
    left.produce(changes, record.value, b"single")
    assert left.flush(10) == 0
    run = CliRunner()
    try:
        (line,) = json.loads(run.invoke(command, ["ls", "--json"]).stdout)
        shown = run.invoke(command, ["show", "followed"])
    finally:
        left.abort_transaction(20)
    assert (line["status"], line["problem"]) == ("refused", "it names topic 'in'")
    assert "the workers refuse it: it names topic 'in'" in shown.stderr
    assert store.list()["followed"].refused == "", "only who asks for it waits for it"
