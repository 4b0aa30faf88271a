"""A participant of three steps and their compensations: `python -m benchmarks.jobs.saga_participant BOOTSTRAP`.

Each handler notes that it ran, by the step's key; `report` says how often that was, and how many ran twice.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from streams.client import connect
from streams.sagas import StepCall

SLOW_S = 0.2
"""Of a step in the takeover, so that all sagas are under way when the orchestrator is killed."""


async def _run(bootstrap: str) -> None:
    runs: Counter[str] = Counter()

    async def step(given: Any, call: StepCall) -> Any:
        runs[call.key] += 1
        return {"n": given.get("n", 0)} if isinstance(given, dict) else None

    async def slow(given: Any, call: StepCall) -> Any:
        await asyncio.sleep(SLOW_S)
        return await step(given, call)

    async def report(_: Any) -> Any:
        found = {"runs": runs.total(), "twice": sum(1 for count in runs.values() if count > 1)}
        runs.clear()
        return found

    handlers: dict[str, Any] = {"step": step, "slow": slow, "undo": step, "report": report}
    async with (
        connect(kafka={"bootstrap_servers": bootstrap, "client_id": "bench-participant"}) as mesh,
        mesh.participate("bench", handlers, at_once=1_000) as participant,
    ):
        print("READY {}", flush=True)
        await participant.wait()


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
