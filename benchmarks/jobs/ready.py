"""Says when a worker's partitions are open: the line `READY {...}` that `benchmarks.children.Worker` waits for."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from streams.observer import Observer
from streams.turns import App

__all__ = ["Ready"]


class Ready(Observer):
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
