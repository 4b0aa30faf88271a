"""What each agent does in each window of event time: tumbling windows, bounded lateness, late events counted.

    event time ──▶   │  window  │  window  │  window  │
                                                   ▲ the clock of this partition: the latest event time so far
                              ▲ the watermark: the clock less the lateness
                     a window ends for all agents when the watermark reaches its end; what still comes for it is late

The rules:

* The **event time** of a record is `min(ts, arrived)`: nothing lands before it is made, so a `ts` after `arrived` is an author's
  clock that was ahead, and must not pull the watermark into the future.
* The **clock** of a partition is the largest event time among its records up to and including this one. The **watermark** is the
  clock less `Windows.lateness_ms`. Both are functions of the partition's records up to here and of nothing else: not of the turn,
  the worker or the hour. So a replay of the partition gives the live rows bit for bit, however the live run was cut into turns or
  crashed.
* A record belongs to the window `[n * size, (n + 1) * size)` that holds its event time. While the watermark is before the
  window's end the window counts it. After that the record is **late**: it adds one to `late` in the window's row, changes nothing
  else there, and goes out as `LateEvent`, so that whoever wants it can have it.
* When the watermark reaches a window's end, every agent's row of that window is marked `closed` and goes out as `WindowClosed`:
  once, and final but for `late`. One record closes at most `CLOSING_MAX` rows; the rest follow with the next records. Lateness is
  judged by the watermark alone, so this changes no number.

The state is rows of a table, bounded but for the results themselves:

    "agent|window start"   the result, kept after it is closed (the table is compacted):
                           changes, reverts, files, added, removed, first_ms, last_ms, late, closed
    "start/shard~"         up to `SHARD_AGENTS` agents with an open row in the window; removed when it closes
    "clock~"               clock_ms, opened, closed, late, and for each open window start how many agents are in it

Keys that end in "~" are bookkeeping and no result: `is_result` tells them apart. At most `lateness / size + 2` windows are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from processors.core.step import Step
from schemas.events import Event
from schemas.work import ChangeCommitted, FileChanged, LateEvent, WindowClosed

__all__ = [
    "CLOCK",
    "CLOSING_MAX",
    "DAY_MS",
    "SHARD_AGENTS",
    "ClockView",
    "Rows",
    "Windows",
    "is_result",
    "row_key",
    "step",
    "view",
]

Row = Mapping[str, Any]


class Rows(Protocol):
    """The rows of one partition, to read: a dict, or a batch's view of a table."""

    def get(self, key: str, default: Any = None, /) -> Any:  # noqa: ANN401 as a mapping's
        """Return the row, or `default`."""


DAY_MS: Final = 86_400_000
CLOCK: Final = "clock~"
SHARD_AGENTS: Final = 256
"""Agents in one bookkeeping row: with names of 16 bytes 5 KiB, so a new agent never rewrites more than that."""
CLOSING_MAX: Final = 1024
"""Rows closed by one record, at most: bounds what it may put into a turn. Whole shards, so a multiple of `SHARD_AGENTS`."""
OPEN_WINDOWS_MAX: Final = 1000
"""Windows open at a time. Each is an entry of the clock's row, which is written every turn."""

_NEW_CLOCK: Final[Row] = {"clock_ms": 0, "opened": 0, "closed": 0, "late": 0, "open": {}}
_NEW_ROW: Final[Row] = {
    "changes": 0,
    "reverts": 0,
    "files": 0,
    "added": 0,
    "removed": 0,
    "first_ms": None,
    "last_ms": None,
    "late": 0,
    "closed": False,
}


@dataclass(frozen=True, slots=True)
class Windows:
    """The shape of the windows.

    Attributes:
        size_ms: The length of a window, a day by default. Windows start at multiples of it since 1970 (UTC).
        lateness_ms: How far behind the latest event time a record may be and still count. Seven days by default: in thirteen
            years of Apache Kafka, 99.4 % of all records are within it.
    """

    size_ms: int = DAY_MS
    lateness_ms: int = 7 * DAY_MS

    def __post_init__(self) -> None:
        """Refuse windows that make no sense."""
        if self.size_ms < 1 or self.lateness_ms < 0:
            raise ValueError(
                f"size_ms is {self.size_ms} and lateness_ms {self.lateness_ms}: at least 1 and at least 0 are allowed"
            )
        if self.lateness_ms // self.size_ms + 2 > OPEN_WINDOWS_MAX:
            raise ValueError(
                f"lateness_ms {self.lateness_ms} keeps more than {OPEN_WINDOWS_MAX} windows of size_ms {self.size_ms} "
                "open: make windows longer"
            )


DEFAULT_WINDOWS: Final = Windows()


def row_key(agent: str, start_ms: int) -> str:
    """Return the key of an agent's row for the window that starts at `start_ms`."""
    return f"{agent}|{start_ms}"


def is_result(key: str) -> bool:
    """Return whether a key is an agent's row, and not bookkeeping."""
    return not key.endswith("~")


def step(
    rows: Rows,
    event: ChangeCommitted | FileChanged,
    now_ms: int,  # noqa: ARG001 every machine has the same contract
    windows: Windows = DEFAULT_WINDOWS,
) -> Step[dict[str, Row | None]]:
    """Take in one record of a partition.

    Args:
        rows: The partition's rows before it; only read.
        event: The record. A `ChangeCommitted` counts as a change, a `FileChanged` as a file with its lines.
        now_ms: Not used: the result is a function of the log alone.
        windows: The shape of the windows; it must stay the same for the life of the table.

    Returns:
        The rows that changed (None for one that goes), and the `WindowClosed` and `LateEvent` events.
    """
    at = min(event.ts, event.arrived)
    start = at - at % windows.size_ms
    done = _Effects(rows, dict(rows.get(CLOCK) or _NEW_CLOCK))
    done.clock["clock_ms"] = max(done.clock["clock_ms"], at)
    watermark = done.clock["clock_ms"] - windows.lateness_ms
    key = row_key(event.agent, start)
    row = rows.get(key)
    if start + windows.size_ms <= watermark:
        done.clock["late"] += 1
        done.changed[key] = _counted_late(row)
        done.outputs.append(_late(event, start, watermark))
    else:
        if row is None:
            row = _NEW_ROW
            _open(done, event.agent, start)
        done.changed[key] = _counted(row, event, at)
    _close(done, watermark - windows.size_ms, windows)
    done.changed[CLOCK] = done.clock
    return Step(done.changed, tuple(done.outputs))


@dataclass(frozen=True, slots=True)
class ClockView:
    """A partition's clock for people: times in epoch ms, rows opened and closed, late events, windows open now."""

    clock_ms: int
    opened: int
    closed: int
    late: int
    windows_open: int


def view(rows: Rows) -> ClockView:
    """Return what console, command line and metrics show of one partition."""
    clock = rows.get(CLOCK) or _NEW_CLOCK
    return ClockView(clock["clock_ms"], clock["opened"], clock["closed"], clock["late"], len(clock["open"]))


def _counted(row: Row, event: ChangeCommitted | FileChanged, at: int) -> Row:
    new = dict(row)
    if isinstance(event, FileChanged):
        new["files"] += 1
        new["added"] += event.added
        new["removed"] += event.removed
    else:
        new["changes"] += 1
        new["reverts"] += event.reverts is not None
    new["first_ms"] = at if new["first_ms"] is None else min(new["first_ms"], at)
    new["last_ms"] = at if new["last_ms"] is None else max(new["last_ms"], at)
    return new


def _counted_late(row: Row | None) -> Row:
    return {**(row or {**_NEW_ROW, "closed": True}), "late": (row or _NEW_ROW)["late"] + 1}


def _late(event: ChangeCommitted | FileChanged, start: int, watermark: int) -> LateEvent:
    return LateEvent(
        agent=event.agent,
        task=event.task,
        ts=event.ts,
        arrived=event.arrived,
        seq=event.seq,
        window_start=start,
        watermark=watermark,
    )


def _shard_key(start: int, shard: int) -> str:
    return f"{start}/{shard}~"


@dataclass(slots=True)
class _Effects:
    """What one step has collected; `rows` are those before it."""

    rows: Rows
    clock: dict[str, Any]
    changed: dict[str, Row | None] = field(default_factory=dict)
    outputs: list[Event] = field(default_factory=list)


def _open(done: _Effects, agent: str, start: int) -> None:
    """Enter an agent into the bookkeeping of a window that has no row of it yet."""
    agents = done.clock["open"].get(str(start), 0)
    key = _shard_key(start, agents // SHARD_AGENTS)
    members = done.rows.get(key)
    done.changed[key] = {"agents": [*(members["agents"] if members else ()), agent]}
    done.clock["open"] = {**done.clock["open"], str(start): agents + 1}
    done.clock["opened"] += 1


def _close(done: _Effects, last_start: int, windows: Windows) -> None:
    """Close the rows of windows that start by `last_start`: oldest window first, whole shards, at most `CLOSING_MAX` rows."""
    due = sorted(start for start in map(int, done.clock["open"]) if start <= last_start)
    if not due:
        return
    budget = CLOSING_MAX // SHARD_AGENTS
    open_windows = dict(done.clock["open"])
    for start in due:
        agents = open_windows.pop(str(start))
        while budget and agents:
            shard = (agents - 1) // SHARD_AGENTS
            key = _shard_key(start, shard)
            for agent in done.rows.get(key)["agents"]:
                _close_row(done, agent, start, windows)
            done.changed[key] = None
            agents = shard * SHARD_AGENTS
            budget -= 1
        if agents:
            open_windows[str(start)] = agents
    done.clock["open"] = open_windows


def _close_row(done: _Effects, agent: str, start: int, windows: Windows) -> None:
    key = row_key(agent, start)
    row = {**(done.changed.get(key) or done.rows.get(key)), "closed": True}
    done.changed[key] = row
    done.clock["closed"] += 1
    done.outputs.append(
        WindowClosed(
            agent=agent,
            window_start=start,
            window_end=start + windows.size_ms,
            changes=row["changes"],
            reverts=row["reverts"],
            files=row["files"],
            added=row["added"],
            removed=row["removed"],
            first_ms=row["first_ms"],
            last_ms=row["last_ms"],
        )
    )
