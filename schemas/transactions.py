"""Two-phase commit: what goes to the coordinator of a transaction over several domains or resource managers, and what it says.

Commands go to `transactions.commands`, keyed by the transaction's id, so one partition decides each transaction.

    client ──▶ each domain     transaction.prepare        tables.commands
    client ──▶ coordinator     transaction.begin          only where resource managers take part
    domain ──▶ coordinator     transaction.voted          names all participants: a vote alone makes the transaction known
    coordinator ──▶ domains    transaction.decide         tables.commands; the decision follows from the votes in its log
    coordinator ──▶ managers   manager.prepare, manager.decide     transactions.managers
    participants ──▶ coordinator   transaction.done

Presumed abort (Mohan, Lindsay and Obermarck 1986): a transaction that the coordinator does not know has aborted; one that
committed is remembered until all participants have done it.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Event
from schemas.tables import Conflict

__all__ = [
    "COMMANDS_TOPIC",
    "COORDINATOR_COMMANDS",
    "EVENTS",
    "EVENTS_TOPIC",
    "MANAGERS_TOPIC",
    "MANAGER_PREFIX",
    "AbandonTransaction",
    "AskDecision",
    "BeginTransaction",
    "DecideManager",
    "Enlisted",
    "ParticipantDone",
    "ParticipantVoted",
    "PrepareManager",
    "ResolveTransaction",
    "TransactionDecided",
    "TransactionEnded",
    "TransactionIncident",
]

COMMANDS_TOPIC: Final = "transactions.commands"
EVENTS_TOPIC: Final = "transactions.events"
MANAGERS_TOPIC: Final = "transactions.managers"
"""Keyed by the manager's name."""
MANAGER_PREFIX: Final = "manager:"
"""Before a resource manager's name where participants are named."""


class Enlisted(BaseModel):
    """A resource manager that takes part, and what it is asked to do."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    payload: str = Field(description="JSON text for the manager.")


class BeginTransaction(Event):
    """A transaction with resource managers: have them prepare."""

    event_type: ClassVar[str] = "transaction.begin"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    owner: str
    participants: list[str] = Field(description="Domains, and `manager:<name>` for each of `managers`.")
    managers: list[Enlisted]
    timeout_ms: int = 10_000
    again: bool = Field(False, description="Whether it may have been sent before.")


class ParticipantVoted(Event):
    """A participant promises to commit if it is told to, or refuses."""

    event_type: ClassVar[str] = "transaction.voted"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    participant: str
    commit: bool
    owner: str
    participants: list[str]
    timeout_ms: int
    route: str = Field("", description="Where the client's answer goes: partition, call and reply topic, as machines keep it.")
    position: int = Field(-1, description="Of the prepare, where the participant is a domain.")
    at_ms: int = Field(0, description="When it promised; a manager says here what its `manager.prepare` says.")
    code: str = ""
    reason: str = ""
    conflicts: list[Conflict] = Field(default=[])


class AskDecision(Event):
    """A participant is in doubt, or a client asks what came of it."""

    event_type: ClassVar[str] = "transaction.in_doubt"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    participant: str = Field(description="Empty: a client, which is answered with `transaction.decided`.")
    at_ms: int = Field(0, description="When the participant promised, or when the client began.")


class ParticipantDone(Event):
    """A participant has done what was decided."""

    event_type: ClassVar[str] = "transaction.done"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    participant: str
    commit: bool = Field(description="What it did; another thing than was decided is a heuristic outcome, and an incident.")
    position: int = -1
    reason: str = ""


class AbandonTransaction(Event):
    """The client gives up: abort, unless all have voted already."""

    event_type: ClassVar[str] = "transaction.abandon"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    owner: str
    reason: str = ""


class ResolveTransaction(Event):
    """An operator ends an incident of a transaction: what was done about a participant that did another thing, or nothing."""

    event_type: ClassVar[str] = "transaction.settle"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    participant: str
    owner: str
    reason: str


class PrepareManager(Event):
    """A resource manager is asked for its vote; again until it gives it."""

    event_type: ClassVar[str] = "manager.prepare"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = MANAGERS_TOPIC
    key_field: ClassVar[str] = "manager"

    manager: str
    txn: str
    owner: str
    payload: str
    participants: list[str]
    timeout_ms: int
    at_ms: int = Field(0, description="When it was asked, by the coordinator's time; the vote says it again.")


class DecideManager(Event):
    """A resource manager is told the decision; again until it has done it."""

    event_type: ClassVar[str] = "manager.decide"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = MANAGERS_TOPIC
    key_field: ClassVar[str] = "manager"

    manager: str
    txn: str
    commit: bool
    reason: str
    payload: str = ""


class TransactionDecided(Event):
    """All have voted for it, or it aborts. Also the answer to who asks."""

    event_type: ClassVar[str] = "transaction.decided"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    owner: str
    known: bool = Field(True, description="Whether the coordinator knows it; one that it does not know has aborted.")
    decided: bool = Field(True, description="Whether it is decided; else votes are missing.")
    commit: bool
    participants: list[str]
    code: str = ""
    reason: str = ""
    conflicts: list[Conflict] = Field(default=[])


class TransactionEnded(Event):
    """All participants have done what was decided."""

    event_type: ClassVar[str] = "transaction.ended"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    owner: str
    commit: bool
    participants: list[str]
    took_ms: int


class TransactionIncident(Event):
    """A heuristic outcome, or a participant that does not answer: an operator has to look at it."""

    event_type: ClassVar[str] = "transaction.incident"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "txn"

    txn: str
    owner: str
    participant: str
    code: str = Field(description='"heuristic", "silent", or "resolved" where an operator has ended it.')
    reason: str


COORDINATOR_COMMANDS: Final = (
    BeginTransaction,
    ParticipantVoted,
    AskDecision,
    ParticipantDone,
    AbandonTransaction,
    ResolveTransaction,
)
"""What the coordinator carries out."""

EVENTS: Final = (
    *COORDINATOR_COMMANDS,
    PrepareManager,
    DecideManager,
    TransactionDecided,
    TransactionEnded,
    TransactionIncident,
)
"""The family, in the order in which ids were given."""
