"""What is said to the row locks and what they answer; and the rows that they are kept in.

["l", domain, txn]          what it has: [owner, age, lease, expires, position, promised, route, [[table, key, span, mode], ...]]
["q", domain, request id]   what it waits for: [txn, owner, age, strategy, due, lease, route, order, heard, [owners], [locks],
                            [those that it does not have yet]]
["n", domain, request id]   what was refused: [txn, order, code, reason, [owners]]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from processors.core.transactions.lock_modes import Lock, Thing

__all__ = [
    "KINDS",
    "REFUSED",
    "REQUEST",
    "SESSION",
    "Ended",
    "Granted",
    "LockLimits",
    "No",
    "Outcome",
    "Queued",
    "Refused",
    "Session",
    "Waiting",
    "Who",
]

Who = tuple[str, str]
"""A domain, and a transaction or a request there: one transaction may be in several domains of a partition."""

SESSION: Final = "l"
REQUEST: Final = "q"
REFUSED: Final = "n"
KINDS: Final = frozenset({SESSION, REQUEST, REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class LockLimits:
    """What is refused, and why there is a limit.

    Attributes:
        locks_max: Of one transaction, with those that it waits for; its row has all of them.
        sessions_max: Transactions with locks on one partition.
        waiting_max: Requests that wait on one partition: each end of a transaction looks at all of them.
        waiters_max: Requests that wait for just the same row or span: each of them knows all that are before it.
        told_max: Owners that a waiting request names.
        refused_max: Refused requests that are remembered for who asks again; that takes seconds, and no others are left of them
            once their transaction has ended.
        lease_ms_min: Renewed at a third of it, it has to survive a kafka transaction and a slow moment of the loop.
        lease_ms_max: An hour: who holds rows longer wants a lock of coordination.
        unheard_ms: A waiting request that is not asked for again, nor its transaction kept, for so long has lost its client, and
            would hold its rows for a whole lease before those behind it have them. Clients ask again each twenty seconds.
    """

    locks_max: int = 2_000
    sessions_max: int = 20_000
    waiting_max: int = 1_000
    waiters_max: int = 200
    told_max: int = 16
    refused_max: int = 5_000
    lease_ms_min: int = 100
    lease_ms_max: int = 3_600_000
    unheard_ms: int = 90_000


@dataclass(slots=True)
class Session:
    """A transaction that has locks."""

    owner: str
    age_ms: int
    lease_ms: int
    expires_ms: int
    position: int
    promised: bool = False
    route: str = ""
    locks: dict[Thing, str] = field(default_factory=dict)

    def row(self) -> list[Any]:
        """Return its row."""
        locks = [[*thing, mode] for thing, mode in self.locks.items()]
        return [self.owner, self.age_ms, self.lease_ms, self.expires_ms, self.position, self.promised, self.route, locks]

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        """Return the session of a row."""
        one = cls(*row[:-1])
        one.locks = {(table, key, span): mode for table, key, span, mode in row[-1]}
        return one


@dataclass(slots=True, eq=False)
class Waiting:
    """A request for locks.

    Attributes:
        txn: Whose.
        owner: Its agent.
        age_ms: That of the transaction's first attempt.
        strategy: "wait_die", "wound_wait" or "detect".
        due_ms: When it has waited long enough; None: never.
        lease_ms: Of the locks, from when it has them.
        route: Who asked.
        order: Its place: smaller came earlier.
        heard_ms: When it was last asked for, or its transaction kept.
        behind: Owners that it was told it waits for.
        locks: As they were asked for.
        wants: Those of them that its transaction does not have, one of each thing.
        who: Its transaction.
        key: Its domain and id.
        holders: Transactions whose locks exclude what it wants.
        ahead: Requests of others that exclude it and go first, in the order in which they came.
        followers: Requests that have this one ahead.
    """

    txn: str
    owner: str
    age_ms: int
    strategy: str
    due_ms: int | None
    lease_ms: int
    route: str
    order: int = 0
    heard_ms: int = 0
    behind: list[str] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)
    wants: list[Lock] = field(default_factory=list)
    who: Who = ("", "")
    key: Who = ("", "")
    holders: set[Who] = field(default_factory=set)
    ahead: dict[Who, None] = field(default_factory=dict)
    followers: set[Who] = field(default_factory=set)

    def row(self) -> list[Any]:
        """Return its row; what it waits for follows from the other rows."""
        plain = [
            self.txn,
            self.owner,
            self.age_ms,
            self.strategy,
            self.due_ms,
            self.lease_ms,
            self.route,
            self.order,
            self.heard_ms,
        ]
        return [*plain, list(self.behind), [list(one) for one in self.locks], [list(one) for one in self.wants]]

    @classmethod
    def of(cls, key: Who, row: list[Any]) -> Self:
        """Return the request of a row."""
        one = cls(*row[:-3])
        one.key, one.who, one.behind = key, (key[0], one.txn), list(row[-3])
        one.locks, one.wants = ([(table, name, span, mode) for table, name, span, mode in locks] for locks in row[-2:])
        return one

    @property
    def age(self) -> tuple[int, str]:
        """Smaller is older."""
        return self.age_ms, self.txn


class No(NamedTuple):
    """A refused request that is remembered."""

    txn: str
    order: int
    code: str
    reason: str
    waits_for: list[str]


class Granted(NamedTuple):
    """A request has its locks."""

    who: Who
    request_id: str
    owner: str
    route: str
    position: int
    locks: list[Lock]
    lease_ms: int


class Queued(NamedTuple):
    """A request waits, for these owners now."""

    who: Who
    request_id: str
    owner: str
    route: str
    behind: list[str]
    repeated: bool = False


class Refused(NamedTuple):
    """A request ends without its locks; what its transaction has it keeps."""

    who: Who
    request_id: str
    owner: str
    route: str
    code: str
    reason: str
    waits_for: tuple[str, ...] = ()
    repeated: bool = False


class Ended(NamedTuple):
    """A transaction is rolled back: wounded, or its lease ended."""

    who: Who
    owner: str
    code: str
    reason: str
    route: str


Outcome = Granted | Queued | Refused | Ended
