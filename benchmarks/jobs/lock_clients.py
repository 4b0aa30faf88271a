"""Clients of locks, as peers are measured: `python -m benchmarks.jobs.lock_clients BOOTSTRAP JOB ...`.

pairs CLIENTS CONNECTIONS SECONDS   tasks that each cycle through their share of 1,000 keys: acquire, release
handoff ROUNDS                      one holder and 16 waiters that ask 15 ms apart; each holds for 2 ms
hold LEASE_S                        takes a lock and holds it until it is killed
succeed LEASE_S                     waits for that lock, and says when it has it
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import statistics
import sys
import time
from contextlib import AsyncExitStack

from streams.client import Mesh, connect

KEYS = 1_000
WARM_UP_S = 1.0
WAITERS = 16
APART_S = 0.015
HELD_S = 0.002


def _mesh(bootstrap: str, number: int = 0) -> connect:
    return connect(kafka={"bootstrap_servers": bootstrap, "client_id": f"bench-{number}"})


def _quantiles(took: list[float]) -> dict[str, float]:
    took = sorted(took)
    return {f"p{q}": took[min(len(took) - 1, len(took) * q // 100)] * 1000 for q in (50, 99)}


async def _pairs(bootstrap: str, clients: int, connections: int, seconds: float) -> dict[str, float]:
    took: list[float] = []
    async with AsyncExitStack() as stack:
        meshes: list[Mesh] = [await stack.enter_async_context(_mesh(bootstrap, number)) for number in range(connections)]
        began = time.perf_counter()
        until = began + WARM_UP_S + seconds

        async def client(number: int) -> None:
            mesh, keys = meshes[number % connections], [f"key-{n}" for n in range(number, KEYS, clients)]
            turn = 0
            while (start := time.perf_counter()) < until:
                grant = await mesh.lock(keys[turn % len(keys)]).acquire()
                await grant.release()
                if start >= began + WARM_UP_S:
                    took.append(time.perf_counter() - start)
                turn += 1

        gc.collect()
        await asyncio.gather(*(client(number) for number in range(clients)))
    return {"rate": len(took) / seconds, **_quantiles(took)}


async def _handoff(bootstrap: str, rounds: int) -> dict[str, float]:
    took: list[float] = []
    inversions = 0
    async with _mesh(bootstrap) as mesh:
        for number in range(rounds):
            name, released = f"handed-on-{number}", 0.0
            order: list[int] = []
            holder = await mesh.lock(name).acquire()

            async def waiter(place: int, name: str = name, order: list[int] = order) -> None:
                nonlocal released
                grant = await mesh.lock(name).acquire()
                took.append(time.perf_counter() - released)
                order.append(place)
                await asyncio.sleep(HELD_S)
                released = time.perf_counter()
                await grant.release()

            waiting = []
            for place in range(WAITERS):
                waiting.append(asyncio.ensure_future(waiter(place)))
                await asyncio.sleep(APART_S)
            released = time.perf_counter()
            await holder.release()
            await asyncio.gather(*waiting)
            inversions += sum(a > b for a, b in itertools.pairwise(order))
    return {"inversions": inversions, "samples": len(took), "mean": statistics.mean(took) * 1000, **_quantiles(took)}


async def _hold(bootstrap: str, lease_s: float) -> None:
    async with _mesh(bootstrap, 1) as mesh, mesh.lock("orphaned", lease_s=lease_s):
        sys.stdout.write("READY {}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def _succeed(bootstrap: str, lease_s: float) -> dict[str, float]:
    async with _mesh(bootstrap, 2) as mesh:
        asking = asyncio.ensure_future(mesh.lock("orphaned", lease_s=lease_s).acquire())
        sys.stdout.write("READY {}\n")
        sys.stdout.flush()
        grant = await asking
        at = time.time()
        await grant.release()
    return {"at": at}


async def _main(bootstrap: str, job: str, *more: str) -> None:
    if job == "pairs":
        found = await _pairs(bootstrap, int(more[0]), int(more[1]), float(more[2]))
    elif job == "handoff":
        found = await _handoff(bootstrap, int(more[0]))
    elif job == "succeed":
        found = await _succeed(bootstrap, float(more[0]))
    else:
        await _hold(bootstrap, float(more[0]))
        return
    sys.stdout.write("RESULT " + json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
