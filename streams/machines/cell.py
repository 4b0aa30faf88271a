"""One partition's machines: a replicated state machine whose log is the partition of commands.

What the machines answer follows from the records before and from nothing else. Their time is the records' own, which the broker
gives them as it appends them, and never a worker's clock; where a lease is due and nothing comes, a worker writes a record that
says so (`time.pass`), and the lease ends where that record lies. So every worker that reads the log comes to the same answers,
the one that is dead, frozen or replaced too, and an answer may be told before the kafka transaction commits the state it left:
whoever reads these records again, from the last committed state, finds the same. (Schneider 1990, "Implementing fault-tolerant
services using the state machine approach".)

    commands, in their order ─▶ machines ─┬─▶ answers, at once
                                          └─▶ rows and events, with the offset, in the turn's kafka transaction

The machines are in memory beside the table that keeps them. The *mark* is a word that every batch with records writes: where the
table has another than the memory, something else has happened since (a batch was dropped, another worker had the partition), and
the machines are made anew from the rows.

    table coordination    ["cell"]                  the mark, and the partition's time
                          ["locks", "r", id], ...   the rows of the lock machine, and so on for each primitive
"""

from __future__ import annotations

import secrets
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from schemas.coordination import PassTime
from streams.core.at import At
from streams.machines.answers import Answers, Writer, route_of
from streams.machines.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.codec import Codec
    from streams.machines.shells import Key, Machine, Row, Shell
    from streams.turns.batch import Batch, Record, View

__all__ = ["Cell"]

MARK: Final = ("cell",)
_NONCE: Final = secrets.token_hex(8)
_NEVER: Final = sys.maxsize
_TIME: Final = -1
"""In place of a primitive's number: a record that only says that time has passed."""

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
        self._taker[PassTime.event_type] = _TIME
        self._mark: list[Any] | None = None
        self._now_ms = 0
        self._machines: list[Machine] = [shell.load(()) for shell in shells]
        self._due = [_NEVER] * len(shells)
        self._clock = Clock(_mono_ms(), time.time_ns() // 1_000_000)
        self.loads = 0
        """How often the machines were made anew."""

    def run(self, batch: Batch, rows: View, partitions: Mapping[str, int]) -> None:
        """Carry out a batch's commands, and what was due by their time.

        Args:
            batch: The batch.
            rows: Its view of the table.
            partitions: The reply topics that are there, each with its number of partitions.

        Raises:
            SchemaError: A record is no event. The memory is as it was.
        """
        commands = self._read(batch)
        mark = rows.get(MARK)
        known, self._mark = self._mark, None  # until the batch is done: what raises leaves a memory that nobody trusts
        if known is None or known != mark:
            self._load(rows, mark)
        if commands:
            self._carry_out(commands, Answers(batch, self._writer), partitions)
            self._keep(rows)
            Cell._counter += 1
            rows[MARK] = mark = [f"{_NONCE}.{Cell._counter}", self._now_ms]
        self._mark = mark
        self._wake(batch)

    def _carry_out(self, commands: list[Command], answers: Answers, partitions: Mapping[str, int]) -> None:
        now_ms, shells, machines, due = self._now_ms, self._shells, self._machines, self._due
        earliest = min(due)
        for record, number, kind, fields in commands:
            now_ms = max(now_ms, record.timestamp)
            at = At(record.offset, 0, now_ms)
            if earliest <= now_ms:
                answers.due_by(record, now_ms)
                for n, at_ms in enumerate(due):
                    if at_ms <= now_ms:
                        shells[n].tell(machines[n].tick(at), answers, "")
                        due[n] = _next(machines[n])
                earliest = min(due)
            if number == _TIME:
                if fields["writer"] == _NONCE:
                    self._clock.came_back(record.timestamp, _mono_ms())
                continue
            answers.caused_by(record, now_ms)
            shell, machine = shells[number], machines[number]
            outcomes = shell.carry_out(machine, kind, fields, record.key, route_of(record, partitions), at)
            shell.tell(outcomes, answers, fields.get("domain", ""))
            if (next_ms := _next(machine)) != due[number]:
                due[number] = next_ms
                earliest = min(due)
        for shell, machine in zip(shells, machines, strict=True):
            if shell.finish is not None:
                shell.finish(machine, answers)
        self._now_ms = now_ms
        self._clock.read(commands[-1][0].timestamp, _mono_ms())  # not the partition's time: the broker's clock may be set back

    def _wake(self, batch: Batch) -> None:
        """See to it that time passes when something is due: come back then, and write the record that says so."""
        due_ms = min(self._due)
        if due_ms == _NEVER:
            return
        write, again_ms = self._clock.when(due_ms, _mono_ms())
        batch.wake_at(batch.now_ms + again_ms)
        if write:
            passed = self._codec.stamp(
                PassTime(writer=_NONCE, written_ms=batch.now_ms),
                id=f"{_NONCE}/{batch.partition}/{due_ms}",
                source=f"/antiphon/{batch.topic}/{batch.partition}",
                time_ms=batch.now_ms,
                cause=None,
            )
            topic, key, value, headers = self._codec.encode(passed, topic=batch.topic)
            batch.send_at_once(topic, key=key, value=value, headers=headers, partition=batch.partition)

    # ---- state

    def _read(self, batch: Batch) -> list[Command]:
        codec, taker = self._codec, self._taker
        found: list[Command] = []
        for record in batch.records:
            kind = codec.type_of(record)
            number = taker.get(kind)
            if number is not None:
                found.append((record, number, kind, codec.read(record)))
        return found

    def _keep(self, rows: View) -> None:
        """Write what has changed."""
        for shell, machine in zip(self._shells, self._machines, strict=True):
            for key, row in machine.changes().items():
                if row is not None:
                    rows[(shell.name, *key)] = row
                elif (shell.name, *key) in rows:
                    del rows[(shell.name, *key)]

    def _load(self, rows: View, mark: list[Any] | None) -> None:
        own: dict[str, list[tuple[Key, Row]]] = {shell.name: [] for shell in self._shells}
        for key, row in rows.items():
            if key[0] in own:
                own[key[0]].append((key[1:], row))
        self._machines = [shell.load(own[shell.name]) for shell in self._shells]
        self._due = [_next(machine) for machine in self._machines]
        self._now_ms = mark[1] if isinstance(mark, list) else 0  # a word without a time: rows of a release before this one
        self._clock.read(self._now_ms, _mono_ms())
        self.loads += 1


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _next(machine: Machine) -> int:
    due_ms = machine.due_ms()
    return _NEVER if due_ms is None else due_ms
