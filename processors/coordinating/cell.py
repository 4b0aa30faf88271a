"""One partition's machines, in memory beside the table that keeps them.

The *mark* is a word that every batch that changes something writes: where the table has another than the memory, something else
has happened since (a batch was dropped, another worker had the partition), and the machines are made anew from the rows.

    table coordination    ["cell"]                  the mark
                          ["locks", "r", id], ...   the rows of the lock machine, and so on for each primitive
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from processors.coordinating.answers import Answers, Writer, route_of
from processors.core.coordination.at import At

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processors.coordinating.shells import Key, Machine, Row, Shell
    from streams.codec import Codec
    from streams.turns.batch import Batch, Record, View

__all__ = ["Cell"]

MARK: Final = ("cell",)
_NONCE: Final = secrets.token_hex(8)

Command = tuple["Record", int, str, dict[str, Any]]
"""The record, the number of its primitive, its type and its fields."""


class Cell:
    """The machines of one partition.

    Args:
        codec: Reads commands.
        writer: Writes answers.
        shells: The primitives.
    """

    _counter = 0

    def __init__(self, codec: Codec, writer: Writer, shells: Sequence[Shell]) -> None:
        self._codec, self._writer, self._shells = codec, writer, shells
        self._taker = {kind: number for number, shell in enumerate(shells) for kind in shell.commands}
        self._mark: str | None = None
        self._machines: list[Machine] = [shell.load(()) for shell in shells]
        self.loads = 0
        """How often the machines were made anew."""

    def run(self, batch: Batch, rows: View, partitions: Mapping[str, int]) -> None:
        """Carry out a batch's commands, and what time has brought.

        Args:
            batch: The batch.
            rows: Its view of the table.
            partitions: The reply topics that are there, each with its number of partitions.

        Raises:
            SchemaError: A record is no event. The memory is as it was.
        """
        commands = self._read(batch)
        mark = rows.get(MARK, "")
        known, self._mark = self._mark, None  # until the batch is done: what raises leaves a memory that nobody trusts
        if known != mark:
            self._load(rows)
        answers, now_ms, shells, machines = Answers(batch, self._writer), batch.now_ms, self._shells, self._machines
        first = batch.records[0].offset if batch.records else batch.effects.next_offset
        for shell, machine in zip(shells, machines, strict=True):
            shell.tell(machine.tick(At(first - 1, 0, now_ms)), answers, "")
        for record, number, kind, fields in commands:
            answers.caused_by(record)
            shell, at = shells[number], At(record.offset, 0, now_ms)
            outcomes = shell.carry_out(machines[number], kind, fields, record.key, route_of(record, partitions), at)
            shell.tell(outcomes, answers, fields["domain"])
        if self._keep(rows):
            Cell._counter += 1
            rows[MARK] = mark = f"{_NONCE}.{Cell._counter}"
        self._mark = mark
        if due := [ms for machine in machines if (ms := machine.due_ms()) is not None]:
            batch.wake_at(max(min(due), now_ms + 1))

    def _read(self, batch: Batch) -> list[Command]:
        codec, taker = self._codec, self._taker
        found: list[Command] = []
        for record in batch.records:
            kind = codec.type_of(record)
            number = taker.get(kind)
            if number is not None:
                found.append((record, number, kind, codec.read(record)))
        return found

    def _keep(self, rows: View) -> bool:
        """Write what has changed, and return whether something has."""
        changed = False
        for shell, machine in zip(self._shells, self._machines, strict=True):
            for key, row in machine.changes().items():
                changed = True
                if row is not None:
                    rows[(shell.name, *key)] = row
                elif (shell.name, *key) in rows:
                    del rows[(shell.name, *key)]
        return changed

    def _load(self, rows: View) -> None:
        own: dict[str, list[tuple[Key, Row]]] = {shell.name: [] for shell in self._shells}
        for key, row in rows.items():
            if key[0] in own:
                own[key[0]].append((key[1:], row))
        self._machines = [shell.load(own[shell.name]) for shell in self._shells]
        self.loads += 1
