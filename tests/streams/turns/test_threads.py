"""A thread for blocking calls: in order, one at a time, and never in the way of the process's end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streams.turns.threads import CallThread

JOIN_S = 10.0


async def test_calls_run_in_order_in_one_thread() -> None:
    """Results and errors come back to the caller's loop."""
    thread, seen = CallThread("test-calls"), []

    def call(n: int) -> int:
        seen.append((n, threading.current_thread().name))
        if n == 2:
            raise ValueError("two")
        return n

    futures = [thread.run(call, n) for n in range(4)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [repr(r) for r in results] == ["0", "1", "ValueError('two')", "3"]
    assert seen == [(n, "test-calls") for n in range(4)]
    thread.close()
    assert thread.join(JOIN_S)


async def test_a_call_that_nobody_waits_for_any_more_ends_quietly() -> None:
    """Cancelling the future does not stop the call, and its answer disturbs nobody."""
    thread, go, done = CallThread("test-calls"), threading.Event(), threading.Event()

    def call() -> None:
        assert go.wait(JOIN_S)
        done.set()

    future = thread.run(call)
    future.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await future
    assert await thread.run(lambda: "next") == "next"
    assert done.is_set()
    thread.close()
    assert thread.join(JOIN_S)


def test_a_thread_outlives_the_loop_that_asked() -> None:
    """An answer for a loop that is closed is dropped, and the thread still ends."""
    thread, go = CallThread("test-calls"), threading.Event()

    async def ask() -> None:
        thread.run(go.wait, JOIN_S)

    asyncio.run(ask())
    go.set()
    thread.close()
    assert thread.join(JOIN_S)


def test_a_call_that_never_returns_keeps_no_process_alive() -> None:
    """The thread is a daemon, and joining it says that it still runs."""
    thread, never = CallThread("test-calls"), threading.Event()

    async def ask() -> None:
        thread.run(never.wait)

    asyncio.run(ask())
    thread.close()
    assert not thread.join(0.01)
    assert thread._thread.daemon
    never.set()
    assert thread.join(JOIN_S)
