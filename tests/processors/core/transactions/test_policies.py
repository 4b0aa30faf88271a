"""What becomes of conflicts other than an abort."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.processors.core.transactions.commands import Log, commit, kinds, reads, writes


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
