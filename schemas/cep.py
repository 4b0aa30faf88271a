"""What pattern matching says: matches, partial matches that ended, late events, and which version of a pattern holds where.

All but the last two are keyed by the correlation key, so whoever follows one agent, task or file reads its results in order.
Times are event times in epoch milliseconds, except `detected_at`, the wall clock of the turn that wrote the event.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Event

__all__ = [
    "EVENTS",
    "EventPlace",
    "LateForPattern",
    "PartialMatchEvicted",
    "PatternActivated",
    "PatternFailed",
    "PatternMatched",
    "PatternRefused",
    "PatternTimedOut",
    "StageEvents",
]


class EventPlace(BaseModel):
    """One event that a match took: where it is in the log, and when it happened."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    topic: str
    partition: int
    offset: int
    ts: int


class StageEvents(BaseModel):
    """The events that one stage of a pattern took, in the order taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: str
    events: list[EventPlace]


class PatternMatched(Event):
    """A pattern matched for one key."""

    event_type: ClassVar[str] = "pattern.matched"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.matches"
    key_field: ClassVar[str] = "correlation_key"

    pattern: str
    version: int = Field(description="Offset of the definition on the patterns topic.")
    correlation_key: str = Field(description="The correlation key, as text.")
    stages: list[StageEvents] = Field(description="In the order of their first events; stages that took none are absent.")
    started: int = Field(description="Time of the first event.")
    ended: int = Field(description="Time of the last event.")
    took_ms: int = Field(description="ended - started.")
    detected_at: int = Field(description="Wall clock of the turn that found it.")


class PatternTimedOut(Event):
    """A partial match whose window ended before it was a match."""

    event_type: ClassVar[str] = "pattern.timed_out"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.timeouts"
    key_field: ClassVar[str] = "correlation_key"

    pattern: str
    version: int
    correlation_key: str
    stages: list[StageEvents]
    started: int
    deadline: int = Field(description="When its window ended.")
    detected_at: int


class PartialMatchEvicted(Event):
    """A partial match that had to go: too many of one key, or its pattern was replaced with `restart`."""

    event_type: ClassVar[str] = "pattern.evicted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.evictions"
    key_field: ClassVar[str] = "correlation_key"

    pattern: str
    version: int
    correlation_key: str
    stages: list[StageEvents]
    started: int
    reason: str
    detected_at: int


class PatternFailed(Event):
    """A pattern could not go on with one key: its `throw_on_miss` fired. The key's partial matches are dropped, others go on."""

    event_type: ClassVar[str] = "pattern.failed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.evictions"
    key_field: ClassVar[str] = "correlation_key"

    pattern: str
    version: int
    correlation_key: str
    input_topic: str = Field(description="With partition and offset, the event at which it happened; empty: a wait that ended.")
    input_partition: int
    input_offset: int
    reason: str
    detected_at: int


class LateForPattern(Event):
    """An event took no part in a pattern: its time is not after the watermark, or further ahead of the clock than is believed."""

    event_type: ClassVar[str] = "pattern.late"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.late"
    key_field: ClassVar[str] = "correlation_key"

    pattern: str
    version: int
    correlation_key: str
    input_topic: str
    input_partition: int
    input_offset: int
    ts: int
    watermark: int = Field(description="Nothing at or before it was expected any more.")
    reason: Literal["late", "ahead", "unknown"]
    detected_at: int


class PatternActivated(Event):
    """From this offset of this partition on, a pattern version has this status."""

    event_type: ClassVar[str] = "pattern.activated"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.pattern-changes"
    key_field: ClassVar[str] = "pattern"

    pattern: str
    version: int
    action: Literal["activated", "paused", "resumed", "draining", "drained", "replaced", "removed", "unknown"]
    input_topic: str
    input_partition: int
    input_offset: int
    detected_at: int


class PatternRefused(Event):
    """A record of the patterns topic was not taken; what the pattern was before goes on."""

    event_type: ClassVar[str] = "pattern.refused"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.pattern-changes"
    key_field: ClassVar[str] = "pattern"

    pattern: str
    version: int = Field(description="Offset of the refused record on the patterns topic.")
    reason: str
    detected_at: int


EVENTS: Final = (
    PatternMatched,
    PatternTimedOut,
    PartialMatchEvicted,
    PatternFailed,
    LateForPattern,
    PatternActivated,
    PatternRefused,
)
"""The family, in the order in which ids were given."""
