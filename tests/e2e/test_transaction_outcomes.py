"""What clients are told of their transactions: when workers die, when a human decides, when a lock was lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any, Literal

import pytest

from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.tables import Transaction, TransactionConflict, TransactionRefused, TransactionUnknown, TransactionWaits
from tests.e2e.txn_trial import TxnTrial

Conflicts = Literal["priority", "human", "merge"]


def merged(base: Any, theirs: Any, mine: Any) -> Any:
    """What the worker makes of two values of table `sums`."""
    return theirs + mine - (base or 0)


MERGES = {"sums": merged}


async def _conflicting(mesh: Mesh, key: str, *, table: str, conflicts: Conflicts, priority: int = 0) -> Transaction:
    """Write a row that somebody else has changed since it was read."""
    await mesh.table(table).put(key, 1)
    async with mesh.transaction(priority=priority) as txn:
        seen = await txn.get(table, key)
        await mesh.table(table).put(key, 10)
        await txn.put(table, key, seen + 1, conflicts=conflicts)
    return txn


async def _policies(mesh: Mesh) -> None:
    """A merge makes one value of both, a higher priority overwrites, a lower one is refused."""
    await _conflicting(mesh, "doc/1", table="sums", conflicts="merge")
    assert await mesh.table("sums").get("doc/1") == 11
    await _conflicting(mesh, "doc/1", table="ranks", conflicts="priority", priority=5)
    assert await mesh.table("ranks").get("doc/1") == 2
    with pytest.raises(TransactionConflict):
        await _conflicting(mesh, "doc/2", table="ranks", conflicts="priority")
    with pytest.raises(TransactionRefused, match="has no merge function"):
        await _conflicting(mesh, "doc/3", table="ranks", conflicts="merge")


async def _humans(mesh: Mesh) -> None:
    """The caller is told that it waits; whoever decides is answered with what came of it."""
    for commit, state, value in ((True, "committed", 2), (False, "refused", 10)):
        with pytest.raises(TransactionWaits) as waits:
            await _conflicting(mesh, "doc/4", table="plans", conflicts="human")
        txn = waits.value.txn
        assert (await mesh.outcome(txn, "doc")).state == "waits_for_human"
        assert (await mesh.resolve("doc", txn, commit=commit, reason="seen", owner="eve")).state == state
        assert (await mesh.outcome(txn, "doc")).state == state
        assert await mesh.table("plans").get("doc/4", fresh=True) == value
    with pytest.raises(TransactionRefused, match="not_waiting"):
        await mesh.resolve("doc", "nobody", commit=True, reason="seen", owner="eve")


async def _guards(mesh: Mesh) -> None:
    """A write under a lock that somebody else has had since is refused."""
    plans = mesh.table("plans")
    async with mesh.lock("guarded/doc", owner="first") as first:
        await plans.put("doc/5", 1, guard=first)
        old = first.guard()
    async with mesh.lock("guarded/doc", owner="second") as second:
        await plans.put("doc/5", 2, guard=second)
        first.guard = lambda *_: old  # type: ignore[method-assign] # as a frozen process would, which has not noticed
        with pytest.raises(TransactionRefused) as refused:
            await plans.put("doc/5", 3, guard=first)
        assert refused.value.code == "fenced"
    assert await plans.get("doc/5") == 2


async def _unknown(mesh: Mesh, trial: TxnTrial) -> None:
    """With its worker frozen nobody knows; then the one that asks again is told, and it has happened once."""
    plans = mesh.table("plans")
    before = await plans.put("doc/6", 0)
    worker = trial.workers[-1]
    worker.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(TransactionUnknown) as unknown:
            async with mesh.transaction(timeout_s=3.0) as txn:
                await txn.put("plans", "doc/6", 1)
        patient = asyncio.ensure_future(plans.put("doc/6", 2))
    finally:
        worker.send_signal(signal.SIGCONT)
    await asyncio.to_thread(trial.kill_worker)
    trial.start_worker()
    version = await patient
    assert version > before
    outcome = await mesh.outcome(unknown.value.txn, "doc")
    assert outcome.state == "committed"
    assert [row.value for row in await plans.history("doc/6")] == [0, 1, 2]


async def test_what_clients_are_told(kafka: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, with the same workers."""
    monkeypatch.setitem(os.environ, "AGENT_TABLES_MERGES", "tests.e2e.test_transaction_outcomes:MERGES")
    with TxnTrial(kafka.bootstrap_servers, tmp_path, roles="transactions,coordinator") as trial:
        await trial.begin()
        _, log = trial.start_role("coordination")
        await asyncio.to_thread(trial.wait_started, log)
        async with trial.mesh("outcomes") as mesh:
            await _policies(mesh)
            await _humans(mesh)
            await _guards(mesh)
            await _unknown(mesh, trial)
