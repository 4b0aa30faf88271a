"""Commands and events of distributed locks.

Commands go to `coordination.commands`, keyed by domain (see `schemas.naming`), so one partition decides about a domain in the
order of the log. What came of each is an event: to who asked, on the reply topic of its client, and to everybody on
`coordination.events`, keyed by domain too. A grant is named by the request that asked for it.

Tokens fence: `tokens[i]` belongs to `resources[i]`, grows strictly with every new holding of it, and a guard refuses a smaller
one than it has seen. It is the position of the commands partition that granted it: `token >> 20` is the offset.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.events import Event

__all__ = [
    "COMMANDS_TOPIC",
    "EVENTS",
    "EVENTS_TOPIC",
    "LOCK_COMMANDS",
    "AbortLock",
    "AcquireLock",
    "CancelLock",
    "LeaveLocks",
    "LockExpired",
    "LockGranted",
    "LockQueued",
    "LockRefused",
    "LockReleased",
    "LockRenewed",
    "LockTimedOut",
    "LocksLeft",
    "PassTime",
    "ReleaseLock",
    "RenewLock",
]

COMMANDS_TOPIC: Final = "coordination.commands"
EVENTS_TOPIC: Final = "coordination.events"

Mode = Literal["exclusive", "shared"]


class AcquireLock(Event):
    """Give me these resources, all of them or none."""

    event_type: ClassVar[str] = "lock.acquire"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the request and its grant; who asks again uses the same.")
    owner: str = Field(description="Who asks; what it has it gets again at once.")
    resources: list[str]
    mode: Mode = "exclusive"
    wait_ms: int | None = Field(None, description="0 tries; null waits as long as it takes.")
    lease_ms: int = 30_000
    priority: int = 0
    again: bool = Field(False, description="Whether it may have been asked before.")


class RenewLock(Event):
    """Let my grant hold for another lease from now."""

    event_type: ClassVar[str] = "lock.renew"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    grant: str
    owner: str
    lease_ms: int | None = None


class ReleaseLock(Event):
    """I do not need my grant any more."""

    event_type: ClassVar[str] = "lock.release"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    grant: str
    owner: str


class CancelLock(Event):
    """I do not want what I asked for any more: end the request, or release the grant where it has become one."""

    event_type: ClassVar[str] = "lock.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class LeaveLocks(Event):
    """An owner goes away: release what it has in this domain's partition, cancel what it waits for."""

    event_type: ClassVar[str] = "lock.leave"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    owner: str
    request_id: str = ""


class AbortLock(Event):
    """Refuse this waiting request as the victim of a deadlock."""

    event_type: ClassVar[str] = "lock.abort"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    reason: str


class LockGranted(Event):
    """A request has its resources."""

    event_type: ClassVar[str] = "lock.granted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    tokens: list[int]
    mode: Mode
    lease_ms: int
    expires_ms: int = Field(description="By the partition's time.")
    asked_ms: int = Field(description="When it was asked for, by the partition's time.")


class LockQueued(Event):
    """A request waits."""

    event_type: ClassVar[str] = "lock.queued"
    schema_version: ClassVar[int] = 2
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    mode: Mode
    priority: int
    behind: list[str] = Field(description="Owners that it waits for, sixteen at most.")
    order: list[int] = Field(default=[], description="Its place: smaller goes first, and among equals who was queued before.")


class LockRefused(Event):
    """A request ends without a grant, or a command does nothing."""

    event_type: ClassVar[str] = "lock.refused"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    code: str = Field(description="For programs.")
    reason: str = Field(description="For people.")


class LockTimedOut(Event):
    """A request has waited as long as it wanted to."""

    event_type: ClassVar[str] = "lock.timed_out"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    waited_ms: int


class LockReleased(Event):
    """A grant has ended because its owner wanted it."""

    event_type: ClassVar[str] = "lock.released"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    tokens: list[int]


class LockRenewed(Event):
    """A grant holds longer."""

    event_type: ClassVar[str] = "lock.renewed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    tokens: list[int]
    expires_ms: int


class LockExpired(Event):
    """A grant was not renewed in time and is lost."""

    event_type: ClassVar[str] = "lock.expired"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    resources: list[str]
    tokens: list[int]
    next_owners: list[str] = Field(description="Who has some of it now, sixteen at most.")


class LocksLeft(Event):
    """An owner has left."""

    event_type: ClassVar[str] = "lock.left"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    owner: str
    request_id: str
    released: int
    cancelled: int


class PassTime(Event):
    """Time has passed: the broker's time of this record is the partition's time, like that of every other command.

    The coordination processor writes it to its own partition when a lease or a wait is due and nothing else comes.
    """

    event_type: ClassVar[str] = "time.pass"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "writer"

    writer: str = Field(description="Which worker wrote it.")
    written_ms: int = Field(description="By the worker's clock, which decides nothing.")


LOCK_COMMANDS: Final = (AcquireLock, RenewLock, ReleaseLock, CancelLock, LeaveLocks, AbortLock)
"""What the lock processor carries out."""

EVENTS: Final = (
    *LOCK_COMMANDS,
    LockGranted,
    LockQueued,
    LockRefused,
    LockTimedOut,
    LockReleased,
    LockRenewed,
    LockExpired,
    LocksLeft,
    PassTime,
)
"""The family, in the order in which ids were given."""
