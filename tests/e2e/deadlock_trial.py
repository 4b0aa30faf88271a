"""Workers that look for deadlocks, and what was found."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors.core.coordination.lock_view import LockView
from processors.log_reader import LogReader, LogRecord
from schemas.catalogue import CATALOGUE
from schemas.coordination import EVENTS_TOPIC, LockRefused
from schemas.coordination_answers import RequestRefused
from schemas.waits import DEADLOCKS_TOPIC
from streams.codec import Codec
from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import until

COMMAND = str(Path(sys.executable).with_name("antiphon"))
FOUND_S = 1.0
"""Within which a deadlock is to be found and resolved."""


@dataclass
class DeadlockTrial(SyncTrial):
    """As `SyncTrial`, whose workers also look for deadlocks.

    Attributes:
        role: "both", or "coordination" where detectors are processes of their own.
        policy: How victims are chosen.
    """

    role: str = "both"
    policy: str = "youngest"

    def _start(self, program: str, *args: str, **settings: str) -> tuple[subprocess.Popen[bytes], Path]:
        given = {"LOCK_ROLE": self.role, "AGENT_COORDINATION_DEADLOCK_POLICY": self.policy}
        return super()._start(program, *args, **{**given, **settings})

    def detector(self) -> subprocess.Popen[bytes]:
        """Start a worker that only looks for deadlocks, without waiting for it."""
        return self._start(
            "lock_app.py",
            LOCK_ROLE="deadlocks",
            LOCK_SERVERS=self.servers,
            LOCK_APP=f"{self.name}-deadlocks",
            LOCK_INSTANCE=f"d{len(self.logs)}",
            LOCK_STATE=str(self.directory / "detectors"),
            LOCK_PREFIX=self.prefix,
            LOCK_FETCH_WAIT_MS="50",
        )[0]

    def runs(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the last process that was started has its partitions."""
        log = self.logs[-1]

        def said() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-2_000:]
            return "turns start on" in log.read_text(errors="replace")

        until(said, "the detector runs")

    def records(self, topic: str) -> Iterator[LogRecord]:
        """Yield what is committed on a topic."""
        with LogReader({"bootstrap.servers": self.servers}, group=f"{self.name}-reader") as reader:
            yield from reader.read(self.prefix + topic)

    def deadlocks(self) -> list[Any]:
        """Return all that were found."""
        return [CATALOGUE.decode(record.value or b"") for record in self.records(DEADLOCKS_TOPIC)]

    def victims(self) -> list[Any]:
        """Return the refusals that end deadlocks."""
        told: list[Any] = [CATALOGUE.decode(record.value or b"") for record in self.records(EVENTS_TOPIC)]
        return [one for one in told if isinstance(one, LockRefused | RequestRefused) and one.code == "victim"]

    def view(self) -> LockView:
        """Return who holds and who waits, as told so far."""
        view, codec = LockView(), Codec()
        for record in self.records(EVENTS_TOPIC):
            view.take(codec.type_of(record), codec.read(record), record.timestamp)
        return view

    async def waiting(self, count: int) -> None:
        """Wait until so many owners wait."""
        await asyncio.to_thread(until, lambda: len(self.view().waiting_of) == count, f"{count} owners wait")

    def antiphon(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run([COMMAND, *args], env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def watched(self) -> Any:
        """Return what `antiphon locks --watch --json` says first, and end it as a person does."""
        watching = subprocess.Popen([COMMAND, "locks", "--watch", "--json"], env=self.environment, stdout=subprocess.PIPE)
        self.processes.append(watching)
        assert watching.stdout is not None
        with watching.stdout as lines:
            line = lines.readline()
            watching.send_signal(signal.SIGINT)
            assert watching.wait(90) == 0
        return json.loads(line)

    @property
    def environment(self) -> dict[str, str]:
        """For commands."""
        kafka = {"ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": self.servers}
        return os.environ | kafka | {"ANTIPHON_CLIENT__COORDINATION_TOPIC_PREFIX": self.prefix, "PYTHONUNBUFFERED": "1"}
