"""What an agent and its tasks learn from each answer, without a broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.agents import AgentGone, AnnounceAgent
from schemas.tasks import WorkReturned
from streams.coordination import Agent, AgentLost, Held, TaskLost, WaitRefused, WaitTimedOut, waiting
from streams.coordination.pools import announced
from tests.streams.coordination.pool_fakes import Answer, assigned, ended, new_session, refused, returned, stands


async def came(session: Any, *answers: Answer, **options: Any) -> Agent:
    """Announce an agent that is answered so."""
    session.channel.answers["agent.announce"] = [[stands(), *answers]]
    return await announced(session, "coders", name="ann", lease_s=60, **options)


def tell(agent: Any, answer: Answer) -> None:
    agent._channel.tell(agent.id, answer)


async def test_tasks_that_come_with_the_answer_to_the_announcement_are_not_missed() -> None:
    """Both may be read at once, before the announcement returns."""
    agent = await came(new_session(), assigned("1", 7, '{"a":1}'))
    task = await agent.task(wait_s=1)
    assert (task.id, task.token, task.payload) == ("1", 7, {"a": 1})
    assert task.guard() == (("fence", b"7 task:1"),)


async def test_a_task_that_is_told_twice_comes_once_and_a_larger_token_ends_the_attempt_before() -> None:
    """So it may be told again where it could have been missed."""
    agent = await came(new_session())
    for token in (7, 7, 9, 7):
        tell(agent, assigned("1", token))
    with pytest.raises(WaitTimedOut):
        [await agent.task(wait_s=0.01) for _ in range(2)]
    (task,) = agent.tasks
    assert task.token == 9
    tell(agent, assigned("1", 9))
    assert task.held


@pytest.mark.parametrize("how", ["done", "failed", "taken_back"])
async def test_an_attempt_that_is_over_does_not_begin_again_where_it_is_told_again(how: str) -> None:
    """As a worker that takes over does, which carries out what the dead one had told and not committed."""
    session = new_session()
    agent = await came(session, assigned("1", 7))
    task = await agent.task(wait_s=1)
    if how == "done":
        session.channel.answers["work.finish"] = [[ended("1", 7)]]
        await task.done()
    elif how == "failed":
        session.channel.answers["work.return"] = [[returned("1", 7, "failed")]]
        await task.fail("once")
    else:
        tell(agent, returned("1", 7, "overdue"))
    tell(agent, assigned("1", 7))
    with pytest.raises(WaitTimedOut):
        await agent.task(wait_s=0.01)
    tell(agent, assigned("1", 9))
    assert (await agent.task(wait_s=1)).token == 9


async def test_a_heartbeat_that_knows_of_other_tasks_asks_for_them() -> None:
    """What was assigned while answers were not read is told again, to where they are read now."""
    session = new_session()
    agent = await came(session)
    session.channel.answers["agent.announce"] = [[stands(tasks=0)], [stands(tasks=1)], [stands(tasks=1), assigned("1", 7)]]
    await agent.renew()
    assert session.channel.kinds() == ["agent.announce"] * 2
    await agent.renew()
    *_, beat, asked = session.channel.sent
    assert isinstance(beat, AnnounceAgent)
    assert isinstance(asked, AnnounceAgent)
    assert (beat.again, beat.listens, beat.resume) == (True, False, False)
    assert (asked.again, asked.listens, asked.resume) == (True, True, True)
    assert (await agent.task(wait_s=1)).id == "1"


async def test_what_is_not_allowed_is_not_said_again_by_the_next_heartbeat() -> None:
    """An update that is refused leaves everything as it was; one that is not is in each heartbeat."""
    session = new_session()
    agent = await came(session, assigned("1", 7))
    session.channel.answers["agent.announce"] = [[refused("bad_capacity")], [stands(tasks=1)], [stands(tasks=1)]]
    with pytest.raises(WaitRefused):
        await agent.update(capacity=-1)
    await agent.update(capabilities="gpu", healthy=False)
    await agent.renew()
    said = [(one.capacity, one.capabilities, one.healthy) for one in session.channel.sent[1:]]
    assert said == [(-1, [], True), (1, ["gpu"], False), (1, ["gpu"], False)]
    assert agent.held


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (returned("1", 7, "overdue"), "took too long"),
        (ended("1", 7, "given_up"), "took too long"),
        (ended("1", 7, "cancelled"), "nobody wants it done"),
        ((AgentGone.event_type, {"request_id": "me.1"}), "was lost: the processor ended its lease"),
    ],
)
async def test_a_task_that_is_lost_cancels_its_block(answer: Answer, why: str) -> None:
    """Whatever takes it away; what is said about another attempt does not."""
    agent = await came(new_session(), assigned("1", 7))
    task = await agent.task()

    async def body() -> None:
        async with task:
            tell(agent, ended("1", 6, "cancelled"))
            assert task.held
            tell(agent, answer)
            await asyncio.Event().wait()

    with pytest.raises(TaskLost, match=why):
        await asyncio.create_task(body())
    assert not agent.tasks
    with pytest.raises(TaskLost):
        task.guard()
    with pytest.raises(TaskLost):
        await task.done()


async def test_who_cancels_the_block_of_a_lost_task_besides_is_heard() -> None:
    """The loss takes back its own cancellation only."""
    agent = await came(new_session(), assigned("1", 7))

    async def body() -> None:
        async with await agent.task():
            tell(agent, ended("1", 7, "cancelled"))
            running = asyncio.current_task()
            assert running is not None
            running.cancel()
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())


async def test_an_agent_that_is_lost_ends_its_block_and_those_of_its_tasks() -> None:
    """One cancellation each, also where both blocks are in one task; who waits for a task is told."""
    session = new_session()
    agent = await came(session, assigned("1", 7))

    async def body() -> None:
        async with Held(lambda: asyncio.sleep(0, agent)), await agent.task():
            tell(agent, (AgentGone.event_type, {"request_id": agent.id}))
            await asyncio.Event().wait()

    with pytest.raises(AgentLost, match="the processor ended its lease"):
        await asyncio.wait_for(body(), 5)
    with pytest.raises(AgentLost):
        await agent.task()


async def test_a_block_ends_its_task_as_it_went() -> None:
    """Done with the result, failed with what it raised, given back where somebody else cancelled it."""
    session = new_session()
    agent = await came(session, *(assigned(f"{number}", 7 + number) for number in range(5)))
    session.channel.answers |= {
        "work.finish": [[ended("0", 7)], [refused("bad_result")], [ended("4", 11)]],
        "work.return": [[(WorkReturned.event_type, {"request_id": "-"})] for _ in range(3)],
    }
    async with await agent.task() as task:
        task.result = [1]
    with pytest.raises(ZeroDivisionError):
        async with await agent.task():
            _ = 1 / 0
    with pytest.raises(WaitRefused, match="bad_result"):
        async with await agent.task():
            pass

    async def cancelled() -> None:
        async with await agent.task():
            running = asyncio.current_task()
            assert running is not None
            running.cancel()
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(cancelled())
    async with await agent.task() as task:
        await task.done("in the block")
    said = [(one.request_id, getattr(one, "result", getattr(one, "error", ""))) for one in session.channel.sent[1:]]
    assert said == [
        ("0", "[1]"),
        ("1", "ZeroDivisionError: division by zero"),
        ("2", ""),
        ("2", "WaitRefused: attempt 1 at task 2 of coders (token 9) was refused (bad_result): because of bad_result"),
        ("3", ""),
        ("4", '"in the block"'),
    ]
    assert [one.failed for one in session.channel.sent if hasattr(one, "failed")] == [True, True, False]
    assert not agent.tasks


async def test_an_agent_that_leaves_gives_back_what_it_holds_and_gets_nothing_meanwhile() -> None:
    """It says first that it takes no more, hears what came before that, and gives all back."""
    session = new_session()
    agent = await came(session, assigned("1", 7))
    late = assigned("2", 8)
    session.channel.answers |= {
        "agent.announce": [[stands(tasks=2)]],
        "work.return": [[(WorkReturned.event_type, {"request_id": "-"})]] * 2,
        "agent.leave": [[(AgentGone.event_type, {"request_id": agent.id})]],
    }
    tell(agent, late)
    await agent.release()
    assert session.channel.kinds()[1:] == ["agent.announce", "work.return", "work.return", "agent.leave"]
    stop = session.channel.sent[1]
    assert isinstance(stop, AnnounceAgent)
    assert not stop.healthy
    assert not session.held


async def test_who_came_for_one_task_leaves_with_it_however_it_ends() -> None:
    """Done, or taken away."""
    for end in ("done", "lost"):
        session = new_session()
        agent = await came(session, assigned("1", 7), once=True)
        task = await agent.task()
        if end == "done":
            session.channel.answers["work.finish"] = [[ended("1", 7)]]
            await task.done()
        else:
            tell(agent, ended("1", 7, "cancelled"))
            await agent.left()
        assert session.channel.kinds()[-1] == "agent.leave"
        assert not session.held


async def test_serving_goes_on_after_a_failure_and_ends_when_drained() -> None:
    """A handler that raises fails its task only; when no more come the rest is finished."""
    session = new_session()
    agent = await came(session, assigned("1", 7), assigned("2", 8))
    session.channel.answers |= {
        "work.finish": [[ended("2", 8)]],
        "work.return": [[(WorkReturned.event_type, {"request_id": "1"})]],
    }

    started, gate = asyncio.Event(), asyncio.Event()

    async def handler(task: Any) -> int:
        if task.id == "1":
            raise ValueError(task.id)
        started.set()
        await gate.wait()
        return 2

    serving = asyncio.create_task(agent.serve(handler))
    await started.wait()
    tell(agent, stands(draining=True))
    done, _ = await asyncio.wait([serving], timeout=0.01)
    assert not done
    gate.set()
    await asyncio.wait_for(serving, 5)
    assert sorted(session.channel.kinds()[1:]) == ["work.finish", "work.return"]


async def test_who_stops_serving_gives_back_what_it_was_doing() -> None:
    """Its handlers are cancelled, and it waits for them."""
    session = new_session()
    agent = await came(session, assigned("1", 7))
    session.channel.answers["work.return"] = [[(WorkReturned.event_type, {"request_id": "1"})]]
    started = asyncio.Event()

    async def handler(_: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    serving = asyncio.create_task(agent.serve(handler))
    await started.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert [one.failed for one in session.channel.sent if hasattr(one, "failed")] == [False]


async def test_an_update_is_not_undone_by_a_heartbeat_that_was_not_answered() -> None:
    """What is said again while no answer comes is what is so by then."""
    session = new_session()
    session.channel.answers["agent.announce"] = [[stands(lease_ms=300)]]
    agent = await announced(session, "coders", name="ann", lease_s=0.3)
    session.channel.spoken.clear()
    await session.channel.spoken.wait()  # a heartbeat, which gets no answer
    session.channel.answers["agent.announce"] = [[stands(lease_ms=60_000)]]
    await agent.update(healthy=False)
    updated = len(session.channel.sent)
    await asyncio.wait([asyncio.ensure_future(agent.lost.wait())], timeout=0.1)  # twice as long as until it is said again
    assert [one.healthy for one in session.channel.sent[updated - 1 :]] == [False] * (len(session.channel.sent) - updated + 1)
    agent.end()


async def test_an_announcement_that_was_answered_late_is_renewed_before_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease counts from the first try; and where it was over by then, it is announced anew."""
    session = new_session()
    session.channel.answers["agent.announce"] = [[], [stands()], [refused("expired")], [stands()], [stands()]]
    monkeypatch.setattr(waiting, "AGAIN_S", 0.05)
    agent = await announced(session, "coders", name="ann", lease_s=0.1)
    announcements = [(one.again, one.listens) for one in session.channel.sent]
    assert announcements == [(False, True), (True, True), (True, False), (False, True)]
    assert agent.held
