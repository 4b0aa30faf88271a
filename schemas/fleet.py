"""What happens around the work of a fleet: tasks offered, taken, failed and finished, help, errors, and what landed when.

The work itself is in `schemas.work`, as agents tell it and keyed by agent. Here speak those who see the whole: who hands out
tasks, and the repository, which sees changes land. Times are event times in epoch milliseconds; of a landing `ts` is when it
landed, and `begun` when its author made it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from schemas.events import Event

__all__ = [
    "EVENTS",
    "ChangeLanded",
    "ChangeReverted",
    "ErrorRaised",
    "FileLanded",
    "HelpGiven",
    "TaskFailed",
    "TaskFinished",
    "TaskOffered",
    "TaskPickedUp",
]


class TaskOffered(Event):
    """A task is there for whoever takes it."""

    event_type: ClassVar[str] = "task.offered"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "task"

    task: str
    ts: int
    title: str = ""


class TaskPickedUp(Event):
    """An agent took a task."""

    event_type: ClassVar[str] = "task.picked_up"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "task"

    task: str
    agent: str
    ts: int


class TaskFailed(Event):
    """An agent tried a task and failed; it may try again."""

    event_type: ClassVar[str] = "task.failed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "task"

    task: str
    agent: str
    ts: int
    reason: str = ""


class HelpGiven(Event):
    """Somebody, a person or another agent, helped an agent with a task."""

    event_type: ClassVar[str] = "help.given"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "task"

    task: str
    agent: str = Field(description="Who was helped.")
    helper: str
    ts: int


class TaskFinished(Event):
    """An agent finished a task."""

    event_type: ClassVar[str] = "task.finished"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "task"

    task: str
    agent: str
    ts: int


class ErrorRaised(Event):
    """Something an agent did ended in an error: a tool, a test, a call."""

    event_type: ClassVar[str] = "error.raised"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.fleet"
    key_field: ClassVar[str] = "agent"

    agent: str
    ts: int
    kind: str = Field(description="A short, stable name, such as that of the tool or of the exception.")
    task: str | None = None
    message: str = ""


class ChangeLanded(Event):
    """A change landed: from now on everybody works on top of it."""

    event_type: ClassVar[str] = "change.landed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.landings"
    key_field: ClassVar[str] = "task"

    task: str
    agent: str
    ts: int
    begun: int
    files: int


class ChangeReverted(Event):
    """A change that had landed was taken back by another one."""

    event_type: ClassVar[str] = "change.reverted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.landings"
    key_field: ClassVar[str] = "task"

    task: str = Field(description="The task of the change that was taken back.")
    agent: str = Field(description="Who took it back.")
    by_task: str = Field(description="The task of the change that did it.")
    ts: int


class FileLanded(Event):
    """What a change that landed did to one file."""

    event_type: ClassVar[str] = "file.landed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = "agents.landings"
    key_field: ClassVar[str] = "path"

    path: str
    agent: str
    task: str
    ts: int
    begun: int


EVENTS: Final = (
    TaskOffered,
    TaskPickedUp,
    TaskFailed,
    HelpGiven,
    TaskFinished,
    ErrorRaised,
    ChangeLanded,
    ChangeReverted,
    FileLanded,
)
"""The family, in the order in which ids were given."""
