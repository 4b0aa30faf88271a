"""What the machine of pools says: its outcomes, made from what it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Final, TypeVar, cast

from processors.core.coordination.lock_rows import Past
from processors.core.coordination.pool_checks import not_held, report_problem
from processors.core.coordination.pool_state import Agent, Book, Task
from processors.core.coordination.pool_words import (
    Assigned,
    Ended,
    Finish,
    How,
    Outcome,
    PoolLimits,
    PoolStanding,
    Return,
    Returned,
    ReturnHow,
    Standing,
    Submit,
)
from processors.core.coordination.request_words import BEHIND_SHOWN, Queued, Refused

__all__ = ["assigned", "ended", "known_task", "pool_standing", "queued", "returned", "spread", "standing", "task_of"]

_ENDS: Final = frozenset({"refused", "timed_out", "finished", "given_up", "cancelled"})

AGENTS_SHOWN: Final = 100
"""In how a pool stands: with their capabilities about half a megabyte at the most."""

Told = TypeVar("Told", Standing, Returned, Ended)


def spread(outcome: Told, *routes: str) -> list[Outcome]:
    """Return an outcome, and a copy for each other route that somebody listens at."""
    others: Iterable[str] = dict.fromkeys(route for route in routes if route not in ("", outcome.route))
    return [outcome, *(replace(outcome, route=route, repeated=True) for route in others)]


def standing(agent: Agent, route: str, *, repeated: bool = False) -> Standing:
    """Say how an agent stands."""
    what = (agent.agent, agent.capabilities, agent.capacity, agent.load, len(agent.tasks), agent.healthy, agent.draining)
    return Standing(agent.owner, agent.request_id, route, agent.name, *what, agent.lease_ms, agent.until_ms, repeated)


def pool_standing(book: Book, name: str, owner: str, request_id: str, route: str) -> PoolStanding:
    """Say how a pool stands, to who asks."""
    pool = book.pools.get(name)
    every = [] if pool is None else sorted(pool.agents.values(), key=lambda one: (one.agent, one.request_id))
    agents = every[:AGENTS_SHOWN]
    return PoolStanding(
        owner,
        request_id,
        route,
        name,
        tuple(one.agent for one in agents),
        tuple(one.owner for one in agents),
        tuple(one.capabilities for one in agents),
        tuple(one.capacity for one in agents),
        tuple(one.load for one in agents),
        tuple(len(one.tasks) for one in agents),
        tuple("draining" if one.draining else "ready" if one.healthy else "unhealthy" for one in agents),
        count=len(every),
        waiting=0 if pool is None else pool.waiting,
    )


def assigned(task: Task, agent: Agent, route: str, *, repeated: bool = False) -> Assigned:
    """Say that an agent has a task: with the payload only where the agent listens."""
    who = (task.owner, task.request_id, route, task.name, agent.agent, agent.request_id, task.token, task.attempts, task.weight)
    return Assigned(*who, task.payload if route == agent.route else "", task.asked_ms, task.until_ms, repeated)


def returned(task: Task, how: ReturnHow, error: str, route: str, *, repeated: bool = False) -> Returned:
    """Say that a task that has just returned waits again, or will."""
    attempt = task.attempts + (how == "given_back")
    again_ms = task.until_ms or 0 if task.delayed else 0
    return Returned(
        task.owner, task.request_id, route, task.name, task.agent, task.token, attempt, how, error, again_ms, repeated
    )


def ended(request_id: str, past: Past, route: str, *, repeated: bool = True) -> Ended:
    """Say that a task has ended, as it is remembered."""
    agent, token, attempt, text = past.arguments
    how = cast("How", past.kind)  # what ends a task
    return Ended(past.owner, request_id, route, past.resources[0], how, agent, token, attempt, text, repeated)


def queued(book: Book, task: Task, *, repeated: bool = False) -> Queued:
    """Say that a task waits, and for the owners of which agents."""
    pool = book.pools.get(task.name)
    owners = dict.fromkeys(agent.owner for agent in pool.fit(task.kind)) if pool is not None else ()
    return Queued(*task.who, tuple(islice(owners, BEHIND_SHOWN)), repeated)


def known_task(book: Book, asked: Submit) -> Outcome | None:
    """Answer a task that was asked for before as it was answered then; None where it was not."""
    owner, request_id, route, name = asked.owner, asked.request_id, asked.route, asked.name
    task, past = book.task(request_id), book.ledger.ended.get(request_id)
    if reused := book.ledger.reused(request_id, owner, name, route, ends=_ENDS, waits=task is not None):
        return reused
    if task is not None:
        if task.route != route:
            task.route = route  # whoever asks again listens there
            book.keep(task)
        agent = book.agent(task.agent_id) if task.held else None
        return (
            queued(book, task, repeated=True)
            if agent is None
            else replace(assigned(task, agent, route, repeated=True), payload="")
        )
    if past is None:
        return None
    return book.ledger.repeated(request_id, past, route) or ended(request_id, past, route)


def _said_again(asked: Finish | Return, task: Task | None, past: Past | None) -> Outcome | None:
    """Answer an agent that says again how its attempt went; None where the attempt did not end so."""
    if past is not None and past.kind == ("finished" if isinstance(asked, Finish) else "given_up"):
        return ended(asked.request_id, past, asked.route) if past.arguments[1] == asked.token else None
    if isinstance(asked, Return) and task is not None and not task.held and task.token == asked.token:
        return returned(task, "failed" if asked.failed else "given_back", asked.error, asked.route, repeated=True)
    return None


def task_of(book: Book, asked: Finish | Return, limits: PoolLimits) -> Task | Outcome:
    """Return the task that an agent has and speaks of, or what it is answered where it does not have it."""
    task, past = book.task(asked.request_id), book.ledger.ended.get(asked.request_id)
    agent = book.agent(task.agent_id) if task is not None and task.held else None
    name = task.name if task is not None else past.resources[0] if past is not None else ""
    if problem := report_problem(asked, limits):
        name = ""
    elif task is not None and agent is not None and (agent.owner, task.token) == (asked.owner, asked.token):
        return task
    elif (again := _said_again(asked, task, past)) is not None:
        return again
    else:
        problem = not_held(task, past, "" if agent is None else agent.owner, asked)
    return Refused(asked.owner, asked.request_id, asked.route, name, *problem)
