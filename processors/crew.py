"""Worker processes of a job: started, watched and stopped, and never left behind.

Each worker has a keeper (`streams.keeper`) that ends it when this process is gone, even by SIGKILL. Ctrl-C at the terminal is for
the owner alone, who then stops the workers in its own order: SIGTERM, which lets a worker finish its turn, and SIGKILL after
`STOP_S`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from streams import keeper
from streams.errors import ProcessorError

__all__ = ["Crew"]

STOP_S: Final = 20.0
"""From SIGTERM to SIGKILL: a turn, its kafka transaction and leaving the group take under five seconds."""
LAST_WORDS_BYTES: Final = 64 * 1024
"""Of a dead worker's log that are looked at for the reason: it may be followed by some hundred lines of stopping."""
LAST_WORDS_LINES: Final = 3

_ERROR: Final = re.compile(r"(error|[\w.]*[A-Z]\w+(Error|Exception|Missing|Mismatch|Unavailable|Unsupported|Failed)\b.*): ")
_RUN: Final = "import sys; from streams.cli import main; main()"


@dataclass(slots=True)
class _Member:
    name: str
    log: Path
    process: subprocess.Popen[bytes]


class Crew:
    """Some worker processes, as a context manager.

    Args:
        arguments: Of `antiphon`, such as ["worker", "activity"].
        directory: For their logs and process ids.
        environment: On top of this process's own, for all of them.
    """

    def __init__(self, arguments: Sequence[str], *, directory: Path, environment: Mapping[str, str]) -> None:
        self._arguments, self._directory = list(arguments), directory
        self._environment = {**os.environ, **environment}
        self._members: list[_Member] = []

    def __enter__(self) -> Self:
        """Return itself; `start` starts."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop all, whatever happened."""
        self.stop()

    @property
    def logs(self) -> list[Path]:
        """The workers' logs."""
        return [m.log for m in self._members]

    def start(self, name: str) -> None:
        """Start one more worker; its instance id is its name."""
        log, pid_file = self._directory / f"{name}.log", self._directory / f"{name}.pid"
        command = [sys.executable, "-c", _RUN, *self._arguments, "--instance", name]
        kept = [sys.executable, "-I", "-S", str(Path(keeper.__file__)), str(os.getpid()), str(pid_file), *command]
        with log.open("wb") as output:
            process = _spawn(kept, output, self._environment)
        self._members.append(_Member(name, log, process))

    def check(self) -> None:
        """Raise where a worker has ended by itself.

        Raises:
            ProcessorError: Names the worker, its exit code and the last words of its log.
        """
        for member in self._members:
            if (code := member.process.poll()) is not None:
                raise ProcessorError(f"{member.name} ended with exit code {code}: {self.last_words(member.log)}")

    def last_words(self, log: Path) -> str:
        """Return the last error in a log, else its end, in one line."""
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
            if errors := [line for line in lines if _ERROR.match(line)]:
                return errors[-1]
            if lines:
                return " / ".join(lines[-LAST_WORDS_LINES:])
        return "it said nothing"

    def stop(self) -> None:
        """Let every worker finish its turn, then end those that do not."""
        for member in self._members:
            if member.process.poll() is None:
                member.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for member in self._members:
            try:
                member.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()  # the keeper: the worker dies with it
                member.process.wait()
        self._members.clear()


def _spawn(command: list[str], output: IO[bytes], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=dict(environment)
    )
