"""Clients of transactions: `python -m benchmarks.jobs.txn_clients BOOTSTRAP JOB ...`.

transfer DOMAINS CLIENTS SECONDS    tasks that each move money between two of 1,000 accounts, of one domain or of two
fill KEYS VERSIONS                  so many rows, written so many times over, 100 in a transaction
first                               one row, read anew from whoever decides about it
check DOMAINS                       the total of all accounts in one snapshot
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from typing import TYPE_CHECKING

from streams.client import Mesh, connect

if TYPE_CHECKING:
    from streams.tables.transactions import Transaction

ACCOUNTS = 1_000
MONEY = 1_000
WARM_UP_S = 1.0
ROWS_A_COMMIT = 100
FILLING_MAX = 8
"""Commits of `fill` under way at once."""


def _account(number: int, domains: int) -> str:
    return f"bank{domains}.{number % domains}/{number}"


def _quantiles(took: list[float]) -> dict[str, float]:
    took = sorted(took)
    return {f"p{q}": took[min(len(took) - 1, len(took) * q // 100)] * 1000 for q in (50, 99)}


async def _open_accounts(mesh: Mesh, domains: int) -> None:
    for domain in range(domains):
        numbers = range(domain, ACCOUNTS, domains)

        async def opened(txn: Transaction, numbers: range = numbers) -> None:
            if await txn.get("accounts", _account(numbers[0], domains)) is None:
                for number in numbers:
                    await txn.put("accounts", _account(number, domains), MONEY)

        await mesh.transact(opened)


async def _transfer(mesh: Mesh, domains: int, clients: int, seconds: float) -> dict[str, float]:
    await _open_accounts(mesh, domains)
    took: list[float] = []
    attempts = 0
    began = time.perf_counter()
    until = began + WARM_UP_S + seconds

    async def client(number: int) -> None:
        nonlocal attempts
        chance = random.Random(number)
        while (start := time.perf_counter()) < until:
            one = chance.randrange(ACCOUNTS)
            while (other := chance.randrange(ACCOUNTS)) == one or (domains > 1 and other % domains == one % domains):
                pass
            source, sink, tried = _account(one, domains), _account(other, domains), 0

            async def move(txn: Transaction, source: str = source, sink: str = sink) -> None:
                nonlocal tried
                tried += 1
                have, has = await txn.get("accounts", source), await txn.get("accounts", sink)
                await txn.put("accounts", source, have - 1)
                await txn.put("accounts", sink, has + 1)

            await mesh.transact(move, isolation="serializable")
            if start >= began + WARM_UP_S:
                took.append(time.perf_counter() - start)
                attempts += tried

    gc.collect()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return {
        "rate": len(took) / seconds,
        "aborted": 1 - len(took) / attempts,
        "cpu_us": time.process_time() / max(1, attempts) * 1e6,
        **_quantiles(took),
    }


async def _fill(mesh: Mesh, keys: int, versions: int) -> dict[str, float]:
    began = time.perf_counter()
    room = asyncio.Semaphore(FILLING_MAX)

    async def write(first: int, version: int) -> None:
        async def body(txn: Transaction) -> None:
            for number in range(first, min(keys, first + ROWS_A_COMMIT)):
                await txn.put("plans", f"filled/{number}", {"number": number, "version": version, "state": "in_progress"})

        async with room:
            await mesh.transact(body, isolation="read_committed")

    for version in range(versions):
        await asyncio.gather(*(write(first, version) for first in range(0, keys, ROWS_A_COMMIT)))
    return {"seconds": time.perf_counter() - began}


async def _check(mesh: Mesh, domains: int) -> dict[str, float]:
    total = 0
    async with mesh.transaction(isolation="snapshot", read_only=True) as txn:
        for domain in range(domains):
            total += sum(value for _, value in await txn.scan("accounts", f"bank{domains}.{domain}/"))
    return {"total": total, "expected": ACCOUNTS * MONEY}


async def _main(bootstrap: str, job: str, *more: str) -> None:
    async with connect(kafka={"bootstrap_servers": bootstrap, "client_id": "bench-transactions"}) as mesh:
        if job == "transfer":
            found = await _transfer(mesh, int(more[0]), int(more[1]), float(more[2]))
        elif job == "fill":
            found = await _fill(mesh, int(more[0]), int(more[1]))
        elif job == "first":
            found = {"versions": len(await mesh.table("plans").history("filled/0"))}
        else:
            found = await _check(mesh, int(more[0]))
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
