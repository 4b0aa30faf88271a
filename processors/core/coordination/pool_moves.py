"""What moves in pools: tasks to agents and back, and agents out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from processors.core.coordination.pool_answers import assigned, ended, returned, spread
from processors.core.coordination.pool_state import Agent, Book, Place, Pool, Task
from processors.core.coordination.pool_words import Announce, Gone, GoneHow, How, Outcome, PoolLimits, ReturnHow, Submit
from processors.core.coordination.strategies import Match, Strategy, least_loaded
from streams.core.at import At

__all__ = ["Moves"]

_DOUBLINGS_MAX: Final = 30
"""Of a back-off: the limit of a delay is reached long before."""


class Moves:
    """Changes a book by the rules of `pools`, and says what came of it.

    Args:
        book: The book.
        limits: How long a delay may be.
        strategies: By name; a task whose strategy is not known any more goes to the least loaded.
    """

    def __init__(self, book: Book, limits: PoolLimits, strategies: Mapping[str, Strategy]) -> None:
        self._book, self._limits, self._strategies = book, limits, strategies

    def take_in(self, asked: Announce, agent: Agent | None, at: At) -> Agent:
        """Return an agent, new or heard of again, with what it says now."""
        capabilities, until_ms = tuple(sorted(set(asked.capabilities))), at.now_ms + asked.lease_ms
        if agent is None:
            what = (asked.agent, capabilities, asked.capacity, asked.healthy, False)
            agent = Agent(asked.request_id, asked.owner, asked.name, asked.route, *what, asked.lease_ms, until_ms)
            self._book.come(agent)
        else:
            agent.route = asked.route if asked.listens else agent.route
            agent.agent, agent.capacity, agent.healthy = asked.agent, asked.capacity, asked.healthy
            agent.capabilities, agent.words = capabilities, frozenset(capabilities)
            agent.lease_ms, agent.until_ms = asked.lease_ms, until_ms
            self._book.keep(agent)
        return agent

    def new_task(self, asked: Submit, at: At) -> Task:
        """Return the task of a request."""
        asked_ms = self._book.ledger.asked_at(at.now_ms)
        return Task(
            asked.request_id,
            asked.owner,
            asked.name,
            asked.route,
            asked.payload,
            tuple(sorted(set(asked.needs))),
            asked.weight,
            asked.strategy,
            asked.key,
            asked.wait_ms,
            asked.attempts_max,
            asked.backoff_ms,
            asked.attempt_ms,
            asked_ms,
            order=(asked_ms - asked.priority * self._limits.ageing_ms, at.token()),
            until_ms=None if asked.wait_ms is None else at.now_ms + asked.wait_ms,
        )

    def wait(self, task: Task, at: At) -> None:
        """Let a task, new or not, wait for an agent."""
        self._book.wait(task, None if task.wait_ms is None else at.now_ms + task.wait_ms)

    def end(self, task: Task, how: How, text: str, routes: tuple[str, ...], outcomes: list[Outcome]) -> None:
        """End a task, and tell it on these routes."""
        self._book.end(task, how, (task.agent, task.token, task.attempts, text))
        past = self._book.ledger.ended[task.request_id]
        outcomes += spread(ended(task.request_id, past, routes[0], repeated=False), *routes[1:])

    def take_back(
        self,
        task: Task,
        how: ReturnHow,
        error: str,
        at: At,
        outcomes: list[Outcome],
        *,
        route: str = "",
        delay_ms: int | None = None,
    ) -> None:
        """Take a task from its agent: it waits again, perhaps after a delay, or is given up.

        Args:
            task: The task.
            how: How its attempt ended.
            error: Why.
            at: When.
            outcomes: Takes what came of it.
            route: Where the agent's command came from.
            delay_ms: How long nobody gets it; unless given, its back-off where the agent ended the attempt.
        """
        agent = self._book.agent(task.agent_id)
        assert agent is not None, "somebody has it"
        routes = (route, task.route, agent.route if how == "overdue" else "")
        counted = how != "given_back"
        if counted and task.attempts >= task.attempts_max:
            self.end(task, "given_up", error or how, routes, outcomes)
            return
        if delay_ms is None:
            doublings = min(task.attempts - 1, _DOUBLINGS_MAX) if counted else 0
            backoff_ms = min(task.backoff_ms << doublings, self._limits.delay_ms_max)
            delay_ms = backoff_ms if how in ("failed", "given_back") else 0
        task.attempts -= not counted
        if delay_ms:
            self._book.delay(task, at.now_ms + delay_ms)
        else:
            self.wait(task, at)
        outcomes += spread(returned(task, how, error, routes[0]), *routes[1:])

    def go(self, agent: Agent, how: GoneHow, route: str, at: At, outcomes: list[Outcome]) -> None:
        """Let an agent go, and take back what it holds."""
        outcomes.append(Gone(agent.owner, agent.request_id, route, agent.name, agent.agent, how))
        for task_id in list(agent.tasks):
            task = self._book.task(task_id)
            assert task is not None, "what an agent holds is a live task"
            self.take_back(task, "lost", f"the agent {agent.agent} {how}", at, outcomes)
        self._book.go(agent, how)

    def settle(self, name: str, at: At, outcomes: list[Outcome]) -> None:
        """Assign what can be assigned: the first task in order that an agent may have, until there is none."""
        pool = self._book.pools.get(name)
        while pool is not None and pool.waiting:
            place, agents = _next(pool)
            if place is None:
                return
            task = self._book.task(place[1])
            assert task is not None, "what waits is a live task"
            agent = self._chosen(task, agents)
            until_ms = None if task.attempt_ms is None else at.now_ms + task.attempt_ms
            self._book.assign(task, agent, self._book.ledger.next_token(at.token()), until_ms)
            outcome = assigned(task, agent, agent.route)
            outcomes.append(outcome)
            if task.route not in ("", agent.route):
                outcomes.append(assigned(task, agent, task.route, repeated=True))

    def _chosen(self, task: Task, agents: list[Agent]) -> Agent:
        """Return who gets a task of those that could: not the one that had it last, if another could."""
        others = [agent for agent in agents if agent.request_id != task.agent_id] or agents
        if len(others) == 1:
            return others[0]
        rank = self._strategies.get(task.strategy, least_loaded)

        def ranked(agent: Agent) -> tuple[float, str, str]:
            what = (task.request_id, task.key, task.needs, task.weight)
            match = Match(*what, agent.agent, agent.capabilities, agent.capacity, agent.load)
            return rank(match), agent.agent, agent.request_id

        return min(others, key=ranked)


def _next(pool: Pool) -> tuple[Place | None, list[Agent]]:
    """Return the first task that is first for an agent with room for it, and those agents; None where there is none."""
    best: Place | None = None
    agents: list[Agent] = []
    for agent in pool.agents.values():
        if not agent.takes or agent.load >= agent.capacity or (found := pool.first_for(agent)) is None:
            continue
        weight, place = found
        if agent.load + weight > agent.capacity or (best is not None and place > best):
            continue
        if place == best:
            agents.append(agent)
        else:
            best, agents = place, [agent]
    return best, agents
