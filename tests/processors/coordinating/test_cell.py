"""Cells: what is answered follows from the log of commands, and from nothing else, whoever reads it and however often."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import CATALOGUE
from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC, AcquireLock, LockGranted, LockRefused, PassTime, RenewLock
from schemas.errors import SchemaError
from schemas.semaphores import AcquirePermits
from streams.machines import cell as module
from streams.machines.cell import Cell
from streams.machines.clock import PASS_AGAIN_MS
from streams.turns.batch import Effects, Output
from tests.processors.coordinating.commands_log import (
    START_MS,
    Worker,
    answers_of,
    by_record,
    crowd,
    digest,
    kept,
    log_of,
    passes_of,
    recorded,
)
from tests.streams.turns.fakes import FakeRecord

HOUR_MS = 3_600_000
SEEDS = st.integers(0, 1 << 30)
LOGS = st.builds(log_of, SEEDS, st.integers(1, 90))
STEPS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["keep", "commit", "refused", "takeover"])), max_size=12)
"""Batches: how many records, and what happens then. A worker that was taken over from goes on as a zombie."""


def acquire(offset: int, owner: str, ms: int = 0, **fields: Any) -> FakeRecord:
    """Return a command for a lock, `ms` after the start."""
    asked = {"domain": "d", "request_id": f"r{offset}", "resources": ["d/a"], "lease_ms": 1_000, **fields}
    return recorded(AcquireLock(owner=owner, **asked), offset, START_MS + ms, call=f"call{offset}")


def told(outputs: list[Output]) -> list[Any]:
    """Return answers as events."""
    return [CATALOGUE.decode(output[2]) for output in outputs]


def kinds(outputs: list[Output]) -> list[str]:
    """Return which events they are."""
    return [CATALOGUE.type_of(output[2]) for output in outputs]


class Runs:
    """All runs of all records, by whichever worker, as they were told."""

    def __init__(self) -> None:
        self.answers: dict[int, list[list[Output]]] = defaultdict(list)
        self.events: dict[int, list[list[Output]]] = defaultdict(list)

    def run(self, worker: Worker, records: list[FakeRecord]) -> None:
        effects = worker.run(records)
        answers, events = by_record(answers_of(effects)), by_record(effects.outputs)
        offsets = {record.offset for record in records}
        assert set(answers) | set(events) <= offsets, "a batch says what its records brought"
        for offset in offsets:
            self.answers[offset].append(answers.get(offset, []))
            self.events[offset].append(events.get(offset, []))


def reference(log: list[FakeRecord]) -> tuple[Runs, dict[bytes, Any]]:
    """Return what one worker says that takes record by record, commits each, and is never interrupted; and its rows."""
    runs, worker = Runs(), Worker()
    for record in log:
        runs.run(worker, [record])
        worker.commit()
    return runs, kept(worker.rows)


# ---- the same log, the same answers


@settings(max_examples=250)
@given(log=LOGS, steps=STEPS, seed=SEEDS)
def test_answers_do_not_depend_on_batches_crashes_and_zombies(
    log: list[FakeRecord], steps: list[tuple[int, str]], seed: int
) -> None:
    """However the log is cut, whoever is replaced and whatever a zombie still reads: each run of a record says the same."""
    wanted, rows = reference(log)
    chance, runs = random.Random(seed), Runs()

    def some_clock() -> int:
        return START_MS + chance.randrange(-HOUR_MS, HOUR_MS)

    worker, zombies = Worker(now_ms=some_clock), list[Worker]()
    for size, then in steps:
        waiting = [record for record in log if record.offset >= worker.position]
        runs.run(worker, waiting[:size])
        if then == "commit":
            worker.commit()
        elif then == "refused":
            worker.refused()
        elif then == "takeover":
            zombies.append(worker)
            worker = worker.successor(chance, some_clock)
    for zombie in zombies:
        runs.run(zombie, [record for record in log if record.offset >= zombie.position])
    runs.run(worker, [record for record in log if record.offset >= worker.position])
    worker.commit()
    for record in log:
        assert all(said == wanted.answers[record.offset][0] for said in runs.answers[record.offset])
        assert all(said == wanted.events[record.offset][0] for said in runs.events[record.offset])
    assert kept(worker.rows) == rows


@settings(max_examples=40)
@given(log=LOGS)
def test_a_machine_made_anew_for_every_record_says_the_same(log: list[FakeRecord]) -> None:
    """Nothing is remembered beside the rows: the cell is another one for each record."""
    wanted, rows = reference(log)
    chance, runs, worker = random.Random(0), Runs(), Worker()
    for record in log:
        worker = worker.successor(chance, lambda: START_MS)
        runs.run(worker, [record])
        worker.commit()
    assert (runs.answers, runs.events, kept(worker.rows)) == (wanted.answers, wanted.events, rows)


def test_another_process_answers_byte_for_byte_the_same() -> None:
    """Neither the order of a set nor anything else of a process comes into an answer, an event or a row."""
    seeds, records = range(8), 120
    program = Path(__file__).with_name("commands_log.py")
    said = []
    for hash_seed in ("1", "2", "3"):
        given = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(program.parents[3])}
        args = [sys.executable, str(program), str(records), *map(str, seeds)]
        said.append(subprocess.run(args, env=given, capture_output=True, text=True, check=True, timeout=120).stdout.split())
    assert said == [[digest(log) for log in (crowd(), *(log_of(seed, records) for seed in seeds))]] * 3


@settings(max_examples=30)
@given(log=LOGS, off_ms=st.sampled_from([-5 * HOUR_MS, -1_000, 1_000, 5 * HOUR_MS]))
def test_a_workers_clock_decides_nothing(log: list[FakeRecord], off_ms: int) -> None:
    """Hours ahead or behind, also of itself from one batch to the next: the answers and the rows are the same."""
    wanted, rows = reference(log)
    runs, right_ns, number = Runs(), time.time_ns, 0

    def wrong_ms() -> int:
        nonlocal number
        number += 1
        return START_MS + (off_ms if number % 3 else -off_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: right_ns() + off_ms * 1_000_000)
        patch.setattr(time, "time", lambda: (right_ns() + off_ms * 1_000_000) / 1e9)
        worker = Worker(now_ms=wrong_ms)
        for at in range(0, len(log), 7):
            runs.run(worker, log[at : at + 7])
            worker.commit()
    assert (runs.answers, runs.events, kept(worker.rows)) == (wanted.answers, wanted.events, rows)


@settings(max_examples=50)
@given(log=LOGS)
def test_what_is_due_is_done_when_its_time_is_there(log: list[FakeRecord]) -> None:
    """After a record that only brings the time nothing is due any more: such records end, they do not call for more."""
    worker = Worker()
    worker.run(log)
    for _ in range(100):
        due_ms = worker.due_ms()
        if due_ms is None or due_ms > START_MS + HOUR_MS:
            break
        now_ms = max(due_ms, worker.cell._now_ms)
        worker.run([recorded(PassTime(writer="w", written_ms=0), worker.position, due_ms)])
        after_ms = worker.due_ms()
        assert after_ms is None or after_ms > now_ms
    else:
        pytest.fail("something is due again and again")


# ---- the partition's time


def test_a_lease_lasts_as_long_as_the_log_says() -> None:
    """A lock is free for the record at its lease's end and not for the one a millisecond before, however late both are read."""
    for ms, answer in ((999, "lock.refused"), (1_000, "lock.granted")):
        worker = Worker(now_ms=lambda: START_MS + HOUR_MS)
        worker.run([acquire(0, "ann")])
        effects = worker.run([acquire(1, "bob", ms, wait_ms=0)])
        assert kinds(answers_of(effects))[-1] == answer


def test_renewals_in_the_log_keep_a_lease_through_an_outage() -> None:
    """Nobody read the log for a minute: what was renewed in it in time is held at its end."""
    ms = range(900, 60_000, 900)
    renewals = [
        recorded(RenewLock(domain="d", grant="r0", owner="ann"), n, START_MS + at, call=f"c{n}") for n, at in enumerate(ms, 1)
    ]
    first = Worker()
    first.run([acquire(0, "ann")])
    first.commit()
    late = first.successor(random.Random(0), lambda: START_MS + HOUR_MS)
    effects = late.run([*renewals, acquire(99, "bob", 60_000, wait_ms=0)])
    assert kinds(answers_of(effects)) == ["lock.renewed"] * len(renewals) + ["lock.refused"]


def test_time_does_not_go_back() -> None:
    """A record of a broker whose clock is behind ends no lease later: its time is that of the record before it."""
    worker = Worker()
    granted = worker.run([acquire(0, "ann", 5_000), acquire(1, "bob", 0, resources=["d/b"])])
    expires = [event.expires_ms for event in told(answers_of(granted))]
    assert expires == [START_MS + 6_000] * 2


def test_time_is_kept_with_the_rows() -> None:
    """Whoever takes over goes on from the time that was reached, also where the next record's is before it."""
    first = Worker()
    first.run([acquire(0, "ann", 5_000)])
    first.commit()
    later = first.successor(random.Random(0), lambda: START_MS)
    (granted,) = told(answers_of(later.run([acquire(1, "bob", 0, resources=["d/b"])])))
    assert granted.expires_ms == START_MS + 6_000


def test_a_record_that_only_brings_time_keeps_it() -> None:
    """It changes no machine, and a successor knows of it all the same."""
    first = Worker()
    first.run([recorded(PassTime(writer="w", written_ms=0), 0, START_MS + 5_000)])
    first.commit()
    later = first.successor(random.Random(0), lambda: START_MS)
    (granted,) = told(answers_of(later.run([acquire(1, "bob")])))
    assert granted.expires_ms == START_MS + 6_000


def test_what_is_due_comes_before_the_command_that_brings_the_time() -> None:
    """All primitives are looked at, in their order, before the command is; ids say which record brought the time."""
    worker = Worker()
    permits = AcquirePermits(domain="d", request_id="p", owner="ann", name="d/s", capacity=1, lease_ms=800)
    worker.run([acquire(0, "ann"), recorded(permits, 1, START_MS), acquire(2, "bob")])
    effects = worker.run([acquire(7, "cid", 1_000, resources=["d/b"])])
    assert kinds(effects.outputs) == ["lock.expired", "lock.granted", "semaphore.expired", "lock.granted"]
    ids = [dict(output[4] or ())["ce_id"].decode() for output in effects.outputs]
    assert ids == [f"coordination.commands/0/{n}" for n in ("t7/1", "t7/2", "t7/3", "7/1")]


# ---- where it goes


def test_answers_go_at_once_and_events_with_the_turn() -> None:
    """Who asked is told on its partition with its request id, before the commit; everybody is told the same bytes with it."""
    effects = Worker().run([acquire(5, "ann")])
    (answer,), (event,) = answers_of(effects), effects.outputs
    assert (answer[0], answer[3], event[0], event[3]) == ("me.replies", 1, EVENTS_TOPIC, -1)
    assert answer[1:3] == event[1:3]
    assert answer[4] == [*(event[4] or ()), ("request-id", b"call5")]
    (granted,) = told([answer])
    assert isinstance(granted, LockGranted)


def test_a_repeated_answer_makes_no_event() -> None:
    """Who asks again hears the same grant; nothing has happened, so nobody else hears of it."""
    worker = Worker()
    first = worker.run([acquire(0, "ann")])
    again = worker.run([acquire(1, "ann", request_id="r0", again=True)])
    assert told(answers_of(again)) == told(answers_of(first))
    assert (len(first.outputs), again.outputs) == (1, [])


def test_a_reply_topic_that_is_not_there_gets_nothing() -> None:
    """The command is carried out all the same, and everybody is told."""
    record = recorded(
        AcquireLock(domain="d", request_id="r", owner="ann", resources=["d/a"]), 0, START_MS, call="c", to="gone.replies"
    )
    effects = Worker().run([record])
    assert (answers_of(effects), kinds(effects.outputs)) == ([], ["lock.granted"])


# ---- helping time on


class Passing:
    """A worker whose monotonic and wall clocks are the broker's, until told otherwise."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ms = 0
        patch.setattr(module, "_mono_ms", lambda: self.ms)
        patch.setattr(time, "time_ns", lambda: (START_MS + self.ms) * 1_000_000)
        self.worker = Worker(now_ms=lambda: START_MS + self.ms)

    def at(self, ms: int, *records: FakeRecord) -> list[PassTime]:
        """Return the records that let time pass which a batch at this time writes."""
        self.ms = ms
        effects = self.worker.run(records)
        assert effects.outputs == [] or records, "nothing happens without a record"
        return [CATALOGUE.decode(output[2]) for output in passes_of(effects)]  # type: ignore[misc]

    def woken(self) -> int:
        """Return when the worker wants to come back."""
        assert self.worker.woken_at is not None
        return self.worker.woken_at - START_MS


def test_time_is_helped_on_once_when_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record to its own partition when the lease is over, again only when it has not come back for half a second."""
    passing = Passing(monkeypatch)
    assert passing.at(0, acquire(0, "ann")) == []
    assert passing.woken() == 1_001
    assert passing.at(500) == []
    assert passing.woken() == 1_001
    assert passing.at(1_000) == []
    (passed,) = passing.at(1_001)
    assert passed.written_ms == START_MS + 1_001
    assert passing.woken() == 1_001 + PASS_AGAIN_MS
    assert passing.at(1_002) == []
    assert passing.at(1_000 + PASS_AGAIN_MS) == []
    assert len(passing.at(1_001 + PASS_AGAIN_MS)) == 1, "the first may be lost"
    back = recorded(passed, 1, START_MS + 1_003)
    assert passing.at(1_600, back) == []
    assert passing.worker.woken_at is None
    assert passing.at(9_000) == []


def test_the_record_goes_to_the_partition_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no answer: it goes to the commands topic, on the batch's own partition, and the lease ends where it lies."""
    passing = Passing(monkeypatch)
    passing.at(0, acquire(0, "ann"))
    passing.ms = 1_001
    (output,) = passes_of(passing.worker.run([]))
    assert (output[0], output[3]) == (COMMANDS_TOPIC, 0)
    assert output[1]
    effects = passing.worker.run(
        [FakeRecord(1, output[2], output[1], COMMANDS_TOPIC, 0, START_MS + 1_001, tuple(output[4] or ()))]
    )
    assert kinds(effects.outputs) == ["lock.expired"]


def test_time_is_left_alone_while_nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition without leases writes nothing and asks for no timer."""
    passing = Passing(monkeypatch)
    assert passing.at(0) == []
    assert passing.at(HOUR_MS, recorded(RenewLock(domain="d", grant="none", owner="ann"), 0, START_MS, call="c")) == []
    assert passing.worker.woken_at is None


def test_a_command_that_brings_the_time_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes by itself after the lease's end makes the record needless."""
    passing = Passing(monkeypatch)
    passing.at(0, acquire(0, "ann"))
    assert passing.at(1_001, acquire(1, "bob", 1_001, resources=["d/b"], lease_ms=50_000)) == []
    assert passing.woken() == 51_002


def test_the_record_of_another_worker_brings_the_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whoever was replaced, for one; only its time counts, and one that comes early ends nothing."""
    passing = Passing(monkeypatch)
    passing.at(0, acquire(0, "ann"))
    early = recorded(PassTime(writer="another", written_ms=START_MS + 5_000), 1, START_MS + 999)
    assert kinds(passing.worker.run([early]).outputs) == []
    late = recorded(PassTime(writer="another", written_ms=0), 2, START_MS + 1_000)
    assert kinds(passing.worker.run([late]).outputs) == ["lock.expired"]


def test_a_successor_helps_time_on_for_what_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that ran when the worker died ends, though no command comes any more."""
    passing = Passing(monkeypatch)
    passing.at(0, acquire(0, "ann"))
    passing.worker.commit()
    passing.ms = 5_000
    passing.worker = passing.worker.successor(random.Random(0), lambda: START_MS + passing.ms)
    assert len(passing.at(5_000)) == 1


# ---- memory and rows


def grants(effects: Effects) -> list[tuple[str, int]]:
    """Return owners and tokens of what was granted."""
    return [(event.owner, event.tokens[0]) for event in told(answers_of(effects)) if isinstance(event, LockGranted)]


def test_the_memory_is_used_as_long_as_it_is_what_the_rows_say() -> None:
    """Rows are read once; batches on top of uncommitted ones, and after a commit, use what is in memory."""
    worker = Worker()
    for n in range(3):
        worker.run([acquire(n, "ann", resources=[f"d/{n}"])])
    worker.commit()
    worker.run([])
    worker.run([acquire(3, "ann", resources=["d/3"])])
    assert worker.cell.loads == 1


def test_a_refused_turn_leaves_no_memory() -> None:
    """What was run and not committed has not happened here: another one may have written the log's next rows."""
    worker = Worker()
    worker.run([acquire(0, "ann")])
    worker.refused()
    assert grants(worker.run([acquire(0, "ann"), acquire(1, "bob", wait_ms=0)])) == [("ann", 1)]
    assert worker.cell.loads == 2


def test_a_worker_that_gets_its_partition_back_reads_what_another_one_wrote() -> None:
    """The rows have another mark than its memory."""
    worker = Worker()
    worker.run([acquire(0, "ann")])
    worker.commit()
    other = worker.successor(random.Random(0), lambda: START_MS)
    other.run([acquire(1, "bob", 1_000)])
    other.commit()
    worker.table, worker.committed, worker.position = other.table, other.committed, other.position
    (refused,) = told(answers_of(worker.run([acquire(2, "ann", 1_000, wait_ms=0)])))
    assert isinstance(refused, LockRefused)
    assert (refused.code, worker.cell.loads) == ("busy", 2)


def test_a_record_that_is_no_event_leaves_the_memory_as_it_is() -> None:
    """The batch fails before anything is done; the records around it run again and say what they would have said."""
    worker = Worker()
    worker.run([acquire(0, "ann")])
    bad = FakeRecord(2, b"not an event", b"d", COMMANDS_TOPIC, 0, START_MS)
    with pytest.raises(SchemaError, match=r"coordination\.commands"):
        worker.run([acquire(1, "bob"), bad])
    assert kinds(answers_of(worker.run([acquire(1, "bob")]))) == ["lock.queued"]
    assert worker.cell.loads == 1


def test_a_batch_that_fails_half_done_leaves_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that raises may have changed something before: it is made anew from the rows."""
    worker = Worker()
    worker.run([acquire(0, "ann", resources=["d/b"])])
    keep, broken = Cell._keep, [True]

    def fail_once(self: Cell, rows: Any) -> None:
        if broken.pop() if broken else False:
            raise RuntimeError("boom")
        keep(self, rows)

    monkeypatch.setattr(Cell, "_keep", fail_once)
    with pytest.raises(RuntimeError, match="boom"):
        worker.run([acquire(1, "ann")])
    assert grants(worker.run([acquire(2, "bob")])) == [("bob", 2 << 20)]
    assert worker.cell.loads == 2


def test_rows_of_a_release_without_a_time_are_taken_over() -> None:
    """Its mark was a word: the time begins with the first record, and what it held is held."""
    first = Worker()
    first.run([acquire(0, "ann")])
    first.commit()
    mark = first.table.codec.encode_key(module.MARK)
    first.rows[mark] = b'"4f6a.17"'
    later = first.successor(random.Random(0), lambda: START_MS)
    assert kinds(answers_of(later.run([acquire(1, "bob", 5, wait_ms=0)]))) == ["lock.refused"]
    *_, granted = told(answers_of(later.run([acquire(2, "bob", 1_000)])))
    assert granted.expires_ms == START_MS + 2_000
