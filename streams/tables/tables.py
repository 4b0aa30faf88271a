"""A state table of agent services: rows of JSON by key, with versions; made by `mesh.table`.

    plans = mesh.table("plans")
    version = await plans.put("repo/a", {"step": 1})
    await plans.put("repo/a", {"step": 2}, if_version=version)      # TransactionConflict where somebody else was there first
    async for change in plans.watch("repo/"): ...

Reads come from a local copy that follows the log, with this mesh's own writes in it; `fresh=True` waits until everything is there
that was committed anywhere before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.naming import domain_of
from streams.core.tables.rows import NEWEST, Version
from streams.tables.errors import CONFLICT, EXPECTED, TableError, TransactionConflict
from streams.tables.session import check_name, domain_of_prefix, from_json, to_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from streams.coordination.grants import Grant
    from streams.tables.feeds import Change, Domain
    from streams.tables.session import TableSession

__all__ = ["Row", "Table"]

BEHIND_MAX: Final = 10_000
"""Changes that a watcher may be behind: more than anybody catches up with."""


class Row(NamedTuple):
    """One version of a row.

    Attributes:
        key: Its key.
        value: What it holds; None where it was deleted.
        version: The position of the commit that wrote it, for `if_version`.
        at_ms: When, by the partition's time.
        txn: The transaction.
        owner: Its agent.
        deleted: Whether it was deleted.
    """

    key: str
    value: Any
    version: int
    at_ms: int
    txn: str
    owner: str
    deleted: bool


def _row(key: str, version: Version) -> Row:
    position, value, at_ms, txn, owner = version
    return Row(key, None if value is None else from_json(value), position, at_ms, txn, owner, value is None)


def _told(key: str, one: dict[str, Any]) -> Row:
    return _row(key, Version(one["version"], one["value"], one["at_ms"], one["txn"], one["owner"]))


class Table:
    """A table by its name.

    Attributes:
        name: Its name.
    """

    def __init__(self, session: TableSession, name: str) -> None:
        check_name(name, "the table")
        self._session, self.name = session, name

    # ---- reading

    async def get(self, key: str, default: Any = None, *, fresh: bool = False) -> Any:  # noqa: ANN401 - any JSON value
        """Return a row's value, or `default` where there is none.

        Args:
            key: The row's key.
            default: For a row that is not there.
            fresh: Whether all that was committed before now has to be seen, by whomever; one question to the domain.

        Raises:
            RequestTimedOut: No worker of transactions answers.
        """
        found = await self.row(key, fresh=fresh)
        return default if found is None else found.value

    async def row(self, key: str, *, fresh: bool = False) -> Row | None:
        """Return a row with its version, or None; as `get`."""
        check_name(key, "the key")
        domain = await self._domain(domain_of(key), fresh=fresh)
        assert domain.rows is not None
        version = domain.rows.read(self.name, key, NEWEST)
        return None if version is None or version.value is None else _row(key, version)

    async def scan(self, prefix: str, *, limit: int | None = None, fresh: bool = False) -> list[Row]:
        """Return the rows whose keys begin with a prefix, in the order of keys.

        Args:
            prefix: Of the keys; it has a slash, since the rows of one domain are read together.
            limit: At most so many.
            fresh: As for `get`.

        Raises:
            TransactionRefused: The prefix names no domain.
            RequestTimedOut: No worker of transactions answers.
        """
        domain = await self._domain(domain_of_prefix(prefix), fresh=fresh)
        assert domain.rows is not None
        found: list[Row] = []
        for key, version in domain.rows.scan(self.name, prefix, NEWEST):
            if limit is not None and len(found) >= limit:
                break
            found.append(_row(key, version))
        return found

    async def history(self, key: str) -> list[Row]:
        """Return the versions of a row that are kept, oldest first, deletions too.

        Raises:
            RequestTimedOut: No worker of transactions answers.
        """
        check_name(key, "the key")
        async for page in self._pages(domain_of(key), prefix=key, history=True):
            return [_told(key, one) for row in page["rows"] if row["key"] == key for one in row["versions"]]
        return []

    async def as_of(self, key: str, *, position: int = -1, at_ms: int = -1) -> Row | None:
        """Return a row as it was at a position or a time, or None where it was not there.

        Args:
            key: The row's key.
            position: As it was there.
            at_ms: As it was then, epoch milliseconds, by the time of the domain's partition.

        Raises:
            VersionGone: That is older than what is kept.
            RequestTimedOut: No worker of transactions answers.
        """
        check_name(key, "the key")
        if (position < 0) == (at_ms < 0):
            raise TableError("as_of: a position or a time is asked for, and one of them only")
        async for page in self._pages(domain_of(key), prefix=key, at_position=position, at_ms=at_ms):
            for row in page["rows"]:
                if row["key"] == key and row["versions"]:
                    found = _told(key, row["versions"][-1])
                    return None if found.deleted else found
            break  # the row itself comes before all others that begin with its key
        return None

    async def watch(self, prefix: str, *, initial: bool = False) -> AsyncGenerator[Row, None]:
        """Yield what changes in rows whose keys begin with a prefix, in the order of commits, deletions too.

        Each version is told once, unless the watcher was cut off from the log: then of each row the last one.

        Args:
            prefix: Of the keys; it has a slash.
            initial: Whether the rows that are there come first.

        Raises:
            TableError: The reader is too far behind.
            RequestTimedOut: No worker of transactions answers.
        """
        domain = await self._domain(domain_of_prefix(prefix), fresh=False)
        told: deque[Row] = deque()
        wake = asyncio.Event()

        def watcher(change: Change) -> None:
            for write in change["writes"]:
                if write["table"] == self.name and write["key"].startswith(prefix):
                    told.append(_told(write["key"], {"version": change["position"], **write, **_who(change)}))
                    wake.set()

        if initial:
            assert domain.rows is not None
            told += [_row(key, version) for key, version in domain.rows.scan(self.name, prefix, NEWEST)]
        domain.watchers.append(watcher)
        try:
            while True:
                while told:
                    if len(told) > BEHIND_MAX:
                        raise TableError(f"a watcher of {self.name} {prefix} is {len(told):,} changes behind: be quicker")
                    yield told.popleft()
                wake.clear()
                await wake.wait()
        finally:
            domain.watchers.remove(watcher)

    # ---- writing

    async def put(self, key: str, value: Any, *, if_version: int | None = None, guard: Grant | None = None) -> int:  # noqa: ANN401 - any JSON value
        """Write a row, and return its version.

        Args:
            key: The row's key.
            value: Any JSON value.
            if_version: Only where it has this version; 0: only where it is not there.
            guard: A lock under which it is written: refused once somebody else has had the lock.

        Raises:
            TransactionConflict: It has another version, or another transaction has it locked.
            TransactionRefused: It was refused for another reason; its code says why.
            LockLost: The guard's lock is not held any more.
        """
        return await self._write(key, to_json(value), if_version, guard)

    async def delete(self, key: str, *, if_version: int | None = None, guard: Grant | None = None) -> int:
        """Delete a row, and return the position of that; as `put`."""
        return await self._write(key, None, if_version, guard)

    # ---- inside

    async def _write(self, key: str, value: str | None, if_version: int | None, guard: Grant | None) -> int:
        from streams.tables.transactions import Transaction

        check_name(key, "the key")
        txn = Transaction(self._session, isolation="read_committed")
        try:
            async with txn:
                await txn.write(self.name, key, value)
                if if_version is not None:
                    txn.expect(self.name, key, if_version)
                if guard is not None:
                    txn.guard(guard)
        except TransactionConflict as error:
            if if_version is None or error.code != CONFLICT:
                raise
            raise error.with_code(EXPECTED) from None  # the same call would meet it again
        assert txn.committed is not None
        return txn.committed.positions[domain_of(key)]

    async def _domain(self, name: str, *, fresh: bool) -> Domain:
        copies = self._session.copies
        domain = copies.ready.get(name)
        if domain is None:
            await self._session.open()
            domain = await copies.loaded(name)
        if fresh:
            await copies.mark(domain)
            domain = await copies.loaded(name)
        return domain

    async def _pages(self, domain: str, **which: Any) -> AsyncIterator[dict[str, Any]]:  # noqa: ANN401 - fields of ReadRows
        await self._session.open()
        async for page in self._session.copies.pages(domain, table=self.name, **which):
            yield page


def _who(change: Change) -> dict[str, Any]:
    return {"at_ms": change["at_ms"], "txn": change["txn"], "owner": change["owner"]}
