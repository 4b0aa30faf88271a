"""The shell of pools: every command reaches its machine, every outcome becomes an event."""

from __future__ import annotations

from typing import Any

from processors.coordinating import pools
from processors.core.coordination.strategies import Match
from schemas.agents import (
    AgentGone,
    AgentStanding,
    AnnounceAgent,
    AskPool,
    DrainAgent,
    LeavePool,
    PoolStanding,
)
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from schemas.tasks import CancelWork, FinishWork, ReturnWork, SubmitWork, WorkAssigned, WorkEnded, WorkReturned
from tests.processors.coordinating.test_tables import Desk, kinds

ANN: dict[str, Any] = {"domain": "coders", "owner": "ann", "name": "coders/a"}
BOSS: dict[str, Any] = {"domain": "coders", "owner": "boss"}
TASK: dict[str, Any] = {**BOSS, "name": "coders/a"}


def test_a_task_from_command_to_event() -> None:
    """Each command has its answer; the agent and who wants it done are told on their own routes, everybody once."""
    desk = Desk(pools.shell())
    announce = AnnounceAgent(**ANN, request_id="A", agent="ann", capabilities=["gpu", "c"], capacity=2, lease_ms=1_000)
    (standing,) = desk.send(announce)
    assert standing == AgentStanding(
        **ANN,
        request_id="A",
        agent="ann",
        capabilities=["c", "gpu"],
        capacity=2,
        load=0,
        tasks=0,
        healthy=True,
        draining=False,
        lease_ms=1_000,
        expires_ms=1_001_000,
    )
    submit = SubmitWork(**TASK, request_id="1", payload='"é"', needs=["gpu"], attempt_ms=500, priority=3)
    assigned, copy = desk.send(submit)
    assert assigned == WorkAssigned(
        **TASK,
        request_id="1",
        agent="ann",
        agent_id="A",
        token=1 << 20,
        attempt=1,
        weight=1,
        payload='"é"',
        asked_ms=1_000_000,
        expires_ms=1_000_500,
    )
    assert copy.payload == ""
    assert [told[1:] for told in desk.told] == [("r0", True), ("r1", False)]
    assert kinds(desk.send(submit.model_copy(update={"again": True}))) == [WorkAssigned]
    assert desk.told[0][1:] == ("r2", False)
    returned = desk.send(ReturnWork(**BOSS | {"owner": "ann"}, request_id="1", token=assigned.token, error="oh", delay_ms=100))
    assert kinds(returned) == [WorkReturned] * 2
    assert (returned[0].how, returned[0].error, returned[0].again_ms) == ("failed", "oh", 1_000_100)
    (assigned, _) = desk.wait(100)
    assert (assigned.attempt, assigned.domain) == (2, "coders"), "what time did is told under the pool's own domain"
    ended = desk.send(FinishWork(**BOSS | {"owner": "ann"}, request_id="1", token=assigned.token, result="42"))
    assert kinds(ended) == [WorkEnded] * 2
    assert (ended[0].how, ended[0].text, ended[0].agent, ended[0].attempt) == ("finished", "42", "ann", 2)
    assert [told[1:] for told in desk.told] == [("r4", True), ("r2", False)]
    assert kinds(desk.wait(1_000)) == [AgentGone]
    (refused,) = desk.send(announce.model_copy(update={"again": True}))
    assert (type(refused), refused.code, refused.primitive) == (RequestRefused, "expired", "pools")


def test_agents_from_command_to_event() -> None:
    """Heartbeats are answered where they come from, drains are told, and a question to who asks only."""
    desk = Desk(pools.shell())
    announce = AnnounceAgent(**ANN, request_id="A", agent="ann")
    desk.send(announce)
    desk.send(announce.model_copy(update={"again": True, "listens": False}))
    assert desk.told[0][1:] == ("r1", False)
    assert kinds(desk.send(DrainAgent(**TASK, request_id="d", agent="ann"))) == [AgentStanding] * 2
    assert [told[1:] for told in desk.told] == [("r0", True), ("r2", False)]
    (queued,) = desk.send(SubmitWork(**TASK, request_id="1", wait_ms=100))
    assert (type(queued), queued.primitive, queued.behind) == (RequestQueued, "pools", [])
    (standing,) = desk.send(AskPool(**TASK, request_id="q"))
    assert isinstance(standing, PoolStanding)
    assert (standing.agents, standing.states, standing.capabilities) == (["ann"], ["draining"], [[]])
    assert (standing.count, standing.waiting) == (1, 1)
    assert desk.told[0][1:] == ("r4", False)
    assert kinds(desk.wait(100)) == [RequestTimedOut]
    desk.send(SubmitWork(**TASK, request_id="2"))
    told = desk.send(DrainAgent(**TASK, request_id="d", agent="ann", draining=False))
    assert kinds(told) == [AgentStanding, AgentStanding, WorkAssigned, WorkAssigned]
    assert kinds(desk.send(CancelWork(**BOSS, request_id="2"))) == [WorkEnded] * 3
    assert kinds(desk.send(LeavePool(**BOSS | {"owner": "ann"}, request_id="A"))) == [AgentGone]
    (refused,) = desk.send(AskPool(**TASK, request_id="q"), key=b"other")
    assert refused.code == "misplaced"


def test_a_strategy_of_ones_own_and_the_key_of_hashing() -> None:
    """Both come from the command to the machine."""

    def by_key(match: Match) -> float:
        return 0 if match.agent == match.key else 1

    desk = Desk(pools.shell(strategies={"by_key": by_key}))
    for name in ("ann", "bob"):
        desk.send(AnnounceAgent(**ANN, request_id=name, agent=name, capacity=9))
    for key in ("bob", "ann", "bob"):
        (assigned, _) = desk.send(SubmitWork(**TASK, request_id=f"{desk.offset}", strategy="by_key", hash_key=key))
        assert assigned.agent == key
    homes = {desk.send(SubmitWork(**TASK, request_id=f"h{n}", strategy="hash", hash_key="k"))[0].agent for n in range(4)}
    assert len(homes) == 1
    (refused,) = desk.send(SubmitWork(**TASK, request_id="x", strategy="luck"))
    assert refused.code == "bad_strategy"
