"""An agent at work: a handler for each of its tasks, all at the same time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from streams.coordination.errors import TaskLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.coordination.tasks import Task

__all__ = ["serve"]

log = logging.getLogger(__name__)


async def serve(tasks: AsyncIterator[Task], handler: Callable[[Task], Awaitable[Any]]) -> None:
    """Do tasks as they come, until no more come and all are done; where that is cancelled, so are they.

    Args:
        tasks: Those of an agent: no more than it has room for.
        handler: Does one, and returns its result.
    """
    running: set[asyncio.Task[None]] = set()
    try:
        async for task in tasks:
            one = asyncio.create_task(_do(task, handler))
            running.add(one)
            one.add_done_callback(running.discard)
        await asyncio.gather(*running)
    finally:
        for one in list(running):
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _do(task: Task, handler: Callable[[Task], Awaitable[Any]]) -> None:
    try:
        async with task:
            task.result = await handler(task)
    except TaskLost as lost:
        log.warning("%s", lost)
    except Exception as error:  # noqa: BLE001 - it was told to who wants the task done, and the agent goes on
        log.warning("%s failed: %s: %s", task.what, type(error).__name__, error)
