"""The latch machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.latch_words import (
    AwaitLatch,
    CountDown,
    Counted,
    LatchLimits,
    Opened,
    Outcome,
    Removed,
    RemoveLatch,
)
from processors.core.coordination.latches import Latches
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from streams.core.at import At
from tests.processors.core.coordination.latch_oracle import Oracle, Waiter
from tests.processors.core.coordination.twin import Twin

NAMES = ("ready/a", "ready/b")
OWNERS = ("ann", "bob")
WORDS: dict[type, str] = {Queued: "waiting", TimedOut: "timed_out", Opened: "opened", Removed: "gone"}


def word(outcome: Outcome) -> tuple[str, str]:
    """The oracle's word for an outcome."""
    match outcome:
        case Refused(code=code):
            return code, outcome.request_id
        case Counted(remaining=remaining):
            return str(remaining), outcome.request_id
        case _:
            return WORDS[type(outcome)], outcome.request_id


def words(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [word(outcome) for outcome in outcomes]


class LatchesAgainstOracle(RuleBasedStateMachine):
    """Random count-downs, many of them repeated, and waiters of two latches."""

    def __init__(self) -> None:
        super().__init__()
        self.twin, self.oracle, self.number = Twin(Latches.load), Oracle(), 0
        self.asked: dict[str, AwaitLatch] = {}
        self.remaining: dict[tuple[str, int], int] = {}
        self.tokens: dict[str, int] = {}

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes = self.twin.do(method, *args, **kwargs)
        for outcome in outcomes:
            if isinstance(outcome, Counted) and not outcome.repeated:
                latch = (outcome.name, outcome.token)
                assert outcome.remaining < self.remaining.get(latch, outcome.count), "it only goes down"
                self.remaining[latch] = outcome.remaining
                assert outcome.token >= self.tokens.get(outcome.name, 0), "a new latch has a larger token"
                self.tokens[outcome.name] = outcome.token
        assert Counter(words(outcomes)) == Counter(self.oracle.log), f"{method}{args}"
        self.oracle.log = []

    def new_id(self) -> str:
        self.number += 1
        return f"{self.number:03}"

    @rule(
        what=st.sampled_from([f"task-{n}" for n in range(6)]),
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        count=st.sampled_from([3, 3, 3, None, 4]),
        by=st.sampled_from([1, 1, 1, 2]),
    )
    def count_down(self, what: str, owner: str, name: str, count: int | None, by: int) -> None:
        self.oracle.count(what, name, count, by, self.twin.now_ms)
        self.both("count_down", CountDown(what, owner, name, count, by))

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        count=st.sampled_from([3, 3, None, 4]),
        wait_ms=st.sampled_from([None, None, 0, 10, 200]),
        lease_ms=st.sampled_from([100, 300, 10_000]),
    )
    def wait(self, owner: str, name: str, count: int | None, wait_ms: int | None, lease_ms: int) -> None:
        request_id = self.new_id()
        asked = AwaitLatch(request_id, owner, name, count, wait_ms, lease_ms)
        self.oracle.wait(Waiter(request_id, owner, name, lease_ms), count, wait_ms, self.twin.now_ms)
        if self.oracle.find(request_id) is not None:
            self.asked[request_id] = asked
        self.both("wait", asked)

    @precondition(lambda self: any(w.state == "waiting" for w in self.oracle.waiters))
    @rule(data=st.data(), waits=st.booleans())
    def wait_again(self, data: st.DataObject, waits: bool) -> None:
        """One that waits, or one that ended otherwise than by the opening of its latch, which may be removed since."""
        known = [w for w in self.oracle.waiters if (w.state == "waiting") == waits and w.state != "opened"]
        if not known:
            return
        waiter = data.draw(st.sampled_from(known))
        asked = self.asked[waiter.id]
        self.oracle.again(waiter, self.twin.now_ms)
        fields = (asked.count, asked.wait_ms, asked.lease_ms, "elsewhere")
        self.both("wait", AwaitLatch(waiter.id, asked.owner, asked.name, *fields, again=True))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), mine=st.sampled_from([True, True, False]))
    def cancel(self, data: st.DataObject, mine: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.asked)))
        owner = self.asked[request_id].owner if mine else "zoe"
        self.oracle.cancel(request_id, owner, self.twin.now_ms)
        self.both("cancel", request_id, owner)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        request_id = self.new_id()
        self.oracle.remove(request_id, name, self.twin.now_ms)
        self.both("remove", RemoveLatch(request_id, "ops", name))

    @rule(ms=st.sampled_from([1, 9, 60, 150, 400, -30]))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        self.oracle.tick(self.twin.now_ms)
        self.both("tick", command=False)

    @invariant()
    def what_is_kept_is_what_is_needed(self) -> None:
        """A row for each latch, and one for each count-down of those that are not open."""
        rows = self.twin.store.rows
        assert {key[1] for key in rows if key[0] == "l"} == set(self.oracle.latches)
        counting = [(name, one) for name, latch in self.oracle.latches.items() if latch.remaining for one in latch.counted]
        assert sorted(key[1:] for key in rows if key[0] == "c") == sorted(counting)


TestLatchesAgainstOracle = LatchesAgainstOracle.TestCase
TestLatchesAgainstOracle.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# ---- the rules one by one


class Desk(Twin):
    """One latch of three, commands a millisecond apart."""

    def __init__(self, limits: LatchLimits | None = None, *, loads: bool = True) -> None:
        super().__init__(lambda rows: Latches.load(rows, limits), loads=loads)

    def count(self, request_id: str, name: str = "ready", **kwargs: Any) -> list[Any]:
        self.now_ms += 1
        return self.do("count_down", CountDown(request_id, "ann", name, **{"count": 3, **kwargs}))

    def wait(self, request_id: str, owner: str = "bob", **kwargs: Any) -> list[Any]:
        self.now_ms += 1
        return self.do("wait", AwaitLatch(request_id, owner, "ready", 3, **kwargs))


def test_all_who_wait_go_on_when_nothing_remains_and_so_does_who_comes_later() -> None:
    """The last count-down opens it for those in the queue; afterwards it stays open."""
    desk = Desk()
    assert words(desk.wait("w1")) == [("waiting", "w1")]
    desk.count("a")
    assert words(desk.wait("w2")) == [("waiting", "w2")]
    desk.count("b")
    assert words(desk.count("c")) == [("0", "c"), ("opened", "w1"), ("opened", "w2")]
    assert words(desk.wait("w3")) == [("opened", "w3")]
    assert words(desk.count("d")) == [("0", "d")]


def test_what_happened_counts_once_however_often_and_late_it_is_said() -> None:
    """Its id is remembered as long as the latch counts, not for so many requests; each repeat gets the first answer."""
    desk = Desk(LatchLimits(ended_max=1))
    desk.count("a")
    for number in range(5):
        desk.wait(f"w{number}", wait_ms=0)
    desk.count("b")
    again = desk.do("count_down", CountDown("a", "somebody else", "ready"))[0]
    assert (again.remaining, again.repeated) == (2, True)
    assert words(desk.wait("w", wait_ms=0)) == [("timed_out", "w")]


def test_a_new_latch_of_an_old_name_is_made_after_a_removal_only() -> None:
    """Whoever waits is refused; a removal that names the old token leaves the new latch alone."""
    desk = Desk()
    (first,) = desk.count("a")
    desk.wait("w")
    assert words(desk.do("remove", RemoveLatch("r1", "ops", "ready", first.token))) == [("removed", "w"), ("gone", "r1")]
    (second,) = desk.count("a")
    assert second.token > first.token
    assert second.remaining == 2
    (kept,) = desk.do("remove", RemoveLatch("r2", "ops", "ready", first.token))
    assert kept.token == 0
    assert words(desk.count("b")) == [("1", "b")]


def test_a_waiter_that_is_not_heard_of_is_forgotten() -> None:
    """A service that was killed leaves no waiter behind; one that asks again within its lease stays."""
    desk = Desk()
    desk.wait("w1", lease_ms=100)
    desk.wait("w2", lease_ms=100)
    desk.now_ms += 80
    desk.do("wait", AwaitLatch("w2", "bob", "ready", 3, lease_ms=100, again=True))
    assert words(desk.tick(50)) == [("lapsed", "w1")]
    assert words(desk.count("a", by=3)) == [("0", "a"), ("opened", "w2")]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (CountDown("", "ann", "ready", 3), "bad_request_id"),
        (CountDown("1", "a\x00nn", "ready", 3), "bad_owner"),
        (CountDown("1", "ann", "", 3), "bad_name"),
        (CountDown("1", "ann", "/ready", 3), "bad_name"),
        (CountDown("1", "ann", "ready", 0), "bad_count"),
        (CountDown("1", "ann", "ready", 10_001), "bad_count"),
        (CountDown("1", "ann", "ready", 3, by=0), "bad_count"),
        (CountDown("1", "ann", "ready", 3, by=-1), "bad_count"),
        (CountDown("1", "ann", "ready"), "no_latch"),
        (AwaitLatch("1", "ann", "ready"), "no_latch"),
        (AwaitLatch("1", "ann", "ready", -3), "bad_count"),
        (AwaitLatch("1", "ann", "ready", 3, wait_ms=-1), "bad_wait"),
        (AwaitLatch("1", "ann", "ready", 3, lease_ms=0), "bad_lease"),
        (AwaitLatch("1", "ann", "ready", 3, again=True), "forgotten"),
        (RemoveLatch("1", "ann", "/ready"), "bad_name"),
    ],
)
def test_bad_input_is_refused_with_a_reason(asked: CountDown | AwaitLatch | RemoveLatch, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind."""
    machine = Latches()
    method: dict[type, Any] = {CountDown: machine.count_down, AwaitLatch: machine.wait, RemoveLatch: machine.remove}
    (refused,) = method[type(asked)](asked, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert machine.changes() == {}


def test_a_latch_has_one_count() -> None:
    """Another one is a mistake of who names it, and is told with both numbers."""
    desk = Desk()
    desk.count("a")
    (refused,) = desk.count("b", count=4)
    assert refused.code == "wrong_count"
    assert "count of 3" in refused.text
    assert "4 is named" in refused.text


def test_ten_thousand_wait_for_one_latch_and_the_next_is_refused() -> None:
    """A queue is bounded, and its length costs a command no more than its own row."""
    desk = Desk(loads=False)
    for number in range(10_000):
        desk.wait(f"w{number}", f"owner-{number}")
    assert words(desk.wait("one-more")) == [("queue_full", "one-more")]
    desk.machine.count_down(CountDown("a", "ann", "ready"), At(99_999, 0, desk.now_ms))
    assert set(desk.machine.changes()) == {("l", "ready"), ("c", "ready", "a")}
    assert len(desk.count("b", by=2)) == 10_001


def test_latches_are_bounded() -> None:
    """So many count at a time; of open ones the oldest are forgotten, and their next use makes new ones."""
    desk = Desk(LatchLimits(latches_max=1, open_max=1))
    desk.count("a", "x")
    assert words(desk.count("b", "y")) == [("full", "b")]
    desk.count("c", "x", by=3)
    desk.count("d", "y", by=3)
    assert words(desk.count("e", "x")) == [("2", "e")]
