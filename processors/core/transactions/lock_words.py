"""What is said to the row locks and what they answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from processors.core.transactions.lock_modes import Lock

__all__ = ["REQUEST", "SESSION", "Ended", "Granted", "LockLimits", "Outcome", "Queued", "Refused", "Session", "Waiting", "Who"]

Who = tuple[str, str]
"""A domain, and a transaction or a request there: one transaction may be in several domains of a partition."""

SESSION: Final = "l"
REQUEST: Final = "q"


@dataclass(frozen=True, slots=True, kw_only=True)
class LockLimits:
    """What is refused, and why there is a limit.

    Attributes:
        locks_max: Of one transaction; its row has all of them.
        sessions_max: Transactions with locks on one partition.
        waiting_max: Requests that wait on one partition: each end of a transaction looks at all of them.
        told_max: Owners that a waiting request names.
        lease_ms_min: Renewed at a third of it, it has to survive a kafka transaction and a slow moment of the loop.
        lease_ms_max: An hour: who holds rows longer wants a lock of coordination.
    """

    locks_max: int = 2_000
    sessions_max: int = 20_000
    waiting_max: int = 1_000
    told_max: int = 16
    lease_ms_min: int = 100
    lease_ms_max: int = 3_600_000


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
    locks: dict[tuple[str, str, bool], str] = field(default_factory=dict)

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


@dataclass(slots=True)
class Waiting:
    """A request for locks."""

    txn: str
    owner: str
    age_ms: int
    strategy: str
    due_ms: int | None
    lease_ms: int
    route: str
    order: int = 0
    behind: list[str] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)

    def row(self) -> list[Any]:
        """Return its row."""
        return [
            self.txn,
            self.owner,
            self.age_ms,
            self.strategy,
            self.due_ms,
            self.lease_ms,
            self.route,
            self.order,
            list(self.behind),
            [list(lock) for lock in self.locks],
        ]

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        """Return the request of a row."""
        one = cls(*row[:-2])
        one.behind, one.locks = list(row[-2]), [(table, key, span, mode) for table, key, span, mode in row[-1]]
        return one


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


class Ended(NamedTuple):
    """A transaction is rolled back: wounded, or its lease ended."""

    who: Who
    owner: str
    code: str
    reason: str
    route: str


Outcome = Granted | Queued | Refused | Ended
