"""The worker under test of tests/e2e/test_windows.py: `processors.windows` with the definitions of a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from processors.windows import WindowOptions, register
from streams.turns import App, Options
from streams.worker import run_worker

env = os.environ
app = App(
    env["FAULT_APP"],
    options=Options(
        client={"bootstrap.servers": env["FAULT_SERVERS"]},
        instance=env["FAULT_INSTANCE"],
        batch_records_max=50,
        state_dir=Path(env["FAULT_STATE"]),
        partitions=4,
        transaction_timeout_ms=5_000,
    ),
    broker_session_timeout=2.0,
    broker_heartbeat_interval=0.5,
)
register(app, WindowOptions(definitions=Path(env["WINDOWS_FILE"]), topic_prefix=env["WINDOWS_PREFIX"]))

if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
