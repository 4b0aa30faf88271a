"""Recording a history of transactions on lists: what each did before it commits, and once more when its outcome is known.

    with TransactionWriter(path, process="agent-7") as history:
        one = history.begin(isolation="serializable")
        one.append("d/x", 7)
        one.read("d/x", [3, 7])
        one.about_to_commit()                      # written: from now on a kill leaves an unknown outcome
        ...                                        # commit
        one.ended("committed")                     # or "aborted", "unknown"

Times are of the machine's monotonic clock, which all its processes share, so files of several processes are one history.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Literal, Self

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["Recorded", "TransactionWriter"]


class TransactionWriter:
    """Appends transactions to a file; what was written is there after `kill -9` of the process.

    Several processes may write to one file: each line is one write at the file's end.
    """

    def __init__(self, path: Path, *, process: str) -> None:
        """Open or make the file.

        Args:
            path: The file.
            process: Names who runs the transactions, one at a time; no two may share it.
        """
        self._process = process
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._count = 0

    def begin(self, *, isolation: str = "") -> Recorded:
        """Note that a transaction begins now.

        Args:
            isolation: Its level.
        """
        self._count += 1
        return Recorded(self, f"{self._process}-{self._count}", self._process, isolation)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        os.write(self._file, orjson.dumps(line) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self.close()


class Recorded:
    """One transaction that is recorded.

    Attributes:
        name: Its id.
    """

    def __init__(self, history: TransactionWriter, name: str, process: str, isolation: str) -> None:
        """Begin now."""
        self._history, self.name = history, name
        self._ops: list[list[Any]] = []
        self._line: dict[str, Any] = {
            "txn": name,
            "process": process,
            "isolation": isolation,
            "invoked_ns": time.monotonic_ns(),
            "ops": self._ops,
        }
        self._written = False

    def append(self, key: str, value: int | str) -> None:
        """Note an append; no two of a key have the same value."""
        self._ops.append(["append", key, value])

    def read(self, key: str, found: Sequence[int | str] | None) -> None:
        """Note what a key was read as."""
        self._ops.append(["read", key, list(found or ())])

    def scan(self, prefix: str, found: Mapping[str, Sequence[int | str]]) -> None:
        """Note what a prefix was scanned as."""
        self._ops.append(["scan", prefix, {key: list(values) for key, values in found.items()}])

    def about_to_commit(self) -> None:
        """Write it down without an outcome."""
        self._history.write(self._line)
        self._written = True

    def ended(self, outcome: Literal["committed", "aborted", "unknown"]) -> None:
        """Write what became of it."""
        end = {"outcome": outcome, "ended_ns": time.monotonic_ns()}
        self._history.write({"txn": self.name, **end} if self._written else {**self._line, **end})
