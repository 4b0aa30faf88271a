"""Transactions over several domains, and the moments that readers of several domains see."""

from __future__ import annotations

import asyncio

import pytest

from streams.tables import TransactionConflict
from tests.streams.tables.fake_domains import FakeDomains, until


async def test_a_reader_never_sees_half_of_a_transaction() -> None:
    """One domain has committed and the other one not yet: neither part is seen, then both."""
    async with FakeDomains() as domains, domains.mesh("w") as writer, domains.mesh("r") as reader:
        for key in ("a/x", "b/x"):
            await writer.table("t").put(key, 0)
            assert await reader.table("t").get(key) == 0

        async def both() -> None:
            async with writer.transaction() as txn:
                await txn.put("t", "a/x", 1)
                await txn.put("t", "b/x", 1)

        committing = asyncio.ensure_future(both())
        name = await domains.promised()
        domains.decide(name, "a")
        assert await reader.table("t").get("a/x", fresh=True) == 1
        async with reader.transaction(read_only=True) as txn:
            assert [await txn.get("t", key) for key in ("a/x", "b/x")] == [0, 0]
        domains.decide(name, "b")
        await committing
        assert await reader.table("t").get("b/x", fresh=True) == 1
        async with reader.transaction(read_only=True) as txn:
            assert [await txn.get("t", key) for key in ("b/x", "a/x")] == [1, 1]


async def test_a_mesh_that_comes_in_the_middle_waits_until_nothing_is_half_there() -> None:
    """What was promised before it came has to be decided first."""
    async with FakeDomains() as domains, domains.mesh("w") as writer:
        for key in ("a/x", "b/x"):
            await writer.table("t").put(key, 0)

        async def both() -> None:
            async with writer.transaction() as txn:
                await txn.put("t", "a/x", 1)
                await txn.put("t", "b/x", 1)

        committing = asyncio.ensure_future(both())
        name = await domains.promised()
        domains.decide(name, "a")
        async with domains.mesh("late") as late:

            async def read() -> list[int]:
                async with late.transaction(read_only=True) as txn:
                    return [await txn.get("t", key) for key in ("b/x", "a/x")]

            reading = asyncio.ensure_future(read())
            await until(lambda: "b" in late.tables.copies.ready)
            assert not reading.done()
            domains.decide(name, "b")
            assert await reading == [1, 1]
        await committing


async def test_a_reader_that_has_missed_half_of_a_transaction_never_sees_the_other_half_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its rows are read anew, and have what was missed; so the domain is asked before a moment is told."""
    monkeypatch.setattr("streams.tables.commits.AGAIN_S", 0.05)
    async with FakeDomains() as domains, domains.mesh("w") as writer, domains.mesh("r") as reader:
        for key in ("a/x", "b/x"):
            await writer.table("t").put(key, 0)
            assert await reader.table("t").get(key) == 0
        seen: set[tuple[int, ...]] = set()

        async def read() -> None:
            async with reader.transaction(read_only=True) as txn:
                seen.add(tuple([await txn.get("t", key) for key in ("a/x", "b/x")]))

        async def both() -> None:
            async with writer.transaction() as txn:
                await txn.put("t", "a/x", 1)
                await txn.put("t", "b/x", 1)

        committing = asyncio.ensure_future(both())
        name = await domains.promised()
        domains.mute = 1
        domains.decide(name, "a")
        domains.decide(name, "b")
        assert await reader.table("t").get("b/x", fresh=True) == 1
        await read()
        await writer.table("t").put("a/y", 1)
        assert await reader.table("t").get("a/y", fresh=True) == 1
        while (1, 1) not in seen:
            await read()
        await committing
        assert seen <= {(0, 0), (1, 1)}


async def test_a_vote_against_it_refuses_it_everywhere() -> None:
    """The coordinator's answer has the conflicts of the domain that refused."""
    async with FakeDomains() as domains, domains.mesh() as mesh:

        async def both() -> None:
            async with mesh.transaction() as txn:
                await txn.get("t", "a/x")
                await txn.put("t", "b/x", 1)

        committing = asyncio.ensure_future(both())
        name = await domains.promised()
        domains.abort(name)
        with pytest.raises(TransactionConflict) as refused:
            await committing
        assert refused.value.owner == "somebody"
        assert await mesh.table("t").get("b/x") is None


async def test_only_reads_of_several_domains_are_validated_too() -> None:
    """A serializable transaction that writes nothing is prepared in each domain; one that says that it only reads is not."""
    async with FakeDomains() as domains, domains.mesh() as mesh:

        async def reads() -> None:
            async with mesh.transaction() as txn:
                await txn.get("t", "a/x")
                await txn.get("t", "b/x")

        reading = asyncio.ensure_future(reads())
        name = await domains.promised()
        assert sorted(domains.prepared[name]) == ["a", "b"]
        for domain in ("a", "b"):
            domains.decide(name, domain)
        await reading
        before = domains.commands.count("transaction.prepare")
        async with mesh.transaction(read_only=True) as txn:
            await txn.get("t", "a/x")
            await txn.get("t", "b/x")
        assert domains.commands.count("transaction.prepare") == before
