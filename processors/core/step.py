"""The one contract of every machine: `step(state, event, now_ms) -> Step(state, outputs)`.

    state ──┐
    event ──┼─▶ step ─▶ Step(state, outputs)      no clock, no chance, no input or output:
    now_ms ─┘                                     the same three inputs give the same Step

* A machine holds nothing. Its state is a value made of dicts, lists, strings, integers, booleans and None, so that
  `orjson.loads(orjson.dumps(state))` is the same state and a table can keep it.
* A step never changes the state it was given; it returns another one, or the very same object when nothing changed.
* `now_ms` is the turn's clock. A machine that does not need it ignores it, and is then a function of the log alone.
* An expected refusal is an output that says why. An exception is a bug in the machine or a record that should not exist; the
  runtime dead-letters that record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from schemas.events import Event

__all__ = ["Step", "fold"]

S = TypeVar("S")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What one event did to one machine.

    The shell stores `state` and sends `outputs` in the same kafka transaction as the offset of the event: either all three
    become visible or none does. So a machine may assume that what it announced and what it remembers never disagree.

    Attributes:
        state: The state after the event. A machine whose state is many rows of a table returns the rows that changed, None for a
            row that goes; its docstring says so.
        outputs: The events to publish, in this order.
    """

    state: S
    outputs: tuple[Event, ...] = ()


def fold(step: Callable[[S, E, int], Step[S]], state: S, events: Iterable[E], *, now_ms: int = 0) -> tuple[S, list[Event]]:
    """Run a machine over events from a state and return the last state and every output: a replay without a broker."""
    outputs: list[Event] = []
    for event in events:
        done = step(state, event, now_ms)
        state = done.state
        outputs.extend(done.outputs)
    return state, outputs
