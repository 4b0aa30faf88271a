"""Transactions that are run until they commit: a conflict begins them again, after a moment that grows and is never the same.

The first attempt, which as a rule is the last, costs nothing but itself; stamina waits between the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeVar

import stamina

from schemas.errors import AntiphonError
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
"""Before the second attempt, and as much again at random: a commit takes as long."""
WAIT_MAX_S: Final = 1.0
SEEN_S: Final = 1.0
"""For a commit that was in the way to come to the copies; it is on its way already."""

T = TypeVar("T")


def retried(error: Exception) -> bool:
    """Return whether running the whole transaction again can help."""
    return isinstance(error, TransactionRefused | DeadlockError) and error.retryable


async def transact(
    session: TableSession,
    begin: Callable[[], Transaction],
    body: Callable[[Transaction], Awaitable[T]],
    *,
    attempts: int,
    wait_s: float,
) -> T:
    """Run a transaction until it commits; see `Mesh.transact`."""
    try:
        async with begin() as txn:
            return await body(txn)
    except AntiphonError as error:
        if attempts < 2 or not retried(error):
            raise
        await _see(session, error)
    again = stamina.retry_context(
        on=retried, attempts=attempts - 1, timeout=None, wait_initial=wait_s, wait_max=WAIT_MAX_S, wait_jitter=wait_s
    )
    async for attempt in again:
        with attempt:
            try:
                async with begin() as txn:
                    return await body(txn)
            except AntiphonError as error:
                await _see(session, error)
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _see(session: TableSession, error: AntiphonError) -> None:
    """Wait for what was in the way to be in the copies, so that the next attempt does not read the same again."""
    if isinstance(error, TransactionConflict):
        for one in error.conflicts:
            domain = session.copies.domains.get(domain_of(one.row or one.key))
            if domain is not None and one.version > domain.position:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SEEN_S):
                        await domain.feed.reached(one.version)
