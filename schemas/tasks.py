"""Commands and events of the tasks of pools, which are queues of work, too: one agent has a task at a time.

As with locks, commands are keyed by domain (see `schemas.naming`), answers go to who asked, and events to everybody. A task is
named by the request that began it, and an attempt at it by its token. For the agents see `schemas.agents`; for what waits, is
refused or times out `schemas.coordination_answers`.

    work.submit ─▶ work.assigned ─▶ work.finish ─▶ work.ended
                        ▲               work.return, or the agent dies ─▶ work.returned
                        └──────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "EVENTS",
    "TASK_COMMANDS",
    "CancelWork",
    "FinishWork",
    "ReturnWork",
    "SubmitWork",
    "WorkAssigned",
    "WorkEnded",
    "WorkReturned",
]


class SubmitWork(Event):
    """Have this task done by an agent of the pool."""

    event_type: ClassVar[str] = "work.submit"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the task; who asks again uses the same.")
    owner: str
    name: str
    payload: str = Field("", description="What is to be done; clients of this distribution write JSON.")
    needs: list[str] = Field(default=[], description="What its agent has to be capable of.")
    weight: int = Field(1, description="How much of an agent's capacity it takes.")
    priority: int = 0
    strategy: str = Field("least_loaded", description="How its agent is chosen: least_loaded, weighted, hash, or your own.")
    hash_key: str = Field("", description="What hashing goes by; the task's id unless given.")
    wait_ms: int | None = Field(None, description="For an agent, each time it waits; 0 tries; null waits as long as it takes.")
    attempts_max: int = Field(5, description="How many attempts there are, those of agents that died included.")
    backoff_ms: int = Field(1_000, description="The delay after the first failed attempt; it doubles with each.")
    attempt_ms: int | None = Field(None, description="How long an attempt may take; null for no limit.")
    again: bool = Field(False, description="Whether it may have been asked before.")


class FinishWork(Event):
    """I have done my task."""

    event_type: ClassVar[str] = "work.finish"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="The task.")
    owner: str = Field(description="The agent's.")
    token: int = Field(description="Of the attempt.")
    result: str = ""


class ReturnWork(Event):
    """I have not done my task: it failed, or I give it back untried."""

    event_type: ClassVar[str] = "work.return"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="The task.")
    owner: str = Field(description="The agent's.")
    token: int = Field(description="Of the attempt.")
    failed: bool = Field(True, description="Whether it counts as an attempt.")
    error: str = ""
    delay_ms: int | None = Field(None, description="How long nobody gets it; the task's back-off unless given.")


class CancelWork(Event):
    """I do not want my task done any more."""

    event_type: ClassVar[str] = "work.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class WorkAssigned(Event):
    """An agent has a task; nobody else has."""

    event_type: ClassVar[str] = "work.assigned"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="The task.")
    owner: str = Field(description="Who wants it done.")
    name: str
    agent: str
    agent_id: str = Field(description="The agent's stay.")
    token: int = Field(description="Of this attempt: larger than of every one before.")
    attempt: int = Field(description="1, 2, 3 and so on.")
    weight: int
    payload: str = Field(description="Empty in the copy for who wants it done.")
    asked_ms: int = Field(description="When it was asked for, by the partition's time.")
    expires_ms: int | None = Field(description="When the attempt has taken too long; null for no limit.")


class WorkReturned(Event):
    """An attempt has ended without a result, and the task waits again."""

    event_type: ClassVar[str] = "work.returned"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    agent: str = Field(description="Who had it.")
    token: int
    attempt: int
    how: Literal["failed", "given_back", "lost", "overdue"]
    error: str
    again_ms: int = Field(description="From when on it is assigned again; 0 for at once.")


class WorkEnded(Event):
    """A task has ended, once."""

    event_type: ClassVar[str] = "work.ended"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    how: Literal["finished", "given_up", "cancelled"]
    agent: str = Field(description="Of the last attempt; empty if there was none.")
    token: int
    attempt: int
    text: str = Field(description="The result, or the last error.")


TASK_COMMANDS: Final = (SubmitWork, FinishWork, ReturnWork, CancelWork)
"""What the processor carries out."""

EVENTS: Final = (*TASK_COMMANDS, WorkAssigned, WorkReturned, WorkEnded)
"""The family, in the order in which ids were given."""
