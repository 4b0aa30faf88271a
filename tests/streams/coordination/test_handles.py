"""What who wants a task done learns from each answer, and what calls in general owe their callers; without a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.agents import AgentStanding, AnnounceAgent
from schemas.coordination_answers import RequestQueued, RequestTimedOut
from schemas.tasks import SubmitWork, WorkReturned
from streams.coordination import TaskFailed, TaskHandle, WaitRefused, WaitTimedOut, handles
from streams.coordination.waiting import Request
from streams.coordination.words import from_json, to_json
from streams.errors import BrokerError
from streams.errors import RequestTimedOut as NoAnswer
from tests.streams.coordination.pool_fakes import Answer, Channel, assigned, ended, new_session, refused, stands


async def submit(session: Any, *answers: Answer, wait: bool = True) -> TaskHandle:
    session.channel.answers["work.submit"] = [list(answers)]
    command = SubmitWork(domain="coders", request_id="t", owner="me", name="coders")
    handle = TaskHandle(session, command)
    await handle.submitted(assigned=wait)
    return handle


QUEUED: Answer = (RequestQueued.event_type, {"request_id": "t"})


async def test_a_handle_follows_its_task() -> None:
    """Each answer changes what is known; the last one ends who waits."""
    session = new_session()
    handle = await submit(session, QUEUED, wait=False)
    assert (handle.state, handle.agent) == ("waiting", "")
    waits = asyncio.create_task(handle.result())
    session.channel.tell("t", assigned("t", 7))
    assert (handle.state, handle.agent, handle.token) == ("assigned", "ann", 7)
    session.channel.tell("t", (WorkReturned.event_type, {"request_id": "t", "how": "lost"}))
    assert handle.state == "waiting"
    with pytest.raises(WaitTimedOut, match="it is waiting"):
        await handle.result(timeout_s=0.01)
    session.channel.tell("t", ended("t", 9, text='{"b":2}'))
    assert await waits == {"b": 2}
    assert await handle.result() == {"b": 2}
    assert not session.channel._listeners


async def test_a_task_is_submitted_again_as_the_same_where_no_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is not done twice; and asked after while somebody waits for its end."""
    monkeypatch.setattr(handles, "AGAIN_S", 0.01)
    monkeypatch.setattr(handles, "ASK_AFTER_S", 0.01)
    session = new_session()
    session.channel.answers["work.submit"] = [[], [QUEUED], [], [ended("t", 7)]]
    handle = TaskHandle(session, SubmitWork(domain="coders", request_id="t", owner="me", name="coders"))
    await handle.submitted(assigned=False)
    assert await handle.result() is None
    assert [(one.request_id, one.again) for one in session.channel.sent] == [("t", again) for again in (False, True, True, True)]
    session = new_session()
    session.answer_s = 0.02
    handle = TaskHandle(session, SubmitWork(domain="coders", request_id="t", owner="me", name="coders"))
    with pytest.raises(NoAnswer, match="see whether the coordination processor runs"):
        await handle.submitted(assigned=False)


async def test_a_handle_says_how_its_task_ended_otherwise() -> None:
    """Given up, cancelled, timed out, refused."""
    for how in ("given_up", "cancelled"):
        handle = await submit(new_session(), assigned("t", 7), ended("t", 7, how, "oh"))
        with pytest.raises(TaskFailed, match=f"{how.replace('_', ' ')} after 1 attempts: oh") as failed:
            await handle.result()
        assert (failed.value.how, failed.value.error, failed.value.attempts) == (how, "oh", 1)
    with pytest.raises(WaitTimedOut, match="no agent for it within"):
        await submit(new_session(), QUEUED, (RequestTimedOut.event_type, {"request_id": "t", "waited_ms": 100}))
    with pytest.raises(WaitRefused, match="because of busy"):
        await submit(new_session(), refused("busy"))


async def test_a_handle_whose_submission_is_cancelled_cancels_its_task() -> None:
    """Nobody could wait for it any more; and an error of the reader ends who waits, not the task."""
    session = new_session()
    waits = asyncio.create_task(submit(session, QUEUED))
    await session.channel.spoken.wait()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert session.channel.kinds() == ["work.submit", "work.cancel"]
    session = new_session()
    handle = await submit(session, QUEUED, wait=False)
    waits = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    session.channel.tell("t", BrokerError("gone"))
    with pytest.raises(BrokerError):
        await waits
    session.channel.tell("t", ended("t", 7))
    assert await handle.result() is None


async def test_a_cancellation_that_comes_with_an_answer_is_not_lost() -> None:
    """`asyncio.wait_for` of Python 3.11 returns the answer then, and the block of a lost lease goes on."""
    channel = Channel()

    async def ask() -> None:
        await channel.call(AnnounceAgent(domain="d", request_id="1", owner="me", name="d", agent="a"), again_s=5, limit_s=5)

    task = asyncio.create_task(ask())
    await channel.spoken.wait()
    channel.tell("me.1", stands())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_comes_after_an_answer_waits_for_who_takes_over() -> None:
    """A request that nobody takes over keeps nothing: its listener is gone."""
    session = new_session()
    session.channel.answers["agent.announce"] = [[stands(), assigned("1", 7)]]
    asked = AnnounceAgent(domain="d", request_id="me.1", owner="me", name="d", agent="a")
    request = Request(session, asked, cancel=None, what="it")
    assert (await request.answer())[0] == AgentStanding.event_type
    heard: list[Answer] = []

    class Taker:
        def heard(self, answer: Answer) -> None:
            heard.append(answer)

    taker: Any = Taker()
    request.hand_over(taker)
    session.channel.tell("me.1", assigned("2", 8))
    assert [fields["request_id"] for _, fields in heard] == ["1", "2"]


@pytest.mark.parametrize("value", [None, 0, "", "text", "\ud800", "é", [1, {"a": None}]])
def test_payloads_survive(value: Any) -> None:
    """Any JSON value, also half a character, which UTF-8 does not have."""
    text = to_json(value)
    assert from_json(text) == value
    text.encode()


def test_a_payload_of_another_client_that_is_no_json_is_text() -> None:
    """Nothing raises where a task is taken."""
    assert from_json("do it") == "do it"
