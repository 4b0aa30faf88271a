"""Queues of work, for agent services.

    builds = mesh.work("builds")
    handle = await builds.put({"commit": "1f3a"}, priority=5)          # on one side
    async with await builds.take() as task:                            # on the other
        task.result = await build(task.payload["commit"])

A queue is a pool (see `streams.coordination.pools`), and who takes from it an agent for the time of one task.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streams.coordination.calls import milliseconds
from streams.coordination.errors import AgentLost, WaitTimedOut
from streams.coordination.pools import ATTEMPTS, BACKOFF_S, AgentPool, announced

if TYPE_CHECKING:
    from streams.coordination.agents import Agent
    from streams.coordination.handles import TaskHandle
    from streams.coordination.leases import Held
    from streams.coordination.pools import PoolStanding
    from streams.coordination.session import Session
    from streams.coordination.tasks import Task

__all__ = ["WorkQueue"]


class WorkQueue:
    """A queue of work by its name; made by `mesh.work`. It is a pool, whose tasks nobody has to be capable of anything for."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._pool = session, AgentPool(session, name)
        self.name = name

    async def put(
        self,
        task: Any,  # noqa: ANN401 - any JSON value
        *,
        priority: int = 0,
        wait_s: float | None = None,
        attempts: int = ATTEMPTS,
        backoff_s: float = BACKOFF_S,
        attempt_s: float | None = None,
        owner: str = "",
    ) -> TaskHandle:
        """Put a task into the queue, and return when it is kept.

        Args:
            task: What is to be done; JSON, 16,384 characters at most. Name what is larger.
            priority: Higher goes first; a second of waiting makes up for a step.
            wait_s: How long it may wait to be taken, each time; None as long as it takes.
            attempts: How many there are before it is given up.
            backoff_s: The delay after the first failed attempt; it doubles with each.
            attempt_s: How long an attempt may take; None for no limit.
            owner: Who wants it done; the running task unless given.

        Raises:
            WaitRefused: It was refused; its code says why.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        made = self._pool.handle(
            task,
            priority=priority,
            wait_ms=milliseconds(wait_s),
            attempts_max=attempts,
            backoff_ms=milliseconds(backoff_s),
            attempt_ms=milliseconds(attempt_s),
            owner=owner,
        )
        await made.submitted(assigned=False)
        return made

    async def take(self, *, wait_s: float | None = None, lease_s: float = 30.0, owner: str = "") -> Task:
        """Take the first task, and have it until it is done: `async with await queue.take() as task`.

        Args:
            wait_s: How long to wait for one; 0 tries, None waits as long as it takes.
            lease_s: How long who takes it is believed in without being heard of; it is heard of at each third of that.
            owner: Who takes it; the running task unless given.

        Raises:
            WaitTimedOut: None came in time.
            WaitRefused: It was refused; its code says why.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        began = time.monotonic()
        while True:
            left_s = None if wait_s is None else max(0.0, wait_s - (time.monotonic() - began))
            taker = await announced(self._session, self.name, name=owner, lease_s=lease_s, owner=owner, once=True)
            try:
                return await _taken(taker, left_s)
            except AgentLost:
                continue  # frozen or cut off while it waited, and it has nothing
            except BaseException:
                if taker.held:
                    await taker.release()
                raise

    def consumer(self, *, prefetch: int = 1, lease_s: float = 30.0, owner: str = "") -> Held[Agent]:
        """Take one task after another for the time of a block: `async with queue.consumer() as tasks: async for task in tasks`.

        Args:
            prefetch: How many it has at once, done or waiting here.
            lease_s: How long it is believed in without being heard of.
            owner: Who takes them; the running task unless given.

        Raises:
            WaitRefused: (Entering the block.) It was refused; its code says why.
            AgentLost: (Leaving.) The lease ended before the block did; the block was cancelled.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        return self._pool.announce(owner, capacity=prefetch, lease_s=lease_s, owner=owner)

    async def drain(self, agent: str, *, draining: bool = True) -> None:
        """Let a consumer get no more tasks; see `AgentPool.drain`."""
        await self._pool.drain(agent, draining=draining)

    async def standing(self) -> PoolStanding:
        """Ask how it stands: who takes from it, and how many tasks wait; see `AgentPool.standing`."""
        return await self._pool.standing()


async def _taken(taker: Agent, wait_s: float | None) -> Task:
    try:
        task = await taker.task(wait_s=wait_s)
    except WaitTimedOut:
        await taker.update(healthy=False)  # nothing comes after the answer to this
        late = taker.next_here()
        if late is None:
            raise
        task = late
    await taker.stop()
    return task
