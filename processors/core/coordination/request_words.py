"""What primitives whose requests are for one name have in common: three answers, and the limits of asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BEHIND_SHOWN", "Queued", "Refused", "RequestLimits", "TimedOut"]

HOUR_MS: Final = 3_600_000
BEHIND_SHOWN: Final = 16
"""Owners named in the outcome of a request that waits: enough for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What is refused, and why there is a limit.

    Attributes:
        waiters_max: Of one name. A queue of ten thousand is a minute of the fastest hand-off; more is an error.
        requests_max: Waiting and granted ones of one partition: about 1 GB in memory at the most.
        lease_ms_min: Renewal at a third of it has to survive a kafka transaction and a slow moment of the loop.
        lease_ms_max: A day: who holds longer renews.
        wait_ms_max: The same for waiting with a limit.
        ended_max: Ended requests of one partition whose answer is remembered for one that asks again: seconds of full load.
    """

    waiters_max: int = 10_000
    requests_max: int = 1_000_000
    lease_ms_min: int = 100
    lease_ms_max: int = 24 * HOUR_MS
    wait_ms_max: int = 24 * HOUR_MS
    ended_max: int = 10_000


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits. `behind`: the owners it waits for, some of them where they are many; `repeated`: it was told before.

    The rest is told where who waits and for how much can be read from it, as for semaphores: see `RequestQueued`.
    """

    owner: str
    request_id: str
    route: str
    name: str
    behind: tuple[str, ...]
    repeated: bool = False
    priority: int = 0
    order: tuple[int, ...] = ()
    permits: int = 0
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """The request has ended, or the command does nothing: `code` for programs, `text` for people."""

    owner: str
    request_id: str
    route: str
    name: str
    code: str
    text: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The request has waited as long as it wanted to."""

    owner: str
    request_id: str
    route: str
    name: str
    waited_ms: int
    repeated: bool = False
