"""A machine beside one that is loaded from its rows before every command: both have to do the same, and to write the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from streams.core.at import At


class Store:
    """A table: what `changes` says, through JSON."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}

    def take(self, changes: dict[Any, Any]) -> None:
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = json.loads(json.dumps(row))


class Twin:
    """Carries out commands a millisecond and an offset apart, unless told otherwise.

    Args:
        load: Makes the machine from rows.
        loads: Whether the second machine is loaded before every command.
    """

    def __init__(self, load: Callable[[Iterable[tuple[Any, Any]]], Any], *, loads: bool = True) -> None:
        self.load, self.loads = load, loads
        self.machine = load(())
        self.store = Store()
        self.offset, self.now_ms = -1, 1_000_000

    def do(self, method: str, *args: Any, command: bool = True, **kwargs: Any) -> list[Any]:
        self.offset += command
        at = At(self.offset, 0, self.now_ms)
        loaded = self.load(self.store.rows.items()) if self.loads else None
        outcomes: list[Any] = getattr(self.machine, method)(*args, at, **kwargs)
        changes = self.machine.changes()
        if loaded is not None:
            assert getattr(loaded, method)(*args, at, **kwargs) == outcomes
            assert loaded.due_ms() == self.machine.due_ms()
            assert json.dumps(sorted(changes.items())) == json.dumps(sorted(loaded.changes().items()))
        self.store.take(changes)
        return outcomes

    def tick(self, ms: int = 0) -> list[Any]:
        self.now_ms += ms
        due = self.machine.due_ms()
        outcomes = self.do("tick", command=False)
        assert bool(outcomes) <= (due is not None and due <= self.now_ms)
        return outcomes
