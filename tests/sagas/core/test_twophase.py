"""Two-phase commit: all or nothing, whatever is lost, repeated or crashes; what nobody can mend is an incident."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagas.core.twophase.coordinator import Coordinator
from sagas.core.twophase.words import CoordinatorLimits, Told
from streams.core.at import At
from tests.sagas.core.twophase_world import LIMITS, World, decision_of

SEEDS = st.integers(0, 1 << 30)
STEPS = st.integers(1, 250)


def ran(seed: int, steps: int, **how: Any) -> World:
    """Return a world in which so much has happened, and everything has come to rest."""
    world = World(random.Random(seed), **how)
    for _ in range(steps):
        world.step()
    world.calm_down()
    return world


# ---- all or nothing


@settings(max_examples=400)
@given(seed=SEEDS, steps=STEPS)
def test_all_participants_commit_or_none_does(seed: int, steps: int) -> None:
    """Under loss, repetition, reordering and crashes at every step: one decision, done by all, the same as the log's."""
    world = ran(seed, steps)
    for txn, names in world.txns.items():
        states = {world.parts[txn, name].state for name in names}
        wanted = decision_of(txn, world.log, names)
        assert states <= {"committed"} or "committed" not in states, (txn, states)
        assert "promised" not in states, "nobody is left in doubt"
        assert len(world.decisions[txn]) < 2, "a decision never changes"
        assert ("committed" in states) == (wanted is True)
        for answer in world.answers[txn]:
            assert not answer["decided"] or answer["commit"] == (wanted is True), answer
    assert not world.machine.live
    for codes in world.incidents.values():
        assert set(codes) == {"silent", "resolved"}, "nobody did anything else"
        assert codes[-1] == "resolved"


@settings(max_examples=300)
@given(seed=SEEDS, steps=STEPS)
def test_what_was_done_by_itself_is_an_incident_where_it_differs(seed: int, steps: int) -> None:
    """Managers decide on their own: those that differ from the decision are told as incidents, and no others."""
    world = ran(seed, steps, heuristic=True)
    for (txn, name), part in world.parts.items():
        told = world.incidents.get((txn, name), [])
        decided = decision_of(txn, world.log, world.txns[txn])
        if not part.by_itself:
            assert part.state != "committed" or decided is True
            assert "heuristic" not in told
            continue
        if decided is not None and decided == (part.state == "committed"):
            assert "heuristic" not in told
        elif part.state == "committed":
            assert "heuristic" in told
            assert told[-1] == "resolved"
    assert not world.machine.live


@settings(max_examples=200)
@given(seed=SEEDS, steps=STEPS)
def test_forgetting_what_ended_breaks_nothing(seed: int, steps: int) -> None:
    """Only two ends are remembered: repeated votes and questions of long ago change nothing that was done."""
    limits = replace(LIMITS, ended_max=2)
    world = ran(seed, steps, limits=limits)
    for txn, names in world.txns.items():
        states = {world.parts[txn, name].state for name in names}
        assert states <= {"committed"} or "committed" not in states, (txn, states)
        for answer in world.answers[txn]:
            if "committed" in states and answer["decided"] and answer["offset"] > world.decided_at[txn]:
                assert answer["commit"] or answer["code"] == "forgotten", "it is not said to have aborted"
    assert len(world.machine.ended) <= 2
    assert not any("heuristic" in codes for codes in world.incidents.values())


@settings(max_examples=100)
@given(seed=SEEDS, steps=STEPS)
def test_rows_are_all_that_is_remembered(seed: int, steps: int) -> None:
    """Made anew from its rows before every command, it says the same (the world compares) and has the same rows."""
    world = World(random.Random(seed), replace(LIMITS, ended_max=3), heuristic=True)
    for _ in range(steps):
        world.step()
        world.commit()
        world.crash()
        assert world.machine.changes() == {}
    whole = Coordinator.load(((key, row) for key, row in decoded(world)), world.limits)
    assert list(whole.ended) == list(world.machine.ended)
    assert whole.due_ms() == world.machine.due_ms()


def decoded(world: World) -> Iterator[tuple[Any, Any]]:
    """Yield a world's committed rows."""
    for key, text in world.rows.items():
        yield key, json.loads(text)


# ---- one by one


class Alone:
    """A coordinator whose commands are called by hand."""

    def __init__(self, **limits: Any) -> None:
        self.machine = Coordinator(replace(LIMITS, **limits))
        self.offset = 0

    def at(self, ms: int) -> At:
        self.offset += 1
        return At(self.offset, 0, ms)

    def vote(self, who: str, *, commit: bool = True, ms: int = 0, txn: str = "t", **more: Any) -> list[Told]:
        asked = {
            "txn": txn,
            "participant": who,
            "commit": commit,
            "owner": "ann",
            "participants": ["a", "b"],
            "timeout_ms": 300,
            "route": "",
            "position": 1,
            "at_ms": 0,
            "code": "" if commit else "conflict",
            "reason": "" if commit else "it was there first",
            "conflicts": [],
            **more,
        }
        return self.machine.voted(asked, self.at(ms))

    def begin(self, *names: str, ms: int = 0, participants: list[str] | None = None, again: bool = False) -> list[Told]:
        everybody = participants or ["a", *(f"manager:{name}" for name in names)]
        managers = [{"name": name, "payload": name.upper()} for name in names]
        asked = {"txn": "t", "owner": "ann", "participants": everybody, "managers": managers, "timeout_ms": 300, "again": again}
        return self.machine.begin(asked, "1|c|x.replies", self.at(ms))

    def done(self, who: str, *, commit: bool, ms: int = 0, txn: str = "t") -> list[Told]:
        return self.machine.done({"txn": txn, "participant": who, "commit": commit, "reason": ""}, self.at(ms))

    def ask(self, who: str = "", txn: str = "t", ms: int = 0) -> list[Told]:
        return self.machine.in_doubt({"txn": txn, "participant": who, "at_ms": 0}, "1|c|x.replies", self.at(ms))

    def settle(self, who: str) -> list[Told]:
        asked = {"txn": "t", "participant": who, "owner": "op", "reason": "paid back"}
        return self.machine.settle(asked, "1|c|x.replies", self.at(0))

    def tick(self, ms: int) -> list[Told]:
        return self.machine.tick(self.at(ms))


def words(told: list[Told]) -> list[str]:
    """Return what is said in short."""
    found = []
    for kind, fields, _, _ in told:
        who = fields.get("domain") or fields.get("manager") or fields.get("participant") or ""
        how = fields.get("code") if kind == "incident" else {True: "commit", False: "abort"}.get(fields.get("commit", ""), "")
        found.append(" ".join(word for word in (kind, who, how) if word))
    return found


def test_it_commits_once_all_have_promised() -> None:
    """The decision goes to who asked, to everybody, and to each participant; it ends when all have done it."""
    one = Alone()
    assert one.vote("a", route="1|c|x.replies") == []
    told = one.vote("b")
    assert words(told) == ["decided commit", "decide a commit", "decide b commit"]
    assert (told[0].route, told[0].everybody) == ("1|c|x.replies", True)
    assert one.done("b", commit=True) == []
    assert words(one.done("a", commit=True, ms=7)) == ["ended commit"]


def test_one_refusal_aborts_and_names_its_reason() -> None:
    """Who refused holds nothing and is not told; the others are told at once, those too that have not voted."""
    one = Alone()
    told = one.vote("b", commit=False)
    assert words(told) == ["decided abort", "decide a abort"]
    assert (told[0].fields["code"], told[0].fields["reason"]) == ("conflict", "it was there first")
    assert words(one.done("a", commit=False)) == ["ended abort"]
    (again,) = one.ask()
    assert (again.fields["code"], again.fields["known"]) == ("conflict", True)


def test_votes_that_do_not_come_in_time_abort() -> None:
    """The reason names who is missing; a vote that comes later is told the decision, and not counted."""
    one = Alone()
    one.vote("a")
    assert one.tick(299) == []
    told = one.tick(300)
    assert words(told) == ["decided abort", "decide a abort", "decide b abort"]
    assert told[0].fields["reason"] == "no vote of b within 300 ms"
    assert words(one.vote("b", ms=301)) == ["decide b abort"]


def test_a_decision_is_told_again_with_growing_pauses() -> None:
    """Only those that have not done it are told, until they have."""
    one = Alone(silent_after=100)
    one.vote("a")
    one.vote("b")
    one.done("a", commit=True)
    at = [ms for ms in range(2_000) if words(one.tick(ms)) == ["decide b commit"]]
    assert at == [100, 300, 700, 1_100, 1_500, 1_900]


def test_a_participant_that_is_silent_is_an_incident_that_it_can_end() -> None:
    """It is told on; where it does what was decided, the incident is over."""
    one = Alone()
    one.vote("a")
    one.vote("b")
    one.done("a", commit=True)
    told = [word for ms in range(0, 2_000, 100) for word in words(one.tick(ms))]
    assert told.count("incident b silent") == 1
    assert words(one.done("b", commit=True)) == ["incident b resolved", "ended commit"]


def test_an_operator_settles_a_heuristic_outcome() -> None:
    """Until then it has not ended, is told anew from time to time, and the reason goes to everybody."""
    one = Alone(silent_after=100)
    one.vote("a")
    one.vote("b")
    one.done("a", commit=True)
    assert words(one.done("b", commit=False)) == ["incident b heuristic"]
    assert words(one.done("b", commit=False)) == [], "it is told once"
    assert [word for ms in range(0, 9_000, 500) for word in words(one.tick(ms))] == ["incident b heuristic"] * 2
    assert [told.fields["code"] for told in one.settle("a")] == ["no_incident"]
    told = one.settle("b")
    assert words(told) == ["incident b resolved", "decided commit", "ended commit"]
    assert told[0].fields["reason"] == "op: paid back"


def test_a_silent_participant_can_be_settled() -> None:
    """Whoever knows that it will never answer ends it."""
    one = Alone()
    one.vote("a")
    one.vote("b")
    one.done("a", commit=True)
    for ms in range(0, 2_000, 100):
        one.tick(ms)
    assert words(one.settle("b"))[-1] == "ended commit"


def test_who_is_in_doubt_has_promised() -> None:
    """A vote that was lost is counted when its participant asks, so the transaction commits all the same."""
    one = Alone()
    one.vote("a")
    assert words(one.ask("b")) == ["decided commit", "decide a commit", "decide b commit"]


def test_what_nobody_knows_has_aborted_and_stays_so() -> None:
    """A question decides it: votes that come later cannot commit it (presumed abort)."""
    one = Alone()
    (answer,) = one.ask()
    assert (answer.fields["known"], answer.fields["decided"], answer.fields["commit"]) == (False, True, False)
    assert words(one.vote("a")) == ["decide a abort"]
    assert words(one.vote("b")) == ["decide b abort"]


def test_managers_are_asked_and_asked_once_more() -> None:
    """Half-way to the timeout those that have not voted are asked again."""
    one = Alone()
    told = one.begin("pay", "mail")
    assert words(told) == ["prepare_manager pay", "prepare_manager mail"]
    assert [one.fields["payload"] for one in told] == ["PAY", "MAIL"]
    one.vote("manager:pay", participants=["a", "manager:pay", "manager:mail"])
    assert words(one.tick(150)) == ["prepare_manager mail"]
    assert words(one.tick(300)) == ["decided abort", "decide a abort", "decide_manager pay abort", "decide_manager mail abort"]


def test_managers_that_were_never_asked_are_not_told() -> None:
    """The client died before it began the transaction: they know nothing of it."""
    one = Alone()
    one.vote("a", participants=["a", "manager:pay"])
    one.tick(150)
    assert words(one.tick(300)) == ["decided abort", "decide a abort"]
    assert words(one.done("a", commit=False)) == ["ended abort"]


def test_who_has_promised_nothing_need_not_be_there_for_an_abort_to_end() -> None:
    """It is told a few times and let go: where it promises later, it is told then."""
    one = Alone()
    one.vote("a")
    one.tick(300)
    one.done("a", commit=False)
    told = [word for ms in range(300, 3_000, 100) for word in words(one.tick(ms))]
    assert told == ["decide b abort", "decide b abort", "ended abort"]
    assert words(one.vote("b", ms=4_000)) == ["decide b abort"]


def test_participants_that_do_not_agree_who_takes_part_abort() -> None:
    """A client that names others to each would commit in part."""
    one = Alone()
    one.vote("a")
    told = one.vote("c", participants=["a", "c"])
    assert words(told) == ["decided abort", "decide a abort", "decide b abort", "decide c abort"]
    assert told[0].fields["code"] == "bad_participants"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"txn": ""}, "bad_name"),
        ({"owner": "x" * 257}, "bad_name"),
        ({"participants": ["a", ""]}, "bad_name"),
        ({"participants": ["a", "a"]}, "bad_participants"),
        ({"participants": ["b", "c"]}, "bad_participants"),
        ({"participants": ["a", *map(str, range(64))]}, "bad_participants"),
        ({"timeout_ms": 0}, "bad_timeout"),
        ({"timeout_ms": 10_001}, "bad_timeout"),
    ],
)
def test_what_is_not_allowed_is_refused_and_its_promise_given_back(asked: dict[str, Any], code: str) -> None:
    """Nothing is remembered of it."""
    one = Alone()
    answer, told = one.vote("a", **asked)
    assert (answer.fields["code"], words([told])) == (code, ["decide a abort"])
    assert not one.machine.live
    assert not one.machine.ended


def test_too_many_at_a_time_are_refused() -> None:
    """Participants are away: what comes now is given back at once instead of filling the memory."""
    one = Alone(live_max=1)
    one.vote("a")
    answer, told = one.vote("a", txn="u")
    assert (answer.fields["code"], words([told])) == ("full", ["decide a abort"])


@pytest.mark.parametrize("participants", [["a", "manager:pay"], ["a", "manager:pay", "manager:mail", "manager:x"]])
def test_managers_and_participants_have_to_agree(participants: list[str]) -> None:
    """A manager that is not asked could never vote; one that is no participant would not be told."""
    (answer,) = Alone().begin("pay", "mail", participants=participants)
    assert answer.fields["code"] == "bad_participants"


def test_what_is_forgotten_is_not_said_to_have_aborted() -> None:
    """Where ends of the last minutes are forgotten, a client is told that nobody knows; and nothing begins a second time."""
    one = Alone(ended_max=1, again_within_ms=1_000)
    for txn in ("t", "u"):
        one.vote("a", txn=txn)
        one.vote("b", txn=txn)
        one.done("a", commit=True, txn=txn)
        one.done("b", commit=True, txn=txn)
    assert [told.fields["code"] for told in one.begin("pay", again=True)] == ["forgotten"]
    assert [told.fields["code"] for told in one.ask(ms=1_000)] == ["forgotten"]
    assert [told.fields["code"] for told in one.ask(txn="v", ms=1_001)] == ["unknown"]
    assert one.done("a", commit=True, txn="w") == [], "it did so because it was decided, long ago"


def test_a_participant_that_commits_what_nobody_decided_is_an_incident() -> None:
    """Nothing was forgotten, so it did that by itself."""
    one = Alone()
    assert words(one.done("manager:pay", commit=True)) == ["incident manager:pay heuristic"]
    assert words(one.settle("manager:pay"))[-1] == "ended abort"


def test_usual_limits_hold_for_what_a_command_can_have() -> None:
    """Pauses reach the incident after a minute; payloads fit into a record of a megabyte."""
    limits = CoordinatorLimits()
    pauses = [min(limits.again_ms << n, limits.again_ms_max) for n in range(limits.silent_after)]
    assert 60_000 <= sum(pauses) <= 70_000
    assert limits.payloads_chars_max * 4 < 1_000_000
