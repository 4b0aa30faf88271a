"""An outage of all workers that is longer than leases: what the pages of locks, leaders and work say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from schemas.coordination import RenewLock
from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import AgentLost, LeadershipLost, LockLost, LockRefused
from streams.coordination.leases import Held, Lease
from tests.e2e.leaders_trial import judge_election
from tests.e2e.lock_trial import LockTrial, replayed
from tests.e2e.work_trial import judge

LEASE_S = 2.0
LONG_S = 600.0
LIMIT_S = 120.0

L = TypeVar("L", bound=Lease)


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[LockTrial]:
    with LockTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


@pytest.fixture
async def mesh(trial: LockTrial) -> AsyncIterator[Mesh]:
    await trial.begin()
    async with trial.mesh("a") as made, asyncio.timeout(LIMIT_S):
        yield made


def hold(block: Held[L]) -> tuple[asyncio.Future[L], asyncio.Task[None]]:
    """Stay in a block until it is lost; return what is had when it is entered, and the task."""
    has: asyncio.Future[L] = asyncio.get_running_loop().create_future()

    async def run() -> None:
        async with block as lease:
            assert lease.held, "nobody is told of a lease that is over"
            has.set_result(lease)
            await asyncio.Event().wait()

    return has, asyncio.create_task(run())


async def test_holders_give_up_and_others_have_it_when_a_worker_is_back(trial: LockTrial, mesh: Mesh) -> None:
    """Each block is cancelled after a lease without an answer; then what they had goes on, and a renewal in the log counts."""
    channel = mesh.session.channel
    election, pool = mesh.election("out/b"), mesh.agents("out/c")
    first, holding = hold(mesh.lock("out/a", owner="first", lease_s=LEASE_S))
    led, leading = hold(election.lead(owner="first", lease_s=LEASE_S))
    _, serving = hold(pool.announce("ann", lease_s=LEASE_S))
    handle = await pool.assign("a task")
    token = (await first).token
    assert (await led).term == 1
    has, next_holding = hold(mesh.lock("out/a", owner="next", lease_s=LEASE_S))
    leads, next_leading = hold(election.lead(owner="next", lease_s=LEASE_S))
    by_hand = await mesh.lock("out/hand", owner="hand", lease_s=LEASE_S, renew=False).acquire()

    await asyncio.to_thread(trial.kill_worker)
    renewal = RenewLock(domain="out", grant=by_hand.id, owner="hand", lease_ms=int(LONG_S * 1000))
    await channel.send(renewal, channel.new_id())
    lost = ((holding, LockLost), (leading, LeadershipLost), (serving, AgentLost))
    for task, error in lost:
        with pytest.raises(error):
            await task
    await by_hand.lost.wait()  # it cannot know that its renewal counts
    assert not has.done()
    assert not leads.done()

    trial.start_worker()
    assert (await has).token > token
    assert (await leads).term > 1
    async with pool.announce("bob", lease_s=LONG_S) as bob, await bob.task() as work:
        assert work.attempt > 1, "an attempt whose agent was lost counts"
        work.result = "done"
    assert await handle.result() == "done"
    with pytest.raises(LockRefused) as refused:
        await mesh.lock("out/hand", owner="somebody", wait_s=0).acquire()
    assert refused.value.code == "busy"
    for task in (next_holding, next_leading):
        task.cancel()
    await asyncio.gather(next_holding, next_leading, return_exceptions=True)
    events = await asyncio.to_thread(trial.events)
    assert replayed(events) >= 3
    assert judge_election(events, "out/b")[0] == "first"
    assert judge(events, "out/c")
