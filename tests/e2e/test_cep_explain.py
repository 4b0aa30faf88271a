"""`antiphon cep explain` on a running worker."""

from __future__ import annotations

import json
import time
from pathlib import Path

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
        listed = CliRunner().invoke(commands, ["explain", "patient", "k1", "--app", trial.name, "--json"])
        assert json.loads(listed.stdout)[0]["partials"][0]["waits"][0]["stage"] == "b"
        assert CliRunner().invoke(commands, ["explain", "unknown", "k1", "--app", trial.name]).exit_code == 4
        trial.stop(worker)


def test_what_the_last_event_ended_is_told_though_the_worker_holds_nothing_of_it(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """A negation and a window that ended, by keys whose rows are gone; and nothing where a version never saw the events."""
    trial = CepTrial.on(kafka.bootstrap_servers, tmp_path)
    guarded = [stage("a", "a"), stage("n", "n", negated=True), stage("b", "b")]
    version = trial.publish(definition("guarded", guarded, within_ms=60_000))
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
        story = [("stopped", "a", 0), ("stopped", "n", 1), ("timed", "a", 0), ("timed", "c", 60_000)]
        trial.produce_events((key.encode(), json.dumps({"type": kind, "ts": now + ms}).encode()) for key, kind, ms in story)
        trial.wait_committed(4)
        until(lambda: bool(ended("stopped") and ended("timed")), "both ends told")
        assert ended("stopped") == [("stopped", now + 1, "'n' must not come and came: type == 'n' is true: type is 'n'")]
        assert ended("timed") == [("timed out", now + 60_000, "its window ended before 'b' came")]
        later = trial.publish(definition("later", guarded, within_ms=60_000))
        trial.wait_action(later, "activated")
        assert ended("stopped", "later") == []
        trial.stop(worker)
