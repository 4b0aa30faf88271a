"""Commands and events of semaphores: weighted permits with leases.

As with locks, commands are keyed by domain (see `schemas.naming`), answers go to who asked, and events to everybody. A grant is
named by the request that asked for it. Requests that wait, are refused or time out: see `schemas.coordination_answers`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "EVENTS",
    "SEMAPHORE_COMMANDS",
    "AcquirePermits",
    "CancelPermits",
    "PermitsExpired",
    "PermitsGranted",
    "PermitsReleased",
    "PermitsRenewed",
    "ReleasePermits",
    "RenewPermits",
    "SemaphoreResized",
    "SetCapacity",
]


class AcquirePermits(Event):
    """Give me so many permits, all at once."""

    event_type: ClassVar[str] = "semaphore.acquire"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the request and its grant; who asks again uses the same.")
    owner: str
    name: str
    permits: int = 1
    capacity: int | None = Field(None, description="How many there are, where nobody has said so before.")
    wait_ms: int | None = Field(None, description="0 tries; null waits as long as it takes.")
    lease_ms: int = 30_000
    priority: int = 0
    again: bool = Field(False, description="Whether it may have been asked before.")


class RenewPermits(Event):
    """Let my grant hold for another lease from now."""

    event_type: ClassVar[str] = "semaphore.renew"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    grant: str
    owner: str
    lease_ms: int | None = None


class ReleasePermits(Event):
    """I do not need my grant any more."""

    event_type: ClassVar[str] = "semaphore.release"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    grant: str
    owner: str


class CancelPermits(Event):
    """I do not want what I asked for any more: end the request, or release the grant where it has become one."""

    event_type: ClassVar[str] = "semaphore.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    victim_of: str = Field("", description="Why it is ended by others, as the victim of a deadlock; a grant is left as it is.")


class SetCapacity(Event):
    """Say how many permits a semaphore has, from now on and also while nobody uses them."""

    event_type: ClassVar[str] = "semaphore.resize"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    capacity: int | None = Field(description="0 closes it; null takes the setting back.")


class PermitsGranted(Event):
    """A request has its permits."""

    event_type: ClassVar[str] = "semaphore.granted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    permits: int
    token: int
    lease_ms: int
    expires_ms: int = Field(description="By the partition's time.")
    asked_ms: int = Field(description="When it was asked for, by the partition's time.")


class PermitsReleased(Event):
    """A grant has ended because its owner wanted it."""

    event_type: ClassVar[str] = "semaphore.released"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    permits: int
    token: int


class PermitsRenewed(Event):
    """A grant holds longer."""

    event_type: ClassVar[str] = "semaphore.renewed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    permits: int
    token: int
    expires_ms: int


class PermitsExpired(Event):
    """A grant was not renewed in time, and its permits went back."""

    event_type: ClassVar[str] = "semaphore.expired"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    permits: int
    token: int


class SemaphoreResized(Event):
    """A semaphore has another capacity."""

    event_type: ClassVar[str] = "semaphore.resized"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    capacity: int | None = Field(description="Null where the setting was taken back.")
    out: int = Field(description="Permits that were out then: more than the capacity, where it was cut below.")


SEMAPHORE_COMMANDS: Final = (AcquirePermits, RenewPermits, ReleasePermits, CancelPermits, SetCapacity)
"""What the processor carries out."""

EVENTS: Final = (
    *SEMAPHORE_COMMANDS,
    PermitsGranted,
    PermitsReleased,
    PermitsRenewed,
    PermitsExpired,
    SemaphoreResized,
)
"""The family, in the order in which ids were given."""
