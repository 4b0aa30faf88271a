"""Pools of agents, for agent services.

    coders = mesh.agents("coders")
    async with coders.announce("ann", capabilities=["python"], capacity=4) as agent: ...
    handle = await coders.assign({"review": 42}, needs=["python"])     # the agent with the least load that can
    await coders.drain("ann")

A queue of work is a pool, too: see `streams.coordination.queues`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from schemas import agents as events
from schemas import tasks
from schemas.naming import domain_of
from streams.coordination.agents import Agent, drained
from streams.coordination.calls import call, milliseconds, wait_for
from streams.coordination.errors import AgentLost, WaitRefused
from streams.coordination.handles import TaskHandle
from streams.coordination.leases import RENEW_SHARE, Held
from streams.coordination.words import to_json, words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from streams.coordination.session import Session
    from streams.coordination.tasks import Task

__all__ = ["ATTEMPTS", "BACKOFF_S", "AgentInfo", "AgentPool", "PoolStanding", "announced"]

log = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""Of a task, those of agents that died included: what fails so often fails always."""
BACKOFF_S: Final = 1.0
"""After the first failed attempt; it doubles with each: half a minute for all of them."""


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """One agent of a pool.

    Attributes:
        name: Its name.
        owner: Its session.
        capabilities: What it is capable of.
        capacity: How much weight it holds at once.
        load: How much it holds.
        tasks: How many tasks that is.
        state: "ready", "draining" or "unhealthy"; only a ready one gets tasks.
    """

    name: str
    owner: str
    capabilities: tuple[str, ...]
    capacity: int
    load: int
    tasks: int
    state: Literal["ready", "draining", "unhealthy"]


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """How a pool stands.

    Attributes:
        agents: In the order of their names, a hundred at most.
        count: How many agents there are.
        waiting: Tasks that wait for one; those in a delay do not.
    """

    agents: tuple[AgentInfo, ...]
    count: int
    waiting: int


class AgentPool:
    """A pool by its name; made by `mesh.agents`."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self.name = name

    def announce(
        self, agent: str = "", *, capabilities: Collection[str] = (), capacity: int = 1, lease_s: float = 10.0, owner: str = ""
    ) -> Held[Agent]:
        """Be an agent of the pool for the time of a block.

        Args:
            agent: Its name, which hashing and `drain` know it by; the owner unless given.
            capabilities: What it is capable of; it gets tasks that need nothing else.
            capacity: How much weight it holds at once.
            lease_s: How long it is believed in without being heard of; it is heard of at each third of that.
            owner: Whose it is; the running task unless given.

        Raises:
            WaitRefused: (Entering the block.) It was refused; its code says why.
            AgentLost: (Leaving.) The lease ended before the block did; the block was cancelled.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        can = words(capabilities)

        async def announce() -> Agent:
            return await announced(
                self._session, self.name, name=agent, capabilities=can, capacity=capacity, lease_s=lease_s, owner=owner
            )

        return Held(announce)

    async def serve(
        self,
        handler: Callable[[Task], Awaitable[Any]],
        agent: str = "",
        *,
        capabilities: Collection[str] = (),
        capacity: int = 1,
        lease_s: float = 10.0,
    ) -> None:
        """Be an agent of the pool until somebody drains it, and do its tasks; one that is lost is announced anew.

        Args:
            handler: Does a task, and returns its result. It is cancelled when the task is lost.
            agent: As for `announce`, like all that follows.
            capabilities: What it is capable of.
            capacity: How much weight it holds at once.
            lease_s: How long it is believed in without being heard of.

        Raises:
            WaitRefused: It was refused; its code says why.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        while True:
            try:
                async with self.announce(agent, capabilities=capabilities, capacity=capacity, lease_s=lease_s) as announced_:
                    await announced_.serve(handler)
                    return
            except AgentLost as lost:
                log.warning("%s; it is announced anew", lost)

    async def assign(
        self,
        task: Any,  # noqa: ANN401 - any JSON value
        *,
        needs: Collection[str] = (),
        weight: int = 1,
        priority: int = 0,
        strategy: str = "least_loaded",
        key: str = "",
        wait_s: float | None = None,
        attempts: int = ATTEMPTS,
        backoff_s: float = BACKOFF_S,
        attempt_s: float | None = None,
        owner: str = "",
    ) -> TaskHandle:
        """Give a task to an agent that can do it, and return when one has it; see `Coordination.assign`."""
        made = self.handle(
            task,
            needs=list(words(needs)),
            weight=weight,
            priority=priority,
            strategy=strategy,
            hash_key=key,
            wait_ms=milliseconds(wait_s),
            attempts_max=attempts,
            backoff_ms=milliseconds(backoff_s),
            attempt_ms=milliseconds(attempt_s),
            owner=owner,
        )
        await made.submitted(assigned=True)
        return made

    async def drain(self, agent: str, *, draining: bool = True) -> None:
        """Let an agent get no more tasks; it does those that it has, and is told.

        Args:
            agent: Its name; all that have it are drained.
            draining: False takes it back.

        Raises:
            WaitRefused: There is no such agent ("no_agent").
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        await drained(self._session, self.name, agent, self._session.owner(), draining=draining)

    async def standing(self) -> PoolStanding:
        """Ask how it stands.

        Raises:
            WaitRefused: The name is not allowed.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        session = self._session
        command = events.AskPool(
            domain=domain_of(self.name), request_id=session.channel.new_id(), owner=session.owner(), name=self.name
        )
        _, told = await call(session, command, what=f"pool {self.name}")
        columns = [told[one] for one in ("agents", "owners", "capabilities", "capacities", "loads", "tasks", "states")]
        found = tuple(AgentInfo(name, own, tuple(can), *rest) for name, own, can, *rest in zip(*columns, strict=True))
        return PoolStanding(found, told["count"], told["waiting"])

    def handle(self, task: Any, *, owner: str, **fields: Any) -> TaskHandle:  # noqa: ANN401 - any JSON value
        """Return the handle of a task that has not been submitted; its fields are those of `SubmitWork`."""
        session = self._session
        command = tasks.SubmitWork(
            domain=domain_of(self.name),
            request_id=session.channel.new_id(),
            owner=owner or session.owner(),
            name=self.name,
            payload=to_json(task),
            **fields,
        )
        return TaskHandle(session, command)


async def announced(
    session: Session,
    pool: str,
    *,
    name: str,
    capabilities: Collection[str] = (),
    capacity: int = 1,
    lease_s: float = 10.0,
    owner: str = "",
    once: bool = False,
) -> Agent:
    """Announce an agent, and return it; see `AgentPool.announce`."""
    owner = owner or session.owner()
    asked = events.AnnounceAgent(
        domain=domain_of(pool),
        request_id="-",
        owner=owner,
        name=pool,
        agent=name or owner,
        capabilities=list(words(capabilities)),
        capacity=capacity,
        lease_ms=milliseconds(lease_s),
        resume=True,
    )
    leave = partial(events.LeavePool, domain=asked.domain, owner=owner)
    what = f"agent {asked.agent} of {pool}"
    while True:
        request, _, fields = await wait_for(session, asked, lambda one: leave(request_id=one), what=what)
        known, since = asked.model_copy(update={"request_id": fields["request_id"]}), request.sent
        if time.monotonic() - since > lease_s / RENEW_SHARE:  # the lease counts from the first try, and may be over by now
            since = time.monotonic()
            try:
                await call(session, known.model_copy(update={"again": True, "listens": False, "resume": False}), what=what)
            except WaitRefused:  # it was over: announce anew
                request.end()
                continue
            except BaseException:
                request.end()
                raise
        agent = Agent(session, known, lease_s=fields["lease_ms"] / 1000, sent=since, once=once)
        request.hand_over(agent)
        return agent
