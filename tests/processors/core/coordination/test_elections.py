"""The election machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.election_words import (
    Campaign,
    Elected,
    ElectionLimits,
    Ended,
    Outcome,
    Renewed,
    Standing,
    StepDown,
)
from processors.core.coordination.elections import Elections
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from streams.core.at import At
from tests.processors.core.coordination.election_oracle import Entry, Oracle
from tests.processors.core.coordination.twin import Twin

NAMES = ("planner/a", "planner/b")
OWNERS = ("ann", "bob", "cyd")
Word = tuple[str, str, int]


def word(outcome: Outcome) -> Word:
    """The oracle's word for an outcome."""
    match outcome:
        case Refused(code="ended"):
            return next(how for how in ("resigned", "expired") if how in outcome.text), outcome.request_id, 0
        case Refused():
            return outcome.code, outcome.request_id, 0
        case Ended():
            return outcome.how, outcome.request_id, outcome.term if outcome.how == "stepped_down" else 0
        case Elected():
            return "leading", outcome.request_id, outcome.term
        case _:
            words = {Queued: "waiting", TimedOut: "timed_out", Renewed: "renewed", Standing: "standing"}
            return words[type(outcome)], outcome.request_id, 0


def words(outcomes: list[Outcome]) -> list[Word]:
    return [word(outcome) for outcome in outcomes]


class ElectionsAgainstOracle(RuleBasedStateMachine):
    """Random commands of three owners in two elections."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(Elections.load)
        self.oracle, self.number = Oracle(), 0
        self.asked: dict[str, Campaign] = {}
        self.last: dict[str, tuple[int, int]] = {}
        self.ends: Counter[str] = Counter()

    @property
    def now_ms(self) -> int:
        return self.twin.now_ms

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes: list[Outcome] = self.twin.do(method, *args, **kwargs)
        for outcome in outcomes:
            if isinstance(outcome, Elected) and not outcome.repeated:
                term, token = self.last.get(outcome.name, (0, 0))
                assert outcome.term == term + 1
                assert outcome.token > token
                self.last[outcome.name] = (outcome.term, outcome.token)
            ended = isinstance(outcome, Ended) and outcome.how != "stepped_down" and not outcome.repeated
            if ended or (isinstance(outcome, TimedOut) and not outcome.repeated):
                self.ends[outcome.request_id] += 1
        assert Counter(words(outcomes)) == Counter(self.oracle.log), f"{method}{args}"
        self.oracle.log = []

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        priority=st.sampled_from([0, 0, 0, 1, -2]),
        wait_ms=st.sampled_from([None, None, 0, 10, 200]),
        lease_ms=st.sampled_from([100, 300, 10_000]),
    )
    def stand(self, owner: str, name: str, priority: int, wait_ms: int | None, lease_ms: int) -> None:
        self.number += 1
        request_id, gives_up = f"{self.number:03}", None if wait_ms is None else self.now_ms + wait_ms
        asked = self.asked[request_id] = Campaign(request_id, owner, name, "", priority, wait_ms, lease_ms)
        entry = Entry(request_id, owner, name, priority, lease_ms, self.now_ms + lease_ms, gives_up, self.oracle.place())
        self.oracle.stand(entry, self.now_ms, tries=wait_ms == 0)
        self.both("stand", asked)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), stranger=st.booleans())
    def stand_again(self, data: st.DataObject, stranger: bool) -> None:
        asked = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
        self.oracle.stand_again(asked.request_id, self.now_ms, stranger=stranger)
        owner = "zoe" if stranger else asked.owner
        self.both("stand", Campaign(asked.request_id, owner, asked.name, route="other", again=True))

    def pick(self, data: st.DataObject) -> tuple[str, str]:
        """Return a candidacy, as a rule one that lives, and who commands it, as a rule its owner."""
        live = [e.id for e in self.oracle.entries if e.state in ("waiting", "leading")]
        request_id = data.draw(st.sampled_from(live or ["none"]) | st.sampled_from(sorted(self.asked)))
        mine = data.draw(st.sampled_from([True, True, True, False])) and request_id in self.asked
        return request_id, self.asked[request_id].owner if mine else "ann"

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), what=st.sampled_from(["renew", "renew", "resign"]))
    def command(self, data: st.DataObject, what: str) -> None:
        request_id, owner = self.pick(data)
        getattr(self.oracle, what)(request_id, owner, self.now_ms)
        self.both(what, request_id, owner)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), successor=st.sampled_from(["", "", *OWNERS]), late=st.sampled_from([0, 0, 0, 1]))
    def step_down(self, data: st.DataObject, successor: str, late: int) -> None:
        request_id, owner = self.pick(data)
        entry = self.oracle.find(request_id)
        term = max(0, (entry.term if entry is not None else 1) - late)
        self.oracle.step_down(request_id, owner, term, successor, self.now_ms)
        self.both("step_down", StepDown(request_id, owner, term, successor))

    @rule(ms=st.sampled_from([1, 9, 60, 150, 400, -30]))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        due = self.twin.machine.due_ms()
        self.oracle.tick(self.now_ms)
        assert (due is not None and due <= self.now_ms) == bool(self.oracle.log)
        self.both("tick", command=False)

    @invariant()
    def nobody_waits_where_nobody_leads(self) -> None:
        for name in NAMES:
            leader, queue = self.oracle.leader(name), self.oracle.queue(name)
            assert leader is not None or not queue
            (standing,) = self.twin.machine.standing(name, "eve", At(self.twin.offset, 0, -1))  # a clock that ends nothing
            assert (standing.term, standing.token > 0) == (self.oracle.terms.get(name, 0), leader is not None)
            assert standing.candidacy == ("" if leader is None else leader.id)
            assert standing.next_owners == tuple(e.owner for e in queue[:15])

    @invariant()
    def ends_once(self) -> None:
        assert all(count == 1 for count in self.ends.values())


TestElectionsAgainstOracle = ElectionsAgainstOracle.TestCase
TestElectionsAgainstOracle.settings = settings(max_examples=150, stateful_step_count=40)


# ---- the rules one by one


class Desk(Twin):
    """One election, commands a millisecond apart."""

    def __init__(self, limits: ElectionLimits | None = None, *, loads: bool = True) -> None:
        super().__init__(lambda rows: Elections.load(rows, limits), loads=loads)

    def stand(self, request_id: str, owner: str, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        return self.do("stand", Campaign(request_id, owner, "planner", **kwargs))


def test_the_next_in_order_leads_the_next_term_with_a_larger_token() -> None:
    """A leader that resigns is followed at once; the token is the position of the command that made room."""
    desk = Desk()
    (first,) = desk.stand("1", "ann", value="ann:80")
    (queued,) = desk.stand("2", "bob")
    desk.stand("3", "cyd")
    assert isinstance(queued, Queued)
    assert queued.behind == ("ann",)
    ended, second = desk.do("resign", "1", "ann")
    assert isinstance(first, Elected)
    assert isinstance(ended, Ended)
    assert isinstance(second, Elected)
    assert (first.term, second.term, second.owner) == (1, 2, "bob")
    assert (ended.term, ended.token) == (1, first.token)
    assert second.token >> 20 == desk.offset
    assert second.token > first.token


def test_priority_decides_who_follows_and_deposes_nobody() -> None:
    """The highest is next, whenever it came; it does not end the term of one that is lower."""
    desk = Desk()
    desk.stand("1", "ann")
    desk.stand("2", "bob")
    assert words(desk.stand("3", "cyd", priority=5)) == [("waiting", "3", 0)]
    assert words(desk.do("resign", "1", "ann"))[1] == ("leading", "3", 2)


def test_all_that_died_together_are_gone_within_one_lease() -> None:
    """A candidate is not elected after its own lease: the living one leads as soon as the dead leader's lease is over."""
    desk = Desk()
    for number in range(5):
        desk.stand(f"dead-{number}", f"owner-{number}", lease_ms=1_000)
    desk.stand("alive", "zoe", lease_ms=1_000)
    desk.now_ms += 900
    desk.do("renew", "alive", "zoe")
    outcomes = desk.tick(200)
    assert [what for what, *_ in words(outcomes)] == ["expired"] * 5 + ["leading"]
    assert words(outcomes)[-1] == ("leading", "alive", 2)


def test_being_elected_does_not_lengthen_the_lease() -> None:
    """The lease is the candidacy's: what was said last is what it is believed in for."""
    desk = Desk()
    desk.stand("1", "ann")
    (queued,) = desk.stand("2", "bob", lease_ms=1_000)
    assert isinstance(queued, Queued)
    asked = desk.now_ms
    desk.now_ms += 400
    _, elected = desk.do("resign", "1", "ann")
    assert isinstance(elected, Elected)
    assert elected.expires_ms == asked + 1_000
    assert words(desk.tick(600)) == [("expired", "2", 0)]


def test_who_steps_down_goes_behind_the_others_and_may_name_a_successor() -> None:
    """Its candidacy goes on; asked again, the command does not end a later term."""
    desk = Desk()
    for number, owner in enumerate(("ann", "bob", "cyd"), 1):
        desk.stand(str(number), owner, priority=5 * (owner == "ann"))
    assert words(desk.do("step_down", StepDown("1", "ann", 1, "cyd"))) == [("stepped_down", "1", 1), ("leading", "3", 2)]
    assert words(desk.do("step_down", StepDown("1", "ann", 1))) == [("stepped_down", "1", 1)]
    assert words(desk.do("resign", "3", "cyd")) == [("resigned", "3", 0), ("leading", "1", 3)]
    assert words(desk.do("step_down", StepDown("1", "ann", 1))) == [("not_leader", "1", 0)]


def test_nobody_steps_down_for_nobody() -> None:
    """Without another candidate the term goes on: there would be no leader, and the next one would be the same."""
    desk = Desk()
    desk.stand("1", "ann")
    (refused,) = desk.do("step_down", StepDown("1", "ann", 1))
    assert isinstance(refused, Refused)
    assert refused.code == "no_successor"
    assert "resign" in refused.text


def test_terms_go_on_after_an_election_was_empty() -> None:
    """The term is a fence: it never begins anew, and the number of elections is bounded since each is remembered."""
    desk = Desk(ElectionLimits(elections_max=1))
    desk.stand("1", "ann")
    desk.do("resign", "1", "ann")
    assert words(desk.stand("2", "bob")) == [("leading", "2", 2)]
    (refused,) = desk.do("stand", Campaign("3", "ann", "other"))
    assert isinstance(refused, Refused)
    assert refused.code == "full"


def test_a_wait_that_is_over_ends_the_candidacy_but_no_leadership() -> None:
    """`wait_ms` is for being elected; a leader that steps down later waits without limit."""
    desk = Desk()
    desk.stand("1", "ann", wait_ms=50)
    desk.stand("2", "bob", wait_ms=50)
    assert words(desk.tick(60)) == [("timed_out", "2", 0)]
    desk.stand("3", "cyd")
    desk.do("step_down", StepDown("1", "ann", 1))
    assert words(desk.tick(100)) == []


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Campaign("", "ann", "planner"), "bad_request_id"),
        (Campaign("1", "a\x00nn", "planner"), "bad_owner"),
        (Campaign("1", "ann", ""), "bad_name"),
        (Campaign("1", "ann", "/a"), "bad_name"),
        (Campaign("1", "ann", "x" * 257), "bad_name"),
        (Campaign("1", "ann", "planner", value="x" * 1_025), "bad_value"),
        (Campaign("1", "ann", "planner", value="\ud800"), "bad_value"),
        (Campaign("1", "ann", "planner", priority=101), "bad_priority"),
        (Campaign("1", "ann", "planner", wait_ms=-1), "bad_wait"),
        (Campaign("1", "ann", "planner", lease_ms=-1), "bad_lease"),
        (Campaign("1", "ann", "planner", lease_ms=86_400_001), "bad_lease"),
        (Campaign("1", "ann", "planner", again=True), "forgotten"),
    ],
)
def test_bad_input_is_refused_with_a_reason(asked: Campaign, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind."""
    elections = Elections()
    (refused,) = elections.stand(asked, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert elections.changes() == {}


def test_a_thousand_wait_and_the_next_is_refused() -> None:
    """The queue is bounded, and its length costs a heartbeat no more than the candidate's own row."""
    desk = Desk(loads=False)
    for number in range(1_001):
        desk.stand(f"c{number}", f"owner-{number}")
    (refused,) = desk.stand("one-more", "zoe")
    assert isinstance(refused, Refused)
    assert refused.code == "queue_full"
    desk.machine.renew("c500", "owner-500", At(desk.offset + 1, 0, desk.now_ms))
    assert set(desk.machine.changes()) == {("r", "c500")}
