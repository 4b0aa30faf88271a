"""What is remembered of transactions that have ended, and who is told that nobody remembers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.core.transactions.endings import Endings
from processors.core.transactions.words import TableLimits
from tests.processors.core.transactions.commands import Fields, Log, commit, kinds, lock, prepare, reads, writes

FEW = TableLimits(ended_max=2, again_ms=1_000)


def decide(txn: str, *, yes: bool = True) -> Fields:
    """Return a decision."""
    return {"domain": "d", "txn": txn, "commit": yes, "reason": ""}


@given(st.lists(st.tuples(st.integers(0, 2), st.text("abcd", min_size=1, max_size=2)), max_size=30))
def test_the_order_of_forgetting_is_that_of_the_rows(steps: list[tuple[int, str]]) -> None:
    """Several may end at one position: made anew after each end, it forgets the same."""
    one, kept, position = Endings(3, 1_000), dict[Any, Any](), 0
    for further, name in steps:
        position += further
        if one.get(("d", name)) is None:
            one.add(("d", name), ["committed", position, "", "", 0])
        for key, ending in one.changes():
            if ending is None:
                kept.pop((key[1], key[2]), None)
            else:
                kept[key[1], key[2]] = ending
        anew = Endings(3, 1_000)
        anew.load(reversed(list(kept.items())))
        assert list(anew._all.items()) == list(one._all.items())


def test_who_was_frozen_for_long_does_not_commit_twice() -> None:
    """It asks again after hours, for a commit that was carried out and is forgotten: its snapshot says that this may be."""
    log = Log(FEW)
    log.take("commit", commit("base", "d/a"))
    mine = commit("mine", "d/a", snapshot=1, reads=reads("d/b"))
    assert log.take("commit", mine) == []
    for number in range(5):
        log.take("commit", commit(f"t{number}", "d/c"), after_ms=3_600_000)
    assert kinds(log.take("commit", mine | {"again": True})) == ["outcome:forgotten"]
    assert kinds(log.take("ask", {"domain": "d", "txn": "mine"})) == ["outcome:forgotten"]


def test_a_commit_that_was_lost_is_carried_out_when_it_is_said_again() -> None:
    """Its snapshot is younger than all that is forgotten, so it cannot have been carried out."""
    log = Log(FEW)
    for number in range(5):
        log.take("commit", commit(f"t{number}", "d/c"))
    assert log.take("commit", commit("lost", "d/a", snapshot=4, again=True)) == []
    assert log.values()["d/a"] == "1"


def test_who_asks_for_what_never_was_is_told_so_while_nothing_is_forgotten() -> None:
    """Unknown, without a code; afterwards nobody can say."""
    log = Log(FEW)
    assert kinds(log.take("ask", {"domain": "d", "txn": "none"})) == ["outcome:unknown"]
    for number in range(3):
        log.take("commit", commit(f"t{number}", "d/c"))
    assert kinds(log.take("ask", {"domain": "d", "txn": "none"})) == ["outcome:forgotten"]


def test_a_decision_told_again_when_it_is_forgotten_was_done() -> None:
    """A promise ends by its decision alone, so what was to be committed has been; it is no incident."""
    log = Log(FEW)
    log.take("prepare", prepare("p", "d/a"))
    log.take("decide", decide("p"))
    for number in range(3):
        log.take("commit", commit(f"t{number}", "d/c"))
    (done,) = log.take("decide", decide("p"))
    assert done.fields["commit"]
    assert log.values()["d/a"] == "1"


def test_a_decision_about_what_was_never_promised_is_not_done() -> None:
    """Nothing is forgotten, so the coordinator is told: an incident."""
    (done,) = Log().take("decide", decide("p"))
    assert not done.fields["commit"]


def test_the_questions_of_a_promise_keep_their_moments() -> None:
    """They follow from when it was promised, also where nobody was there to ask for long, and after a reload."""
    log = Log()
    log.take("prepare", prepare("p", "d/a"))
    for pause_ms in (7_000, 1, 30_000, 3_600_000, 59_000, 61_000, 5):
        asked = log.pass_time(pause_ms)
        assert [one.kind for one in asked] in ([], ["in_doubt"])
        due = log.arbiter.due_ms()
        assert due is not None
        assert log.now_ms < due <= log.now_ms + 60_000
        log.reload()
        assert log.arbiter.due_ms() == due


def test_somebody_elses_transaction_is_left_alone() -> None:
    """A commit and a prepare under its name by another agent do nothing: neither to it nor to its locks."""
    log = Log()
    log.take("lock", lock("t", ("d/a", "exclusive")))
    assert kinds(log.take("commit", commit("t", "d/a", owner="mallory"))) == ["refused:not_yours"]
    assert kinds(log.take("prepare", prepare("t", "d/a", owner="mallory"))) == ["refused:not_yours"]
    assert kinds(log.take("commit", commit("other", "d/a"))) == ["refused:locked"]
    assert log.take("commit", commit("t", "d/a")) == []


def test_a_snapshot_of_the_future_is_refused() -> None:
    """It would see no conflict at all; so it is where the topic was deleted, and begins anew."""
    log = Log()
    log.take("commit", commit("one", "d/a"))
    (told,) = log.take("commit", commit("two", "d/a", snapshot=2, reads=reads("d/a")))
    assert told.fields["code"] == "bad_snapshot"
    assert log.take("commit", commit("three", "d/a", snapshot=2, reads=reads("d/a"))) == []


def test_what_is_there_can_be_written_and_deleted_where_the_partition_is_full() -> None:
    """Only new rows are too many; a deleted row makes room when it is forgotten."""
    log = Log(TableLimits(keys_max=2, horizon_ms=1_000))
    log.take("commit", commit("one", "d/a", "d/b"))
    assert log.take("commit", commit("two", "d/a", "d/b")) == []
    assert kinds(log.take("commit", commit("three", "d/a", "d/c"))) == ["refused:full"]
    assert log.take("commit", commit("four", writes=writes("d/a", "d/never", value=None))) == []
    assert log.take("commit", commit("five", "d/c"), after_ms=2_000) == []


def test_fences_are_bounded() -> None:
    """Tokens are remembered for ever, so there may not be ever more; known ones go on."""
    log = Log(TableLimits(fences_max=1))

    def fenced(txn: str, *resources: str) -> list[str]:
        return kinds(log.take("commit", commit(txn, "d/a", fences=[{"resource": one, "token": 1} for one in resources])))

    assert fenced("one", "p") == []
    assert fenced("two", "p") == []
    assert fenced("three", "p", "q") == ["refused:full"]


@pytest.mark.parametrize(
    "them", [[], ["e"], ["d", "d"], ["d", ""], ["d", "x" * 300], [str(n) for n in range(64)] + ["d"]], ids=len
)
def test_those_that_take_part_are_looked_at(them: list[str]) -> None:
    """This domain is among them, there are not too many, and each has a name."""
    (told,) = Log().take("prepare", prepare("p", "d/a") | {"participants": them})
    assert (told.kind, told.fields["code"]) == ("refused", "bad_participants")
