"""Answers about requests that are known: granted, queued, asked again, named by a command."""

from __future__ import annotations

from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Asked, Past
from processors.core.coordination.lock_rules import behind
from processors.core.coordination.lock_state import Book
from processors.core.coordination.lock_words import AcquireRequest, Granted, Outcome, Queued, Refused, Released, TimedOut

__all__ = ["granted", "named", "queued", "repeated"]


def granted(request: Asked, route: str, *, repeated: bool = False) -> Granted:
    """Say that a request has been granted."""
    assert request.until_ms is not None, "a grant has a lease"
    return Granted(
        request.owner,
        request.request_id,
        route,
        request.resources,
        request.tokens,
        request.mode,
        request.lease_ms,
        request.until_ms,
        request.asked_ms,
        repeated,
    )


def queued(book: Book, request: Asked, route: str, *, repeated: bool = False) -> Queued:
    """Say that a request waits."""
    return Queued(
        request.owner,
        request.request_id,
        route,
        request.resources,
        request.mode,
        request.priority,
        behind(book, request),
        request.order[:2],
        repeated,
    )


def repeated(book: Book, asked: AcquireRequest, known: Asked | Past) -> Outcome:
    """Answer a request that was asked before as it was answered then."""
    owner, request_id, route, resources = asked.owner, asked.request_id, asked.route, asked.resources
    if known.owner != owner or known.resources != resources:
        text = "another request has this id: give every request its own"
        return Refused(owner, request_id, route, resources, "id_reused", text)
    if isinstance(known, Asked):
        if known.route != route:
            known.route = route  # whoever asks again listens there
            book.touch(request_id)
        return granted(known, route, repeated=True) if known.tokens else queued(book, known, route, repeated=True)
    if known.kind == "refused":
        code, text = known.arguments
        return Refused(owner, request_id, route, resources, code, text, repeated=True)
    if known.kind == "timed_out":
        return TimedOut(owner, request_id, route, resources, known.arguments[0], repeated=True)
    text = f"the request was granted and has {'expired' if known.kind == 'expired' else 'been released'}: ask with another id"
    return Refused(owner, request_id, route, resources, "ended", text, repeated=True)


def named(book: Book, grant: str, owner: str, route: str, outcomes: list[Outcome], what: str) -> Asked | None:
    """Return the grant that a command names; where there is none for it, append the answer.

    Args:
        book: Where to look.
        grant: The grant's id.
        owner: Who gives the command.
        route: Where the answer goes.
        outcomes: Where the answer is appended.
        what: "released" or "renewed": what is to be done with it.
    """
    if problem := identity_problem(grant, owner):
        outcomes.append(Refused(owner, grant, route, (), *problem))
        return None
    request, past = book.requests.get(grant), book.ended.get(grant)
    if request is not None and request.owner == owner and request.tokens:
        return request
    known = request or past
    resources = () if known is None else known.resources
    if known is not None and known.owner != owner:
        code, text = "not_owner", f"the grant is {known.owner}'s: only its owner can have it {what}"
    elif request is not None:
        code, text = "not_granted", f"the request still waits and cannot be {what}: cancel it"
    elif past is not None and past.kind == "released" and what == "released":
        outcomes.append(Released(owner, grant, route, resources, tuple(past.arguments[0]), repeated=True))
        return None
    elif past is not None and past.kind == "expired":
        code, text = "expired", "the lease ended before, and the grant is lost: a later holder has a larger token"
    else:
        code, text = "not_held", f"there is no such grant to be {what}: it ended, or never was"
    outcomes.append(Refused(owner, grant, route, resources, code, text))
    return None
