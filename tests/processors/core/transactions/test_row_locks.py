"""Two-phase locking of rows: what excludes what, who waits, who gives up, and that nobody is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from processors.core.transactions.lock_modes import Lock, excludes
from processors.core.transactions.lock_words import LockLimits
from tests.processors.core.transactions.commands import Fields, Log, commit, kinds, lock, prepare, reads

SHARED, EXCLUSIVE = "shared", "exclusive"


def end(txn: str) -> Fields:
    return {"domain": "d", "txn": txn, "owner": f"agent-{txn}", "reason": ""}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("d/a", SHARED), ("d/a", SHARED), False),
        (("d/a", SHARED), ("d/a", EXCLUSIVE), True),
        (("d/a", EXCLUSIVE), ("d/b", EXCLUSIVE), False),
        (("d/", SHARED, True), ("d/a", SHARED), False),
        (("d/", SHARED, True), ("d/a", EXCLUSIVE), True),
        (("d/", EXCLUSIVE, True), ("d/a", SHARED), True),
        (("d/", "intend_exclusive", True), ("d/a", EXCLUSIVE), False),
        (("d/", "intend_exclusive", True), ("d/", SHARED, True), True),
        (("d/", "intend_exclusive", True), ("d/", "intend_exclusive", True), False),
        (("d/", "intend_shared", True), ("d/", EXCLUSIVE, True), True),
        (("d/", SHARED, True), ("d/p/", EXCLUSIVE, True), True),
        (("d/", "intend_shared", True), ("d/p/", EXCLUSIVE, True), False),
        (("d/p/", SHARED, True), ("d/q/", EXCLUSIVE, True), False),
    ],
)
def test_the_matrix(one: Any, other: Any, *, expected: bool) -> None:
    """Rows and spans of rows, either way round; another table never."""

    def full(of: Any, table: str = "t") -> Lock:
        return (table, of[0], len(of) > 2, of[1])

    assert excludes(full(one), full(other)) is expected
    assert excludes(full(other), full(one)) is expected
    assert not excludes(full(one), full(other, "u"))


def test_who_asks_waits_until_who_has_it_ends() -> None:
    """Queued with the owner it waits for; granted when that one commits, in the order of asking."""
    log = Log()
    assert kinds(log.take("lock", lock("a", ("d/x", EXCLUSIVE)))) == ["locked"]
    (queued,) = log.take("lock", lock("b", ("d/x", EXCLUSIVE)))
    assert (queued.kind, queued.fields["behind"]) == ("queued", ["agent-a"])
    (queued,) = log.take("lock", lock("c", ("d/x", EXCLUSIVE)))
    assert queued.fields["behind"] == ["agent-b"], "who waits for a himself, and is told that"
    told = log.take("commit", commit("a", "d/x"))
    assert [(one.kind, one.fields["txn"]) for one in told] == [("locked", "b")], "c waits for b as before"
    assert log.values() == {"d/x": "1"}
    told = log.take("end", end("b"))
    assert ("locked", "c") in [(one.kind, one.fields["txn"]) for one in told]


def test_a_reader_does_not_overtake_a_writer_that_waits() -> None:
    """Else writers would wait for ever."""
    log = Log()
    log.take("lock", lock("a", ("d/x", SHARED)))
    log.take("lock", lock("w", ("d/x", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("r", ("d/x", SHARED)))) == ["queued"]
    assert kinds(log.take("lock", lock("other", ("d/y", SHARED)))) == ["locked"]


def test_locks_stop_optimistic_commits() -> None:
    """A commit that writes a row which another has locked is refused; its own locks are not in its way."""
    log = Log()
    log.take("lock", lock("a", ("d/x", SHARED)))
    (told,) = log.take("commit", commit("b", "d/x"))
    assert (told.fields["code"], told.fields["waits_for"]) == ("locked", ["agent-a"])
    assert log.take("commit", commit("c", "d/y", snapshot=log.position, reads=reads("d/x"))) == []
    assert log.take("commit", commit("a", "d/x")) == []
    assert log.take("commit", commit("d", "d/x")) == []


def test_an_upgrade_goes_before_who_waits() -> None:
    """Who shares and wants it alone does not wait for those who wait for it."""
    log = Log()
    log.take("lock", lock("a", ("d/x", SHARED)))
    log.take("lock", lock("w", ("d/x", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("a", ("d/x", EXCLUSIVE), request="up"))) == ["locked"]


def test_wait_die() -> None:
    """The older one waits, the younger one is refused and keeps what it has."""
    log = Log()
    log.take("lock", lock("old", ("d/x", EXCLUSIVE), age_ms=1, strategy="wait_die"))
    log.take("lock", lock("young", ("d/y", EXCLUSIVE), age_ms=2, strategy="wait_die"))
    assert kinds(log.take("lock", lock("old", ("d/y", EXCLUSIVE), age_ms=1, strategy="wait_die"))) == ["queued"]
    assert kinds(log.take("lock", lock("young", ("d/x", EXCLUSIVE), age_ms=2, strategy="wait_die"))) == ["refused:died"]
    told = log.take("end", end("young"))
    assert ("locked", "old") in [(one.kind, one.fields["txn"]) for one in told]


def test_wound_wait() -> None:
    """The older one rolls the younger one back and has its locks; the younger one's commit is refused."""
    log = Log()
    log.take("lock", lock("young", ("d/x", EXCLUSIVE), age_ms=2, strategy="wound_wait"))
    told = log.take("lock", lock("old", ("d/x", EXCLUSIVE), age_ms=1, strategy="wound_wait"))
    assert [(one.kind, one.fields["txn"], one.fields.get("code", "")) for one in told] == [
        ("refused", "young", "wounded"),
        ("locked", "old", ""),
    ]
    log.reload()
    (told_,) = log.take("commit", commit("young", "d/x"))
    assert (told_.fields["state"], told_.fields["code"]) == ("rolled_back", "wounded")
    assert kinds(log.take("lock", lock("third", ("d/x", EXCLUSIVE), age_ms=3, strategy="wound_wait"))) == ["queued"]


def test_who_has_promised_is_not_wounded() -> None:
    """It is waited for until its coordinator decides."""
    log = Log()
    log.take("prepare", prepare("young", "d/x"))
    assert kinds(log.take("lock", lock("old", ("d/x", EXCLUSIVE), age_ms=1, strategy="wound_wait"))) == ["queued"]
    told = log.take("decide", {"domain": "d", "txn": "young", "commit": True, "reason": ""})
    assert "locked" in kinds(told)


def test_leases_end_and_renewing_keeps_them() -> None:
    """A client that is not heard of loses its locks; one that is keeps them; a promise has no lease."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), lease_ms=1_000))
    log.take("keep", {"domain": "d", "txn": "a", "owner": "agent-a", "lease_ms": 3_000}, after_ms=900)
    assert log.pass_time(1_000) == []
    log.take("lock", lock("b", ("d/x", EXCLUSIVE)))
    told = log.pass_time(2_500)
    assert [(one.kind, one.fields["txn"]) for one in told] == [("refused", "a"), ("locked", "b")]
    assert told[0].fields["code"] == "expired"
    assert kinds(log.take("keep", {"domain": "d", "txn": "a", "owner": "agent-a", "lease_ms": 1_000})) == ["refused:expired"]
    assert kinds(log.take("commit", commit("a", "d/x"))) == ["outcome:expired"]


def test_waits_end() -> None:
    """At once where it only tries, else when its time is over; what the transaction has it keeps."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("b", ("d/x", EXCLUSIVE), wait_ms=0))) == ["refused:busy"]
    log.take("lock", lock("b", ("d/x", EXCLUSIVE), request="again", wait_ms=500))
    log.reload()
    (told,) = log.pass_time(600)
    assert (told.fields["code"], told.fields["waits_for"]) == ("timed_out", ["agent-a"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"lease_ms": 1}, "bad_lease"),
        ({"lease_ms": 10**9}, "bad_lease"),
        ({"wait_ms": -1}, "bad_wait"),
        ({"owner": ""}, "bad_name"),
        ({"request_id": ""}, "bad_name"),
        ({"locks": [{"table": "t", "key": "e/x", "mode": SHARED, "span": False}]}, "domains_mixed"),
        ({"locks": [{"table": "t", "key": "d", "mode": SHARED, "span": True}]}, "bad_prefix"),
        ({"locks": [{"table": "t", "key": f"d/{n}", "mode": SHARED, "span": False} for n in range(2_001)]}, "too_large"),
    ],
)
def test_bad_requests_are_refused(fields: Fields, code: str) -> None:
    """Each with its code and a reason."""
    log = Log()
    (told,) = log.take("lock", lock("a", ("d/x", SHARED)) | fields)
    assert told.fields["code"] == code
    assert told.fields["reason"]


def test_too_many_that_wait_are_refused() -> None:
    """Beyond a limit with its reason."""
    log = Log(lock_limits=LockLimits(waiting_max=2))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    said = [kinds(log.take("lock", lock(f"w{number}", ("d/x", EXCLUSIVE)))) for number in range(3)]
    assert said == [["queued"], ["queued"], ["refused:queue_full"]]
