"""Lines added a second, by agent, with reactivex operators over a subscription."""

import asyncio
from collections import Counter

from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler

from schemas.work import ChangeCommitted
from streams.client import connect
from streams.subscriptions import Delivery


def totals(window: list[Delivery[ChangeCommitted]]) -> Counter[str]:
    """Lines added in one window, by agent."""
    counted: Counter[str] = Counter()
    for delivery in window:
        counted[delivery.event.agent] += delivery.event.added
    return counted


async def main() -> None:
    """Print a window a second for ten seconds."""
    async with connect() as mesh:
        windows = mesh.observable("agents.events", types=[ChangeCommitted], start="earliest").pipe(
            ops.buffer_with_time(1.0), ops.map(totals)
        )
        running = windows.subscribe(print, scheduler=AsyncIOScheduler(asyncio.get_running_loop()))
        await asyncio.sleep(10)
        running.dispose()


if __name__ == "__main__":
    asyncio.run(main())
