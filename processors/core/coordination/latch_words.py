"""What is said to the latch machine and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass

from processors.core.coordination.request_words import Queued, Refused, RequestLimits, TimedOut

__all__ = ["AwaitLatch", "CountDown", "Counted", "LatchLimits", "Opened", "Outcome", "RemoveLatch", "Removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatchLimits(RequestLimits):
    """More of what is refused, and why there is a limit.

    Attributes:
        count_max: Of one latch: each count-down is remembered by its id until the latch opens.
        latches_max: Of one partition that are not open: a row each, and nothing but their use or removal ends them.
        open_max: Open ones of one partition that are remembered; then the oldest are forgotten, and the next use makes new ones.
        ended_max: An open latch ends all that wait for it at once: five of the longest queues.
    """

    count_max: int = 10_000
    latches_max: int = 100_000
    open_max: int = 100_000
    ended_max: int = 50_000


@dataclass(frozen=True, slots=True)
class CountDown:
    """Something that the latch waits for has happened.

    Attributes:
        request_id: What: the same one counts once as long as the latch is there, whoever says it and however late.
        owner: Who says so.
        name: The latch.
        count: How many have to happen; makes the latch where there is none, and is the same for all who name it. None takes the
            latch as it is.
        by: How many this is.
        route: Where answers go; of no meaning here.
    """

    request_id: str
    owner: str
    name: str
    count: int | None = None
    by: int = 1
    route: str = ""


@dataclass(frozen=True, slots=True)
class AwaitLatch:
    """Somebody waits until the latch is open.

    Attributes:
        request_id: Names the waiting; asked again with the same one while it waits, its lease begins anew.
        owner: Who waits.
        name: The latch.
        count: As for `CountDown`.
        wait_ms: How long to wait; 0 asks whether it is open, None waits as long as it takes.
        lease_ms: For how long the waiter is believed to live without asking again.
        route: Where answers go.
        again: Whether this may have been asked before; one that is not known then is refused.
    """

    request_id: str
    owner: str
    name: str
    count: int | None = None
    wait_ms: int | None = None
    lease_ms: int = 30_000
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class RemoveLatch:
    """Somebody wants the latch to be forgotten; its next use makes a new one. `token`: only if it is this one, None for any."""

    request_id: str
    owner: str
    name: str
    token: int | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """It has been counted. `repeated`: nothing has changed by it, as it was counted before or the latch is open already."""

    owner: str
    request_id: str
    route: str
    name: str
    token: int
    count: int
    remaining: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """The latch is open: one outcome for each that waited, or asks afterwards (`repeated`)."""

    owner: str
    request_id: str
    route: str
    name: str
    token: int
    count: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """The latch is forgotten. `token`: which one; 0 where there was none, or another one than was named (`repeated`)."""

    owner: str
    request_id: str
    route: str
    name: str
    token: int
    repeated: bool = False


Outcome = Queued | Refused | TimedOut | Counted | Opened | Removed
