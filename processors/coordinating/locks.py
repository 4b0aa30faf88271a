"""Locks on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processors.core.coordination.lock_words import (
    AcquireRequest,
    Expired,
    Granted,
    Left,
    LockLimits,
    Queued,
    Refused,
    Released,
    Renewed,
    TimedOut,
)
from processors.core.coordination.locks import Locks
from schemas.coordination import (
    LOCK_COMMANDS,
    AcquireLock,
    CancelLock,
    LeaveLocks,
    LockExpired,
    LockGranted,
    LockQueued,
    LockRefused,
    LockReleased,
    LockRenewed,
    LocksLeft,
    LockTimedOut,
    ReleaseLock,
    RenewLock,
)
from schemas.naming import NAME_CHARS_MAX, domain_of
from streams.machines.shells import Shell, place_problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processors.core.coordination.lock_words import Outcome
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["shell"]

_WHO: Final[dict[str, Any]] = {"id": "-", "source": "-", "domain": "", "request_id": "", "owner": ""}
_WHAT: Final[dict[str, Any]] = {**_WHO, "resources": [], "tokens": []}
_SAMPLES: Final[tuple[Event, ...]] = (
    LockGranted(**_WHAT, mode="shared", lease_ms=0, expires_ms=0, asked_ms=0),
    LockReleased(**_WHAT),
    LockRenewed(**_WHAT, expires_ms=0),
    LockExpired(**_WHAT, next_owners=[]),
    LockQueued(**_WHO, resources=[], mode="shared", priority=0, behind=[]),
    LockRefused(**_WHO, resources=[], code="", reason=""),
    LockTimedOut(**_WHO, resources=[], waited_ms=0),
    LocksLeft(**_WHO, released=0, cancelled=0),
)

_EVENT_OF: Final[dict[type[Any], type[Event]]] = {
    Granted: LockGranted,
    Queued: LockQueued,
    Refused: LockRefused,
    TimedOut: LockTimedOut,
    Released: LockReleased,
    Renewed: LockRenewed,
    Expired: LockExpired,
    Left: LocksLeft,
}


def shell(limits: LockLimits | None = None) -> Shell:
    """Return locks as a primitive of the coordination processor."""
    limits = limits or LockLimits()
    return Shell(
        name="locks",
        commands=frozenset(cls.event_type for cls in LOCK_COMMANDS),
        samples=_SAMPLES,
        load=lambda rows: Locks.load(rows, limits),
        carry_out=_carry_out,
        tell=_tell,
    )


def _carry_out(locks: Locks, kind: str, fields: dict[str, Any], key: bytes | None, route: str, at: At) -> list[Outcome]:
    """Carry out one command.

    Args:
        locks: The machine.
        kind: The command's event type.
        fields: Its fields.
        key: The record's key. It has to be the domain, and that of the resources: under another one the command may have come to
            a partition that does not decide about them.
        route: Where its answer goes.
        at: Where and when.
    """
    domain = fields["domain"]
    if kind == AcquireLock.event_type:
        resources = tuple(fields["resources"])
        request_id, owner = fields["request_id"], fields["owner"]
        if problem := place_problem(key, domain, resources[0] if resources else ""):
            return [Refused(owner, request_id, route, (), "misplaced", problem)]
        asked = AcquireRequest(
            request_id,
            owner,
            resources,
            fields["mode"],
            fields["wait_ms"],
            fields["lease_ms"],
            fields["priority"],
            route,
            fields["again"],
        )
        return locks.acquire(asked, at)
    if problem := place_problem(key, domain):
        request_id = fields.get("request_id") or fields.get("grant", "")
        return [Refused(fields.get("owner", ""), request_id, route, (), "misplaced", problem)]
    if kind == ReleaseLock.event_type:
        return locks.release(fields["grant"], fields["owner"], at, route=route)
    if kind == RenewLock.event_type:
        return locks.renew(fields["grant"], fields["owner"], at, lease_ms=fields["lease_ms"], route=route)
    if kind == CancelLock.event_type:
        return locks.cancel(fields["request_id"], fields["owner"], at, route=route)
    if kind == LeaveLocks.event_type:
        return locks.release_owner(fields["owner"], at, request_id=fields["request_id"], route=route)
    return locks.abort(fields["request_id"], fields["reason"], at)


def _tell(outcomes: Iterable[Outcome], answers: Answers, domain: str) -> None:
    """Write what came of a command.

    Args:
        outcomes: What.
        answers: Where to.
        domain: The command's; for what is about resources their own counts.
    """
    for outcome in outcomes:
        cls = _EVENT_OF[type(outcome)]
        fields = {name: getattr(outcome, name) for name in _NAMES[type(outcome)]}
        own = domain if isinstance(outcome, Left) or not outcome.resources else domain_of(outcome.resources[0])
        everybody = not getattr(outcome, "repeated", False)
        if isinstance(outcome, Refused):
            fields["reason"] = outcome.text
            if outcome.code.startswith("bad_") or outcome.code in ("domains_mixed", "misplaced"):
                everybody = False  # nothing happened; and what is bad may be large
                own = domain
                fields["request_id"] = outcome.request_id[:NAME_CHARS_MAX]
                fields["owner"] = outcome.owner[:NAME_CHARS_MAX]
                fields["resources"] = ()
        answers.write(cls, fields, domain=own, route=outcome.route, event=everybody)


_NAMES: Final[dict[type[Any], tuple[str, ...]]] = {
    Granted: ("request_id", "owner", "resources", "tokens", "mode", "lease_ms", "expires_ms", "asked_ms"),
    Queued: ("request_id", "owner", "resources", "mode", "priority", "behind", "order"),
    Refused: ("request_id", "owner", "resources", "code"),
    TimedOut: ("request_id", "owner", "resources", "waited_ms"),
    Released: ("request_id", "owner", "resources", "tokens"),
    Renewed: ("request_id", "owner", "resources", "tokens", "expires_ms"),
    Expired: ("request_id", "owner", "resources", "tokens", "next_owners"),
    Left: ("owner", "request_id", "released", "cancelled"),
}
