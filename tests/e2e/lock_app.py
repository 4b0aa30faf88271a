"""A worker with the coordination processor, and a guarded register beside it: `register.writes` to a table behind a guard.

A record of `register.writes` has the name of its lock as its key. One that carries a token of it goes to `register.log` as
`taken`, one whose token is too old, or that carries none, as `refused`. Run by the tests of locks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from processors import coordination, deadlocks
from streams.fencing import TableGuard
from streams.turns import App, Batch, Options
from streams.worker import run_worker
from tests.e2e.broken_locks import break_locks

env = os.environ
PREFIX = env.get("LOCK_PREFIX", "")

app = App(
    env["LOCK_APP"],
    options=Options(
        client={"bootstrap.servers": env["LOCK_SERVERS"]},
        instance=env["LOCK_INSTANCE"],
        state_dir=Path(env["LOCK_STATE"]),
        create_topics=True,
        fetch_wait_ms=int(env.get("LOCK_FETCH_WAIT_MS", "500")),
        partitions=int(env.get("LOCK_PARTITIONS", "4")),
        transaction_timeout_ms=2_000,
    ),
    broker_session_timeout=2.0,
    broker_heartbeat_interval=0.5,
)
if env.get("LOCK_BROKEN"):
    break_locks(env["LOCK_BROKEN"])
if env.get("LOCK_ROLE") != "deadlocks":
    coordination.register(app, coordination.CoordinationOptions(topic_prefix=PREFIX))
if env.get("LOCK_ROLE") in ("deadlocks", "both"):
    deadlocks.register(app, deadlocks.DeadlockOptions(topic_prefix=PREFIX))
table: Any = app.Table("register")
writes, log = app.own_topic(PREFIX + "register.writes"), app.own_topic(PREFIX + "register.log")


@app.agent(app.batch_topic(writes), name="register", concurrency=4)
async def register(stream: AsyncIterator[Batch]) -> None:
    async for batch in stream:
        view = batch.view(table)
        for record in batch.records:
            name = (record.key or b"").decode()
            problem = TableGuard(view, required=[name]).problem(record)
            if not problem:
                view[name] = (record.value or b"").decode()
            verdict = b"refused: " + problem.encode() if problem else b"taken"
            batch.send(log, key=record.key, value=(record.value or b"") + b" " + verdict)


if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
