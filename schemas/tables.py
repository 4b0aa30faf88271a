"""Commands and events of tables and the transactions over them.

Commands go to `tables.commands`, keyed by domain: the part of a row's key before its first slash (see `schemas.naming`), whatever
its table. So one partition decides about all rows of a domain, and a commit inside a domain is one step of one fold. The
*position* of a command is its offset there plus one, so that 0 is before everything; the position of a commit is the version of
every row that it writes.

What came of a commit is a `Change` in a bundle (`tables.changed`), on `tables.feed` at once and on `tables.events` with the kafka
transaction; the client that asked, and every copy, reads the feed. What was refused is an answer, and an event of its own.
Values are JSON text, which nobody reads between the client that wrote it and those that read it, merge functions excepted.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.events import Event

__all__ = [
    "COMMANDS_TOPIC",
    "EVENTS",
    "EVENTS_TOPIC",
    "FEED_TOPIC",
    "TABLE_COMMANDS",
    "AskTransaction",
    "Change",
    "CommitTransaction",
    "Conflict",
    "ConflictResolved",
    "DecideTransaction",
    "EndTransaction",
    "Expect",
    "Fence",
    "KeepTransaction",
    "LockRows",
    "MarkTable",
    "Place",
    "PrepareTransaction",
    "ReadRows",
    "ResolveConflict",
    "RowLock",
    "RowRead",
    "RowVersion",
    "RowsLocked",
    "RowsQueued",
    "RowsRead",
    "Span",
    "TableMarked",
    "TablesChanged",
    "TransactionKept",
    "TransactionOutcome",
    "TransactionRefused",
    "Write",
    "Written",
]

COMMANDS_TOPIC: Final = "tables.commands"
EVENTS_TOPIC: Final = "tables.events"
FEED_TOPIC: Final = "tables.feed"

Isolation = Literal["read_committed", "repeatable_read", "snapshot", "serializable"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Place(_Part):
    """One row."""

    table: str
    key: str


class Span(_Part):
    """All rows of a table whose keys begin with a prefix, those that are not there yet included."""

    table: str
    prefix: str


class Expect(_Part):
    """A row that has to have just this version; 0: it must not be there."""

    table: str
    key: str
    version: int


class Write(_Part):
    """A row's new value."""

    table: str
    key: str
    value: str | None = Field(None, description="JSON text; null deletes.")
    policy: str = Field("", description='Where it conflicts: "" aborts, "last_writer_wins", "merge", "priority" or "human".')


class Fence(_Part):
    """The token of a lock under which something is written."""

    resource: str
    token: int


class _Asked(Event):
    """What a commit and a prepare share."""

    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str = Field(description="Names the transaction; said again with the same one it is answered with what came of it.")
    owner: str = Field(description="Who commits.")
    isolation: Isolation
    snapshot: int = Field(-1, description="The position that its reads saw; -1: no reads that count.")
    reads: list[Place] = Field(default=[], description="Rows read; none may have changed since the snapshot.")
    spans: list[Span] = Field(default=[], description="Prefixes scanned; no row of them may have changed, come or gone.")
    expects: list[Expect] = Field(default=[])
    writes: list[Write] = Field(default=[])
    fences: list[Fence] = Field(default=[])
    priority: int = Field(0, description='For the policy "priority".')
    again: bool = Field(False, description="Whether it may have been sent before.")


class CommitTransaction(_Asked):
    """Write all of this or nothing: checked against what has been committed since the snapshot."""

    event_type: ClassVar[str] = "transaction.commit"


class PrepareTransaction(_Asked):
    """As `CommitTransaction` for this domain's part, but only promised: the coordinator decides. Its answer is a vote to it."""

    event_type: ClassVar[str] = "transaction.prepare"

    participants: list[str] = Field(description="All that take part: domains, and `manager:<name>` for resource managers.")
    timeout_ms: int = Field(10_000, description="How long the coordinator waits for all votes before it aborts.")


class DecideTransaction(Event):
    """The coordinator's decision about a prepared transaction; answered to it with `transaction.done`."""

    event_type: ClassVar[str] = "transaction.decide"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    commit: bool
    reason: str = ""


class RowLock(_Part):
    """A lock of one row, or of all rows with a prefix."""

    table: str
    key: str = Field(description="The row's key, or the prefix.")
    span: bool = Field(False, description="Whether `key` is a prefix.")
    mode: Literal["shared", "exclusive", "intend_shared", "intend_exclusive"] = "exclusive"


class LockRows(Event):
    """Two-phase locking: give the transaction these locks, held until it ends."""

    event_type: ClassVar[str] = "transaction.lock"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    request_id: str = Field(description="Names this request of the transaction.")
    owner: str
    locks: list[RowLock]
    strategy: Literal["wait_die", "wound_wait", "detect"] = "detect"
    age_ms: int = Field(0, description="When the transaction, or the first of its attempts, began; smaller is older.")
    wait_ms: int | None = Field(None, description="0 tries; null waits as long as it takes.")
    lease_ms: int = Field(30_000, description="Its locks end where it is not heard of for so long.")
    again: bool = False


class KeepTransaction(Event):
    """The transaction still lives: its locks hold for another lease."""

    event_type: ClassVar[str] = "transaction.keep"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    lease_ms: int


class EndTransaction(Event):
    """Roll back: release locks, end waits. A prepared transaction is not ended by it."""

    event_type: ClassVar[str] = "transaction.end"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    reason: str = ""


class AskTransaction(Event):
    """What came of a transaction in this domain?"""

    event_type: ClassVar[str] = "transaction.ask"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str


class ResolveConflict(Event):
    """A human's decision about a commit that waits for one."""

    event_type: ClassVar[str] = "transaction.resolve"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str = Field(description="Who decides.")
    commit: bool
    reason: str


class MarkTable(Event):
    """Tell me when you are here: the mark appears in the feed behind everything before it."""

    event_type: ClassVar[str] = "table.mark"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str


class ReadRows(Event):
    """Read rows of a domain, in pages by table and key."""

    event_type: ClassVar[str] = "table.read"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = COMMANDS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    table: str = Field("", description="Empty: all tables.")
    prefix: str = Field("", description="Of the keys; it has effect with a table.")
    after_table: str = Field("", description="The page begins after this row.")
    after_key: str = ""
    at_position: int = Field(-1, description="As it was there; -1: now.")
    at_ms: int = Field(-1, description="As it was then, by the partition's time; -1: now.")
    history: bool = Field(False, description="All versions that are kept, deletions too, and not one of each row.")


class RowVersion(_Part):
    """One version of a row."""

    version: int
    value: str | None
    txn: str
    owner: str
    at_ms: int


class RowRead(_Part):
    """A row and its versions, oldest first."""

    table: str
    key: str
    trimmed: int = Field(0, description="The newest version that is not kept any more; 0: all are.")
    versions: list[RowVersion]


class RowsRead(Event):
    """A page of rows."""

    event_type: ClassVar[str] = "table.rows"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    partition: int
    position: int = Field(description="Where the read lies; what lies before it is in the rows.")
    rows: list[RowRead]
    more: bool = Field(description="Whether there is another page after the last row.")
    code: str = Field("", description='"too_old": a version that was asked for is not kept any more; `reason` says which.')
    reason: str = ""


class TableMarked(Event):
    """The answer to a mark: which partition the domain is in, and how far it is."""

    event_type: ClassVar[str] = "table.marked"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    request_id: str
    partition: int
    position: int
    at_ms: int
    prepared: list[str] = Field(default=[], description="Transactions that are promised here and not decided yet.")


class Written(_Part):
    """A row that a commit wrote, as it is now: a merge's result where it was merged."""

    table: str
    key: str
    value: str | None


class Change(_Part):
    """One entry of the feed: a commit, a promise, or a mark."""

    kind: Literal["committed", "prepared", "rolled_back", "mark"]
    position: int
    at_ms: int = Field(description="By the partition's time.")
    domain: str
    txn: str = Field(description="For a mark its request id.")
    owner: str
    isolation: str
    writes: list[Written]
    participants: list[str] = Field(description="Of a transaction over several domains; empty for one.")


class TablesChanged(Event):
    """Changes of a partition, in their order.

    What lies at or before `previous` is in earlier bundles: a reader that has not seen `previous` has missed something, and reads
    its rows anew.
    """

    event_type: ClassVar[str] = "tables.changed"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "partition"

    partition: int
    previous: int = Field(description="Position of the last change before these; 0: there is none.")
    changes: list[Change]


class Conflict(_Part):
    """Why a commit was refused, for one row or prefix."""

    table: str
    key: str
    span: bool = Field(description="Whether `key` is a prefix that was scanned; `row` is the key that changed.")
    row: str
    seen: int = Field(description="The version or the snapshot that the transaction saw.")
    version: int = Field(description="The one that is there; for a lock 0.")
    txn: str = Field(description="The other transaction.")
    owner: str = Field(description="Its agent.")


class TransactionRefused(Event):
    """A commit, a prepare or a request for locks did nothing."""

    event_type: ClassVar[str] = "transaction.refused"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    request_id: str = ""
    position: int
    code: str = Field(description="For programs: conflict, locked, fenced, expected, died, wounded, timed_out, bad_..., full.")
    reason: str = Field(description="For people.")
    conflicts: list[Conflict]
    waits_for: list[str] = Field(default=[], description="Owners of the locks in the way, sixteen at most.")


class ConflictResolved(Event):
    """A conflict did not abort: what its policy made of it, and why."""

    event_type: ClassVar[str] = "transaction.conflict_resolved"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    position: int
    policy: str
    how: str = Field(description='"overwritten", "merged", "waits" for a human, "applied" or "refused" by one.')
    reason: str
    conflict: Conflict


class RowsLocked(Event):
    """A transaction has its locks; what it reads now stays until it ends."""

    event_type: ClassVar[str] = "transaction.locked"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    request_id: str
    owner: str
    position: int = Field(description="Everything that was committed before lies before it.")
    previous: int = Field(0, description="Position of the partition's last change before it, as in the feed; 0: there is none.")
    partition: int
    locks: list[RowLock]
    lease_ms: int


class RowsQueued(Event):
    """A request for locks waits; said again where those it waits for change."""

    event_type: ClassVar[str] = "transaction.queued"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    request_id: str
    owner: str
    behind: list[str] = Field(description="Owners, sixteen at most.")


class TransactionKept(Event):
    """A transaction's locks hold on."""

    event_type: ClassVar[str] = "transaction.kept"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    expires_ms: int


class TransactionOutcome(Event):
    """What came of a transaction, as far as this domain knows: the answer to a question, and to a commit that is said again."""

    event_type: ClassVar[str] = "transaction.outcome"
    schema_version: ClassVar[int] = 1
    topic: ClassVar[str] = EVENTS_TOPIC
    key_field: ClassVar[str] = "domain"

    domain: str
    txn: str
    owner: str
    state: Literal["committed", "refused", "rolled_back", "prepared", "waits_for_human", "active", "unknown"]
    partition: int
    position: int = Field(description="Of the commit, or of what ended it; -1 where it has not ended.")
    code: str = ""
    reason: str = ""
    conflicts: list[Conflict] = Field(default=[])


TABLE_COMMANDS: Final = (
    CommitTransaction,
    PrepareTransaction,
    DecideTransaction,
    LockRows,
    KeepTransaction,
    EndTransaction,
    AskTransaction,
    ResolveConflict,
    MarkTable,
    ReadRows,
)
"""What the transactions processor carries out."""

EVENTS: Final = (
    *TABLE_COMMANDS,
    RowsRead,
    TableMarked,
    TablesChanged,
    TransactionRefused,
    ConflictResolved,
    RowsLocked,
    RowsQueued,
    TransactionKept,
    TransactionOutcome,
)
"""The family, in the order in which ids were given."""
