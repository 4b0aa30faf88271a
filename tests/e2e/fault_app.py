"""The worker under test: counts per key in a table, one output `partition:offset` per record. Run by tests/e2e/trial.py.

A value that starts with `poison` raises, one that starts with `slow:S` takes S seconds, `lease:MS` expires by timer. What a
fault needs of the inside (dying with a kafka transaction open, leaving out the fence) is switched on by environment variables, so
that the product has no such switches.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from streams.turns import App, Batch, Options, committer, consumer
from streams.worker import run_worker

env = os.environ


class DiesCommitting(Producer):
    """Kills its process at the n-th commit: before the call, with all records sent, or in the middle of it."""

    commits = 0

    def commit_transaction(self, *args: Any) -> None:
        DiesCommitting.commits += 1
        if DiesCommitting.commits == int(env["FAULT_DIE_AT"]):
            if env.get("FAULT_DIE_HOW") == "during":
                threading.Timer(0.0005, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                self.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        super().commit_transaction(*args)


def unfenced(*, group_id: str, **_: Any) -> bytes:
    """Group metadata without generation and member, as Faust's own exactly_once sends it."""
    return b"CGMDv2:" + b"\xff\xff\xff\xff" + group_id.encode() + b"\0\0\x01"


if env.get("FAULT_DIE_AT"):
    committer.Producer = DiesCommitting  # type: ignore[attr-defined]
if env.get("FAULT_NO_FENCE"):
    consumer.group_metadata = unfenced  # type: ignore[attr-defined]

app = App(
    env["FAULT_APP"],
    options=Options(
        client={"bootstrap.servers": env["FAULT_SERVERS"]},
        instance=env["FAULT_INSTANCE"],
        batch_records_max=int(env.get("FAULT_BATCH", "100")),
        guarantee=env.get("FAULT_GUARANTEE", "exactly_once"),  # type: ignore[arg-type]
        store=env.get("FAULT_STORE", "memory"),  # type: ignore[arg-type]
        state_dir=Path(env["FAULT_STATE"]),
        partitions=4,
        transaction_timeout_ms=5_000,
    ),
    broker_session_timeout=float(env.get("FAULT_SESSION_S", "2")),
    broker_heartbeat_interval=0.5,
    table_standby_replicas=int(env.get("FAULT_STANDBYS", "0")),
)
counts = app.Table("counts", default=int, partitions=4)
OUT, PAUSE_S = env["FAULT_OUT"], float(env.get("FAULT_PAUSE_S", "0"))
PAUSE_EVERY = 50


@app.agent(app.batch_topic(env["FAULT_SOURCE"]), concurrency=int(env.get("FAULT_CONCURRENCY", "1")))
async def count(stream: Any) -> None:
    batch: Batch
    async for batch in stream:
        seen = batch.view(counts)
        for n, record in enumerate(batch.records, 1):
            value, key = record.value or b"", (record.key or b"").decode()
            if value.startswith(b"poison"):
                raise ValueError("poison")
            if value.startswith(b"slow:"):
                await asyncio.sleep(float(value[5:]))
            if value.startswith(b"lease:"):
                seen[f"lease {key}"] = batch.now_ms + int(value[6:])
            seen[key] += 1
            batch.send(OUT, key=record.key, value=b"%d:%d" % (batch.partition, record.offset))
            if PAUSE_S and n % PAUSE_EVERY == 0:
                await asyncio.sleep(PAUSE_S)
        for key, until in seen.items() if env.get("FAULT_LEASES") else ():
            if key.startswith("lease "):
                if until <= batch.now_ms:
                    del seen[key]
                    batch.send(OUT, key=key.encode(), value=b"expired %d" % (batch.now_ms - until))
                else:
                    batch.wake_at(until)


if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
