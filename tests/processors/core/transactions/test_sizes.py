"""Whatever is taken in fits into every record that it comes to be in, and what would not is refused with the way round it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.transactions.sizes import json_bytes, utf8_bytes
from processors.core.transactions.words import TableLimits
from processors.transacting import tables
from streams.core.at import At
from streams.turns.options import RECORD_BYTES_MAX
from tests.processors.core.transactions.commands import Fields, Log, commit, kinds, prepare, reads, writes

ROOM = 20_000
"""Of a record for its headers and the envelope around it."""
CHARACTERS = {"ascii": "x", "quotes": '"', "Chinese": "漢", "emoji": "😀", "control": "\x01"}


def fits(log: Log) -> bool:
    """Return whether every row is a record that the broker takes."""
    return all(len(row) + len(orjson.dumps(key)) < RECORD_BYTES_MAX - ROOM for key, row in log.rows.items())


@given(st.text(max_size=40))
def test_bytes_are_counted_as_they_are_written(text: str) -> None:
    """In JSON and in Avro."""
    assert json_bytes(text) == len(orjson.dumps(text))
    assert utf8_bytes(text) == len(text.encode())


@pytest.mark.parametrize("versions_max", [1, 2, 16, 90, 1_000])
@pytest.mark.parametrize("character", CHARACTERS.values(), ids=CHARACTERS)
def test_a_row_of_large_values_keeps_fewer_versions(character: str, versions_max: int) -> None:
    """However large values are a row can be written again, and what it does not keep any more is said to be too old."""
    log = Log(TableLimits(versions_max=versions_max))
    for number in range(max(40, versions_max // 2)):
        value = character * ([2_600, 65_536, 40, 0][number % 7 % 4] if number < 200 else 300)
        assert log.take("commit", commit(f"t{number}", writes=writes("d/a", value=value))) == []
        assert fits(log)
    (row,) = log.read(history=True)["rows"]
    assert row["versions"][-1]["version"] == log.position
    assert row["trimmed"] == row["versions"][0]["version"] - 1
    assert log.read(at_position=row["trimmed"])["code"] == "too_old"


def test_small_values_keep_all_their_versions() -> None:
    """Sixteen of some hundred characters."""
    log = Log()
    for number in range(40):
        log.take("commit", commit(f"t{number}", writes=writes("d/a", value="x" * 500)))
    assert len(log.read(history=True)["rows"][0]["versions"]) == 16


@pytest.mark.parametrize("character", CHARACTERS.values(), ids=CHARACTERS)
def test_a_transaction_that_would_not_fit_into_a_row_is_refused(character: str) -> None:
    """What is taken in fits when it is promised, and when it waits for a human, too."""
    taken = 0
    for count in (1, 3, 12, 200, 1_000):
        for size in (1, 300, 65_536):
            log = Log()
            wanted = writes(*(f"d/{number}" for number in range(count)), value=character * size)
            said = log.take("prepare", prepare("t", writes=wanted))
            if said[0].fields["code"] == "too_large":
                assert count * size > 20_000
                continue
            taken += 1
            assert fits(log)
            log.take("decide", {"domain": "d", "txn": "t", "commit": True, "reason": ""})
            theirs = [one | {"policy": "human"} for one in wanted]
            assert kinds(log.take("commit", commit("u", isolation="snapshot", snapshot=0, writes=theirs)))[-1] == (
                "outcome:waits_for_human"
            )
            assert fits(log)
    assert taken >= 7


@pytest.mark.parametrize("character", CHARACTERS.values(), ids=CHARACTERS)
def test_pages_fit_into_a_record(character: str) -> None:
    """Whatever is in the rows; and all of them are read."""
    log = Log()
    for number in range(30):
        log.take("commit", commit(f"t{number}", writes=writes(f"d/{number}", value=character * 40_000)))
    seen, after = 0, ("", "")
    while True:
        page = log.read(after_table=after[0], after_key=after[1], history=True)
        values = [version["value"] for row in page["rows"] for version in row["versions"]]
        assert sum(len(value.encode()) for value in values) < RECORD_BYTES_MAX - ROOM
        seen += len(page["rows"])
        if not page["more"]:
            break
        after = page["rows"][-1]["table"], page["rows"][-1]["key"]
    assert seen == 30


def test_a_merge_may_not_make_a_transaction_too_large() -> None:
    """Each value may be as large as a value, but not all of them."""
    log = Log(merges={"t": lambda *_: "x" * 60_000})
    keys = [f"d/{number}" for number in range(20)]
    log.take("commit", commit("first", *keys))
    wanted = writes(*keys, policy="merge")
    (told,) = log.take("commit", commit("second", isolation="snapshot", snapshot=0, writes=wanted))
    assert told.fields["code"] == "cannot_merge"
    assert "1201630 bytes" in told.fields["reason"]


class Sent:
    """Stands in for the answers of a batch: what is sent to the feed."""

    partition = 3

    def __init__(self) -> None:
        self.bundles: list[Fields] = []

    def send(self, _: Any, fields: Fields, **__: Any) -> None:
        self.bundles.append(fields)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from([1, 5_000, 60_000])), max_size=30))
def test_bundles_of_the_feed_are_cut_and_follow_each_other(sizes: list[tuple[int, int]]) -> None:
    """Every change once and in order, no record too large, and each says what was before it."""
    log, sent = Log(TableLimits(transaction_bytes_max=700_000)), Sent()
    wanted = []
    for number, (count, size) in enumerate(sizes):
        at = [f"d/{one}" for one in range(count)]
        log.offset += 1
        asked = commit(f"t{number}", writes=writes(*at, value="漢" * size))
        if not log.arbiter.commit(asked, "", At(log.offset, 0, 1_000_000)):
            wanted.append(asked["txn"])
    finish: Any = tables.shell().finish
    finish(log.arbiter, sent)
    changes = [change for bundle in sent.bundles for change in bundle["changes"]]
    assert [change["txn"] for change in changes] == wanted
    last = 0
    for bundle in sent.bundles:
        assert (bundle["previous"], bundle["partition"]) == (last, 3)
        last = bundle["changes"][-1]["position"]
        assert len(orjson.dumps(bundle)) < RECORD_BYTES_MAX - ROOM


@pytest.mark.parametrize("what", ["commit", "prepare", "decide", "lock", "keep", "end", "ask", "resolve", "mark", "read"])
@pytest.mark.parametrize("name", ["domain", "txn", "owner", "request_id"])
@pytest.mark.parametrize("bad", ["", "x" * 900_000, "a\nb", "a/b"])
def test_what_has_a_bad_name_is_answered_shortly_and_changes_nothing(what: str, name: str, bad: str) -> None:
    """Also where the name is nearly a record: the answer is small, and nothing of it is kept."""
    asked: Fields = {**prepare("t", "d/a"), "request_id": "r", "commit": True, "reason": "", "lease_ms": 1_000}
    asked |= {"locks": [{"table": "t", "key": "d/a", "span": False, "mode": "shared"}], "strategy": "detect", "age_ms": 0}
    asked |= {"wait_ms": None, "table": "", "prefix": "", "after_table": "", "after_key": "", "at_position": -1, "at_ms": -1}
    asked["history"] = False
    used = {
        "commit": {"domain", "txn", "owner"},
        "prepare": {"domain", "txn", "owner"},
        "decide": {"domain", "txn"},
        "lock": {"domain", "txn", "owner", "request_id"},
        "keep": {"domain", "txn", "owner"},
        "end": {"domain", "txn", "owner"},
        "ask": {"domain", "txn"},
        "resolve": {"domain", "txn", "owner"},
        "mark": {"domain", "request_id"},
        "read": {"domain", "request_id"},
    }
    if name not in used[what] or (bad == "a/b" and name != "domain"):
        return
    log = Log()
    told = log.take(what, asked | {name: bad})
    assert kinds(told) == ([] if what == "decide" else ["refused:bad_name"])
    assert sum(len(orjson.dumps(one.fields)) for one in told) < ROOM
    assert set(log.rows) == {("meta",)}
    assert log.feed == []


def test_reasons_are_cut() -> None:
    """A page of explanation would be kept with the transaction, and told to everybody for each row."""
    log = Log()
    log.take("end", {"domain": "d", "txn": "t", "owner": "o", "reason": "why " * 200_000})
    assert fits(log)
    log.take("commit", commit("first", "d/a"))
    log.take("commit", commit("mine", snapshot=0, reads=reads("d/a"), writes=writes("d/a", policy="human")) | {"snapshot": 1})
    told = log.take("resolve", {"domain": "d", "txn": "mine", "owner": "ann", "commit": False, "reason": "no " * 200_000})
    assert all(len(orjson.dumps(one.fields)) < ROOM for one in told)
    assert fits(log)
