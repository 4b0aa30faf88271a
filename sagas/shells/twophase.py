"""The coordinator of two-phase commit on Kafka: votes to the machine, its decisions to participants and to who asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sagas.core.twophase.coordinator import Coordinator
from schemas import transactions as events
from schemas.tables import COMMANDS_TOPIC as TABLES_TOPIC
from schemas.tables import DecideTransaction
from streams.machines.answers import NO_ROUTE
from streams.machines.shells import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sagas.core.twophase.words import CoordinatorLimits, Fields, Told
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["NAME", "shell"]

NAME: Final = "twophase"
_ROUTE: Final = re.compile(r"[0-9]{1,6}\|[!-{}~]{0,128}\|[A-Za-z0-9._-]{1,249}\.replies")
"""As a participant found it on the record of who asked: of a reply topic, so that nothing else is written to."""
_WHO: Final[dict[str, Any]] = {"id": "-", "source": "-", "txn": "", "owner": ""}
_TO_OTHERS: Final[dict[str, Event]] = {
    "decide": DecideTransaction(id="-", source="-", domain="", txn="", commit=False),
    "prepare_manager": events.PrepareManager(**_WHO, manager="", payload="", participants=[], timeout_ms=0),
    "decide_manager": events.DecideManager(id="-", source="-", manager="", txn="", commit=False, reason=""),
}
_TOLD: Final[dict[str, Event]] = {
    "decided": events.TransactionDecided(**_WHO, commit=False, participants=[]),
    "ended": events.TransactionEnded(**_WHO, commit=False, participants=[], took_ms=0),
    "incident": events.TransactionIncident(**_WHO, participant="", code="", reason=""),
}
_CARRY: Final[dict[str, Callable[[Coordinator, Fields, str, At], list[Told]]]] = {
    events.BeginTransaction.event_type: Coordinator.begin,
    events.ParticipantVoted.event_type: lambda machine, asked, _, at: machine.voted(_routed(asked), at),
    events.AskDecision.event_type: Coordinator.in_doubt,
    events.ParticipantDone.event_type: lambda machine, asked, _, at: machine.done(asked, at),
    events.AbandonTransaction.event_type: lambda machine, asked, _, at: machine.abandon(asked, at),
    events.ResolveTransaction.event_type: Coordinator.settle,
}


def shell(limits: CoordinatorLimits | None = None, *, topic_prefix: str = "") -> Shell:
    """Return the coordinator as a machine.

    Args:
        limits: Of the coordinator.
        topic_prefix: Before the names of the participants' topics.
    """
    tables, managers = topic_prefix + TABLES_TOPIC, topic_prefix + events.MANAGERS_TOPIC

    def tell(outcomes: Iterable[Told], answers: Answers, _: str) -> None:
        for kind, fields, route, everybody in outcomes:
            if kind == "decide":
                answers.send(DecideTransaction, fields, topic=tables, key=fields["domain"].encode())
            elif kind in _TO_OTHERS:
                answers.send(type(_TO_OTHERS[kind]), fields, topic=managers, key=fields["manager"].encode())
            else:
                answers.write(type(_TOLD[kind]), fields, domain=fields["txn"], route=route, event=everybody)

    return Shell(
        name=NAME,
        commands=frozenset(_CARRY),
        samples=(*_TO_OTHERS.values(), *_TOLD.values()),
        load=lambda rows: Coordinator.load(rows, limits),
        carry_out=_carry_out,
        tell=tell,
    )


def _carry_out(machine: Coordinator, kind: str, fields: Fields, key: bytes | None, route: str, at: At) -> list[Told]:
    if key != fields["txn"].encode():
        return [machine.misplaced(fields, route)]
    return _CARRY[kind](machine, fields, route, at)


def _routed(asked: Fields) -> Fields:
    if (route := asked["route"]) and not _ROUTE.fullmatch(route):
        asked["route"] = NO_ROUTE
    return asked
