"""What is said to the election machine and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from processors.core.coordination.request_words import Queued, Refused, RequestLimits, TimedOut

__all__ = ["Campaign", "Elected", "ElectionLimits", "Ended", "How", "Outcome", "Renewed", "Standing", "StepDown"]

How = Literal["resigned", "stepped_down", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectionLimits(RequestLimits):
    """What is refused, and why there is a limit; see `RequestLimits` for the others.

    Attributes:
        waiters_max: Candidates that wait in one election. Each is heard of three times a lease, so a thousand with ten seconds
            are three hundred commands a second.
        elections_max: Of one partition. Each is remembered for ever, since its terms must not begin anew.
        priority_max: Priorities go from minus this to this.
        value_chars_max: Of what a candidate proclaims: room for an address, and bounded rows.
    """

    waiters_max: int = 1_000
    elections_max: int = 100_000
    priority_max: int = 100
    value_chars_max: int = 1_024


@dataclass(frozen=True, slots=True)
class Campaign:
    """Somebody stands as a candidate.

    Attributes:
        request_id: Names the candidacy; asked again with the same one, the answer is the same.
        owner: Who. An owner may stand twice: each candidacy is a candidate of its own.
        name: In which election.
        value: What it proclaims should it lead, its address for one.
        priority: Higher is elected first, whenever somebody is elected; a leader is not deposed.
        wait_ms: How long to wait for being elected; 0 to try, None for as long as it takes.
        lease_ms: How long it is believed in without being heard of, while it waits and while it leads.
        route: Where answers go; of no meaning here.
        again: Whether this may have been asked before.
    """

    request_id: str
    owner: str
    name: str
    value: str = ""
    priority: int = 0
    wait_ms: int | None = None
    lease_ms: int = 10_000
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class StepDown:
    """A leader lets another candidate lead, and waits behind it.

    Attributes:
        request_id: The leader's candidacy.
        owner: Who gives the command.
        term: Of which it is the leader: a late command does not end a later one.
        successor: The owner that is to follow; the next in order unless given.
        route: Where the answer goes.
    """

    request_id: str
    owner: str
    term: int
    successor: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class Elected:
    """The candidate leads. `token` fences what it does in this `term`."""

    owner: str
    request_id: str
    route: str
    name: str
    value: str
    term: int
    token: int
    lease_ms: int
    expires_ms: int
    asked_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Renewed:
    """The candidate is believed in until `expires_ms`. `term` and `token` are 0 while it waits."""

    owner: str
    request_id: str
    route: str
    name: str
    term: int
    token: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A leadership has ended, or the candidacy of one that waited: then `term` and `token` are 0."""

    owner: str
    request_id: str
    route: str
    name: str
    term: int
    token: int
    how: How
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How an election stands: `leader` is empty, and `token` 0, where nobody leads; `term` is the last one there was.

    Attributes:
        candidates: How many, the leader among them.
        next_owners: Who follows, in order, fifteen at most.
        repeated: Nothing has happened.
    """

    owner: str
    request_id: str
    route: str
    name: str
    term: int
    token: int
    leader: str
    candidacy: str
    value: str
    expires_ms: int
    candidates: int
    next_owners: tuple[str, ...]
    repeated: bool = True


Outcome = Queued | Refused | TimedOut | Elected | Renewed | Ended | Standing
