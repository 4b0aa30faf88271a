"""The orchestrator of sagas on Kafka: commands to the machine; its calls to participants, the rest to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sagas.core.engine import commands
from sagas.core.engine.machine import Sagas
from sagas.core.engine.memory import lock_call
from schemas import coordination as locks
from schemas import sagas as events
from schemas.naming import NAME_CHARS_MAX, domain_of
from streams.machines.shells import Shell, place_problem
from streams.requests import REPLY_PARTITION, REPLY_TO, REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sagas.core.engine.words import Fields, SagaLimits, Told
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["NAME", "shell"]

NAME: Final = "sagas"
CALLS_MAX: Final = 200
"""Calls in one record: participants take them up one after another."""
CALLS_CHARS_MAX: Final = 400_000
"""Characters of JSON in one record of calls: it stays below what a broker takes."""

_ID: Final[dict[str, Any]] = {"id": "-", "source": "-", "domain": ""}
_SAGA: Final[dict[str, Any]] = {**_ID, "saga": ""}
_TOLD: Final[dict[str, Event]] = {
    "started": events.SagaStarted(**_SAGA, definition="", version=1, input="", deadline_ms=0, moments=[]),
    "advanced": events.SagaAdvanced(**_SAGA, moments=[]),
    "incident": events.SagaIncident(**_SAGA, node="", undo=False, open=True, code="", reason=""),
    "ended": events.SagaEnded(**_SAGA, definition="", version=1, outcome="", result="", moments=[]),
    "refused": events.SagaRefused(**_SAGA, code="", reason=""),
    "state": events.SagaState(**_SAGA, state=""),
}
_DEFINED: Final = events.SagaDefined(**_ID, version=1, digest="", definition="")
_CALLED: Final = events.CallHandler(id="-", source="-", handler="", calls=[])
_TO_LOCKS: Final[dict[str, Event]] = {
    "lock": locks.AcquireLock(**_ID, request_id="", owner="", resources=[]),
    "renew": locks.RenewLock(**_ID, grant="", owner=""),
    "unlock": locks.CancelLock(**_ID, request_id="", owner=""),
}
_CARRY: Final[dict[str, Callable[[Sagas, Fields, str, At], list[Told]]]] = {
    events.DefineSaga.event_type: commands.define,
    events.StartSaga.event_type: commands.start,
    events.SignalSaga.event_type: commands.signal,
    events.ApproveNode.event_type: commands.approve,
    events.ControlSaga.event_type: commands.control,
    events.ResolveSaga.event_type: commands.resolve,
    events.ForkSaga.event_type: commands.fork,
    events.QuerySaga.event_type: lambda machine, asked, route, _: commands.query(machine, asked, route),
    events.AnswerCalls.event_type: lambda machine, asked, _, at: machine.answer(asked, at),
    events.LockTold.event_type: lambda machine, asked, _, at: machine.lock_told(asked, at),
}
_ANYWHERE: Final = frozenset({events.DefineSaga.event_type, events.AnswerCalls.event_type, events.LockTold.event_type})
"""Commands that are sent to a partition and not to a saga."""


def shell(limits: SagaLimits | None = None, *, topic_prefix: str = "") -> Shell:
    """Return the orchestrator as a machine.

    Args:
        limits: Of sagas.
        topic_prefix: Before the names of the topics of calls and locks.
    """
    calls, coordination = topic_prefix + events.CALLS_TOPIC, topic_prefix + locks.COMMANDS_TOPIC
    replies = (topic_prefix + events.REPLIES_TOPIC).encode()

    def tell(outcomes: Iterable[Told], answers: Answers, _: str) -> None:
        for kind, fields, route, everybody in outcomes:
            if kind in _TO_LOCKS:
                _ask_for_lock(answers, kind, fields, coordination, replies)
            elif kind == "defined":
                domain = fields.pop("name")
                answers.write(events.SagaDefined, fields, domain=domain, route=route, event=everybody)
            else:
                answers.write(type(_TOLD[kind]), fields, domain=domain_of(fields["saga"]), route=route, event=everybody)

    def finish(machine: Sagas, answers: Answers) -> None:
        for handler, called in machine.take_calls().items():
            start = chars = 0
            for number, call in enumerate(called):
                chars += len(call["input"])
                if number > start and (chars > CALLS_CHARS_MAX or number - start >= CALLS_MAX):
                    _call(answers, calls, handler, called[start:number])
                    start, chars = number, len(call["input"])
            _call(answers, calls, handler, called[start:])

    return Shell(
        name=NAME,
        commands=frozenset(_CARRY),
        samples=(*_TOLD.values(), *_TO_LOCKS.values(), _DEFINED, _CALLED),
        load=lambda rows: Sagas.load(rows, limits),
        carry_out=_carry_out,
        tell=tell,
        finish=finish,
    )


def _carry_out(machine: Sagas, kind: str, fields: Fields, key: bytes | None, route: str, at: At) -> list[Told]:
    if kind not in _ANYWHERE:
        saga = fields["saga"]
        if problem := place_problem(key, fields["domain"], saga) if saga else "":
            return commands.refused(saga, "misplaced", problem, route)
    return _CARRY[kind](machine, fields, route, at)


def _call(answers: Answers, topic: str, handler: str, calls: list[Fields]) -> None:
    headers = [(events.HANDLER, handler.encode())]
    answers.send(
        events.CallHandler,
        {"handler": handler, "calls": calls},
        topic=topic,
        key=handler.encode(),
        partition=answers.partition,
        headers=headers,
    )


def _ask_for_lock(answers: Answers, kind: str, told: Fields, topic: str, replies: bytes) -> None:
    """Ask the coordination processor for a lock, or give one back; it answers to the partition of replies with our number."""
    call = lock_call(told["saga"], told["node"], told["number"])
    domain, owner = domain_of(told["resource"]), f"saga:{told['saga']}"[:NAME_CHARS_MAX]
    fields: Fields
    if kind == "lock":
        fields = {
            "domain": domain,
            "request_id": call,
            "owner": owner,
            "resources": [told["resource"]],
            "mode": "exclusive" if told["mode"] == "write" else "shared",
            "wait_ms": told["wait_ms"],
            "lease_ms": told["lease_ms"],
            "priority": 0,
            "again": told["again"],
        }
    elif kind == "renew":
        fields = {"domain": domain, "grant": call, "owner": owner, "lease_ms": told["lease_ms"]}
    else:
        fields = {"domain": domain, "request_id": call, "owner": owner}
    route = [(REQUEST_ID, call.encode()), (REPLY_TO, replies), (REPLY_PARTITION, b"%d" % answers.partition)]
    answers.send(type(_TO_LOCKS[kind]), fields, topic=topic, key=domain.encode(), headers=route)
