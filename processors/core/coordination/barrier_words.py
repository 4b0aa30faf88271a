"""What is said to the barrier machine and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from processors.core.coordination.request_words import Queued, Refused, RequestLimits, TimedOut

__all__ = ["Arrive", "BarrierLimits", "Broken", "Leaving", "Outcome", "Reset", "ResetBarrier", "Tripped"]

Leaving = Literal["break", "withdraw"]
"""What becomes of a generation when a party leaves it: it breaks, or goes on without that party's arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierLimits(RequestLimits):
    """More of what is refused, and why there is a limit.

    Attributes:
        parties_max: As many answers are made in one step when a generation trips: about a tenth of a second.
        broken_max: Broken barriers of one partition that are kept until somebody resets them; then the oldest are forgotten.
        ended_max: A trip ends all its parties at once: five of the largest ones.
    """

    parties_max: int = 10_000
    broken_max: int = 10_000
    ended_max: int = 50_000


@dataclass(frozen=True, slots=True)
class Arrive:
    """A party arrives and waits for the others.

    Attributes:
        request_id: Names the arrival; asked again with the same one while it waits, its lease begins anew.
        owner: The party. It arrives once in a generation.
        name: The barrier.
        parties: How many have to arrive; the same for all of a generation.
        wait_ms: How long it waits, None for as long as it takes.
        lease_ms: For how long it is believed to live without asking again.
        on_timeout: What becomes of the generation when it gives up, also by cancelling.
        on_death: What becomes of the generation when it dies. "withdraw" waits for it, or for another party in its place.
        route: Where answers go; of no meaning here.
        again: Whether this may have been asked before; one that is not known then is refused.
    """

    request_id: str
    owner: str
    name: str
    parties: int
    wait_ms: int | None = None
    lease_ms: int = 30_000
    on_timeout: Leaving = "break"
    on_death: Leaving = "break"
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class ResetBarrier:
    """Somebody wants the barrier as new: a broken one takes arrivals again, and one where parties wait breaks first.

    Attributes:
        generation: Only if it is this one: all who learn that a generation is broken may ask for it, and the next is left alone.
            None means whichever it is.
    """

    request_id: str
    owner: str
    name: str
    generation: int | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Tripped:
    """All have arrived: one outcome for each party. `index`: how many came before it, `parties - 1` for the last."""

    owner: str
    request_id: str
    route: str
    name: str
    generation: int
    parties: int
    index: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """The generation ends without a trip: one outcome for each party that waited, and one for each that comes until the reset.

    Attributes:
        code: Why, for programs: timed_out, died, cancelled, reset.
        by: Who broke it.
        repeated: Everybody knows it already.
    """

    owner: str
    request_id: str
    route: str
    name: str
    generation: int
    code: str
    by: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """The barrier is as new.

    Attributes:
        generation: Which one ended by this; 0 where there was none, or another one than was named.
        repeated: Nothing has changed by it.
    """

    owner: str
    request_id: str
    route: str
    name: str
    generation: int
    repeated: bool = False


Outcome = Queued | Refused | TimedOut | Tripped | Broken | Reset
