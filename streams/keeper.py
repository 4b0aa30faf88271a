"""Runs one command and never outlives the process that asked for it. Run as a script; imports nothing but the standard library.

``python keeper.py PARENT_PID PID_FILE COMMAND...``

The embedded broker must not stay behind when its owner is killed with SIGKILL, which no ``atexit`` sees. The kernel's
parent-death signal alone is not enough: it fires when the *thread* that forked ends, which in Python may be any worker thread. So
this single-threaded process stands between: it looks whether its parent is still the one it was started by, passes SIGTERM and
SIGINT on, and ends with the command's own exit code. On Linux the command also dies with this process, by its parent-death
signal, so that killing the keeper leaves nothing.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

POLL_S = 0.2
"""How often the parent is looked for: the longest that an orphan lives before it is told to stop."""

STOP_S = 20.0
"""From SIGTERM to SIGKILL once the parent is gone."""

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def keep(parent: int, pid_file: Path, command: list[str]) -> int:
    """Start the command, write its process id, and stay until it ends or the parent does; the command's exit code."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_keeper() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    # Safe here, where it is not in a program with threads: nothing else runs between fork and exec.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_keeper)  # noqa: PLW1509
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: child.terminate())
    staged = pid_file.with_suffix(".new")
    staged.write_text(str(child.pid), encoding="ascii")
    staged.replace(pid_file)
    while os.getppid() == parent:
        try:
            return child.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
    child.terminate()
    try:
        return child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    code = keep(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
    sys.exit(code if code >= 0 else 128 - code)
