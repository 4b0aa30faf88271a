"""Who waits for whom: waits that are told by others, the question whether a partition has come so far, and deadlocks.

Waits for locks and semaphores are told by `lock.queued` and `request.queued`. Whoever waits in a way of its own (a transaction, a
saga) writes `wait.began` and `wait.ended`, and so takes part in the search for deadlocks; see docs/deadlocks.md.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "DEADLOCKS_TOPIC",
    "EVENTS",
    "CheckWaits",
    "DeadlockFound",
    "DeadlockWait",
    "WaitBegan",
    "WaitEnded",
    "WaitsChecked",
]

DEADLOCKS_TOPIC: Final = "coordination.deadlocks"
"""All deadlocks, on its partition 0."""


class CheckWaits(Event):
    """Tell me when you are here: everything before this in the domain's partition is then done, and told."""

    event_type: ClassVar[str] = "wait.check"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str


class WaitsChecked(Event):
    """A partition has come to a `wait.check`."""

    event_type: ClassVar[str] = "wait.checked"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str


class WaitBegan(Event):
    """An owner waits for other owners, each of which can keep it waiting. Said again it replaces what it said before."""

    event_type: ClassVar[str] = "wait.began"
    schema_version: ClassVar[int] = 2
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the wait; no two have the same.")
    owner: str
    kind: str = Field(description='"transaction", "saga" and so on.')
    waits_for: list[str] = Field(description="Owners.")
    priority: int = 0
    lease_ms: int = Field(0, description="It counts as ended where it is not said again for so long; 0: never.")


class WaitEnded(Event):
    """An owner does not wait any more."""

    event_type: ClassVar[str] = "wait.ended"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str


class DeadlockWait(BaseModel):
    """One wait of a deadlock."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    owner: str
    kind: str = Field(description='"locks", "semaphores", or as `wait.began` says.')
    domain: str
    request_id: str
    name: str = Field(description="What it waits for; empty where only owners are told.")
    since_ms: int = Field(description="By the partition's time.")
    waits_for: list[str] = Field(description="Owners that all have to stay for this to be a wait of the deadlock.")
    how: Literal["holds", "goes_first", "told"] = Field(description="What keeps it waiting.")


class DeadlockFound(Event):
    """Owners wait for each other, and one of them is to give up: its request is refused, or it listens to this."""

    event_type: ClassVar[str] = "deadlock.found"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = DEADLOCKS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str = Field(description="Of the victim's request.")
    request_id: str = Field(description="The victim's request that is to end.")
    owner: str = Field(description="The victim.")
    kind: str
    policy: str = Field(description="By which the victim was chosen.")
    reason: str = Field(description="All of it for people.")
    waits: list[DeadlockWait] = Field(description="Each owner waits for the next one, as far as that goes.")


EVENTS: Final = (CheckWaits, WaitsChecked, WaitBegan, WaitEnded, DeadlockFound)
"""The family, in the order in which ids were given."""
