"""Counts commands per key in a table and replies: `python -m benchmarks.jobs.echo BOOTSTRAP SOURCE OUT APP [STORE] [STATE]`.

Prints `READY` with what recovery took when the first partitions are open.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, cast

from benchmarks.jobs.ready import Ready
from benchmarks.jobs.work import PARTITIONS
from streams.turns import App, Batch, Options
from streams.worker import run_worker


def main(bootstrap: str, source: str, out: str, name: str, store: str = "memory", state: str = "") -> None:
    """Run the processor until SIGTERM."""
    ready = Ready()
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
