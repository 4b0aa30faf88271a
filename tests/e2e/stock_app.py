"""One small job for stock Faust and for ours, chosen by environment variables. Run by tests/e2e/test_stock_faults.py.

Both versions write each value of SOURCE to OUT, and raise where it is `poison`, or wait for ever where it is `slow`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import faust

from streams.turns import App, Batch, Options
from streams.worker import run_worker

env = os.environ
NAME, CASE, OURS = env["STOCK_APP"], env["STOCK_CASE"], env["STOCK_KIND"] == "ours"
LOOK_S = 0.05
COMMON: dict[str, Any] = {
    "broker_session_timeout": 2.0,  # a killed worker's partitions are free after this
    "broker_heartbeat_interval": 0.5,
    "broker_commit_interval": 0.1,
}
RAW: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}

app: Any
if OURS:
    options = Options(
        client={"bootstrap.servers": env["STOCK_SERVERS"]},
        instance="w",
        partitions=1,
        batch_records_max=1,
        state_dir=Path(tempfile.mkdtemp()),
    )
    app = App(NAME, options=options, **COMMON)
    source: Any = app.batch_topic(env["STOCK_SOURCE"])
else:
    app = faust.App(
        NAME,
        broker=f"kafka://{env['STOCK_SERVERS']}",
        store="memory://",
        topic_partitions=1,
        topic_replication_factor=1,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_recovery_delay=0.0,
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
        worker_redirect_stdouts=False,
        **COMMON,
    )
    source = app.topic(env["STOCK_SOURCE"], **RAW)
out = app.topic(env["STOCK_OUT"], **RAW)


def say(what: str) -> None:
    """Tell the test."""
    print(f"SAY {what}", flush=True)  # noqa: T201 the test reads it


def values(event: Any) -> list[bytes | None]:
    """Return the values of one event of either kind."""
    return [record.value for record in event.records] if isinstance(event, Batch) else [event]


if CASE == "raise":

    @app.agent(source)
    async def work(stream: Any) -> None:
        async for event in stream:
            for value in values(event):
                out.send_soon(value=value)
                if value == b"poison":
                    raise ValueError("poison")

elif CASE == "slow":

    @app.agent(source, concurrency=2)
    async def work(stream: Any) -> None:
        async for event in stream:
            for value in values(event):
                if value == b"slow" and not env.get("STOCK_HURRY"):
                    say("slow")
                    await asyncio.Event().wait()
                await out.send(value=value)

elif CASE == "timer":
    leases = app.Table("leases", default=int, partitions=1)
    if OURS:

        @app.agent(source)
        async def work(stream: Any) -> None:
            async for batch in stream:
                if batch.records:
                    leases["lease"] = 1
                    batch.wake_at(batch.now_ms + 100)
                elif "lease" in leases:
                    del leases["lease"]
                    leases["expired"] = 1
                    say("written")
    else:

        @app.agent(source)
        async def work(stream: Any) -> None:
            async for _ in stream:
                leases["lease"] = 1

        @app.timer(interval=0.1)
        async def expire() -> None:
            if "lease" in leases:
                try:
                    del leases["lease"]
                    leases["expired"] = 1
                except TypeError as error:
                    say(f"refused: {error}")

elif CASE == "recover":
    counts = app.Table("counts", default=int, partitions=1)

    @app.agent(source)
    async def work(stream: Any) -> None:
        async for event in stream:
            for _ in values(event):
                await out.send(value=b"%d" % counts["k4"])

    watching: list[asyncio.Task[None]] = []

    @app.on_partitions_assigned.connect
    async def watch(*_: Any, **__: Any) -> None:
        if not watching:
            watching.append(asyncio.ensure_future(report()))

    async def report() -> None:
        recovery = app.tables.recovery
        while not app.should_stop:
            read, ends = dict(recovery.active_offsets), dict(recovery.active_highwaters)
            for tp, end in ends.items():
                say(f"read {read.get(tp)} of {end}, {'ready' if recovery.completed.is_set() else 'waiting'}")
            await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    if OURS:
        sys.exit(run_worker(app, loglevel="info"))
    faust.Worker(app, loglevel="info").execute_from_commandline()
