"""Semaphores, barriers and latches on a real broker, with kill -9 of the worker and of clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import BarrierBroken, Passed, PermitsLost, Semaphore, WaitRefused, WaitTimedOut
from tests.e2e.sync_trial import SyncTrial, most_out

LEASE_S = 2.0
LATE_S = 1.5
"""After a lease's end, on a loaded machine; the benchmark has the number for an idle one."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[SyncTrial]:
    with SyncTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


async def queued(semaphore: Semaphore, count: int) -> None:
    """Wait until so many requests wait: one that only tries is told how many do."""
    async with asyncio.timeout(30):
        while True:
            with pytest.raises(WaitRefused) as refused:
                async with semaphore.permits(2, wait_s=0):
                    pass
            if f"and {count} requests wait" in refused.value.reason:
                return


async def test_permits_hold_through_a_kill_of_the_worker(trial: SyncTrial) -> None:
    """Held permits stay held, who waited goes on waiting in its place, and never are more out than there are."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        gpu = mesh.semaphore("gpu/a", capacity=3)
        order: list[str] = []

        async def one(name: str, permits: int) -> None:
            async with gpu.permits(permits, owner=name):
                order.append(name)

        async with gpu.permits(2, owner="first", lease_s=60) as first:
            waiting = [asyncio.create_task(one("second", 2))]
            await queued(gpu, 1)
            waiting.append(asyncio.create_task(one("third", 1)))
            await queued(gpu, 2)
            await trial.replace()
            with pytest.raises(WaitTimedOut):
                async with gpu.permits(3, wait_s=0.3):
                    pass
            assert first.held
            await first.renew()
            assert order == []
        async with asyncio.timeout(30):
            await asyncio.gather(*waiting)
        assert order == ["second", "third"]
        assert await gpu.set_capacity(1) == 0
        with pytest.raises(WaitRefused, match=r"too_many.*there are 1"):
            async with gpu.permits(2):
                pass
    assert most_out(trial.events(), "gpu/a", 3) == 3


async def test_permits_of_a_killed_client_come_back_at_the_end_of_its_lease(trial: SyncTrial) -> None:
    """Also where the worker was killed meanwhile; the next grant's token is larger."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        holder, said = await asyncio.to_thread(trial.client, "hold", "gpu/b", "2", "2", f"{LEASE_S}", says="held")
        gpu = mesh.semaphore("gpu/b", capacity=2)
        with pytest.raises(WaitTimedOut):
            async with gpu.permits(1, wait_s=2 * LEASE_S):  # it is renewed as long as it lives
                pass
        holder.kill()
        killed = time.monotonic()
        async with gpu.permits(1) as permits:
            assert time.monotonic() - killed < LEASE_S + LATE_S
            assert permits.token > int(said.split()[1])
        holder, said = await asyncio.to_thread(trial.client, "hold", "gpu/b", "2", "2", f"{LEASE_S}", says="held")
        holder.kill()
        await trial.replace()
        async with asyncio.timeout(30), gpu.permits(2) as permits:
            assert permits.token > int(said.split()[1])
    assert most_out(trial.events(), "gpu/b", 2) == 2


async def test_a_holder_that_does_not_renew_is_cancelled(trial: SyncTrial) -> None:
    """The body ends with the lease, as PermitsLost."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        with pytest.raises(PermitsLost, match="1 of semaphore gpu/c"):
            async with mesh.semaphore("gpu/c", capacity=1).permits(lease_s=0.5, renew=False):
                await asyncio.Event().wait()


async def test_no_more_permits_than_there_are_while_workers_are_killed(trial: SyncTrial) -> None:
    """Twelve tasks of three meshes want one or two of three permits; the worker is killed twice in the midst of it."""
    await trial.begin()
    async with trial.mesh("a") as a, trial.mesh("b") as b, trial.mesh("c") as c:
        out = done = 0
        marks = {30: asyncio.Event(), 70: asyncio.Event()}

        async def work(mesh: Mesh, number: int) -> None:
            nonlocal out, done
            for _ in range(10):
                async with mesh.semaphore("gpu/d", capacity=3).permits(1 + number % 2, lease_s=60):
                    out += 1 + number % 2
                    assert out <= 3
                    await asyncio.sleep(0)
                    out -= 1 + number % 2
                done += 1
                if done in marks:
                    marks[done].set()

        async with asyncio.TaskGroup() as group:
            for number in range(12):
                group.create_task(work((a, b, c)[number % 3], number))
            for mark in marks.values():
                await mark.wait()
                await trial.replace()
        assert done == 120
    assert most_out(trial.events(), "gpu/d", 3) == 3


async def test_a_barrier_trips_once_for_all_through_a_kill_of_the_worker(trial: SyncTrial) -> None:
    """Two wait, the worker is killed, the third arrives: all pass in one generation, each with a place of its own."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        barrier = mesh.barrier("phase/a", parties=3)

        def party(name: str) -> asyncio.Task[Passed]:
            return asyncio.create_task(barrier.wait(owner=name, lease_s=30))

        parties = [party("one"), party("two")]
        await asyncio.wait(parties, timeout=3)
        await trial.replace()
        async with asyncio.timeout(40):
            passed = await asyncio.gather(*parties, party("three"))
        assert len({one.generation for one in passed}) == 1
        assert sorted(one.index for one in passed) == [0, 1, 2]
        assert [one.last for one in passed] == [False, False, True]
        async with asyncio.timeout(40):
            again = await asyncio.gather(*[party(name) for name in ("one", "two", "three")])
        assert again[0].generation > passed[0].generation


@pytest.mark.parametrize("on_death", ["break", "withdraw"])
async def test_a_party_that_is_killed_breaks_the_barrier_or_is_waited_for(trial: SyncTrial, on_death: str) -> None:
    """By its own choice; a broken one is reset by its generation, which the next one does not notice."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        barrier = mesh.barrier("phase/b", parties=3)
        one = asyncio.create_task(barrier.wait(owner="one"))
        dead, _ = await asyncio.to_thread(trial.client, "arrive", "phase/b", "3", on_death, f"{LEASE_S}", says="arriving")
        done, _ = await asyncio.wait([one], timeout=2 * LEASE_S)
        assert not done, "it lives as long as it asks again"
        dead.kill()
        killed = time.monotonic()
        if on_death == "break":
            with pytest.raises(BarrierBroken, match="was not heard of within its lease") as broken:
                await one
            assert time.monotonic() - killed < LEASE_S + LATE_S
            with pytest.raises(BarrierBroken):
                await barrier.wait(owner="late")
            assert await barrier.reset(broken.value.generation)
            assert not await barrier.reset(broken.value.generation)
            one = asyncio.create_task(barrier.wait(owner="one"))
        else:
            await asyncio.wait([one], timeout=LEASE_S + LATE_S)
        async with asyncio.timeout(30):
            passed = await asyncio.gather(one, barrier.wait(owner="two"), barrier.wait(owner="three"))
        assert sorted(each.index for each in passed) == [0, 1, 2]


async def test_a_task_that_is_cancelled_at_a_barrier_leaves_it(trial: SyncTrial) -> None:
    """By choice the others wait on, without it."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        barrier = mesh.barrier("phase/c", parties=2)
        one = asyncio.create_task(barrier.wait(owner="one", on_timeout="withdraw"))
        await asyncio.wait([one], timeout=2)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        with pytest.raises(WaitTimedOut):
            await barrier.wait(owner="two", timeout_s=0.3, on_timeout="withdraw")


async def test_a_latch_counts_each_thing_once_through_a_kill_of_the_worker(trial: SyncTrial) -> None:
    """What was said before the kill and is said again after it counts once; all that wait go on together."""
    await trial.begin()
    async with trial.mesh("a") as mesh:
        latch = mesh.latch("ready/a", count=3)
        waiting = [asyncio.create_task(latch.wait(owner=f"w{number}")) for number in range(5)]
        assert await latch.count_down("docs") == 2
        await trial.replace()
        assert await latch.count_down("docs") == 2
        assert await latch.count_down("code") == 1
        assert not await latch.is_open()
        assert not any(task.done() for task in waiting)
        assert await latch.count_down("tests") == 0
        async with asyncio.timeout(30):
            await asyncio.gather(*waiting)
        assert await mesh.latch("ready/a").is_open()
        assert await latch.remove()
        with pytest.raises(WaitRefused, match="no_latch"):
            await mesh.latch("ready/a").wait()
