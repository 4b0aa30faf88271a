"""Countdown latches on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import latch_words as words
from processors.core.coordination.latches import Latches
from schemas import latches as events

if TYPE_CHECKING:
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.LatchLimits | None = None) -> Shell:
    """Return latches as a primitive of the coordination processor."""
    return shell_of(
        "latches",
        {
            events.CountDown: _count_down,
            events.AwaitLatch: _wait,
            events.CancelAwaitLatch: _cancel,
            events.RemoveLatch: _remove,
        },
        {words.Counted: events.LatchCounted, words.Opened: events.LatchOpened, words.Removed: events.LatchRemoved},
        lambda rows: Latches.load(rows, limits),
    )


def _count_down(machine: Latches, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.count_down(asked(words.CountDown, fields, route), at)


def _wait(machine: Latches, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.wait(asked(words.AwaitLatch, fields, route), at)


def _cancel(machine: Latches, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.cancel(fields["request_id"], fields["owner"], at, route=route)


def _remove(machine: Latches, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.remove(asked(words.RemoveLatch, fields, route), at)
