"""Workers and clients for the tests of semaphores, barriers and latches, and what the events say afterwards."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from schemas.catalogue import CATALOGUE
from schemas.coordination import EVENTS_TOPIC
from schemas.events import Event
from schemas.semaphores import PermitsExpired, PermitsGranted, PermitsReleased, SemaphoreResized
from streams.client import connect
from tests.e2e.trial import read_committed, until

HERE = Path(__file__).parent


@dataclass
class SyncTrial:
    """Topics of its own on a broker, and processes that end with it."""

    servers: str
    directory: Path
    name: str = field(default_factory=lambda: f"sync-{secrets.token_hex(4)}")
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    @property
    def prefix(self) -> str:
        return f"{self.name}."

    def mesh(self, client: str) -> connect:
        """Return a connection in this process."""
        kafka = {"bootstrap_servers": self.servers, "client_id": f"{self.name}-{client}"}
        return connect(kafka=kafka, client={"coordination_topic_prefix": self.prefix, "request_timeout_s": 60})

    def _start(self, program: str, *args: str, **settings: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.directory / f"{self.name}.{len(self.logs)}.log"
        self.logs.append(log)
        given = {"PYTHONPATH": str(HERE.parent.parent), "PYTHONUNBUFFERED": "1", **settings}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(HERE / program), *args], env=os.environ | given, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process, log

    async def begin(self) -> None:
        """Start the first worker, and wait until it has made its topics."""
        process, log = self._worker()

        def runs() -> bool:
            text = log.read_text(errors="replace")
            assert process.poll() is None, f"the worker ended: {text[-2_000:]}"
            return "turns start on" in text

        await asyncio.to_thread(until, runs, "the worker runs")

    async def replace(self) -> None:
        """Kill the last worker and start another one."""
        await asyncio.to_thread(self.kill_worker)
        self.start_worker()

    def kill_worker(self) -> None:
        """Kill the last worker."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def start_worker(self) -> None:
        """Start another worker, without waiting for it."""
        self._worker()

    def _worker(self) -> tuple[subprocess.Popen[bytes], Path]:
        process, log = self._start(
            "lock_app.py",
            LOCK_SERVERS=self.servers,
            LOCK_APP=self.name,
            LOCK_INSTANCE=f"w{len(self.logs)}",
            LOCK_STATE=str(self.directory / "state"),
            LOCK_PREFIX=self.prefix,
            LOCK_FETCH_WAIT_MS="50",
        )
        self.workers.append(process)
        return process, log

    def client(self, *args: str, says: str, program: str = "sync_client.py") -> tuple[subprocess.Popen[bytes], str]:
        """Start a client process, and return it with the line that it says when it is ready."""
        process, log = self._start(
            program,
            *args,
            SYNC_SERVERS=self.servers,
            SYNC_CLIENT=f"{self.name}-p{len(self.logs)}",
            SYNC_PREFIX=self.prefix,
        )
        found: list[str] = []

        def said() -> bool:
            lines = log.read_text(errors="replace").splitlines()
            assert process.poll() is None, f"the client ended: {lines[-20:]}"
            found[:] = [line for line in lines if line.startswith(says)]
            return bool(found)

        until(said, f"{args} says {says}")
        return process, found[0]

    def events(self, partitions: int = 4) -> list[Any]:
        """Return what everybody was told, in the order of each partition."""
        records = read_committed(self.servers, self.prefix + EVENTS_TOPIC, partitions)
        found: list[Event] = [CATALOGUE.decode(value) for *_, value in sorted(records, key=lambda one: one[:2])]
        return found


def most_out(events: list[Any], name: str, capacity: int) -> int:
    """Return how many permits were out at most; tokens have to grow, and more than the capacity is a violation.

    Args:
        events: Of its partition, in order.
        name: The semaphore.
        capacity: How many permits it begins with.
    """
    out: dict[str, int] = {}
    last = most = 0
    for event in events:
        if getattr(event, "name", None) != name:
            continue
        if isinstance(event, SemaphoreResized) and event.capacity is not None:
            capacity = event.capacity
        elif isinstance(event, PermitsGranted):
            assert event.token > last, f"token {event.token} after {last}"
            assert event.request_id not in out, f"{event.request_id} was granted twice"
            last, out[event.request_id] = event.token, event.permits
            assert sum(out.values()) <= capacity, f"{sum(out.values())} of {capacity} are out with {event}"
            most = max(most, sum(out.values()))
        elif isinstance(event, PermitsReleased | PermitsExpired):
            del out[event.request_id]
    return most
