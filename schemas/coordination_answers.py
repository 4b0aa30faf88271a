"""What becomes of a request to a primitive other than locks, whose answers name resources: it waits, is refused, or ends."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from schemas.coordination import EVENTS_TOPIC
from schemas.events import Event

__all__ = ["EVENTS", "RequestQueued", "RequestRefused", "RequestTimedOut"]


class RequestQueued(Event):
    """A request waits."""

    event_type: ClassVar[str] = "request.queued"
    schema_version: ClassVar[int] = 2
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    primitive: str = Field(description='"semaphores", "barriers" and so on.')
    name: str = Field(description="What it is waited for.")
    behind: list[str] = Field(description="Owners that it waits for, sixteen at most.")
    priority: int = 0
    order: list[int] = Field(default=[], description="Its place where it has one: smaller goes first, among equals the first.")
    permits: int = Field(0, description="Of a semaphore: how many it waits for.")
    capacity: int = Field(0, description="Of a semaphore: how many there are; 0 while it is closed.")


class RequestRefused(Event):
    """A request ends without what it asked for, or a command does nothing."""

    event_type: ClassVar[str] = "request.refused"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    primitive: str
    name: str
    code: str = Field(description="For programs.")
    reason: str = Field(description="For people.")


class RequestTimedOut(Event):
    """A request has waited as long as it wanted to."""

    event_type: ClassVar[str] = "request.timed_out"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    primitive: str
    name: str
    waited_ms: int


EVENTS: Final = (RequestQueued, RequestRefused, RequestTimedOut)
"""The family, in the order in which ids were given."""
