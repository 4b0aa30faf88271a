"""What the machine of pools says: its outcomes, made from what it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Final, TypeVar

from processors.core.coordination.lock_rows import Past
from processors.core.coordination.pool_state import Agent, Book, Task
from processors.core.coordination.pool_words import (
    Assigned,
    Ended,
    Finish,
    How,
    Outcome,
    Return,
    Returned,
    ReturnHow,
    Standing,
    Submit,
)
from processors.core.coordination.request_words import BEHIND_SHOWN, Queued

__all__ = ["assigned", "ended", "known_task", "queued", "returned", "said_again", "spread", "standing"]

_ENDS: Final = frozenset({"refused", "timed_out", "finished", "given_up", "cancelled"})

Told = TypeVar("Told", Standing, Returned, Ended)


def spread(outcome: Told, *routes: str) -> list[Outcome]:
    """Return an outcome, and a copy for each other route that somebody listens at."""
    others: Iterable[str] = dict.fromkeys(route for route in routes if route not in ("", outcome.route))
    return [outcome, *(replace(outcome, route=route, repeated=True) for route in others)]


def standing(agent: Agent, route: str, *, repeated: bool = False) -> Standing:
    """Say how an agent stands."""
    what = (agent.agent, agent.capabilities, agent.capacity, agent.load, len(agent.tasks), agent.healthy, agent.draining)
    return Standing(agent.owner, agent.request_id, route, agent.name, *what, agent.lease_ms, agent.until_ms, repeated)


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
    how: How = past.kind  # type: ignore[assignment] # what ends a task
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


def said_again(asked: Finish | Return, task: Task | None, past: Past | None) -> Outcome | None:
    """Answer an agent that says again how its attempt went; None where the attempt did not end so."""
    if past is not None and past.kind == ("finished" if isinstance(asked, Finish) else "given_up"):
        return ended(asked.request_id, past, asked.route) if past.arguments[1] == asked.token else None
    if isinstance(asked, Return) and task is not None and not task.held and task.token == asked.token:
        return returned(task, "failed" if asked.failed else "given_back", asked.error, asked.route, repeated=True)
    return None
