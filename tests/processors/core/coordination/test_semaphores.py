"""The semaphore machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.request_words import Queued, Refused, TimedOut
from processors.core.coordination.semaphore_words import (
    AcquirePermits,
    Expired,
    Granted,
    Outcome,
    Released,
    Renewed,
    Resized,
    SemaphoreLimits,
    SetCapacity,
)
from processors.core.coordination.semaphores import Semaphores
from streams.core.at import At
from tests.processors.core.coordination.semaphore_oracle import Entry, Oracle
from tests.processors.core.coordination.twin import Twin

AGEING_MS = 50
LIMITS = SemaphoreLimits(ageing_ms=AGEING_MS)
NAMES = ("gpu/a", "gpu/b")
OWNERS = ("ann", "bob", "cyd")
WORDS: dict[type, str] = {
    Granted: "granted",
    Queued: "waiting",
    TimedOut: "timed_out",
    Released: "released",
    Renewed: "renewed",
    Expired: "expired",
    Resized: "resized",
}


def word(outcome: Outcome) -> tuple[str, str]:
    """The oracle's word for an outcome."""
    if isinstance(outcome, Refused):
        ended = "released" if "released" in outcome.text else "expired"
        return ended if outcome.code == "ended" else outcome.code, outcome.request_id
    return WORDS[type(outcome)], outcome.request_id


def words(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [word(outcome) for outcome in outcomes]


class SemaphoresAgainstOracle(RuleBasedStateMachine):
    """Random commands of three owners on two semaphores whose capacity goes up and down."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(lambda rows: Semaphores.load(rows, LIMITS))
        self.oracle, self.number = Oracle(AGEING_MS), 0
        self.asked: dict[str, AcquirePermits] = {}
        self.last_token: dict[str, int] = {}
        self.over: dict[str, int] = dict.fromkeys(NAMES, 0)

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes = self.twin.do(method, *args, **kwargs)
        for outcome in outcomes:
            if isinstance(outcome, Granted) and not outcome.repeated:
                assert outcome.token > self.last_token.get(outcome.name, 0)
                self.last_token[outcome.name] = outcome.token
        found, wanted = [word(one) for one in outcomes], self.oracle.log
        assert Counter(found) == Counter(wanted), f"{method}{args}"
        assert [one for one in found if one[0] == "granted"] == [one for one in wanted if one[0] == "granted"], "in order"
        self.oracle.log = []

    def new_id(self) -> str:
        self.number += 1
        return f"{self.number:03}"

    @property
    def now_ms(self) -> int:
        return self.twin.now_ms

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        permits=st.sampled_from([1, 1, 2, 3, 5]),
        capacity=st.sampled_from([None, 3, 4]),
        wait_ms=st.sampled_from([None, None, 0, 10, 200]),
        lease_ms=st.sampled_from([100, 300, 10_000]),
        priority=st.sampled_from([0, 0, 0, 1, 5, -2]),
    )
    def ask(
        self, owner: str, name: str, permits: int, capacity: int | None, wait_ms: int | None, lease_ms: int, priority: int
    ) -> None:
        request_id = self.new_id()
        asked = AcquirePermits(request_id, owner, name, permits, capacity, wait_ms, lease_ms, priority)
        self.asked[request_id] = asked
        self.oracle.ask(Entry(self.number, request_id, owner, name, permits, wait_ms, lease_ms, priority), capacity, self.now_ms)
        self.both("acquire", asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), stranger=st.booleans())
    def ask_again(self, data: st.DataObject, stranger: bool) -> None:
        asked = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
        self.oracle.tick(self.now_ms)
        entry = self.oracle.find(asked.request_id)
        assert entry is not None
        self.oracle.log.append(("id_reused" if stranger else entry.state, entry.id))
        owner = "zoe" if stranger else asked.owner
        fields = (asked.request_id, owner, asked.name, asked.permits, asked.capacity, asked.wait_ms, asked.lease_ms, 0, "r")
        self.both("acquire", AcquirePermits(*fields, again=True))

    @precondition(lambda self: self.asked)
    @rule(
        data=st.data(),
        what=st.sampled_from(["release", "release", "renew", "cancel", "victim"]),
        mine=st.sampled_from([True, True, True, False]),
    )
    def name_a_grant(self, data: st.DataObject, what: str, mine: bool) -> None:
        live = [e.id for e in self.oracle.entries if e.state in ("waiting", "granted")]
        request_id = data.draw(st.sampled_from(live or ["none"]) | st.sampled_from(sorted(self.asked)))
        owner = self.asked[request_id].owner if mine and request_id in self.asked else "ann"
        self.oracle.end(request_id, owner, self.now_ms, what)
        if what == "victim":
            self.both("cancel", request_id, owner, victim_of="a circle")
        else:
            self.both(what, request_id, owner)

    @rule(name=st.sampled_from(NAMES), capacity=st.sampled_from([None, 0, 1, 2, 4, 6]))
    def resize(self, name: str, capacity: int | None) -> None:
        request_id = self.new_id()
        self.oracle.resize(request_id, name, capacity, self.now_ms)
        self.both("set_capacity", SetCapacity(request_id, "ops", name, capacity))

    @rule(ms=st.sampled_from([1, 9, 60, 150, 400, -30]))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        self.oracle.tick(self.now_ms)
        self.both("tick", command=False)

    @invariant()
    def never_more_out_than_there_are(self) -> None:
        """More are out only after a cut, and then it only gets better."""
        for name in NAMES:
            out, capacity = self.oracle.out(name), self.oracle.capacity(name) or 0
            kept = self.twin.machine._book.semaphores.get(name)
            assert out == (0 if kept is None else kept.out)
            assert out <= max(capacity, self.over[name])
            self.over[name] = out

    @invariant()
    def nothing_is_kept_of_what_nobody_uses(self) -> None:
        kept = {key[1] for key in self.twin.store.rows if key[0] == "s"}
        assert kept == set(self.oracle.used) | set(self.oracle.fixed)


TestSemaphoresAgainstOracle = SemaphoresAgainstOracle.TestCase
TestSemaphoresAgainstOracle.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# ---- the rules one by one


class Desk(Twin):
    """One semaphore of four permits, commands a millisecond apart."""

    def __init__(self, limits: SemaphoreLimits | None = None, *, loads: bool = True) -> None:
        super().__init__(lambda rows: Semaphores.load(rows, limits), loads=loads)

    def ask(self, request_id: str, owner: str, permits: int = 1, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        return self.do("acquire", AcquirePermits(request_id, owner, "gpu", permits, 4, **kwargs))

    def resize(self, capacity: int | None) -> list[Outcome]:
        return self.do("set_capacity", SetCapacity(f"resize-{self.offset + 1}", "ops", "gpu", capacity))


def test_a_large_request_at_the_head_is_not_overtaken() -> None:
    """What is free goes to nobody while it is not enough for the head of the queue; so the head is not starved."""
    desk = Desk()
    assert words(desk.ask("1", "ann", 3)) == [("granted", "1")]
    (queued,) = desk.ask("2", "bob", 2)
    assert isinstance(queued, Queued)
    assert queued.behind == ("ann",)
    assert words(desk.ask("3", "cyd", 1)) == [("waiting", "3")]
    assert words(desk.do("release", "1", "ann")) == [("released", "1"), ("granted", "2"), ("granted", "3")]


def test_a_cut_below_what_is_out_grants_nothing_until_enough_is_back() -> None:
    """Permits are never taken away, so the cut works as they come back."""
    desk = Desk()
    for number in "1234":
        desk.ask(number, f"owner-{number}")
    assert words(desk.resize(2))[0][0] == "resized"
    desk.ask("5", "eve")
    assert words(desk.do("release", "1", "owner-1")) == [("released", "1")]
    assert words(desk.do("release", "2", "owner-2")) == [("released", "2")]
    assert words(desk.do("release", "3", "owner-3")) == [("released", "3"), ("granted", "5")]
    assert words(desk.ask("6", "fay", wait_ms=0)) == [("busy", "6")]
    desk.resize(3)
    assert words(desk.ask("7", "gus", wait_ms=0)) == [("granted", "7")]


def test_a_closed_semaphore_lets_everybody_wait() -> None:
    """Capacity 0 refuses nobody who waits; the setting is not taken back while it is closed, and opening serves the queue."""
    desk = Desk()
    desk.resize(0)
    assert words(desk.ask("1", "ann", 4)) == [("waiting", "1")]
    (refused,) = desk.resize(None)
    assert isinstance(refused, Refused)
    assert refused.code == "closed"
    assert [what for what, _ in words(desk.resize(4))] == ["resized", "granted"]


def test_who_waits_for_more_than_there_are_now_is_refused_and_does_not_block() -> None:
    """After a cut a request that is too large would stand at the head for ever."""
    desk = Desk()
    desk.ask("1", "ann", 4)
    desk.ask("2", "bob", 3)
    desk.ask("3", "cyd", 1)
    assert words(desk.resize(2))[1:] == [("too_many", "2")]
    assert words(desk.do("release", "1", "ann")) == [("released", "1"), ("granted", "3")]


def test_the_last_use_forgets_the_capacity_unless_it_was_set() -> None:
    """The next first use says how many there are; a setting stays."""
    desk = Desk()
    desk.ask("1", "ann")
    desk.do("release", "1", "ann")
    assert words(desk.do("acquire", AcquirePermits("2", "ann", "gpu"))) == [("no_capacity", "2")]
    desk.resize(3)
    assert words(desk.do("acquire", AcquirePermits("3", "ann", "gpu", 3))) == [("granted", "3")]
    desk.do("release", "3", "ann")
    assert ("s", "gpu") in desk.store.rows
    desk.resize(None)
    assert ("s", "gpu") not in desk.store.rows


def test_permits_of_a_lost_lease_go_to_the_next_and_a_late_release_frees_nothing() -> None:
    """The grant that is named is the one that ended, not the one that has its permits now."""
    desk = Desk()
    desk.ask("1", "ann", 4, lease_ms=100)
    desk.ask("2", "bob", 4)
    assert words(desk.tick(200)) == [("expired", "1"), ("granted", "2")]
    assert words(desk.do("release", "1", "ann")) == [("expired", "1")]
    assert words(desk.do("renew", "1", "ann")) == [("expired", "1")]
    assert words(desk.do("release", "2", "ann")) == [("not_owner", "2")]


def test_a_renewal_begins_the_lease_anew() -> None:
    """From the renewal on, with another length where one is named, which the next renewal keeps."""
    desk = Desk()
    desk.ask("1", "ann", lease_ms=100)
    desk.now_ms += 60
    (renewed,) = desk.do("renew", "1", "ann")
    assert renewed.expires_ms == desk.now_ms + 100
    assert desk.tick(99) == []
    desk.do("renew", "1", "ann", lease_ms=300)
    assert desk.tick(299) == []
    desk.do("renew", "1", "ann")
    assert desk.tick(299) == []
    assert words(desk.tick(1)) == [("expired", "1")]
    (refused,) = desk.do("renew", "1", "ann", lease_ms=-1)
    assert refused.code == "expired"


def test_a_setting_that_is_repeated_does_not_undo_a_later_one() -> None:
    """Commands may come twice; the second one is answered as the first and changes nothing."""
    desk = Desk()
    first = SetCapacity("s1", "ops", "gpu", 2)
    desk.do("set_capacity", first)
    desk.do("set_capacity", SetCapacity("s2", "ops", "gpu", 5))
    (again,) = desk.do("set_capacity", first)
    assert again == Resized("ops", "s1", "", "gpu", 2, 0, repeated=True)
    assert words(desk.do("acquire", AcquirePermits("1", "ann", "gpu", 5))) == [("granted", "1")]
    assert words(desk.do("acquire", AcquirePermits("s1", "ops", "gpu", 5))) == [("id_reused", "s1")]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (AcquirePermits("", "ann", "gpu"), "bad_request_id"),
        (AcquirePermits("1", "a\x00nn", "gpu"), "bad_owner"),
        (AcquirePermits("1", "ann", ""), "bad_name"),
        (AcquirePermits("1", "ann", "/gpu"), "bad_name"),
        (AcquirePermits("1", "ann", "x" * 257), "bad_name"),
        (AcquirePermits("1", "ann", "gpu", 0, 4), "bad_permits"),
        (AcquirePermits("1", "ann", "gpu", -1, 4), "bad_permits"),
        (AcquirePermits("1", "ann", "gpu", 5, 4), "too_many"),
        (AcquirePermits("1", "ann", "gpu", 1, 0), "bad_capacity"),
        (AcquirePermits("1", "ann", "gpu", 1, 1_000_001), "bad_capacity"),
        (AcquirePermits("1", "ann", "gpu", 1), "no_capacity"),
        (AcquirePermits("1", "ann", "gpu", 1, 4, lease_ms=-1), "bad_lease"),
        (AcquirePermits("1", "ann", "gpu", 1, 4, wait_ms=-1), "bad_wait"),
        (AcquirePermits("1", "ann", "gpu", 1, 4, priority=101), "bad_priority"),
        (AcquirePermits("1", "ann", "gpu", 1, 4, again=True), "forgotten"),
        (SetCapacity("1", "ann", "gpu", -1), "bad_capacity"),
        (SetCapacity("1", "ann", "\ud800", 1), "bad_name"),
        (SetCapacity("1", "", "gpu", 1), "bad_owner"),
    ],
)
def test_bad_input_is_refused_with_a_reason(asked: AcquirePermits | SetCapacity, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves no semaphore behind."""
    machine = Semaphores()
    (refused,) = (
        machine.acquire(asked, At(0, 0, 0)) if isinstance(asked, AcquirePermits) else machine.set_capacity(asked, At(0, 0, 0))
    )
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert not [key for key in machine.changes() if key[0] == "s"]


def test_ten_thousand_wait_for_one_semaphore_and_the_next_is_refused() -> None:
    """A queue is bounded, and its length costs a command no more than its own row."""
    desk = Desk(loads=False)
    desk.ask("holder", "ann", 4)
    for number in range(10_000):
        desk.ask(f"w{number}", f"owner-{number}")
    (refused,) = desk.ask("one-more", "zoe")
    assert isinstance(refused, Refused)
    assert refused.code == "queue_full"
    assert len(desk.machine.release("holder", "ann", At(99_999, 0, desk.now_ms))) == 5
    assert set(desk.machine.changes()) == {("r", one) for one in ("holder", "w0", "w1", "w2", "w3")} | {("meta",)}


def test_capacities_set_by_command_are_bounded() -> None:
    """They are kept while nobody uses them, so there is a limit; taking one back makes room."""
    desk = Desk(SemaphoreLimits(fixed_max=1))
    desk.resize(4)
    other = SetCapacity("x1", "ops", "tpu", 4)
    assert words(desk.do("set_capacity", other)) == [("full", "x1")]
    desk.resize(None)
    assert words(desk.do("set_capacity", other)) == [("resized", "x1")]
