"""The arbiter against a dumb oracle, and what each rule says in one case each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.transactions.words import TableLimits
from tests.processors.core.transactions.commands import Fields, Log, commit, kinds, prepare, reads, writes
from tests.processors.core.transactions.table_oracle import Oracle

KEYS = ["d/a", "d/b", "d/b/x", "d/c"]
LEVELS = ["read_committed", "repeatable_read", "snapshot", "serializable"]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Draw commands: snapshots are named by how far back they lie, transactions by small numbers so that some are said again."""
    some = st.lists(st.sampled_from(KEYS), max_size=3, unique=True)
    written = st.tuples(st.sampled_from(KEYS), st.sampled_from(["1", "2", None]))
    asked: st.SearchStrategy[Fields] = st.builds(
        dict,
        txn=st.integers(0, 12).map(str),
        isolation=st.sampled_from(LEVELS),
        back=st.integers(0, 6),
        reads=some,
        spans=st.lists(st.sampled_from(["d/", "d/b", "d/b/"]), max_size=1),
        writes=st.lists(written, max_size=3, unique_by=lambda one: one[0]),
        expects=st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 8)), max_size=1),
    )
    decide = st.tuples(st.integers(0, 12).map(str), st.booleans())
    step = st.one_of(
        st.tuples(st.just("commit"), asked),
        st.tuples(st.just("commit"), asked),
        st.tuples(st.just("prepare"), asked),
        st.tuples(st.just("decide"), decide),
        st.tuples(st.just("reload"), st.none()),
    )
    return draw(st.lists(step, max_size=40))


def fields_of(asked: Fields, position: int) -> Fields:
    """Return a drawn transaction as its command has it."""
    wanted = [{"table": "t", "key": key, "value": value, "policy": ""} for key, value in asked["writes"]]
    return {
        "snapshot": max(0, position - asked["back"]),
        "isolation": asked["isolation"],
        "reads": reads(*asked["reads"]),
        "spans": [{"table": "t", "prefix": prefix} for prefix in asked["spans"]],
        "expects": [{"table": "t", "key": key, "version": version} for key, version in asked["expects"]],
        "writes": wanted,
    }


@given(histories())
@settings(max_examples=400)
def test_it_decides_as_the_oracle_does(history: list[tuple[str, Any]]) -> None:
    """Every commit, promise and decision comes out as from a list of all that was written, also when made anew in between."""
    log, oracle = Log(), Oracle()
    for what, asked in history:
        if what == "reload":
            log.reload()
        elif what == "decide":
            txn, yes = asked
            told = log.take("decide", {"domain": "d", "txn": txn, "commit": yes, "reason": ""})
            done = [one.fields["commit"] for one in told if one.kind == "done"]
            assert done == [oracle.decide(txn, yes, log.position)]
        else:
            made = fields_of(asked, log.position)
            if what == "commit":
                command = commit(asked["txn"], **made)
                said = kinds(log.take("commit", command))
                want = oracle.commit(command, log.position)
                assert [one.partition(":")[0] for one in said] == {"committed": [], "outcome": ["outcome"]}.get(want, ["refused"])
                assert want in ("committed", "outcome") or said == [f"refused:{want}"]
            else:
                command = prepare(asked["txn"], **made)
                told = log.take("prepare", command)
                wanted = oracle.prepare(command)
                assert [one.fields["commit"] for one in told] == [True if wanted is None else wanted]
                assert told[0].kind == ("done" if wanted is None else "voted")
        live = {key: value for key in KEYS if (value := oracle.newest("t", key)[1]) is not None}
        assert log.values() == live
    committed = [change["txn"] for change in log.feed if change["kind"] == "committed"]
    assert committed == list(dict.fromkeys(committed)), "a transaction committed twice"
    assert set(committed) == {txn for txn, how in oracle.ended.items() if how == "committed"}


def test_the_feed_has_every_commit_once_and_in_order() -> None:
    """Changes have growing positions; a repeated commit adds none, and is answered with what came of it."""
    log = Log()
    assert log.take("commit", commit("one", "d/a", "d/b")) == []
    assert kinds(log.take("commit", commit("one", "d/a", again=True))) == ["outcome:committed"]
    assert log.take("commit", commit("two", "d/a")) == []
    assert [(one["txn"], one["position"]) for one in log.feed] == [("one", 1), ("two", 3)]


def test_a_refused_transaction_stays_refused() -> None:
    """Said again when nothing is in its way any more it is answered as before: its client may have begun anew meanwhile."""
    log = Log()
    log.take("prepare", prepare("holder", "d/a"))
    assert kinds(log.take("commit", commit("late", "d/a"))) == ["refused:locked"]
    log.take("decide", {"domain": "d", "txn": "holder", "commit": False, "reason": ""})
    assert kinds(log.take("commit", commit("late", "d/a", again=True))) == ["outcome:locked"]
    assert log.values() == {}


def test_a_conflict_names_both_sides() -> None:
    """Key, versions, the other transaction and its agent."""
    log = Log()
    log.take("commit", commit("first", "d/a"))
    (told,) = log.take("commit", commit("second", "d/a", snapshot=0, reads=reads("d/a")))
    (found,) = told.fields["conflicts"]
    assert (found["table"], found["key"], found["seen"], found["version"]) == ("t", "d/a", 0, 1)
    assert (found["txn"], found["owner"]) == ("first", "agent-first")
    assert "agent-first" in told.fields["reason"]


def test_a_scan_sees_what_comes_and_goes() -> None:
    """A row that was added, changed or deleted within a scanned prefix is in the way; one outside is not."""
    log = Log()
    log.take("commit", commit("rows", "d/p/1", "d/q/1"))
    span = [{"table": "t", "prefix": "d/p/"}]
    log.take("commit", commit("other", "d/q/2"))
    assert log.take("commit", commit("fine", "d/z", snapshot=1, spans=span)) == []
    log.take("commit", commit("gone", writes=writes("d/p/1", value=None)))
    assert kinds(log.take("commit", commit("deleted", "d/z", snapshot=3, spans=span))) == ["refused:conflict"]
    position = log.position
    log.take("commit", commit("new", "d/p/2"))
    assert kinds(log.take("commit", commit("added", "d/z", snapshot=position, spans=span))) == ["refused:conflict"]


def test_old_versions_are_kept_for_a_while_and_refused_clearly_afterwards() -> None:
    """As many versions as allowed; a read of an older one says that it is not kept, and does not answer with another."""
    log = Log(TableLimits(versions_max=3))
    for number in range(5):
        log.take("commit", commit(f"w{number}", writes=writes("d/a", value=str(number))))
    (row,) = log.read(history=True)["rows"]
    assert [one["version"] for one in row["versions"]] == [3, 4, 5]
    assert row["trimmed"] == 2
    assert log.read(at_position=3)["rows"][0]["versions"][0]["value"] == "2"
    assert log.read(at_position=2)["code"] == "too_old"


def test_a_deletion_is_remembered_until_the_horizon() -> None:
    """Then the row is gone, and who has an older snapshot is refused: nobody could tell what it missed."""
    log = Log(TableLimits(horizon_ms=1_000))
    log.take("commit", commit("made", "d/a"))
    log.take("commit", commit("gone", writes=writes("d/a", value=None)))
    assert log.read(at_position=1)["rows"][0]["versions"][0]["value"] == "1"
    log.take("commit", commit("later", "d/b"), after_ms=2_000)
    assert ("k", "t", "d/a") not in log.rows
    assert kinds(log.take("commit", commit("old", "d/c", snapshot=1, reads=reads("d/a")))) == ["refused:too_old"]
    assert log.read(at_position=1)["code"] == "too_old"
    log.reload()
    assert kinds(log.take("commit", commit("old2", "d/c", snapshot=1, reads=reads("d/a")))) == ["refused:too_old"]


def test_a_fenced_write_is_refused() -> None:
    """A smaller token than has been seen; also after the arbiter was made anew."""
    log = Log()

    def fence(token: int) -> list[Fields]:
        return [{"resource": "repo/main", "token": token}]

    assert log.take("commit", commit("new", "d/a", fences=fence(7))) == []
    log.reload()
    assert kinds(log.take("commit", commit("old", "d/a", fences=fence(6)))) == ["refused:fenced"]
    assert log.take("commit", commit("same", "d/a", fences=fence(7))) == []


def test_a_promise_holds_its_rows_until_the_decision() -> None:
    """Others are refused as locked; decided, it is written where the decision lies; told again, it says the same."""
    log = Log()
    (vote,) = log.take("prepare", prepare("p", "d/a", snapshot=0, reads=reads("d/b")))
    assert vote.fields["commit"]
    assert vote.fields["route"] == "r"
    assert log.take("prepare", prepare("p", "d/a"))[0].fields["position"] == vote.fields["position"]
    for other, how in (("w", commit("w", "d/a")), ("x", commit("x", "d/b"))):
        (told,) = log.take("commit", how)
        assert told.fields["code"] == "locked", other
        assert told.fields["waits_for"] == ["agent-p"]
    assert log.take("commit", commit("reader", "d/z", snapshot=log.position, reads=reads("d/b"))) == []
    log.reload()
    (done,) = log.take("decide", {"domain": "d", "txn": "p", "commit": True, "reason": ""})
    assert done.fields["commit"]
    assert log.feed[-1]["writes"][0]["key"] == "d/a"
    assert log.feed[-1]["participants"] == ["d", "e"]
    assert log.take("decide", {"domain": "d", "txn": "p", "commit": True, "reason": ""})[0].fields["commit"]
    assert log.take("commit", commit("after", "d/a")) == []


def test_a_promise_asks_when_no_decision_comes() -> None:
    """After five seconds, then with growing pauses, and as before where the arbiter was made anew."""
    log = Log()
    log.take("prepare", prepare("p", "d/a"))
    assert [one.kind for one in log.pass_time(5_000)] == ["in_doubt"]
    due = log.arbiter.due_ms()
    log.reload()
    assert log.arbiter.due_ms() == due
    assert log.pass_time(5_000) == []
    assert [one.kind for one in log.pass_time(5_000)] == ["in_doubt"]


def test_an_aborted_transaction_cannot_promise_afterwards() -> None:
    """A decision that comes before the prepare ends the transaction: the prepare is voted against."""
    log = Log()
    log.take("decide", {"domain": "d", "txn": "p", "commit": False, "reason": "given up"})
    (vote,) = log.take("prepare", prepare("p", "d/a"))
    assert not vote.fields["commit"]


def test_one_transaction_in_two_domains_of_a_partition() -> None:
    """Both parts are promises of their own."""
    log = Log()
    assert log.take("prepare", prepare("p", "d/a"))[0].fields["commit"]
    other = prepare("p", domain="e", writes=writes("e/a"))
    assert log.take("prepare", other)[0].fields["commit"]
    log.take("decide", {"domain": "d", "txn": "p", "commit": True, "reason": ""})
    log.reload()
    assert log.take("decide", {"domain": "e", "txn": "p", "commit": True, "reason": ""})[0].fields["commit"]


def test_what_ended_is_forgotten_in_time_and_asking_again_then_is_refused() -> None:
    """Who asks again for one that may be forgotten is not told that it is new."""
    log = Log(TableLimits(ended_max=2))
    for number in range(4):
        log.take("commit", commit(f"t{number}", "d/a"))
    assert kinds(log.take("commit", commit("t0", "d/a", again=True))) == ["outcome:forgotten"]
    log.reload()
    assert kinds(log.take("commit", commit("t0", "d/a", again=True))) == ["outcome:forgotten"]
    assert log.take("commit", commit("fresh", "d/a")) == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"txn": ""}, "bad_name"),
        ({"txn": "x" * 300}, "bad_name"),
        ({"owner": ""}, "bad_name"),
        ({"domain": ""}, "bad_name"),
        ({"writes": writes("e/a")}, "domains_mixed"),
        ({"writes": writes("dd/a")}, "domains_mixed"),
        ({"writes": writes("d/" + "k" * 300)}, "bad_name"),
        ({"writes": writes("d/a", table="")}, "bad_name"),
        ({"writes": writes("d/a") * 2}, "bad_writes"),
        ({"writes": writes("d/a", value="x" * 70_000)}, "too_large"),
        ({"writes": writes(*(f"d/{number}" for number in range(1_001)))}, "too_large"),
        ({"writes": writes("d/a", policy="coin")}, "bad_policy"),
        ({"spans": [{"table": "t", "prefix": "d"}], "snapshot": 0}, "bad_prefix"),
        ({"spans": [{"table": "t", "prefix": "e/"}], "snapshot": 0}, "bad_prefix"),
        ({"spans": [{"table": "", "prefix": "d/"}], "snapshot": 0}, "bad_name"),
        ({"reads": reads("d/a"), "snapshot": -1}, "bad_snapshot"),
    ],
)
def test_bad_input_is_refused_with_a_reason(fields: Fields, code: str) -> None:
    """Each kind with its code and a sentence; nothing is written, and nothing of it is remembered."""
    log = Log()
    (told,) = log.take("commit", commit("t", "d/a") | fields)
    assert told.fields["code"] == code
    assert len(told.fields["reason"]) > 20
    assert log.values() == {}
    assert not [key for key in log.rows if key[0] == "t"]


def test_a_full_partition_says_so() -> None:
    """Rows beyond the limit are refused; those that are there can still be written."""
    log = Log(TableLimits(keys_max=2))
    assert log.take("commit", commit("one", "d/a")) == []
    assert kinds(log.take("commit", commit("two", "d/b", "d/c"))) == ["refused:full"]


def test_pages_come_in_order_and_end() -> None:
    """Pages of a bounded size together have every row once."""
    log = Log(TableLimits(page_rows_max=7))
    for number in range(30):
        log.take("commit", commit(f"t{number}", f"d/{number:02d}"))
    assert list(log.values()) == [f"d/{number:02d}" for number in range(30)]
    assert len(log.read()["rows"]) == 7
    assert [row["key"] for row in log.read(prefix="d/1")["rows"]] == [f"d/1{number}" for number in range(7)]
    large = [commit(f"l{number}", writes=writes(f"d/large{number}", value="x" * 60_000)) for number in range(10)]
    for one in large:
        log.take("commit", one)
    page = log.read(prefix="d/large")
    assert page["more"]
    assert len(page["rows"]) == 6


def test_a_mark_lies_in_the_feed_and_tells_what_is_promised() -> None:
    """Who opens a copy learns from it which transactions are under way."""
    log = Log()
    log.take("prepare", prepare("p", "d/a"))
    (told,) = log.take("mark", {"domain": "d", "request_id": "m"})
    assert told.fields["position"] == log.feed[-1]["position"] == 2
    assert told.fields["prepared"] == ["p"]


def test_a_mark_names_promises_in_an_order_of_their_own() -> None:
    """Not in that in which they came: an arbiter that was made anew does not know it."""
    log = Log()
    for txn in ("p2", "p3", "p1"):
        log.take("prepare", prepare(txn, f"d/{txn}"))
    for request in ("m1", "m2"):
        (told,) = log.take("mark", {"domain": "d", "request_id": request})
        assert told.fields["prepared"] == ["p1", "p2", "p3"]
        log.reload()
