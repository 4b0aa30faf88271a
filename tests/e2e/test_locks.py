"""Locks on a real broker: order, refusals, and that nobody holds what another one holds, whatever is killed or frozen."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.coordination import LockRenewed
from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import LockLost, LockRefused, LockTimedOut
from streams.transport import Outgoing
from tests.e2e.lock_trial import LockTrial, replayed
from tests.e2e.trial import until

LEASE_S = 1.0
LATE_S = 0.5
"""After the lease of a killed holder somebody else has it."""
KILLS = 4
"""The quickest counts: other tests run on this machine."""
LONG_LEASE_S = 20.0
"""Longer than a takeover takes on a loaded machine."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[LockTrial]:
    with LockTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


async def ordered(mesh: Mesh, name: str, owners: list[str], order: list[str]) -> list[asyncio.Task[None]]:
    """Let owners ask for a lock, each after the one before waits."""
    tasks = []
    for owner in owners:

        async def one(owner: str = owner) -> None:
            async with mesh.lock(name, owner=owner):
                order.append(owner)

        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0)  # it asks
        with pytest.raises(LockTimedOut):  # this one has gone through the log behind it
            async with mesh.lock(name, wait_s=0.05, owner=f"after {owner}"):
                pass
    return tasks


async def test_what_a_lock_promises(trial: LockTrial) -> None:
    """Exclusive, shared, several at once, try, timeout, nesting, upgrade, order; clear refusals for bad input."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        async with mesh.lock("r/a", owner="first") as first:
            with pytest.raises(LockRefused) as busy:
                async with mesh.lock("r/a", wait_s=0, owner="second"):
                    pass
            assert busy.value.code == "busy"
            async with mesh.lock("r/a", owner="first") as nested:
                assert nested.token == first.token
            order: list[str] = []
            waiting = await ordered(mesh, "r/a", ["x", "y", "z"], order)
            assert order == []
        await asyncio.gather(*waiting)
        assert order == ["x", "y", "z"]
        async with (
            mesh.lock(["r/b", "r/c"], mode="shared", owner="one") as one,
            mesh.lock("r/c", mode="shared", owner="two") as two,
        ):
            assert one.resources == ("r/b", "r/c")
            assert min(one.tokens) > first.token
            upgrade = asyncio.create_task(mesh.lock("r/c", owner="one").acquire())
            await asyncio.sleep(0)  # it asks
            while True:
                try:
                    async with mesh.lock("r/c", mode="shared", wait_s=0.05, owner="three"):
                        continue  # it came before the upgrade was asked for
                except LockTimedOut:
                    break
            with pytest.raises(LockRefused) as deadlock:
                async with mesh.lock("r/c", owner="two"):
                    pass
            assert deadlock.value.code == "upgrade_deadlock"
            await two.release()
            upgraded = await upgrade
            assert upgraded.token > one.token
            await upgraded.release()
        for name, lease_s in (("", 1.0), ("x" * 257, 1.0), ("a\nb", 1.0), ("r/ok", -1.0)):
            with pytest.raises(LockRefused, match="allowed"):
                async with mesh.lock(name, lease_s=lease_s):
                    pass
        grant = await mesh.lock("r/d", owner="mine").acquire()
        grant.owner = "stranger"
        with pytest.raises((LockRefused, LockLost)):
            await grant.renew()
        with pytest.raises(LockTimedOut):
            async with mesh.lock("r/d", wait_s=0.05, owner="other"):
                pass


async def test_locks_and_their_queue_outlive_the_worker(trial: LockTrial) -> None:
    """The worker is killed with SIGKILL: who held still holds, who waited has the same place, each once."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        async with mesh.lock("r/a", owner="first", lease_s=60) as first:
            order: list[str] = []
            waiting = await ordered(mesh, "r/a", ["x", "y"], order)
            await trial.replace()
            waiting += await ordered(mesh, "r/a", ["z"], order)
            await first.renew()
            assert order == []
        await asyncio.gather(*waiting)
        assert order == ["x", "y", "z"]


async def test_a_lock_that_is_renewed_outlives_the_worker(trial: LockTrial) -> None:
    """The client renews it in the background, also when another worker has taken over; nobody else gets it meanwhile."""
    await trial.begin()

    def renewed() -> int:
        return sum(isinstance(event, LockRenewed) for event in trial.events())

    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        async with mesh.lock("r/a", owner="first", lease_s=LONG_LEASE_S) as first:
            trial.kill_worker()
            before = await asyncio.to_thread(renewed)
            trial.start_worker()
            with pytest.raises(LockTimedOut):
                async with mesh.lock("r/a", owner="second", wait_s=LONG_LEASE_S / 3):
                    pass
            await asyncio.to_thread(until, lambda: renewed() > before, "the lease is renewed by the new worker")
            assert first.held
        async with mesh.lock("r/a", owner="second", wait_s=0) as second:
            assert second.token > first.token
    assert replayed(await asyncio.to_thread(trial.events)) == 2


async def test_a_frozen_worker_answers_nothing_when_it_thaws(trial: LockTrial) -> None:
    """Another one has taken over: what the zombie had begun is refused, each request is granted once, and the order is kept."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(200):
        order: list[str] = []
        async with mesh.lock("r/a", owner="first", lease_s=60):
            waiting = await ordered(mesh, "r/a", ["x", "y"], order)
            zombie, log = trial.workers.pop(), trial.logs[0]
            starts = len(trial.starts(log))
            zombie.send_signal(signal.SIGSTOP)
            others = [asyncio.create_task(mesh.lock(f"r/{n}", owner=f"{n}").acquire()) for n in range(5)]
            await asyncio.to_thread(trial.join)
            waiting += await ordered(mesh, "r/a", ["z"], order)
            zombie.send_signal(signal.SIGCONT)
            async with mesh.lock("r/b"):
                assert order == []
        await asyncio.gather(*waiting, *others)
        assert order == ["x", "y", "z"]
        await asyncio.to_thread(until, lambda: len(trial.starts(log)) > starts, "the zombie has joined again")
    granted = replayed(await asyncio.to_thread(trial.events))
    assert granted == 1 + 5 + 1 + len(order)


async def test_locks_move_between_workers_that_come_and_go(trial: LockTrial) -> None:
    """A second worker joins, the first leaves: who held holds, who waited is next, on every partition."""
    await trial.begin()
    names = [f"{domain}/a" for domain in "abcdefgh"]
    async with trial.mesh("a") as mesh, asyncio.timeout(200):
        held = [await mesh.lock(name, owner="first", lease_s=LONG_LEASE_S).acquire() for name in names]
        orders: list[list[str]] = [[] for _ in names]
        waiting = [task for name, order in zip(names, orders, strict=True) for task in await ordered(mesh, name, ["x"], order)]
        await asyncio.to_thread(trial.join)
        waiting += [task for name, order in zip(names, orders, strict=True) for task in await ordered(mesh, name, ["y"], order)]
        await asyncio.to_thread(trial.stop, trial.workers.pop(0))
        waiting += [task for name, order in zip(names, orders, strict=True) for task in await ordered(mesh, name, ["z"], order)]
        assert all(grant.held for grant in held)
        assert orders == [[] for _ in names]
        for grant in held:
            await grant.release()
        await asyncio.gather(*waiting)
        assert orders == [["x", "y", "z"] for _ in names]
    assert replayed(await asyncio.to_thread(trial.events)) == 4 * len(names)


async def test_a_killed_holder_is_succeeded_when_its_lease_ends(trial: LockTrial) -> None:
    """Half a second after its lease at most, and not before: it is renewed as long as it lives."""
    await trial.begin()
    took = []
    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        for number in range(KILLS):
            name = f"r/{number}"
            holder, said = await asyncio.to_thread(
                trial.client, "hold", name, f"{LEASE_S}", says="held", program="lock_client.py"
            )
            if not number:
                with pytest.raises(LockTimedOut):
                    async with mesh.lock(name, wait_s=2 * LEASE_S):
                        pass
            killed = time.monotonic()
            holder.kill()
            async with mesh.lock(name) as grant:
                took.append(time.monotonic() - killed)
                assert grant.token > int(said.split()[1])
            if took[-1] <= LEASE_S + LATE_S:
                break
    assert min(took) <= LEASE_S + LATE_S, took


async def test_a_frozen_holder_cannot_write_when_it_thaws(trial: LockTrial) -> None:
    """SIGSTOP past its lease: the guard refuses its token, its block is cancelled, and the next token is larger."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        holder, said = await asyncio.to_thread(
            trial.client, "freeze", "r/guarded", f"{LEASE_S}", says="held", program="lock_client.py"
        )
        old = int(said.split()[1])
        holder.send_signal(signal.SIGSTOP)
        async with mesh.lock("r/guarded", lease_s=60) as grant:
            assert grant.token > old
            value = f"{grant.token}:1".encode()
            await mesh.send(Outgoing(trial.prefix + "register.writes", b"r/guarded", value, grant.guard()))

            def log() -> list[tuple[int, str]]:
                return trial.register()["r/guarded"]

            await asyncio.to_thread(until, lambda: (grant.token, "taken") in log(), "the new holder's write is taken")
            holder.send_signal(signal.SIGCONT)
            await asyncio.to_thread(
                until, lambda: any(token == old and "too old" in verdict for token, verdict in log()), "the old one's is refused"
            )
            await asyncio.to_thread(
                until, lambda: "lost" in trial.logs[-1].read_text(errors="replace"), "its block has been cancelled"
            )
            assert grant.held
        taken = [token for token, verdict in log() if verdict == "taken"]
        assert taken == sorted(taken), "nothing of the old holder after the new one's write"
