"""What the embedded broker leaves in its data directory so that others find it: ``broker.json`` and a lock for starting."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from streams.broker_properties import HOST
from streams.processes import ProcessId, is_alive

__all__ = ["RunningBroker", "running_broker", "start_lock", "write_running"]

FILE = "broker.json"


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that runs on a data directory.

    Attributes:
        pid: of the broker's own process.
        started: when that process started, in the system's words.
        port: of the plain listener.
        controller_port: of the controller's.
        detached: whether it outlives the process that started it.
        since_ms: when it was ready.
    """

    pid: int
    started: str
    port: int
    controller_port: int
    detached: bool
    since_ms: int

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    @property
    def process(self) -> ProcessId:
        """The broker's process."""
        return ProcessId(self.pid, self.started)


def running_broker(data_dir: Path) -> RunningBroker | None:
    """The broker that runs on this directory, or ``None``; a file that a crash left behind is seen through."""
    try:
        running = RunningBroker(**json.loads((data_dir / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return running if is_alive(running.process) else None


def write_running(data_dir: Path, running: RunningBroker) -> None:
    """Say that this broker runs here."""
    staged = data_dir / f"{FILE}.new"
    staged.write_text(json.dumps(asdict(running)), encoding="utf-8")
    staged.replace(data_dir / FILE)


@contextmanager
def start_lock(data_dir: Path) -> Iterator[None]:
    """One start at a time; the system lets go when the holder dies."""
    with (data_dir / ".start").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
