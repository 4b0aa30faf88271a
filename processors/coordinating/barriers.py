"""Barriers on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import barrier_words as words
from processors.core.coordination.barriers import Barriers
from schemas import barriers as events

if TYPE_CHECKING:
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.BarrierLimits | None = None) -> Shell:
    """Return barriers as a primitive of the coordination processor."""
    return shell_of(
        "barriers",
        {events.ArriveAtBarrier: _arrive, events.CancelArrival: _cancel, events.ResetBarrier: _reset},
        {words.Tripped: events.BarrierTripped, words.Broken: events.BarrierBroken, words.Reset: events.BarrierReset},
        lambda rows: Barriers.load(rows, limits),
    )


def _arrive(machine: Barriers, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.arrive(asked(words.Arrive, fields, route), at)


def _cancel(machine: Barriers, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.cancel(fields["request_id"], fields["owner"], at, route=route)


def _reset(machine: Barriers, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.reset(asked(words.ResetBarrier, fields, route), at)
