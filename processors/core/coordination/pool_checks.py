"""What a pool refuses, and what it says then."""

from __future__ import annotations

from collections.abc import Collection

from processors.core.coordination.lock_rows import Past
from processors.core.coordination.pool_state import Book, Pool, Task
from processors.core.coordination.pool_words import Announce, Drain, Finish, PoolLimits, Return, Submit
from processors.core.coordination.request_checks import Problem, command_problem, lease_problem, range_problem
from schemas.naming import name_problem

__all__ = ["announce_problem", "cannot_wait", "drain_problem", "no_room", "not_held", "report_problem", "submit_problem"]

_WHAT = "the pool"


def announce_problem(asked: Announce, limits: PoolLimits) -> Problem | None:
    """Return what is wrong with an agent before it is looked at."""
    problem = command_problem(asked.request_id, asked.owner, asked.name, _WHAT) or _agent_problem(asked.agent)
    problem = problem or _words_problem("bad_capabilities", "capabilities", asked.capabilities, limits)
    problem = problem or range_problem("bad_capacity", "capacity", asked.capacity, 1, limits.capacity_max)
    return problem or lease_problem(asked.lease_ms, limits)


def drain_problem(asked: Drain) -> Problem | None:
    """Return what is wrong with a command that drains."""
    return command_problem(asked.request_id, asked.owner, asked.name, _WHAT) or _agent_problem(asked.agent)


def submit_problem(asked: Submit, limits: PoolLimits, strategies: Collection[str]) -> Problem | None:
    """Return what is wrong with a task before it is looked at."""
    if problem := command_problem(asked.request_id, asked.owner, asked.name, _WHAT):
        return problem
    if problem := _words_problem("bad_needs", "needs", asked.needs, limits):
        return problem
    if asked.strategy not in strategies:
        return "bad_strategy", f"the strategy {asked.strategy[:40]!r} is not known here: {', '.join(sorted(strategies)[:16])} are"
    if asked.key and (text := name_problem(asked.key, "the key")):
        return "bad_key", text
    ranges = (
        ("payload", len(asked.payload), 0, limits.payload_chars_max, " characters; name what is larger"),
        ("weight", asked.weight, 1, limits.capacity_max, ""),
        ("priority", asked.priority, -limits.priority_max, limits.priority_max, ""),
        ("attempts", asked.attempts_max, 1, limits.attempts_max, ""),
        ("backoff", asked.backoff_ms, 0, limits.delay_ms_max, " milliseconds"),
        ("wait", asked.wait_ms or 0, 0, limits.wait_ms_max, " milliseconds, or none for no limit"),
    )
    for what, value, least, most, more in ranges:
        if problem := range_problem(f"bad_{what}", what, value, least, most, more):
            return problem
    if asked.attempt_ms is None:
        return None
    more = "; none for no limit"
    return range_problem("bad_attempt", "attempt_ms", asked.attempt_ms, limits.lease_ms_min, limits.lease_ms_max, more)


def report_problem(asked: Finish | Return, limits: PoolLimits) -> Problem | None:
    """Return what is wrong with what an agent says about a task."""
    text = asked.result if isinstance(asked, Finish) else asked.error
    delay = asked.delay_ms if isinstance(asked, Return) else None
    more = " characters; name what is larger"
    problem = command_problem(asked.request_id, asked.owner, "-", _WHAT)
    problem = problem or range_problem("bad_result", "the result or error", len(text), 0, limits.result_chars_max, more)
    return problem or range_problem("bad_delay", "delay_ms", delay or 0, 0, limits.delay_ms_max)


def no_room(book: Book, asked: Announce | Submit, limits: PoolLimits) -> Problem | None:
    """Return why an agent or a task is not taken in though nothing is wrong with it."""
    if len(book.ledger.requests) >= limits.requests_max:
        return "full", f"{limits.requests_max} agents and tasks are known on this partition: let some end, or use more partitions"
    pool = book.pools.get(asked.name)
    if pool is not None and isinstance(asked, Announce) and len(pool.agents) >= limits.agents_max:
        return "too_many_agents", f"{limits.agents_max} agents are in {asked.name}: let one go, or use another pool"
    return None


def cannot_wait(pool: Pool, task: Task, limits: PoolLimits) -> Problem | None:
    """Return why a task that waits as the last one of its pool may not."""
    if task.wait_ms == 0:
        if pool.fit(task.kind):
            return "busy", f"every agent of {task.name} that fits has no room, or earlier tasks to do"
        return "no_agent", f"none of {len(pool.agents)} agents of {task.name} fits: needs, capacity, health, not drained"
    if pool.waiting > limits.waiters_max:
        return "queue_full", f"{limits.waiters_max} tasks wait in {task.name}: try again when some have ended"
    if len(pool.kinds) > limits.kinds_max:
        text = f"{limits.kinds_max} different needs and weights wait in {task.name}"
        return "too_many_kinds", f"{text}: use fewer different ones, or another pool"
    return None


def not_held(task: Task | None, past: Past | None, held_by: str, asked: Finish | Return) -> Problem:
    """Return why what an agent says of a task does nothing.

    Args:
        task: The task, if it lives.
        past: Its end, if it is remembered.
        held_by: The owner of the agent that has it; empty if nobody has.
        asked: The command.
    """
    if task is not None and asked.token == task.token and held_by not in ("", asked.owner):
        return "not_owner", f"the task is with {held_by}: only the agent that has it says how it went"
    if task is not None:
        where = "another attempt has begun" if task.held else "it waits for another attempt"
        return "lost", f"the attempt of token {asked.token} has ended: {where}"
    if past is not None:
        return "ended", f"the task has ended: {past.kind}"
    return "not_held", "there is no such task: it ended long ago, or never was"


def _agent_problem(agent: str) -> Problem | None:
    text = name_problem(agent, "the agent's name")
    return ("bad_agent", text) if text else None


def _words_problem(code: str, what: str, words: tuple[str, ...], limits: PoolLimits) -> Problem | None:
    if len(words) > limits.words_max:
        return code, f"{len(words)} words are in {what}: at most {limits.words_max} are allowed"
    for word in words:
        if (text := name_problem(word, f"a word in {what}")) or len(word) > limits.word_chars_max:
            return code, text or f"a word in {what} has {len(word)} characters: at most {limits.word_chars_max} are allowed"
    return None
