"""Two-phase locking of rows: what excludes what, who waits, who gives up, and that nobody is forgotten."""

from __future__ import annotations

from itertools import pairwise
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
        ({"locks": []}, "bad_locks"),
        ({"locks": [{"table": "t", "key": "d/x", "mode": "intend_shared", "span": False}]}, "bad_mode"),
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


def test_each_limit_names_itself() -> None:
    """Those that wait for one row, and the locks of one transaction with those it waits for."""
    log = Log(lock_limits=LockLimits(waiters_max=1, locks_max=2))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("b", ("d/x", SHARED)))) == ["queued"]
    (told,) = log.take("lock", lock("c", ("d/x", SHARED)))
    assert (told.fields["code"], told.fields["reason"][:31]) == ("queue_full", "1 requests wait for t d/x alrea")
    assert kinds(log.take("lock", lock("b", ("d/y", SHARED)))) == ["locked"]
    assert kinds(log.take("lock", lock("b", ("d/z", SHARED)))) == ["refused:too_large"]


def test_the_second_of_two_upgrades_is_refused() -> None:
    """Each would wait for the other; the first has the row alone when the second gives its part back."""
    log = Log()
    for txn in "ab":
        log.take("lock", lock(txn, ("d/x", SHARED)))
    assert kinds(log.take("lock", lock("a", ("d/x", EXCLUSIVE), request="up a"))) == ["queued"]
    log.reload()
    (told,) = log.take("lock", lock("b", ("d/x", EXCLUSIVE), request="up b"))
    assert (told.fields["code"], told.fields["waits_for"]) == ("upgrade_deadlock", ["agent-a"])
    assert [(one.kind, one.fields["txn"]) for one in log.take("end", end("b"))] == [("outcome", "b"), ("locked", "a")]


def test_a_queue_makes_no_deadlock_of_its_own() -> None:
    """Who has a row of a prefix gets another one, whoever waits for the whole prefix, or behind him."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("b", ("d/", SHARED, True)))) == ["queued"]
    assert kinds(log.take("lock", lock("c", ("d/y", EXCLUSIVE)))) == ["queued"]
    log.reload()
    assert kinds(log.take("lock", lock("a", ("d/y", EXCLUSIVE)))) == ["locked"]
    assert kinds(log.take("lock", lock("d", ("d/z", EXCLUSIVE)))) == ["queued"], "who has nothing of it waits behind b"


def test_waits_are_not_told_of_again_while_they_stay_the_same() -> None:
    """Of a hundred that wait for a row each knows the one before, and an end of the first is told to the second alone."""
    log = Log()
    names = [f"{number:03}" for number in range(100)]
    for name in names:
        log.take("lock", lock(name, ("d/x", EXCLUSIVE)))
    for name, following in pairwise(names):
        told = log.take("end", end(name))
        assert [(one.kind, one.fields["txn"]) for one in told] == [("outcome", name), ("locked", following)]


def test_shared_and_intended_exclusive_are_both_kept() -> None:
    """They do not become one exclusive lock: who only intends to share may come in, and who has a row of it is not pushed out."""
    log = Log()
    log.take("lock", lock("a", ("d/p/x", SHARED)))
    log.take("lock", lock("b", ("d/p/", "intend_exclusive", True), request="1"))
    assert kinds(log.take("lock", lock("b", ("d/p/", SHARED, True), request="2"))) == ["locked"]
    log.reload()
    assert kinds(log.take("lock", lock("c", ("d/p/", "intend_shared", True)))) == ["locked"]
    assert kinds(log.take("lock", lock("d", ("d/p/", SHARED, True), wait_ms=0))) == ["refused:busy"]
    assert kinds(log.take("lock", lock("d", ("d/p/y", EXCLUSIVE), wait_ms=0))) == ["refused:busy"]


def test_a_request_is_answered_again_as_it_was() -> None:
    """Queued, granted or refused; nobody else's, and not of a transaction that has ended."""
    log = Log()
    first, second = lock("a", ("d/x", EXCLUSIVE)), lock("b", ("d/x", EXCLUSIVE), wait_ms=0)
    (granted,) = log.take("lock", first)
    (again,) = log.take("lock", first)
    assert again.fields["locks"] == granted.fields["locks"] == first["locks"]
    (busy,) = log.take("lock", second)
    log.take("end", end("a"))
    log.reload()
    (again,) = log.take("lock", {**second, "again": True})
    assert (again.fields["code"], again.fields["reason"]) == (busy.fields["code"], busy.fields["reason"])
    assert (busy.everybody, again.everybody) == (True, False)
    assert kinds(log.take("lock", {**lock("c", ("d/x", SHARED)), "request_id": second["request_id"]})) == ["refused:id_reused"]
    log.take("end", end("b"))
    assert kinds(log.take("lock", second)) == ["refused:ended"]
    assert not [key for key in log.rows if key[0] == "n"], "an ended transaction's requests are forgotten"


def test_refusals_are_remembered_up_to_a_limit() -> None:
    """The oldest are forgotten first, also where the rows have been read anew."""
    log = Log(lock_limits=LockLimits(refused_max=3))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    for number in range(6):
        log.take("lock", lock("b", ("d/x", EXCLUSIVE), request=f"r{number}", wait_ms=0))
        log.reload()
    assert sorted(key[2] for key in log.rows if key[0] == "n") == ["r3", "r4", "r5"]


def test_what_waits_when_its_transaction_promises_or_ends_is_refused() -> None:
    """A promise needs nothing more, and never gets a lease; an end takes its requests with it."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    log.take("lock", lock("b", ("d/x", EXCLUSIVE), lease_ms=1_000))
    assert kinds(log.take("prepare", prepare("b", "d/y"))) == ["refused:promised", "voted"]
    log.take("end", end("a"))
    assert [one for one in log.pass_time(5_000) if one.kind == "refused"] == []
    log.take("lock", lock("c", ("d/y", EXCLUSIVE)))
    assert kinds(log.take("end", end("c"))) == ["outcome:ended", "refused:ended"]


def test_promises_do_not_overtake_who_waits() -> None:
    """Promises that share a row one after the other would keep it from who wants it alone; a commit holds nothing, and may."""
    log = Log()
    log.take("prepare", prepare("a", "d/y", reads=reads("d/x"), snapshot=log.position))
    log.take("lock", lock("w", ("d/x", EXCLUSIVE)))
    (vote,) = log.take("prepare", prepare("b", "d/z", reads=reads("d/x"), snapshot=log.position))
    assert (vote.fields["commit"], vote.fields["code"]) == (False, "locked")
    assert log.take("commit", commit("c", "d/z", reads=reads("d/x"), snapshot=log.position)) == []
    assert "locked" in kinds(log.take("decide", {"domain": "d", "txn": "a", "commit": False, "reason": ""}))


def test_a_client_that_waits_and_is_silent_is_forgotten() -> None:
    """It would have the row for a whole lease; asking again, or keeping the transaction, shows that it lives."""
    log = Log(lock_limits=LockLimits(unheard_ms=10_000))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), lease_ms=60_000))
    for txn in "bcd":
        log.take("lock", lock(txn, ("d/x", EXCLUSIVE)))
    log.take("lock", lock("c", ("d/x", EXCLUSIVE), again=True), after_ms=5_000)
    log.take("keep", {"domain": "d", "txn": "d", "owner": "agent-d", "lease_ms": 30_000})
    log.reload()
    told = [(one.kind, one.fields["txn"], one.fields.get("code")) for one in log.pass_time(6_000)]
    assert told == [("refused", "b", "expired"), ("queued", "c", None)]


def test_a_lease_that_ended_first_serves_who_waited_until_later() -> None:
    """Both were due when time passed: the row was free before the wait was over."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), lease_ms=1_000))
    log.take("lock", lock("b", ("d/x", EXCLUSIVE), wait_ms=2_000))
    told = [(one.kind, one.fields["txn"]) for one in log.pass_time(9_000)]
    assert told == [("refused", "a"), ("locked", "b")]


def test_under_wound_wait_an_older_one_goes_before_a_younger_one_that_waits() -> None:
    """It need not wound it then: the younger one has nothing yet."""
    log = Log()
    ages = {"strategy": "wound_wait"}
    log.take("lock", lock("oldest", ("d/x", EXCLUSIVE), age_ms=1, **ages))
    log.take("lock", lock("young", ("d/x", EXCLUSIVE), age_ms=9, **ages))
    told = log.take("lock", lock("older", ("d/x", EXCLUSIVE), age_ms=5, **ages))
    assert [(one.kind, one.fields["txn"], one.fields["behind"]) for one in told] == [
        ("queued", "young", ["agent-older"]),
        ("queued", "older", ["agent-oldest"]),
    ]
    log.reload()
    told = log.take("end", end("oldest"))
    assert [(one.kind, one.fields["txn"]) for one in told] == [("outcome", "oldest"), ("locked", "older")]


def test_who_is_waited_for_is_told_anew_where_it_does_not_count_any_more() -> None:
    """Somebody far away begins to wait for t, and so f before it does: who is behind t is told, and again when that ends."""
    log = Log()
    for txn, key in (("k", "d/k"), ("h", "d/h"), ("t", "d/y")):
        log.take("lock", lock(txn, (key, EXCLUSIVE)))
    log.take("lock", lock("f", ("d/h", SHARED), ("d/r", EXCLUSIVE)))
    log.take("lock", lock("t", ("d/k", SHARED), ("d/r", EXCLUSIVE)))
    (told,) = log.take("lock", lock("u", ("d/r", EXCLUSIVE)))
    assert told.fields["behind"] == ["agent-t"]
    told_ = log.take("lock", lock("h", ("d/y", EXCLUSIVE), wait_ms=500))
    assert {one.fields["txn"]: one.fields["behind"] for one in told_} == {
        "t": ["agent-k"],
        "u": ["agent-f", "agent-t"],
        "h": ["agent-t"],
    }
    log.reload()
    told_ = log.pass_time(500)
    assert {one.fields["txn"]: one.fields.get("behind") for one in told_} == {
        "h": None,
        "t": ["agent-f", "agent-k"],
        "u": ["agent-t"],
    }
    log.take("lock", lock("h", ("d/y", EXCLUSIVE), request="again"))
    assert ("locked", "t") in [(one.kind, one.fields["txn"]) for one in log.take("end", end("k"))]


def test_an_upgrade_excludes_who_waits_for_something_else() -> None:
    """Who waits beside the shared lock waits for the exclusive one when that is granted."""
    log = Log()
    for txn in "ab":
        log.take("lock", lock(txn, ("d/x", SHARED)))
    log.take("lock", lock("k", ("d/k", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("a", ("d/x", EXCLUSIVE), request="up"))) == ["queued"]
    assert kinds(log.take("lock", lock("w", ("d/x", SHARED), ("d/k", SHARED)))) == ["queued"]
    assert ("locked", "a") in [(one.kind, one.fields["txn"]) for one in log.take("end", end("b"))]
    told = log.take("end", end("k"))
    assert [(one.fields["txn"], one.fields.get("behind")) for one in told] == [("k", None), ("w", ["agent-a"])]
    assert ("locked", "w") in [(one.kind, one.fields["txn"]) for one in log.take("end", end("a"))]


def test_an_upgrade_waits_for_who_waits_for_something_else() -> None:
    """Two that share a row and one that wants it alone are no deadlock where the other waits elsewhere."""
    log = Log()
    for txn in "ab":
        log.take("lock", lock(txn, ("d/x", SHARED)))
    log.take("lock", lock("c", ("d/z", EXCLUSIVE)))
    log.take("lock", lock("a", ("d/z", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("b", ("d/x", EXCLUSIVE)))) == ["queued"]


def test_a_promise_is_not_held_up_by_who_waits_for_it() -> None:
    """Who waits for what its transaction has already cannot have the rest before it has ended."""
    log = Log()
    log.take("lock", lock("somebody", ("d/q", SHARED)))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    log.take("lock", lock("w", ("d/", SHARED, True)))
    log.take("lock", lock("v", ("d/y", EXCLUSIVE)))
    (vote,) = log.take("prepare", prepare("a", "d/y", "d/z"))
    assert vote.fields["commit"]


def test_a_transaction_keeps_the_age_that_it_had_first() -> None:
    """Whatever it says later, and when it promises its commit: an age that moves might close a cycle."""
    log = Log()
    log.take("lock", lock("a", ("d/a", EXCLUSIVE), age_ms=5))
    log.take("lock", lock("b", ("d/b", EXCLUSIVE), age_ms=3))
    assert kinds(log.take("lock", lock("a", ("d/b", EXCLUSIVE), age_ms=1, strategy="wound_wait"))) == ["queued"]
    log.take("lock", lock("c", ("d/b", EXCLUSIVE), age_ms=1))
    assert kinds(log.take("prepare", prepare("c", "d/c"))) == ["refused:promised", "voted"]
    assert kinds(log.take("lock", lock("d", ("d/c", EXCLUSIVE), age_ms=2, strategy="wait_die"))) == ["refused:died"]


def test_a_shorter_lease_takes_nothing_away() -> None:
    """Locks hold as long as the longest lease that was granted; only keeping them says otherwise."""
    log = Log()
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), lease_ms=10_000))
    log.take("lock", lock("a", ("d/y", EXCLUSIVE), lease_ms=1_000))
    assert log.pass_time(9_000) == []
    assert kinds(log.pass_time(2_000)) == ["refused:expired"]


def test_what_it_has_is_not_counted_again() -> None:
    """A transaction at its limit may ask for what it has."""
    log = Log(lock_limits=LockLimits(locks_max=2))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), ("d/y", EXCLUSIVE)))
    assert kinds(log.take("lock", lock("a", ("d/x", SHARED), request="again"))) == ["locked"]


def test_a_silent_client_does_not_wait_as_long_as_it_said() -> None:
    """It said a minute, and was not heard of for ten seconds."""
    log = Log(lock_limits=LockLimits(unheard_ms=10_000))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE), lease_ms=60_000))
    log.take("lock", lock("b", ("d/x", EXCLUSIVE), wait_ms=60_000))
    assert kinds(log.pass_time(11_000)) == ["refused:expired"]


def test_refusals_of_one_moment_are_forgotten_in_their_order() -> None:
    """Also where the rows have been read anew since."""
    log = Log(lock_limits=LockLimits(refused_max=2))
    log.take("lock", lock("a", ("d/x", EXCLUSIVE)))
    for name in ("r3", "r1", "r2"):
        log.take("lock", lock("b", ("d/x", EXCLUSIVE), request=name, wait_ms=500), after_ms=0)
    assert kinds(log.pass_time(600)) == ["refused:timed_out"] * 3
    assert sorted(key[2] for key in log.rows if key[0] == "n") == ["r2", "r3"]
    log.reload()
    log.take("lock", lock("b", ("d/x", EXCLUSIVE), request="r4", wait_ms=0))
    assert sorted(key[2] for key in log.rows if key[0] == "n") == ["r3", "r4"]
