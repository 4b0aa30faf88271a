"""The part of a mesh that has tables and transactions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from streams.tables.retries import ATTEMPTS, WAIT_INITIAL_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.tables.session import TableSession
    from streams.tables.tables import Table
    from streams.tables.transactions import Isolation, Transaction

__all__ = ["Tables"]

T = TypeVar("T")


class Tables:
    """A base of `Mesh`."""

    _tables: TableSession | None = None

    def _new_tables(self) -> TableSession:
        """Make the session, when it is first used."""
        raise NotImplementedError

    @property
    def tables(self) -> TableSession:
        """The tables of this mesh: its copies, and the commits on their way."""
        if self._tables is None:
            self._tables = self._new_tables()
        return self._tables

    def table(
        self, name: str, *, conflicts: Literal["abort", "last_writer_wins", "merge", "priority", "human"] | None = None
    ) -> Table:
        """Return a table: `await mesh.table("plans").put("repo/a", value)`. See `streams.tables.tables`.

        Args:
            name: Its name.
            conflicts: What is done where this mesh's transactions write a row of it that has changed meanwhile: "abort" unless
                it was ever said; "last_writer_wins" overwrites, "merge" calls the worker's function for this table, "priority"
                overwrites what was written with less, "human" waits for `resolve`.
        """
        from streams.tables.tables import Table
        from streams.tables.transactions import POLICIES

        if conflicts is not None:
            self.tables.policies[name] = POLICIES[conflicts]
        return Table(self.tables, name)

    def transaction(
        self,
        *,
        isolation: Isolation = "serializable",
        read_only: bool = False,
        fresh: bool = False,
        priority: int = 0,
        owner: str = "",
        timeout_s: float | None = None,
    ) -> Transaction:
        """Run a block as a transaction: `async with mesh.transaction() as txn`. See `streams.tables.transactions`.

        A block cannot be run again by anybody but who wrote it: where another transaction is in the way it raises
        `TransactionConflict`. `transact` takes a function instead, and runs that again.

        Args:
            isolation: "read_committed", "repeatable_read", "snapshot" or "serializable".
            read_only: It writes nothing; it reads one moment of all domains, and is never refused.
            fresh: Whether it sees all that was committed before, by whomever.
            priority: For tables where conflicts are resolved by it.
            owner: Who commits; the running task unless given.
            timeout_s: How long to ask for what came of the commit; None for as long as it takes.

        Raises:
            TransactionConflict: (Leaving the block.) Another transaction was in the way; nothing is written.
            TransactionRefused: (Leaving.) It was refused for another reason; its code says why.
            TransactionUnknown: (Leaving.) It is not known within `timeout_s` what came of it.
        """
        from streams.tables.transactions import Transaction

        return Transaction(
            self.tables,
            isolation=isolation,
            read_only=read_only,
            fresh=fresh,
            priority=priority,
            owner=owner,
            timeout_s=timeout_s,
        )

    async def transact(
        self,
        body: Callable[[Transaction], Awaitable[T]],
        *,
        attempts: int = ATTEMPTS,
        wait_s: float = WAIT_INITIAL_S,
        **options: Any,  # noqa: ANN401 - those of `transaction`
    ) -> T:
        """Run a function as a transaction, again where another one was in the way, and return what it returns.

        Args:
            body: Gets the transaction. It may run several times, so it does nothing else that counts.
            attempts: How often at most.
            wait_s: Before the second attempt; it doubles with each, and as much is added at random.
            **options: As for `transaction`.

        Raises:
            TransactionConflict: Another one was in the way each time.
            TransactionRefused: As for `transaction`, and so are the others.
        """
        from streams.tables.retries import transact

        return await transact(self.tables, partial(self.transaction, **options), body, attempts=attempts, wait_s=wait_s)
