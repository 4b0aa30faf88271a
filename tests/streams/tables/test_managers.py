"""Resource managers: votes, decisions, and what is said again, against commands of the coordinator that a test writes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.events import Event
from schemas.transactions import (
    COMMANDS_TOPIC,
    MANAGERS_TOPIC,
    DecideManager,
    ParticipantDone,
    ParticipantVoted,
    PrepareManager,
)
from streams.client import Mesh
from streams.errors import TopicMissing
from streams.tables import Heuristic, Part, TransactionRefused, VoteAgainst
from streams.tables import managers as module
from streams.testing import InMemoryLog

WAIT_S = 20.0


class Payments:
    """A manager that writes down what it is called for, and what it raises then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.parts: list[Part] = []
        self.raises: dict[str, Exception] = {}
        self.held: dict[str, asyncio.Event] = {}

    def functions(self) -> dict[str, Any]:
        def function(name: str) -> Any:
            async def call(part: Part) -> None:
                if name in self.held:
                    await self.held[name].wait()
                self.calls.append((name, part.txn, part.payload))
                self.parts.append(part)
                if name in self.raises:
                    raise self.raises.pop(name)

            return call

        return {name: function(name) for name in ("prepare", "commit", "abort")}


class Conversation:
    """The coordinator's side."""

    def __init__(self, mesh: Mesh, log: InMemoryLog) -> None:
        self.mesh, self.log = mesh, log

    async def prepare(self, txn: str = "t", manager: str = "pay", payload: str = '{"amount": 4}') -> None:
        fields: dict[str, Any] = {"participants": ["shop", f"manager:{manager}"], "timeout_ms": 500, "at_ms": 77}
        await self.mesh.publish(PrepareManager(manager=manager, txn=txn, owner="ann", payload=payload, **fields))

    async def decide(self, *, commit: bool, txn: str = "t", manager: str = "pay", payload: str = "") -> None:
        await self.mesh.publish(DecideManager(manager=manager, txn=txn, commit=commit, reason="because", payload=payload))

    async def answers(self, count: int) -> list[Any]:
        """Return all that was answered, once it is so much."""
        async with asyncio.timeout(WAIT_S):
            while len(found := self.log.events(COMMANDS_TOPIC)) < count:  # noqa: ASYNC110 - the log has no event for it
                await asyncio.sleep(0)
        return list(found)


@pytest.fixture
def log() -> InMemoryLog:
    """A log with the coordinator's topics."""
    log = InMemoryLog()
    log.create_topic(MANAGERS_TOPIC, partitions=2)
    log.create_topic(COMMANDS_TOPIC, partitions=1)
    return log


def short(events: list[Event]) -> list[tuple[str, bool]]:
    """Return votes and dones in short."""
    return [(type(one).__name__, one.commit) for one in events if isinstance(one, ParticipantVoted | ParticipantDone)]


async def test_a_manager_votes_and_carries_out(log: InMemoryLog) -> None:
    """Its vote names all participants and when it was asked; the decision is carried out with the payload, and told to be."""
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()) as manager:
        said = Conversation(mesh, log)
        await said.prepare()
        (vote,) = await said.answers(1)
        assert (vote.txn, vote.participant, vote.commit, vote.at_ms) == ("t", "manager:pay", True, 77)
        assert (vote.owner, vote.participants, vote.timeout_ms) == ("ann", ["shop", "manager:pay"], 500)
        await said.decide(commit=True)
        *_, done = await said.answers(2)
        assert (done.txn, done.participant, done.commit) == ("t", "manager:pay", True)
        assert pay.calls == [("prepare", "t", {"amount": 4}), ("commit", "t", {"amount": 4})]
        assert (manager.prepared, manager.committed, manager.failed) == (1, 1, 0)


async def test_what_is_said_again_calls_nothing_again(log: InMemoryLog) -> None:
    """Questions and decisions come more than once: the answer is the same, the functions ran once."""
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        for _ in range(2):
            await said.prepare()
        await said.answers(2)
        for _ in range(2):
            await said.decide(commit=True)
        await said.prepare()
        answers = await said.answers(5)
    assert short(answers) == [("ParticipantVoted", True)] * 2 + [("ParticipantDone", True)] * 3
    assert [call[0] for call in pay.calls] == ["prepare", "commit"]


async def test_an_abort_gives_the_promise_back(log: InMemoryLog) -> None:
    """The function learns the reason."""
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()) as manager:
        said = Conversation(mesh, log)
        await said.prepare()
        await said.decide(commit=False)
        answers = await said.answers(2)
        assert manager.aborted == 1
    assert short(answers) == [("ParticipantVoted", True), ("ParticipantDone", False)]
    assert (pay.calls[-1][0], pay.parts[-1].reason) == ("abort", "because")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (VoteAgainst("no money", code="broke"), "broke", "no money"),
        (VoteAgainst("no money"), "refused", "no money"),
        (ZeroDivisionError("by zero\nand on"), "failed", "ZeroDivisionError: by zero and on"),
    ],
)
async def test_a_manager_that_cannot_promise_votes_against(log: InMemoryLog, error: Exception, code: str, reason: str) -> None:
    """By `VoteAgainst`, or by anything else that it raises; there is nothing to give back."""
    pay = Payments()
    pay.raises["prepare"] = error
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()) as manager:
        said = Conversation(mesh, log)
        await said.prepare()
        (vote,) = await said.answers(1)
        assert (vote.commit, vote.code, vote.reason, manager.refused) == (False, code, reason, 1)
        await said.decide(commit=False)
        answers = await said.answers(2)
    assert short(answers)[-1] == ("ParticipantDone", False)
    assert [call[0] for call in pay.calls] == ["prepare"]


async def test_a_payload_that_is_no_json_is_voted_against(log: InMemoryLog) -> None:
    """Whoever enlisted it hears of it; the manager goes on."""
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        await said.prepare(payload="{")
        await said.decide(commit=False, payload="{")
        answers = await said.answers(2)
    assert short(answers) == [("ParticipantVoted", False), ("ParticipantDone", False)]
    assert pay.calls == []


async def test_a_commit_that_raises_is_done_when_it_is_told_again(log: InMemoryLog) -> None:
    """Nothing is said to be done that was not."""
    pay = Payments()
    pay.raises["commit"] = OSError("no connection")
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()) as manager:
        said = Conversation(mesh, log)
        await said.prepare()
        await said.decide(commit=True)
        await said.decide(commit=True)
        answers = await said.answers(2)
        assert manager.failed == 1
    assert short(answers) == [("ParticipantVoted", True), ("ParticipantDone", True)]
    assert [call[0] for call in pay.calls] == ["prepare", "commit", "commit"]


async def test_a_heuristic_outcome_is_told_as_it_is(log: InMemoryLog) -> None:
    """The coordinator learns what was done, and why."""
    pay = Payments()
    pay.raises["abort"] = Heuristic("paid out at night", committed=True)
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        await said.prepare()
        await said.decide(commit=False)
        await said.decide(commit=False)
        answers = await said.answers(3)
    assert short(answers)[1:] == [("ParticipantDone", True)] * 2
    assert answers[1].reason == "paid out at night"


async def test_after_a_crash_decisions_come_with_their_payload(log: InMemoryLog) -> None:
    """A new process knows nothing: it carries out what it is told, with what the coordinator kept."""
    first, second = Payments(), Payments()
    async with log.connect() as mesh:
        said = Conversation(mesh, log)
        async with mesh.resource_manager("pay", **first.functions()):
            await said.prepare()
            await said.prepare(txn="u")
            await said.answers(2)
        await said.decide(commit=True, payload='{"amount": 4}')
        await said.decide(commit=False, txn="u")
        async with mesh.resource_manager("pay", **second.functions()):
            answers = await said.answers(4)
    assert sorted(short(answers)[2:]) == [("ParticipantDone", False), ("ParticipantDone", True)]
    assert sorted(second.calls) == [("abort", "u", None), ("commit", "t", {"amount": 4})]


async def test_one_transaction_waits_for_its_vote_others_do_not(log: InMemoryLog) -> None:
    """A decision never overtakes the function that promises; other transactions go on meanwhile."""
    pay = Payments()
    slow = pay.held["prepare"] = asyncio.Event()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        await said.prepare()
        await said.decide(commit=False)
        await said.decide(commit=True, txn="u")
        (done,) = await said.answers(1)
        assert (done.txn, pay.calls) == ("u", [("commit", "u", None)])
        slow.set()
        await said.answers(3)
    assert [call[0] for call in pay.calls] == ["commit", "prepare", "abort"]


async def test_a_manager_hears_of_its_own_only(log: InMemoryLog) -> None:
    """What others are asked on the same partitions is none of its business."""
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        for name in ("mail", "stock", "pay"):
            await said.prepare(manager=name, txn=name)
        (vote,) = await said.answers(1)
    assert vote.txn == "pay"
    assert len(pay.calls) == 1


async def test_what_is_remembered_is_bounded(log: InMemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that the functions are called again, which they have to bear."""
    monkeypatch.setattr(module, "REMEMBERED_MAX", 1)
    pay = Payments()
    async with log.connect() as mesh, mesh.resource_manager("pay", **pay.functions()):
        said = Conversation(mesh, log)
        for number, txn in enumerate(("t", "u", "t")):
            await said.decide(commit=True, txn=txn)
            await said.answers(number + 1)
    assert [call[1] for call in pay.calls] == ["t", "u", "t"]


async def test_without_a_coordinator_it_is_said_who_makes_the_topic() -> None:
    """The error names the worker to start."""
    async with InMemoryLog().connect() as mesh:
        with pytest.raises(TopicMissing, match="antiphon worker two-phase-commit"):
            await mesh.resource_manager("pay", **Payments().functions()).open()


async def test_a_bad_name_is_refused_at_once() -> None:
    """Before anything is asked."""
    async with InMemoryLog().connect() as mesh:
        with pytest.raises(TransactionRefused, match="the manager"):
            mesh.resource_manager("", **Payments().functions())
