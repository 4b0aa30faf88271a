"""The lock machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.lock_words import (
    AcquireRequest,
    Expired,
    Granted,
    Left,
    LockLimits,
    Outcome,
    Queued,
    Refused,
    Released,
    Renewed,
    TimedOut,
)
from processors.core.coordination.locks import Locks
from streams.core.at import At
from tests.processors.core.coordination.lock_oracle import Entry, Oracle

AGEING_MS = 50
LIMITS = LockLimits(ageing_ms=AGEING_MS)
NAMES = ("r/a", "r/b", "r/c")
OWNERS = ("ann", "bob", "cyd", "dan")


def word(outcome: Outcome) -> tuple[str, str]:
    """The oracle's word for an outcome."""
    match outcome:
        case Refused(code=code):
            what = "released" if code == "ended" and "released" in outcome.text else "expired" if code == "ended" else code
            return what, outcome.request_id
        case Left():
            return "left", outcome.owner
        case _:
            words = {Granted: "granted", Queued: "waiting", TimedOut: "timed_out", Released: "released", Renewed: "renewed"}
            return words.get(type(outcome), "expired"), outcome.request_id


class Store:
    """A table: what `changes` says, through JSON."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}

    def take(self, changes: dict[Any, Any]) -> None:
        for key, row in changes.items():
            if row is None:
                del self.rows[key]
            else:
                self.rows[key] = json.loads(json.dumps(row))

    def load(self, limits: LockLimits) -> Locks:
        return Locks.load(self.rows.items(), limits)


class LocksAgainstOracle(RuleBasedStateMachine):
    """Random commands of four owners on three resources; a second machine is loaded from its rows before every command."""

    def __init__(self) -> None:
        super().__init__()
        self.locks, self.store, self.oracle = Locks(LIMITS), Store(), Oracle(AGEING_MS)
        self.offset, self.now_ms, self.number = -1, 1_000_000, 0
        self.last_token: dict[str, int] = {}
        self.ends: Counter[str] = Counter()

    def both(self, method: str, *args: Any, command: bool = True) -> None:
        self.offset += command
        at = At(self.offset, 0, self.now_ms)
        loaded = self.store.load(LIMITS)
        outcomes: list[Outcome] = getattr(self.locks, method)(*args, at)
        assert getattr(loaded, method)(*args, at) == outcomes
        changes = self.locks.changes()
        assert json.dumps(sorted(changes.items())) == json.dumps(sorted(loaded.changes().items()))
        self.store.take(changes)
        self.check_tokens(outcomes)
        for outcome in outcomes:
            ended = isinstance(outcome, Released | TimedOut) and not outcome.repeated
            if ended or isinstance(outcome, Expired):
                self.ends[outcome.request_id] += 1
        found, wanted = Counter(map(word, outcomes)), Counter(self.oracle.log)
        assert found == wanted, f"{method}{args}: {found - wanted} too many, {wanted - found} too few"
        self.oracle.log.clear()

    def check_tokens(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if not isinstance(outcome, Granted) or outcome.repeated:
                continue
            for name, token in zip(outcome.resources, outcome.tokens, strict=True):
                last = self.last_token.get(name, 0)
                if token <= last:  # then it is nested: its owner had it before, under this very token
                    again = [r for r in self.oracle.entries if r.owner == outcome.owner and name in r.names]
                    assert len(again) > 1
                else:
                    self.last_token[name] = token

    @rule(
        owner=st.sampled_from(OWNERS),
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple),
        exclusive=st.booleans(),
        wait_ms=st.sampled_from([None, None, 0, 10, 200]),
        lease_ms=st.sampled_from([100, 300, 10_000]),
        priority=st.sampled_from([0, 0, 0, 1, 5, -2]),
    )
    def ask(self, owner: str, names: tuple[str, ...], exclusive: bool, wait_ms: int | None, lease_ms: int, priority: int) -> None:
        self.number += 1
        request_id = f"{self.number:03}"
        self.oracle.ask(
            Entry(self.number, request_id, owner, names, exclusive, wait_ms, lease_ms, priority, self.now_ms), self.now_ms
        )
        mode: Any = "exclusive" if exclusive else "shared"
        self.both("acquire", AcquireRequest(request_id, owner, names, mode, wait_ms, lease_ms, priority))

    @precondition(lambda self: self.number)
    @rule(data=st.data(), owner=st.sampled_from(OWNERS))
    def ask_again(self, data: st.DataObject, owner: str) -> None:
        known = self.oracle.find(f"{data.draw(st.integers(1, self.number)):03}")
        assert known is not None
        owner = data.draw(st.sampled_from([known.owner, known.owner, owner]))
        self.oracle.ask(Entry(0, known.id, owner, known.names, known.exclusive, 0, 100, 0, 0), self.now_ms)
        self.both("acquire", AcquireRequest(known.id, owner, known.names, wait_ms=0, again=True))

    @precondition(lambda self: self.number)
    @rule(
        data=st.data(),
        what=st.sampled_from(["release", "release", "renew", "cancel"]),
        other=st.sampled_from(OWNERS),
        mine=st.sampled_from([True, True, True, False]),
    )
    def name_a_grant(self, data: st.DataObject, what: str, other: str, mine: bool) -> None:
        live = [e.id for e in self.oracle.entries if e.state in ("waiting", "granted")]
        request_id = data.draw(st.sampled_from(live or ["none"]) | st.integers(1, self.number).map("{:03}".format))
        known = self.oracle.find(request_id)
        owner = known.owner if known is not None and mine else other
        if what == "cancel":
            self.oracle.cancel(request_id, owner, self.now_ms)
        else:
            self.oracle.release(request_id, owner, self.now_ms, renew=what == "renew")
        self.both(what, request_id, owner)

    @precondition(lambda self: self.oracle.waiting())
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from([e.id for e in self.oracle.waiting()]))
        self.oracle.abort(request_id, self.now_ms)
        self.both("abort", request_id, "a circle")

    @rule(owner=st.sampled_from(OWNERS))
    def leave(self, owner: str) -> None:
        self.oracle.leave(owner, self.now_ms)
        self.both("release_owner", owner)

    @rule(ms=st.sampled_from([1, 9, 60, 150, 400, -30]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        due = self.locks.due_ms()
        self.oracle.tick(self.now_ms)
        assert (due is not None and due <= self.now_ms) == bool(self.oracle.log)
        self.both("tick", command=False)

    @invariant()
    def one_writer_or_readers(self) -> None:
        for name in NAMES:
            holders = [e for e in self.oracle.granted() if name in e.names]
            writers = {e.owner for e in holders if e.exclusive}
            assert not writers or {e.owner for e in holders} == writers
            assert len(writers) <= 1

    @invariant()
    def ends_once(self) -> None:
        assert all(count == 1 for count in self.ends.values())

    @invariant()
    def waits_are_complete(self) -> None:
        """Each request that waits has somebody to wait for, and waiting leads to somebody who holds, or round in a circle."""
        found = self.locks.waits()
        assert {wait.request_id for wait in found} == {e.id for e in self.oracle.waiting()}
        for wait in found:
            entry = self.oracle.find(wait.request_id)
            assert entry is not None
            others = {
                (e.owner, e.id) for e in self.oracle.granted() if e.owner != wait.owner and entry.conflicts(e, wait.resource)
            }
            assert set(wait.holders) == others


TestLocksAgainstOracle = LocksAgainstOracle.TestCase
TestLocksAgainstOracle.settings = settings(max_examples=150, stateful_step_count=40)


# ---- the rules one by one


class Desk:
    """Commands in a row, a millisecond and an offset apart."""

    def __init__(self, limits: LockLimits | None = None) -> None:
        self.locks, self.offset, self.now_ms = Locks(limits), -1, 1_000

    def at(self) -> At:
        self.offset += 1
        self.now_ms += 1
        return At(self.offset, 0, self.now_ms)

    def ask(self, request_id: str, owner: str, *names: str, **kwargs: Any) -> list[Outcome]:
        return self.locks.acquire(AcquireRequest(request_id, owner, names or ("r/a",), **kwargs), self.at())

    def release(self, grant: str, owner: str) -> list[Outcome]:
        return self.locks.release(grant, owner, self.at())


def words(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [word(outcome) for outcome in outcomes]


def test_first_come_first_served_and_the_token_grows() -> None:
    """Waiters get the lock in the order of the log, each with a larger token: the offset of the release that gave it."""
    desk = Desk()
    desk.ask("1", "ann")
    for number, owner in enumerate(("bob", "cyd", "dan"), 2):
        assert words(desk.ask(str(number), owner)) == [("waiting", str(number))]
    last = 0
    for number, owner in enumerate(("ann", "bob", "cyd"), 1):
        _, granted = desk.release(str(number), owner)
        assert isinstance(granted, Granted)
        assert granted.request_id == str(number + 1)
        assert granted.tokens[0] >> 20 == desk.offset
        assert granted.tokens[0] > last
        last = granted.tokens[0]


def test_shared_holders_together_and_a_writer_is_not_starved() -> None:
    """Readers share; one that comes after a waiting writer waits behind it."""
    desk = Desk()
    assert words(desk.ask("1", "ann", mode="shared") + desk.ask("2", "bob", mode="shared")) == [
        ("granted", "1"),
        ("granted", "2"),
    ]
    assert words(desk.ask("3", "cyd")) == [("waiting", "3")]
    assert words(desk.ask("4", "dan", mode="shared")) == [("waiting", "4")]
    assert words(desk.release("1", "ann")) == [("released", "1")]
    assert words(desk.release("2", "bob")) == [("released", "2"), ("granted", "3")]
    assert words(desk.release("3", "cyd")) == [("released", "3"), ("granted", "4")]


def test_a_request_for_several_is_not_starved_by_single_ones() -> None:
    """A request for two resources holds none of them while it waits, and no later request for one of them overtakes it."""
    desk = Desk()
    desk.ask("1", "ann", "r/a")
    assert words(desk.ask("2", "bob", "r/a", "r/b")) == [("waiting", "2")]
    assert words(desk.ask("3", "cyd", "r/b")) == [("waiting", "3")]
    assert words(desk.release("1", "ann")) == [("released", "1"), ("granted", "2")]
    assert words(desk.release("2", "bob")) == [("released", "2"), ("granted", "3")]


def test_ageing_lets_an_old_request_win_against_a_higher_priority() -> None:
    """A higher priority goes first, unless the lower one has waited long enough to make up for it."""
    desk = Desk(LockLimits(ageing_ms=100))
    desk.ask("1", "ann")
    desk.ask("low", "bob", priority=0)
    desk.ask("high", "cyd", priority=1)
    desk.now_ms += 1_000
    desk.ask("late", "dan", priority=5)
    assert words(desk.release("1", "ann"))[1] == ("granted", "high")
    assert words(desk.release("high", "cyd"))[1] == ("granted", "low")
    assert words(desk.release("low", "bob"))[1] == ("granted", "late")


def test_nested_grants_share_a_token_and_are_released_one_by_one() -> None:
    """An owner gets what it has again at once, ahead of the queue; the lock is free when the last of its grants ends."""
    desk = Desk()
    (first,) = desk.ask("1", "ann")
    desk.ask("2", "bob")
    (again,) = desk.ask("3", "ann")
    assert isinstance(first, Granted)
    assert isinstance(again, Granted)
    assert first.tokens == again.tokens
    assert words(desk.release("1", "ann")) == [("released", "1")]
    assert words(desk.release("3", "ann")) == [("released", "3"), ("granted", "2")]


def test_an_upgrade_waits_for_the_other_readers_only() -> None:
    """It goes ahead of a writer that waits, and has a larger token; a second upgrade would be a deadlock and is refused."""
    desk = Desk()
    (shared,) = desk.ask("1", "ann", mode="shared")
    desk.ask("2", "bob", mode="shared")
    desk.ask("3", "cyd")
    assert words(desk.ask("4", "ann")) == [("waiting", "4")]
    (refused,) = desk.ask("5", "bob")
    assert isinstance(refused, Refused)
    assert refused.code == "upgrade_deadlock"
    assert "ann" in refused.text
    _, upgraded = desk.release("2", "bob")
    assert isinstance(shared, Granted)
    assert isinstance(upgraded, Granted)
    assert upgraded.request_id == "4"
    assert upgraded.tokens > shared.tokens


def test_a_late_release_does_not_free_the_next_holders_lock() -> None:
    """Who lost the lease is told so, also for a release; the grant of the next holder stays."""
    desk = Desk()
    desk.ask("1", "ann", lease_ms=100)
    desk.ask("2", "bob")
    desk.now_ms += 200
    expired, granted = desk.locks.tick(At(desk.offset, 0, desk.now_ms))
    assert isinstance(expired, Expired)
    assert expired.next_owners == ("bob",)
    assert word(granted) == ("granted", "2")
    for _ in range(2):
        assert words(desk.release("1", "ann")) == [("expired", "1")]
    assert words(desk.release("2", "ann")) == [("not_owner", "2")]
    assert words(desk.release("2", "bob")) == [("released", "2")]
    assert words(desk.release("2", "bob")) == [("released", "2")]


def test_two_grants_of_one_position_have_different_tokens() -> None:
    """A timer may hand a lock on twice while no command comes: the tie-break keeps the tokens growing."""
    desk = Desk()
    desk.ask("1", "ann", lease_ms=100)
    desk.ask("2", "bob", lease_ms=100)
    desk.ask("3", "cyd", lease_ms=100)
    tokens = []
    for _ in range(2):
        desk.now_ms += 150
        _, granted = desk.locks.tick(At(desk.offset, 0, desk.now_ms))
        assert isinstance(granted, Granted)
        tokens.append(granted.tokens[0])
    assert tokens[0] < tokens[1] < At(desk.offset + 1, 0, 0).token()


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (AcquireRequest("", "ann", ("r/a",)), "bad_request_id"),
        (AcquireRequest("1", "a\x00nn", ("r/a",)), "bad_owner"),
        (AcquireRequest("1", "ann", ("",)), "bad_name"),
        (AcquireRequest("1", "ann", ("/a",)), "bad_name"),
        (AcquireRequest("1", "ann", ("x" * 257,)), "bad_name"),
        (AcquireRequest("1", "ann", ("\ud800",)), "bad_name"),
        (AcquireRequest("1", "ann", ()), "bad_resources"),
        (AcquireRequest("1", "ann", ("r/a", "r/a")), "bad_resources"),
        (AcquireRequest("1", "ann", tuple(f"r/{i}" for i in range(65))), "bad_resources"),
        (AcquireRequest("1", "ann", ("r/a", "q/a")), "domains_mixed"),
        (AcquireRequest("1", "ann", ("r/a",), lease_ms=-1), "bad_lease"),
        (AcquireRequest("1", "ann", ("r/a",), lease_ms=86_400_001), "bad_lease"),
        (AcquireRequest("1", "ann", ("r/a",), wait_ms=-1), "bad_wait"),
        (AcquireRequest("1", "ann", ("r/a",), priority=101), "bad_priority"),
        (AcquireRequest("1", "ann", ("r/a",), again=True), "forgotten"),
    ],
)
def test_bad_input_is_refused_with_a_reason(request_: AcquireRequest, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind."""
    locks = Locks()
    (refused,) = locks.acquire(request_, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert locks.changes() == {}


def test_ten_thousand_wait_for_one_lock_and_the_next_is_refused() -> None:
    """A queue is bounded, and its length costs a command no more than its own row."""
    desk = Desk()
    desk.ask("holder", "ann")
    for number in range(10_000):
        desk.ask(f"w{number}", f"owner-{number}")
    (refused,) = desk.ask("one-more", "zoe")
    assert isinstance(refused, Refused)
    assert refused.code == "queue_full"
    desk.locks.changes()
    assert words(desk.release("holder", "ann")) == [("released", "holder"), ("granted", "w0")]
    assert set(desk.locks.changes()) == {("r", "holder"), ("r", "w0"), ("lock",)}


def test_ended_requests_are_forgotten_oldest_first() -> None:
    """So many answers are remembered; one that asks again after that is told to ask anew, and is not granted to nobody."""
    desk = Desk(LockLimits(ended_max=2))
    for number in ("1", "2", "3"):
        desk.ask(number, "ann")
        desk.release(number, "ann")
    assert words(desk.ask("1", "ann", again=True)) == [("forgotten", "1")]
    assert words(desk.ask("3", "ann", again=True)) == [("released", "3")]


def test_one_owner_waits_with_so_many_requests_only() -> None:
    """The limit has a reason of its own, and other owners still wait."""
    desk = Desk(LockLimits(owner_waiters_max=2))
    desk.ask("0", "ann")
    assert [words(desk.ask(n, "bob"))[0][0] for n in ("1", "2", "3")] == ["waiting", "waiting", "owner_full"]
    assert words(desk.ask("4", "cyd")) == [("waiting", "4")]
