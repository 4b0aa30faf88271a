"""The runner: batches lane by lane, turns of what is finished, failures halved until the culprit is alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
import time_machine
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import BrokerUnavailable, CannotGoOn, ProcessorError, TopicMissing
from streams.turns import lanes
from streams.turns import runner as module
from streams.turns.batch import Batch
from streams.turns.committer import Refusal
from tests.streams.turns.fakes import Bench, records, table

A, B = TP("in", 0), TP("in", 1)
REFUSED = Refusal("offsets", "ILLEGAL_GENERATION", "moved on", fenced=True)


async def echo(batch: Batch) -> None:
    """One output a record; a value `poison` raises."""
    for record in batch.records:
        if record.value == b"poison":
            raise ValueError("poison")
        batch.send("out", key=record.key, value=b"%d" % record.offset)


class Held:
    """A processor that waits at chosen offsets until told to go on."""

    def __init__(self, *offsets: int, tp: TP = A) -> None:
        self.tp, self.gates = tp, {n: asyncio.Event() for n in offsets}
        self.at: set[int] = set()

    async def __call__(self, batch: Batch) -> None:
        for record in batch.records:
            if batch.tp == self.tp and record.offset in self.gates:
                self.at.add(record.offset)
                await self.gates[record.offset].wait()
            batch.send("out", key=record.key, value=b"%d" % record.offset)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries in milliseconds."""
    monkeypatch.setattr(module, "RETRY_BACKOFF_S", (0.001, 0.002, 0.003))


# ---- turns


async def test_one_record_on_an_idle_system_commits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else runs, so nothing is waited for: the linger does not come into it."""
    monkeypatch.setattr(module, "TURN_LINGER_S", 3600.0)
    bench = Bench(echo)
    bench.open(A, B)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.offsets() == [0])
    assert bench.committer.turns[-1].member == b"member"
    assert bench.committer.committed() == 1


async def test_batches_of_several_lanes_share_a_turn() -> None:
    """What finishes while a turn commits goes into the next one together."""
    bench = Bench(echo)
    bench.open(A, B)
    await bench.idle()
    bench.committer.hold()
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.asked == 1)
    bench.offer(records([1]))
    bench.offer(records([5], tp=B))
    await bench.until(lambda: len(bench.shell.batches) == 5)
    bench.committer.release()
    await bench.idle()
    assert [sorted((e.tp.partition, e.next_offset) for e in turn.effects) for turn in bench.committer.turns] == [
        [(0, 1)],
        [(0, 2), (1, 6)],
    ]


async def test_a_finished_batch_waits_a_moment_for_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load one kafka transaction carries what several lanes finish within the linger."""
    monkeypatch.setattr(module, "TURN_LINGER_S", 3600.0)
    work = Held(0)
    bench = Bench(work)
    bench.open(A, B)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: work.at == {0})
    bench.offer(records([5], tp=B))
    await bench.until(lambda: any(len(e) for e in [bench.runner.lanes.lanes[1].unsettled]))  # type: ignore[union-attr]
    assert bench.committer.turns == []
    work.gates[0].set()
    await bench.idle()
    assert [len(turn.effects) for turn in bench.committer.turns] == [2]


async def test_a_slow_lane_does_not_hold_up_the_others() -> None:
    """While a record takes its time, the other partitions' turns commit; when it is done, so does its own."""
    work = Held(0)
    bench = Bench(work)
    bench.open(A, B)
    await bench.idle()
    bench.offer(records([0, 1]))
    for n in range(5):
        bench.offer(records([n], tp=B))
        await bench.until(lambda n=n: bench.committer.offsets(B) == list(range(n + 1)))  # type: ignore[misc]
    assert bench.committer.offsets(A) == []
    work.gates[0].set()
    await bench.idle()
    assert bench.committer.offsets(A) == [0, 1]


async def test_the_next_batch_runs_while_the_last_one_commits() -> None:
    """A lane goes on over the uncommitted writes of its own batches, at most two of them."""
    counts = table(default=int)

    async def count(batch: Batch) -> None:
        for _ in batch.records:
            batch.view(counts)["n"] += 1

    bench = Bench(count)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    for n in range(4):
        bench.offer(records([n]))
    await bench.until(lambda: len(bench.runner.lanes.lanes[0].unsettled) == 2)  # type: ignore[union-attr]
    assert len([b for b in bench.shell.batches if b.records]) == 2
    assert counts.parts.get(0, "n") is None
    bench.committer.release()
    await bench.idle()
    assert counts.parts.get(0, "n") == 4
    assert counts.parts.offset(0) >= 0


async def test_a_turn_writes_a_key_once_however_many_batches_did() -> None:
    """Two batches of one lane in one turn give one changelog record a key: the last."""
    counts = table(default=int)

    async def count(batch: Batch) -> None:
        for _ in batch.records:
            batch.view(counts)["n"] += 1

    bench = Bench(count)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.asked == 1)
    bench.offer(records([1]))
    await bench.until(lambda: len(bench.runner.lanes.lanes[0].unsettled) == 2)  # type: ignore[union-attr]
    bench.committer.release()
    await bench.idle()
    assert [[encoded for _, encoded in turn.tables().values()] for turn in bench.committer.turns] == [
        [{b'"n"': b"1"}],
        [{b'"n"': b"2"}],
    ]
    hooks = bench.shell.observer.named("turn_committed")
    assert [(h["batches"], h["records"], h["outputs"]) for h in hooks] == [(1, 1, 1), (1, 1, 1)]
    assert bench.runner.turns == 2


# ---- failing


async def test_a_record_that_raises_is_set_aside_alone() -> None:
    """The one record that raises becomes a dead letter with bytes and reason; all others go out once, in order."""
    bench = Bench(echo, batch_records_max=40)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(100), value=lambda n: b"poison" if n == 57 else b"v"))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 100)
    assert bench.committer.offsets() == [n for n in range(100) if n != 57]
    ((value, headers),) = bench.committer.dead()
    assert value == b"poison"
    assert (headers["dl-app"], headers["dl-topic"], headers["dl-offset"], headers["dl-error"]) == (
        b"app",
        b"in",
        b"57",
        b"ValueError",
    )
    assert headers["dl-processor"] == b"worker"
    assert bench.shell.observer.named("record_dead_lettered") == [{"topic": "in", "partition": 0, "error": "ValueError"}]


async def test_the_offset_of_a_dead_letter_is_in_its_own_turn() -> None:
    """The dead letter and the offset that passes its record are committed together."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.offer(records([3], value=lambda _: b"poison"))
    await bench.idle()
    (turn,) = bench.committer.turns
    assert turn.offsets() == {A: 4}
    assert [o[0] for e in turn.effects for o in e.outputs] == ["dead"]


async def test_what_a_failed_batch_did_is_dropped() -> None:
    """Outputs, table writes and timers of a batch that raised leave no trace."""
    counts = table(default=int)

    async def count(batch: Batch) -> None:
        for record in batch.records:
            batch.view(counts)[record.offset] = 1
            batch.send("out", key=None, value=b"%d" % record.offset)
            if record.value == b"poison":
                batch.wake_at(batch.now_ms + 60_000)
                raise ValueError("poison")

    bench = Bench(count)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(4), value=lambda n: b"poison" if n == 2 else b"v"))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 4)
    assert dict(counts.parts.items(0)) == {0: 1, 1: 1, 3: 1}
    assert bench.committer.offsets() == [0, 1, 3]
    assert bench.runner.lanes is not None
    assert bench.runner.lanes.due == {}


async def test_a_retryable_error_is_tried_again_and_then_set_aside() -> None:
    """An error that may pass is retried with growing waits, in place; what does not pass becomes a dead letter."""
    tries: Counter[int] = Counter()

    async def work(batch: Batch) -> None:
        for record in batch.records:
            tries[record.offset] += 1
            if record.offset == 2 or (record.offset == 1 and tries[1] < 3):
                raise TopicMissing("elsewhere", partitions=4)
        await echo(batch)

    bench = Bench(work, batch_records_max=1)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(4)))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 4)
    assert tries == {0: 1, 1: 3, 2: 4, 3: 1}
    assert bench.committer.offsets() == [0, 1, 3]
    assert [headers["dl-error"] for _, headers in bench.committer.dead()] == [b"TopicMissing"]


async def test_a_record_waits_as_long_as_an_outage_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a server is away the record is good: it is tried until the server is back, and nothing behind it overtakes it."""
    monkeypatch.setattr(module, "OUTAGE_BACKOFF_S", 0.002)
    tries: Counter[int] = Counter()

    async def work(batch: Batch) -> None:
        for record in batch.records:
            tries[record.offset] += 1
            if record.offset == 1 and tries[1] < 9:
                raise BrokerUnavailable("nowhere:1")
        await echo(batch)

    bench = Bench(work, batch_records_max=1)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(3)))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 3)
    assert (tries[1], bench.committer.offsets(), bench.committer.dead()) == (9, [0, 1, 2], [])


async def test_an_output_that_cannot_be_written_is_the_failure_of_its_record() -> None:
    """What is found wrong when the batch is sealed isolates the record that caused it."""

    async def work(batch: Batch) -> None:
        for record in batch.records:
            batch.send("out", key=None, value="text" if record.offset == 2 else b"%d" % record.offset)  # type: ignore[arg-type]

    bench = Bench(work)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(4)))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 4)
    assert bench.committer.offsets() == [0, 1, 3]
    assert [headers["dl-error"] for _, headers in bench.committer.dead()] == [b"ProcessorError"]


async def test_whatever_a_codec_raises_is_the_failure_of_its_record() -> None:
    """A table codec of one's own may raise anything: the lane goes on, and the record is set aside."""
    counts = table()

    class Picky:
        encode_key = staticmethod(lambda key: b"%d" % key)

        @staticmethod
        def encode_value(value: Any) -> bytes:
            raise LookupError("no encoding today")

    counts.codec = Picky()

    async def work(batch: Batch) -> None:
        for record in batch.records:
            if record.offset == 1:
                batch.view(counts)[1] = "x"
        await echo(batch)

    bench = Bench(work)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(3)))
    await bench.until(lambda: bench.committer.turns != [] and bench.committer.committed() == 3)
    assert bench.committer.offsets() == [0, 2]
    assert len(bench.committer.dead()) == 1


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    poison=st.sets(st.integers(0, 59), max_size=6),
    size=st.integers(1, 15),
    seed=st.integers(0, 9),
)
def test_every_record_has_its_effect_once_and_in_order(cuts: list[int], poison: set[int], size: int, seed: int) -> None:
    """However records come and raise: good ones go out once in order, bad ones are dead letters, tables agree."""

    async def run() -> None:
        counts, chance = table(default=int), random.Random(seed)

        async def work(batch: Batch) -> None:
            for record in batch.records:
                batch.view(counts)[record.key] = record.offset
                if chance.random() < 0.1:
                    await asyncio.sleep(0)
                await echo_one(batch, record)

        async def echo_one(batch: Batch, record: Any) -> None:
            if record.value == b"poison":
                raise ValueError("poison")
            batch.send("out", key=record.key, value=b"%d" % record.offset)

        counts.codec.encode_key = lambda key: key
        bench = Bench(work, batch_records_max=size)
        bench.open(A, B)
        at = 0
        for cut in cuts:
            for tp in (A, B):
                bench.offer(records(range(at, at + cut), tp=tp, value=lambda n: b"poison" if n in poison else b"v"))
            at += cut
            await asyncio.sleep(0)
        await bench.until(
            lambda: all(
                any(tp in t.offsets() for t in bench.committer.turns) and bench.committer.committed(tp) == at for tp in (A, B)
            )
        )
        for tp in (A, B):
            good = [n for n in range(at) if n not in poison]
            assert bench.committer.offsets(tp) == good
            last = {b"k%d" % (n % 3): n for n in good}
            assert dict(counts.parts.items(tp.partition)) == last
        assert len(bench.committer.dead()) == 2 * len([n for n in poison if n < at])
        assert bench.shell.errors == []

    asyncio.run(run())


# ---- backpressure


async def test_pausing_and_resuming_is_told_in_pairs() -> None:
    """An observer hears of each pause and each resume of a partition once, in turn."""
    work = Held(0)
    bench = Bench(work, batch_records_max=2)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(8)))
    assert bench.runner.lanes is not None
    assert bench.runner.lanes.paused() == {A}
    work.gates[0].set()
    await bench.idle()
    told = [name for name, _ in bench.shell.observer.calls if name.startswith("partition_")]
    assert told == ["partition_paused", "partition_resumed"]


async def test_a_failed_batch_that_fills_its_lane_again_is_told_as_a_pause() -> None:
    """Records put back count as waiting, so a pause that they cause is told like any other."""
    work = Held(0)

    async def fail_first(batch: Batch) -> None:
        first = bool(batch.records) and len(batch) == 2 and batch.records[0].offset == 0
        await work(batch)
        if first:
            raise ValueError("once more in halves")

    bench = Bench(fail_first, batch_records_max=2)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(2)))
    await bench.until(lambda: work.at == {0})
    bench.offer(records(range(2, 5)))  # three wait: below the mark of four, until the two that fail come back
    work.gates[0].set()
    await bench.idle()
    told = [name for name, _ in bench.shell.observer.calls if name.startswith("partition_")]
    assert told == ["partition_paused", "partition_resumed"]


# ---- timers


def timers(bench: Bench) -> list[int]:
    """Return when batches without records ran."""
    return [b.now_ms for b in bench.shell.batches if not b.records]


async def test_a_timer_gets_a_batch_without_records() -> None:
    """Every partition has one at the start, later ones when asked for; effects are committed with the partition's offset."""

    async def work(batch: Batch) -> None:
        if not batch.records:
            if len(timers(bench)) == 1:
                batch.wake_at(batch.now_ms + 30)
            else:
                batch.send("out", key=None, value=b"77")

    bench = Bench(work)
    bench.open(A, at=5)
    await bench.until(lambda: bench.committer.offsets() == [77])
    first, second = timers(bench)
    assert second - first >= 30
    assert bench.committer.committed() == 5


async def test_a_timer_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no record to set aside, so the same timer fires again until its batch succeeds."""
    monkeypatch.setattr(module, "TIMER_RETRY_MS", 5)

    async def work(batch: Batch) -> None:
        if len(timers(bench)) < 3:
            raise ValueError("not yet")
        batch.send("out", key=None, value=b"1")

    bench = Bench(work)
    bench.open(A)
    await bench.until(lambda: bench.committer.offsets() == [1])
    assert len(timers(bench)) == 3
    assert bench.committer.dead() == []


async def test_a_timer_that_rode_on_a_dead_letter_still_fires() -> None:
    """A due timer may share a batch with a record that raises; setting the record aside must not set the timer aside."""

    async def work(batch: Batch) -> None:
        if batch.records and batch.records[0].value == b"poison":
            raise ValueError("poison")
        if batch.now_ms >= due_ms:
            batch.send("out", key=None, value=b"1")
        else:
            batch.wake_at(due_ms)

    due_ms = 1 << 60
    bench = Bench(work)
    with time_machine.travel(1_000_000.0, tick=False) as clock:
        due_ms = 1_000_000_500
        bench.open(A)
        await bench.idle()
        assert bench.runner.lanes is not None
        assert bench.runner.lanes.due == {A: due_ms}
        clock.shift(1.0)
        bench.offer(records([0], value=lambda _: b"poison"))
        await bench.until(lambda: bench.committer.offsets() == [1])
    assert [headers["dl-offset"] for _, headers in bench.committer.dead()] == [b"0"]


async def test_a_due_timer_does_not_wait_for_a_record_in_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a record waits to be tried again its partition's timers fire, in batches of their own."""
    monkeypatch.setattr(module, "RETRY_BACKOFF_S", (3600.0,))

    async def work(batch: Batch) -> None:
        if batch.records:
            raise BrokerUnavailable("nowhere:1")
        if len(timers(bench)) == 2:
            batch.send("out", key=None, value=b"1")

    bench = Bench(work)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: bench.runner.lanes is not None and len(bench.runner.lanes.lanes[0].waiting) == 1)
    assert bench.runner.lanes is not None
    bench.runner.lanes.due[A] = 0
    bench.runner.dispatch()
    await bench.until(lambda: bench.committer.offsets() == [1])
    assert bench.committer.committed() == 0
    timer: Any = bench.runner._timer
    assert timer.when() - asyncio.get_running_loop().time() > 1_000


async def test_the_clock_of_a_partition_moves_forward_with_every_batch() -> None:
    """Each batch's `now_ms` is later than the one before, also when the clock is corrected a little."""
    bench = Bench(echo)
    with time_machine.travel(1_000_000.0, tick=False) as clock:
        bench.open(A)
        await bench.idle()
        for n in range(3):
            bench.offer(records([n]))
            await bench.idle()
        clock.move_to(999_999.5)
        bench.offer(records([3]))
        await bench.idle()
        clock.move_to(999_000.0)
        bench.offer(records([4]))
        await bench.idle()
    assert [b.now_ms - 1_000_000_000 for b in bench.shell.batches] == [0, 1, 2, 3, 4, -1_000_000]


# ---- closing


async def test_closing_finishes_and_commits_what_runs() -> None:
    """Within its grace the running batch ends and its turn commits; what only waited is left to the next owner."""
    work = Held(0)
    bench = Bench(work, batch_records_max=1)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0, 1]))
    await bench.until(lambda: work.at == {0})
    closing = asyncio.ensure_future(bench.runner.close(10.0))
    await asyncio.sleep(0)
    assert not closing.done()
    work.gates[0].set()
    assert await closing == 0
    assert (bench.committer.offsets(), bench.committer.committed(), bench.runner.lanes) == ([0], 1, None)
    bench.offer(records([1]))
    assert len([b for b in bench.shell.batches if b.records]) == 1


async def test_closing_gives_up_what_takes_too_long() -> None:
    """Beyond the grace a batch is given up: nothing of it is committed, and its processor cannot write any more."""
    work = Held(0)
    bench = Bench(work)
    bench.open(A, B)
    await bench.idle()
    bench.offer(records([0]))
    bench.offer(records([0], tp=B))
    await bench.until(lambda: work.at == {0})
    held = next(b for b in bench.shell.batches if b.tp == A and b.records)
    assert await bench.runner.close(0.02) == 1
    assert (bench.committer.offsets(A), bench.committer.offsets(B)) == ([], [0])
    assert held.ended
    with pytest.raises(ProcessorError):
        held.send("out", key=None, value=b"late")


async def test_closing_waits_for_the_turn_that_commits() -> None:
    """A turn on its way is seen through, so that its records do not run again."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.asked == 1)
    bench.offer(records([1]))
    closing = asyncio.ensure_future(bench.runner.close(10.0))
    await asyncio.sleep(0.01)
    assert not closing.done()
    bench.committer.release()
    assert await closing == 0
    assert bench.committer.offsets() == [0, 1]


async def test_closing_what_never_opened_is_nothing() -> None:
    """A worker that leaves before its first assignment has nothing to finish."""
    assert await Bench(echo).runner.close(1.0) == 0


# ---- refusals


async def test_a_refused_turn_is_forgotten_and_told() -> None:
    """Nothing of the turn, nor of what was built on it, is kept; after opening anew every record runs again."""
    counts = table(default=int)

    async def count(batch: Batch) -> None:
        for _ in batch.records:
            batch.view(counts)["n"] += 1
        await echo(batch)

    bench = Bench(count)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    bench.committer.refusals = [REFUSED]
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.asked == 1)
    bench.offer(records([1]))
    await bench.until(lambda: len(bench.runner.lanes.lanes[0].unsettled) == 2)  # type: ignore[union-attr]
    bench.committer.release()
    await bench.until(lambda: bench.shell.refusals == [REFUSED])
    assert (bench.runner.lanes, bench.runner.member, counts.parts.size(0)) == (None, None, 0)
    observer = bench.shell.observer
    assert observer.named("turn_refused") == [{"step": "offsets", "code": "ILLEGAL_GENERATION"}]
    assert observer.named("turn_dropped") == [{"reason": "refused"}]
    bench.open(A)
    bench.offer(records([0, 1]))
    await bench.idle()
    assert (bench.committer.offsets(), counts.parts.get(0, "n"), bench.shell.errors) == ([0, 1], 2, [])


async def test_a_refusal_for_good_stops_the_worker() -> None:
    """Where trying again cannot help, the shell is told to stop, in a line that says at which step and why."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.committer.refusals = [Refusal("produce", "TOPIC_AUTHORIZATION_FAILED", "not yours", permanent=True)]
    bench.offer(records([0]))
    await bench.until(lambda: bench.shell.errors != [])
    assert "TOPIC_AUTHORIZATION_FAILED (not yours)" in str(bench.shell.errors[0])
    assert bench.shell.refusals == []
    assert bench.runner.lanes is None


async def test_a_processor_can_stop_its_worker() -> None:
    """No record is to blame: none becomes a dead letter, nothing of the batch counts, and no other batch begins."""

    async def outdated(batch: Batch) -> None:
        batch.send("out", key=None, value=b"x")
        raise CannotGoOn("state of a newer release")

    bench = Bench(outdated)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0, 1, 2]))
    await bench.until(lambda: bench.shell.errors != [])
    assert [str(error) for error in bench.shell.errors] == ["state of a newer release"]
    assert bench.committer.offsets() == []
    assert bench.runner.lanes is None


async def test_an_error_in_committing_stops_the_worker() -> None:
    """What no refusal describes (a bug, a full disk under the tables) is not swallowed."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.committer.error = RuntimeError("boom")
    bench.offer(records([0]))
    await bench.until(lambda: bench.shell.errors != [])
    assert str(bench.shell.errors[0]) == "boom"
    assert bench.runner.settling is None


async def test_a_turn_of_a_past_generation_does_not_hold_up_the_next() -> None:
    """A generation that opens while an older one's commit is still on its way commits its own turns after it."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    bench.offer(records([0]))
    await bench.until(lambda: bench.committer.asked == 1)
    bench.runner.forget()
    bench.runner.open(b"next", {A: 1})
    bench.offer(records([1]))
    await bench.until(lambda: bench.runner.lanes is not None and bool(bench.runner.lanes.lanes[0].unsettled))
    bench.committer.release()
    await bench.until(lambda: bench.committer.offsets() == [0, 1])
    assert [turn.member for turn in bench.committer.turns] == [b"member", b"next"]


async def test_at_least_once_commits_offsets_after_the_records() -> None:
    """Without kafka transactions the group's member commits; when it may not, the turn is dropped as fenced."""
    bench = Bench(echo)
    bench.committer.transactional = False
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await bench.idle()
    assert bench.shell.offsets_committed == [{A: 1}]
    bench.shell.offsets_taken = False
    bench.offer(records([1]))
    await bench.until(lambda: bench.shell.refusals != [])
    assert bench.shell.refusals[0].fenced


# ---- output topics


async def test_an_output_topic_is_checked_once() -> None:
    """The first output to a topic asks whether it exists; then it is known."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    for n in range(3):
        bench.offer(records([n]))
        await bench.idle()
    assert bench.shell.checked == [{"out"}]
    assert bench.committer.offsets() == [0, 1, 2]


async def test_a_missing_output_topic_stops_the_worker() -> None:
    """Nothing can be written there, so the worker says so and stops; nothing is committed."""
    bench = Bench(echo)
    bench.shell.unknown = TopicMissing("out", partitions=4)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: bench.shell.errors != [])
    assert isinstance(bench.shell.errors[0], TopicMissing)
    assert bench.committer.turns == []


# ---- idle partitions


async def test_offsets_move_over_trailing_markers() -> None:
    """When nothing is left to do, the position behind the last control marker is committed, once."""
    bench = Bench(echo)
    bench.open(A)
    await bench.idle()
    bench.runner.tidy({A: 0})
    assert bench.runner.settling is None
    bench.runner.tidy({A: 3})
    await bench.idle()
    bench.runner.tidy({A: 3})
    await bench.idle()
    assert [turn.offsets() for turn in bench.committer.turns] == [{A: 3}]
    bench.offer(records([0, 4]))
    await bench.idle()
    assert bench.committer.offsets() == [4]


async def test_offsets_do_not_move_over_what_waits() -> None:
    """A partition with a running batch keeps its offset."""
    work = Held(0)
    bench = Bench(work)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: work.at == {0})
    bench.runner.tidy({A: 9})
    assert bench.runner.lanes is not None
    assert bench.runner.lanes.received == {A: 1}
    work.gates[0].set()
    await bench.idle()
    assert bench.committer.committed() == 1


# ---- at once


async def prompt(batch: Batch) -> None:
    """As `echo`, and each record is told at once too."""
    for record in batch.records:
        batch.send_at_once("soon", key=record.key, value=b"%d" % record.offset)
    await echo(batch)


def told(bench: Bench) -> list[list[int]]:
    """Return the offsets that were told at once, a list for each batch."""
    return [[int(output[2] or b"") for output in outputs] for outputs in bench.shell.at_once]


async def test_what_is_sent_at_once_does_not_wait_for_the_commit() -> None:
    """It is sent when its batch has ended, once, in order, and is no part of the turn."""
    bench = Bench(prompt)
    bench.open(A)
    await bench.idle()
    bench.committer.hold()
    bench.offer(records([0, 1]))
    await bench.until(lambda: told(bench) == [[0, 1]])
    assert bench.committer.turns == []
    bench.offer(records([2]))
    await bench.until(lambda: told(bench) == [[0, 1], [2]])
    bench.committer.release()
    await bench.idle()
    assert told(bench) == [[0, 1], [2]]
    assert {output[0] for turn in bench.committer.turns for e in turn.effects for output in e.outputs} == {"out"}


async def test_a_failed_batch_tells_nothing() -> None:
    """Its halves do, each when it has ended well; of a record that is set aside nothing is told."""
    bench = Bench(prompt)
    bench.open(A)
    await bench.idle()
    bench.offer(records(range(4), value=lambda n: b"poison" if n == 2 else b"v"))
    await bench.idle()
    assert told(bench) == [[0, 1], [3]]
    assert bench.committer.offsets() == [0, 1, 3]
    assert len(bench.committer.dead()) == 1


async def test_what_cannot_be_sent_at_once_is_the_failure_of_its_record() -> None:
    """It is found when the batch is sealed, so the rest of the batch is told, and nothing of that record."""

    async def work(batch: Batch) -> None:
        for record in batch.records:
            size = 2_000 if record.offset == 1 else 1
            batch.send_at_once("soon", key=None, value=b"%d" % record.offset * size)

    bench = Bench(work)
    bench.open(A)
    await bench.idle()
    bench.offer(records([0, 1, 2]))
    await bench.idle()
    assert [[output[2] for output in outputs] for outputs in bench.shell.at_once] == [[b"0"], [b"2"]]
    assert [value for value, _ in bench.committer.dead()] == [b"v1"]


async def test_after_a_refused_turn_it_is_told_again() -> None:
    """What follows from the log is told by every run of it; at least once, and the same."""
    bench = Bench(prompt)
    bench.open(A)
    await bench.idle()
    bench.committer.refusals = [REFUSED]
    bench.offer(records([0]))
    await bench.until(lambda: bench.shell.refusals == [REFUSED])
    assert told(bench) == [[0]]
    bench.open(A)
    bench.offer(records([0]))
    await bench.idle()
    first, second = bench.shell.at_once
    assert first == second
    assert bench.committer.offsets() == [0]


async def test_a_batch_that_was_given_up_tells_nothing() -> None:
    """It ends after its partitions went: whoever has them now tells it."""
    held = Held(0)

    async def work(batch: Batch) -> None:
        batch.send_at_once("soon", key=None, value=b"0")
        await held(batch)

    bench = Bench(work)
    bench.open(A)
    await bench.until(lambda: bool(bench.shell.batches))
    bench.shell.at_once.clear()
    bench.offer(records([0]))
    await bench.until(lambda: held.at == {0})
    bench.runner.forget()
    held.gates[0].set()
    await asyncio.sleep(0.01)
    assert bench.shell.at_once == []


async def test_nothing_is_told_where_the_partitions_went_while_topics_were_asked_for() -> None:
    """The batch has ended; between that and the answer about its topics another generation may have begun."""
    bench, asked, answered = Bench(prompt), asyncio.Event(), asyncio.Event()

    async def check(topics: set[str]) -> None:
        asked.set()
        await asyncio.shield(answered.wait())

    bench.shell.check_topics = check  # type: ignore[method-assign]
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await asyncio.wait_for(asked.wait(), 10)
    bench.runner.forget()
    answered.set()
    await asyncio.sleep(0.01)
    assert bench.shell.at_once == []


async def test_the_topics_of_what_is_sent_at_once_are_checked_once() -> None:
    """One that is missing stops the worker before anything is told."""
    bench = Bench(prompt)
    bench.shell.unknown = TopicMissing("soon")
    bench.open(A)
    await bench.idle()
    bench.offer(records([0]))
    await bench.until(lambda: bench.shell.errors != [])
    assert bench.shell.at_once == []
    again = Bench(prompt)
    again.open(A)
    again.offer(records([0]))
    await again.idle()
    again.offer(records([1]))
    await again.idle()
    assert again.shell.checked == [{"out", "soon"}]


async def test_a_timer_that_only_sends_at_once_needs_no_kafka_transaction() -> None:
    """Nothing of it has to be committed: no offset, no row, no output."""
    fired: list[Batch] = []

    async def work(batch: Batch) -> None:
        fired.append(batch)
        batch.send_at_once("soon", key=None, value=b"tick")

    bench = Bench(work)
    bench.open(A)
    await bench.until(lambda: len(bench.shell.at_once) == 1)
    await bench.idle()
    assert bench.committer.asked == 0


# ---- commits that nobody waits for

PATIENCE_S = 1e9
"""Longer than any test and any machine's uptime: what commits before does not do so by time."""


def patient(*, but: TP | None = None) -> Any:
    """Return a processor for whose commits nobody waits, those of one partition excepted."""

    async def work(batch: Batch) -> None:
        await echo(batch)
        if batch.tp != but:
            batch.commit_within(PATIENCE_S)

    return work


async def ready(bench: Bench, offset: int, tp: TP = A) -> None:
    """Run a record, and let the loop go on for a while after it has ended."""
    bench.offer(records([offset], tp=tp))
    await bench.until(lambda: bench.runner.lanes is not None and bench.runner.lanes.done[tp] == offset + 1)
    await asyncio.sleep(0.01)


async def test_the_first_commit_is_at_once_and_the_next_are_apart() -> None:
    """An idle partition does not wait; what comes soon after goes together, when the time has come."""
    bench = Bench(patient())
    bench.open(A)
    bench.offer(records([0]))
    await bench.idle()
    assert bench.committer.offsets() == [0]
    await ready(bench, 1)
    await ready(bench, 2)
    assert bench.committer.asked == 1
    bench.runner._linger_over()
    await bench.idle()
    assert (bench.committer.offsets(), len(bench.committer.turns)) == ([0, 1, 2], 2)


async def test_commits_are_counted_from_the_one_before() -> None:
    """The time is what was asked for: a batch that comes later than that after the last commit commits at once."""
    bench = Bench(patient())
    bench.open(A)
    bench.offer(records([0]))
    await bench.idle()
    bench.runner._began_at -= PATIENCE_S
    await ready(bench, 1)
    assert bench.committer.offsets() == [0, 1]


async def test_a_batch_that_somebody_waits_for_takes_the_others_along() -> None:
    """The least patient one decides."""
    bench = Bench(patient(but=B))
    bench.open(A, B)
    bench.offer(records([0], tp=A))
    await bench.idle()
    await ready(bench, 1)
    assert bench.committer.offsets(A) == [0]
    bench.offer(records([0], tp=B))
    await bench.idle()
    assert (bench.committer.offsets(A), bench.committer.offsets(B)) == ([0, 1], [0])


@pytest.mark.parametrize("late", [False, True])
async def test_a_lane_that_is_held_up_commits(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """Records that cannot run before a commit do not wait for anybody's patience, whenever they come."""
    monkeypatch.setattr(lanes, "SMALL_RECORDS", 1)
    bench = Bench(patient(), batch_records_max=1)
    bench.open(A)
    bench.offer(records([0]))
    await bench.idle()
    await ready(bench, 1)
    if late:
        await ready(bench, 2)
        bench.offer(records([3]))
    else:
        bench.offer(records([2, 3]))
    await bench.until(lambda: bench.committer.offsets()[:3] == [0, 1, 2])


async def test_closing_waits_for_no_patience() -> None:
    """Who leaves commits what has ended."""
    bench = Bench(patient())
    bench.open(A)
    bench.offer(records([0]))
    await bench.idle()
    await ready(bench, 1)
    assert bench.committer.offsets() == [0]
    assert await bench.runner.close(10.0) == 0
    assert bench.committer.offsets() == [0, 1]


async def test_a_wait_that_is_over_early_leaves_no_timer() -> None:
    """What was committed before the time came does not let the next one commit too soon."""
    bench = Bench(patient(but=B))
    bench.open(A, B)
    bench.offer(records([0], tp=A))
    await bench.idle()
    await ready(bench, 1)
    assert bench.runner._linger is not None
    bench.offer(records([0], tp=B))
    await bench.idle()
    assert bench.runner._linger is None
