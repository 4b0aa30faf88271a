"""The shells of elections and consensus: every command reaches its machine, every outcome becomes an event."""

from __future__ import annotations

from typing import Any

from processors.coordinating import consensus, elections
from schemas.consensus import (
    AskConsensus,
    AwaitDecision,
    CancelWait,
    ConsensusStanding,
    JoinConsensus,
    LeaveConsensus,
    ProposeValue,
    TermBegan,
    ValueDecided,
    ValueProposed,
    VoteCounted,
    VoteForProposal,
)
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from schemas.elections import (
    AskElection,
    CandidacyEnded,
    CandidacyRenewed,
    ElectionStanding,
    LeaderElected,
    RenewCandidacy,
    Resign,
    StandForElection,
    StepDown,
)
from tests.processors.coordinating.test_tables import Desk, kinds

ANN: dict[str, Any] = {"domain": "plan", "owner": "ann"}
BOB: dict[str, Any] = {"domain": "plan", "owner": "bob"}


def test_elections_from_command_to_event() -> None:
    """Each command has its answer; a question is answered to who asked only."""
    desk = Desk(elections.shell())
    stand = StandForElection(**ANN, request_id="1", name="plan/a", value="ann:80", lease_ms=1_000)
    (elected,) = desk.send(stand)
    assert elected == LeaderElected(
        **ANN,
        request_id="1",
        name="plan/a",
        value="ann:80",
        term=1,
        token=1,
        lease_ms=1_000,
        expires_ms=1_001_000,
        asked_ms=1_000_000,
    )
    assert desk.told[0][1:] == ("r0", True)
    assert kinds(desk.send(stand.model_copy(update={"again": True}))) == [LeaderElected]
    assert desk.told[0][1:] == ("r1", False)
    (queued,) = desk.send(StandForElection(**BOB, request_id="2", name="plan/a", lease_ms=1_000))
    assert (queued.primitive, queued.behind) == ("elections", ["ann"])
    assert kinds(desk.send(StepDown(**ANN, request_id="1", term=1))) == [CandidacyEnded, LeaderElected]
    assert [route for _, route, _ in desk.told] == ["r3", "r2"]
    assert kinds(desk.send(RenewCandidacy(**ANN, request_id="1"))) == [CandidacyRenewed]
    (standing,) = desk.send(AskElection(**ANN, request_id="q", name="plan/a"))
    assert isinstance(standing, ElectionStanding)
    assert (standing.leader, standing.term, standing.candidates, standing.next_owners) == ("bob", 2, 2, ["ann"])
    assert desk.told[0][1:] == ("r5", False)
    assert kinds(desk.send(Resign(**BOB, request_id="2"))) == [CandidacyEnded, LeaderElected]
    late = StandForElection(**BOB, request_id="3", name="plan/a", wait_ms=100)
    assert kinds(desk.send(late)) == [RequestQueued]
    assert kinds(desk.wait(100)) == [RequestTimedOut]
    assert kinds(desk.wait(1_000)) == [CandidacyEnded]
    (refused,) = desk.send(RenewCandidacy(**ANN, request_id="1"))
    assert (type(refused), refused.code, refused.name) == (RequestRefused, "expired", "plan/a")
    (refused,) = desk.send(late, key=b"other")
    assert refused.code == "misplaced"


def test_consensus_from_command_to_event() -> None:
    """The decision is one event for everybody, and an answer to who voted last, who waits, and who asks."""
    desk = Desk(consensus.shell())
    (began,) = desk.send(JoinConsensus(**ANN, request_id="1", name="plan/b"))
    assert (type(began), began.term, began.quorum, began.member) == (TermBegan, 1, 1, "ann")
    desk.send(JoinConsensus(**BOB, request_id="2", name="plan/b"))
    assert kinds(desk.send(ProposeValue(**ANN, request_id="p", name="plan/b", value='"é"'))) == [ValueProposed]
    assert kinds(desk.send(AwaitDecision(**ANN, request_id="w", name="plan/b", wait_ms=1_000))) == [RequestQueued]
    assert kinds(desk.send(AwaitDecision(**ANN, request_id="x", name="plan/b", wait_ms=1_000))) == [RequestQueued]
    assert kinds(desk.send(CancelWait(**ANN, request_id="x"))) == [RequestRefused]
    vote = VoteForProposal(**ANN, request_id="v", name="plan/b", proposal="p", term=2)
    assert kinds(desk.send(vote)) == [VoteCounted]
    (standing,) = desk.send(AskConsensus(**ANN, request_id="q", name="plan/b"))
    assert isinstance(standing, ConsensusStanding)
    assert (standing.members, standing.proposals, standing.votes) == (["ann", "bob"], ["p"], [1])
    assert desk.told[0][1:] == ("r7", False)
    events = desk.send(vote.model_copy(update={"owner": "bob"}))
    assert kinds(events) == [VoteCounted, ValueDecided, ValueDecided, ValueDecided]
    assert [told[1:] for told in desk.told] == [("", True), ("", True), ("r8", False), ("r3", False)]
    assert {(event.value, event.proposer, event.term, *event.voters) for event in events[1:]} == {('"é"', "ann", 2, "ann", "bob")}
    assert kinds(desk.send(LeaveConsensus(**ANN, request_id="l", name="plan/b", member="bob"))) == [TermBegan]
    assert kinds(desk.send(AskConsensus(**ANN, request_id="q", name="plan/b"))) == [ValueDecided]


def test_a_round_that_ends_by_itself_is_told_under_its_own_domain() -> None:
    """What time did has no command to take the domain from."""
    desk = Desk(consensus.shell())
    for who in (ANN, BOB):
        desk.send(JoinConsensus(**who, request_id=who["owner"], name="plan/c", round_ms=100))
    desk.send(ProposeValue(**ANN, request_id="p", name="plan/c", value="1"))
    desk.send(VoteForProposal(**ANN, request_id="v", name="plan/c", proposal="p", term=2))
    (began,) = desk.wait(100)
    assert (type(began), began.why, began.term, began.domain) == (TermBegan, "timed_out", 3, "plan")
    assert desk.told[0][1:] == ("", True)
