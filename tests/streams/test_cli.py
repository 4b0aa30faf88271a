"""The command line on a real broker: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from streams.bench import Bar, BenchReport, Progress, Row
from streams.broker import running_broker
from streams.broker_properties import HOST
from streams.ports import free_port

MakeTopic = Callable[..., str]
Answer = tuple[int, str, str]
Run = Callable[..., Answer]


def _entry_points(monkeypatch: pytest.MonkeyPatch, group: str, **points: str) -> None:
    """Pretend that a package with these entry points is installed."""
    real = importlib.metadata.entry_points

    def fake(**wanted: str) -> Any:
        return (
            [EntryPoint(name, value, group) for name, value in points.items()] if wanted.get("group") == group else real(**wanted)
        )

    for module in ("streams.cli.commands", "streams.cli.bench", "streams.cli.worker"):
        monkeypatch.setattr(f"{module}.entry_points", fake)


def test_topics_are_made_listed_described_and_deleted(run: Run) -> None:
    """The whole life of a topic, in JSON."""
    name = f"cli-{secrets.token_hex(4)}"
    assert json.loads(run("topics", "create", name, "--partitions", "3", "--compact", "--json")[1]) == {
        "topic": name,
        "partitions": 3,
        "created": True,
    }
    assert json.loads(run("topics", "create", name, "--partitions", "3", "--if-missing", "--json")[1])["created"] is False
    listed = json.loads(run("topics", "ls", "--json")[1])
    assert {"name": name, "partitions": 3, "replication": 1, "internal": False} in listed
    described = json.loads(run("topics", "describe", name, "--json")[1])
    assert described["config"] == {"cleanup.policy": "compact"}
    assert len(described["partitions"]) == 3
    code, _, err = run("topics", "create", name)
    assert (code, err.count("\n")) == (1, 1)
    assert run("topics", "delete", name, "--yes", "--json")[0] == 0
    assert run("topics", "describe", name)[0] == 4


def test_a_missing_topic_is_code_4_and_one_line(run: Run) -> None:
    """The line names the topic and the command that creates it."""
    for command in (["topics", "describe"], ["tail"], ["produce"], ["topics", "delete", "--yes"]):
        code, out, err = run(*command, "no-such-topic")
        assert (code, out, err.count("\n")) == (4, "", 1)
        assert "antiphon topics create no-such-topic" in err


def test_no_broker_is_code_3_and_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the address and the setting."""
    address = f"{HOST}:{free_port(HOST, set())}"
    monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", address)
    code, _, err = run("topics", "ls")
    assert (code, err.count("\n")) == (3, 1)
    assert address in err
    assert "ANTIPHON_KAFKA__BOOTSTRAP_SERVERS" in err


def test_wrong_settings_and_wrong_usage_are_code_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting is named with its value; an unknown option is refused."""
    assert run("topics", "ls", "--no-such-option")[0] == 2
    monkeypatch.setenv("ANTIPHON_BROKER__PORT", "many")
    code, _, err = run("settings")
    assert code == 2
    assert "ANTIPHON_BROKER__PORT" in err
    assert "many" in err


def test_settings_show_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is set is not printed, in no form of the command."""
    monkeypatch.setenv("ANTIPHON_REGISTRY__URL", "http://registry.example")
    monkeypatch.setenv("ANTIPHON_REGISTRY__USERNAME", "alice")
    monkeypatch.setenv("ANTIPHON_REGISTRY__PASSWORD", "hunter2")
    for options in ([], ["--json"], ["--explain"], ["--changed"]):
        code, out, err = run("settings", *options)
        assert code == 0
        assert "hunter2" not in out + err
    assert any(row["name"] == "registry.password" for row in json.loads(run("settings", "--changed", "--json")[1]))


def test_lines_become_records_and_malformed_ones_are_named(run: Run, make_topic: MakeTopic, tmp_path: Path) -> None:
    """Good lines arrive with key and headers, bad ones are reported by number, and the exit code says so."""
    topic = make_topic("cli", partitions=1)
    lines = [
        '{"key": "a", "value": {"x": 1}}',
        "not json",
        "",
        '{"key": "b", "value": "two", "headers": {"h": "1"}}',
        '{"vlaue": 1}',
    ]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(lines))
    code, out, err = run("produce", topic, str(file), "--format", "json", "--json")
    assert code == 1
    assert json.loads(out) == {"topic": topic, "lines": 4, "acknowledged": 2, "malformed": 2, "failed": 0}
    assert "line 2: not JSON" in err
    assert "line 5: unknown field vlaue" in err
    code, out, _ = run("tail", topic, "--beginning", "--no-follow", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(one["offset"], one["key"], one["value"], one["headers"]) for one in records] == [
        (0, "a", '{"x":1}', {}),
        (1, "b", "two", {"h": "1"}),
    ]


def test_typed_events_are_checked_encoded_and_shown_decoded(run: Run, make_topic: MakeTopic, tmp_path: Path) -> None:
    """An event's line is keyed and encoded by the catalogue, a wrong one is named, and tail shows its fields."""
    topic = make_topic("cli", partitions=1)
    fields = {
        "agent": "ada",
        "task": "t1",
        "ts": 1,
        "arrived": 2,
        "files": 1,
        "added": 3,
        "removed": 0,
        "reverts": None,
        "seq": 0,
    }
    lines = [
        {"type": "change.committed", **fields},
        {"type": "change.committed", **fields, "files": "many"},
        {"type": "no.such.type"},
        {"agent": "ada"},
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    code, out, err = run("produce", topic, str(file), "--json")
    assert (code, json.loads(out)["acknowledged"], json.loads(out)["malformed"]) == (1, 1, 3), err
    assert "line 3: " in err
    assert "change.committed" in err
    _, out, _ = run("tail", topic, "--beginning", "--no-follow", "--json")
    record = json.loads(out)
    assert (record["type"], record["key"], record["error"]) == ("change.committed", "ada", None)
    assert record["value"]["added"] == 3
    assert record["headers"]["ce_source"] == "/antiphon/produce"


def test_a_broken_record_is_shown_with_what_is_wrong(run: Run, make_topic: MakeTopic, tmp_path: Path) -> None:
    """Bytes that only look like an event are shown as text beside the reason, and tail goes on."""
    topic = make_topic("cli", partitions=1)
    file = tmp_path / "lines"
    file.write_bytes(b"\0\0\0\xff\xffwrong\nplain\n")
    assert run("produce", topic, str(file), "--format", "raw")[0] == 0
    _, out, _ = run("tail", topic, "--beginning", "--no-follow", "--json")
    broken, plain = [json.loads(line) for line in out.splitlines()]
    assert topic in broken["error"]
    assert plain["error"] is None


def test_tail_starts_where_it_is_told(run: Run, make_topic: MakeTopic, tmp_path: Path) -> None:
    """Offset, offset from the end, time, count and partition each select what they say."""
    topic = make_topic("cli", partitions=1)
    file = tmp_path / "lines"
    file.write_text("".join(f"k{number}:v{number}\n" for number in range(10)))
    assert run("produce", topic, str(file), "--format", "raw", "--separator", ":")[0] == 0

    def offsets(*options: str) -> list[int]:
        code, out, err = run("tail", topic, "--no-follow", "--json", *options)
        assert code == 0, err
        return [json.loads(line)["offset"] for line in out.splitlines()]

    assert offsets("--offset", "7") == [7, 8, 9]
    assert offsets("--offset", "-2") == [8, 9]
    assert offsets("--since", "1h") == list(range(10))
    assert offsets("--since", "2999-01-01") == []
    assert offsets("--beginning", "--count", "3") == [0, 1, 2]
    assert offsets() == []
    assert run("tail", topic, "--since", "yesterday")[0] == 2
    assert run("tail", topic, "--partition", "5")[0] == 4


def holding(progress: Progress) -> BenchReport:
    """A benchmark whose bar holds."""
    progress("round 1 of 1")
    return BenchReport("holding", (Row("ours", 2.0, "events/s", (1.0, 2.0, 3.0)),), (Bar("speed", ">= 1", 2.0, True),))


def failing(_progress: Progress) -> BenchReport:
    """A benchmark whose bar does not hold."""
    return BenchReport("failing", (), (Bar("speed", ">= 1", 0.5, False),))


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "bench_under_test", module)
    _entry_points(monkeypatch, "antiphon.benchmarks", holding="bench_under_test:holding", failing="bench_under_test:failing")


@pytest.mark.usefixtures("benchmarks")
def test_bench_prints_one_json_object_and_fails_with_its_bars(run: Run) -> None:
    """The JSON has exactly the agreed fields; a bar that does not hold is exit code 1; an unknown name is 4."""
    code, out, _ = run("bench", "holding", "--json")
    assert code == 0
    assert json.loads(out) == {
        "bench": "holding",
        "rows": [{"name": "ours", "value": 2.0, "unit": "events/s", "rounds": [1.0, 2.0, 3.0]}],
        "bars": [{"name": "speed", "bar": ">= 1", "value": 2.0, "holds": True}],
    }
    assert run("bench", "failing", "--json")[0] == 1
    assert "DOES NOT HOLD" in run("bench", "failing")[1]
    assert run("bench", "unknown")[0] == 4
    assert json.loads(run("bench", "--json")[1]) == ["failing", "holding"]


def test_an_unknown_processor_is_code_4(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the processors that are installed."""
    _entry_points(monkeypatch, "antiphon.processors", locks="locks:register")
    code, _, err = run("worker", "lokcs")
    assert code == 4
    assert "installed are locks" in err


def test_a_command_that_cannot_be_imported_does_not_take_the_others_down(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named on standard error, and what was asked for runs."""
    _entry_points(monkeypatch, "antiphon.commands", broken="no_such_module_anywhere:command")
    code, _, err = run("topics", "ls", "--json")
    assert code == 0
    assert "command broken is not available" in err


def test_the_embedded_broker_is_started_shown_and_stopped(tmp_path: Path) -> None:
    """`broker start` outlives its command, `status` finds it, `logs` shows its log, `stop` ends it, each with its exit code."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")},
        "ANTIPHON_BROKER__DATA_DIR": str(tmp_path),
        "ANTIPHON_BROKER__PORT": str(free_port(HOST, set())),
        "ANTIPHON_BROKER__HEAP_MB": "256",
    }

    def antiphon(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = "from streams.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=90, check=False
        )

    assert antiphon("broker", "status").returncode == 1
    started = antiphon("broker", "start", "--json")
    try:
        assert started.returncode == 0, started.stderr
        running = json.loads(started.stdout)
        assert running["detached"]
        assert json.loads(antiphon("broker", "status", "--json").stdout)["pid"] == running["pid"]
        assert "already" in antiphon("broker", "start").stdout
        assert len(antiphon("broker", "logs", "-n", "3").stdout.splitlines()) == 3
        assert antiphon("topics", "ls", "--json").stdout.strip() == "[]"
    finally:
        stopped = antiphon("broker", "stop", "--json")
    assert json.loads(stopped.stdout)["stopped"] is True
    assert running_broker(tmp_path) is None
    assert antiphon("broker", "status").returncode == 1
