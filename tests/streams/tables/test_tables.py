"""Tables and optimistic transactions of one domain, as the client has them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.tables import TransactionConflict, TransactionRefused
from streams.tables.transactions import Transaction
from tests.streams.tables.fake_domains import FakeDomains, until


async def test_what_is_put_is_read_and_scanned_at_once() -> None:
    """Read your writes: the copy has them when the call returns."""
    async with FakeDomains() as domains, domains.mesh() as mesh:
        plans = mesh.table("plans")
        first = await plans.put("repo/a", {"step": 1})
        second = await plans.put("repo/b", [2])
        assert 0 < first < second
        assert await plans.get("repo/a") == {"step": 1}
        assert await plans.get("repo/c", "nothing") == "nothing"
        assert [(row.key, row.value, row.version) for row in await plans.scan("repo/")] == [
            ("repo/a", {"step": 1}, first),
            ("repo/b", [2], second),
        ]
        await plans.delete("repo/a")
        assert await plans.get("repo/a") is None
        assert [row.deleted for row in await plans.history("repo/a")] == [False, True]
        before = await plans.as_of("repo/a", position=second)
        assert before is not None
        assert before.value == {"step": 1}


async def test_another_mesh_reads_what_was_there_and_follows() -> None:
    """A copy is read in pages when it is first used, and then follows the feed."""
    async with FakeDomains() as domains, domains.mesh("a") as one, domains.mesh("b") as other:
        domains.page = 2
        for number in range(5):
            await one.table("plans").put(f"repo/{number}", number)
        assert [row.value for row in await other.table("plans").scan("repo/")] == [0, 1, 2, 3, 4]
        await one.table("plans").put("repo/2", "two")
        assert await other.table("plans").get("repo/2", fresh=True) == "two"


async def test_compare_and_set() -> None:
    """A put with a version is refused where the row has another one, and says which and by whom."""
    async with FakeDomains() as domains, domains.mesh() as mesh:
        plans = mesh.table("plans")
        version = await plans.put("repo/a", 1, if_version=0)
        await plans.put("repo/a", 2, if_version=version)
        with pytest.raises(TransactionConflict) as refused:
            await plans.put("repo/a", 3, if_version=version)
        error = refused.value
        assert (error.code, error.table, error.key, error.seen, error.retryable) == (
            "expected",
            "plans",
            "repo/a",
            version,
            False,
        )
        assert error.version > version
        assert error.owner


async def test_a_transaction_sees_its_own_writes_and_one_moment() -> None:
    """Others' commits do not show in it, and where they count it is refused."""
    async with FakeDomains() as domains, domains.mesh("a") as mesh, domains.mesh("b") as other:
        await mesh.table("plans").put("repo/a", 1)

        async def late(txn: Transaction) -> None:
            assert await txn.get("plans", "repo/a") == 1
            await txn.put("plans", "repo/b", 7)
            assert await txn.scan("plans", "repo/") == [("repo/a", 1), ("repo/b", 7)]
            await other.table("plans").put("repo/a", 2)
            assert await mesh.table("plans").get("repo/a", fresh=True) == 2
            assert await txn.get("plans", "repo/a") == 1

        with pytest.raises(TransactionConflict) as refused:
            await mesh.transact(late, attempts=1)
        assert refused.value.conflicts[0].owner
        assert await mesh.table("plans").get("repo/b") is None
        async with mesh.transaction(read_only=True) as txn:
            assert await txn.scan("plans", "repo/") == [("repo/a", 2)]
            with pytest.raises(TransactionRefused, match="read_only"):
                await txn.put("plans", "repo/a", 3)


async def test_savepoints_take_back_writes() -> None:
    """And only those after them."""
    async with FakeDomains() as domains, domains.mesh() as mesh:
        async with mesh.transaction() as txn:
            await txn.put("plans", "repo/a", 1)
            here = txn.savepoint()
            await txn.put("plans", "repo/a", 2)
            await txn.put("plans", "repo/b", 2)
            txn.rollback_to(here)
            assert await txn.get("plans", "repo/a") == 1
            assert await txn.get("plans", "repo/b") is None
        assert await mesh.table("plans").scan("repo/") == [await mesh.table("plans").row("repo/a")]


async def test_a_block_that_raises_writes_nothing() -> None:
    """Nothing is sent."""
    async with FakeDomains() as domains, domains.mesh() as mesh:
        with pytest.raises(ZeroDivisionError):
            async with mesh.transaction() as txn:
                await txn.put("plans", "repo/a", 1 / 0)
        assert "transaction.commit" not in domains.commands


async def test_transact_begins_again_until_it_commits() -> None:
    """Many that increment one counter lose nothing, and each attempt reads anew."""
    async with FakeDomains() as domains, domains.mesh() as mesh:

        async def increment(txn: Transaction) -> Any:
            count = await txn.get("plans", "repo/n", 0) + 1
            await txn.put("plans", "repo/n", count)
            return count

        found = await asyncio.gather(*(mesh.transact(increment, wait_s=0.001) for _ in range(8)))
        assert sorted(found) == list(range(1, 9))
        assert await mesh.table("plans").get("repo/n") == 8


async def test_a_commit_whose_command_is_lost_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the same id; and one whose change is lost is answered with its outcome."""
    monkeypatch.setattr("streams.tables.commits.AGAIN_S", 0.05)
    monkeypatch.setattr("streams.tables.session.TICK_S", 0.02)
    async with FakeDomains() as domains, domains.mesh() as mesh:
        plans = mesh.table("plans")
        await plans.put("repo/a", 1)
        domains.silent = 1
        await plans.put("repo/a", 2)
        domains.mute = 1
        await plans.put("repo/a", 3)
        assert await plans.get("repo/a") == 3
        assert len(domains.rows["plans", "repo/a"]) == 3


async def test_a_gap_in_the_feed_has_the_rows_read_anew() -> None:
    """What was lost is there after the next change, and watchers are told of it."""
    async with FakeDomains() as domains, domains.mesh("a") as mesh, domains.mesh("b") as other:
        await mesh.table("plans").put("repo/a", 1)
        watching = mesh.table("plans").watch("repo/", initial=True)
        assert (await anext(watching)).value == 1
        await other.table("plans").get("repo/a")
        domains.mute = 1
        lost = asyncio.ensure_future(other.table("plans").put("repo/b", 2))
        await until(lambda: ("plans", "repo/b") in domains.rows)
        assert await mesh.table("plans").get("repo/b") is None
        await mesh.table("plans").put("repo/c", 3)
        assert await mesh.table("plans").get("repo/b") == 2
        assert [(await anext(watching)).key for _ in range(2)] in (["repo/c", "repo/b"], ["repo/b", "repo/c"])
        await lost
        await watching.aclose()


async def test_names_values_and_prefixes_are_checked_here() -> None:
    """So what is wrong is said where it was written."""
    async with FakeDomains() as domains, domains.mesh() as mesh:
        plans = mesh.table("plans")
        for work, code in (
            (plans.put("", 1), "bad_name"),
            (plans.put("repo/a", object()), "bad_value"),
            (plans.put("repo/a", "x" * 70_000), "bad_value"),
            (plans.scan("repo"), "bad_prefix"),
        ):
            with pytest.raises(TransactionRefused) as refused:
                await work
            assert refused.value.code == code
        with pytest.raises(TransactionRefused, match="bad_name"):
            mesh.table("a\nb")
