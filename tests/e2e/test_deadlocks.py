"""Deadlocks on a real broker with real workers: found within a second, one victim each, through kill -9 of the detector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import DeadlockError, LockLost, LockTimedOut
from tests.e2e.deadlock_trial import FOUND_S, DeadlockTrial

Held = AbstractAsyncContextManager[Any]


@pytest.fixture(scope="module")
def trial(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeadlockTrial]:
    """One worker for all tests that leave it alive; each has names of its own."""
    with DeadlockTrial(kafka.bootstrap_servers, tmp_path_factory.mktemp("deadlocks")) as made:
        asyncio.run(made.begin())
        yield made


@pytest.fixture(scope="module")
def apart(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeadlockTrial]:
    """A worker that does not look for deadlocks: detectors are processes of their own."""
    with DeadlockTrial(kafka.bootstrap_servers, tmp_path_factory.mktemp("apart"), role="coordination") as made:
        asyncio.run(made.begin())
        yield made


async def circle(*parties: tuple[Held, Held]) -> tuple[list[DeadlockError], float]:
    """Let each party take its first, and when all have that its second, which it gives up where it is to.

    Returns:
        The errors of those that gave up, and how long it took until all were done.
    """
    have = [asyncio.Event() for _ in parties]
    closed: list[float] = []

    async def one(mine: asyncio.Event, first: Held, second: Held) -> DeadlockError | None:
        async with first:
            mine.set()
            await asyncio.gather(*(event.wait() for event in have))
            closed.append(time.monotonic())
            try:
                async with second:
                    return None
            except DeadlockError as error:
                return error

    results = await asyncio.gather(*(one(mine, *party) for mine, party in zip(have, parties, strict=True)))
    return [one for one in results if one is not None], time.monotonic() - max(closed)


def two(ann: Mesh, bob: Mesh, name: str) -> tuple[tuple[Held, Held], tuple[Held, Held]]:
    """Return a circle of two clients across two domains; bob came later."""
    a, b = f"{name}-a/x", f"{name}-b/x"
    return (ann.lock(a, owner="ann"), ann.lock(b, owner="ann")), (bob.lock(b, owner="bob"), bob.lock(a, owner="bob"))


async def test_two_in_a_circle_across_two_domains(trial: DeadlockTrial) -> None:
    """One is told why with the whole cycle, and the other one gets its lock, all within a second."""
    async with trial.mesh("a") as ann, trial.mesh("b") as bob:
        async with ann.lock("warm/a"), bob.lock("warm/b"):
            pass
        errors, took = await circle(*two(ann, bob, "two"))
    (error,) = errors
    cycle = {"ann waits for two-b/x, which bob holds", "bob waits for two-a/x, which ann holds"}
    assert all(one in str(error) for one in cycle)
    assert "is to give up: it began last" in str(error)
    assert error.retryable
    assert took < FOUND_S
    (found,) = [one for one in trial.deadlocks() if "two-a/x" in one.reason]
    assert {(one.owner, *one.waits_for, one.name) for one in found.waits} == {
        ("ann", "bob", "two-b/x"),
        ("bob", "ann", "two-a/x"),
    }
    assert (found.kind, found.policy, found.reason) == ("locks", "youngest", error.reason)
    assert all(0 < time.time() * 1000 - one.since_ms < 60_000 for one in found.waits)


async def test_three_in_a_circle_with_a_semaphore(trial: DeadlockTrial) -> None:
    """Permits are waited for as locks are: ann waits for permits of two holders, of which one waits for her."""
    async with trial.mesh("a") as mesh:
        gpu = mesh.semaphore("three-gpu", capacity=3)
        errors, took = await circle(
            (mesh.lock("three-a", owner="ann"), gpu.permits(2, owner="ann")),
            (gpu.permits(2, owner="bob"), mesh.lock("three-c", owner="bob")),
            (mesh.lock("three-c", owner="cyd"), mesh.lock("three-a", owner="cyd")),
        )
    (error,) = errors
    for one in ("permits of three-gpu, which bob holds", "three-c, which cyd holds", "three-a, which ann holds"):
        assert one in error.reason
    assert took < FOUND_S


async def test_an_upgrade_in_a_circle(trial: DeadlockTrial) -> None:
    """Ann and bob share a document; ann wants to write it, and bob wants what ann has."""
    async with trial.mesh("a") as mesh, mesh.lock("up-a/doc", mode="shared", owner="ann"), mesh.lock("up-b", owner="ann"):
        began = time.monotonic()
        upgrade = asyncio.create_task(taken(mesh.lock("up-a/doc", owner="ann")))
        async with mesh.lock("up-a/doc", mode="shared", owner="bob"):
            with pytest.raises(DeadlockError, match="ann waits for up-a/doc, which bob holds"):
                async with mesh.lock("up-b", owner="bob"):
                    pass
        await upgrade
        assert time.monotonic() - began < 2 * FOUND_S


async def taken(held: Held) -> None:
    """Take a lock and give it back."""
    async with held:
        pass


async def test_a_wait_that_is_told(trial: DeadlockTrial) -> None:
    """A saga of ann's waits for bob, who waits for a lock of hers: the saga came last, is told, and its block is cancelled."""
    async with trial.mesh("a") as mesh, mesh.lock("told-old", owner="bob"):

        async def saga() -> None:
            async with mesh.waiting_for("bob", owner="ann", kind="saga"):
                await asyncio.Event().wait()

        async with mesh.lock("told-a", owner="ann"):
            bob = asyncio.create_task(taken(mesh.lock("told-a", owner="bob")))
            with pytest.raises(DeadlockError, match=r"ann waits for bob \(saga\)"):
                await saga()
            async with mesh.waiting_for("cyd", owner="ann") as wait:
                await wait.now_for("dan")
            assert not bob.done()
        await bob
    assert "told" not in {key[0] for key in trial.view().requests}


async def test_timeouts_and_leases_that_end_are_no_deadlocks(apart: DeadlockTrial) -> None:
    """A circle that dissolved before anybody looked has no victim; the next one, which did not, has one."""
    async with apart.mesh("a") as ann, apart.mesh("b") as bob:

        async def tries(first: Held, second: Held, error: type[Exception] | None) -> None:
            with pytest.raises(error) if error else contextlib.nullcontext():
                async with first:
                    have.append(None)
                    if len(have) == 2:
                        both.set()
                    await both.wait()
                    async with second:
                        pass

        both = asyncio.Event()
        have: list[None] = []
        await asyncio.gather(
            tries(ann.lock("t-a", owner="ann"), ann.lock("t-b", owner="ann", wait_s=0.3), LockTimedOut),
            tries(bob.lock("t-b", owner="bob"), bob.lock("t-a", owner="bob"), None),
        )
        have.clear()
        both.clear()
        await asyncio.gather(
            tries(ann.lock("l-a", owner="ann", lease_s=0.3, renew=False), ann.lock("l-b", owner="ann"), LockLost),
            tries(bob.lock("l-b", owner="bob"), bob.lock("l-a", owner="bob"), None),
        )
        detector = apart.detector()
        errors, _ = await circle(*two(ann, bob, "next"))
    assert len(errors) == 1
    (found,) = apart.deadlocks()
    assert {one.name for one in found.waits} == {"next-a/x", "next-b/x"}
    detector.kill()
    detector.wait()


async def test_the_detector_is_killed_with_a_circle_pending(apart: DeadlockTrial) -> None:
    """The next one finds it, once; `antiphon locks` shows it while it is there, and afterwards as it was then."""
    first = apart.detector()
    await asyncio.to_thread(apart.runs, first)
    async with apart.mesh("a") as ann, apart.mesh("b") as bob:
        errors, _ = await circle(*two(ann, bob, "before"))
        assert len(errors) == 1
        before = len(apart.deadlocks())
        first.kill()
        first.wait()
        pending = asyncio.create_task(circle(*two(ann, bob, "pending")))
        await apart.waiting(2)
        at_ms = int(time.time() * 1000)
        shown = await asyncio.to_thread(apart.antiphon, "locks", "--json")
        watched = await asyncio.to_thread(apart.watched)
        for _ in range(2):
            apart.detector()
        errors, _ = await pending
        assert len(errors) == 1
    assert len(apart.deadlocks()) == before + 1
    assert len(apart.victims()) == before + 1
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert watched["deadlocks"] == document["deadlocks"]
    held = {
        one["name"]: ([two["owner"] for two in one["holders"]], [two["owner"] for two in one["queue"]])
        for one in document["locks"]
    }
    assert held == {"pending-a/x": (["ann"], ["bob"]), "pending-b/x": (["bob"], ["ann"])}
    assert all(one["holders"][0]["token"] > 0 for one in document["locks"])
    (core,) = document["deadlocks"]
    assert {(one["owner"], *one["waits_for"]) for one in core} == {("ann", "bob"), ("bob", "ann")}
    now, then = apart.antiphon("locks"), apart.antiphon("locks", "--json", "--at", iso(at_ms))
    assert "nobody holds or waits for anything" in now.stdout
    replayed = json.loads(then.stdout)
    assert (replayed["graph"], replayed["deadlocks"]) == (document["graph"], document["deadlocks"])
    assert [one["holders"][0]["token"] for one in replayed["locks"]] == [one["holders"][0]["token"] for one in document["locks"]]


@pytest.mark.soak
async def test_a_frozen_detector_that_thaws(apart: DeadlockTrial) -> None:
    """Another one takes over; the zombie decides nothing any more, and when the other one leaves it does so again."""
    before, circles = len(apart.deadlocks()), 0
    first = apart.detector()
    await asyncio.to_thread(apart.runs, first)
    async with apart.mesh("a") as ann, apart.mesh("b") as bob:

        async def one_victim() -> None:
            nonlocal circles
            circles += 1
            errors, _ = await circle(*two(ann, bob, f"frozen-{circles}"))
            assert len(errors) == 1

        await one_victim()
        first.send_signal(signal.SIGSTOP)
        pending = asyncio.create_task(one_victim())
        await apart.waiting(2)
        second = apart.detector()
        await pending
        first.send_signal(signal.SIGCONT)
        for _ in range(10):
            await one_victim()
        second.terminate()
        second.wait()
        await one_victim()
    assert len(apart.deadlocks()) == len(apart.victims()) == before + circles
    first.kill()
    first.wait()


@pytest.mark.soak
async def test_under_load(trial: DeadlockTrial) -> None:
    """Who takes locks in one order is never a victim; who does not is, once for each deadlock, and everybody gets on."""
    names = [f"load-{domain}/{name}" for domain in range(3) for name in "xy"]
    done, victims = 0, 0

    async def work(mesh: Mesh, number: int, *, ordered: bool) -> None:
        nonlocal done, victims
        chance, until = random.Random(number), time.monotonic() + 8.0
        while time.monotonic() < until:
            pair = chance.sample(names, 2)
            first, second = sorted(pair) if ordered else pair
            try:
                async with mesh.lock(first, owner=f"o{number}"), mesh.lock(second, owner=f"o{number}"):
                    done += 1
            except DeadlockError:
                victims += 1

    before = len(trial.deadlocks())
    async with trial.mesh("a") as ann, trial.mesh("b") as bob:
        for ordered in (True, False):
            async with asyncio.timeout(60):
                await asyncio.gather(*(work((ann, bob)[number % 2], number, ordered=ordered) for number in range(10)))
            assert victims == len(trial.deadlocks()) - before
            assert bool(victims) is not ordered
    assert done > 50
    assert not trial.view().requests


def iso(ms: int) -> str:
    """Return a time as the command takes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}"
