"""Deadlocks between transactions, and between transactions and locks: found by the primitives' detector."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import DeadlockError
from streams.tables import Transaction, TransactionConflict
from tests.e2e.txn_trial import TxnTrial

FOUND_S = 60.0
"""For a deadlock to be found and told, on a loaded machine."""


async def _together(*bodies: object) -> list[object]:
    async with asyncio.timeout(FOUND_S):
        return await asyncio.gather(*bodies, return_exceptions=True)  # type: ignore[call-overload,no-any-return]


async def _rows(mesh: Mesh) -> None:
    """Two transactions lock rows of two domains in different orders: one is to give up, and commits when begun again."""
    met = asyncio.Barrier(2)
    tries: list[str] = []

    async def both(first: str, second: str) -> None:
        async def body(txn: Transaction) -> None:
            tries.append(first)
            await txn.put("t", f"{first}/row", 1)
            if len(tries) <= 2:
                await met.wait()
            await txn.put("t", f"{second}/row", 1)

        await mesh.transact(body, mode="pessimistic")

    done = await _together(both("left", "right"), both("right", "left"))
    assert done == [None, None], done
    assert len(tries) > 2, "nobody had to begin again"


async def _row_and_lock(mesh: Mesh) -> None:
    """One has a row and wants a lock, the other has the lock and wants the row."""
    met = asyncio.Barrier(2)

    async def row_first() -> None:
        async with mesh.transaction(mode="pessimistic") as txn:
            await txn.put("t", "left/row", 1)
            await met.wait()
            async with mesh.lock("mixed/lock"):
                pass

    async def lock_first() -> None:
        async with mesh.lock("mixed/lock"):
            await met.wait()
            async with mesh.transaction(mode="pessimistic") as txn:
                await txn.put("t", "left/row", 2)

    done = await _together(row_first(), lock_first())
    errors = [one for one in done if one is not None]
    assert len(errors) == 1, done
    assert isinstance(errors[0], DeadlockError), errors
    assert "transaction" in errors[0].reason
    assert await mesh.table("t").get("left/row") in (1, 2)


async def _strategies(mesh: Mesh) -> None:
    """With an age nobody looks for deadlocks: the younger one begins again, by itself or since the older one wants its rows."""
    for strategy, code in (("wait_die", "died"), ("wound_wait", "wounded")):
        met = asyncio.Barrier(2)
        refused: list[str] = []

        async def body(txn: Transaction, first: str, second: str, met: asyncio.Barrier = met) -> None:
            await txn.put("t", f"{first}/row", 1)
            await met.wait()
            await txn.put("t", f"{second}/row", 1)

        async def run(first: str, second: str, age_ms: int, strategy: str = strategy, refused: list[str] = refused) -> None:
            try:
                async with mesh.transaction(mode="pessimistic", strategy=strategy, age_ms=age_ms) as txn:  # type: ignore[arg-type]
                    await body(txn, first, second)
            except TransactionConflict as error:
                refused.append(f"{error.code} {age_ms}")

        done = await _together(run("left", "right", 1_000), run("right", "left", 2_000))
        assert done == [None, None], done
        assert refused == [f"{code} 2000"], strategy


async def _leases(mesh: Mesh) -> None:
    """Locks are kept for as long as the transaction runs, and those that came without are let in when it ends."""
    async with mesh.transaction(mode="pessimistic", lease_s=2.0) as txn:
        await txn.get("t", "left/row")
        await asyncio.sleep(5.0)  # longer than two leases: what passes here is what is tested
        await txn.put("t", "left/row", 7)
    assert await mesh.table("t").get("left/row") == 7


async def test_deadlocks_and_strategies(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """One after the other, with the same workers."""
    with TxnTrial(kafka.bootstrap_servers, tmp_path, roles="transactions,coordinator") as trial:
        await trial.begin()
        _, log = trial.start_role("coordination,deadlocks")
        await asyncio.to_thread(trial.wait_started, log)
        async with trial.mesh("deadlocks") as mesh:
            for each in (_rows, _row_and_lock, _strategies, _leases):
                await each(mesh)
