"""Clients of sagas: `python -m benchmarks.jobs.saga_clients BOOTSTRAP JOB ...`.

run AT_ONCE SECONDS     three-step sagas with compensations, so many at once
takeover COUNT          so many with slow steps; prints STARTED when all are under way, and waits for their ends
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

from streams.client import connect
from streams.core.sagas.builder import Saga
from streams.core.sagas.definition import Definition

WARM_UP_S = 1.0


def _trip(handler: str) -> Definition:
    saga = Saga(f"trip-{handler}", result="=three")
    for name in ("one", "two", "three"):
        saga.step(name, handler=handler, compensation="undo")
    return saga.definition()


def _report() -> Definition:
    saga = Saga("report", result="=report")
    saga.step("report")
    return saga.definition()


async def _run(bootstrap: str, at_once: int, seconds: float) -> dict[str, float]:
    trip, took = _trip("step"), list[float]()
    async with connect(kafka={"bootstrap_servers": bootstrap, "client_id": "bench-clients"}) as mesh:
        await mesh.sagas.run(trip, {"n": 0})
        gc.collect()
        gc.freeze()
        began = time.perf_counter() + WARM_UP_S
        until = began + seconds

        async def client(number: int) -> None:
            while (start := time.perf_counter()) < until:
                await mesh.sagas.run(trip, {"n": number})
                if start >= began:
                    took.append(time.perf_counter() - start)

        await asyncio.gather(*(client(number) for number in range(at_once)))
        spent = time.perf_counter() - began
        report = await mesh.sagas.run(_report(), {})
    took.sort()
    return {
        "rate": len(took) / spent,
        "p50": took[len(took) // 2] * 1000,
        "p99": took[len(took) * 99 // 100] * 1000,
        "twice": report["twice"],
    }


async def _takeover(bootstrap: str, count: int) -> dict[str, float]:
    trip = _trip("slow")
    async with connect(
        kafka={"bootstrap_servers": bootstrap, "client_id": "bench-clients"}, client={"request_timeout_s": 60}
    ) as mesh:
        handles = await asyncio.gather(*(mesh.sagas.start(trip, {"n": number}) for number in range(count)))
        print("STARTED", flush=True)
        ends: list[float] = []

        async def ended(number: int) -> None:
            await handles[number].result(timeout_s=120)
            ends.append(time.time())

        await asyncio.gather(*(ended(number) for number in range(count)))
        report = await mesh.sagas.run(_report(), {})
    return {"ended": len(ends), "last": max(ends), "twice": report["twice"], "runs": report["runs"]}


def main(bootstrap: str, job: str, *args: str) -> None:
    """Run one job and print what it found."""
    if job == "run":
        found = asyncio.run(_run(bootstrap, int(args[0]), float(args[1])))
    else:
        found = asyncio.run(_takeover(bootstrap, int(args[0])))
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
