"""Locks for agent services.

    async with mesh.lock("repo/main", lease_s=30) as grant:
        await mesh.publish(ChangeWritten(...), headers=grant.guard())      # refused by a guard once the lock is lost
        ...                                                                # cancelled when the lease is gone: LockLost

    async with mesh.lock(["repo/a", "repo/b"], mode="shared", wait_s=5):   # both or none

Without an `owner` each asyncio task is an owner of its own: two tasks exclude each other, and a task that asks again for what it
has gets it at once. Tasks that are to share a lock name the same owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from schemas.coordination import AcquireLock, CancelLock, LockGranted, LockTimedOut
from schemas.naming import domain_of, name_problem
from streams.coordination.calls import milliseconds
from streams.coordination.errors import VICTIM, DeadlockError, LockRefused
from streams.coordination.errors import LockTimedOut as WaitTimedOut
from streams.coordination.grants import Grant
from streams.coordination.waiting import ANEW, EXPIRED, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.coordination.session import Session

__all__ = ["acquire"]

_PRIORITY_MAX: Final = 2**31
"""Beyond what the processor allows, and it fits into a field."""
_RESOURCES_MAX: Final = 1_000
"""Sent in one request; the processor allows fewer, and says how many."""


def _check_names(resources: tuple[str, ...], owner: str) -> None:
    """Refuse here what could not be sent: names of any size are larger than the broker takes."""
    problems = (name_problem(name, "the resource") for name in resources)
    if problem := next(filter(None, problems), "") or (name_problem(owner, "the owner") if owner else ""):
        raise LockRefused(f"of {len(resources)} resources", code="bad_name", reason=problem)
    if len(resources) > _RESOURCES_MAX:
        text = f"{len(resources)} resources are asked for: 1 to 64 in one request are allowed unless the processor says otherwise"
        raise LockRefused(f"of {len(resources)} resources", code="bad_resources", reason=text)


def _tell_missed(session: Session, owner: str, missed: Sequence[dict[str, Any] | None]) -> None:
    if session.on_missed is not None:
        for grant in missed:
            session.on_missed(owner, grant)


async def acquire(
    session: Session,
    resources: tuple[str, ...],
    *,
    mode: Literal["exclusive", "shared"],
    wait_s: float | None,
    lease_s: float,
    priority: int,
    owner: str,
    renew: bool,
) -> Grant:
    """Ask for a lock and wait for it; see `Mesh.lock`."""
    _check_names(resources, owner)
    what = f"lock {', '.join(resources)}"
    command = AcquireLock(
        domain=domain_of(resources[0]) if resources else "",
        request_id="-",
        owner=owner or session.owner(),
        resources=list(resources),
        mode=mode,
        wait_ms=milliseconds(wait_s),
        lease_ms=milliseconds(lease_s),
        priority=max(-_PRIORITY_MAX, min(priority, _PRIORITY_MAX)),
    )
    while True:
        await session.channel.open()
        asked = command.model_copy(update={"request_id": session.channel.new_id()})
        cancel = CancelLock(domain=asked.domain, request_id=asked.request_id, owner=asked.owner)
        request = Request(session, asked, cancel=cancel, what=what)
        try:
            kind, fields = await request.answer()
        finally:
            _tell_missed(session, asked.owner, request.over)
        if kind == LockGranted.event_type:
            grant = Grant(session, fields, sent=request.sent, renews=renew)
            request.hand_over(grant)
            return grant
        request.end()
        if kind in EXPIRED:
            _tell_missed(session, asked.owner, [] if request.over else [None])
            continue
        if kind == LockTimedOut.event_type:
            raise WaitTimedOut(f"{what} was not free within {fields['waited_ms'] / 1000:g} s")
        if fields["code"] == VICTIM:
            raise DeadlockError(what, reason=fields["reason"])
        if fields["code"] not in ANEW:
            raise LockRefused(", ".join(resources), code=fields["code"], reason=fields["reason"])
        _tell_missed(session, asked.owner, [] if request.over else [None])
