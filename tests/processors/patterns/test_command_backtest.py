"""`antiphon cep backtest` on a real broker: what it reads, what it says, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from confluent_kafka import Producer

from processors.core.cep.loading import to_yaml
from processors.core.cep.model import Definition
from processors.patterns.command_backtest import backtest_command
from processors.patterns.options import CepOptions
from processors.patterns.store import PatternStore
from streams.broker import EmbeddedBroker
from streams.cli import commands as command_line

BEGIN = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
EVENTS = [("k", "a", 0), ("k", "b", 10), ("k", "a", 20), ("k", "b", 900), ("j", "a", 1_000), ("k", "a", 1_500), ("k", "b", 1_400)]


class Bench:
    """A topic with `EVENTS`, written as they happened, and one record that is no event; the command; a patterns topic."""

    def __init__(
        self,
        servers: str,
        make_topic: Callable[..., str],
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        directory: Path,
    ) -> None:
        self._patch, self._capfd, self._directory = monkeypatch, capfd, directory
        self.topic, patterns = make_topic("in", partitions=1), make_topic("patterns", partitions=1)
        monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", servers)
        monkeypatch.setenv("AGENT_CEP_PATTERNS_TOPIC", patterns)
        monkeypatch.setenv("COLUMNS", "200")
        self.store = PatternStore({"bootstrap.servers": servers}, CepOptions(patterns_topic=patterns))
        producer = Producer({"bootstrap.servers": servers})
        for key, kind, ts in EVENTS:
            producer.produce(self.topic, json.dumps({"type": kind, "ts": BEGIN + ts}), key, 0, timestamp=BEGIN + ts)
        producer.produce(self.topic, b"no event", b"k", 0, timestamp=BEGIN + 1_600)
        assert producer.flush(20) == 0

    def definition(self, within_ms: int, name: str = "quick", **more: Any) -> Definition:
        """Return a pattern: an a, then a b."""
        stages = [{"name": "a", "where": "type == 'a'"}, {"name": "b", "where": "type == 'b'", "contiguity": "relaxed"}]
        body = {"stages": stages, "within_ms": within_ms}
        return Definition.model_validate({"name": name, "topics": [self.topic], "pattern": body, **more})

    def file(self, *definitions: Definition, name: str = "quick.yaml") -> str:
        """Write definitions to a file; return its path."""
        path = self._directory / name
        path.write_text("---\n".join(map(to_yaml, definitions)))
        return str(path)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command: exit code, output, errors."""
        app = typer.Typer()
        app.command()(backtest_command)
        self._patch.setattr(command_line, "app", app)
        self._patch.setattr(command_line, "add_installed_commands", lambda: None)
        self._patch.setattr("sys.argv", ["backtest", *arguments])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        out, err = self._capfd.readouterr()
        return int(ended.value.code or 0), out, err

    def json(self, *arguments: str) -> dict[str, Any]:
        """Run the command and return its document."""
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def bench(
    kafka: EmbeddedBroker,
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Bench:
    return Bench(kafka.bootstrap_servers, make_topic, monkeypatch, capfd, tmp_path)


def offsets(matches: list[dict[str, Any]]) -> list[tuple[str, list[int]]]:
    """Return the key and the offsets of each match."""
    return [(one["key"], [event["offset"] for stage in one["stages"] for event in stage["events"]]) for one in matches]


def test_a_file_is_run_and_everything_is_counted(bench: Bench) -> None:
    """Matches with their records, late events, what timed out, what is open, and the record that is no event."""
    found = bench.json(bench.file(bench.definition(500)))
    mine = found["pattern"]
    assert offsets(mine["found"]) == [("k", [0, 1])]
    assert (mine["events"], mine["late"], mine["late_by_max_ms"], mine["timed_out"]) == (6, 1, 100, 1)
    assert [late["offset"] for late in mine["late_events"]] == [6]
    assert (found["records"], found["unreadable"], found["unreadable_records"][0]["offset"]) == (8, 1, 7)
    assert (mine["open"]["partial_matches"], mine["open"]["partials"][0]["deadline"]) == (2, BEGIN + 1_500)
    assert mine["partial_matches_of_a_key"] == {"most": 1, "key": "j", "limit": 1000}


def test_two_versions_are_compared(bench: Bench) -> None:
    """A number is another version of the same pattern; what each alone has is told, with its records."""
    old = bench.store.publish(bench.definition(500)).version
    bench.store.publish(bench.definition(5_000))
    found = bench.json("quick", "--against", str(old))
    assert (found["pattern"]["label"], found["against"]["label"]) == (f"quick@{old + 1}", f"quick@{old}")
    compared = found["comparison"]
    assert (compared["equal"], compared["both"], compared["only_new"], compared["only_old"]) == (False, 1, 1, 0)
    assert offsets(compared["only_new_matches"]) == [("k", [2, 3])]
    code, out, _ = bench.run(f"quick@{old}", "--against", bench.file(bench.definition(500)))
    assert code == 0
    assert "in both 1, only in" in out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--from", "2"), [("k", [2, 3])]),
        (("--to", "2"), [("k", [0, 1])]),
        (("--from", "-6", "--to", "4"), [("k", [2, 3])]),
        (("--from", "2026-01-01T00:00:00.020", "--to", "2026-01-01T00:00:00.900"), []),
    ],
)
def test_a_range_is_given_as_for_replay(bench: Bench, given: tuple[str, ...], expected: list[Any]) -> None:
    """Offsets, those from the end, and times; the pattern begins with nothing at the beginning of the range."""
    assert offsets(bench.json(bench.file(bench.definition(5_000)), *given)["pattern"]["found"]) == expected


def test_people_see_matches_with_their_records_up_to_a_limit(bench: Bench) -> None:
    """Each match is a line with its records, --limit says how many, and what is open is said in words."""
    code, out, _ = bench.run(bench.file(bench.definition(5_000)), "--limit", "1")
    assert code == 0
    assert "the first 1 of 2" in out
    assert f"a: {bench.topic}/0/0  b: {bench.topic}/0/1" in out
    assert f"{bench.topic}/0/3" not in out
    assert "open at the end of the range: 2 partial matches of 2 keys" in out
    assert "1 record cannot be read" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nobody"], 4, "no pattern is called 'nobody'"),
        (["quick@77"], 4, "has no version 77 on its topic, there are: 0"),
        (["absent.yaml"], 4, "absent.yaml: there is no such file"),
        (["{broken}"], 2, ":1:7: name: a pattern's name has letters"),
        (["{two}"], 2, "choose one, as in"),
        (["{two}#three"], 4, "no pattern in it is called 'three'; there are one, two"),
        (["{unread}"], 2, "unread.yaml: pattern 'quick' names no topic to read"),
        (["{elsewhere}"], 4, "topic nowhere, which"),
        (["quick", "--from", "7", "--to", "7"], 4, "no record between --from and --to; the offsets that there are"),
        (["quick", "--from", "yesterday"], 2, "yesterday"),
        (["quick", "--from", "5", "--to", "2"], 2, "the wrong way round"),
    ],
)
def test_what_is_wrong_is_said_in_one_place(bench: Bench, arguments: list[str], code: int, says: str) -> None:
    """Unknown patterns, versions, files, topics and empty ranges end with a message that says what there is instead."""
    bench.store.publish(bench.definition(500))
    (Path(bench.file(name="broken.yaml"))).write_text("name: three failures\n")
    files = {
        "broken": str(Path(bench.file(name="unused.yaml")).with_name("broken.yaml")),
        "two": bench.file(bench.definition(5, "one"), bench.definition(5, "two"), name="two.yaml"),
        "unread": bench.file(bench.definition(5, topics=[]), name="unread.yaml"),
        "elsewhere": bench.file(bench.definition(5, topics=["nowhere"]), name="elsewhere.yaml"),
    }
    answer = bench.run(*(one.format(**files) for one in arguments))
    assert answer[0] == code, answer
    assert says in answer[2]
    assert answer[1] == ""
