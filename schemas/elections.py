"""Commands and events of leader elections: candidates with leases, terms, a token for each.

As with locks, commands are keyed by domain (see `schemas.naming`), answers go to who asked, and events to everybody. A candidacy
is named by the request that began it. Who waits, is refused or times out: see `schemas.coordination_answers`.

An observer needs two events: `LeaderElected` begins a term, `CandidacyEnded` with a term other than 0 ends it.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "ELECTION_COMMANDS",
    "EVENTS",
    "AskElection",
    "CandidacyEnded",
    "CandidacyRenewed",
    "ElectionStanding",
    "LeaderElected",
    "RenewCandidacy",
    "Resign",
    "StandForElection",
    "StepDown",
]


class StandForElection(Event):
    """Let me lead, now or when it is my turn."""

    event_type: ClassVar[str] = "election.stand"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the request and its candidacy; who asks again uses the same.")
    owner: str
    name: str
    value: str = Field("", description="Told to everybody while it leads: its address, for one.")
    priority: int = 0
    wait_ms: int | None = Field(None, description="0 tries; null waits as long as it takes.")
    lease_ms: int = 10_000
    again: bool = Field(False, description="Whether it may have been asked before.")


class RenewCandidacy(Event):
    """I am still there, waiting or leading: believe in me for another lease from now."""

    event_type: ClassVar[str] = "election.renew"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    lease_ms: int | None = None


class StepDown(Event):
    """Let another candidate lead: I go behind whoever is there."""

    event_type: ClassVar[str] = "election.step_down"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    term: int = Field(description="Which is to end; a late command ends no later one.")
    successor: str = Field("", description="The owner that is to follow; the next in order unless given.")


class Resign(Event):
    """I am no candidate any more, waiting or leading."""

    event_type: ClassVar[str] = "election.resign"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class AskElection(Event):
    """How does this election stand?"""

    event_type: ClassVar[str] = "election.ask"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str


class LeaderElected(Event):
    """A candidate leads, in a term of its own."""

    event_type: ClassVar[str] = "election.elected"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    value: str
    term: int = Field(description="1, 2, 3 and so on in each election.")
    token: int = Field(description="Larger than that of every term before.")
    lease_ms: int
    expires_ms: int = Field(description="By the partition's time.")
    asked_ms: int = Field(description="When it became a candidate, by the partition's time.")


class CandidacyRenewed(Event):
    """A candidate has been heard of."""

    event_type: ClassVar[str] = "election.renewed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    term: int = Field(description="Which it leads; 0 while it waits.")
    token: int
    expires_ms: int


class CandidacyEnded(Event):
    """A leadership has ended, or the candidacy of one that waited."""

    event_type: ClassVar[str] = "election.ended"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    term: int = Field(description="Which has ended; 0 for one that waited.")
    token: int
    how: Literal["resigned", "stepped_down", "expired"] = Field(description="Who has stepped down is still a candidate.")


class ElectionStanding(Event):
    """How an election stands."""

    event_type: ClassVar[str] = "election.standing"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    term: int = Field(description="The last there was.")
    token: int = Field(description="0 where nobody leads.")
    leader: str
    candidacy: str
    value: str
    expires_ms: int
    candidates: int = Field(description="How many, the leader among them.")
    next_owners: list[str] = Field(description="Who follows, in order, fifteen at most.")


ELECTION_COMMANDS: Final = (StandForElection, RenewCandidacy, StepDown, Resign, AskElection)
"""What the processor carries out."""

EVENTS: Final = (*ELECTION_COMMANDS, LeaderElected, CandidacyRenewed, CandidacyEnded, ElectionStanding)
"""The family, in the order in which ids were given."""
