"""Who takes from a queue, without a broker."""

from __future__ import annotations

import asyncio

import pytest

from schemas.agents import AgentGone
from streams.coordination import WaitTimedOut, WorkQueue
from tests.streams.coordination.pool_fakes import assigned, new_session, stands

GONE = (AgentGone.event_type, {"request_id": "-"})


async def test_who_is_lost_while_it_waits_asks_anew() -> None:
    """It has nothing to lose."""
    session = new_session()
    session.channel.answers["agent.announce"] = [[stands(), GONE], [stands(request_id="me.2")]]
    taking = asyncio.create_task(WorkQueue(session, "coders").take(lease_s=60))
    while len(session.channel.sent) < 2:
        session.channel.spoken.clear()
        await session.channel.spoken.wait()
    session.channel.tell("me.2", assigned("1", 7))
    task = await asyncio.wait_for(taking, 5)
    assert (task.id, session.channel.kinds()) == ("1", ["agent.announce"] * 3)
    assert [one.healthy for one in session.channel.sent] == [True, True, False]


async def test_who_takes_nothing_leaves() -> None:
    """Having said that it takes no more, so nothing is lost on its way to it."""
    session = new_session()
    session.channel.answers |= {"agent.announce": [[stands()], [stands()]], "agent.leave": [[GONE]]}
    with pytest.raises(WaitTimedOut):
        await WorkQueue(session, "coders").take(wait_s=0, lease_s=60)
    assert session.channel.kinds() == ["agent.announce", "agent.announce", "agent.leave"]
    assert [getattr(one, "healthy", None) for one in session.channel.sent] == [True, False, None]
    assert not session.held


async def test_what_comes_just_as_the_time_is_over_is_taken() -> None:
    """It would count as an attempt otherwise, and nobody had it."""
    session = new_session()
    session.channel.answers["agent.announce"] = [[stands()], [assigned("1", 7), stands(tasks=1)]]
    task = await asyncio.wait_for(WorkQueue(session, "coders").take(wait_s=0, lease_s=60), 5)
    assert task.id == "1"
