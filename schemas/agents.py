"""Commands and events of agents in pools: they announce what they can do, are heard of by heartbeat, and get tasks.

As with locks, commands are keyed by domain (see `schemas.naming`), answers go to who asked, and events to everybody. An agent's
stay in a pool is named by the request that began it. For their tasks see `schemas.tasks`; for what is refused
`schemas.coordination_answers`.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "AGENT_COMMANDS",
    "EVENTS",
    "AgentGone",
    "AgentStanding",
    "AnnounceAgent",
    "AskPool",
    "DrainAgent",
    "LeavePool",
    "PoolStanding",
]


class AnnounceAgent(Event):
    """I am here, and this is what I can do; said again it is a heartbeat, and may say otherwise."""

    event_type: ClassVar[str] = "agent.announce"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names this stay in the pool.")
    owner: str = Field(description="Who finishes and returns what the agent holds.")
    name: str = Field(description="The pool.")
    agent: str
    capabilities: list[str] = Field(default=[], description="It gets tasks that need nothing else.")
    capacity: int = Field(1, description="How much weight it holds at once.")
    healthy: bool = Field(True, description="Whether it gets tasks; it keeps what it holds.")
    lease_ms: int = Field(10_000, description="How long it is believed in without being heard of.")
    resume: bool = Field(False, description="Whether it wants to hear once more what it holds.")
    listens: bool = Field(True, description="Whether tasks go where this answer goes.")
    again: bool = Field(False, description="Whether it may have been said before.")


class LeavePool(Event):
    """I am no agent of this pool any more; what I hold goes to others."""

    event_type: ClassVar[str] = "agent.leave"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class DrainAgent(Event):
    """Let the agents of this name get no more tasks, or get them again; they keep what they hold."""

    event_type: ClassVar[str] = "agent.drain"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    agent: str
    draining: bool = True


class AskPool(Event):
    """How does this pool stand?"""

    event_type: ClassVar[str] = "agent.ask"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str


class AgentStanding(Event):
    """How an agent stands: it has come, has been heard of, has changed, or is drained."""

    event_type: ClassVar[str] = "agent.standing"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    agent: str
    capabilities: list[str]
    capacity: int
    load: int = Field(description="The weight of what it holds.")
    tasks: int = Field(description="How many it holds.")
    healthy: bool
    draining: bool
    lease_ms: int
    expires_ms: int = Field(description="By the partition's time.")


class AgentGone(Event):
    """An agent has gone; what it held is told of by events of its own."""

    event_type: ClassVar[str] = "agent.gone"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    agent: str
    how: Literal["left", "expired"]


class PoolStanding(Event):
    """How a pool stands; each agent has a place in every list."""

    event_type: ClassVar[str] = "agent.pool_standing"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    agents: list[str] = Field(description="In the order of their names, a hundred at most.")
    owners: list[str]
    capabilities: list[list[str]]
    capacities: list[int]
    loads: list[int]
    tasks: list[int]
    states: list[str] = Field(description='"ready", "draining" or "unhealthy".')
    count: int = Field(description="How many agents there are.")
    waiting: int = Field(description="How many tasks wait for one; those in a delay do not.")


AGENT_COMMANDS: Final = (AnnounceAgent, LeavePool, DrainAgent, AskPool)
"""What the processor carries out."""

EVENTS: Final = (*AGENT_COMMANDS, AgentStanding, AgentGone, PoolStanding)
"""The family, in the order in which ids were given."""
