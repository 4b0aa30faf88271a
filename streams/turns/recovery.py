"""Table recovery that ends where the log ends, reads in batches and goes on from what is already held.

Four faults of stock recovery are mended here, each shown by a test in `tests/e2e/test_stock_faults.py`:

* It waits for a *record* at the high watermark. In a transactional changelog the last offset is a commit marker, which no
  consumer is given. Here recovery is done when the reader's *position* has passed the log's end, and positions do pass markers
  and aborted records.
* Its target is the last stable offset, which hides a transaction that is decided but not yet marked. Here it is the
  read-uncommitted end, read read-committed, after our own predecessor's open transaction has been aborted or completed.
* It applies records one by one through Faust events (6-14 k/s). Here a fetched batch is applied as one.
* It starts from the beginning at every rebalance. Here every part knows its changelog offset, also in memory, since parts
  change by committed turns and changelog records only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

if TYPE_CHECKING:
    from streams.turns.batch import Record
    from streams.turns.stores import Parts

__all__ = ["TurnRecovery"]

RETRY_S: Final = 1.0
"""Pause before a recovery that could not reach the broker starts again."""


class TurnRecovery(Recovery):
    """Reads changelogs into parts; fed by the consumer's own loop, one fetched batch at a time."""

    reading = False
    """Whether changelog records are being read for active partitions."""
    prepared = False
    """Whether this round knows where every active changelog ends."""
    loaded_records = 0
    """How many changelog records this process has applied."""

    def _parts(self, tp: TP) -> Parts | None:
        table = self.tp_to_table.get(tp)
        return None if table is None else table.parts

    async def _build_highwaters(self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str) -> None:
        self.signal_recovery_end.clear()
        destination.clear()
        if title == "active":
            self.prepared = False
        await consumer.committer.run(consumer.committer.ready)
        ends = await consumer.lookup.ask(consumer.lookup.ends, set(tps))
        destination.clear()
        destination.update({tp: end - 1 for tp, end in ends.items()})
        for tp, end in ends.items():
            parts = self._parts(tp)
            if parts is not None and parts.offset(tp.partition) >= end:
                self.log.warning(
                    "changelog %s/%s ends at %s, before what is stored: it was made anew, so the table is read again",
                    tp.topic,
                    tp.partition,
                    end,
                )
                parts.clear(tp.partition)

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str) -> None:
        for tp in tps:
            parts = self._parts(tp)
            destination[tp] = -1 if parts is None else parts.offset(tp.partition)

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Counter[TP], title: str) -> None:
        await consumer.hold_changelogs(False)
        starts = await consumer.lookup.ask(consumer.lookup.starts, set(tps))
        if tps:
            await consumer.seek_wait({tp: max(offsets[tp] + 1, starts[tp]) for tp in tps})
        if title == "active":
            self.reading = True
            self.prepared = all(tp in self.active_highwaters for tp in tps)
            consumer.kick()

    def _behind(self, tp: TP, highwater: int) -> bool:
        return (self.app.consumer.aiokafka_position(tp) or 0) <= highwater

    def need_recovery(self) -> bool:
        """Whether the reader's position is still short of an active changelog's end."""
        highwaters = self.active_highwaters
        return any(tp not in highwaters or self._behind(tp, highwaters[tp]) for tp in self.active_tps)

    async def outgrown(self, consumer: Any) -> bool:
        """Whether an active changelog has grown past the end that this round aimed at.

        A frozen predecessor may complete a kafka transaction after we read the ends. Once committed offsets are stable for our
        generation no such transaction can be left, so asked after that the answer is final.
        """
        ends = await consumer.lookup.ask(consumer.lookup.ends, set(self.active_tps))
        return any(end - 1 > self.active_highwaters.get(tp, -1) for tp, end in ends.items())

    def loaded(self, tp: TP, records: Sequence[Record]) -> None:
        """Apply one fetched batch of changelog records."""
        parts = self._parts(tp)
        if parts is None or not (tp in self.active_tps or tp in self.standby_tps):
            return
        held = parts.offset(tp.partition)
        fresh = records if records[0].offset > held else [r for r in records if r.offset > held]
        if fresh:
            parts.load(tp.partition, fresh)
            self.loaded_records += len(fresh)
        offsets = self.active_offsets if tp in self.active_tps else self.standby_offsets
        offsets[tp] = records[-1].offset
        self.app.observer.recovery_progress(
            table=self.tp_to_table[tp].name,
            partition=tp.partition,
            done=records[-1].offset + 1,
            total=(self.active_highwaters.get(tp) or self.standby_highwaters.get(tp) or records[-1].offset) + 1,
        )

    def remaining(self) -> Iterator[tuple[TP, int, int]]:
        """Yield, for each active changelog partition, how many offsets have been passed and how many are to be."""
        position = self.app.consumer.aiokafka_position
        for tp, highwater in self.active_highwaters.items():
            if tp in self.active_tps:
                yield tp, min(position(tp) or 0, highwater + 1), highwater + 1

    def check_end(self) -> None:
        """End the reading where every position has passed its target."""
        if self.reading and not self.need_recovery():
            self.reading = False
            self._set_recovery_ended()
            self.signal_recovery_end.set()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        await self.wait_until_stopped()  # the consumer's loop loads changelogs itself

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109 Faust's signature
        """Wait without Faust's timeout: past it the service would end for good, and the worker with it, in silence.

        Our steps ask until they are answered; a rebalance or a stop still interrupts them.
        """
        await super()._wait(coro)

    def restart(self, generation_id: int) -> None:
        """Read again what the changelogs have beyond what is held, then open the gate anew."""
        self._generation_id = generation_id
        self.signal_recovery_start.set()

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Open the gate for turns when the tables are ready.

        A table is complete only when this round has learnt where every changelog ends and has read that far.
        """
        if not self.prepared or self.need_recovery():
            self.log.warning("the changelogs could not be read to their ends; starting recovery again")
            await self.sleep(RETRY_S)
            self.restart(generation_id)
            return
        await super().on_recovery_completed(generation_id)
        await self._wait(self.app.consumer.open(generation_id))

    async def _resume_streams(self, generation_id: int = 0) -> None:
        await super()._resume_streams(generation_id)
        await self._wait(self.app.consumer.open(generation_id))

    def flush_buffers(self) -> None:
        """Do nothing: nothing is buffered."""
