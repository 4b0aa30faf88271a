"""`antiphon locks`: what it shows to a person, how it watches, bad input."""

from __future__ import annotations

import secrets
from io import StringIO
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from processors import command_locks
from processors.core.coordination.lock_report import report
from streams.broker import EmbeddedBroker
from streams.cli.output import Exit
from tests.processors.core.coordination.wait_log import Log, T, pair

app = typer.Typer()
app.command()(command_locks.command)


def shown(document: dict[str, Any]) -> str:
    """Return what a person sees."""
    console = Console(file=StringIO(), width=160)
    for part in command_locks._parts(document):
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined] # of the StringIO
    return text


def test_a_person_sees_holders_queues_and_deadlocks() -> None:
    """Names with brackets are no markup; long queues are cut, and it says so."""
    log = Log()
    pair(log)
    log.has("[red]", "x", mode="shared")
    for number in range(9):
        log.wants(f"w{number}", "x")
    log.has_permits("cyd", "gpu", 2)
    log.wants_permits("dan", "gpu", 1, 2)
    fields = {
        "domain": "s",
        "request_id": "w",
        "owner": "eve",
        "kind": "saga",
        "waits_for": ["cyd"],
        "priority": 0,
        "lease_ms": 0,
    }
    log.detector.take("wait.began", fields, log.now_ms)
    text = shown(report(log.detector.view, log.now_ms + 3_900_000))
    for line in ("[red] (shared)", "and 4 more", "gpu (2 of 2 out)", "cyd ×2", "dan ×1", "1 h 5 min", "over"):
        assert line in text
    assert "eve (saga) has waited for cyd for 1 h 5 min" in text
    assert "deadlock: ann waits for bob (b); bob waits for ann (a)" in text
    assert str(T + 1) in text


def test_many_locks_are_cut_for_a_person() -> None:
    """It says how many more there are."""
    log = Log()
    for number in range(60):
        log.has("ann", f"{number}")
    assert "and 10 more; --waiting or a prefix shows fewer, --json all" in shown(report(log.detector.view, T))
    assert "nobody holds or waits for anything" in shown(report(Log().detector.view, T))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--watch", "--at", "5m"], "--watch shows what is now"),
        (["--watch", "--dot"], "--watch shows what is now"),
        (["--dot", "--json"], "only one of --dot and --json"),
        (["--at", "yesterday"], "is neither a time such as"),
    ],
)
def test_bad_input_is_wrong_usage(arguments: list[str], said: str) -> None:
    """Said in one line, before any broker is asked."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == Exit.USAGE
    assert said in result.output


def test_where_no_coordination_has_run(kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, with the name of the topic that is not there."""
    prefix = f"{secrets.token_hex(4)}."
    monkeypatch.setenv("ANTIPHON_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("ANTIPHON_CLIENT__COORDINATION_TOPIC_PREFIX", prefix)
    for arguments in ([], ["--json"], ["--watch"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == Exit.MISSING
        assert f"there is no topic {prefix}coordination.events" in " ".join(result.output.split())
