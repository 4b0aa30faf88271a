"""A worker with the orchestrator of sagas, and on request with locks: see `SAGA_ROLE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from processors import coordination
from sagas import orchestrator
from streams.turns import App, Options
from streams.worker import run_worker

env = os.environ
PREFIX = env.get("SAGA_PREFIX", "")
ROLES = env.get("SAGA_ROLE", "sagas").split(",")

app = App(
    env["SAGA_APP"] + "." + "-".join(ROLES),
    options=Options(
        client={"bootstrap.servers": env["SAGA_SERVERS"]},
        instance=env["SAGA_INSTANCE"],
        state_dir=Path(env["SAGA_STATE"]),
        create_topics=True,
        fetch_wait_ms=50,
        partitions=int(env.get("SAGA_PARTITIONS", "4")),
        transaction_timeout_ms=2_000,
    ),
    broker_session_timeout=2.0,
    broker_heartbeat_interval=0.5,
)
if "sagas" in ROLES:
    orchestrator.register(app, orchestrator.SagaOptions(topic_prefix=PREFIX))
if "coordination" in ROLES:
    coordination.register(app, coordination.CoordinationOptions(topic_prefix=PREFIX))

if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
