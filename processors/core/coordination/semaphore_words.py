"""What is said to the semaphore machine and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass

from processors.core.coordination.request_words import Queued, Refused, RequestLimits, TimedOut

__all__ = ["AcquirePermits", "Expired", "Granted", "Outcome", "Released", "Renewed", "Resized", "SemaphoreLimits", "SetCapacity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SemaphoreLimits(RequestLimits):
    """More of what is refused, and why there is a limit.

    Attributes:
        capacity_max: A million: enough for tokens a minute, and sums stay small numbers.
        fixed_max: Semaphores of one partition whose capacity was set by command: those are kept while nobody uses them.
        priority_max: Priorities go from minus this to this.
        ageing_ms: Waiting so long is worth one step of priority, as for locks (see `LockLimits`).
    """

    capacity_max: int = 1_000_000
    fixed_max: int = 100_000
    priority_max: int = 100
    ageing_ms: int = 1_000


@dataclass(frozen=True, slots=True)
class AcquirePermits:
    """Somebody asks for permits of one semaphore.

    Attributes:
        request_id: Names the request, and then the grant; asked again with the same one, the answer is the same.
        owner: Who asks. It means nothing for what is granted: who has permits and asks for more waits like anybody.
        name: The semaphore.
        permits: How many, all at once.
        capacity: How many there are, where nobody has said so before; of no meaning afterwards.
        wait_ms: How long to wait; 0 to try, None for as long as it takes.
        lease_ms: How long the grant holds without renewal.
        priority: Higher goes first, with ageing.
        route: Where answers go; of no meaning here.
        again: Whether this may have been asked before; one that is not known then is refused.
    """

    request_id: str
    owner: str
    name: str
    permits: int = 1
    capacity: int | None = None
    wait_ms: int | None = None
    lease_ms: int = 30_000
    priority: int = 0
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class SetCapacity:
    """Somebody says how many permits there are, from now on and also while nobody uses them.

    Attributes:
        capacity: 0 closes the semaphore: everybody waits until it has another one. None takes the setting back: the semaphore is
            forgotten when nobody uses it any more, and the next first use says how many there are.
    """

    request_id: str
    owner: str
    name: str
    capacity: int | None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """The request has its permits. `repeated`: this was answered before."""

    owner: str
    request_id: str
    route: str
    name: str
    permits: int
    token: int
    lease_ms: int
    expires_ms: int
    asked_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The grant has ended because its owner wanted it."""

    owner: str
    request_id: str
    route: str
    name: str
    permits: int
    token: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Renewed:
    """The grant holds until `expires_ms`."""

    owner: str
    request_id: str
    route: str
    name: str
    permits: int
    token: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The grant was not renewed in time, and its permits went back."""

    owner: str
    request_id: str
    route: str
    name: str
    permits: int
    token: int


@dataclass(frozen=True, slots=True)
class Resized:
    """The semaphore has another capacity, and so many permits were out then: more than the capacity, where it was cut below."""

    owner: str
    request_id: str
    route: str
    name: str
    capacity: int | None
    out: int
    repeated: bool = False


Outcome = Granted | Queued | Refused | TimedOut | Released | Renewed | Expired | Resized
