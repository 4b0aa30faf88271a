"""The shell of checks: each is answered in its place, and only there."""

from __future__ import annotations

from typing import Any

from processors.coordinating import waits
from schemas.coordination import LockQueued
from schemas.naming import NAME_CHARS_MAX
from schemas.waits import WaitsChecked
from streams.core.at import At
from tests.processors.coordinating.test_tables import Answers

AT = At(7, 0, 1_000_000)


def told(fields: dict[str, Any], key: bytes) -> list[tuple[Any, str, bool]]:
    """Return what a check comes to."""
    shell = waits.shell()
    machine: Any = shell.load(())
    assert shell.commands == {"wait.check"}
    assert (machine.tick(AT), machine.due_ms(), machine.changes()) == ([], None, {})
    answers: Any = Answers(shell)
    shell.tell(shell.carry_out(machine, "wait.check", fields, key, "", AT), answers, fields["domain"])
    return list(answers.told)


def test_a_check_is_told_to_everybody() -> None:
    """Under its domain, with its id."""
    ((event, route, everybody),) = told({"domain": "repo", "request_id": "n.1"}, b"repo")
    assert isinstance(event, WaitsChecked)
    assert (event.domain, event.request_id, route, everybody) == ("repo", "n.1", "", True)


def test_a_check_in_another_place_is_not_answered() -> None:
    """Another partition can say nothing of this domain; nor is a huge id given back."""
    assert told({"domain": "repo", "request_id": "n.1"}, b"docs") == []
    assert told({"domain": "repo", "request_id": "n" * (NAME_CHARS_MAX + 1)}, b"repo") == []
    assert told({"domain": "repo", "request_id": ""}, b"repo") == []


def test_places_in_a_queue_can_be_read_by_those_that_do_not_know_them() -> None:
    """The new fields have defaults, so what was written before is read."""
    queued = LockQueued(domain="a", request_id="1", owner="ann", resources=["a"], mode="shared", priority=0, behind=[])
    assert queued.order == []
