"""The event families of this distribution. A new one is a module with an `EVENTS` tuple and a line here; see docs/schemas.md."""

from __future__ import annotations

from typing import Final

from schemas import (
    agents,
    barriers,
    cep,
    consensus,
    coordination,
    coordination_answers,
    elections,
    fleet,
    latches,
    sagas,
    semaphores,
    tables,
    tasks,
    transactions,
    waits,
    windows,
    work,
)
from schemas.events import Event

__all__ = ["BUILT_IN"]

BUILT_IN: Final[tuple[type[Event], ...]] = (
    *work.EVENTS,
    *windows.EVENTS,
    *cep.EVENTS,
    *fleet.EVENTS,
    *coordination.EVENTS,
    *coordination_answers.EVENTS,
    *semaphores.EVENTS,
    *barriers.EVENTS,
    *latches.EVENTS,
    *elections.EVENTS,
    *consensus.EVENTS,
    *agents.EVENTS,
    *tasks.EVENTS,
    *waits.EVENTS,
    *tables.EVENTS,
    *transactions.EVENTS,
    *sagas.EVENTS,
)
