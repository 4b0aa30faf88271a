"""Commands and events of consensus: members propose values and vote, and one value is decided for ever.

As with locks, commands are keyed by domain (see `schemas.naming`), answers go to who asked, and events to everybody. A proposal
is named by the request that made it. Who waits, is refused or times out: see `schemas.coordination_answers`.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from schemas.events import Event

__all__ = [
    "CONSENSUS_COMMANDS",
    "EVENTS",
    "AskConsensus",
    "AwaitDecision",
    "CancelWait",
    "ConsensusStanding",
    "JoinConsensus",
    "LeaveConsensus",
    "ProposeValue",
    "TermBegan",
    "ValueDecided",
    "ValueProposed",
    "VoteCounted",
    "VoteForProposal",
]


class JoinConsensus(Event):
    """Let me be a member: the next term begins. Who joins a group without members says how it decides."""

    event_type: ClassVar[str] = "consensus.join"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    size_min: int | None = Field(None, description="The quorum is one of at least so many members; null: as it is, or 1.")
    quorum: Literal["majority", "all"] | None = Field(None, description="Null: as it is, or the majority.")
    round_ms: int | None = Field(None, description="From a term's first vote to the next term; null: as it is, or a minute.")


class LeaveConsensus(Event):
    """Let me, or another one that died, be a member no more: the next term begins."""

    event_type: ClassVar[str] = "consensus.leave"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    member: str


class ProposeValue(Event):
    """Put a value up for vote, until something is decided."""

    event_type: ClassVar[str] = "consensus.propose"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Names the proposal too; who asks again uses the same.")
    owner: str
    name: str
    value: str


class VoteForProposal(Event):
    """I vote for this proposal, in this term."""

    event_type: ClassVar[str] = "consensus.vote"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    proposal: str
    term: int


class AwaitDecision(Event):
    """Tell me what is decided, when it is."""

    event_type: ClassVar[str] = "consensus.wait"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    wait_ms: int = Field(description="0 asks whether it is.")
    again: bool = Field(False, description="Whether it may have been asked before.")


class CancelWait(Event):
    """I do not wait any more."""

    event_type: ClassVar[str] = "consensus.cancel"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str


class AskConsensus(Event):
    """How does this stand?"""

    event_type: ClassVar[str] = "consensus.ask"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str


class TermBegan(Event):
    """The next term: no vote of the one before counts in it."""

    event_type: ClassVar[str] = "consensus.term_began"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str = Field(description="Of who joined or left; else empty.")
    owner: str
    name: str
    term: int = Field(description="1, 2, 3 and so on in each group.")
    members: int
    quorum: int = Field(description="So many votes decide.")
    why: Literal["joined", "left", "timed_out", "split"]
    member: str = Field(description="Who joined or left; else empty.")


class ValueProposed(Event):
    """A value is up for vote; its request names the proposal."""

    event_type: ClassVar[str] = "consensus.proposed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    value: str
    term: int


class VoteCounted(Event):
    """A vote counts."""

    event_type: ClassVar[str] = "consensus.voted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    proposal: str
    term: int
    votes: int = Field(description="Of the proposal, in this term, with this one.")
    quorum: int


class ValueDecided(Event):
    """The value is decided, for ever."""

    event_type: ClassVar[str] = "consensus.decided"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    value: str
    proposal: str
    proposer: str
    term: int
    voters: list[str]


class ConsensusStanding(Event):
    """How it stands where nothing is decided: `values[i]`, proposed by `proposers[i]`, has `votes[i]` in this term."""

    event_type: ClassVar[str] = "consensus.standing"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    owner: str
    name: str
    term: int
    members: list[str]
    quorum: int
    proposals: list[str]
    proposers: list[str]
    values: list[str]
    votes: list[int]


CONSENSUS_COMMANDS: Final = (
    JoinConsensus,
    LeaveConsensus,
    ProposeValue,
    VoteForProposal,
    AwaitDecision,
    CancelWait,
    AskConsensus,
)
"""What the processor carries out."""

EVENTS: Final = (*CONSENSUS_COMMANDS, TermBegan, ValueProposed, VoteCounted, ValueDecided, ConsensusStanding)
"""The family, in the order in which ids were given."""
