"""Sagas: what goes to the orchestrator, what it asks of participants, and what it tells everybody.

Commands go to `sagas.commands`, keyed by the *domain* of a saga's id (the part before its first `/`): one partition decides about
a saga, its children (`<saga>/<node>`) and its forks (`<saga>/fork-1`).

    client ──▶ orchestrator        saga.define, .start, .signal, .approve, .control, .resolve, .fork, .query
    orchestrator ──▶ participants  steps.call       sagas.calls, one record a handler, with the handler's name as header
    participants ──▶ orchestrator  steps.answer     to the partition of commands with the number of the call's partition
    orchestrator ──▶ everybody     saga.started, saga.advanced, saga.incident, saga.ended, saga.defined

So `sagas.calls` has as many partitions as `sagas.commands`. Each event has the *moments* of its step: every decision, in order.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Event

__all__ = [
    "CALLS_TOPIC",
    "COMMANDS_TOPIC",
    "EVENTS",
    "EVENTS_TOPIC",
    "HANDLER",
    "ORCHESTRATOR_COMMANDS",
    "REPLIES_TOPIC",
    "SERVICE",
    "Answer",
    "AnswerCalls",
    "ApproveNode",
    "Call",
    "CallHandler",
    "ControlSaga",
    "DefineSaga",
    "ForkSaga",
    "LockTold",
    "Moment",
    "QuerySaga",
    "ResolveSaga",
    "SagaAdvanced",
    "SagaDefined",
    "SagaEnded",
    "SagaIncident",
    "SagaRefused",
    "SagaStarted",
    "SagaState",
    "SignalSaga",
    "StartSaga",
]

COMMANDS_TOPIC: Final = "sagas.commands"
CALLS_TOPIC: Final = "sagas.calls"
EVENTS_TOPIC: Final = "sagas.events"
REPLIES_TOPIC: Final = "sagas.replies"
"""What the coordination processor answers to the orchestrator about locks."""
HANDLER: Final = "handler"
"""Header of a record of calls: the handler's name, so that others need not decode it."""
SERVICE: Final = "service"
"""Header of a record of answers: whose they are. A service that begins anew remembers by them what it has done."""


class Call(BaseModel):
    """A call of a handler: a step's action, or what undoes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    saga: str
    node: str = Field(description="The step, in a body with its pass: `legs[3]/book`.")
    undo: bool = Field(description="Whether it is the compensation.")
    attempt: int = Field(description="From 1.")
    input: str = Field(description="JSON text.")
    timeout_ms: int = Field(description="Of this attempt: no answer after it counts.")
    at_ms: int = Field(description="When the attempt began, by the partition's time.")
    resource: str = Field("", description="Of the lock that the step holds.")
    token: int = Field(0, description="Of its grant.")


class Answer(BaseModel):
    """What came of a call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    saga: str
    node: str
    undo: bool
    attempt: int
    ok: bool
    result: str = Field("", description="JSON text; empty: null.")
    code: str = Field("", description="Why it failed, for programs: retry policies name codes.")
    reason: str = Field("", description="The same for people.")
    final: bool = Field(False, description="Whether another attempt is in vain.")


class Moment(BaseModel):
    """One thing that happened in a saga; see `streams.core.sagas.timeline`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    what: str
    node: str = ""
    attempt: int = 0
    note: str = ""


# ---- commands


class StartSaga(Event):
    """Start a saga; the same id again is the same saga."""

    event_type: ClassVar[str] = "saga.start"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    definition: str
    version: int
    digest: str = Field(description="Of the definition: another one under this name and version is refused.")
    input: str = Field(description="JSON text.")
    deadline_ms: int = Field(0, description="0: the definition's.")
    follow: bool = Field(False, description="Whether who asks is told the end alone, and not the beginning.")
    by: str = ""


class DefineSaga(Event):
    """Tell a partition a definition. It is sent to each partition where it is needed."""

    event_type: ClassVar[str] = "saga.define"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str = Field(description="Its name.")
    version: int
    digest: str
    definition: str = Field(description="JSON text, as `streams.core.sagas.shapes.to_data` gives it.")
    home: bool = Field(False, description="Whether this is the partition of its name, where its schedules run.")


class SignalSaga(Event):
    """Send a signal to a saga."""

    event_type: ClassVar[str] = "saga.signal"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    signal: str
    payload: str = Field(description="JSON text.")
    signal_id: str = Field(description="The same id again is the same signal.")


class ApproveNode(Event):
    """Say yes or no to an approval that a saga waits for."""

    event_type: ClassVar[str] = "saga.approve"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    node: str
    approved: bool
    by: str
    reason: str = ""


class ControlSaga(Event):
    """Pause, resume or cancel a saga."""

    event_type: ClassVar[str] = "saga.control"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    action: str = Field(description="pause, resume or cancel.")
    by: str
    reason: str = ""


class ResolveSaga(Event):
    """An operator ends an incident."""

    event_type: ClassVar[str] = "saga.resolve"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    node: str
    action: str = Field(description="retry, skip or done.")
    by: str
    reason: str = Field(description="Why, for those who look later.")
    result: str = Field("", description="JSON text: what counts as the step's result, where it is marked done.")


class ForkSaga(Event):
    """Run a saga again from a step, as a new one that has the old one's results before it."""

    event_type: ClassVar[str] = "saga.fork"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    fork: str = Field(description="The new one's id, of the same domain.")
    node: str
    by: str
    reason: str = ""
    follow: bool = False


class QuerySaga(Event):
    """Ask what a saga is doing, or be told its end."""

    event_type: ClassVar[str] = "saga.query"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    follow: bool = Field(False, description="Answer when it has ended.")


class AnswerCalls(Event):
    """What came of calls, as a participant says it."""

    event_type: ClassVar[str] = "steps.answer"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str = Field(description="The service that answers.")
    answers: list[Answer]


class LockTold(Event):
    """What the coordination processor said about a saga's lock."""

    event_type: ClassVar[str] = "saga.lock_told"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    call: str = Field(description="The id of the request.")
    granted: bool
    token: int = 0
    ends_ms: int = Field(0, description="When the lease ends if it is not renewed.")
    code: str = ""
    reason: str = ""


# ---- calls


class CallHandler(Event):
    """Calls of one handler, in the order in which they were decided."""

    event_type: ClassVar[str] = "steps.call"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = CALLS_TOPIC
    key_field: ClassVar[str] = "handler"

    handler: str
    calls: list[Call]


# ---- events and answers


class SagaStarted(Event):
    """A saga has begun; as an answer: it runs."""

    event_type: ClassVar[str] = "saga.started"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    definition: str
    version: int
    input: str
    deadline_ms: int = Field(description="When it is given up, in ms since 1970.")
    parent: str = ""
    forked_from: str = ""
    by: str = ""
    moments: list[Moment]


class SagaAdvanced(Event):
    """A saga has decided something."""

    event_type: ClassVar[str] = "saga.advanced"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    moments: list[Moment]


class SagaIncident(Event):
    """A saga needs an operator, or no longer does."""

    event_type: ClassVar[str] = "saga.incident"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    node: str
    undo: bool = Field(description="Whether a compensation failed, or an action behind the pivot.")
    open: bool
    code: str
    reason: str


class SagaEnded(Event):
    """A saga has ended."""

    event_type: ClassVar[str] = "saga.ended"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    definition: str
    version: int
    outcome: str = Field(description="completed, compensated or cancelled.")
    result: str = Field(description="JSON text.")
    code: str = ""
    reason: str = ""
    took_ms: int = 0
    moments: list[Moment]


class SagaDefined(Event):
    """A partition knows a definition."""

    event_type: ClassVar[str] = "saga.defined"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    version: int
    digest: str
    definition: str


class SagaRefused(Event):
    """The answer to a command that was not carried out."""

    event_type: ClassVar[str] = "saga.refused"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    code: str
    reason: str


class SagaState(Event):
    """The answer to a query."""

    event_type: ClassVar[str] = "saga.state"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    saga: str
    state: str = Field(description="JSON text: see `sagas.core.engine.views`.")


ORCHESTRATOR_COMMANDS: Final = (
    StartSaga,
    DefineSaga,
    SignalSaga,
    ApproveNode,
    ControlSaga,
    ResolveSaga,
    ForkSaga,
    QuerySaga,
    AnswerCalls,
    LockTold,
)
EVENTS: Final = (
    *ORCHESTRATOR_COMMANDS,
    CallHandler,
    SagaStarted,
    SagaAdvanced,
    SagaIncident,
    SagaEnded,
    SagaDefined,
    SagaRefused,
    SagaState,
)
