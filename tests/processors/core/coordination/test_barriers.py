"""The barrier machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.barrier_words import (
    Arrive,
    BarrierLimits,
    Broken,
    Leaving,
    Outcome,
    Reset,
    ResetBarrier,
    Tripped,
)
from processors.core.coordination.barriers import Barriers
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from streams.core.at import At
from tests.processors.core.coordination.barrier_oracle import Arrival, Oracle
from tests.processors.core.coordination.twin import Twin

NAMES = ("phase/1", "phase/2")
OWNERS = ("ann", "bob", "cyd", "dan")
WORDS: dict[type, str] = {Queued: "waiting", TimedOut: "timed_out", Tripped: "tripped", Broken: "broken", Reset: "reset"}
LEAVINGS: tuple[Leaving, ...] = ("break", "withdraw")


def word(outcome: Outcome) -> tuple[str, str]:
    """The oracle's word for an outcome."""
    return outcome.code if isinstance(outcome, Refused) else WORDS[type(outcome)], outcome.request_id


def words(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [word(outcome) for outcome in outcomes]


class BarriersAgainstOracle(RuleBasedStateMachine):
    """Random arrivals of four parties at two barriers for two or three."""

    def __init__(self) -> None:
        super().__init__()
        self.twin, self.oracle, self.number = Twin(Barriers.load), Oracle(), 0
        self.asked: dict[str, Arrive] = {}
        self.tripped: dict[tuple[str, int], list[tuple[int, str]]] = {}
        self.tokens: dict[str, list[int]] = {name: [] for name in NAMES}

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes = self.twin.do(method, *args, **kwargs)
        for outcome in outcomes:
            if isinstance(outcome, Tripped) and not outcome.repeated:
                self.tripped.setdefault((outcome.name, outcome.generation), []).append((outcome.index, outcome.owner))
        found, wanted = Counter(words(outcomes)), Counter(self.oracle.log)
        assert found == wanted, f"{method}{args}"
        self.oracle.log = []

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        parties=st.sampled_from([3, 3, 3, 3, 2]),
        wait_ms=st.sampled_from([None, None, 0, 10, 200]),
        lease_ms=st.sampled_from([100, 300, 10_000]),
        on_timeout=st.sampled_from(LEAVINGS),
        on_death=st.sampled_from(LEAVINGS),
    )
    def arrive(
        self, owner: str, name: str, parties: int, wait_ms: int | None, lease_ms: int, on_timeout: Leaving, on_death: Leaving
    ) -> None:
        self.number += 1
        request_id = f"{self.number:03}"
        asked = Arrive(request_id, owner, name, parties, wait_ms, lease_ms, on_timeout, on_death)
        self.asked[request_id] = asked
        arrival = Arrival(request_id, owner, name, parties, 0, on_timeout, on_death, lease_ms, 0, 0)
        self.oracle.arrive(arrival, wait_ms, self.twin.now_ms)
        self.both("arrive", asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def arrive_again(self, data: st.DataObject) -> None:
        waiting = [a.id for a in self.oracle.all if a.state == "waiting"]
        request_id = data.draw(st.sampled_from(waiting or sorted(self.asked)) | st.sampled_from(sorted(self.asked)))
        asked, arrival = self.asked[request_id], self.oracle.find(request_id)
        assert arrival is not None
        self.oracle.again(arrival, self.twin.now_ms)
        fields = (asked.parties, asked.wait_ms, asked.lease_ms, asked.on_timeout, asked.on_death, "elsewhere")
        self.both("arrive", Arrive(request_id, asked.owner, asked.name, *fields, again=True))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), mine=st.sampled_from([True, True, False]))
    def cancel(self, data: st.DataObject, mine: bool) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.asked)))
        owner = self.asked[request_id].owner if mine else "zoe"
        self.oracle.cancel(request_id, owner, self.twin.now_ms)
        self.both("cancel", request_id, owner)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def reset(self, name: str, data: st.DataObject) -> None:
        """By the generation that is there, by another one, or by none."""
        self.number += 1
        self.oracle.tick(self.twin.now_ms)
        kept = self.twin.machine._barriers.get(name)
        current = 0 if kept is None else kept.generation
        waiting = self.oracle.waiting(name)
        theirs = self.oracle.broken.get(name) or (waiting[0].generation if waiting else 0)
        named = data.draw(st.sampled_from(["none", "current", "other"]))
        generation, wanted = {"none": (None, None), "current": (current, theirs), "other": (current + 1, theirs + 1)}[named]
        self.oracle.reset(f"{self.number:03}", name, wanted, self.twin.now_ms)
        self.both("reset", ResetBarrier(f"{self.number:03}", "ops", name, generation))

    @rule(ms=st.sampled_from([1, 9, 60, 150, 400, -30]))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        self.oracle.tick(self.twin.now_ms)
        self.both("tick", command=False)

    @invariant()
    def a_generation_trips_once_with_exactly_its_parties(self) -> None:
        """Each trip that was told has as many different parties as it is for, in order, and is one that the oracle saw."""
        assert len(self.tripped) == len(self.oracle.trips)
        for ((name, _), told), (its_name, _, owners) in zip(self.tripped.items(), self.oracle.trips, strict=True):
            assert name == its_name
            assert told == list(enumerate(owners))
            assert len(set(owners)) == len(owners)

    @invariant()
    def generations_grow(self) -> None:
        for name in NAMES:
            found = [generation for its_name, generation in self.tripped if its_name == name]
            assert found == sorted(set(found))

    @invariant()
    def nothing_is_kept_of_what_is_over(self) -> None:
        kept = {key[1] for key in self.twin.store.rows if key[0] == "b"}
        assert kept == set(self.oracle.broken) | {a.name for a in self.oracle.all if a.state == "waiting"}


TestBarriersAgainstOracle = BarriersAgainstOracle.TestCase
TestBarriersAgainstOracle.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# ---- the rules one by one


class Desk(Twin):
    """One barrier, commands a millisecond apart."""

    def __init__(self, limits: BarrierLimits | None = None, *, loads: bool = True) -> None:
        super().__init__(lambda rows: Barriers.load(rows, limits), loads=loads)

    def arrive(self, request_id: str, owner: str, parties: int = 3, name: str = "phase", **kwargs: Any) -> list[Any]:
        self.now_ms += 1
        return self.do("arrive", Arrive(request_id, owner, name, parties, **kwargs))

    def reset(self, generation: int | None = None, name: str = "phase") -> list[Any]:
        return self.do("reset", ResetBarrier(f"reset-{self.offset + 1}", "ops", name, generation))


def test_the_last_party_trips_the_generation_for_all() -> None:
    """Each learns how many came before it and which generation it was: the position of its first arrival."""
    desk = Desk()
    desk.arrive("1", "ann")
    first = desk.offset
    desk.arrive("2", "bob")
    tripped = desk.arrive("3", "cyd")
    assert [(one.owner, one.index, one.parties) for one in tripped] == [("ann", 0, 3), ("bob", 1, 3), ("cyd", 2, 3)]
    assert {one.generation >> 20 for one in tripped} == {first}
    desk.arrive("4", "ann")
    desk.arrive("5", "bob")
    assert desk.arrive("6", "cyd")[0].generation > tripped[0].generation


def test_one_party_is_a_barrier_too() -> None:
    """It trips as it is come to."""
    assert words(Desk().arrive("1", "ann", 1)) == [("tripped", "1")]


def test_who_gives_up_breaks_the_generation_for_all_until_the_reset() -> None:
    """As with a CyclicBarrier: those that wait are told by whom and how, those that come later too, and then it is as new."""
    desk = Desk()
    desk.arrive("1", "ann")
    desk.arrive("2", "bob", wait_ms=50)
    timed_out, broken = desk.tick(60)
    assert words([timed_out, broken]) == [("timed_out", "2"), ("broken", "1")]
    assert (broken.code, broken.by) == ("timed_out", "bob")
    (late,) = desk.arrive("3", "cyd")
    assert isinstance(late, Broken)
    assert late.generation == broken.generation
    (reset,) = desk.reset(late.generation)
    assert reset.generation == late.generation
    assert words(desk.arrive("4", "cyd")) == [("waiting", "4")]
    assert desk.reset(late.generation)[0].generation == 0, "the next generation is left alone"
    assert words(desk.reset()) == [("broken", "4"), ("reset", f"reset-{desk.offset}")]
    assert words(desk.arrive("5", "ann")) == [("waiting", "5")]


def test_who_withdraws_lets_the_others_wait_on() -> None:
    """Its place is free again, for itself or for another party; the last one that withdraws leaves nothing."""
    desk = Desk()
    desk.arrive("1", "ann", wait_ms=50, on_timeout="withdraw")
    desk.arrive("2", "bob")
    assert words(desk.tick(60)) == [("timed_out", "1")]
    desk.arrive("3", "cyd")
    assert [one.owner for one in desk.arrive("4", "ann")] == ["bob", "cyd", "ann"]
    desk.arrive("5", "ann", on_timeout="withdraw")
    assert words(desk.do("cancel", "5", "ann")) == [("cancelled", "5")]
    assert not [key for key in desk.store.rows if key[0] == "b"]


def test_a_party_that_is_not_heard_of_has_died() -> None:
    """One that asks again within its lease lives on; by choice a dead one breaks the generation, or is waited for."""
    desk = Desk()
    desk.arrive("1", "ann", lease_ms=100)
    desk.arrive("2", "bob", lease_ms=100, on_death="withdraw")
    desk.now_ms += 80
    assert words(desk.do("arrive", Arrive("1", "ann", "phase", 3, lease_ms=100, again=True))) == [("waiting", "1")]
    assert words(desk.tick(50)) == [("lapsed", "2")]
    desk.arrive("3", "bob")
    lapsed, broken = desk.tick(100)
    assert words([lapsed, broken]) == [("lapsed", "1"), ("broken", "3")]
    assert (broken.code, broken.by) == ("died", "ann")


def test_arriving_twice_and_with_another_number_is_refused_and_breaks_nothing() -> None:
    """Both say what is known, so that the mistake can be found."""
    desk = Desk()
    desk.arrive("1", "ann")
    twice, wrong = desk.arrive("2", "ann")[0], desk.arrive("3", "bob", 4)[0]
    assert (twice.code, wrong.code) == ("arrived_twice", "wrong_parties")
    assert "as 1" in twice.text
    assert "by 3 parties" in wrong.text
    desk.arrive("4", "bob")
    assert len(desk.arrive("5", "cyd")) == 3


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Arrive("", "ann", "phase", 3), "bad_request_id"),
        (Arrive("1", "a\x00nn", "phase", 3), "bad_owner"),
        (Arrive("1", "ann", "", 3), "bad_name"),
        (Arrive("1", "ann", "/phase", 3), "bad_name"),
        (Arrive("1", "ann", "phase", 0), "bad_parties"),
        (Arrive("1", "ann", "phase", -3), "bad_parties"),
        (Arrive("1", "ann", "phase", 10_001), "bad_parties"),
        (Arrive("1", "ann", "phase", 3, wait_ms=-1), "bad_wait"),
        (Arrive("1", "ann", "phase", 3, lease_ms=-1), "bad_lease"),
        (Arrive("1", "ann", "phase", 3, on_death="explode"), "bad_leaving"),  # type: ignore[arg-type]
        (Arrive("1", "ann", "phase", 3, again=True), "forgotten"),
        (ResetBarrier("1", "ann", "/phase"), "bad_name"),
    ],
)
def test_bad_input_is_refused_with_a_reason(asked: Arrive | ResetBarrier, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind."""
    machine = Barriers()
    (refused,) = machine.arrive(asked, At(0, 0, 0)) if isinstance(asked, Arrive) else machine.reset(asked, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert machine.changes() == {}


def test_ten_thousand_parties_wait_and_trip_together() -> None:
    """An arrival costs its own row however many wait, and the last one ends them all in one step."""
    desk = Desk(loads=False)
    for number in range(9_999):
        desk.arrive(f"{number}", f"party-{number}", 10_000)
    desk.machine.arrive(Arrive("twice", "party-0", "phase", 10_000), At(99_999, 0, desk.now_ms))
    assert set(desk.machine.changes()) == {("r", "twice"), ("meta",)}
    tripped = desk.arrive("last", "late", 10_000)
    assert [one.index for one in tripped] == list(range(10_000))


def test_broken_barriers_that_nobody_resets_are_forgotten_in_the_order_in_which_they_broke() -> None:
    """So many are kept; the next arrival at a forgotten one begins anew."""
    desk = Desk(BarrierLimits(broken_max=2))
    for number, name in enumerate(("x", "y", "z")):
        desk.arrive(f"{number}", "ann", name=name)
    for number in (1, 0, 2):
        desk.do("cancel", f"{number}", "ann")
    assert [words(desk.arrive(f"{n}-again", "ann", name=n))[0][0] for n in ("x", "y", "z")] == ["broken", "waiting", "broken"]
