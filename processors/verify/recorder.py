"""Recording a lock history: each operation when it is asked, and once more when it is answered (docs/verify.md).

    with HistoryWriter(path, client="agent-7") as history:
        call = history.call("acquire", "repo/main", grant="g1", lease_ms=500)
        ...                                          # ask, wait
        call.answered("ok", token=4194304)           # or "refused", "timed_out"; nothing where there is no answer

Times are of the machine's monotonic clock, which all its processes share, so files of several processes are one history.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import orjson

__all__ = ["HistoryCall", "HistoryWriter"]

Op = Literal["acquire", "release", "renew", "expire", "write"]
Answer = Literal["ok", "refused", "timed_out", "unknown"]


class HistoryWriter:
    """Appends operations to a file; what was written is there after `kill -9` of the process.

    Several processes may write to one file: each line is one write at the file's end. Not to be shared by threads without a lock
    around :meth:`call`.
    """

    def __init__(self, path: Path, *, client: str) -> None:
        """Open or make the file.

        Args:
            path: The file.
            client: Names this process or session; ids of operations are counted for it, so no two may share it.
        """
        self._client = client
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._calls = 0

    def call(self, op: Op, resource: str, **fields: Any) -> HistoryCall:  # noqa: ANN401 JSON
        """Write that an operation is about to be asked.

        Args:
            op: What is asked.
            resource: The lock.
            **fields: `owner`, `mode`, `grant`, `lease_ms`, `token`, `store`, `note`; `call_ns` where it is not now.
        """
        self._calls += 1
        line = {"id": self._calls, "client": self._client, "op": op, "resource": resource, **fields}
        self._append(line if "call_ns" in line else {**line, "call_ns": time.monotonic_ns()})
        return HistoryCall(self, self._calls)

    def expired(self, resource: str, *, grant: str, granted_ns: int, **fields: Any) -> None:  # noqa: ANN401 JSON
        """Write that the service said that a grant has ended on its own.

        Args:
            resource: The lock.
            grant: The grant.
            granted_ns: When the grant was known, after its answer: it ended between then and now.
            **fields: `owner`, `note`.
        """
        self.call("expire", resource, grant=grant, call_ns=granted_ns, **fields).answered("ok")

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _answer(self, number: int, outcome: Answer, fields: dict[str, Any]) -> None:
        now = time.monotonic_ns()
        self._append({"id": number, "client": self._client, "return_ns": now, "outcome": outcome, **fields})

    def _append(self, line: dict[str, Any]) -> None:
        os.write(self._file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class HistoryCall:
    """An operation that was asked and not answered yet."""

    __slots__ = ("_number", "_writer")

    def __init__(self, writer: HistoryWriter, number: int) -> None:
        self._writer = writer
        self._number = number

    def answered(self, outcome: Answer, **fields: Any) -> None:  # noqa: ANN401 JSON
        """Write the answer.

        Args:
            outcome: What it is; `unknown` where an error leaves open whether it took effect.
            **fields: `token`, `reason`.
        """
        self._writer._answer(self._number, outcome, fields)
