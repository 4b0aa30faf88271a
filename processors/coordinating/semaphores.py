"""Semaphores on Kafka: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import semaphore_words as words
from processors.core.coordination.semaphores import Semaphores
from schemas import semaphores as events

if TYPE_CHECKING:
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.SemaphoreLimits | None = None) -> Shell:
    """Return semaphores as a primitive of the coordination processor."""
    return shell_of(
        "semaphores",
        {
            events.AcquirePermits: _acquire,
            events.RenewPermits: _renew,
            events.ReleasePermits: _release,
            events.CancelPermits: _cancel,
            events.SetCapacity: _set_capacity,
        },
        {
            words.Granted: events.PermitsGranted,
            words.Released: events.PermitsReleased,
            words.Renewed: events.PermitsRenewed,
            words.Expired: events.PermitsExpired,
            words.Resized: events.SemaphoreResized,
        },
        lambda rows: Semaphores.load(rows, limits),
    )


def _acquire(machine: Semaphores, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.acquire(asked(words.AcquirePermits, fields, route), at)


def _renew(machine: Semaphores, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.renew(fields["grant"], fields["owner"], at, lease_ms=fields["lease_ms"], route=route)


def _release(machine: Semaphores, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.release(fields["grant"], fields["owner"], at, route=route)


def _cancel(machine: Semaphores, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.cancel(fields["request_id"], fields["owner"], at, victim_of=fields["victim_of"], route=route)


def _set_capacity(machine: Semaphores, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.set_capacity(asked(words.SetCapacity, fields, route), at)
