"""Transactions of an agent service; made by `mesh.transaction` and `mesh.transact`.

A transaction reads what was there where it began, sees its own writes, and writes nothing before it commits. Optimistic: nothing
is locked, and the commit is refused where a row that counts has changed since. Which rows count is what an isolation level is;
see `streams.core.tables.bodies`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from schemas.transactions import MANAGER_PREFIX
from streams.core.guards import fences_of
from streams.core.tables.bodies import Part
from streams.core.tables.encoding import Said
from streams.tables.commits import Committed
from streams.tables.errors import TransactionRefused
from streams.tables.reading import Reads
from streams.tables.session import check_name, to_json

if TYPE_CHECKING:
    from types import TracebackType

    from streams.coordination.grants import Grant

__all__ = ["POLICIES", "Transaction"]

VOTES_MS: Final = 10_000
"""How long the coordinator waits for all votes: longer than a takeover between workers."""


class Transaction(Reads):
    """One transaction, for the time of a block.

    Attributes:
        id: Names it; what came of it can be asked for by this, for as long as the domain remembers.
        owner: Who commits.
        isolation: Its level.
        committed: What came of it, once its block has ended well.
    """

    committed: Committed | None = None

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
        if part.snapshot < 0 and (self._locks is not None or self.isolation == "snapshot"):
            await self._begin(name, part)  # at these levels a write counts from the moment at which it was made
        if self._locks is not None:
            await self._lock(name, table, key, "exclusive")
        policy = self._session.policies.get(table, "") if conflicts is None else POLICIES[conflicts]
        part.writes[table, key] = (value, policy)

    def expect(self, table: str, key: str, version: int) -> None:
        """Have the commit refused unless a row has just this version then; 0: unless it is not there."""
        self._body.part(key)[1].expects[table, key] = version

    def guard(self, grant: Grant) -> None:
        """Have the commit refused once somebody else has had this lock.

        Raises:
            LockLost: It is not held any more.
        """
        self._fences += fences_of(grant.guard())

    def enlist(self, manager: str, payload: Any) -> None:  # noqa: ANN401 - any JSON value
        """Have a resource manager take part: it is asked for its vote, and told the decision.

        Args:
            manager: Its name.
            payload: Any JSON value: what it is asked to do.
        """
        check_name(manager, "the manager")
        self._managers.append({"name": manager, "payload": to_json(payload)})

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
        done = False
        try:
            if error is None:
                await self._commit()
                done = True
        finally:
            self._end(done)

    def _end(self, done: bool) -> None:
        self._open = False
        if self._locks is not None:
            self._locks.end(roll_back=not done)
        domains = self._session.copies.domains
        for name, part in self._body.parts.items():
            if part.snapshot >= 0:
                domains[name].unpin(part.snapshot)

    async def _commit(self) -> None:
        parts = self._parts()
        session = self._session
        for name in parts:
            if name not in self._ready:
                await session.copies.followed(name)
        if len(parts) == 1 and not self._managers:
            ((name, part),) = parts.items()
            said = Said(name, self.id, self.owner, self.isolation, part, self._fences, self._priority)
            self.committed = await session.commits.commit(said, timeout_s=self._timeout_s)
        elif parts or self._managers:
            names = sorted(parts) + [MANAGER_PREFIX + one["name"] for one in self._managers]
            several = {
                name: Said(name, self.id, self.owner, self.isolation, part, self._fences, self._priority, names, VOTES_MS)
                for name, part in parts.items()
            }
            begun = {
                "txn": self.id,
                "owner": self.owner,
                "participants": names,
                "managers": self._managers,
                "timeout_ms": VOTES_MS,
            }
            managers = begun if self._managers else None
            self.committed = await session.commits.prepare(self.id, several, managers, timeout_s=self._timeout_s)
        else:
            self.committed = Committed(self.id, {})
            await asyncio.sleep(0)  # who reads again and again until something comes lets it come

    def _parts(self) -> dict[str, Part]:
        """Return what each domain is told; not those that need not be asked."""
        if self._read_only:
            return {}
        looked_at = self.isolation in ("serializable", "repeatable_read")
        parts = {
            name: part
            for name, part in self._body.parts.items()
            if part.writes or part.expects or (looked_at and (part.reads or part.spans))
        }
        if self._locks is not None:  # a domain whose locks are gone votes against it; what was read under them is not told
            for name in {*parts, *self._locks.domains}:
                part = self._body.parts[name]
                said = parts[name] = Part()
                said.writes, said.expects = part.writes, part.expects
                if self.isolation == "snapshot":
                    said.snapshot = part.snapshot
        return parts


POLICIES = {"abort": "", "last_writer_wins": "last_writer_wins", "merge": "merge", "priority": "priority", "human": "human"}
"""What can be said about conflicts, and how a write says it."""
