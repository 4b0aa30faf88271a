"""The coordination processor alone: `python -m benchmarks.jobs.lock_worker BOOTSTRAP`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.jobs.ready import Ready
from benchmarks.jobs.work import PARTITIONS
from processors import coordination
from streams.turns import App, Options
from streams.worker import run_worker


def main(bootstrap: str) -> None:
    """Run it until SIGTERM."""
    ready = Ready()
    options = Options(
        client={"bootstrap.servers": bootstrap},
        instance="locks",
        partitions=PARTITIONS,
        state_dir=Path(tempfile.mkdtemp()),
        create_topics=True,
    )
    app = ready.app = App("coordination", options=options, observer=ready)
    coordination.register(app)
    run_worker(app, loglevel="warn")


if __name__ == "__main__":
    main(sys.argv[1])
