"""Runs of clients that commit transactions while workers, coordinators and clients are killed, frozen, joined and sent away."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from processors.core.verify.transactions import Report, judge, read_transactions
from processors.verify.txn_recorder import TransactionWriter
from tests.e2e.lock_trial import LockTrial
from tests.e2e.trial import until

__all__ = ["KEYS", "LISTS", "TxnTrial"]

LISTS = "lists"
"""The table of lists that are appended to."""
KEYS = 3
"""Lists of a domain."""
DOMAINS, TASKS, RUN_S = 3, 4, 120.0
AFTER_FAULT, COMMITTED_MIN = 20, 60
"""Transactions: of a run that end after its last fault, and of a whole run; fewer would prove little."""


@dataclass
class TxnTrial(LockTrial):
    """As `LockTrial`, whose faults are for the last of `workers`, with the processors of tables.

    Attributes:
        roles: What a worker runs; see `txn_app.py`.
        isolation: Of the clients' transactions.
        mode: The same.
        coordinators: Workers with the coordinator alone, where `roles` has none.
    """

    roles: str = "transactions,coordinator"
    isolation: str = "serializable"
    mode: str = "optimistic"
    coordinators: list[subprocess.Popen[bytes]] = field(default_factory=list)
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

    # ---- a run of clients that append to lists

    def faults(self) -> dict[str, Callable[[Any, list[subprocess.Popen[bytes]]], None]]:
        """Return what may happen in a run, to a coordinator of its own too."""
        own = {"coordinator_killed": TxnTrial.coordinator_killed, "coordinator_frozen": TxnTrial.coordinator_frozen}
        return super().faults() | (own if self.coordinators else {})

    def settle(self, history: Path) -> None:
        """Let clients go on until they have committed something after the last fault, and enough to be worth a judgement."""
        before = _committed(history)
        until(lambda: _committed(history) >= max(before + AFTER_FAULT, COMMITTED_MIN), f"clients commit: {self.said()}")

    def start_coordinator(self) -> None:
        """Start a coordinator in a process of its own, and wait until it has partitions."""
        process, log = self.start_role("coordinator")
        self.coordinators.append(process)
        self.wait_started(log)

    def coordinator_killed(self, _: list[subprocess.Popen[bytes]]) -> None:
        """Another one takes over what it had begun."""
        coordinator = self.coordinators.pop()
        coordinator.kill()
        coordinator.wait()
        self.start_coordinator()

    def coordinator_frozen(self, _: list[subprocess.Popen[bytes]]) -> None:
        """It thaws when another one has taken over."""
        zombie = self.coordinators.pop()
        zombie.send_signal(signal.SIGSTOP)
        self.start_coordinator()
        zombie.send_signal(signal.SIGCONT)
        self.moment()
        zombie.terminate()
        zombie.wait(60)

    @property
    def domains(self) -> list[str]:
        """Those of the present run."""
        return [f"r{self.runs}d{number}" for number in range(DOMAINS)]

    def _clients(self, count: int, history: Path, _: list[str]) -> list[subprocess.Popen[bytes]]:
        args = (str(history), f"{RUN_S}", f"{TASKS}", self.isolation, self.mode, *self.domains)
        settings = {"SYNC_SERVERS": self.servers, "SYNC_PREFIX": self.prefix}
        started = [
            self._start("txn_client.py", *args, **settings, SYNC_CLIENT=f"{self.name}-p{len(self.logs)}") for _ in range(count)
        ]
        until(
            lambda: all("working" in log.read_text(errors="replace") for _, log in started),
            "the clients work",
            self.clients_wait_s,
        )
        return [process for process, _ in started]

    async def read_all(self, history: Path) -> None:
        """Add a transaction that reads every list, so that all appends are seen."""
        with TransactionWriter(history, process="last") as writer:
            recorded = writer.begin(isolation="serializable")
            async with self.mesh("last") as mesh, mesh.transaction(read_only=True, fresh=True) as txn:
                for domain in self.domains:
                    recorded.scan(f"{domain}/", dict(await txn.scan(LISTS, f"{domain}/")))
            recorded.ended("committed")

    def judged(self, history: Path, level: str = "serializable") -> Report:
        """Return what `antiphon verify transactions` finds."""
        return judge(read_transactions([(history.name, history.read_bytes().splitlines())]), level=level)


def _committed(history: Path) -> int:
    return history.read_bytes().count(b'"committed"') if history.exists() else 0
