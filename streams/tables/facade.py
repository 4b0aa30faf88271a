"""The part of a mesh that has tables and transactions."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from streams.tables.retries import ATTEMPTS, WAIT_INITIAL_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from streams.client import Mesh
    from streams.tables.managers import Part, ResourceManager
    from streams.tables.reading import Isolation
    from streams.tables.session import Outcome, TableSession
    from streams.tables.tables import Table
    from streams.tables.transactions import Transaction

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
        mode: Literal["optimistic", "pessimistic"] = "optimistic",
        strategy: Literal["wait_die", "wound_wait", "detect"] = "detect",
        wait_s: float | None = None,
        lease_s: float = 30.0,
        age_ms: int = 0,
        read_only: bool = False,
        as_of: Mapping[str, int] | int | None = None,
        domains: Collection[str] = (),
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
            mode: "optimistic" locks nothing and is refused where somebody else was first; "pessimistic" locks what it reads and
                writes, and waits for others.
            strategy: Where it waits: "wait_die" has the younger one begin again, "wound_wait" has the older one take its locks,
                "detect" has deadlocks looked for.
            wait_s: How long one lock is waited for; None for as long as it takes.
            lease_s: Its locks end where this process is not heard of for so long.
            age_ms: When the first of its attempts began, epoch milliseconds; now unless given.
            read_only: It writes nothing; it reads one moment of all domains, and is never refused.
            as_of: It only reads, what was there at a time (epoch milliseconds, by each domain's own), or at positions by domain,
                such as the `cut` of an earlier one.
            domains: Those that it will read in one moment, where it is read-only or of a snapshot: one that is new to this mesh
                may not fit to the moment that was begun with.
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

        locks = None
        if mode == "pessimistic" and not read_only and as_of is None:
            age_ms = age_ms or time.time_ns() // 1_000_000
            locks = {"strategy": strategy, "age_ms": age_ms, "wait_s": wait_s, "lease_s": lease_s}
        return Transaction(
            self.tables,
            isolation=isolation,
            locks=locks,
            read_only=read_only or as_of is not None,
            as_of=as_of,
            domains=domains,
            fresh=fresh,
            priority=priority,
            owner=owner,
            timeout_s=timeout_s,
        )

    async def outcome(self, txn: str, domain: str) -> Outcome:
        """Ask a domain what came of a transaction.

        Args:
            txn: Its id: `txn.id`, or that of a `TransactionUnknown`.
            domain: One in which it wrote.

        Raises:
            RequestTimedOut: No worker of transactions answers.
        """
        return await self.tables.outcome(txn, domain)

    async def resolve(self, domain: str, txn: str, *, commit: bool, reason: str, owner: str = "") -> Outcome:
        """Decide about a commit that waits for a human.

        Args:
            domain: Where it waits.
            txn: Its id.
            commit: Whether it overwrites what it conflicts with; else it is refused.
            reason: Why, for those who look later.
            owner: Who decides; the running task unless given.

        Raises:
            TransactionRefused: It does not wait for anybody.
            RequestTimedOut: No worker of transactions answers.
        """
        return await self.tables.resolve(domain, txn, commit=commit, reason=reason, owner=owner)

    async def settle(self, txn: str, participant: str, *, reason: str, owner: str = "") -> dict[str, Any]:
        """End an incident of two-phase commit, once a person has mended it.

        Args:
            txn: The transaction.
            participant: Whose part it is about, as the incident names it.
            reason: What was done about it, for those who look later.
            owner: Who says so; the running task unless given.

        Returns:
            The fields of `transaction.decided`; code "no_incident" where nothing was open.

        Raises:
            RequestTimedOut: No coordinator answers.
        """
        return await self.tables.settle(txn, participant, reason=reason, owner=owner)

    def resource_manager(
        self,
        name: str,
        *,
        prepare: Callable[[Part], Awaitable[object]],
        commit: Callable[[Part], Awaitable[object]],
        abort: Callable[[Part], Awaitable[object]],
    ) -> ResourceManager:
        """Take part in transactions that enlist this name, for the time of a block. See `streams.tables.managers`.

        Args:
            name: As `txn.enlist` names it.
            prepare: Gets the `Part` and promises it durably, or raises `VoteAgainst`.
            commit: Carries a promise out. May be called again for the same transaction.
            abort: Gives a promise back, if there is one. May be called again.

        Raises:
            TransactionRefused: The name is not allowed.
            TopicMissing: (Entering the block.) The coordinator's worker has never run.
        """
        from streams.tables.managers import ResourceManager
        from streams.tables.session import check_name

        check_name(name, "the manager")
        mesh, prefix = cast("Mesh", self), self.tables.wire.prefix
        return ResourceManager(mesh, name, prepare=prepare, commit=commit, abort=abort, prefix=prefix)

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
            wait_s: Half the longest wait before the second attempt; it doubles with each. The wait is anything up to it.
            **options: As for `transaction`.

        Raises:
            TransactionConflict: Another one was in the way each time.
            TransactionRefused: As for `transaction`, and so are the others.
        """
        from streams.tables.retries import transact

        if options.get("mode") == "pessimistic":
            options.setdefault("age_ms", time.time_ns() // 1_000_000)  # of all attempts, so that it becomes the oldest in time
        return await transact(self.tables, partial(self.transaction, **options), body, attempts=attempts, wait_s=wait_s)
