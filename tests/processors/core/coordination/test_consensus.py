"""The consensus machine against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.consensus import Consensus
from processors.core.coordination.consensus_words import (
    Await,
    ConsensusLimits,
    Decided,
    Join,
    Leave,
    Outcome,
    Propose,
    Proposed,
    Standing,
    TermBegan,
    Vote,
    Voted,
)
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from streams.core.at import At
from tests.processors.core.coordination.consensus_oracle import Oracle
from tests.processors.core.coordination.twin import Twin

NAMES = ("plan/a", "plan/b")
OWNERS = ("ann", "bob", "cyd", "dan")


def word(outcome: Outcome) -> tuple[str, str]:
    """The oracle's word for an outcome."""
    match outcome:
        case Refused():
            return outcome.code, outcome.request_id
        case TermBegan():
            return f"term {outcome.term} {outcome.why}", outcome.request_id
        case Decided():
            return f"decided {outcome.proposal}", outcome.request_id
        case _:
            words = {Queued: "waiting", TimedOut: "timed_out", Proposed: "proposed", Voted: "counted"}
            return words[type(outcome)], outcome.request_id


def words(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [word(outcome) for outcome in outcomes]


class ConsensusAgainstOracle(RuleBasedStateMachine):
    """Random commands of four agents in two groups, of which members come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(Consensus.load)
        self.oracle, self.number = Oracle(), 0
        self.commands: dict[str, tuple[str, Any]] = {}
        self.decisions: dict[str, Decided] = {}
        self.terms: dict[str, int] = {}

    @property
    def now_ms(self) -> int:
        return self.twin.now_ms

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes: list[Outcome] = self.twin.do(method, *args, **kwargs)
        for outcome in outcomes:
            if isinstance(outcome, Decided):
                self.judge(outcome)
            elif isinstance(outcome, TermBegan) and not outcome.repeated:
                assert outcome.term == self.terms.get(outcome.name, 0) + 1
                self.terms[outcome.name] = outcome.term
        assert Counter(words(outcomes)) == Counter(self.oracle.log), f"{method}{args}"
        self.oracle.log = []

    def judge(self, told: Decided) -> None:
        """What is decided was proposed, had a quorum of the members of its term, and is the same whoever is told."""
        group = self.oracle.groups[told.name]
        first = self.decisions.setdefault(told.name, told)
        assert (first.value, first.proposal, first.term, first.voters) == (told.value, told.proposal, told.term, told.voters)
        assert (told.proposer, told.value) == group.proposals[told.proposal]
        members = group.members_of[told.term]
        assert set(told.voters) <= set(members)
        size = max(len(members), group.size_min) if first is told else 0
        assert len(set(told.voters)) >= (size if group.rule == "all" and size else size // 2 + 1 if size else 1)

    def new_id(self) -> str:
        self.number += 1
        return f"{self.number:03}"

    def send(self, method: str, command: Any) -> None:
        self.commands[command.request_id] = (method, command)
        self.both(method, command)

    @rule(
        owner=st.sampled_from(OWNERS),
        name=st.sampled_from(NAMES),
        size_min=st.sampled_from([None, None, 1, 2]),
        rule_=st.sampled_from([None, None, "majority", "all"]),
    )
    def join(self, owner: str, name: str, size_min: int | None, rule_: Any) -> None:
        request_id = self.new_id()
        self.oracle.join(request_id, owner, name, size_min, rule_, self.now_ms)
        self.send("join", Join(request_id, owner, name, size_min, rule_))

    @rule(owner=st.sampled_from(OWNERS), name=st.sampled_from(NAMES), member=st.sampled_from([None, None, *OWNERS]))
    def leave(self, owner: str, name: str, member: str | None) -> None:
        request_id = self.new_id()
        self.oracle.leave(request_id, owner, name, member or owner, self.now_ms)
        self.send("leave", Leave(request_id, owner, name, member or owner))

    @rule(owner=st.sampled_from(OWNERS), name=st.sampled_from(NAMES), value=st.sampled_from(["x", "y", "é"]))
    def propose(self, owner: str, name: str, value: str) -> None:
        request_id = self.new_id()
        self.oracle.propose(request_id, owner, name, value, self.now_ms)
        self.send("propose", Propose(request_id, owner, name, value))

    @rule(data=st.data(), owner=st.sampled_from(OWNERS), name=st.sampled_from(NAMES), late=st.sampled_from([0, 0, 0, 0, 1, -1]))
    def vote(self, data: st.DataObject, owner: str, name: str, late: int) -> None:
        group = self.oracle.group(name)
        proposal = data.draw(st.sampled_from([*group.proposals, *list(group.proposals)[:1], "none"]))
        request_id, term = self.new_id(), group.term - late
        self.oracle.vote(request_id, owner, name, proposal, term, self.now_ms)
        self.both("vote", Vote(request_id, owner, name, proposal, term))

    @rule(name=st.sampled_from(NAMES), wait_ms=st.sampled_from([0, 20, 500, 100_000]))
    def wait(self, name: str, wait_ms: int) -> None:
        request_id = self.new_id()
        self.oracle.wait(request_id, name, wait_ms, self.now_ms)
        self.send("wait", Await(request_id, "eve", name, wait_ms))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waits = [wait.id for group in self.oracle.groups.values() for wait in group.waits]
        request_id = data.draw(st.sampled_from([*waits, "none"]))
        self.oracle.cancel(request_id, self.now_ms)
        self.both("cancel", request_id, "eve")

    @precondition(lambda self: self.commands)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """A command that comes twice is answered as the first time, whatever has happened since."""
        method, command = self.commands[data.draw(st.sampled_from(sorted(self.commands)))]
        request_id, oracle = command.request_id, self.oracle
        oracle.tick(self.now_ms)
        group, wait = oracle.group(command.name), oracle.find(request_id)
        if request_id in oracle.done:
            oracle.say(oracle.done[request_id], request_id)
        elif wait is not None:
            oracle.say(wait.state, request_id)
        elif method == "propose" and group.decided is None:
            oracle.say("proposed", request_id)
        elif method == "join":
            oracle.join(request_id, command.owner, command.name, command.size_min, command.quorum, self.now_ms)
        else:
            oracle.say(f"decided {group.decided}", request_id)
        self.both(method, command)

    @rule(ms=st.sampled_from([1, 9, 60, 400, 30_000, 61_000, -30]))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        due = self.twin.machine.due_ms()
        self.oracle.tick(self.now_ms)
        assert (due is not None and due <= self.now_ms) == bool(self.oracle.log)
        self.both("tick", command=False)

    @invariant()
    def stands_as_the_oracle_says(self) -> None:
        for name in NAMES:
            (found,) = self.twin.machine.standing(name, "eve", At(self.twin.offset, 0, -1))  # a clock that ends nothing
            group = self.oracle.group(name)
            if isinstance(found, Decided):
                assert found.proposal == group.decided
                continue
            assert isinstance(found, Standing)
            assert (found.term, list(found.members), group.decided) == (group.term, group.members, None)
            up = list(zip(found.proposals, found.proposers, found.values, found.votes, strict=True))
            assert up == [(one, *what, len(group.votes_for(one))) for one, what in group.proposals.items()]


TestConsensusAgainstOracle = ConsensusAgainstOracle.TestCase
TestConsensusAgainstOracle.settings = settings(max_examples=150, stateful_step_count=50)


# ---- the rules one by one


class Table(Twin):
    """One group, commands a millisecond apart."""

    def __init__(self, *members: str, limits: ConsensusLimits | None = None, loads: bool = True, **how: Any) -> None:
        super().__init__(lambda rows: Consensus.load(rows, limits), loads=loads)
        self.number = 0
        for member in members:
            self.say("join", Join, member, **how)

    def say(self, method: str, command: Any, owner: str, *args: Any, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        self.number += 1
        return self.do(method, command(f"r{self.number}", owner, "plan", *args, **kwargs))

    def propose(self, owner: str, value: str) -> str:
        (proposed,) = self.say("propose", Propose, owner, value)
        assert isinstance(proposed, Proposed)
        return proposed.request_id

    def vote(self, owner: str, proposal: str, term: int | None = None) -> list[Outcome]:
        standing = self.machine.standing("plan", owner, At(self.offset, 0, self.now_ms))[0]
        return self.say("vote", Vote, owner, proposal, standing.term if term is None else term)


def codes(outcomes: list[Outcome]) -> list[str]:
    return [what for what, _ in words(outcomes)]


def test_a_majority_decides_and_everybody_who_waits_is_told() -> None:
    """The second of three votes decides; who waits, who voted last and who asks later get the same value."""
    table = Table("ada", "bob", "cyd")
    table.say("wait", Await, "eve", 60_000)
    first, _ = table.propose("ada", "A"), table.propose("bob", "B")
    assert codes(table.vote("cyd", first)) == ["counted"]
    outcomes = table.vote("ada", first)
    assert codes(outcomes) == ["counted", *["decided r5"] * 3]
    told = [one for one in outcomes if isinstance(one, Decided)]
    assert [one.owner for one in told] == ["ada", "ada", "eve"]
    assert [one.repeated for one in told] == [False, True, True]
    assert {(one.value, one.voters, one.term) for one in told} == {("A", ("ada", "cyd"), 3)}
    assert codes(table.say("propose", Propose, "bob", "C")) == ["decided r5"]
    assert codes(table.vote("bob", "r6", 3)) == ["decided r5"]
    assert not [key for key in table.store.rows if key[0] == "p"]


def test_a_decision_outlives_its_members() -> None:
    """Members leave, others come and want something else; the value is what it was."""
    table = Table("ada", "bob")
    chosen = table.propose("ada", "A")
    table.vote("ada", chosen)
    table.vote("bob", chosen)
    table.say("leave", Leave, "ada", "ada")
    table.say("leave", Leave, "bob", "bob")
    table.say("join", Join, "cyd")
    (told,) = table.say("propose", Propose, "cyd", "C")
    assert isinstance(told, Decided)
    assert (told.value, told.term, told.voters) == ("A", 2, ("ada", "bob"))


def test_the_first_to_join_does_not_decide_alone() -> None:
    """The quorum is one of at least so many members as were said to come."""
    table = Table("ada", size_min=3)
    chosen = table.propose("ada", "A")
    (refused,) = table.vote("ada", chosen)
    assert isinstance(refused, Refused)
    assert refused.code == "too_few"
    table.say("join", Join, "bob")
    assert codes(table.vote("ada", chosen)) == ["counted"]
    assert codes(table.vote("bob", chosen))[-1] == f"decided {chosen}"


def test_a_new_member_begins_a_term_in_which_earlier_votes_do_not_count() -> None:
    """Two of three is a quorum, two of four is none: the votes have to be given again, the proposal not."""
    table = Table("ada", "bob", "cyd")
    chosen = table.propose("ada", "A")
    table.vote("ada", chosen)
    table.say("join", Join, "dan")
    assert codes(table.vote("bob", chosen, 3)) == ["stale_term"]
    assert codes(table.vote("bob", chosen)) == ["counted"]
    assert codes(table.vote("cyd", chosen)) == ["counted"]
    assert codes(table.vote("cyd", chosen)) == ["counted"], "repeated"
    assert codes(table.vote("ada", chosen))[-1] == f"decided {chosen}"


def test_split_votes_begin_the_next_term_at_once() -> None:
    """Where no proposal can reach the quorum any more, nobody waits for the end of the round."""
    table = Table("ada", "bob")
    a, b = table.propose("ada", "A"), table.propose("bob", "B")
    assert codes(table.vote("ada", a)) == ["counted"]
    assert codes(table.vote("ada", b)) == ["voted"]
    assert codes(table.vote("bob", b)) == ["counted", "term 3 split"]
    table.vote("bob", a)
    assert codes(table.vote("ada", a))[-1] == f"decided {a}"


def test_a_round_without_decision_ends_and_an_idle_group_has_no_timer() -> None:
    """The clock runs from a term's first vote; then the members that voted may vote for something else."""
    table = Table("ada", "bob", "cyd", round_ms=500)
    a, b = table.propose("ada", "A"), table.propose("bob", "B")
    assert table.machine.due_ms() is None
    table.vote("ada", a)
    assert codes(table.tick(500)) == ["term 4 timed_out"]
    assert table.machine.due_ms() is None
    assert codes(table.vote("ada", b)) == ["counted"]


def test_the_dead_are_taken_out_by_a_member_only() -> None:
    """A member that died counts for the quorum until then."""
    table = Table("ada", "bob", "cyd", quorum="all")
    chosen = table.propose("ada", "A")
    assert codes(table.say("leave", Leave, "eve", "cyd")) == ["not_member"]
    (began,) = table.say("leave", Leave, "ada", "cyd")
    assert isinstance(began, TermBegan)
    assert (began.members, began.quorum, began.member) == (2, 2, "cyd")
    table.vote("ada", chosen)
    assert codes(table.vote("bob", chosen))[-1] == f"decided {chosen}"


def test_a_join_that_is_repeated_does_not_undo_a_removal() -> None:
    """Commands may come twice; the second one is answered as the first and changes nothing."""
    table = Table("ada", "bob")
    table.say("leave", Leave, "ada", "bob")
    (again,) = table.do("join", Join("r2", "bob", "plan"))
    assert isinstance(again, TermBegan)
    assert again.repeated
    (standing,) = table.do("standing", "plan", "ada")
    assert standing.members == ("ada",)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Join("", "ann", "plan"), "bad_request_id"),
        (Join("1", "", "plan"), "bad_owner"),
        (Join("1", "ann", "/plan"), "bad_name"),
        (Join("1", "ann", "x" * 257), "bad_name"),
        (Join("1", "ann", "plan", quorum="most"), "bad_quorum"),  # type: ignore[arg-type]
        (Join("1", "ann", "plan", size_min=0), "bad_size"),
        (Join("1", "ann", "plan", size_min=101), "bad_size"),
        (Join("1", "ann", "plan", round_ms=-1), "bad_round"),
        (Leave("1", "ann", "plan", "\x00"), "bad_member"),
        (Propose("1", "ann", "plan", "x" * 16_385), "bad_value"),
        (Propose("1", "ann", "plan", "\ud800"), "bad_value"),
        (Await("1", "ann", "plan", -1), "bad_wait"),
        (Await("1", "ann", "plan", 3_600_001), "bad_wait"),
        (Await("1", "ann", "plan", 10, again=True), "forgotten"),
        (Vote("1", "ann", "plan", "p", 1), "not_member"),
    ],
)
def test_bad_input_is_refused_with_a_reason(command: Any, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind."""
    consensus = Consensus()
    method = {Join: "join", Leave: "leave", Propose: "propose", Await: "wait", Vote: "vote"}[type(command)]
    (refused,) = getattr(consensus, method)(command, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert consensus.changes() == {}


def test_limits_are_refusals_with_reasons() -> None:
    """Members, proposals, their bytes, those that wait, and groups are bounded."""
    limits = ConsensusLimits(members_max=2, proposals_max=2, open_bytes_max=10, waiters_max=1, groups_max=1, values_bytes_max=8)
    table = Table("ada", "bob", limits=limits)
    assert codes(table.say("join", Join, "cyd")) == ["members_full"]
    assert codes(table.say("propose", Propose, "ada", "x" * 11)) == ["proposals_full"]
    assert codes(table.say("propose", Propose, "ada", "x" * 9)) == ["full"]
    table.propose("ada", "A")
    table.propose("ada", "B")
    assert codes(table.say("propose", Propose, "ada", "C")) == ["proposals_full"]
    table.say("wait", Await, "eve", 10_000)
    assert codes(table.say("wait", Await, "fay", 10_000)) == ["queue_full"]
    assert codes(table.do("join", Join("other", "ada", "plan/2"))) == ["full"]
    assert codes(table.say("join", Join, "ada", size_min=2)) == ["term 2 joined"]
    table.say("leave", Leave, "bob", "bob")
    assert codes(table.say("join", Join, "bob", size_min=2)) == ["settings_differ"]
