"""What becomes of conflicts other than an abort."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.processors.core.transactions.commands import Log, commit, kinds, prepare, reads, writes


def start(**merges: Any) -> Log:
    """Return a log where d/a was 1 at position 1 and is 2 since position 2."""
    log = Log(merges=merges)
    log.take("commit", commit("base", writes=writes("d/a", value="1")))
    log.take("commit", commit("theirs", writes=writes("d/a", value="2"), priority=5))
    return log


def mine(policy: str, **fields: Any) -> dict[str, Any]:
    """Return a commit that read position 1 and writes 10."""
    base: dict[str, Any] = {"snapshot": 1, "reads": reads("d/a"), "writes": writes("d/a", value="10", policy=policy)}
    return commit("mine", **(base | fields))


def test_last_writer_wins() -> None:
    """The row is written over, and an event says why."""
    log = start()
    (told,) = log.take("commit", mine("last_writer_wins"))
    assert (told.kind, told.fields["how"], told.everybody) == ("resolved", "overwritten", True)
    assert "agent-theirs" in told.fields["reason"]
    assert log.values() == {"d/a": "10"}


@pytest.mark.parametrize(("priority", "wins"), [(6, True), (5, False), (0, False)])
def test_priority(priority: int, *, wins: bool) -> None:
    """A higher one than that of the version that is there wins; an equal one does not."""
    log = start()
    told = log.take("commit", mine("priority", priority=priority))
    assert kinds(told) == (["resolved"] if wins else ["refused:conflict"])
    assert log.values() == {"d/a": "10" if wins else "2"}


def test_merge_gets_base_theirs_and_mine() -> None:
    """Its result is written and told in the feed in place of what the client wrote."""
    log = start(t=lambda base, theirs, own: {"base": base, "theirs": theirs, "mine": own})
    assert kinds(log.take("commit", mine("merge"))) == ["resolved"]
    merged = {"base": 1, "theirs": 2, "mine": 10}
    assert json.loads(log.values()["d/a"]) == merged
    assert json.loads(log.feed[-1]["writes"][0]["value"]) == merged


def test_a_merge_that_cannot_be_done_aborts() -> None:
    """No function for the table, or one that raises: refused, with the reason."""
    log = start()
    (told,) = log.take("commit", mine("merge"))
    assert "AGENT_TABLES_MERGES" in told.fields["reason"]
    log = start(t=lambda *_: 1 / 0)
    (told,) = log.take("commit", mine("merge"))
    assert "ZeroDivisionError" in told.fields["reason"]
    assert log.values() == {"d/a": "2"}


def test_a_row_that_is_only_read_always_aborts() -> None:
    """A policy is for what is written."""
    log = start()
    asked = mine("last_writer_wins", writes=writes("d/b", policy="last_writer_wins"))
    assert kinds(log.take("commit", asked)) == ["refused:conflict"]


@pytest.mark.parametrize("yes", [True, False])
def test_a_human_decides(*, yes: bool) -> None:
    """The commit waits, also over a reload; decided, it is written over what is there, or refused with the reason."""
    log = start()
    told = log.take("commit", mine("human"))
    assert kinds(told) == ["resolved", "outcome:waits_for_human"]
    assert log.values() == {"d/a": "2"}
    log.reload()
    assert kinds(log.take("ask", {"domain": "d", "txn": "mine"})) == ["outcome:waits_for_human"]
    decision = {"domain": "d", "txn": "mine", "owner": "ann", "commit": yes, "reason": "it is right", "again": False}
    told = log.take("resolve", decision)
    assert told[0].fields["how"] == ("applied" if yes else "refused")
    assert "ann: it is right" in told[0].fields["reason"]
    assert log.values() == {"d/a": "10" if yes else "2"}
    assert kinds(log.take("resolve", decision)) == ["outcome:committed" if yes else "outcome:conflict"]


def test_who_asked_may_take_it_back_from_the_human() -> None:
    """Rolled back, it waits for nobody any more."""
    log = start()
    log.take("commit", mine("human"))
    assert kinds(log.take("end", {"domain": "d", "txn": "mine", "owner": "agent-mine", "reason": ""})) == ["outcome:ended"]
    decision = {"domain": "d", "txn": "mine", "owner": "ann", "commit": True, "reason": "", "again": False}
    assert kinds(log.take("resolve", decision)) == ["outcome:ended"]
    assert log.values() == {"d/a": "2"}


def test_a_merge_of_a_commit_that_waits_is_made_when_the_human_decides() -> None:
    """With what is there then: what came meanwhile is not lost. Only what he has to decide about is told before."""
    log = start(t=lambda base, theirs, own: theirs + own - (base or 0))
    mixed = [*writes("d/a", value="10", policy="merge"), *writes("d/b", value="7", policy="human")]
    log.take("commit", commit("other", "d/b"))
    told = log.take("commit", mine("human", reads=reads("d/a", "d/b"), writes=mixed))
    assert [(one.kind, one.fields.get("how")) for one in told] == [("resolved", "waits"), ("outcome", None)]
    log.take("commit", commit("later", writes=writes("d/a", value="5")))
    log.reload()
    told = log.take("resolve", {"domain": "d", "txn": "mine", "owner": "ann", "commit": True, "reason": "fine"})
    assert [one.fields.get("how") for one in told] == ["merged", "applied", None]
    assert log.values() == {"d/a": str(5 + 10 - 1), "d/b": "7"}


def test_a_decision_while_a_row_is_locked_can_be_given_again() -> None:
    """Nothing is done meanwhile, and it still waits."""
    log = start()
    log.take("commit", mine("human"))
    log.take("prepare", prepare("p", "d/a"))
    decision = {"domain": "d", "txn": "mine", "owner": "ann", "commit": True, "reason": ""}
    assert kinds(log.take("resolve", decision)) == ["outcome:locked"]
    log.take("decide", {"domain": "d", "txn": "p", "commit": False, "reason": ""})
    assert kinds(log.take("resolve", decision)) == ["resolved", "outcome:committed"]
    assert log.values() == {"d/a": "10"}


def test_what_waits_for_a_human_cannot_be_promised() -> None:
    """One name, one transaction."""
    log = start()
    log.take("commit", mine("human"))
    assert kinds(log.take("prepare", prepare("mine", "d/b"))) == ["refused:not_yet"]


@pytest.mark.parametrize(
    "merged",
    [float("nan"), "\ud800", object(), "x" * 70_000, {1: {2: object()}}],
    ids=["nan", "half", "object", "large", "nested"],
)
def test_a_merge_that_is_no_json_aborts(merged: object) -> None:
    """Whatever a function returns, nothing is written that a reader could not read."""
    log = start(t=lambda *_: merged)
    assert kinds(log.take("commit", mine("merge"))) == ["refused:cannot_merge"]
    assert log.values() == {"d/a": "2"}


def test_a_value_that_is_no_json_is_not_merged() -> None:
    """Nobody looked at it when it was written."""
    log = start(t=lambda *_: 1)
    log.take("commit", commit("bad", writes=writes("d/a", value="no JSON")))
    (told,) = log.take("commit", mine("merge"))
    assert told.fields["code"] == "cannot_merge"
    assert "no JSON" in told.fields["reason"]


def test_a_row_that_was_read_twice_is_merged_once() -> None:
    """Else a counter would count twice."""
    log = start(t=lambda base, theirs, own: theirs + own - base)
    assert kinds(log.take("commit", mine("merge", reads=reads("d/a", "d/a")))) == ["resolved"]
    assert log.values() == {"d/a": str(2 + 10 - 1)}


def test_without_the_version_that_was_read_nothing_is_merged() -> None:
    """A sum would have what was there then twice; a row that was not there at all has None as its base."""
    log = start(t=lambda base, theirs, own: theirs + own - (base or 0))
    assert kinds(log.take("commit", mine("merge", snapshot=0))) == ["resolved"]
    assert log.values() == {"d/a": str(2 + 10)}
    for number in range(20):
        log.take("commit", commit(f"more{number}", writes=writes("d/a", value=str(number))))
    (told,) = log.take("commit", commit("late", snapshot=2, reads=reads("d/a"), writes=writes("d/a", policy="merge")))
    assert told.fields["code"] == "cannot_merge"
    assert "not kept" in told.fields["reason"]
