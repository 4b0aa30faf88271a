"""Who may have what: the rule by which a request is free to be granted, and, read backwards, whom it waits for."""

from __future__ import annotations

import heapq
from typing import Final

from processors.core.coordination.lock_rows import Asked
from processors.core.coordination.lock_state import Book
from processors.core.coordination.lock_words import LockLimits, Wait

__all__ = ["BLOCKERS_SHOWN", "behind", "cannot_wait", "free", "never", "open_at", "waits"]

BLOCKERS_SHOWN: Final = 16
"""Owners named in the outcome of a request that waits: enough for a person; `waits` has all."""


def open_at(book: Book, name: str, request: Asked) -> bool:
    """Return whether nothing at this resource keeps the request waiting.

    Its owner has it already in a mode that will do; or nobody has it in a conflicting mode, and nobody who goes first conflicts.
    """
    resource = book.resources.get(name)
    if resource is None:
        return True
    shares = resource.shares
    mine = shares.get(request.owner)
    if mine is not None and (mine.exclusive or not request.exclusive):
        return True
    first = resource.queue if request.exclusive else resource.writers
    if first and first[0] < (request.order, request.request_id):
        return False
    if request.exclusive:
        return len(shares) == (mine is not None)
    return len(shares) != 1 or not next(iter(shares.values())).exclusive


def free(book: Book, request: Asked) -> bool:
    """Return whether the request can be granted now."""
    return all(open_at(book, name, request) for name in request.resources)


def never(book: Book, request: Asked, limits: LockLimits) -> tuple[str, str] | None:
    """Return why a request is refused though what it asks for may be free; None where it is not."""
    if request.order[0] == 0 and len(request.resources) > 1:
        return "upgrade_alone", "an upgrade from shared to exclusive is for one resource: ask for the others apart"
    for name in request.resources:
        resource = book.resources.get(name)
        share = None if resource is None else resource.shares.get(request.owner)
        if share is not None and len(share.grants) >= limits.nested_max:
            return "nested_too_deep", f"{request.owner} has {name} {len(share.grants)} times already: release some"
    return None


def cannot_wait(book: Book, request: Asked, limits: LockLimits, *, tries: bool) -> tuple[str, str] | None:
    """Return why a request that is not granted at once is refused; None where it waits."""
    if request.order[0] == 0:
        first = book.resources[request.resources[0]].queue[:1]
        if first and first[0][0][0] == 0 and (owner := book.requests[first[0][1]].owner) != request.owner:
            text = f"{owner} shares {request.resources[0]} too and waits to upgrade: each would wait for the other; "
            return "upgrade_deadlock", text + "release the shared grant, then ask for an exclusive one"
    if tries:
        blocked = next(name for name in request.resources if not open_at(book, name, request))
        holder = min(book.resources[blocked].shares, default="a request that waits")
        return "busy", f"{blocked} is not free: {holder} has it or goes first"
    mine = book.waiting_of.get(request.owner)
    if mine is not None and len(mine) >= limits.owner_waiters_max:
        return "owner_full", f"{request.owner} waits with {len(mine)} requests already: let some end"
    if len(book.requests) >= limits.requests_max:
        return "full", f"{limits.requests_max} requests are known on this partition: let some end, or use more partitions"
    for name in request.resources:
        resource = book.resources.get(name)
        if resource is not None and len(resource.queue) >= limits.waiters_max:
            return "queue_full", f"{limits.waiters_max} requests wait for {name}: try again when some have ended"
    return None


def behind(book: Book, request: Asked) -> tuple[str, ...]:
    """Return some owners that a waiting request waits for."""
    found: dict[str, None] = {}
    for name in request.resources:
        resource = book.resources[name]
        found.update(dict.fromkeys(heapq.nsmallest(BLOCKERS_SHOWN, resource.shares)))
        found[book.requests[resource.queue[0][1]].owner] = None
        if len(found) > BLOCKERS_SHOWN:
            break
    found.pop(request.owner, None)
    return tuple(found)[:BLOCKERS_SHOWN]


def waits(book: Book) -> list[Wait]:
    """Return who waits for whom: one entry for each waiting request and resource that keeps it waiting.

    Of those that go first only the nearest are named, back to the first exclusive one: it waits for the others. So the entries
    are as many as needed to follow every wait to its end, and not the square of the queue.
    """
    found = []
    for name in sorted(book.resources):
        resource = book.resources[name]
        holders = list(resource.holders()) if resource.queue else []
        for place, (_, request_id) in enumerate(resource.queue):
            request = book.requests[request_id]
            if open_at(book, name, request):
                continue
            against = tuple(
                (owner, grant)
                for owner, grant in holders
                if owner != request.owner and (request.exclusive or book.requests[grant].exclusive)
            )
            ahead: list[tuple[str, str]] = []
            for at in range(place - 1, -1, -1):
                other = book.requests[resource.queue[at][1]]
                if other.owner != request.owner and (request.exclusive or other.exclusive):
                    ahead.append((other.owner, other.request_id))
                if other.exclusive:
                    break
            found.append(Wait(request.owner, request_id, name, against, tuple(ahead), request.asked_ms, request.priority))
    return found
