"""A participant whose effects are rows of a SQLite file: `saga_participant.py EFFECTS PAUSES`.

Each handler does its effect under the key of its call, and counts its run. Where a file `<PAUSES>/<before|after>:<handler>` is
there, it waits beside the effect until the file is gone, and says so with a file `<...>.here`.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from streams.client import connect
from streams.sagas import StepCall, StepFailed

STEPS = ("one", "two", "three", "four")


async def _pause(pauses: Path, where: str) -> None:
    while (pauses / where).exists():
        (pauses / f"{where}.here").touch()
        await asyncio.sleep(0.02)


async def _run(effects: str, pauses: Path) -> None:
    database = sqlite3.connect(effects, isolation_level=None, timeout=30)
    database.execute("CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, number INTEGER)")
    database.execute("CREATE TABLE IF NOT EXISTS runs (key TEXT)")

    def handler(name: str) -> Any:
        async def done(given: Any, call: StepCall) -> str:
            await _pause(pauses, f"before:{name}")
            database.execute("INSERT INTO runs VALUES (?)", (call.key,))
            if name == "four" and isinstance(given, dict) and given.get("fails"):
                raise StepFailed("refused", "as it was told to", final=True)
            database.execute("INSERT OR IGNORE INTO effects SELECT ?, count(*) FROM effects", (call.key,))
            await _pause(pauses, f"after:{name}")
            return name

        return done

    env = os.environ
    async with (
        connect(
            kafka={"bootstrap_servers": env["SYNC_SERVERS"], "client_id": env["SYNC_CLIENT"]},
            client={"coordination_topic_prefix": env["SYNC_PREFIX"]},
        ) as mesh,
        mesh.participate("crew", {name: handler(name) for step in STEPS for name in (step, f"undo_{step}")}) as participant,
    ):
        sys.stdout.write("working\n")
        sys.stdout.flush()
        await participant.wait()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
