"""The orchestrator of sagas in one worker: `python -m benchmarks.jobs.saga_worker BOOTSTRAP STATE_DIR [PARTITIONS]`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.jobs.ready import Ready
from benchmarks.jobs.work import PARTITIONS
from sagas import orchestrator
from streams.turns import App, Options
from streams.worker import run_worker


def main(bootstrap: str, state_dir: str, partitions: str = str(PARTITIONS)) -> None:
    """Run it until SIGTERM."""
    ready = Ready()
    options = Options(
        client={"bootstrap.servers": bootstrap},
        instance="sagas",
        partitions=int(partitions),
        transaction_timeout_ms=2_000,
        state_dir=Path(state_dir),
        create_topics=True,
    )
    # a killed worker is missed after two seconds
    app = App("sagas", options=options, observer=ready, broker_session_timeout=2.0, broker_heartbeat_interval=0.5)
    ready.app = app
    orchestrator.register(app)
    run_worker(app, loglevel="warn")


if __name__ == "__main__":
    main(*sys.argv[1:])
