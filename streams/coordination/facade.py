"""The part of a mesh that asks for coordination: each primitive in one line."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from streams.coordination.session import Session

if TYPE_CHECKING:
    from collections.abc import Collection

    from streams.coordination.agents import Agent
    from streams.coordination.barriers import Barrier
    from streams.coordination.consensus import Consensus
    from streams.coordination.elections import Election
    from streams.coordination.grants import Grant
    from streams.coordination.handles import TaskHandle
    from streams.coordination.latches import Latch
    from streams.coordination.leases import Held
    from streams.coordination.pools import AgentPool
    from streams.coordination.queues import WorkQueue
    from streams.coordination.semaphores import Semaphore
    from streams.coordination.waits import ToldWait

__all__ = ["Coordination"]


class Coordination:
    """A base of `Mesh`."""

    _session: Session | None = None

    def _new_session(self) -> Session:
        """Make the session, when it is first used."""
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The coordination of this mesh: owners, and the conversation with the processor."""
        if self._session is None:
            self._session = self._new_session()
        return self._session

    def lock(
        self,
        resources: str | Collection[str],
        *,
        mode: Literal["exclusive", "shared"] = "exclusive",
        wait_s: float | None = None,
        lease_s: float = 30.0,
        priority: int = 0,
        owner: str = "",
        renew: bool = True,
    ) -> Held[Grant]:
        """Hold a lock for the time of a block: `async with mesh.lock("repo/main") as grant`. See `streams.coordination.locks`.

        Args:
            resources: What to lock; several of one domain (the part before the first slash) are granted together.
            mode: "exclusive", or "shared" with others that share.
            wait_s: How long to wait; 0 tries, None waits as long as it takes.
            lease_s: For how long it is granted; renewed at a third of that while the block runs.
            priority: Higher goes first; waiting makes up for it in time.
            owner: Who holds it; the running task unless given. An owner gets again what it has.
            renew: Whether it is renewed in the background; otherwise `Grant.renew` does it.

        Raises:
            LockRefused: (Entering the block.) It was refused; its code says why.
            DeadlockError: (Entering.) It was refused to end a deadlock.
            LockTimedOut: (Entering.) It was not free in time.
            LockLost: (Leaving.) The lease ended before the block did; the block was cancelled.
            RequestTimedOut: No coordination processor answers.
            BrokerError: A command was not delivered.
        """
        from streams.coordination.leases import Held
        from streams.coordination.locks import acquire

        names = (resources,) if isinstance(resources, str) else tuple(resources)
        return Held(
            partial(
                acquire,
                self.session,
                names,
                mode=mode,
                wait_s=wait_s,
                lease_s=lease_s,
                priority=priority,
                owner=owner,
                renew=renew,
            )
        )

    def semaphore(self, name: str, *, capacity: int | None = None) -> Semaphore:
        """Return a semaphore: `async with mesh.semaphore("gpu", capacity=4).permits(2) as permits`.

        Args:
            name: Its name.
            capacity: How many permits it has, where nobody has said so before; needed only there.
        """
        from streams.coordination.semaphores import Semaphore

        return Semaphore(self.session, name, capacity=capacity)

    def waiting_for(
        self, owners: str | Collection[str], *, owner: str = "", kind: str = "wait", domain: str = "", priority: int = 0
    ) -> ToldWait:
        """Tell that an owner waits for others in a block, in a way of its own, so that deadlocks through it are found.

            async with mesh.waiting_for(["bob"], owner="ann", kind="saga"):
                await reply                                   # cancelled where ann is to give up: DeadlockError

        Args:
            owners: Those that it waits for; each of them can keep it waiting.
            owner: Who waits; the running task unless given.
            kind: What the wait is called: "transaction", "saga".
            domain: The key of its events; the owner unless given.
            priority: Where victims are chosen by it, a lower one gives up first.

        Raises:
            DeadlockError: (Leaving the block.) It was chosen to give up; the block was cancelled.
            BrokerError: It could not be told.
        """
        from streams.coordination.waits import ToldWait

        names = (owners,) if isinstance(owners, str) else tuple(owners)
        who = owner or self.session.owner()
        return ToldWait(self.session, names, owner=who, kind=kind, domain=domain or who, priority=priority)

    def barrier(self, name: str, *, parties: int) -> Barrier:
        """Return a barrier: `await mesh.barrier("phase-1", parties=3).wait(timeout_s=60)`.

        Args:
            name: Its name.
            parties: How many have to arrive; the same for all.
        """
        from streams.coordination.barriers import Barrier

        return Barrier(self.session, name, parties=parties)

    def latch(self, name: str, *, count: int | None = None) -> Latch:
        """Return a countdown latch: `mesh.latch("ready", count=3).count_down()`, and `.wait()` on the other side.

        Args:
            name: Its name.
            count: How many things have to happen, the same for all; None where others have made it.
        """
        from streams.coordination.latches import Latch

        return Latch(self.session, name, count=count)

    def election(self, name: str) -> Election:
        """Return an election: `async with mesh.election("planner").lead() as leadership`, and `.observe()` for the others.

        Args:
            name: Its name.
        """
        from streams.coordination.elections import Election

        return Election(self.session, name)

    def consensus(
        self,
        name: str,
        *,
        member: str = "",
        size_min: int | None = None,
        quorum: Literal["majority", "all"] | None = None,
        round_s: float | None = None,
    ) -> Consensus:
        """Return a consensus, which decides once: `decision = await mesh.consensus("merge-plan").agree(value)`.

        How it decides is said by the first to join; the others say the same, or None.

        Args:
            name: Its name.
            member: Who joins, proposes and votes; the running task unless given. One that is started anew gives the same name.
            size_min: The quorum is one of at least so many members, so the first to join cannot decide alone; 1 unless given.
            quorum: "majority" (unless given) of the members, or "all".
            round_s: From a term's first vote to the next term; a minute unless given.
        """
        from streams.coordination.consensus import Consensus

        return Consensus(self.session, name, member=member, size_min=size_min, quorum=quorum, round_s=round_s)

    def agents(self, pool: str = "agents") -> AgentPool:
        """Return a pool of agents: `assign`, `drain`, `standing`, and `announce` and `serve` for the agents themselves.

        Args:
            pool: Its name.
        """
        from streams.coordination.pools import AgentPool

        return AgentPool(self.session, pool)

    def agent(
        self,
        name: str = "",
        *,
        pool: str = "agents",
        capabilities: Collection[str] = (),
        capacity: int = 1,
        lease_s: float = 10.0,
        owner: str = "",
    ) -> Held[Agent]:
        """Be an agent that gets tasks, for the time of a block: `async with mesh.agent("ann", capabilities=["gpu"]) as agent`.

        Args:
            name: Its name, which hashing and `drain` know it by; the owner unless given.
            pool: Where it is announced.
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
        return self.agents(pool).announce(name, capabilities=capabilities, capacity=capacity, lease_s=lease_s, owner=owner)

    async def assign(
        self,
        task: Any,  # noqa: ANN401 - any JSON value
        *,
        pool: str = "agents",
        needs: Collection[str] = (),
        weight: int = 1,
        priority: int = 0,
        strategy: str = "least_loaded",
        key: str = "",
        wait_s: float | None = None,
        attempts: int = 5,
        backoff_s: float = 1.0,
        attempt_s: float | None = None,
        owner: str = "",
    ) -> TaskHandle:
        """Give a task to an agent that can do it, and return when one has it: `await (await mesh.assign(task)).result()`.

        Args:
            task: What is to be done; JSON, 16,384 characters at most. Name what is larger.
            pool: Whose agents.
            needs: What its agent has to be capable of.
            weight: How much of an agent's capacity it takes.
            priority: Higher goes first; a second of waiting makes up for a step.
            strategy: How its agent is chosen among those that have room: "least_loaded", "weighted" by capacity, "hash" (tasks
                of one key to one agent), or one of your own that the processor knows.
            key: What hashing goes by; the task's id unless given.
            wait_s: How long it waits for an agent, each time it waits; 0 tries, None waits as long as it takes.
            attempts: How many there are before it is given up, those of agents that died included.
            backoff_s: The delay after the first failed attempt; it doubles with each.
            attempt_s: How long an attempt may take; None for no limit.
            owner: Who wants it done; the running task unless given.

        Raises:
            WaitRefused: It was refused; its code says why: no_agent, busy, queue_full, bad_needs and so on.
            WaitTimedOut: No agent had room in time.
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        return await self.agents(pool).assign(
            task,
            needs=needs,
            weight=weight,
            priority=priority,
            strategy=strategy,
            key=key,
            wait_s=wait_s,
            attempts=attempts,
            backoff_s=backoff_s,
            attempt_s=attempt_s,
            owner=owner,
        )

    def work(self, queue: str) -> WorkQueue:
        """Return a queue of work: `await mesh.work("builds").put(task)`, and `task = await mesh.work("builds").take()`.

        Args:
            queue: Its name.
        """
        from streams.coordination.queues import WorkQueue

        return WorkQueue(self.session, queue)
