"""Tables, transactions and two-phase commit in one worker: `python -m benchmarks.jobs.txn_worker BOOTSTRAP [PARTITIONS]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.jobs.ready import Ready
from benchmarks.jobs.work import PARTITIONS
from processors import transactions
from sagas import coordinator
from streams.turns import App, Options
from streams.worker import run_worker


def main(bootstrap: str, partitions: str = str(PARTITIONS)) -> None:
    """Run it until SIGTERM."""
    ready = Ready()
    options = Options(
        client={"bootstrap.servers": bootstrap},
        instance="transactions",
        partitions=int(partitions),
        state_dir=Path(tempfile.mkdtemp()),
        create_topics=True,
    )
    app = ready.app = App("transactions", options=options, observer=ready)
    transactions.register(app)
    coordinator.register(app)
    run_worker(app, loglevel="warn")


if __name__ == "__main__":
    main(*sys.argv[1:])
