"""Runs of clients that commit transactions while workers, coordinators and clients are killed, frozen, joined and sent away."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.e2e.lock_trial import LockTrial
from tests.e2e.trial import until

__all__ = ["TxnTrial"]


@dataclass
class TxnTrial(LockTrial):
    """As `LockTrial`, whose faults are for the last of `workers`, with the processors of tables.

    Attributes:
        roles: What a worker runs; see `txn_app.py`.
        client_program: What `_clients` starts, beside this file, with the arguments that `lock_client.py` gets.
    """

    roles: str = "transactions,coordinator"
    client_program: str = "txn_client.py"
    clients_wait_s: ClassVar[float] = 60.0

    def _worker(self) -> tuple[subprocess.Popen[bytes], Path]:
        started = self.start_role(self.roles)
        self.workers.append(started[0])
        return started

    def start_role(self, roles: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a worker with other roles, beside those that faults are for; return it and its log."""
        return self._start(
            "txn_app.py",
            TXN_SERVERS=self.servers,
            TXN_APP=self.name,
            TXN_INSTANCE=f"w{len(self.logs)}",
            TXN_STATE=str(self.directory / "state"),
            TXN_PREFIX=self.prefix,
            TXN_ROLE=roles,
        )

    def wait_started(self, log: Path) -> None:
        """Wait until a worker that was started has partitions."""
        until(lambda: bool(self.starts(log)) and "@" in self.starts(log)[-1], f"{log.name} has partitions: {self.said()}")

    def start_clients(self, count: int, *args: str) -> list[subprocess.Popen[bytes]]:
        """Start client programs, and wait until each says that it is working."""
        settings = {"SYNC_SERVERS": self.servers, "SYNC_PREFIX": self.prefix}
        started = [
            self._start(self.client_program, *args, **settings, SYNC_CLIENT=f"{self.name}-p{len(self.logs)}")
            for _ in range(count)
        ]
        until(
            lambda: all("working" in log.read_text(errors="replace") for _, log in started),
            "the clients work",
            self.clients_wait_s,
        )
        return [process for process, _ in started]
