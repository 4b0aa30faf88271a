"""The reactivex bridge: operators and windows over a subscription, on the event loop."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import Callable

import pytest
import reactivex
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler

from schemas.work import FileChanged
from streams.errors import TopicMissing
from streams.subscriptions import Delivery
from streams.testing import InMemoryLog


def changed(seq: int) -> FileChanged:
    return FileChanged(agent="ada", task="t", ts=1, arrived=2, path="p", added=seq, removed=0, seq=seq)


def added(delivery: Delivery[FileChanged]) -> int:
    return delivery.event.added


def seq(delivery: Delivery[FileChanged]) -> int:
    return delivery.event.seq


def even(number: int) -> bool:
    return number % 2 == 0


def add(one: int, other: int) -> int:
    return one + other


def total(window: reactivex.Observable[int]) -> reactivex.Observable[int]:
    return window.pipe(ops.reduce(add, 0))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


async def test_operators_and_windows_run_over_a_subscription() -> None:
    """A filter, a window by count and a sum see every event once, in order; the group's offset follows."""
    log = InMemoryLog()
    topic = "t-" + secrets.token_hex(4)
    log.create_topic(topic, partitions=1)
    sums: list[int] = []
    async with log.connect() as mesh:
        for n in range(100):
            await mesh.publish(changed(n), topic=topic)
        stream: reactivex.Observable[Delivery[FileChanged]] = mesh.observable(topic, group="g", types=[FileChanged])
        disposable = stream.pipe(
            ops.map(added),
            ops.filter(even),
            ops.window_with_count(10),
            ops.flat_map(total),
        ).subscribe(sums.append, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        await until(lambda: len(sums) == 5)
        disposable.dispose()
        await until(lambda: log.committed("g", topic).get(0, 0) >= 99)
    assert sums == [sum(range(n, n + 20, 2)) for n in range(0, 100, 20)]


async def test_windows_of_time_close_while_events_flow() -> None:
    """A time-based operator's timers run on the same loop, also under a full buffer."""
    log = InMemoryLog()
    log.create_topic("t", partitions=1)
    batches: list[list[int]] = []
    async with log.connect() as mesh:
        stream = mesh.observable("t", group="g").pipe(ops.map(seq), ops.buffer_with_time(0.05))
        disposable = stream.subscribe(batches.append, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        for n in range(300):
            await mesh.publish(changed(n), topic="t")
        await until(lambda: sum(map(len, batches)) == 300)
        disposable.dispose()
    assert [n for batch in batches for n in batch] == list(range(300))


async def test_what_ends_the_subscription_reaches_the_observer() -> None:
    """A missing topic is an on_error, not a task that dies unseen."""
    log = InMemoryLog()
    errors: list[Exception] = []
    async with log.connect() as mesh:
        mesh.observable("missing", group="g").subscribe(on_next=pytest.fail, on_error=errors.append)
        await until(lambda: bool(errors))
    gc.collect()
    assert isinstance(errors[0], TopicMissing)
