"""Which key is due when: a calendar in the rows of a table, so that it is as durable as what it points to.

    "due~"                     {bucket: [earliest deadline in it, how many rows]}        about 256 buckets at a time
    "due/<bucket>/<row>~"      {key: deadline}                                           up to `ROW_KEYS` keys

Each key stands in one place, at a deadline that is not after its true one. A key whose deadline moves away (a session that goes
on) stays where it is; when its place comes up it is looked at and entered anew. A key whose deadline comes nearer gets a second
place, and the old one is recognised as stale: the key's state says which deadline it stands at.

What is due is found without looking at what is not: the row "due~" tells the buckets, a bucket's rows tell the keys. So a million
keys that wait cost nothing until they are due. (A calendar queue: Brown, CACM 1988, with the days sized by the windows.)
"""

from __future__ import annotations

from typing import Any, Final, Protocol

__all__ = ["BUCKETS", "DIRECTORY", "ROW_KEYS", "Calendar", "ReadRows"]

DIRECTORY: Final = "due~"
BUCKETS: Final = 256
"""Buckets to a horizon. The directory is written when a bucket's first deadline changes: 256 of them take 6 KiB."""
ROW_KEYS: Final = 256
"""Keys in one row: with keys of 20 bytes 10 KiB, so a new key never rewrites more than that."""


class ReadRows(Protocol):
    """Rows to read: a dict, or a batch's view of a table."""

    def get(self, key: str, default: Any = None, /) -> Any:  # noqa: ANN401 as a mapping's
        """Return the row, or `default`."""


class Calendar:
    """The calendar of one partition, as one batch works on it. `changed` has the rows to be stored, None for one that goes."""

    __slots__ = ("_days", "_directory", "_filling", "_rows", "_width", "changed")

    def __init__(self, rows: ReadRows, *, horizon_ms: int) -> None:
        """Open the calendar; `horizon_ms` is how far deadlines usually lie apart, and decides the width of a bucket."""
        self._rows = rows
        self._width = max(1, horizon_ms // BUCKETS)
        self._directory: dict[str, Any] = dict(rows.get(DIRECTORY) or ())
        self._days: dict[str, dict[str, int]] = {}  # rows made here, which may be changed in place
        self.changed: dict[str, Any] = {}

    def next(self) -> int | None:
        """Return the earliest deadline, or None."""
        return min((entry[0] for entry in self._directory.values()), default=None)

    def put(self, key: str, deadline: int) -> None:
        """Enter a key."""
        bucket = str(deadline // self._width)
        earliest, rows = self._directory.get(bucket, (deadline, 1))
        row = self._row(bucket, rows - 1)
        if len(row) >= ROW_KEYS and key not in row:
            rows += 1
            row = self._row(bucket, rows - 1)
        row[key] = deadline
        entry = [min(earliest, deadline), rows]
        if self._directory.get(bucket) != entry:
            self._directory[bucket] = entry
            self.changed[DIRECTORY] = self._directory

    def pop(self, until: int, *, keys_max: int) -> list[tuple[int, str]]:
        """Take out keys whose deadlines are not after `until`, earliest first, and `keys_max` at most, as (deadline, key)."""
        due: list[tuple[int, str]] = []
        for _, bucket in sorted((entry[0], bucket) for bucket, entry in self._directory.items() if entry[0] <= until):
            if len(due) >= keys_max:
                break
            due += self._pop_bucket(bucket, until, keys_max - len(due))
        return due

    # ---- inside

    def _name(self, bucket: str, row: int) -> str:
        return f"due/{bucket}/{row}~"

    def _row(self, bucket: str, row: int) -> dict[str, int]:
        """Return a row that may be changed, and note that it is."""
        name = self._name(bucket, row)
        mine = self._days.get(name)
        if mine is None:
            mine = self._days[name] = dict(self._rows.get(name) or ())
        self.changed[name] = mine
        return mine

    def _peek(self, bucket: str, row: int) -> dict[str, int]:
        name = self._name(bucket, row)
        return self._days[name] if name in self._days else (self._rows.get(name) or {})

    def _pop_bucket(self, bucket: str, until: int, keys_max: int) -> list[tuple[int, str]]:
        _, rows = self._directory[bucket]
        old = [self._peek(bucket, n) for n in range(rows)]
        found = sorted((deadline, key) for row in old for key, deadline in row.items() if deadline <= until)[:keys_max]
        taken = set(found)
        kept = [(key, deadline) for row in old for key, deadline in row.items() if (deadline, key) not in taken]
        for n in range(rows):
            part = dict(kept[n * ROW_KEYS : (n + 1) * ROW_KEYS])
            name = self._name(bucket, n)
            if part:
                if part != old[n]:
                    self._days[name] = self.changed[name] = part
            else:
                self._days[name] = {}
                self.changed[name] = None
        if kept:
            self._directory[bucket] = [min(deadline for _, deadline in kept), -(-len(kept) // ROW_KEYS)]
        else:
            del self._directory[bucket]
        self.changed[DIRECTORY] = self._directory or None
        return found
