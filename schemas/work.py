"""Work histories: who changed what and when it landed, and what the first two processors find in them.

Two times in every event, both epoch milliseconds: `ts`, when the author made the change, and `arrived`, when it landed. They are
out of order in event time, really: a change may land years after it was made.
"""

from __future__ import annotations

from typing import ClassVar, Final

from schemas.events import Event

__all__ = ["EVENTS", "ChangeCommitted", "FileChanged", "LateEvent", "OverlapFound", "WindowClosed"]


class ChangeCommitted(Event):
    """An agent committed a change; its files follow as `FileChanged` with the same task."""

    event_type: ClassVar[str] = "change.committed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.events"
    key_field: ClassVar[str] = "agent"

    agent: str
    task: str
    ts: int
    arrived: int
    files: int
    added: int
    removed: int
    reverts: str | None = None
    seq: int = 0


class FileChanged(Event):
    """An agent changed one file, as a part of a change."""

    event_type: ClassVar[str] = "file.changed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.events"
    key_field: ClassVar[str] = "agent"

    agent: str
    task: str
    ts: int
    arrived: int
    path: str
    added: int
    removed: int
    seq: int = 0


class OverlapFound(Event):
    """Two agents changed the same file while neither had seen the other's change; `first` is the one that landed first."""

    event_type: ClassVar[str] = "overlap.found"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.overlaps"
    key_field: ClassVar[str] = "path"

    path: str
    first_agent: str
    first_task: str
    first_ts: int
    first_arrived: int
    second_agent: str
    second_task: str
    second_ts: int
    second_arrived: int


class WindowClosed(Event):
    """What an agent did in one window of event time; final."""

    event_type: ClassVar[str] = "window.closed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.windows"
    key_field: ClassVar[str] = "agent"

    agent: str
    window_start: int
    window_end: int
    changes: int
    reverts: int
    files: int
    added: int
    removed: int
    first_ms: int | None = None
    last_ms: int | None = None


class LateEvent(Event):
    """An event came after its window had closed, so it is in no window's numbers."""

    event_type: ClassVar[str] = "event.late"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.late"
    key_field: ClassVar[str] = "agent"

    agent: str
    task: str
    ts: int
    arrived: int
    seq: int
    window_start: int
    watermark: int


EVENTS: Final = (ChangeCommitted, FileChanged, OverlapFound, WindowClosed, LateEvent)
"""The family, in the order in which ids were given."""
