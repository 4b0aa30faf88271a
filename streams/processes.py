"""Other processes, named so that a process id that the system gave to somebody else is never signalled.

A process is known by its id *and* the moment it started. Whoever keeps an id in a file keeps both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessId", "is_alive", "process_id", "send_signal", "wait_gone"]

POLL_S = 0.05
"""Between two looks at a process that is not our child, which cannot be waited for."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process: its number and when it started, in the system's own words (ticks since boot on Linux)."""

    pid: int
    started: str


def process_id(pid: int) -> ProcessId | None:
    """The process that has this number now, or ``None`` where there is none (a zombie is none)."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
        return None if fields[0] in "ZX" else ProcessId(pid, fields[19])
    answer = subprocess.run(["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else ProcessId(pid, started.strip())


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs."""
    return process_id(process.pid) == process


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal this very process; ``False`` where it is gone."""
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(process: ProcessId, timeout_s: float) -> bool:
    """Wait until the process has ended; ``False`` where it still runs after the time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
