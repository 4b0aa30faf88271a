"""The scripts under `hermitage/`: read, run against a mesh, and made into the table of docs/isolation.md.

    rows T/1=10 T/2=20          the rows before, in a domain of their own (T stands for its name)
    T1 get T/1 as name          a step of transaction T1; what it reads has a name
    T2 put T/1 12
    T1 scan T/ as name          {"1": 10, "2": 20}
    T2 delete T/2
    T1 commit                   or abort
    anomaly EXPRESSION          over the names (None where a step was not reached), and T1, T2, ...: whether they committed
    optimistic LEVEL=happens    what is expected, for each mode

A step that has to wait for another transaction waits while the script goes on; later steps of its transaction wait behind it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import AntiphonError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.client import Mesh

__all__ = ["LEVELS", "MODES", "SCRIPTS", "Run", "Script", "read", "run", "table"]

SCRIPTS: Final = Path(__file__).parent / "hermitage"
LEVELS: Final = ("read_committed", "repeatable_read", "snapshot", "serializable")
MODES: Final = ("optimistic", "pessimistic")
TABLE: Final = "hermitage"
STEP_S: Final = 60.0
"""For a step that waits for nobody; on a loaded machine."""


@dataclass
class Script:
    """One anomaly."""

    name: str
    title: str
    rows: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, list[str]]] = field(default_factory=list)
    anomaly: str = ""
    expected: dict[tuple[str, str], str] = field(default_factory=dict)


def read(path: Path) -> Script:
    """Read one file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    script = Script(path.stem, lines[0].lstrip("# "))
    for line in lines[1:]:
        first, _, rest = line.partition(" ")
        if first == "rows":
            script.rows = {key: int(value) for key, value in (one.split("=") for one in rest.split())}
        elif first == "anomaly":
            script.anomaly = rest
        elif first in MODES:
            for one in rest.split():
                level, outcome = one.split("=")
                assert outcome in ("happens", "prevented"), f"{path.name}: {one}"
                script.expected[first, level] = outcome
        else:
            script.steps.append((first, rest.split()))
    assert len(script.expected) == len(LEVELS) * len(MODES), path.name
    return script


class Run:
    """One run of a script: each transaction is a task that takes its steps one after the other."""

    def __init__(self, mesh: Mesh, script: Script, level: str, mode: str) -> None:
        self._mesh, self._script, self._level, self._mode = mesh, script, level, mode
        self._domain = f"h{secrets.token_hex(6)}"
        self.names: dict[str, Any] = {}
        self.committed: dict[str, bool] = {}
        self.said: list[str] = []
        self._queues: dict[str, asyncio.Queue[list[str]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._busy: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        """Set while a transaction has nothing to do, or waits for another one."""
        self._waits: set[str] = set()
        """Those that wait for another one."""

    async def happens(self) -> bool:
        """Run it, and return whether the anomaly happened."""
        table = self._mesh.table(TABLE)
        for key, value in self._script.rows.items():
            await table.put(self._key(key), value)
        waiting = self._mesh.waiting_for
        self._mesh.waiting_for = self._noticing(waiting)  # type: ignore[method-assign]
        try:
            for who, step in self._script.steps:
                await self._take(who, step)
            async with asyncio.timeout(STEP_S):
                await asyncio.gather(*self._tasks.values())
        finally:
            self._mesh.waiting_for = waiting  # type: ignore[method-assign]
            for task in self._tasks.values():
                task.cancel()
        names = defaultdict(lambda: None, {**self.names, **self.committed})
        try:
            return bool(eval(self._script.anomaly, {"__builtins__": {}}, names))
        except (KeyError, TypeError):  # a scan that was not reached
            return False

    def _key(self, key: str) -> str:
        return key.replace("T/", f"{self._domain}/")

    def _noticing(self, waiting: Callable[..., Any]) -> Callable[..., Any]:
        def waits(*args: Any, **kwargs: Any) -> Any:
            for who, task in self._tasks.items():
                if task is asyncio.current_task():
                    self._waits.add(who)
                    self._busy[who].set()
            return waiting(*args, **kwargs)

        return waits

    async def _take(self, who: str, step: list[str]) -> None:
        if who not in self._queues:
            self._queues[who] = asyncio.Queue()
            self.committed[who] = False
            self._tasks[who] = asyncio.create_task(self._transaction(who))
        self._queues[who].put_nowait(step)
        if who in self._waits:
            return
        self._busy[who].clear()
        async with asyncio.timeout(STEP_S):
            idle = asyncio.ensure_future(self._busy[who].wait())
            await asyncio.wait({idle, self._tasks[who]}, return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()

    async def _transaction(self, who: str) -> None:
        queue = self._queues[who]
        try:
            how: dict[str, Any] = {"isolation": self._level, "owner": f"{self._domain}-{who}"}
            if self._mode == "pessimistic":
                how |= {"mode": "pessimistic", "strategy": "wound_wait"}
            made = self._mesh.transaction(**how)
            async with made as txn:
                while True:
                    step = await queue.get()
                    if step[0] == "commit":
                        break
                    if step[0] == "abort":
                        raise asyncio.CancelledError  # leaves the block without a commit
                    found = await self._step(txn, step)
                    self._waits.discard(who)
                    self.said.append(f"{who} {' '.join(step)} -> {found}")
                    if queue.empty():
                        self._busy[who].set()
            self.committed[who] = True
            self.said.append(f"{who} committed")
        except asyncio.CancelledError:
            self.said.append(f"{who} aborted")
        except AntiphonError as error:
            self.said.append(f"{who} {type(error).__name__}: {error}")

    async def _step(self, txn: Any, step: list[str]) -> Any:
        what, key = step[0], self._key(step[1])
        if what == "put":
            await txn.put(TABLE, key, int(step[2]))
            return None
        if what == "delete":
            await txn.delete(TABLE, key)
            return None
        if what == "get":
            found = await txn.get(TABLE, key)
        else:
            rows = await txn.scan(TABLE, key)
            found = {key.rpartition("/")[2]: value for key, value in rows}
        self.names[step[3]] = found
        return found


async def run(mesh: Mesh, script: Script, level: str, mode: str) -> tuple[str, list[str]]:
    """Return "happens" or "prevented", and what was said."""
    one = Run(mesh, script, level, mode)
    return ("happens" if await one.happens() else "prevented"), one.said


def table() -> str:
    """Return the table of the docs, in Markdown."""
    heads = [f"{level.replace('_', ' ')}, {mode}" for mode in MODES for level in LEVELS]
    lines = ["| anomaly | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for path in sorted(SCRIPTS.glob("*.txt")):
        script = read(path)
        name = script.title.partition(":")[0]
        cells = ["**happens**" if script.expected[mode, level] == "happens" else "–" for mode in MODES for level in LEVELS]
        lines.append(f"| [{name}](../tests/scripts/hermitage/{path.name}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)
