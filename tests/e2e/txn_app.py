"""A worker with tables and transactions, their coordinator, and on request locks and the search for deadlocks.

`TXN_ROLE` names what it runs, comma-separated: transactions, coordinator, coordination, deadlocks. A role is a consumer group of
its own, as installations have it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from processors import coordination, deadlocks, transactions
from sagas import coordinator
from streams.turns import App, Options
from streams.worker import run_worker

env = os.environ
PREFIX = env.get("TXN_PREFIX", "")
ROLES = env.get("TXN_ROLE", "transactions,coordinator").split(",")

app = App(
    env["TXN_APP"] + "." + "-".join(ROLES),
    options=Options(
        client={"bootstrap.servers": env["TXN_SERVERS"]},
        instance=env["TXN_INSTANCE"],
        state_dir=Path(env["TXN_STATE"]),
        create_topics=True,
        fetch_wait_ms=50,
        partitions=int(env.get("TXN_PARTITIONS", "4")),
        transaction_timeout_ms=2_000,
    ),
    broker_session_timeout=2.0,
    broker_heartbeat_interval=0.5,
)
if "transactions" in ROLES:
    transactions.register(app, transactions.TransactionOptions(topic_prefix=PREFIX))
if "coordinator" in ROLES:
    coordinator.register(app, coordinator.CoordinatorOptions(topic_prefix=PREFIX))
if "coordination" in ROLES:
    coordination.register(app, coordination.CoordinationOptions(topic_prefix=PREFIX))
if "deadlocks" in ROLES:
    deadlocks.register(app, deadlocks.DeadlockOptions(topic_prefix=PREFIX))

if __name__ == "__main__":
    sys.exit(run_worker(app, loglevel="info"))
