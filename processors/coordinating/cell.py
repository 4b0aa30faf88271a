"""One partition's machines, in memory beside the table that keeps them.

The *mark* is a word that every batch that changes something writes: where the table has another than the memory, something else
has happened since (a batch was dropped, another worker had the partition), and the machines are made anew from the rows.

    table coordination    ["cell"]                  the mark
                          ["locks", "r", id], ...   the rows of the lock machine
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from processors.coordinating import locks as lock_shell
from processors.coordinating.answers import Answers, Writer, route_of
from processors.core.coordination.at import At
from processors.core.coordination.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processors.core.coordination.lock_words import LockLimits
    from streams.codec import Codec
    from streams.turns.batch import Batch, Record, View

__all__ = ["Cell"]

MARK: Final = ("cell",)
LOCKS: Final = "locks"
_NONCE: Final = secrets.token_hex(8)

Command = tuple["Record", str, dict[str, Any]]


class Cell:
    """The machines of one partition.

    Args:
        codec: Reads commands.
        writer: Writes answers.
        limits: Of locks.
    """

    _counter = 0

    def __init__(self, codec: Codec, writer: Writer, limits: LockLimits) -> None:
        self._codec, self._writer, self._limits = codec, writer, limits
        self._mark: str | None = None
        self._locks = Locks(limits)
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
        locks, answers, now_ms = self._locks, Answers(batch, self._writer), batch.now_ms
        first = batch.records[0].offset if batch.records else batch.effects.next_offset
        lock_shell.tell(locks.tick(At(first - 1, 0, now_ms)), answers, "")
        for record, kind, fields in commands:
            answers.caused_by(record)
            outcomes = lock_shell.carry_out(
                locks, kind, fields, record.key, route_of(record, partitions), At(record.offset, 0, now_ms)
            )
            lock_shell.tell(outcomes, answers, fields["domain"])
        changed = locks.changes()
        for key, row in changed.items():
            if row is not None:
                rows[(LOCKS, *key)] = row
            elif (LOCKS, *key) in rows:
                del rows[(LOCKS, *key)]
        if changed:
            Cell._counter += 1
            rows[MARK] = mark = f"{_NONCE}.{Cell._counter}"
        self._mark = mark
        if (due := locks.due_ms()) is not None:
            batch.wake_at(max(due, now_ms + 1))

    def _read(self, batch: Batch) -> list[Command]:
        codec = self._codec
        found: list[Command] = []
        for record in batch.records:
            kind = codec.type_of(record)
            if kind in lock_shell.COMMAND_TYPES:
                found.append((record, kind, codec.read(record)))
        return found

    def _load(self, rows: View) -> None:
        self._locks = Locks.load(((key[1:], row) for key, row in rows.items() if key[0] == LOCKS), self._limits)
        self.loads += 1
