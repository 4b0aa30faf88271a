"""Workers with the orchestrator of sagas, participants as processes, and what happens to them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import until

__all__ = ["SagaTrial"]


@dataclass
class SagaTrial(SyncTrial):
    """As `SyncTrial`, with the processors of sagas.

    Attributes:
        roles: What a worker runs; see `saga_app.py`.
    """

    roles: str = "sagas"

    def _worker(self) -> tuple[subprocess.Popen[bytes], Path]:
        started = self.start_role(self.roles)
        self.workers.append(started[0])
        return started

    def start_role(self, roles: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a worker; return it and its log."""
        return self._start(
            "saga_app.py",
            SAGA_SERVERS=self.servers,
            SAGA_APP=self.name,
            SAGA_INSTANCE=f"w{len(self.logs)}",
            SAGA_STATE=str(self.directory / "state"),
            SAGA_PREFIX=self.prefix,
            SAGA_ROLE=roles,
        )

    def start_participant(self, effects: Path, *args: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a participant whose handlers write what they do to a database, and wait until it works."""
        process, log = self._start(
            "saga_participant.py",
            str(effects),
            *args,
            SYNC_SERVERS=self.servers,
            SYNC_PREFIX=self.prefix,
            SYNC_CLIENT=f"{self.name}-p{len(self.logs)}",
        )
        until(lambda: "working" in log.read_text(errors="replace"), f"the participant works: {log}")
        return process, log
