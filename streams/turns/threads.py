"""One thread for blocking calls of one kind, in order. It is a daemon: a call that never returns keeps no process alive."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CallThread"]

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


class CallThread:
    """Runs blocking calls one after another.

    Args:
        name: The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, fun: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Return a future of the call's result; cancelling it does not stop the call."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put((lambda: fun(*args), future, loop))
        return future

    def close(self) -> None:
        """Take no more calls; the one that runs may finish."""
        self._jobs.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the last call; return whether it has finished."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future, loop = job
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 whoever awaits the call gets it
                self._tell(loop, future, None, error)
            else:
                self._tell(loop, future, result, None)
            del job, call, future

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        def tell() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)
