"""A partition of commands about tables for the tests of its cell: random ones of all kinds, in two domains that share it.

Run as a program it prints, as digests, what logs are answered: for another process to compare.

    tables_log.py RECORDS SEED...
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

from processors.core.transactions.lock_words import LockLimits
from processors.core.transactions.words import TableLimits
from processors.transacting import tables
from schemas.catalogue import CATALOGUE
from schemas.coordination import PassTime
from schemas.events import Event
from schemas.tables import (
    EVENTS_TOPIC,
    FEED_TOPIC,
    AskTransaction,
    CommitTransaction,
    DecideTransaction,
    EndTransaction,
    KeepTransaction,
    LockRows,
    MarkTable,
    PrepareTransaction,
    ReadRows,
    ResolveConflict,
    TablesChanged,
)
from streams.machines.answers import Writer
from streams.turns.batch import Effects, Output
from tests.processors.coordinating.commands_log import CODEC, START_MS, Worker, answers_of, by_record, kept, recorded
from tests.streams.turns.fakes import FakeRecord

LIMITS: Final = TableLimits(
    keys_max=16,
    versions_max=3,
    horizon_ms=300,
    ended_max=6,
    again_ms=200,
    fences_max=2,
    prepared_max=3,
    human_max=2,
    ask_ms=50,
    ask_ms_max=200,
    page_rows_max=2,
    recent_max=4,
    conflicts_max=2,
    value_chars_max=9,
)
"""So small that all of them are met."""
LOCK_LIMITS: Final = LockLimits(lease_ms_min=1, refused_max=3, unheard_ms=400, waiting_max=4, locks_max=6)


def added(base: Any, theirs: Any, mine: Any) -> Any:
    """Return a sum, as a merge function of counters; a value that is deleted counts nothing."""
    return (theirs or 0) + (mine or 0) - (base or 0)


SHELL: Final = tables.shell(LIMITS, LOCK_LIMITS, {"sums": added})
WRITER: Final = Writer(CODEC, SHELL.samples, EVENTS_TOPIC)
CHANGED: Final = TablesChanged.event_type


def worker(rows: Mapping[bytes, bytes] | None = None, position: int = 0) -> Worker:
    """Return a worker with the arbiter, from what is committed."""
    one = Worker(lambda: CODEC, rows, position, shells=[SHELL])
    one.cell._writer = WRITER
    return one


class Scribe:
    """Writes commands of few transactions about few rows; each is carried out before the next is written.

    Args:
        chance: What is written follows from it.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.now_ms = chance, START_MS
        self.log: list[FakeRecord] = []
        self.reader = worker()
        self.sent: list[Event] = []
        self.txns = ["t0"]

    def write(self, records: int) -> list[FakeRecord]:
        """Append so many records, and return all."""
        for _ in range(records):
            record = self._next((self.log[-1].offset if self.log else 0) + self.chance.choice([1, 1, 1, 2]))
            self.log.append(record)
            self.now_ms = max(self.now_ms, record.timestamp)
            self.reader.run([record])
            self.reader.commit()
        return self.log

    def _next(self, offset: int) -> FakeRecord:
        chance, due_ms = self.chance, self.reader.due_ms()
        now_ms = self.now_ms + chance.choice([0, 0, 0, 1, 7, 60])
        if chance.random() < 0.1:
            now_ms = self.now_ms - chance.choice([1, 50, 3_600_000])  # another broker leads, and its clock is behind
        elif due_ms is not None and chance.random() < 0.2:
            now_ms = due_ms + chance.choice([-1, 0, 0, 1, 130])
        if chance.random() < 0.08:
            return recorded(PassTime(writer="w", written_ms=1), offset, now_ms)
        if self.sent and chance.random() < 0.15:
            event = chance.choice(self.sent[-12:])
            if "again" in type(event).model_fields:
                event = event.model_copy(update={"again": True})
        else:
            event = self._command(f"t{offset}", offset)
        self.sent.append(event)
        key = b"other" if chance.random() < 0.02 else b""
        return recorded(event, offset, now_ms, call="" if chance.random() < 0.1 else f"call{offset}", key=key)

    def _command(self, new: str, offset: int) -> Event:
        chance = self.chance
        txn = new if chance.random() < 0.75 else chance.choice(self.txns[-6:])
        self.txns.append(txn)
        where: dict[str, Any] = {"domain": chance.choice("dddde"), "txn": txn}
        whose: dict[str, Any] = {**where, "owner": "other" if chance.random() < 0.04 else f"agent {txn[-1]}"}
        which = chance.random()
        if which < 0.5:
            return CommitTransaction(**whose, **self._asked(where["domain"], offset))
        if which < 0.58:
            names = chance.choice([["d", "e"], ["d", "e"], ["e"]])
            return PrepareTransaction(**whose, **self._asked(where["domain"], offset), participants=names)
        if which < 0.68:
            return DecideTransaction(**(where | self._one_of("_promised")), commit=chance.random() < 0.6, reason="so")
        if which < 0.76:
            return self._lock(whose)
        if which < 0.84:
            whom = where | self._one_of("_human")
            return ResolveConflict(**whom, owner="ann", commit=chance.random() < 0.6, reason="I looked")
        return self._question(new, offset, where, whose)

    def _question(self, new: str, offset: int, where: dict[str, Any], whose: dict[str, Any]) -> Event:
        """Return a command that writes no rows."""
        chance, domain = self.chance, where["domain"]
        kind = chance.choice(["keep", "end", "end", "ask", "mark", "read", "read"])
        if kind == "keep":
            held = where | self._one_of("locks.sessions")
            return KeepTransaction(**held, owner=f"agent {held['txn'][-1]}", lease_ms=chance.choice([50, 500]))
        if kind == "end":
            return EndTransaction(**whose, reason=chance.choice(["", "no"]))
        if kind == "ask":
            return AskTransaction(**(where | self._one_of(chance.choice(["_promised", "locks.sessions"]))))
        if kind == "mark":
            return MarkTable(domain=domain, request_id=new)
        at: dict[str, Any] = chance.choice(
            [{}, {}, {"at_position": max(0, offset - 5)}, {"at_ms": self.now_ms - 40}, {"history": True}]
        )
        after: dict[str, Any] = chance.choice([{}, {"after_table": "t", "after_key": f"{domain}/b"}])
        table = chance.choice(["", "t", "sums"])
        return ReadRows(domain=domain, request_id=new, table=table, prefix=chance.choice(["", "d/b"]), **at, **after)

    def _one_of(self, kind: str) -> dict[str, str]:
        """Return one of the transactions that wait for a decision, mostly, where there is one."""
        them = sorted(attrgetter(kind)(self.reader.cell._machines[0]))
        if not them or self.chance.random() < 0.2:
            return {}
        return dict(zip(("domain", "txn"), self.chance.choice(them), strict=True))

    def _key(self, domain: str) -> str:
        return domain + self.chance.choice(["/a", "/b", "/b/x", "/b/y", "/c", ""])

    def _asked(self, domain: str, offset: int) -> dict[str, Any]:
        """Return what a commit or a prepare asks for."""
        chance = self.chance

        def some(most: int) -> list[dict[str, Any]]:
            return [{"table": chance.choice(["t", "sums"]), "key": self._key(domain)} for _ in range(chance.randrange(most + 1))]

        policy = chance.choice(["", "", "last_writer_wins", "merge", "merge", "priority", "human", "human"])
        written = {(one["table"], one["key"]): one for one in some(3)}
        reads = [*some(2), *(dict(one) for one in written.values() if chance.random() < 0.4)]
        values = ["1", "2", "12345", None, None, "no JSON" if chance.random() < 0.3 else "7" * chance.choice([8, 8, 12])]
        return {
            "isolation": chance.choice(["read_committed", "repeatable_read", "snapshot", "serializable", "serializable"]),
            "snapshot": max(0, offset - chance.choice([0, 0, 1, 2, 3, 5, 9, -1])) if chance.random() < 0.9 else -1,
            "reads": reads if chance.random() < 0.7 else [],
            "spans": [{"table": "t", "prefix": f"{domain}/{chance.choice(['', 'b', 'b/'])}"}] if chance.random() < 0.2 else [],
            "expects": [one | {"version": chance.choice([0, offset - 3])} for one in some(1)] if chance.random() < 0.15 else [],
            "writes": [one | {"value": chance.choice(values), "policy": policy} for one in written.values()],
            "fences": [{"resource": chance.choice("pqr"), "token": chance.randrange(4)}] if chance.random() < 0.1 else [],
            "priority": chance.randrange(3),
        }

    def _lock(self, whose: dict[str, Any]) -> LockRows:
        chance, domain = self.chance, whose["domain"]
        locks: list[Any] = [
            {"table": "t", "key": self._key(domain), "mode": chance.choice(["shared", "exclusive"])}
            if chance.random() < 0.8
            else {"table": "t", "key": f"{domain}/b/", "span": True, "mode": chance.choice(["shared", "intend_exclusive"])}
            for _ in range(chance.choice([1, 1, 2]))
        ]
        return LockRows(
            **whose,
            request_id=f"{whose['txn']}.{chance.randrange(3)}",
            locks=locks,
            strategy=chance.choice(["detect", "detect", "wait_die", "wound_wait"]),
            age_ms=self.now_ms - chance.randrange(50),
            wait_ms=chance.choice([None, 0, 100]),
            lease_ms=chance.choice([50, 100, 300]),
        )


def log_of(seed: int, records: int) -> list[FakeRecord]:
    """Return a random log."""
    return Scribe(random.Random(seed)).write(records)


def is_bundle(output: Output) -> bool:
    """Whether an output is a bundle of the feed, on either topic."""
    return CATALOGUE.type_of(output[2]) == CHANGED


def said_by_record(outputs: Iterable[Output]) -> dict[int, list[Output]]:
    """Return what is said of each record, the feed excepted."""
    return by_record(output for output in outputs if not is_bundle(output))


def bundles(effects: Effects) -> list[dict[str, Any]]:
    """Return the bundles of a batch, after a look at where they went: to the feed at once, and to everybody."""
    at_once = [output for output in effects.at_once if is_bundle(output)]
    events = [output for output in effects.outputs if is_bundle(output)]
    assert [output[2] for output in at_once] == [output[2] for output in events]
    assert all((output[0], output[1], output[3]) == (FEED_TOPIC, b"0", 0) for output in at_once)
    assert all(output[0] == EVENTS_TOPIC for output in events)
    return [CATALOGUE.read(output[2]) for output in at_once]


def digest(log: Iterable[FakeRecord]) -> str:
    """Return what a log is answered, what everybody is told and what is kept, as one word."""
    one, found = worker(), hashlib.sha256()
    for record in log:
        effects = one.run([record])
        found.update(repr((answers_of(effects), effects.outputs)).encode())
    one.commit()
    found.update(repr(sorted(kept(one.rows).items())).encode())
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(" ".join(digest(log_of(int(seed), int(sys.argv[1]))) for seed in sys.argv[2:]))
