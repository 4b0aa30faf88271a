"""The consumer's thread when its app crashes: it has ended, and closed its loop, before anybody stops it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from streams.turns.transport import TurnThread


class Settings:
    """Every setting of Faust's as a number: the thread under test only adds and keeps them."""

    def __getattr__(self, name: str) -> float:
        return 1.0


def made(cls: Any, *, ended: bool) -> Any:
    app = SimpleNamespace(conf=Settings(), loop=None)
    transport = SimpleNamespace(app=app, _partitioner=None)
    consumer = SimpleNamespace(transport=transport, app=app, RebalanceListener=lambda _: None)
    thread = cls(consumer, loop=asyncio.get_running_loop())
    if ended:
        thread.thread_loop.close()
    return thread


async def test_stock_faust_stumbles_over_the_closed_loop() -> None:
    """Stopping the thread of a crashed app raises, so that the rest of its stop, and its join, never come."""
    thread = made(AIOKafkaConsumerThread, ended=True)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        thread._stopped_set()
    assert not thread._stopped.is_set()


async def test_ours_is_stopped_all_the_same() -> None:
    """The thread counts as stopped, and the stop goes on to its end."""
    thread = made(TurnThread, ended=True)
    thread._stopped_set()
    assert thread._stopped.is_set()


async def test_another_runtime_error_is_not_taken_for_a_closed_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the loop is open, what goes wrong is passed on."""
    thread = made(TurnThread, ended=False)

    def broken(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(thread.thread_loop, "call_soon_threadsafe", broken)
    with pytest.raises(RuntimeError, match="something else"):
        thread._stopped_set()
    thread.thread_loop.close()
