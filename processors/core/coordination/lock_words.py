"""What is said to the lock machine and what it answers: commands, outcomes, refusals, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from schemas.naming import NAME_CHARS_MAX

__all__ = [
    "AcquireRequest",
    "Expired",
    "Granted",
    "Left",
    "LockLimits",
    "Mode",
    "Outcome",
    "Queued",
    "Refused",
    "Released",
    "Renewed",
    "TimedOut",
    "Wait",
]

Mode = Literal["exclusive", "shared"]

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LockLimits:
    """What is refused, and why there is a limit.

    Attributes:
        name_chars_max: Of a resource, an owner, a request id: room for a path, and bounded rows.
        resources_max: Of one request: each is queued for and written in the grant's row.
        waiters_max: Of one resource. A queue of ten thousand is a minute of the fastest hand-off; more is an error.
        requests_max: Waiting and granted ones of one partition: about 1 GB in memory at the most.
        nested_max: Grants of one owner on one resource: a program that nests deeper has forgotten to release.
        owner_waiters_max: Requests that one owner waits with at a time; each of its grants looks at all of them.
        lease_ms_min: Renewal at a third of it has to survive a kafka transaction and a slow moment of the loop.
        lease_ms_max: A day: who holds longer renews.
        wait_ms_max: The same for waiting with a limit; without one a waiter stays until it is granted or cancelled.
        priority_max: Priorities go from minus this to this.
        ageing_ms: Waiting so long is worth one step of priority. So a waiter is overtaken by one of n steps more only if that
            one came less than n times this later: nobody starves, and the order of two waiters never changes while they wait.
        ended_max: Ended requests of one partition whose answer is remembered for one that asks again: seconds of full load.
    """

    name_chars_max: int = NAME_CHARS_MAX
    resources_max: int = 64
    waiters_max: int = 10_000
    requests_max: int = 1_000_000
    nested_max: int = 1_000
    owner_waiters_max: int = 1_000
    lease_ms_min: int = 100
    lease_ms_max: int = 24 * HOUR_MS
    wait_ms_max: int = 24 * HOUR_MS
    priority_max: int = 100
    ageing_ms: int = 1_000
    ended_max: int = 10_000


@dataclass(frozen=True, slots=True)
class AcquireRequest:
    """Somebody asks for one or several resources of one domain, together.

    Attributes:
        request_id: Names the request, and then the grant; asked again with the same one, the answer is the same.
        owner: Who asks; reentrance is by owner.
        resources: What, in any order.
        mode: "exclusive" or "shared", for all of them.
        wait_ms: How long to wait; 0 to try, None for as long as it takes.
        lease_ms: How long the grant holds without renewal.
        priority: Higher goes first, with ageing.
        route: Where answers go; of no meaning here.
        again: Whether this may have been asked before. One that is not known then ended too long ago to be remembered, or never
            came: it is refused, since to grant it once more could grant it to nobody.
    """

    request_id: str
    owner: str
    resources: tuple[str, ...]
    mode: Mode = "exclusive"
    wait_ms: int | None = None
    lease_ms: int = 30_000
    priority: int = 0
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """The request has its resources. `tokens[i]` fences `resources[i]`; `repeated`: this was answered before."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    tokens: tuple[int, ...]
    mode: Mode
    lease_ms: int
    expires_ms: int
    asked_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits. `behind`: the owners it waits for, some of them where they are many (see `BLOCKERS_SHOWN`).

    `order` is its place in its queues, among equals by the order of the log.
    """

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    mode: Mode
    priority: int
    behind: tuple[str, ...]
    order: tuple[int, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The request has ended, or the command does nothing: `code` for programs, `text` for people."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    code: str
    text: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The request has waited as long as it wanted to."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    waited_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The grant has ended because its owner wanted it."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    tokens: tuple[int, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Renewed:
    """The grant holds until `expires_ms`."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    tokens: tuple[int, ...]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The grant was not renewed in time and is lost. `next_owners`: who has some of it now."""

    owner: str
    request_id: str
    route: str
    resources: tuple[str, ...]
    tokens: tuple[int, ...]
    next_owners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """An owner has left: what it held is released, what it waited for is cancelled (each with its own outcome before this)."""

    owner: str
    request_id: str
    route: str
    released: int
    cancelled: int


Outcome = Granted | Queued | Refused | TimedOut | Released | Renewed | Expired | Left


@dataclass(frozen=True, slots=True)
class Wait:
    """One waiting request at one resource.

    Attributes:
        owner: Who waits.
        request_id: With what.
        resource: For what.
        holders: Owner and grant of those that hold it against this request.
        ahead: Owner and request of those that wait before it and go first, the nearest only: those wait for the rest.
        since_ms: Since when.
        priority: As asked.
    """

    owner: str
    request_id: str
    resource: str
    holders: tuple[tuple[str, str], ...]
    ahead: tuple[tuple[str, str], ...]
    since_ms: int
    priority: int
