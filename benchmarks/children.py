"""Child processes of a benchmark: what is measured runs alone in a fresh process and prints one result line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

__all__ = ["JOB_TIMEOUT_S", "Worker", "environment", "python", "result"]

JOB_TIMEOUT_S: Final = 300.0
"""For one child: the slowest takes about a minute on two shared cores."""

MARK: Final = "RESULT "
"""What a result line begins with; libraries of the child may print others."""


def environment() -> dict[str, str]:
    """This process's environment, with the repository where a child finds it."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path}


def python(module: str, *args: str) -> list[str]:
    """The command that runs `benchmarks.jobs.<module>` in a fresh interpreter."""
    return [sys.executable, "-m", f"benchmarks.jobs.{module}", *args]


def result(command: list[str]) -> dict[str, Any]:
    """Run a child to its end and return what it found.

    Raises:
        RuntimeError: It printed no result; the message has the end of what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=JOB_TIMEOUT_S, check=False, env=environment())
    for line in done.stdout.splitlines():
        if (at := line.find(MARK)) >= 0:
            found: dict[str, Any] = json.loads(line[at + len(MARK) :])
            return found
    raise RuntimeError(
        f"{' '.join(command[2:])} ended with {done.returncode} and no result: {(done.stderr or done.stdout)[-800:]}"
    )


class Worker:
    """A processor that runs while something else is measured; it prints a line `READY {...}`, see `benchmarks.jobs.ready`."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment())
        self.ready: dict[str, float] = {}

    def __enter__(self) -> Self:
        for line in self._process.stdout or ():
            if (at := line.find("READY ")) >= 0:
                self.ready = json.loads(line[at + 6 :])
                return self
        raise RuntimeError("the processor ended before it was ready")

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def found(self) -> dict[str, Any]:
        """Return its result, when it has come."""
        for line in self._process.stdout or ():
            if (at := line.find(MARK)) >= 0:
                found: dict[str, Any] = json.loads(line[at + len(MARK) :])
                return found
        raise RuntimeError("it ended without a result")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
