"""Counts commands per key in a table and replies: `python -m benchmarks.jobs.echo BOOTSTRAP SOURCE OUT APP [STORE] [STATE]`.

Prints `READY` with what recovery took when the first partitions are open.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal, cast

from benchmarks.jobs.work import PARTITIONS
from streams.observer import Observer
from streams.turns import App, Batch, Options
from streams.worker import run_worker


class _Ready(Observer):
    """Says when the partitions are open and how long the changelogs took."""

    def __init__(self) -> None:
        self.app: App | None = None
        self._began = 0.0

    def recovery_progress(self, **_: Any) -> None:
        """Note the first record."""
        self._began = self._began or time.perf_counter()

    def rebalanced(self, *, partitions: int, **_: Any) -> None:
        """Print once partitions are there."""
        if not partitions or self.app is None:
            return
        recovery = self.app.tables.recovery
        found = {
            "records": recovery.loaded_records,
            "recovery_s": recovery._recovery_ended_at - recovery._recovery_started_at if recovery._recovery_ended_at else 0.0,
        }
        sys.stdout.write("READY " + json.dumps(found) + "\n")
        sys.stdout.flush()


def main(bootstrap: str, source: str, out: str, name: str, store: str = "memory", state: str = "") -> None:
    """Run the processor until SIGTERM."""
    ready = _Ready()
    options = Options(
        client={"bootstrap.servers": bootstrap},
        instance="echo",
        partitions=PARTITIONS,
        store=cast(Literal["memory", "rocksdb"], store),
        state_dir=Path(state or tempfile.mkdtemp()),
    )
    app = ready.app = App(name, options=options, observer=ready)
    counts = app.Table("counts", default=int, partitions=PARTITIONS)

    @app.agent(app.batch_topic(source))
    async def echo(stream: Any) -> None:
        batch: Batch
        async for batch in stream:
            seen = batch.view(counts)
            for record in batch.records:
                key = (record.key or b"").decode()
                number = seen[key] = seen[key] + 1
                batch.send(out, key=record.key, value=b"%d" % number, partition=record.partition)

    run_worker(app, loglevel="warn")


if __name__ == "__main__":
    main(*sys.argv[1:])
