"""A tiny database of lists with the usual levels, and with bugs: what its clients record is judged."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import orjson

from processors.core.verify.transactions import Transaction, read_transactions

KEYS = ("d/a", "d/b", "d/c", "e/a")
BUGS = (
    "dirty_read",
    "lost_write",
    "stale_read",
    "no_validation",
    "no_span_validation",
    "half_visible",
    "aborted_visible",
    "fork",
)


@dataclass
class Database:
    """Versions by key: position and list.

    Attributes:
        level: What commits are checked for.
        bug: One of `BUGS`, or empty.
        chance: Of the bug, and of everything else.
    """

    level: str
    chance: random.Random
    bug: str = ""
    position: int = 0
    versions: dict[str, list[tuple[int, tuple[int, ...]]]] = field(default_factory=dict)

    def read(self, key: str, snapshot: int) -> tuple[int, ...]:
        """Return a list as of a snapshot."""
        found = [values for position, values in self.versions.get(key, []) if position <= snapshot]
        return found[-1] if found else ()

    def newest(self, key: str) -> int:
        """Return when a list was last appended to."""
        return self.versions.get(key, [(0, ())])[-1][0]


@dataclass
class Client:
    """One transaction after the other."""

    name: str
    database: Database
    snapshot: int = 0
    ops: list[list[Any]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    spans: set[str] = field(default_factory=set)
    own: dict[str, list[int]] = field(default_factory=dict)
    count: int = 0


def simulate(level: str, bug: str, seed: int, *, clients: int = 4, steps: int = 160) -> tuple[Transaction, ...]:
    """Return the history of some clients that work side by side."""
    chance = random.Random(seed)
    database = Database(level, chance, bug)
    everybody = [Client(f"c{number}", database) for number in range(clients)]
    lines: list[dict[str, Any]] = []
    value = 0
    for now in range(steps):
        client = chance.choice(everybody)
        if not client.ops:
            client.snapshot = database.position
            client.count += 1
        what = chance.random()
        if what < 0.35:
            value += 1
            _append(client, chance.choice(KEYS), value)
        elif what < 0.65:
            _read(client, chance.choice(KEYS))
        elif what < 0.75:
            _scan(client, chance.choice(["d/", "e/"]))
        elif client.ops:
            lines.append(_commit(client, now))
    for number, client in enumerate(everybody):
        if client.ops:
            lines.append(_commit(client, steps + number))
    last = Client("last", database, snapshot=database.position, count=1)
    for key in KEYS:
        _read(last, key)
    lines.append(_commit(last, steps + clients))
    return read_transactions([("simulated", [orjson.dumps(line) for line in lines])])


def _snapshot(client: Client) -> int:
    database = client.database
    if database.level == "read_committed":
        return database.position
    if database.bug == "stale_read" and database.chance.random() < 0.3:
        return max(0, client.snapshot - 2)
    return client.snapshot


def _seen(client: Client, key: str) -> tuple[int, ...]:
    database = client.database
    base = database.read(key, _snapshot(client))
    if database.bug == "half_visible" and database.chance.random() < 0.4:
        base = database.read(key, database.position)
    return (*base, *client.own.get(key, []))


def _append(client: Client, key: str, value: int) -> None:
    client.own.setdefault(key, []).append(value)
    client.ops.append(["append", key, value])
    if client.database.bug == "dirty_read" and client.database.chance.random() < 0.5:  # everybody sees it at once
        _write(client.database, key, [value])
        client.own[key].remove(value)
        if not client.own[key]:
            del client.own[key]


def _read(client: Client, key: str) -> None:
    if client.database.bug != "half_visible":
        client.reads.add(key)
    client.ops.append(["read", key, list(_seen(client, key))])


def _scan(client: Client, prefix: str) -> None:
    client.spans.add(prefix)
    found = {key: list(values) for key in KEYS if key.startswith(prefix) and (values := _seen(client, key))}
    client.reads.update(found)
    client.ops.append(["scan", prefix, found])


def _write(database: Database, key: str, values: list[int]) -> None:
    database.position += 1
    before = database.versions.setdefault(key, [(0, ())])[-1][1]
    if database.bug == "fork" and len(before) > 1 and database.chance.random() < 0.3:
        before = (*before[:-2], before[-1], before[-2])
    database.versions[key].append((database.position, (*before, *values)))


def _valid(client: Client) -> bool:
    database, level = client.database, client.database.level
    if database.bug == "no_validation":
        return True

    def changed(key: str) -> bool:
        return database.newest(key) > client.snapshot

    if level in ("repeatable_read", "serializable") and any(changed(key) for key in client.reads):
        return False
    if level == "serializable" and database.bug != "no_span_validation":
        return not any(changed(key) for prefix in client.spans for key in KEYS if key.startswith(prefix))
    return level != "snapshot" or not any(changed(key) for key in client.own)


def _commit(client: Client, now: int) -> dict[str, Any]:
    database = client.database
    committed = _valid(client) and database.chance.random() < 0.95
    if committed or (database.bug == "aborted_visible" and database.chance.random() < 0.5):
        merged = {
            key: values for key, values in client.own.items() if database.bug != "lost_write" or database.chance.random() < 0.7
        }
        position = database.position + 1
        for key, values in merged.items():
            _write(database, key, values)
        database.position = max(database.position, position) if merged else database.position
        for key in merged:  # one commit has one position, so nobody sees half of it
            database.versions[key][-1] = (database.position, database.versions[key][-1][1])
    line = {
        "txn": f"{client.name}-{client.count}",
        "process": client.name,
        "invoked_ns": now * 10,
        "ended_ns": now * 10 + 5,
        "outcome": "committed" if committed else "aborted",
        "ops": client.ops,
    }
    client.ops, client.reads, client.spans, client.own = [], set(), set(), {}
    return line
