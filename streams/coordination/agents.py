"""An agent in a pool: it says what it can do, is heard of by heartbeat, and gets tasks.

    async with mesh.agent("ann", capabilities=["python", "gpu"], capacity=4) as agent:
        await agent.serve(review)                     # up to four at a time, until the agent is drained
        # or, one after another:
        async for task in agent:
            async with task:
                task.result = await review(task)

Its stay in the pool is a lease: at its end the agent is taken for dead and what it held goes to others; the block is cancelled.
What the processor says it holds is compared at each heartbeat with what is known here, so no task is held by nobody for long
where an answer was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from schemas import agents as events
from schemas import tasks
from schemas.errors import AntiphonError
from schemas.naming import domain_of
from streams.coordination.calls import call
from streams.coordination.errors import AgentLost, CoordinationError, WaitRefused, WaitTimedOut
from streams.coordination.leases import Lease
from streams.coordination.serving import serve
from streams.coordination.tasks import Task
from streams.coordination.words import words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from streams.coordination.channel import Answer
    from streams.coordination.session import Session

__all__ = ["Agent", "drained"]

OVER_MAX: Final = 10_000
"""Attempts that were ended here and are remembered: what one agent does while a worker dies and the next one takes over."""


class Agent(Lease):
    """An agent while it is in its pool; made by `mesh.agent`.

    Attributes:
        name: Its name.
        pool: The pool.
        draining: Whether somebody has drained it: it gets no more tasks.
    """

    renewed: ClassVar[str] = events.AgentStanding.event_type
    expired: ClassVar[str] = events.AgentGone.event_type
    lost_error: ClassVar[type[CoordinationError]] = AgentLost

    def __init__(self, session: Session, announcement: events.AnnounceAgent, *, lease_s: float, sent: float, once: bool) -> None:
        """Take the answer to an announcement.

        Args:
            session: Whose.
            announcement: What was announced, with the id of this stay.
            lease_s: For how long it is believed in without being heard of.
            sent: When it was announced, monotonic.
            once: Whether it leaves with the end of its first task.
        """
        self.name, self.pool, self.draining = announcement.agent, announcement.name, False
        self._announcement = announcement.model_copy(update={"again": True, "resume": False, "listens": False})
        self._tasks: dict[str, Task] = {}
        self._over: dict[str, int] = {}
        """Tokens of attempts that are over, by task: a worker that takes over tells again what the one before it had told."""
        self._inbox: deque[Task] = deque()
        self._wake = asyncio.Event()
        self._once = once
        self._leaving: asyncio.Future[None] | None = None
        super().__init__(
            session,
            lease_id=announcement.request_id,
            owner=announcement.owner,
            token=0,
            lease_s=lease_s,
            since=sent,
            renews=True,
        )

    @property
    def what(self) -> str:
        """The agent, in errors."""
        return f"agent {self.name} of {self.pool}"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it holds, oldest first."""
        return tuple(self._tasks.values())

    def loss(self) -> CoordinationError:
        """Return the error that says why it is none any more."""
        why = self.why or ("it has left" if self._ended else f"it was not heard of for {self._lease_s:g} s")
        return AgentLost(f"{self.what} is none any more: {why}")

    # ---- its tasks

    async def task(self, *, wait_s: float | None = None) -> Task:
        """Wait for the next task.

        Args:
            wait_s: How long; None as long as it takes.

        Raises:
            WaitTimedOut: None came in time.
            AgentLost: It is no agent any more.
        """
        try:
            async with asyncio.timeout(wait_s):
                while (task := self.next_here()) is None:
                    await self._change()
        except TimeoutError as error:
            raise WaitTimedOut(f"{self.what}: no task within {wait_s:g} s") from error
        return task

    def __aiter__(self) -> Agent:
        """The agent itself."""
        return self

    async def __anext__(self) -> Task:
        """Wait for the next task; there is none any more once the agent is drained.

        Raises:
            AgentLost: It is no agent any more.
        """
        while (task := self.next_here()) is None:
            if self.draining:
                raise StopAsyncIteration
            await self._change()
        return task

    async def serve(self, handler: Callable[[Task], Awaitable[Any]]) -> None:
        """Do tasks until the agent is drained, as many at a time as its capacity allows.

        What the handler returns is the task's result; where it raises, the attempt has failed, and the agent goes on.

        Args:
            handler: Does a task. It is cancelled when the task is lost.

        Raises:
            AgentLost: It is no agent any more.
        """
        await serve(self, handler)

    # ---- what it says of itself

    async def update(
        self, *, capabilities: Collection[str] | None = None, capacity: int | None = None, healthy: bool | None = None
    ) -> None:
        """Say otherwise what it can do, and wait until that is known; what it holds it keeps.

        Args:
            capabilities: What it is capable of.
            capacity: How much weight it holds at once.
            healthy: Whether it gets tasks.

        Raises:
            WaitRefused: It is not allowed; everything is as before.
            AgentLost: It is no agent any more.
            RequestTimedOut: No answer came before the lease ended.
            AntiphonError: The command could not be sent.
        """
        can = None if capabilities is None else list(words(capabilities))
        given = {"capabilities": can, "capacity": capacity, "healthy": healthy}
        before = self._announcement
        self._announcement = before.model_copy(update={name: value for name, value in given.items() if value is not None})
        if self._renewing is not None:
            self._renewing.cancel()  # it says what is not so any more
        try:
            await self.renew()
        except WaitRefused:
            self._announcement = before
            raise

    async def drain(self) -> None:
        """Get no more tasks: `serve` and `async for` end when those that it holds are done.

        Raises:
            AgentLost: It is no agent any more.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        self.check()
        await drained(self._session, self.pool, self.name, self.owner)

    async def release(self) -> None:
        """Leave: tasks that it holds go to others, and are not counted as attempts.

        Raises:
            AgentLost: It was lost before.
            RequestTimedOut: No answer came; the lease ends by itself.
            AntiphonError: A command could not be sent.
        """
        if not self._ended and not self.lost.is_set():
            if self._announcement.healthy:
                await self.update(healthy=False)  # what was assigned before the answer to this has been heard of by then
            with contextlib.suppress(AntiphonError):
                await asyncio.gather(*(task.give_back() for task in self.tasks), return_exceptions=True)
        await super().release()

    # ---- for who looks after it

    async def stop(self) -> None:
        """Get no more tasks, without waiting until that is known: what is said after this comes after it."""
        self._announcement = self._announcement.model_copy(update={"healthy": False})
        await self._channel.send(self._announcement, self._channel.new_id())

    async def left(self) -> None:
        """Wait until it has said that it leaves, where it came for one task and that is over."""
        if self._leaving is not None:
            await self._leaving

    def next_here(self) -> Task | None:
        """Return the next task that has come, if one has.

        Raises:
            AgentLost: It is no agent any more.
        """
        while self._inbox:
            task = self._inbox.popleft()
            if task.held:
                return task
        self.check()
        return None

    def forget(self, task: Task) -> None:
        """Note that an attempt is over; leave, where it came for one."""
        if self._tasks.get(task.id) is task:
            del self._tasks[task.id]
            self._over.pop(task.id, None)
            self._over[task.id] = task.token
            if len(self._over) > OVER_MAX:
                del self._over[next(iter(self._over))]
            if self._once and not self._ended and not self.lost.is_set():
                self.end()
                self._leaving = asyncio.ensure_future(self._leave())

    def heard(self, answer: Answer) -> None:
        """Take what the processor says: tasks, what became of them, that it is drained or gone."""
        kind, fields = answer
        task = self._tasks.get(fields["request_id"])
        if kind == tasks.WorkAssigned.event_type:
            known = self._over.get(fields["request_id"], 0) if task is None else task.token
            if not self._ended and not self.lost.is_set() and known < fields["token"]:
                if task is not None:
                    task.lose("another attempt has begun")
                task = self._tasks[fields["request_id"]] = Task(self._session, self, fields)
                self._inbox.append(task)
        elif kind in (tasks.WorkReturned.event_type, tasks.WorkEnded.event_type):
            if task is not None and task.token == fields["token"]:
                task.lose("it took too long" if fields["how"] in ("overdue", "given_up") else "nobody wants it done any more")
        elif kind == events.AgentStanding.event_type:
            self.draining = fields["draining"]
        else:
            super().heard(answer)
        self._wake.set()

    def lose(self, why: str) -> None:
        """Note that it is lost, and its tasks with it."""
        super().lose(why)
        if self.lost.is_set():
            for task in self.tasks:
                task.lose(f"{self.what} was lost: {self.why}")
        self._wake.set()

    async def renewed_with(self, fields: dict[str, Any]) -> None:
        """Take how it stands; where it holds other tasks than are known here, ask for them."""
        self.draining = fields["draining"]
        self._wake.set()
        self._announcement = self._announcement.model_copy(update={"lease_ms": fields["lease_ms"]})
        if fields["tasks"] != len(self._tasks):
            asked = self._announcement.model_copy(update={"resume": True, "listens": True})
            with contextlib.suppress(AntiphonError):  # the next heartbeat asks again
                await self._channel.send(asked, self.id)

    def renew_command(self, lease_ms: int | None) -> events.AnnounceAgent:
        """Return the command that renews it; None keeps the lease's length."""
        return self._announcement if lease_ms is None else self._announcement.model_copy(update={"lease_ms": lease_ms})

    def release_command(self) -> events.LeavePool:
        """Return the command that gives it back."""
        return events.LeavePool(domain=domain_of(self.pool), request_id=self.id, owner=self.owner)

    async def _leave(self) -> None:
        with contextlib.suppress(AntiphonError):  # the lease ends by itself too
            await self._channel.send(self.release_command(), self._channel.new_id())

    async def _change(self) -> None:
        self._wake.clear()
        await self._wake.wait()


async def drained(session: Session, pool: str, agent: str, owner: str, *, draining: bool = True) -> None:
    """Let the agents of one name have no more tasks, or have them again; see `AgentPool.drain`."""
    command = events.DrainAgent(
        domain=domain_of(pool),
        request_id=session.channel.new_id(),
        owner=owner,
        name=pool,
        agent=agent,
        draining=draining,
    )
    await call(session, command, what=f"agent {agent} of {pool}")
