"""What a semaphore refuses, and what it says then."""

from __future__ import annotations

from processors.core.coordination.lock_rows import Past
from processors.core.coordination.request_checks import Problem, command_problem, range_problem, waiting_problem
from processors.core.coordination.semaphore_state import Book, Hold, Semaphore
from processors.core.coordination.semaphore_words import AcquirePermits, SemaphoreLimits, SetCapacity

__all__ = ["acquire_problem", "cannot_wait", "never", "not_held", "resize_problem"]

_WHAT = "the semaphore"


def acquire_problem(asked: AcquirePermits, limits: SemaphoreLimits) -> Problem | None:
    """Return what is wrong with a request before it is looked at."""
    problem = waiting_problem(asked, limits, _WHAT)
    problem = problem or range_problem("bad_permits", "permits", asked.permits, 1, limits.capacity_max)
    problem = problem or range_problem("bad_priority", "priority", asked.priority, -limits.priority_max, limits.priority_max)
    if problem is not None or asked.capacity is None:
        return problem
    return range_problem("bad_capacity", "capacity", asked.capacity, 1, limits.capacity_max)


def resize_problem(book: Book, asked: SetCapacity, limits: SemaphoreLimits) -> Problem | None:
    """Return why a capacity is not set, or the setting not taken back."""
    if problem := command_problem(asked.request_id, asked.owner, asked.name, _WHAT):
        return problem
    semaphore = book.semaphores.get(asked.name)
    if asked.capacity is None:
        if semaphore is not None and semaphore.capacity == 0:
            return "closed", f"{asked.name} is closed, and nothing would open it: give it a capacity first"
        return None
    if book.fixed >= limits.fixed_max and not (semaphore is not None and semaphore.fixed):
        return "full", f"{limits.fixed_max} capacities are set on this partition: take some back, by setting none"
    more = "; 0 closes, none takes the setting back"
    return range_problem("bad_capacity", "capacity", asked.capacity, 0, limits.capacity_max, more)


def never(book: Book, asked: AcquirePermits) -> Problem | None:
    """Return why no room would ever be enough for a request."""
    semaphore = book.semaphores.get(asked.name)
    capacity = asked.capacity if semaphore is None else semaphore.capacity
    if capacity is None:
        text = f"nobody has said how many permits {asked.name} has: name a capacity with the request, or set it"
        return "no_capacity", text
    if asked.permits > capacity > 0:
        return "too_many", f"{asked.permits} permits of {asked.name} are asked for, and there are {capacity}: ask for fewer"
    return None


def cannot_wait(book: Book, asked: AcquirePermits, semaphore: Semaphore, limits: SemaphoreLimits) -> Problem | None:
    """Return why a request that is not granted at once is refused; None where it waits."""
    name = asked.name
    if asked.wait_ms == 0:
        out, waiting = semaphore.out, len(semaphore.queue)
        return "busy", f"{out} of {semaphore.capacity} permits of {name} are out, and {waiting} requests wait"
    if len(book.ledger.requests) >= limits.requests_max:
        return "full", f"{limits.requests_max} requests are known on this partition: let some end, or use more partitions"
    if len(semaphore.queue) >= limits.waiters_max:
        return "queue_full", f"{limits.waiters_max} requests wait for {name}: try again when some have ended"
    return None


def not_held(hold: Hold | None, past: Past | None, owner: str, what: str) -> Problem:
    """Return why a command does not have the grant that it names.

    Args:
        hold: The request of this name, if it lives.
        past: Its end, if it is remembered.
        owner: Who gives the command.
        what: "released" or "renewed": what is to be done with it.
    """
    known = hold or past
    if known is not None and known.owner != owner:
        return "not_owner", f"the grant is {known.owner}'s: only its owner can have it {what}"
    if hold is not None:
        return "not_granted", f"the request still waits and cannot be {what}: cancel it"
    if past is not None and past.kind == "expired":
        return "expired", "the lease ended before, and the permits are lost: others may have them"
    return "not_held", f"there is no such grant to be {what}: it ended, or never was"
