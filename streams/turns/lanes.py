"""One lane a partition number: what waits, what runs, and what has finished but is not committed.

    fetched ─▶ waiting chunks ─▶ one running batch ─▶ finished effects ─▶ kafka transaction ─▶ committed parts

A batch has as many records as the lane gets through in `BATCH_S`, going by the batch before it: cheap records go in large
batches, which cost least a record, and slow ones in small ones, so that a commit, a timer or a rebalance does not wait long.
Batches of one lane run one after another, so a key's records keep their order whatever the processor's concurrency is. Lanes do
not wait for each other: a slow record holds up its own partition, and the others' finished batches commit without it. Topics
with the same partition number share a lane because they share that partition of every table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from streams.core.backpressure import Gate

if TYPE_CHECKING:
    from faust.types import TP

    from streams.turns.batch import Batch, Effects, Record, TableLike

__all__ = ["Chunk", "Lane", "Lanes"]

UNSETTLED_MAX: Final = 2
"""Finished batches a lane may have ahead of the log: one committing, one ready. More would only lengthen what a crash repeats."""
SMALL_RECORDS: Final = 1_000
SMALL_UNSETTLED_MAX: Final = 64
"""Small batches may be more, up to that many records and batches: records that come while a kafka transaction commits run at once
and join the next one, where they would have waited for the one after it. Each look into a table goes through that many layers."""

FIRST_RECORDS: Final = 1_000
"""Records of a lane's first batch, whose pace nobody knows."""
BATCH_S: Final = 0.5
"""How long a batch is to take, waiting for other lanes' batches included: several times a kafka transaction under load, and a
sixth of the grace that a rebalance gives."""


@dataclass(slots=True)
class Chunk:
    """Consecutive records of one topic partition that wait to become a batch.

    Attributes:
        tp: Where they come from.
        records: The records, in offset order.
        attempts: How often this very chunk has failed with a retryable error.
        not_before: Event-loop time before which it is not tried again, 0 when at once.
        alone: Whether it is the part of a batch that failed, which runs without the chunks behind it.
    """

    tp: TP
    records: Sequence[Record]
    attempts: int = 0
    not_before: float = 0.0
    alone: bool = False


@dataclass(slots=True)
class Lane:
    """The state of one partition number on this worker."""

    partition: int
    waiting: deque[Chunk] = field(default_factory=deque)
    running: Batch | None = None
    chunk: Chunk | None = None
    unsettled: list[Effects] = field(default_factory=list)
    settling: int = 0
    now_ms: int = 0
    """The time of the last batch."""
    fired: int | None = None
    """The timer that the running batch carries."""
    records_next: int = FIRST_RECORDS
    """The most records of the next batch, as the last one's pace has it."""

    def free(self) -> bool:
        """Whether another batch may start."""
        if self.running is not None:
            return False
        ahead = len(self.unsettled)
        return ahead < UNSETTLED_MAX or (
            ahead < SMALL_UNSETTLED_MAX and sum(effects.records for effects in self.unsettled) < SMALL_RECORDS
        )

    def held_up(self) -> bool:
        """Whether records wait for a commit."""
        return bool(self.waiting) and self.running is None and self.settling < len(self.unsettled) and not self.free()

    def paced(self, records: int, seconds: float) -> None:
        """Note how long a batch took."""
        if records:
            self.records_next = max(1, int(BATCH_S * records / max(seconds, 1e-6)))

    def ready(self) -> list[Effects]:
        """Return the effects that no kafka transaction has taken yet, oldest first."""
        return self.unsettled[self.settling :]

    def layers(self, table: TableLike) -> tuple[dict[object, object], ...]:
        """Return the uncommitted writes to a table, newest first."""
        return tuple(writes for e in reversed(self.unsettled) if (writes := e.writes.get(table)))


class Lanes:
    """All lanes of one generation, and the read positions that go with them.

    Args:
        positions: For each topic partition, the offset of the first record to process.
        batch_records_max: The most records of one batch.
    """

    def __init__(self, positions: dict[TP, int], *, batch_records_max: int) -> None:
        self.received = dict(positions)
        """The next offset to take from the fetcher."""
        self.done = dict(positions)
        """The next offset after every finished batch."""
        self.committed = dict(positions)
        """The next offset after every committed batch."""
        self.due: dict[TP, int] = dict.fromkeys(positions, 0)
        """When a batch without records is due (epoch ms); a first one finds the timers in the tables."""
        self.lanes: dict[int, Lane] = {}
        self.batch_records_max = batch_records_max
        """The most records of a batch cut from now on."""
        self._waiting: dict[TP, int] = dict.fromkeys(positions, 0)
        self._gates = {tp: Gate(low=batch_records_max, high=2 * batch_records_max) for tp in positions}
        for tp in positions:
            self.lanes.setdefault(tp.partition, Lane(tp.partition))
        self._tps = {p: [tp for tp in positions if tp.partition == p] for p in self.lanes}

    def __iter__(self) -> Iterator[Lane]:
        return iter(self.lanes.values())

    def offer(self, tp: TP, records: Sequence[Record]) -> bool | None:
        """Take fetched records. Return whether the partition is to be paused (None: no change)."""
        at = self.received[tp]
        if records[0].offset < at:
            records = [r for r in records if r.offset >= at]
            if not records:
                return None
        self.received[tp] = records[-1].offset + 1
        size, lane = self.batch_records_max, self.lanes[tp.partition]
        for i in range(0, len(records), size):
            lane.waiting.append(Chunk(tp, records[i : i + size] if len(records) > size else records))
        return self._count(tp, len(records))

    def _count(self, tp: TP, change: int) -> bool | None:
        gate = self._gates[tp]
        before = gate.closed
        self._waiting[tp] += change
        after = gate.measure(self._waiting[tp])
        return after if after != before else None

    def paused(self) -> set[TP]:
        """Return the topic partitions that are not to be fetched now."""
        return {tp for tp, gate in self._gates.items() if gate.closed}

    def waiting(self, tp: TP) -> int:
        """Return how many records of a topic partition wait, running ones not counted."""
        return self._waiting[tp]

    def next_chunk(self, lane: Lane, *, now_ms: int, now: float) -> tuple[Chunk | None, bool | None]:
        """Return what the lane is to run now, and whether its partition's pausing changes.

        A timer that is due takes a chunk with records of its topic partition if one is first in line and may run, else an empty
        one: it does not wait for a record that is to be tried again later.
        """
        head = lane.waiting[0] if lane.waiting and lane.waiting[0].not_before <= now else None
        for tp in self._tps[lane.partition]:
            due = self.due.get(tp)
            if due is not None and due <= now_ms and not (head is not None and head.tp == tp):
                return Chunk(tp, ()), None
        if head is None:
            return None, None
        lane.waiting.popleft()
        size = min(lane.records_next, self.batch_records_max)
        if not head.alone:
            head = self._joined(lane, head, size)
        if len(head.records) > size:
            lane.waiting.appendleft(Chunk(head.tp, head.records[size:], alone=head.alone))
            head = Chunk(head.tp, head.records[:size], alone=head.alone)
        return head, self._count(head.tp, -len(head.records))

    @staticmethod
    def _joined(lane: Lane, head: Chunk, size: int) -> Chunk:
        """Return the first chunk with those of the same partition right behind it, which came by later fetches."""
        waiting, records = lane.waiting, head.records
        while waiting and len(records) < size and waiting[0].tp == head.tp and not waiting[0].alone:
            records = [*records, *waiting.popleft().records]
        return head if records is head.records else Chunk(head.tp, records)

    def put_back(self, lane: Lane, chunks: Sequence[Chunk]) -> bool | None:
        """Put chunks of one topic partition back at the head of the line, in order. Return as `offer` does."""
        lane.waiting.extendleft(reversed(chunks))
        return self._count(chunks[0].tp, sum(len(chunk.records) for chunk in chunks))

    def next_due_ms(self) -> int | None:
        """Return when the next timer is due, over lanes that could run it."""
        return min((due for tp, due in self.due.items() if self.lanes[tp.partition].free()), default=None)

    def oldest_timestamp(self, tp: TP) -> int | None:
        """Return the timestamp of the oldest record of a topic partition that is not finished, in epoch ms."""
        lane = self.lanes[tp.partition]
        if lane.chunk is not None and lane.chunk.tp == tp and lane.chunk.records:
            return lane.chunk.records[0].timestamp
        return next((c.records[0].timestamp for c in lane.waiting if c.tp == tp and c.records), None)
