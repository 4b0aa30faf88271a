"""Bad input, wrong clocks and crowds: each gets an answer with a reason, and nobody's lock suffers."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from processors.core.coordination.lock_words import LockLimits
from schemas.coordination import AcquireLock, ReleaseLock
from schemas.errors import InvalidEvent
from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import LockLost, LockRefused, LockTimedOut
from tests.e2e.lock_trial import LockTrial, replayed

HOUR_MS = 3_600_000
PAIR_S_MAX = 0.1
"""Median of acquire and release, nobody else asking: ten times what it takes."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[LockTrial]:
    with LockTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


@pytest.fixture
async def mesh(trial: LockTrial) -> AsyncIterator[Mesh]:
    await trial.begin()
    async with trial.mesh("limits") as made, asyncio.timeout(200):
        yield made


async def is_free(mesh: Mesh, name: str) -> bool:
    """Try it."""
    try:
        async with mesh.lock(name, wait_s=0, owner="who tries"):
            return True
    except LockRefused as error:
        if error.code != "busy":
            raise
        return False


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no name": ("", {}, "empty"),
    "a huge name": ("r/" + "x" * 1_000_000, {}, "at most 256"),
    "a slash first": ("/r", {}, "begins with a slash"),
    "control characters": ("r/a\x00", {}, "control characters"),
    "half a character": ("r/\ud800", {}, "surrogates"),
    "no resource": ([], {}, "1 to 64"),
    "far too many": ([f"r/{n}" for n in range(100_000)], {}, "1 to 64"),
    "too many": ([f"r/{n}" for n in range(65)], {}, "1 to 64"),
    "one twice": (["r/a", "r/a"], {}, "named twice"),
    "two domains": (["r/a", "s/a"], {}, "2 domains"),
    "a negative lease": ("r/a", {"lease_s": -1}, "100 to 86400000 is allowed"),
    "no lease": ("r/a", {"lease_s": 0}, "100 to 86400000 is allowed"),
    "an endless lease": ("r/a", {"lease_s": float("inf")}, "100 to 86400000 is allowed"),
    "an unending number": ("r/a", {"lease_s": 1e300}, "100 to 86400000 is allowed"),
    "no number": ("r/a", {"lease_s": float("nan")}, "100 to 86400000 is allowed"),
    "a negative wait": ("r/a", {"wait_s": -0.5}, "0 .try. to 86400000"),
    "an endless wait": ("r/a", {"wait_s": float("inf")}, "0 .try. to 86400000"),
    "a huge priority": ("r/a", {"priority": 10**30}, "-100 to 100"),
    "a huge owner": ("r/a", {"owner": "x" * 1_000}, "at most 256"),
}


async def test_bad_requests_are_refused_with_what_is_allowed(mesh: Mesh) -> None:
    """Each is a `LockRefused` that says what is allowed, and the lock is free afterwards."""
    for what, (resources, options, text) in BAD.items():
        with pytest.raises(LockRefused, match=text):
            async with mesh.lock(resources, **options):
                pytest.fail(f"{what} was granted")
    with pytest.raises(InvalidEvent, match="'exclusive' or 'shared'"):
        await mesh.lock("r/a", mode="both").acquire()  # type: ignore[arg-type]
    assert await is_free(mesh, "r/a")


async def test_nobody_can_end_or_keep_what_is_somebody_elses(mesh: Mesh) -> None:
    """A grant is released once by its owner: strangers are refused, and a late or repeated release frees nobody else's."""
    channel = mesh.session.channel

    async def released(grant: str, owner: str) -> tuple[str, str]:
        kind, fields = await channel.call(ReleaseLock(domain="r", grant=grant, owner=owner), again_s=5, limit_s=60)
        return kind, fields.get("code", "")

    async with mesh.lock("r/a", owner="mine", lease_s=60) as first:
        assert await released(first.id, "stranger") == ("lock.refused", "not_owner")
        assert await released("invented", "stranger") == ("lock.refused", "not_held")
        assert not await is_free(mesh, "r/a")
    old = await mesh.lock("r/a", owner="mine", lease_s=0.3, renew=False).acquire()
    async with mesh.lock("r/a", owner="next", lease_s=60) as second:
        assert second.token > old.token
        assert await released(first.id, "mine") == ("lock.released", ""), "again: as it was answered"
        assert await released(old.id, "mine") == ("lock.refused", "expired")
        with pytest.raises(LockLost):
            await old.release()
        assert not await is_free(mesh, "r/a")
        await second.renew()
    assert await is_free(mesh, "r/a")


async def test_the_body_is_cancelled_when_the_lease_is_gone(mesh: Mesh) -> None:
    """It waits for something else and learns of it in time; the next holder is told nothing of the old one."""
    reached: list[tuple[bool, int, float]] = []

    async def body() -> None:
        began = time.monotonic()
        async with mesh.lock("r/a", lease_s=0.5, renew=False) as grant:
            try:
                await asyncio.Event().wait()
            finally:
                reached.append((grant.lost.is_set(), grant.token, time.monotonic() - began))

    with pytest.raises(LockLost, match="lease"):
        await body()
    ((lost, token, after_s),) = reached
    assert lost
    assert 0.4 < after_s < 5
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    async with mesh.lock("r/a", wait_s=20, owner="next") as following:
        assert following.token > token


async def test_priority_goes_first_and_a_cancelled_wait_leaves_the_queue(trial: LockTrial, mesh: Mesh) -> None:
    """Higher first, then in the order of asking; a cancelled one is never granted."""
    order: list[str] = []

    async def wait(owner: str, priority: int) -> None:
        async with mesh.lock("r/a", owner=owner, priority=priority):
            order.append(owner)

    async with mesh.lock("r/a", owner="holder"):
        tasks = {}
        for owner, priority in (("low", -5), ("first", 0), ("gone", 0), ("second", 0), ("high", 50)):
            tasks[owner] = asyncio.create_task(wait(owner, priority))
            await asyncio.sleep(0)  # it asks
        assert not await is_free(mesh, "r/a")
        tasks.pop("gone").cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks.values())
    assert order == ["high", "first", "second", "low"]
    assert await is_free(mesh, "r/a")
    assert replayed(await asyncio.to_thread(trial.events)) >= 6


@pytest.mark.parametrize("off_s", [-3_600, 3_600])
async def test_a_client_whose_clock_is_an_hour_off(trial: LockTrial, mesh: Mesh, off_s: int) -> None:
    """It takes, renews and loses locks as all others do: leases are counted by nobody's wall clock but the worker's."""
    trial.settings["SYNC_CLOCK_OFF_S"] = f"{off_s}"
    holder, said = await asyncio.to_thread(trial.client, "hold", "r/a", "1.0", says="held", program="lock_client.py")
    with pytest.raises(LockTimedOut):
        async with mesh.lock("r/a", wait_s=3):
            pytest.fail("it was renewed")
    holder.kill()
    async with mesh.lock("r/a", wait_s=20) as grant:
        assert grant.token > int(said.split()[1])


@pytest.mark.parametrize("off_ms", [-2 * HOUR_MS, 2 * HOUR_MS])
async def test_a_record_whose_time_is_hours_off(trial: LockTrial, mesh: Mesh, off_ms: int) -> None:
    """The broker takes a command whatever its client's clock says, and the lease is as long as it was asked for."""
    command = AcquireLock(domain="r", request_id="by hand", owner="by hand", resources=["r/a"], lease_ms=60_000)
    record = mesh.session.channel.encoded(command, "by hand")
    failed: list[str] = []

    def send() -> None:
        producer = Producer({"bootstrap.servers": trial.servers})
        now_ms = time.time_ns() // 1_000_000
        producer.produce(
            record.topic, record.value, record.key, headers=list(record.headers), timestamp=now_ms + off_ms,
            on_delivery=lambda error, _: failed.append(str(error)),
        )  # fmt: skip
        producer.flush(30)

    await asyncio.to_thread(send)
    assert failed == ["None"]
    assert not await is_free(mesh, "r/a")
    with pytest.raises(LockTimedOut):
        async with mesh.lock("r/a", wait_s=1):
            pytest.fail("it is held")


async def test_ten_thousand_wait_for_one_lock_and_no_more(mesh: Mesh) -> None:
    """The one beyond the limit is refused with it; others are served as ever, and the queue moves on in order."""
    limit, got, moved = LockLimits().waiters_max, list[int](), asyncio.Event()

    async def wait(number: int) -> None:
        async with mesh.lock("r/crowd", owner=f"waiter {number}"):
            got.append(number)
            if len(got) == 100:
                moved.set()

    holder = await mesh.lock("r/crowd", owner="holder", lease_s=600).acquire()
    tasks = [asyncio.create_task(wait(number)) for number in range(limit)]
    await asyncio.sleep(0)
    with pytest.raises(LockRefused, match=f"{limit} requests wait for r/crowd") as refused:
        async with mesh.lock("r/crowd", owner="one too many"):
            pytest.fail("more than the limit wait")
    assert refused.value.code == "queue_full"
    assert refused.value.retryable
    began = time.monotonic()
    assert await is_free(mesh, "r/other")
    assert time.monotonic() - began < 10
    await holder.release()
    await asyncio.wait_for(moved.wait(), 60)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert got == sorted(got)
    async with mesh.lock("r/crowd", owner="afterwards", wait_s=60):
        pass


async def test_one_client_of_an_idle_system_is_served_at_once(mesh: Mesh) -> None:
    """A pair of acquire and release takes milliseconds: nobody waits for a batch to fill."""
    took = []
    for _ in range(60):
        began = time.monotonic()
        async with mesh.lock("r/idle"):
            pass
        took.append(time.monotonic() - began)
    assert statistics.median(took) < PAIR_S_MAX
