"""Transactions that are run until they commit: a conflict begins them again, after a moment that grows and is never the same.

The wait is anything up to a bound that doubles with each attempt ("full jitter": Brooker, "Exponential backoff", 2015),
since those that met once would meet again. Stamina, which retries elsewhere, reports each retry as a warning; here one in ten
transactions does it once, and that is how optimism works.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Final, TypeVar

from schemas.naming import domain_of
from streams.coordination.errors import DeadlockError
from streams.tables.errors import TransactionConflict, TransactionRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams.tables.session import TableSession
    from streams.tables.transactions import Transaction

__all__ = ["ATTEMPTS", "transact"]

ATTEMPTS: Final = 20
"""Of one transaction: with the waits between them about ten seconds, after which rows are too contended for optimism."""
WAIT_INITIAL_S: Final = 0.005
"""Half the longest wait before the second attempt: a commit takes as long."""
WAIT_MAX_S: Final = 1.0
SEEN_S: Final = 1.0
"""For a commit that was in the way to come to the copies; it is on its way already."""

T = TypeVar("T")


async def transact(
    session: TableSession,
    begin: Callable[[], Transaction],
    body: Callable[[Transaction], Awaitable[T]],
    *,
    attempts: int,
    wait_s: float,
) -> T:
    """Run a transaction until it commits; see `Mesh.transact`."""
    attempt = 1
    while True:
        try:
            async with begin() as txn:
                return await body(txn)
        except (TransactionRefused, DeadlockError) as error:
            if attempt >= attempts or not error.retryable:
                raise
            await _see(session, error)
        await asyncio.sleep(random.uniform(0, min(wait_s * 2**attempt, WAIT_MAX_S)))  # noqa: S311 - nobody guesses it
        attempt += 1


async def _see(session: TableSession, error: TransactionRefused | DeadlockError) -> None:
    """Wait for what was in the way to be in the copies, so that the next attempt does not read the same again."""
    if isinstance(error, TransactionConflict):
        for one in error.conflicts:
            domain = session.copies.domains.get(domain_of(one.row or one.key))
            if domain is not None and one.version > domain.position:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SEEN_S):
                        await domain.feed.reached(one.version)
