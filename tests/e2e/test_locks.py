"""Locks on a real broker: order, refusals, and that nobody holds what another one holds, whatever is killed or frozen."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import LockLost, LockRefused, LockTimedOut
from streams.transport import Outgoing
from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import read_committed, until

LEASE_S = 1.0
LATE_S = 1.5
"""After a lease's end, on a loaded machine; `antiphon bench locks` has the number for an idle one."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[SyncTrial]:
    with SyncTrial(kafka.bootstrap_servers, tmp_path) as made:
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


async def test_what_a_lock_promises(trial: SyncTrial) -> None:
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


async def test_locks_and_their_queue_outlive_the_worker(trial: SyncTrial) -> None:
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


async def test_a_killed_holder_is_succeeded_when_its_lease_ends(trial: SyncTrial) -> None:
    """Not before: it is renewed as long as it lives."""
    await trial.begin()
    async with trial.mesh("a") as mesh, asyncio.timeout(120):
        holder, said = await asyncio.to_thread(trial.client, "hold", "r/a", f"{LEASE_S}", says="held", program="lock_client.py")
        with pytest.raises(LockTimedOut):
            async with mesh.lock("r/a", wait_s=2 * LEASE_S):
                pass
        holder.kill()
        killed = time.monotonic()
        async with mesh.lock("r/a") as grant:
            assert time.monotonic() - killed < LEASE_S + LATE_S
            assert grant.token > int(said.split()[1])


async def test_a_frozen_holder_cannot_write_when_it_thaws(trial: SyncTrial) -> None:
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
            await mesh.send(Outgoing(trial.prefix + "register.writes", b"register", value, grant.guard()))

            def log() -> list[tuple[int, str]]:
                found = read_committed(trial.servers, trial.prefix + "register.log", 4)
                texts = ((value or b"").decode() for *_, value in sorted(found, key=lambda one: one[:2]))
                return [(int(text.partition(":")[0]), text.partition(" ")[2]) for text in texts]

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
