"""What is said to the consensus machine and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from processors.core.coordination.request_words import HOUR_MS, Queued, Refused, RequestLimits, TimedOut

__all__ = [
    "Await",
    "ConsensusLimits",
    "Decided",
    "Join",
    "Leave",
    "Outcome",
    "Propose",
    "Proposed",
    "Quorum",
    "Standing",
    "TermBegan",
    "Vote",
    "Voted",
    "Why",
]

Quorum = Literal["majority", "all"]
Why = Literal["joined", "left", "timed_out", "split"]
"""Why a term began: a member more, a member less, a round that took too long, votes that could not decide any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusLimits(RequestLimits):
    """What is refused, and why there is a limit; see `RequestLimits` for the others.

    Attributes:
        waiters_max: That wait for one decision: each is sent the value, all in one kafka transaction.
        wait_ms_max: An hour: who waits longer asks anew, so those that died are gone.
        groups_max: Of one partition. Each is remembered for ever, since what is decided never changes.
        members_max: Of one group: a vote of more is a poll.
        proposals_max: Up for vote in one group.
        value_bytes_max: Of a value in UTF-8; a larger one is stored elsewhere, and its hash is decided.
        open_bytes_max: Of all values up for vote in one group: they are told in one record, and the broker takes a megabyte.
        values_bytes_max: Of all values kept in one partition, in memory and in the table.
        round_ms_min: A round has to survive a kafka transaction for each vote.
        round_ms_max: A week: people vote too.
    """

    waiters_max: int = 1_000
    wait_ms_max: int = HOUR_MS
    groups_max: int = 100_000
    members_max: int = 100
    proposals_max: int = 64
    value_bytes_max: int = 16_384
    open_bytes_max: int = 524_288
    values_bytes_max: int = 268_435_456
    round_ms_min: int = 100
    round_ms_max: int = 7 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Join:
    """The owner becomes a member, and the next term begins; nothing, where it is one.

    Whoever joins a group without members says how it decides; others say the same, or None for "as it is".

    Attributes:
        size_min: The quorum is one of at least so many members, so the first to join cannot decide alone.
        quorum: "majority" of the members, or "all".
        round_ms: How long a round lasts from its first vote; without a decision the next term begins then.
    """

    request_id: str
    owner: str
    name: str
    size_min: int | None = None
    quorum: Quorum | None = None
    round_ms: int | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """A member is none any more, and the next term begins. A member may take out any other: the dead do not leave."""

    request_id: str
    owner: str
    name: str
    member: str
    route: str = ""


@dataclass(frozen=True, slots=True)
class Propose:
    """A member puts a value up for vote, in this term and all that follow; `request_id` names the proposal."""

    request_id: str
    owner: str
    name: str
    value: str
    route: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """A member votes for a proposal in a term: once, and it counts in no other term."""

    request_id: str
    owner: str
    name: str
    proposal: str
    term: int
    route: str = ""


@dataclass(frozen=True, slots=True)
class Await:
    """Somebody, member or not, waits for what is decided."""

    request_id: str
    owner: str
    name: str
    wait_ms: int
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class TermBegan:
    """A term of a group, with so many members, of which `quorum` decide. `member`: who joined or left, if that was why."""

    owner: str
    request_id: str
    route: str
    name: str
    term: int
    members: int
    quorum: int
    why: Why
    member: str
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Proposed:
    """A value is up for vote under the id of its request."""

    owner: str
    request_id: str
    route: str
    name: str
    value: str
    term: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Voted:
    """A vote counts: the proposal has so many in this term, and is decided when they are `quorum`."""

    owner: str
    request_id: str
    route: str
    name: str
    proposal: str
    term: int
    votes: int
    quorum: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """The value is decided, for ever: a quorum of the members of `term` voted for it.

    Attributes:
        owner: Who is told; of the decision itself, told to everybody, who proposed.
        request_id: About which request; of the decision itself, the proposal.
        repeated: Told again, to somebody who waited or asked.
    """

    owner: str
    request_id: str
    route: str
    name: str
    value: str
    proposal: str
    proposer: str
    term: int
    voters: tuple[str, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a group stands where nothing is decided: `values[i]`, proposed by `proposers[i]`, has `votes[i]` in this term.

    Attributes:
        proposals: What is up for vote, oldest first.
        repeated: Nothing has happened.
    """

    owner: str
    request_id: str
    route: str
    name: str
    term: int
    members: tuple[str, ...]
    quorum: int
    proposals: tuple[str, ...]
    proposers: tuple[str, ...]
    values: tuple[str, ...]
    votes: tuple[int, ...]
    repeated: bool = True


Outcome = Queued | Refused | TimedOut | TermBegan | Proposed | Voted | Decided | Standing
