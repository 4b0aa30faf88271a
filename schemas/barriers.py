"""Commands and events of barriers: parties that wait for each other, generation after generation.

Arrivals that wait, are refused or time out: see `schemas.coordination_answers`. A generation is named by its number, which is a
token: the log position of its first arrival.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "BARRIER_COMMANDS",
    "EVENTS",
    "ArriveAtBarrier",
    "BarrierBroken",
    "BarrierReset",
    "BarrierTripped",
    "CancelArrival",
    "Leaving",
    "ResetBarrier",
]

Leaving = Literal["break", "withdraw"]
"""What becomes of a generation when a party leaves it: it breaks, or goes on without that party's arrival."""


class ArriveAtBarrier(Event):
    """I am here, and wait for the others. Sent again before the lease ends, as long as the party waits."""

    event_type: ClassVar[str] = "barrier.arrive"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the arrival; who asks again uses the same.")
    owner: str = Field(description="The party.")
    name: str
    parties: int
    wait_ms: int | None = Field(None, description="Null waits as long as it takes.")
    lease_ms: int = Field(30_000, description="For how long the party is believed to live without asking again.")
    on_timeout: Leaving = Field("break", description="What becomes of the generation when the party gives up.")
    on_death: Leaving = Field("break", description="What becomes of the generation when the party dies.")
    again: bool = Field(False, description="Whether it may have been asked before.")


class CancelArrival(Event):
    """I do not wait any more."""

    event_type: ClassVar[str] = "barrier.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class ResetBarrier(Event):
    """Make the barrier as new; where parties wait, their generation breaks."""

    event_type: ClassVar[str] = "barrier.reset"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    generation: int | None = Field(None, description="Only if it is this one.")


class BarrierTripped(Event):
    """All parties have arrived; one event for each of them, in the order in which they came."""

    event_type: ClassVar[str] = "barrier.tripped"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    generation: int
    parties: int
    index: int = Field(description="How many came before this party.")


class BarrierBroken(Event):
    """A generation ended without a trip; one event for each party that waited."""

    event_type: ClassVar[str] = "barrier.broken"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    generation: int
    code: str = Field(description="timed_out, died, cancelled or reset.")
    by: str = Field(description="Who broke it.")


class BarrierReset(Event):
    """A barrier is as new."""

    event_type: ClassVar[str] = "barrier.was_reset"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    generation: int = Field(description="Which one ended by this; 0 where none did.")


BARRIER_COMMANDS: Final = (ArriveAtBarrier, CancelArrival, ResetBarrier)
"""What the processor carries out."""

EVENTS: Final = (*BARRIER_COMMANDS, BarrierTripped, BarrierBroken, BarrierReset)
"""The family, in the order in which ids were given."""
