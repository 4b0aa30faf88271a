"""What the machine of pools keeps: agents and tasks as requests of a `ledger`; pools are made from these.

["r", task id]    [1 waits | 2 is held | 5 waits for its delay to end, the fields of `Task`...]
["r", agent id]   [4, the fields of `Agent`...]
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_rows import GRANTED, WAITING, Key, Row

__all__ = ["Agent", "Book", "Pool", "Task"]

AGENT: Final = 4
DELAYED: Final = 5

Order = tuple[int, int]
"""A task's place: by time asked less priority's worth of it, then by log position."""
Kind = tuple[tuple[str, ...], int]
"""Needs and weight: who could have one task of a kind could have any."""
Place = tuple[Order, str]


@dataclass(slots=True)
class Agent:
    """An agent's stay in a pool. `until_ms`: when its lease ends."""

    request_id: str
    owner: str
    name: str
    route: str
    agent: str
    capabilities: tuple[str, ...]
    capacity: int
    healthy: bool
    draining: bool
    lease_ms: int
    until_ms: int
    tasks: dict[str, None] = field(default_factory=dict)
    """What it holds, by ids, oldest first. This and the two below are not in its row."""
    load: int = 0
    words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.words = frozenset(self.capabilities)

    @property
    def due_ms(self) -> int:
        """When it is taken for dead."""
        return self.until_ms

    @property
    def takes(self) -> bool:
        """Whether it gets tasks."""
        return self.healthy and not self.draining

    def fits(self, kind: Kind) -> bool:
        """Whether it could have tasks of a kind if it held nothing."""
        return kind[1] <= self.capacity and self.words.issuperset(kind[0])

    def row(self) -> Row:
        """Return its row."""
        what = (self.agent, self.capabilities, self.capacity, int(self.healthy), int(self.draining))
        return (AGENT, self.owner, self.name, self.route, *what, self.lease_ms, self.until_ms)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Agent:
        """Return the agent of a row."""
        _, owner, name, route, agent, capabilities, capacity, healthy, draining, lease_ms, until_ms = row
        what = (agent, tuple(capabilities), capacity, bool(healthy), bool(draining))
        return cls(request_id, owner, name, route, *what, lease_ms, until_ms)


@dataclass(slots=True)
class Task:
    """A task from its first to its last moment.

    Attributes:
        until_ms: When it gives up waiting, or its delay ends, or its attempt has taken too long; or None.
        order: Its place while it waits, the same each time.
        state: 1, 2 or 5, as in its row.
        attempts: How many there were, the present one included.
        agent_id: Who has it, or had it last; empty if nobody.
        agent: The name of that agent.
        token: Of the present or last attempt; 0 if none.
    """

    request_id: str
    owner: str
    name: str
    route: str
    payload: str
    needs: tuple[str, ...]
    weight: int
    strategy: str
    key: str
    wait_ms: int | None
    attempts_max: int
    backoff_ms: int
    attempt_ms: int | None
    asked_ms: int
    order: Order
    state: int = WAITING
    until_ms: int | None = None
    attempts: int = 0
    agent_id: str = ""
    agent: str = ""
    token: int = 0

    @property
    def due_ms(self) -> int | None:
        """When something happens to it that nobody commands."""
        return self.until_ms

    @property
    def held(self) -> bool:
        """Whether an agent has it."""
        return self.state == GRANTED

    @property
    def delayed(self) -> bool:
        """Whether it does not wait for an agent yet."""
        return self.state == DELAYED

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return self.needs, self.weight

    @property
    def who(self) -> tuple[str, str, str, str]:
        """What begins each of its outcomes."""
        return self.owner, self.request_id, self.route, self.name

    def row(self) -> Row:
        """Return its row."""
        asked = (self.owner, self.name, self.route, self.payload, self.needs, self.weight, self.strategy, self.key)
        limits = (self.wait_ms, self.attempts_max, self.backoff_ms, self.attempt_ms, self.asked_ms, self.order)
        return (self.state, *asked, *limits, self.until_ms, self.attempts, self.agent_id, self.agent, self.token)

    @classmethod
    def of(cls, request_id: str, row: Row) -> Task:
        """Return the task of a row."""
        fields: list[Any] = [request_id, *row[1:15], row[0], *row[15:]]
        task = cls(*fields)
        task.needs, task.order = tuple(task.needs), (task.order[0], task.order[1])
        return task


class Pool:
    """Its agents by id, and its tasks that wait: by kind, each kind in order."""

    __slots__ = ("agents", "kinds", "waiting")

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.kinds: dict[Kind, list[Place]] = {}
        self.waiting = 0

    def first_for(self, agent: Agent) -> tuple[int, Place] | None:
        """Return the weight and place of the first task in order that an agent is fit for."""
        firsts = ((kind[1], places[0]) for kind, places in self.kinds.items() if agent.fits(kind))
        return min(firsts, key=lambda one: one[1], default=None)

    def fit(self, kind: Kind) -> list[Agent]:
        """Return the agents that get tasks of a kind, in the order of their names."""
        return sorted((one for one in self.agents.values() if one.takes and one.fits(kind)), key=_name)


class Book:
    """The pools of one partition; every change is noted for the next `changes`."""

    def __init__(self, *, ended_max: int) -> None:
        self.ledger: Ledger[Agent | Task] = Ledger(ended_max=ended_max)
        self.pools: dict[str, Pool] = {}

    def load(self, rows: Iterable[tuple[Key, Row]]) -> None:
        """Take the rows of an empty book and make its indexes."""
        rest = self.ledger.load(rows, lambda name, row: Agent.of(name, row) if row[0] == AGENT else Task.of(name, row))
        assert not rest, "rows of another machine"
        requests = self.ledger.requests.values()
        for agent in requests:
            if isinstance(agent, Agent):
                self._pool(agent.name).agents[agent.request_id] = agent
        for task in sorted((one for one in requests if isinstance(one, Task)), key=lambda one: one.token):
            self._enter(task)
        for request in requests:
            if request.due_ms is not None:
                self.ledger.due.set(request.request_id, request.due_ms)

    def agent(self, request_id: str) -> Agent | None:
        """Return an agent."""
        request = self.ledger.requests.get(request_id)
        return request if isinstance(request, Agent) else None

    def task(self, request_id: str) -> Task | None:
        """Return a task."""
        request = self.ledger.requests.get(request_id)
        return request if isinstance(request, Task) else None

    def keep(self, request: Agent | Task) -> None:
        """Note that a request is new or has changed."""
        self.ledger.keep(request, request.due_ms)

    # ---- agents

    def come(self, agent: Agent) -> None:
        """Take an agent in."""
        self._pool(agent.name).agents[agent.request_id] = agent
        self.keep(agent)

    def go(self, agent: Agent, how: str) -> None:
        """Let an agent go that holds nothing any more, and remember how."""
        assert not agent.tasks, "what it held was returned"
        del self.pools[agent.name].agents[agent.request_id]
        self.ledger.end(agent, how, (agent.agent,))
        self._tidy(agent.name)

    # ---- tasks

    def wait(self, task: Task, until_ms: int | None) -> None:
        """Let a task, new or not, wait for an agent."""
        self._move(task, WAITING, until_ms)

    def delay(self, task: Task, until_ms: int) -> None:
        """Let a task wait for a time before it waits for an agent."""
        self._move(task, DELAYED, until_ms)

    def assign(self, task: Task, agent: Agent, token: int, until_ms: int | None) -> None:
        """Give a task that waits to an agent."""
        assert task.state == WAITING, "nobody has it"
        self._leave(task)
        task.agent_id, task.agent, task.token, task.attempts = agent.request_id, agent.agent, token, task.attempts + 1
        task.state, task.until_ms = GRANTED, until_ms
        self._enter(task)
        self.keep(task)

    def end(self, task: Task, kind: str, arguments: tuple[Any, ...]) -> None:
        """End a task, and remember its answer."""
        self._leave(task)
        self.ledger.end(task, kind, arguments)
        self._tidy(task.name)

    # ---- indexes

    def _move(self, task: Task, state: int, until_ms: int | None) -> None:
        if task.request_id in self.ledger.requests:
            self._leave(task)
        task.state, task.until_ms = state, until_ms
        self._enter(task)
        self.keep(task)

    def _pool(self, name: str) -> Pool:
        if (pool := self.pools.get(name)) is None:
            pool = self.pools[name] = Pool()
        return pool

    def _tidy(self, name: str) -> None:
        if (pool := self.pools.get(name)) is not None and not (pool.agents or pool.waiting):
            del self.pools[name]

    def _enter(self, task: Task) -> None:
        if task.state == DELAYED:
            return
        pool = self._pool(task.name)
        if task.state == WAITING:
            insort(pool.kinds.setdefault(task.kind, []), (task.order, task.request_id))
            pool.waiting += 1
        else:
            agent = pool.agents[task.agent_id]
            agent.tasks[task.request_id] = None
            agent.load += task.weight

    def _leave(self, task: Task) -> None:
        if task.state == DELAYED:
            return
        pool = self.pools[task.name]
        if task.state == WAITING:
            places = pool.kinds[task.kind]
            del places[bisect_left(places, (task.order, task.request_id))]
            pool.waiting -= 1
            if not places:
                del pool.kinds[task.kind]
        else:
            agent = pool.agents[task.agent_id]
            del agent.tasks[task.request_id]
            agent.load -= task.weight


def _name(agent: Agent) -> tuple[str, str]:
    return agent.agent, agent.request_id
