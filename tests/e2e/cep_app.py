"""A worker that matches patterns, for the fault tests: `processors.cep` in an app with quick sessions."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from processors import cep
from processors.patterns.options import CepOptions
from streams.turns import App, Options
from streams.worker import run_worker

env = os.environ

app = App(
    env["FAULT_APP"],
    options=Options(
        client={"bootstrap.servers": env["FAULT_SERVERS"]},
        instance=env["FAULT_INSTANCE"],
        batch_records_max=int(env.get("FAULT_BATCH", "100")),
        store=env.get("FAULT_STORE", "memory"),  # type: ignore[arg-type]
        state_dir=Path(env["FAULT_STATE"]),
        partitions=4,
        create_topics=True,
        transaction_timeout_ms=5_000,
    ),
    broker_session_timeout=float(env.get("FAULT_SESSION_S", "2")),
    broker_heartbeat_interval=0.5,
)
options = CepOptions(
    topic_prefix=env["FAULT_PREFIX"],
    topics=tuple(env["FAULT_TOPICS"].split(",")),
    keyed_topics=tuple(name for name in env.get("FAULT_KEYED", "").split(",") if name),
)
(cep.register_keys if env["FAULT_APP"].endswith("-keys") else cep.register)(app, options)

if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
