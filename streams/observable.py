"""Subscriptions as reactivex Observables: windows, joins and the other operators, on the client's side.

    mesh.observable("agents.*", types=[ChangeCommitted]).pipe(
        ops.map(lambda delivery: delivery.event),
        ops.buffer_with_time(1.0),
    ).subscribe(print, scheduler=AsyncIOScheduler(loop))

Each `subscribe` of the Observable is a subscription of its own. Deliveries are emitted on the event loop that `subscribe` was
called on, one at a time, and are acknowledged when the operators have returned: at least once, up to where an operator buffers.
The buffer is the subscription's own (`buffer_max`): while the observer is at work nothing more is fetched than that. Disposing
ends the subscription.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import reactivex
from reactivex.disposable import Disposable

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from streams.subscriptions import Delivery, Subscription

__all__ = ["observable"]

log = logging.getLogger(__name__)

YIELD_EVERY: Final = 64
"""Emissions without a pause: timers of time-based operators run on the same loop."""


def observable(subscribe: Callable[[], Subscription[Any]]) -> reactivex.Observable[Delivery[Any]]:
    """Return an Observable of deliveries.

    Args:
        subscribe: Makes the subscription, once for each observer.
    """

    def begin(observer: ObserverBase[Delivery[Any]], scheduler: SchedulerBase | None = None) -> DisposableBase:  # noqa: ARG001 - emitted on the running loop
        loop = asyncio.get_running_loop()
        task = loop.create_task(_emit(subscribe(), observer))
        _running.add(task)
        task.add_done_callback(_running.discard)

        def dispose() -> None:
            loop.call_soon_threadsafe(task.cancel)  # operators may dispose from another scheduler's thread

        return Disposable(dispose)

    return reactivex.create(begin)


_running: set[asyncio.Task[None]] = set()
"""The loop itself keeps weak references only."""


async def _emit(subscription: Subscription[Any], observer: ObserverBase[Delivery[Any]]) -> None:
    count = 0
    try:
        async with subscription:
            async for delivery in subscription:
                observer.on_next(delivery)
                count += 1
                if count % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - an Observable hands on whatever ended it
        log.warning("the observable of a subscription ended: %s", error)
        observer.on_error(error)
    else:
        observer.on_completed()
