"""Deadlocks on a real broker with real workers: found within a second, one victim each, through kill -9 of the detector."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.coordination import DeadlockError, LockLost, LockTimedOut
from tests.e2e.deadlock_trial import FOUND_S, DeadlockTrial

Held = AbstractAsyncContextManager[Any]


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[DeadlockTrial]:
    with DeadlockTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


async def circle(*parties: tuple[Held, Held]) -> list[float | DeadlockError]:
    """Let each party take its first, and when all have that its second, one party after the other.

    Returns:
        For each party how long it waited for the second, or the error with which it gave up.
    """
    have = [asyncio.Event() for _ in parties]
    closed = 0.0

    async def one(number: int, first: Held, second: Held) -> float | DeadlockError:
        nonlocal closed
        async with first:
            have[number].set()
            await asyncio.gather(*(event.wait() for event in have))
            closed = began = time.monotonic()
            try:
                async with second:
                    return time.monotonic() - began
            except DeadlockError as error:
                return error

    return await asyncio.gather(*(one(number, *party) for number, party in enumerate(parties)))


async def test_two_in_a_circle_across_two_domains(trial: DeadlockTrial) -> None:
    """One is told why with the whole cycle, and the other one gets its lock, all within a second."""
    await trial.begin()
    async with trial.mesh("a") as ann, trial.mesh("b") as bob:
        async with ann.lock("warm/a"), bob.lock("warm/b"):
            pass
        results = await circle(
            (ann.lock("repo/a", owner="ann"), ann.lock("docs/b", owner="ann")),
            (bob.lock("docs/b", owner="bob"), bob.lock("repo/a", owner="bob")),
        )
    errors = [one for one in results if isinstance(one, DeadlockError)]
    (waited,) = [one for one in results if isinstance(one, float)]
    print(results)
