"""What a transaction reads: one position of each domain, or what is there under its locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from streams.core.tables.bodies import Body, Part
from streams.core.tables.rows import NEWEST
from streams.tables.errors import TransactionRefused
from streams.tables.locking import HeldLocks
from streams.tables.session import domain_of_prefix, from_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streams.tables.feeds import Domain
    from streams.tables.session import TableSession

__all__ = ["Isolation", "Reads"]

Isolation = Literal["read_committed", "repeatable_read", "snapshot", "serializable"]


class Reads:
    """A base of `Transaction`.

    Args:
        session: Whose.
        isolation: Its level.
        read_only: Whether it reads one moment of all domains, and writes nothing.
        fresh: Whether it sees all that was committed before.
        owner: Who commits; the running task unless given.
        priority: For conflicts that are resolved by it.
        timeout_s: How long to ask for what came of the commit.
        as_of: A time or positions that it reads.
        domains: Those that are read in one moment.
        locks: How it locks, where it does; see `HeldLocks`.
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
        as_of: Mapping[str, int] | int | None = None,
        domains: Collection[str] = (),
        locks: dict[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._ready = session.copies.ready
        self.id = session.wire.channel.new_id()
        self.owner = owner or session.coordination.owner()
        self.isolation: Isolation = isolation
        self._read_only, self._fresh, self._priority, self._timeout_s = read_only, fresh, priority, timeout_s
        self._body = Body()
        self._at_ms = as_of if isinstance(as_of, int) else -1
        self._as_of = as_of is not None
        self._cuts = read_only or isolation == "snapshot"
        self._domains = tuple(domains)
        self._cut: dict[str, int] = {} if as_of is None or isinstance(as_of, int) else dict(as_of)
        self._fences: list[tuple[str, int]] = []
        self._managers: list[dict[str, str]] = []
        self._savepoints = 0
        self._open = True
        self._locks: HeldLocks | None = None
        if locks is not None:
            self._locks = HeldLocks(session, self.id, self.owner, priority=priority, **locks)
        self._locks_reads = self._locks is not None and isolation in ("serializable", "repeatable_read")
        self._newest = not read_only and (isolation == "read_committed" or self._locks_reads)

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
            if self._at_ms >= 0:
                return await self._then(name, table, key, at_ms=self._at_ms)
            domain = await self._begin(name, part)
        if self._locks_reads:
            domain = await self._lock(name, table, key, "shared")
        else:
            part.reads[place] = None
        rows = domain.rows
        assert rows is not None
        at = NEWEST if self._newest else part.snapshot
        if at < rows.floor:
            return await self._then(name, table, key, at_position=at)
        version = rows.read(table, key, at)
        return None if version is None else version.value

    async def _then(self, name: str, table: str, key: str, **when: int) -> str | None:
        """Return what a row held where the copy does not know it any more: the domain does, for longer."""
        self._check_open()
        await self._session.open()
        async for page in self._session.copies.pages(name, table=table, prefix=key, **when):
            for row in page["rows"]:
                if row["key"] == key:
                    value: str | None = row["versions"][-1]["value"]
                    return value
            break  # the row itself comes before all others that begin with its key
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
        rows: list[tuple[str, str]]
        domain = self._ready.get(name)
        if self._at_ms >= 0:
            rows = await self._rows_then(name, table, prefix, at_ms=self._at_ms)
            return [(key, from_json(value)) for key, value in rows[:limit]]
        if domain is None or part.snapshot < 0:
            domain = await self._begin(name, part)
        if not self._locks_reads:
            part.spans[table, prefix] = None
        elif self.isolation == "serializable":
            domain = await self._lock(name, table, prefix, "shared", span=True)
        rows = await self._rows(domain, part, table, prefix)
        if self.isolation == "repeatable_read":
            if self._locks_reads:
                rows = await self._rows_locked(name, table, rows)
            else:
                part.reads |= dict.fromkeys((table, key) for key, _ in rows)
        return [(key, from_json(value)) for key, value in part.over(rows, table, prefix)[:limit]]

    async def _rows(self, domain: Domain, part: Part, table: str, prefix: str) -> list[tuple[str, str]]:
        rows = domain.rows
        assert rows is not None
        at = NEWEST if self._newest else part.snapshot
        if at >= rows.floor:
            return [(key, version.value) for key, version in rows.scan(table, prefix, at) if version.value is not None]
        return await self._rows_then(domain.name, table, prefix, at_position=at)

    async def _rows_then(self, name: str, table: str, prefix: str, **when: int) -> list[tuple[str, str]]:
        self._check_open()
        await self._session.open()
        found: list[tuple[str, str]] = []
        async for page in self._session.copies.pages(name, table=table, prefix=prefix, **when):
            found += [(row["key"], value) for row in page["rows"] if (value := row["versions"][-1]["value"]) is not None]
        return found

    async def _rows_locked(self, name: str, table: str, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Have the rows that a scan has found stay as they are, though not those that it has not found."""
        found: list[tuple[str, str]] = []
        for key, _ in rows:
            domain = await self._lock(name, table, key, "shared")
            assert domain.rows is not None
            version = domain.rows.read(table, key, NEWEST)
            if version is not None and version.value is not None:
                found.append((key, version.value))
        return found

    async def lock(
        self,
        table: str,
        key: str,
        *,
        mode: Literal["shared", "exclusive", "intend_shared", "intend_exclusive"] = "exclusive",
        span: bool = False,
    ) -> None:
        """Lock a row, or all rows with a prefix, before it is read or written; a pessimistic transaction does that by itself.

        Args:
            table: The table.
            key: The row's key, or the prefix.
            mode: "exclusive" for what will be written; intentions announce locks of rows within a prefix.
            span: Whether `key` is a prefix.

        Raises:
            TransactionConflict: It was refused, or the transaction was rolled back to let another one go on.
            DeadlockError: It was refused to end a deadlock.
            TransactionRefused: The transaction is optimistic.
        """
        if self._locks is None:
            raise TransactionRefused(f"transaction {self.id}", code="optimistic", reason='locks are for mode="pessimistic"')
        name, part = self._body.part(key)
        await self._begin(name, part)
        await self._lock(name, table, key, mode, span=span)

    async def _lock(self, name: str, table: str, key: str, mode: str, *, span: bool = False) -> Domain:
        """Lock, and return the domain as it is under the lock."""
        assert self._locks is not None
        copies = self._session.copies
        await self._locks.take(await copies.loaded(name), table, key, mode, span=span)
        return await copies.loaded(name)

    async def _begin(self, name: str, part: Part) -> Domain:
        """Return a domain whose rows can be read, at the position where this transaction reads it."""
        copies = self._session.copies
        self._check_open()
        domain = self._ready.get(name) or await copies.loaded(name)
        if part.snapshot >= 0:
            return domain
        if self._fresh:
            await copies.mark(domain)
        if self._as_of:
            part.snapshot = self._position_of(name)
            if domain.position < part.snapshot:
                await copies.mark(domain)
        elif self._cuts:
            if name not in self._cut:
                for other in self._domains:
                    await copies.loaded(other)
                self._cut |= await copies.moments.cut(self._cut, name)
            part.snapshot = self._cut[name]
        else:
            part.snapshot = domain.position
        domain.pin(part.snapshot)
        return domain

    def _position_of(self, name: str) -> int:
        if name not in self._cut:
            reason = f"as_of names no position of domain {name}: it has {', '.join(sorted(self._cut))}"
            raise TransactionRefused(f"transaction {self.id}", code="no_position", reason=reason)
        return self._cut[name]

    @property
    def cut(self) -> dict[str, int]:
        """The position at which it reads each domain, for `as_of` of a later one."""
        return dict(self._cut) or {name: part.snapshot for name, part in self._body.parts.items() if part.snapshot >= 0}

    def _check_open(self) -> None:
        if not self._open:
            raise TransactionRefused(f"transaction {self.id}", code="ended", reason="it has ended: begin another one")
