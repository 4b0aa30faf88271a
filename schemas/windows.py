"""What windows say: results, what had to be given up for want of room, and events that are in no window.

All are keyed by the correlation key, so whoever follows one agent, task or file reads its results in order. Times are event times
in epoch milliseconds, except `detected_at`, the wall clock of the turn that wrote the event.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Event

__all__ = ["EVENTS", "EventLeftOut", "WindowEvicted", "WindowResult", "WindowSpan"]


class WindowSpan(BaseModel):
    """The time of a window: from `start` up to, and not including, `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    start: int
    end: int


class WindowResult(Event):
    """What one window of one key says; the one with the highest revision holds."""

    event_type: ClassVar[str] = "window.result"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.windows"
    key_field: ClassVar[str] = "correlation_key"

    window: str = Field(description="The definition's name.")
    correlation_key: str
    start: int
    end: int = Field(description="Not included; for a session the last event's time and the gap.")
    status: Literal["early", "complete", "revised", "unknown"] = Field(
        description="early: the window is not over; complete: the watermark has passed it; revised: an event came after that."
    )
    revision: int = Field(description="Results of this window before this one.")
    final: bool = Field(description="Whether nothing can change it any more.")
    events: int
    values: dict[str, float | None] = Field(description="By aggregate; null where there is nothing to say.")
    skipped: dict[str, int] = Field(
        description="Values that an aggregate could not use; aggregates that skipped none are absent."
    )
    replaces: list[WindowSpan] = Field(description="Sessions with a result of their own that have become part of this one.")
    detected_at: int


class WindowEvicted(Event):
    """A window that had to go before its time, with what it held: a limit was reached."""

    event_type: ClassVar[str] = "window.evicted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.evictions"
    key_field: ClassVar[str] = "correlation_key"

    window: str
    correlation_key: str
    start: int
    end: int
    reason: Literal["windows_per_key", "bytes_per_key", "keys", "unknown"]
    events: int
    values: dict[str, float | None]
    skipped: dict[str, int]
    detected_at: int


class EventLeftOut(Event):
    """An event that is in no window: all of its windows are closed, its clock is ahead, or it has no key or no time."""

    event_type: ClassVar[str] = "window.event_left_out"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "antiphon.late"
    key_field: ClassVar[str] = "correlation_key"

    window: str
    correlation_key: str = Field(description="Empty where it has none.")
    input_topic: str
    input_partition: int
    input_offset: int
    ts: int | None = Field(description="Its time; null where it has none.")
    watermark: int | None = Field(description="Nothing at or before it was expected any more; null: nothing is known yet.")
    reason: Literal["late", "ahead", "no_key", "no_time", "unknown"]
    detected_at: int


EVENTS: Final = (WindowResult, WindowEvicted, EventLeftOut)
"""The family, in the order in which ids were given."""
