"""A client process of transactions that records what it sees: `txn_client.py HISTORY SECONDS TASKS ISOLATION MODE DOMAIN...`.

Each task runs transactions of random appends to lists, reads of lists, and scans, over all domains; lists are rows of table
`lists`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from processors.verify.txn_recorder import Recorded, TransactionWriter
from schemas.errors import AntiphonError
from streams.client import Mesh, connect
from streams.tables import TransactionConflict, TransactionRefused
from tests.e2e.txn_trial import KEYS, LISTS

OPS_MAX = 4
SCANS = 0.15
APPENDS = 0.45
REFUSED_PAUSE_S = 0.01


async def one_transaction(mesh: Mesh, recorded: Recorded, chance: random.Random, how: dict[str, Any], domains: list[str]) -> None:
    """Run a transaction, and record what came of it."""
    try:
        async with mesh.transaction(**how) as txn:
            for number in range(chance.randint(1, OPS_MAX)):
                domain = chance.choice(domains)
                key, what = f"{domain}/{chance.randrange(KEYS)}", chance.random()
                if what < SCANS:
                    recorded.scan(f"{domain}/", dict(await txn.scan(LISTS, f"{domain}/")))
                elif what < SCANS + APPENDS:
                    value = f"{recorded.name}.{number}"
                    before = await txn.get(LISTS, key) or []
                    await txn.put(LISTS, key, [*before, value])
                    recorded.append(key, value)
                else:
                    recorded.read(key, await txn.get(LISTS, key))
            recorded.about_to_commit()
    except (TransactionConflict, TransactionRefused):
        recorded.ended("aborted")
    except AntiphonError:
        recorded.ended("unknown")
    else:
        recorded.ended("committed")


async def main(path: Path, seconds: float, tasks: int, isolation: str, mode: str, domains: list[str]) -> None:
    kafka = {"bootstrap_servers": os.environ["SYNC_SERVERS"], "client_id": os.environ["SYNC_CLIENT"]}
    client = {"coordination_topic_prefix": os.environ["SYNC_PREFIX"], "request_timeout_s": 60}
    how: dict[str, Any] = {"isolation": isolation}
    if mode == "pessimistic":
        how |= {"mode": mode, "strategy": "wound_wait"}
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    until = time.monotonic() + seconds
    async with connect(kafka=kafka, client=client) as mesh:

        async def work(number: int) -> None:
            name = f"{os.environ['SYNC_CLIENT']}-{number}"
            chance = random.Random(name)
            with TransactionWriter(path, process=name) as history:
                while not over.is_set() and time.monotonic() < until:
                    await one_transaction(mesh, history.begin(isolation=isolation), chance, how, domains)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), chance.random() * REFUSED_PAUSE_S)

        sys.stdout.write("working\n")
        sys.stdout.flush()
        await asyncio.gather(*(work(number) for number in range(tasks)))


if __name__ == "__main__":
    path, seconds, tasks, isolation, mode, *domains = sys.argv[1:]
    asyncio.run(main(Path(path), float(seconds), int(tasks), isolation, mode, domains))
