"""Transactions of an agent service; made by `mesh.transaction` and `mesh.transact`.

A transaction reads what was there where it began, sees its own writes, and writes nothing before it commits. Optimistic: nothing
is locked, and the commit is refused where a row that counts has changed since. Which rows count is what an isolation level is;
see `streams.core.tables.bodies`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Self

from streams.core.guards import fences_of
from streams.core.tables.bodies import Body, Part
from streams.core.tables.rows import NEWEST, Version
from streams.tables.commits import Committed
from streams.tables.errors import TransactionRefused
from streams.tables.session import check_name, domain_of_prefix, from_json, to_json

if TYPE_CHECKING:
    from types import TracebackType

    from streams.coordination.grants import Grant
    from streams.tables.feeds import Domain
    from streams.tables.session import TableSession

__all__ = ["Isolation", "Transaction"]

VOTES_MS: Final = 10_000
"""How long the coordinator waits for all votes: longer than a takeover between workers."""

Isolation = Literal["read_committed", "repeatable_read", "snapshot", "serializable"]


class Transaction:
    """One transaction, for the time of a block.

    Attributes:
        id: Names it; what came of it can be asked for by this, for as long as the domain remembers.
        owner: Who commits.
        isolation: Its level.
        committed: What came of it, once its block has ended well.
    """

    def __init__(
        self,
        session: TableSession,
        *,
        isolation: Isolation,
        read_only: bool = False,
        fresh: bool = False,
        owner: str = "",
        priority: int = 0,
        timeout_s: float | None = None,
    ) -> None:
        self._session = session
        self._ready = session.copies.ready
        self.id = session.wire.channel.new_id()
        self.owner = owner or session.coordination.owner()
        self.isolation: Isolation = isolation
        self.committed: Committed | None = None
        self._read_only, self._fresh, self._priority, self._timeout_s = read_only, fresh, priority, timeout_s
        self._body = Body()
        self._cuts = read_only or isolation == "snapshot"
        self._cut: dict[str, int] = {}
        self._fences: list[dict[str, Any]] = []
        self._savepoints = 0
        self._open = True

    # ---- reading

    async def get(self, table: str, key: str, default: Any = None) -> Any:  # noqa: ANN401 - any JSON value
        """Return a row's value, or `default` where there is none.

        Raises:
            RequestTimedOut: No worker of transactions answers.
            TransactionConflict: (Pessimistic.) It was rolled back to let another one go on.
        """
        found = await self._read(table, key)
        return default if found is None else from_json(found)

    async def _read(self, table: str, key: str) -> str | None:
        name, part = self._body.part(key)
        place = (table, key)
        own = part.writes.get(place)
        if own is not None:
            return own[0]
        domain = self._ready.get(name)
        if domain is None or part.snapshot < 0:
            domain = await self._begin(name, part)
        version = await self._version(domain, part, table, key)
        part.reads[place] = None
        return None if version is None else version.value

    async def _version(self, domain: Domain, part: Part, table: str, key: str) -> Version | None:
        rows = domain.rows
        assert rows is not None
        at = NEWEST if self.isolation == "read_committed" and not self._read_only else part.snapshot
        if at >= rows.floor:
            return rows.read(table, key, at)
        async for page in self._session.copies.pages(domain.name, table=table, prefix=key, at_position=at):
            for row in page["rows"]:
                if row["key"] == key and row["table"] == table:
                    return Version(*(row["versions"][-1][field] for field in ("version", "value", "at_ms", "txn", "owner")))
        return None

    async def scan(self, table: str, prefix: str, *, limit: int | None = None) -> list[tuple[str, Any]]:
        """Return the rows whose keys begin with a prefix, as pairs of key and value in the order of keys.

        Args:
            table: The table.
            prefix: Of the keys; it has a slash, since the rows of one domain are read together.
            limit: At most so many.

        Raises:
            TransactionRefused: The prefix names no domain.
            RequestTimedOut: No worker of transactions answers.
        """
        name = domain_of_prefix(prefix)
        _, part = self._body.part(prefix)
        domain = self._ready.get(name)
        if domain is None or part.snapshot < 0:
            domain = await self._begin(name, part)
        part.spans[table, prefix] = None
        found = []
        rows = await self._rows(domain, part, table, prefix)
        for key, value, version in part.over(rows, table, prefix):
            if version is not None and self.isolation == "repeatable_read":
                part.reads[table, key] = None
            found.append((key, from_json(value)))
            if limit is not None and len(found) >= limit:
                break
        return found

    async def _rows(self, domain: Domain, part: Part, table: str, prefix: str) -> list[tuple[str, Version]]:
        rows = domain.rows
        assert rows is not None
        at = NEWEST if self.isolation == "read_committed" and not self._read_only else part.snapshot
        if at >= rows.floor:
            return list(rows.scan(table, prefix, at))
        found = []
        async for page in self._session.copies.pages(domain.name, table=table, prefix=prefix, at_position=at):
            for row in page["rows"]:
                last = row["versions"][-1]
                if last["value"] is not None:
                    found.append((row["key"], Version(*(last[name] for name in ("version", "value", "at_ms", "txn", "owner")))))
        return found

    async def _begin(self, name: str, part: Part) -> Domain:
        """Return a domain whose rows can be read, at the position where this transaction reads it."""
        copies = self._session.copies
        self._check_open()
        domain = self._ready.get(name) or await copies.loaded(name)
        if part.snapshot >= 0:
            return domain
        if self._fresh:
            await copies.mark(domain)
        if self._cuts:
            if name not in self._cut:
                self._cut |= await copies.cut(self._cut, name)
            part.snapshot = self._cut[name]
        else:
            part.snapshot = domain.position
        domain.pin(part.snapshot)
        return domain

    # ---- writing

    async def put(self, table: str, key: str, value: Any, *, conflicts: str | None = None) -> None:  # noqa: ANN401 - any JSON value
        """Write a row when the transaction commits.

        Args:
            table: The table.
            key: The row's key.
            value: Any JSON value.
            conflicts: What is done where it conflicts, instead of what the table says; see `mesh.table`.

        Raises:
            TransactionRefused: A name or the value is not allowed, or the transaction only reads.
        """
        await self.write(table, key, to_json(value), conflicts)

    async def delete(self, table: str, key: str, *, conflicts: str | None = None) -> None:
        """Delete a row when the transaction commits; as `put`."""
        await self.write(table, key, None, conflicts)

    async def write(self, table: str, key: str, value: str | None, conflicts: str | None = None) -> None:
        """Write a row's JSON text, or delete the row; as `put`."""
        if self._read_only or not self._open:
            self._check_open()
            raise TransactionRefused(f"transaction {self.id}", code="read_only", reason="it was begun with read_only=True")
        check_name(key, "the key")
        check_name(table, "the table")
        name, part = self._body.part(key)
        if part.snapshot < 0:
            await self._begin_writing(name, part)
        policy = self._session.policies.get(table, "") if conflicts is None else POLICIES[conflicts]
        part.writes[table, key] = (value, policy)

    async def _begin_writing(self, name: str, part: Part) -> None:
        """A write counts from the moment at which it was made, at levels that look whether somebody else was there first."""
        if self.isolation == "snapshot":
            await self._begin(name, part)

    def expect(self, table: str, key: str, version: int) -> None:
        """Have the commit refused unless a row has just this version then; 0: unless it is not there."""
        self._body.part(key)[1].expects[table, key] = version

    def guard(self, grant: Grant) -> None:
        """Have the commit refused once somebody else has had this lock.

        Raises:
            LockLost: It is not held any more.
        """
        self._fences += [{"resource": resource, "token": token} for resource, token in fences_of(grant.guard())]

    def savepoint(self, name: str = "") -> str:
        """Remember what is written so far, and return the savepoint's name for `rollback_to`."""
        self._savepoints += 1
        name = name or f"savepoint {self._savepoints}"
        self._body.savepoint(name)
        return name

    def rollback_to(self, name: str) -> None:
        """Take back what was written since a savepoint. What was read since counts as read.

        Raises:
            TransactionRefused: There is no savepoint of this name.
        """
        try:
            self._body.rollback_to(name)
        except KeyError:
            reason = f"there is no savepoint {name!r}"
            raise TransactionRefused(f"transaction {self.id}", code="no_savepoint", reason=reason) from None

    # ---- its end

    async def __aenter__(self) -> Self:
        """Begin."""
        session = self._session
        if session.clock is None:
            await session.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Commit, or leave no trace where the block raised.

        Raises:
            TransactionConflict: Another transaction was in the way.
            TransactionRefused: It was refused for another reason; its code says why.
            TransactionUnknown: It is not known within `timeout_s` what came of it.
            TransactionWaits: A human has to decide.
        """
        try:
            if error is None:
                await self._commit()
        finally:
            self._end()

    def _end(self) -> None:
        self._open = False
        domains = self._session.copies.domains
        for name, part in self._body.parts.items():
            if part.snapshot >= 0:
                domains[name].unpin(part.snapshot)

    def _check_open(self) -> None:
        if not self._open:
            raise TransactionRefused(f"transaction {self.id}", code="ended", reason="it has ended: begin another one")

    async def _commit(self) -> None:
        parts = self._parts()
        if not parts:
            self.committed = Committed(self.id, {})
            return
        copies, commits = self._session.copies, self._session.commits
        for name in parts:
            if name not in self._ready:
                await copies.followed(name)
        if len(parts) == 1:
            ((name, fields),) = parts.items()
            self.committed = await commits.commit(name, fields, timeout_s=self._timeout_s)
            return
        for fields in parts.values():
            fields["participants"], fields["timeout_ms"] = sorted(parts), VOTES_MS
        self.committed = await commits.prepare(parts, None, timeout_s=self._timeout_s)

    def _parts(self) -> dict[str, dict[str, Any]]:
        """Return what each domain is told; nothing of those that need not be asked."""
        if self._read_only:
            return {}
        isolation = self.isolation
        looked_at = isolation in ("serializable", "repeatable_read")
        parts = {}
        for name, part in self._body.parts.items():
            if part.writes or part.expects or (looked_at and (part.reads or part.spans)):
                fields = part.fields(isolation)
                fields["domain"], fields["txn"], fields["owner"] = name, self.id, self.owner
                fields["fences"], fields["priority"], fields["again"] = self._fences, self._priority, False
                parts[name] = fields
        return parts


POLICIES = {"abort": "", "last_writer_wins": "last_writer_wins", "merge": "merge", "priority": "priority", "human": "human"}
"""What can be said about conflicts, and how a write says it."""
