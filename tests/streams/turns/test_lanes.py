"""Lanes: what waits, what runs and what is finished of each partition, in the order of the log."""

from __future__ import annotations

from typing import Any

from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.turns.batch import Effects
from streams.turns.lanes import FIRST_RECORDS, SMALL_RECORDS, SMALL_UNSETTLED_MAX, UNSETTLED_MAX, Chunk, Lane, Lanes
from tests.streams.turns.fakes import batch, records, table

A, B = TP("a", 0), TP("b", 0)
OTHER = TP("a", 1)


def opened(*tps: TP, size: int = 4) -> Lanes:
    """Return lanes whose first timers have fired."""
    lanes = Lanes(dict.fromkeys(tps or (A,), 0), batch_records_max=size)
    lanes.due.clear()
    return lanes


def take(lanes: Lanes, lane: Lane, *, now_ms: int = 0, now: float = 0.0) -> list[int] | None:
    """Return the offsets of the next chunk."""
    chunk, _ = lanes.next_chunk(lane, now_ms=now_ms, now=now)
    return None if chunk is None else [r.offset for r in chunk.records]


def test_records_are_cut_into_batches_in_order() -> None:
    """Fetched records wait in offset order, and each batch takes as many as it may, of several fetches too."""
    lanes = opened()
    lanes.offer(A, records(range(6), tp=A))
    lanes.offer(A, records([7, 9], tp=A))
    assert lanes.received[A] == 10
    assert [take(lanes, lanes.lanes[0]) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 7, 9], None, None]


def test_a_batch_is_as_large_as_its_lane_is_fast() -> None:
    """The first is small, cheap records come in full batches, slow ones few at a time, and none is lost or changes its place."""
    lanes = opened(size=5_000)
    lanes.offer(A, records(range(12_000), tp=A))
    lane, sizes, seen = lanes.lanes[0], [], []
    for seconds in (0.001, 1.0, 1.0, 400.0, 0.001):
        found = take(lanes, lane) or []
        lane.paced(len(found), seconds)
        sizes.append(len(found))
        seen += found
    assert sizes == [FIRST_RECORDS, 5_000, 2_500, 1_250, 1]
    while found := take(lanes, lane) or []:
        seen += found
    assert seen == list(range(12_000))
    assert lanes.waiting(A) == 0


def test_a_batch_without_records_says_nothing_about_the_pace() -> None:
    """A timer's batch may be long or short; records are what is paced."""
    lane = Lane(0)
    lane.paced(0, 60.0)
    assert lane.records_next == FIRST_RECORDS


def test_records_fetched_twice_are_taken_once() -> None:
    """What lies before the read position is dropped, whole fetches of it too."""
    lanes = opened()
    lanes.offer(A, records(range(3), tp=A))
    assert lanes.offer(A, records(range(3), tp=A)) is None
    lanes.offer(A, records(range(1, 5), tp=A))
    assert [take(lanes, lanes.lanes[0]) for _ in range(3)] == [[0, 1, 2, 3], [4], None]
    assert lanes.waiting(A) == 0


def test_a_partition_is_paused_at_two_batches_and_resumed_at_one() -> None:
    """Pausing is told once, when it changes, and `paused` names the partition meanwhile."""
    lanes = opened(A, OTHER, size=4)
    assert lanes.offer(A, records(range(7), tp=A)) is None
    assert lanes.offer(A, records([7], tp=A)) is True
    assert lanes.offer(A, records([8], tp=A)) is None
    assert lanes.paused() == {A}
    lane, changes = lanes.lanes[0], []
    while (found := lanes.next_chunk(lane, now_ms=0, now=0.0))[0] is not None:
        changes.append((lanes.waiting(A), found[1]))
    assert changes == [(5, None), (1, False), (0, None)]
    assert lanes.paused() == set()


def test_chunks_put_back_come_first_and_in_order() -> None:
    """The halves of a failed batch run each by itself, before everything that came after it, and count as waiting again."""
    lanes = opened()
    lanes.offer(A, records(range(4), tp=A))
    lanes.offer(A, records(range(4, 6), tp=A))
    lane = lanes.lanes[0]
    chunk, _ = lanes.next_chunk(lane, now_ms=0, now=0.0)
    assert chunk is not None
    lanes.put_back(lane, [Chunk(A, chunk.records[:2], alone=True), Chunk(A, chunk.records[2:], alone=True)])
    assert lanes.waiting(A) == 6
    assert [take(lanes, lane) for _ in range(4)] == [[0, 1], [2, 3], [4, 5], None]


def test_a_chunk_that_is_to_wait_holds_up_its_lane_and_no_other() -> None:
    """Until its time a retried record blocks what is behind it, so a key's order is kept; other lanes go on."""
    lanes = opened(A, OTHER)
    lanes.offer(OTHER, records([0], tp=OTHER))
    lanes.put_back(lanes.lanes[0], [Chunk(A, records([0], tp=A), attempts=1, not_before=5.0, alone=True)])
    lanes.offer(A, records([1], tp=A))
    assert take(lanes, lanes.lanes[0], now=4.9) is None
    assert take(lanes, lanes.lanes[1], now=4.9) == [0]
    assert [take(lanes, lanes.lanes[0], now=5.0) for _ in range(2)] == [[0], [1]]


def test_every_partition_has_a_timer_at_the_start() -> None:
    """A first batch without records lets a processor look for what fell due while nobody worked."""
    lanes = Lanes({A: 5, OTHER: 7}, batch_records_max=4)
    assert take(lanes, lanes.lanes[0]) == []
    assert lanes.next_due_ms() == 0


def test_a_due_timer_joins_records_that_wait_and_does_not_wait_for_them() -> None:
    """With records of its topic first in line the timer rides along, else it has a batch of its own."""
    lanes = opened(A, B)
    lanes.due[A] = 100
    lanes.offer(A, records([0], tp=A))
    assert take(lanes, lanes.lanes[0], now_ms=100) == [0]
    lanes.offer(B, records([0], tp=B))
    assert take(lanes, lanes.lanes[0], now_ms=100) == []
    assert take(lanes, lanes.lanes[0], now_ms=99) == [0]


def test_topics_with_the_same_partition_number_share_a_lane() -> None:
    """They share that partition of every table, so their batches run one after the other, and wait separately."""
    lanes = opened(A, B, OTHER)
    assert set(lanes.lanes) == {0, 1}
    lanes.offer(A, records([0], tp=A))
    lanes.offer(B, records([0, 1], tp=B))
    assert (lanes.waiting(A), lanes.waiting(B), lanes.waiting(OTHER)) == (1, 2, 0)
    lane = lanes.lanes[0]
    chunks = [lanes.next_chunk(lane, now_ms=0, now=0.0)[0] for _ in range(2)]
    assert [c.tp for c in chunks if c is not None] == [A, B]


def test_a_lane_looks_through_its_uncommitted_writes_newest_first() -> None:
    """The layers of a table are those of unsettled batches that wrote it."""
    lane, counts, other = Lane(0), table(), table("other")
    for n in range(2):
        effects = Effects(A, next_offset=n, records=1)
        effects.writes[counts] = {"k": n}
        effects.writes[other] = {}
        lane.unsettled.append(effects)
    assert lane.layers(counts) == ({"k": 1}, {"k": 0})
    assert lane.layers(other) == ()


def test_a_lane_runs_ahead_of_the_log_by_a_bounded_number_of_batches() -> None:
    """A lane is free while nothing runs and fewer than the allowed batches are uncommitted."""
    lane = Lane(0)
    lane.unsettled = [Effects(A, next_offset=n, records=SMALL_RECORDS) for n in range(UNSETTLED_MAX - 1)]
    assert lane.free()
    lane.running = batch()
    assert not lane.free()
    lane.running = None
    lane.unsettled.append(Effects(A, next_offset=9, records=1))
    assert not lane.free()
    lane.settling = 1
    assert lane.ready() == lane.unsettled[1:]


def test_of_small_batches_more_may_wait_for_the_log() -> None:
    """What comes while a kafka transaction commits joins the next one: as long as it is few records in few batches."""
    lane = Lane(0)
    lane.unsettled = [Effects(A, next_offset=n, records=1) for n in range(SMALL_UNSETTLED_MAX - 1)]
    assert lane.free()
    lane.unsettled.append(Effects(A, next_offset=99, records=1))
    assert not lane.free()
    lane.unsettled = [Effects(A, next_offset=n, records=SMALL_RECORDS // 2) for n in range(UNSETTLED_MAX)]
    assert not lane.free()


def test_a_lane_is_held_up_when_its_records_wait_for_a_commit() -> None:
    """It has as many uncommitted batches as it may, none of them is on its way, and more has come."""
    lane = Lane(0)
    lane.waiting.append(Chunk(A, records([9], tp=A)))
    assert not lane.held_up(), "it may run"
    lane.unsettled = [Effects(A, next_offset=n, records=SMALL_RECORDS) for n in range(UNSETTLED_MAX)]
    assert lane.held_up()
    lane.settling = UNSETTLED_MAX - 1
    assert lane.held_up(), "the last one is not on its way"
    lane.settling = UNSETTLED_MAX
    assert not lane.held_up(), "they are committing"
    lane.settling, lane.running = 0, batch()
    assert not lane.held_up()
    lane.running = None
    lane.waiting.clear()
    assert not lane.held_up(), "nobody waits"


def test_records_of_two_topics_do_not_share_a_batch() -> None:
    """A batch has one topic partition: what lies between two chunks of it keeps them apart."""
    lanes = opened(A, B)
    lanes.offer(A, records([0], tp=A))
    lanes.offer(B, records([0], tp=B))
    lanes.offer(A, records([1, 2], tp=A))
    assert [take(lanes, lanes.lanes[0]) for _ in range(3)] == [[0], [0], [1, 2]]


def test_the_oldest_unfinished_record_is_the_running_one() -> None:
    """The age of a lag counts from the record that runs, then from the first that waits."""
    lanes = opened()
    found = [r._replace(timestamp=100 + r.offset) for r in records(range(2), tp=A)]
    assert lanes.oldest_timestamp(A) is None
    lanes.offer(A, found[1:])
    assert lanes.oldest_timestamp(A) == 101
    lanes.lanes[0].chunk = Chunk(A, found[:1])
    assert lanes.oldest_timestamp(A) == 100


class LaneLife(RuleBasedStateMachine):
    """Whatever happens to a lane, its committed sequence is the log without a record lost, repeated or out of place."""

    @initialize(size=st.integers(1, 6))
    def start(self, size: int) -> None:
        self.lanes, self.lane = opened(A, size=size), Lane(0)
        self.lane = self.lanes.lanes[0]
        self.log: list[int] = []
        self.next = self.fetched = 0
        self.finished: list[tuple[Effects, list[int]]] = []
        self.committed: list[int] = []
        self.paused = False

    def changed(self, change: bool | None) -> None:
        if change is not None:
            assert change != self.paused
            self.paused = change

    @rule(gaps=st.lists(st.integers(1, 3), min_size=1, max_size=15), again=st.integers(0, 5))
    def fetch(self, gaps: list[int], again: int) -> None:
        found = self.log[len(self.log) - again :] if again else []
        for gap in gaps:  # offsets have gaps: control markers, compaction
            self.next += gap
            found.append(self.next)
            self.log.append(self.next)
        self.changed(self.lanes.offer(A, records(found, tp=A)))

    @precondition(lambda self: self.lane.free())
    @rule()
    def run(self) -> None:
        chunk, change = self.lanes.next_chunk(self.lane, now_ms=0, now=0.0)
        self.changed(change)
        if chunk is not None:
            self.lane.chunk, self.lane.running = chunk, batch([r.offset for r in chunk.records], tp=A)

    @precondition(lambda self: self.lane.running is not None)
    @rule()
    def succeed(self) -> None:
        chunk: Any = self.lane.chunk
        self.lane.running = self.lane.chunk = None
        effects = Effects(A, next_offset=chunk.records[-1].offset + 1, records=len(chunk.records))
        self.lane.unsettled.append(effects)
        self.finished.append((effects, [r.offset for r in chunk.records]))

    @precondition(lambda self: self.lane.running is not None)
    @rule()
    def fail(self) -> None:
        chunk: Any = self.lane.chunk
        if len(chunk.records) == 1:
            self.succeed()  # a dead letter stands in the record's place
            return
        self.lane.running = self.lane.chunk = None
        middle = len(chunk.records) // 2
        self.changed(self.lanes.put_back(self.lane, [Chunk(A, chunk.records[:middle]), Chunk(A, chunk.records[middle:])]))

    @precondition(lambda self: self.lane.settling == 0 and self.lane.unsettled)
    @rule()
    def open_turn(self) -> None:
        self.lane.settling = len(self.lane.unsettled)

    @rule(seconds=st.sampled_from([0.0, 0.5, 5.0]), count=st.integers(0, 3))
    def pace(self, seconds: float, count: int) -> None:
        self.lane.paced(count, seconds)

    @precondition(lambda self: self.lane.settling)
    @rule()
    def settle(self) -> None:
        for effects in self.lane.unsettled[: self.lane.settling]:
            mine, offsets = self.finished.pop(0)
            assert mine is effects
            self.committed += offsets
        del self.lane.unsettled[: self.lane.settling]
        self.lane.settling = 0

    @invariant()
    def the_committed_sequence_is_the_start_of_the_log(self) -> None:
        assert self.committed == self.log[: len(self.committed)]

    @invariant()
    def every_record_is_in_exactly_one_place(self) -> None:
        waiting = [r.offset for chunk in self.lane.waiting for r in chunk.records]
        running = [r.offset for r in self.lane.chunk.records] if self.lane.chunk is not None else []
        assert self.committed + [n for _, offsets in self.finished for n in offsets] + running + waiting == self.log
        assert self.lanes.waiting(A) == len(waiting)
        assert (A in self.lanes.paused()) == self.paused
        assert all(len(chunk.records) <= self.lanes.batch_records_max for chunk in self.lane.waiting)


LaneLife.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLaneLife = LaneLife.TestCase
