"""Commands and events of countdown latches.

Waiters that are queued, refused or time out: see `schemas.coordination_answers`. A latch is told apart from an earlier one of its
name by its token, the log position that made it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "EVENTS",
    "LATCH_COMMANDS",
    "AwaitLatch",
    "CancelAwaitLatch",
    "CountDown",
    "LatchCounted",
    "LatchOpened",
    "LatchRemoved",
    "RemoveLatch",
]


class CountDown(Event):
    """Something that the latch waits for has happened."""

    event_type: ClassVar[str] = "latch.count_down"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="What has happened: counts once as long as the latch counts, whoever says it.")
    owner: str
    name: str
    count: int | None = Field(None, description="How many things have to happen; makes the latch where there is none.")
    by: int = Field(1, description="How many this is.")


class AwaitLatch(Event):
    """I wait until it is open. Sent again before the lease ends, as long as somebody waits."""

    event_type: ClassVar[str] = "latch.wait"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    count: int | None = Field(None, description="As for a count-down.")
    wait_ms: int | None = Field(None, description="0 asks whether it is open; null waits as long as it takes.")
    lease_ms: int = Field(30_000, description="For how long the waiter is believed to live without asking again.")
    again: bool = Field(False, description="Whether it may have been asked before.")


class CancelAwaitLatch(Event):
    """I do not wait any more."""

    event_type: ClassVar[str] = "latch.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class RemoveLatch(Event):
    """Forget the latch: who waits is refused, and the next use makes a new one."""

    event_type: ClassVar[str] = "latch.remove"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    token: int | None = Field(None, description="Only if it is this one.")


class LatchCounted(Event):
    """Something has been counted; the latch is open where nothing remains."""

    event_type: ClassVar[str] = "latch.counted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    token: int
    count: int
    remaining: int


class LatchOpened(Event):
    """One that waited goes on."""

    event_type: ClassVar[str] = "latch.opened"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    token: int
    count: int


class LatchRemoved(Event):
    """A latch is forgotten."""

    event_type: ClassVar[str] = "latch.removed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    token: int = Field(description="Which one; 0 where there was none.")


LATCH_COMMANDS: Final = (CountDown, AwaitLatch, CancelAwaitLatch, RemoveLatch)
"""What the processor carries out."""

EVENTS: Final = (*LATCH_COMMANDS, LatchCounted, LatchOpened, LatchRemoved)
"""The family, in the order in which ids were given."""
