"""Commands of tables as the arbiter gets them, and an arbiter that is made anew from its rows at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from processors.core.transactions.arbiter import Arbiter
from processors.core.transactions.lock_words import LockLimits
from processors.core.transactions.words import TableLimits, Told
from streams.core.at import At

Fields = dict[str, Any]


def writes(*keys: str, table: str = "t", value: str | None = "1", policy: str = "") -> list[Fields]:
    """Return writes of one value to several rows."""
    return [{"table": table, "key": key, "value": value, "policy": policy} for key in keys]


def reads(*keys: str, table: str = "t") -> list[Fields]:
    """Return reads of several rows."""
    return [{"table": table, "key": key} for key in keys]


def commit(txn: str, *more: str, snapshot: int = -1, isolation: str = "serializable", **fields: Any) -> Fields:
    """Return the fields of a commit that writes the rows `more`."""
    base: Fields = {
        "domain": "d",
        "txn": txn,
        "owner": f"agent-{txn}",
        "isolation": isolation,
        "snapshot": snapshot,
        "reads": [],
        "spans": [],
        "expects": [],
        "writes": writes(*more),
        "fences": [],
        "priority": 0,
        "again": False,
    }
    return base | fields


def prepare(txn: str, *more: str, **fields: Any) -> Fields:
    """Return the fields of a prepare."""
    return {**commit(txn, *more, **fields), "participants": ["d", "e"], "timeout_ms": 1_000}


def lock(txn: str, *locks: tuple[str, str] | tuple[str, str, bool], request: str = "", **fields: Any) -> Fields:
    """Return the fields of a request for locks: key and mode, and True for a prefix."""
    wanted = [{"table": "t", "key": one[0], "mode": one[1], "span": len(one) > 2} for one in locks]
    base: Fields = {
        "domain": "d",
        "txn": txn,
        "request_id": request or f"{txn}.{','.join(one[0] for one in locks)}",
        "owner": f"agent-{txn}",
        "locks": wanted,
        "strategy": "detect",
        "age_ms": 0,
        "wait_ms": None,
        "lease_ms": 30_000,
        "again": False,
    }
    return base | fields


class Log:
    """A log of commands and the arbiter that follows it.

    Args:
        limits: Of tables.
        lock_limits: Of locks.
        merges: Merge functions.
    """

    def __init__(
        self, limits: TableLimits | None = None, lock_limits: LockLimits | None = None, merges: dict[str, Any] | None = None
    ) -> None:
        self._settings = (limits, lock_limits, merges)
        self.rows: dict[tuple[Any, ...], bytes] = {}
        self.arbiter = Arbiter.load([], *self._settings)
        self.offset, self.now_ms = -1, 1_000_000
        self.feed: list[Fields] = []

    @property
    def position(self) -> int:
        """Of the last command."""
        return self.offset + 1

    def take(self, what: str, asked: Fields, *, route: str = "r", after_ms: int = 1) -> list[Told]:
        """Carry a command out, after what was due by its time."""
        self.offset += 1
        self.now_ms += after_ms
        at = At(self.offset, 0, self.now_ms)
        told: list[Told] = []
        due = self.arbiter.due_ms()
        if due is not None and due <= self.now_ms:
            told += self.arbiter.tick(at)
        method: Callable[..., list[Told]] = getattr(self.arbiter, what)
        told += method(asked, at) if what == "decide" else method(asked, route, at)
        self.keep()
        return told

    def pass_time(self, ms: int) -> list[Told]:
        """Let time pass until a record that brings it."""
        self.offset += 1
        self.now_ms += ms
        told = self.arbiter.tick(At(self.offset, 0, self.now_ms))
        self.keep()
        return told

    def keep(self) -> None:
        """Write what has changed, as the table does, and take the feed."""
        previous, changes = self.arbiter.take_feed()
        assert not changes or previous == (self.feed[-1]["position"] if self.feed else 0)
        self.feed += changes
        for key, row in self.arbiter.changes().items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = orjson.dumps(row)

    def reload(self) -> None:
        """Make the arbiter anew from its rows, in another order than they were written in."""
        rows = [(key, orjson.loads(row)) for key, row in reversed(self.rows.items())]
        self.arbiter = Arbiter.load(rows, *self._settings)

    def values(self, table: str = "t") -> dict[str, str]:
        """Return the rows of a table as a reader pages through them."""
        found: dict[str, str] = {}
        after = ("", "")
        while True:
            told = self.read(table=table, after_table=after[0], after_key=after[1])
            for row in told["rows"]:
                found[row["key"]] = row["versions"][-1]["value"]
                after = row["table"], row["key"]
            if not told["more"]:
                return found

    def read(self, **fields: Any) -> Fields:
        """Read a page; it is no command of the log here, so that looking changes nothing."""
        base: Fields = {
            "domain": "d",
            "request_id": "read",
            "table": "t",
            "prefix": "",
            "after_table": "",
            "after_key": "",
            "at_position": -1,
            "at_ms": -1,
            "history": False,
        }
        (told,) = self.arbiter.read(base | fields, "r", At(self.offset, 0, self.now_ms))
        return told.fields


def kinds(told: Iterable[Told]) -> list[str]:
    """Return what was said, for short: the kind, with the code or state."""
    return [
        one.kind + (f":{one.fields.get('code') or one.fields.get('state')}" if one.kind in ("refused", "outcome") else "")
        for one in told
    ]
