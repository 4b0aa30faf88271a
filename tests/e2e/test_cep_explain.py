"""`antiphon cep explain` on a running worker."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from processors.patterns.commands import commands
from processors.patterns.explaining import Nothing, explain_key
from processors.patterns.options import CepOptions
from streams.broker import EmbeddedBroker
from tests.e2e.cep_trial import CepTrial, definition, stage
from tests.e2e.trial import until


def test_a_key_is_explained_from_the_workers_state_and_the_log(
    kafka: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a running worker has of a key, what it waits for and why the last event did not move it, by call and by command."""
    trial = CepTrial.on(kafka.bootstrap_servers, tmp_path)
    version = trial.publish(definition("patient", [stage("a", "a"), stage("b", "b")], within_ms=600_000))
    options, config = CepOptions(topic_prefix=f"{trial.name}."), {"bootstrap.servers": kafka.bootstrap_servers}
    with trial:
        worker = trial.start(0)
        trial.wait_action(version, "activated")
        now = time.time_ns() // 1_000_000
        bodies = [{"type": kind, "ts": now + i} for i, kind in enumerate("acc")]
        trial.produce_events((key, json.dumps(body).encode()) for body in bodies for key in (b"k1", b"other"))
        trial.wait_committed(6)

        def explained() -> bool:
            (one,) = explain_key("patient", "k1", app_id=trial.name, options=options, config=config)
            return bool(one.partials) and one.event is not None and one.event["ts"] == now + 2

        until(explained, "the key explained")
        (one,) = explain_key("patient", "k1", app_id=trial.name, options=options, config=config)
        (partial,) = one.partials
        assert (one.version, one.status, partial.deadline) == (version, "active", now + 600_000)
        assert [event["ts"] for event in partial.stages["a"]] == [now]
        assert partial.outcome == "the event did not advance it: for 'b' type == 'b' is false: type is 'c'"

        (nobody,) = explain_key("patient", "nobody", app_id=trial.name, options=options, config=config)
        assert (nobody.partition, nobody.event, nobody.partials) == (None, None, ())
        assert [wait.stage for wait in nobody.begins] == ["a"]
        with pytest.raises(Nothing, match="antiphon cep ls"):
            explain_key("unknown", "k1", app_id=trial.name, options=options, config=config)
        with pytest.raises(Nothing, match="antiphon worker cep"):
            explain_key("patient", "k1", app_id="no-such-app", options=options, config=config)

        monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
        monkeypatch.setenv("AGENT_CEP_TOPIC_PREFIX", f"{trial.name}.")
        shown = CliRunner().invoke(commands, ["explain", "patient", "k1", "--app", trial.name])
        assert shown.exit_code == 0, shown.output
        assert "waits for b: type == 'b'" in shown.output
        assert "type is 'c'" in shown.output
        assert "no more" not in shown.output
        assert "completed" not in shown.output
        listed = CliRunner().invoke(commands, ["explain", "patient", "k1", "--app", trial.name, "--json"])
        assert json.loads(listed.stdout)[0]["partials"][0]["waits"][0]["stage"] == "b"
        assert CliRunner().invoke(commands, ["explain", "unknown", "k1", "--app", trial.name]).exit_code == 4
        _refused(trial, version)
        trial.stop(worker)


def _refused(trial: CepTrial, good: int) -> None:
    """A topic that no worker reads: `ls` shows it, and `explain`, with the worker's reason and what goes on."""
    for name in ("patient", "lost"):
        trial.store.publish(definition(name, [stage("a", "a")], topics=["elsewhere"]))

    def listed() -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in json.loads(CliRunner().invoke(commands, ["ls", "--json"]).stdout)}

    until(lambda: {one["status"] for one in listed().values()} == {"refused"}, "both refused")
    reason = "it names topic 'elsewhere', and this app reads in: add it to AGENT_CEP_TOPICS"
    assert listed()["lost"]["problem"].startswith(reason)
    lost = CliRunner().invoke(commands, ["explain", "lost", "k1", "--app", trial.name])
    assert (lost.exit_code, lost.stdout) == (4, "")
    assert f"no worker runs pattern 'lost', its last version is refused: {reason}" in lost.stderr
    shown = CliRunner().invoke(commands, ["explain", "patient", "k1", "--app", trial.name])
    assert f"restart the workers; version {good} goes on" in shown.stdout
    assert f"patient version {good} (active)" in shown.stdout


def test_what_the_last_event_ended_is_told_though_the_worker_holds_nothing_of_it(
    kafka: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negation, a window that ended, a match, by keys whose rows are gone; and that a version never saw the events."""
    trial = CepTrial.on(kafka.bootstrap_servers, tmp_path)
    guarded = [stage("a", "a"), stage("n", "n", negated=True), stage("b", "b")]
    version = trial.publish(definition("guarded", guarded, within_ms=60_000))
    lone = trial.publish(definition("lone", [stage("x", "x")]))
    options, config = CepOptions(topic_prefix=f"{trial.name}."), {"bootstrap.servers": kafka.bootstrap_servers}

    def ended(key: str, name: str = "guarded") -> list[tuple[str, int, str]]:
        (one,) = explain_key(name, key, app_id=trial.name, options=options, config=config)
        assert (one.partition, one.partials) == (None, ())
        assert (one.watermark is None) == (name == "later"), "the watermark of the key's lane, once an event came"
        return [(end.how, end.at, end.why) for end in one.ended]

    with trial:
        worker = trial.start(0)
        trial.wait_action(version, "activated")
        now = time.time_ns() // 1_000_000 - 600_000
        trial.wait_action(lone, "activated")
        story = [("stopped", "a", 0), ("stopped", "n", 1), ("timed", "a", 0), ("timed", "c", 60_000)]
        story += [("pair", "a", 60_000), ("pair", "b", 60_001), ("one", "x", 60_002)]
        trial.produce_events((key.encode(), json.dumps({"type": kind, "ts": now + ms}).encode()) for key, kind, ms in story)
        trial.wait_committed(len(story))
        until(lambda: bool(ended("stopped") and ended("timed")), "both ends told")
        assert ended("stopped") == [("stopped", now + 1, "'n' must not come and came: type == 'n' is true: type is 'n'")]
        assert ended("timed") == [("timed out", now + 60_000, "its window ended before 'b' came")]
        later = trial.publish(definition("later", guarded, within_ms=60_000))
        trial.wait_action(later, "activated")
        assert ended("stopped", "later") == []

        def told(name: str, key: str) -> tuple[str, int]:
            (one,) = explain_key(name, key, app_id=trial.name, options=options, config=config)
            return one.unseen, one.matches

        before = "it came before this version was activated, or last resumed"
        assert told("later", "stopped") == (before, 0)
        assert [told("guarded", key) for key in ("stopped", "timed", "pair", "nobody")] == [("", 0), ("", 0), ("", 1), ("", 0)]
        assert ended("pair") == [("matched", now + 60_001, "the event completed it as 'b'")]
        assert told("lone", "one") == ("", 1), "it leaves no trace, and nothing in its partition is newer"
        monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
        monkeypatch.setenv("AGENT_CEP_TOPIC_PREFIX", f"{trial.name}.")
        for name, key, line in (("later", "stopped", before), ("guarded", "pair", "it completed 1 match")):
            shown = CliRunner().invoke(commands, ["explain", name, key, "--app", trial.name])
            assert f"\n   {line}\n" in shown.output
        trial.store.pause("lone")
        trial.wait_action(lone, "paused")
        trial.produce_events([(b"one", json.dumps({"type": "x", "ts": now + 60_003}).encode())])
        trial.wait_committed(trial.sent)
        until(lambda: told("lone", "one") == ("it came after this version was paused, and passed unseen", 0), "the pause told")
        trial.stop(worker)
