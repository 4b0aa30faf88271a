"""What tables and transactions raise in an agent service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, NamedTuple

from schemas.errors import AntiphonError, Fault

__all__ = [
    "Heuristic",
    "RowConflict",
    "TableError",
    "TransactionConflict",
    "TransactionRefused",
    "TransactionUnknown",
    "TransactionWaits",
    "VersionGone",
    "VoteAgainst",
    "refusal",
]

CONFLICT: Final = "conflict"
EXPECTED: Final = "expected"
"""The one that the same call meets again: the version that it names is not there any more."""
CONFLICTS: Final = frozenset(
    {CONFLICT, EXPECTED, "locked", "died", "wounded", "too_old", "timed_out", "expired", "ended", "upgrade_deadlock"}
)
"""Codes that say that another transaction was in the way."""
_AGAIN: Final = frozenset({"full", "queue_full", "busy", "snapshot", "abandoned", "aborted", "unknown"})
"""Other codes where trying again can help."""
_SHOWN_MAX: Final = 3
"""Conflicts in a message, which is one line; all are in `conflicts`."""


class TableError(AntiphonError):
    """A base: something of a table or a transaction was not done."""


class RowConflict(NamedTuple):
    """One row, or one prefix, that another transaction changed or has locked.

    Attributes:
        table: The table.
        key: The row's key, or the prefix.
        span: Whether `key` is a prefix that was scanned.
        row: The key that changed.
        seen: The version, or the position, that the refused transaction saw.
        version: The one that is there; 0 for a lock.
        txn: The other transaction.
        owner: Its agent.
    """

    table: str
    key: str
    span: bool
    row: str
    seen: int
    version: int
    txn: str
    owner: str

    def __str__(self) -> str:
        """As a message says it."""
        what = f"prefix {self.key} (row {self.row})" if self.span else self.key
        other = f"transaction {self.txn} of {self.owner}"
        if not self.version:
            return f"{self.table} {what} is locked by {other}"
        return f"{self.table} {what} is at version {self.version} by {other}, and {self.seen} was seen"


class TransactionRefused(TableError):
    """A transaction did nothing. `code` says why for programs, `reason` for people.

    Attributes:
        code: For programs: bad_value, fenced, full and so on.
        reason: For people.
        txn: The transaction.
        domain: Which domain refused it; may be empty.
        conflicts: What was in the way.
    """

    fault: ClassVar[Fault] = "caller"

    def __init__(
        self, what: str, *, code: str, reason: str, txn: str = "", domain: str = "", conflicts: Iterable[RowConflict] = ()
    ) -> None:
        """Say what was refused and why.

        Args:
            what: What it was.
            code: For programs.
            reason: For people.
            txn: The transaction.
            domain: Which domain refused it.
            conflicts: What was in the way.
        """
        self.code, self.reason, self.txn, self.domain = code, reason, txn, domain
        self.conflicts, self._what = tuple(conflicts), what
        self.retryable = code in _AGAIN or (code in CONFLICTS and code != EXPECTED)  # type: ignore[misc] # by its code
        shown = [str(one) for one in self.conflicts[:_SHOWN_MAX]]
        if len(self.conflicts) > _SHOWN_MAX:
            shown.append(f"and {len(self.conflicts) - _SHOWN_MAX} more")
        super().__init__(f"{what} was refused ({code}): {reason or '; '.join(shown)}")


class TransactionConflict(TransactionRefused):
    """Another transaction changed what this one read or writes, or has it locked: begin again, from the first read.

    `mesh.transact` does that by itself. A block of `mesh.transaction` cannot be run again by anybody but who wrote it.

    Attributes:
        table: The first row in the way: its table.
        key: Its key.
        seen: The version that was seen.
        version: The one that is there; 0 where it is locked.
        other: The other transaction.
        owner: Its agent.
    """

    def with_code(self, code: str) -> TransactionConflict:
        """Return the same with another code."""
        more = {"reason": self.reason, "txn": self.txn, "domain": self.domain}
        return TransactionConflict(self._what, code=code, conflicts=self.conflicts, **more)

    @property
    def table(self) -> str:
        """The table of the first row in the way."""
        return self.conflicts[0].table if self.conflicts else ""

    @property
    def key(self) -> str:
        """The key of the first row in the way."""
        return self.conflicts[0].row or self.conflicts[0].key if self.conflicts else ""

    @property
    def seen(self) -> int:
        """The version of it that was seen."""
        return self.conflicts[0].seen if self.conflicts else -1

    @property
    def version(self) -> int:
        """The version that is there."""
        return self.conflicts[0].version if self.conflicts else -1

    @property
    def other(self) -> str:
        """The other transaction."""
        return self.conflicts[0].txn if self.conflicts else ""

    @property
    def owner(self) -> str:
        """The other transaction's agent."""
        return self.conflicts[0].owner if self.conflicts else ""


class TransactionWaits(TableError):
    """A commit waits for a human's decision: `mesh.resolve` gives it, and `mesh.outcome` says what came of it."""

    fault: ClassVar[Fault] = "operator"

    def __init__(self, txn: str, *, domain: str, reason: str) -> None:
        """Name the transaction.

        Args:
            txn: The transaction.
            domain: Where it waits.
            reason: Why.
        """
        self.txn, self.domain, self.reason = txn, domain, reason
        super().__init__(f"transaction {txn} waits for a human's decision in domain {domain}: {reason}")


class TransactionUnknown(TableError):
    """Nobody has said within the time that was given whether a commit took place: ask later, with `mesh.outcome`.

    Do not do it again before that is known: it may have been done.
    """

    fault: ClassVar[Fault] = "broker"

    def __init__(self, txn: str, *, domains: Iterable[str], waited_s: float) -> None:
        """Name the transaction.

        Args:
            txn: The transaction.
            domains: Which to ask.
            waited_s: How long it was asked for.
        """
        self.txn, self.domains = txn, tuple(domains)
        super().__init__(
            f"what came of transaction {txn} is not known after {waited_s:g} s: see whether the worker of transactions runs, "
            f"then ask mesh.outcome({txn!r}, {self.domains[0]!r})"
        )


class VersionGone(TableError):
    """A version that was asked for is older than what is kept: ask for a later one, or have the worker keep them for longer."""

    fault: ClassVar[Fault] = "caller"


class VoteAgainst(TableError):
    """Raised by the `prepare` of a resource manager: it cannot promise its part, so the transaction aborts."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, reason: str, *, code: str = "refused") -> None:
        """Say why.

        Args:
            reason: For people; who commits is told.
            code: For programs; the `code` of the error that who commits gets.
        """
        self.reason, self.code = reason, code or "refused"
        super().__init__(f"a resource manager votes against the transaction: {reason}")


class Heuristic(TableError):
    """Raised by the `commit` or `abort` of a resource manager: something else was done before; an operator has to mend it."""

    fault: ClassVar[Fault] = "operator"

    def __init__(self, reason: str, *, committed: bool) -> None:
        """Say what was done.

        Args:
            reason: Why.
            committed: Whether the part was carried out; else it was given back.
        """
        self.reason, self.committed = reason, committed
        super().__init__(f"a resource manager has {'committed' if committed else 'rolled back'} by itself: {reason}")


def refusal(what: str, fields: dict[str, Any]) -> TransactionRefused:
    """Return the error for what a domain or the coordinator answered.

    Args:
        what: What was refused, in words.
        fields: Of the answer: code, reason, conflicts, txn.
    """
    code = fields["code"]
    cls = TransactionConflict if code in CONFLICTS else TransactionRefused
    return cls(
        what,
        code=code,
        reason=fields["reason"],
        txn=fields["txn"],
        domain=fields.get("domain", ""),
        conflicts=[RowConflict(**one) for one in fields["conflicts"]],
    )
