"""Runs batches lane by lane and gathers the finished ones into turns.

    dispatch ─▶ batch runs ─▶ sealed effects ──┐
       ▲                                       ├─▶ kafka transaction (one at a time) ─▶ applied to the tables
       └── a failed batch: halves, one record, dead letter

A turn takes every batch that is finished when the committer is free. While other lanes still run it waits for them a moment
(`TURN_LINGER_S`), so that under load one kafka transaction carries many batches; an idle system commits at once.

The runner knows neither Faust nor Kafka's consumer: it is given positions and records, and told when to open and close.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from faust.types import TP

from streams.core.deadletters import ERROR, dead_letter_headers
from streams.errors import AntiphonError, CannotGoOn, ProcessorError
from streams.turns.batch import Batch, Effects
from streams.turns.committer import Refusal, Turn
from streams.turns.lanes import Chunk, Lane, Lanes

if TYPE_CHECKING:
    from streams.observer import Observer
    from streams.turns.batch import Output, Record
    from streams.turns.committer import Committer

__all__ = ["Runner", "Shell"]

log = logging.getLogger(__name__)

TURN_LINGER_S: Final = 0.02
"""How long a finished batch waits for batches still running: the length of about two kafka transactions under load."""
RETRY_BACKOFF_S: Final = (0.1, 0.4, 1.6)
"""Waits before a record that failed with a retryable error is tried again; after the last it is a dead letter."""
OUTAGE_BACKOFF_S: Final = 5.0
"""The same where a server is away (`fault == "broker"`), after the waits above: the record is good, so it waits as long as the
outage lasts."""
CLOCK_BACK_MS: Final = 1_000
"""A clock set back by less than this does not take a partition's time back: it creeps on until the clock has caught up."""
TIMER_RETRY_MS: Final = 1_000
"""When a batch without records fails there is no record to set aside: it is tried again after this."""


class Shell(Protocol):
    """What the runner needs from the consumer around it."""

    app_id: str
    dead_letter_topic: str
    batch_records_max: int
    record_bytes_max: int

    @property
    def codec(self) -> Any:
        """The codec of typed events."""

    @property
    def observer(self) -> Observer:
        """Who is told what happens."""

    async def deliver(self, batch: Batch) -> int:
        """Hand a batch to its processors; return how many there are."""

    def send_at_once(self, outputs: list[Output]) -> None:
        """Send records that do not wait for the turn."""

    async def commit_offsets(self, offsets: dict[TP, int]) -> bool:
        """Commit offsets through the group's member (at-least-once only)."""

    async def check_topics(self, topics: set[str]) -> None:
        """Raise where an output topic does not exist and is not to be made."""

    async def refused(self, refusal: Refusal) -> None:
        """Rewind: the turn is not visible, or not known to be."""

    async def broken(self, error: BaseException) -> None:
        """Stop the worker: going on cannot work."""


class Runner:
    """The turns of one worker.

    Args:
        shell: The consumer around it.
        committer: Makes turns visible.
    """

    def __init__(self, shell: Shell, committer: Committer) -> None:
        self._shell, self._committer = shell, committer
        self.lanes: Lanes | None = None
        self.member: bytes | None = None
        self.accepting = False
        self.settling: asyncio.Task[None] | None = None
        self.turns = 0
        self._began_at = -math.inf
        """When the last kafka transaction began."""
        self._epoch = 0
        self._delivering: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self._known_topics: set[str] = set()

    # ---- opening and closing

    def open(self, member: bytes, positions: dict[TP, int]) -> None:
        """Accept records from these positions for the generation that `member` stands for; forget whatever came before it."""
        self.forget()
        self.lanes = Lanes(positions, batch_records_max=self._shell.batch_records_max)
        self.member, self.accepting = member, True
        self.dispatch()

    async def close(self, grace_s: float) -> int:
        """Finish what runs within `grace_s`, commit what is finished, and accept nothing more.

        Returns:
            How many batches were given up.
        """
        self.accepting = False
        lanes, given_up = self.lanes, 0
        if lanes is not None and self.member is not None:
            deadline = time.monotonic() + grace_s
            while (left := deadline - time.monotonic()) > 0 and any(lane.running is not None for lane in lanes):
                self._quiet.clear()
                try:
                    await asyncio.wait_for(self._quiet.wait(), left)
                except TimeoutError:
                    break
            given_up = sum(lane.running is not None for lane in lanes)
            while self._open() and (self.settling is not None or any(lane.ready() for lane in lanes)):
                self._gather(force=True)
                if self.settling is not None:
                    await asyncio.wait({self.settling})
        self.forget()
        return given_up

    def _open(self) -> bool:
        return self.member is not None

    def forget(self) -> None:
        """Drop everything that is not committed."""
        self._epoch += 1
        self.accepting, self.member = False, None
        for task in self._delivering:
            task.cancel()
        for handle in (self._timer, self._linger):
            if handle is not None:
                handle.cancel()
        self._timer = self._linger = None
        if self.lanes is not None:
            for lane in self.lanes:
                if lane.running is not None:
                    lane.running.ended = True  # its processor may still hold it; nothing it does counts any more
                    lane.running.on_end = None
        self.lanes = None

    def offer(self, tp: TP, records: Sequence[Record]) -> None:
        """Take fetched records."""
        if self.lanes is not None:
            self._paused(tp, self.lanes.offer(tp, records))

    def wake(self) -> None:
        """Let every topic partition have a batch now, as if its timer were due."""
        if self.lanes is None:
            return
        self.lanes.due.update(dict.fromkeys(self.lanes.received, 0))
        self.dispatch()

    def _paused(self, tp: TP, change: bool | None) -> None:
        if change is not None:
            hook = self._shell.observer.partition_paused if change else self._shell.observer.partition_resumed
            hook(topic=tp.topic, partition=tp.partition)

    # ---- running

    def dispatch(self) -> None:
        """Start a batch in every lane that is free and has something to do."""
        if self.lanes is None or not self.accepting:
            return
        held_up = False
        for lane in self.lanes:
            if lane.free():
                self._start(lane)
            elif lane.held_up():
                held_up = True
        if held_up:
            self._gather()
        self._arm_timer()

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.lanes is None:
            return
        due = self.lanes.next_due_ms()
        waits = [lane.waiting[0].not_before for lane in self.lanes if lane.free() and lane.waiting and lane.waiting[0].not_before]
        delays = ([due / 1000 - time.time()] if due is not None else []) + [at - time.monotonic() for at in waits]
        if delays:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, min(delays)), self.dispatch)

    def _start(self, lane: Lane) -> None:
        lanes = self.lanes
        if lanes is None:
            return
        now_ms = int(time.time() * 1000)
        if lane.now_ms - CLOCK_BACK_MS <= now_ms <= lane.now_ms:
            now_ms = lane.now_ms + 1
        chunk, change = lanes.next_chunk(lane, now_ms=now_ms, now=time.monotonic())
        if chunk is None:
            return
        self._paused(chunk.tp, change)
        lane.now_ms, due = now_ms, lanes.due.get(chunk.tp)
        lane.fired = lanes.due.pop(chunk.tp) if due is not None and due <= now_ms else None
        next_offset = chunk.records[-1].offset + 1 if chunk.records else lanes.done[chunk.tp]
        batch = Batch(chunk.tp, chunk.records, now_ms=now_ms, next_offset=next_offset, below=lane.layers, codec=self._shell.codec)
        batch.started_at = time.monotonic()
        batch.attempts = chunk.attempts
        lane.running, lane.chunk = batch, chunk
        epoch = self._epoch

        def on_end(ended: Batch) -> None:
            if epoch == self._epoch:
                self._ended(lane, ended)

        batch.on_end = on_end
        task = asyncio.ensure_future(self._deliver(batch))
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)

    async def _deliver(self, batch: Batch) -> None:
        try:
            await self._shell.deliver(batch)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 whatever Faust raises, the worker cannot go on
            await self._shell.broken(error)

    def _ended(self, lane: Lane, batch: Batch) -> None:
        effects: Effects | None = None
        if batch.error is None:
            try:
                effects = batch.seal(record_bytes_max=self._shell.record_bytes_max)
            except Exception as error:  # noqa: BLE001 a table's codec may be the user's own
                batch.error = error
        if effects is None:
            self._failed(lane, batch)
            return
        unknown = {output[0] for output in effects.outputs} - self._known_topics if effects.outputs else set()
        unknown |= {output[0] for output in effects.at_once} - self._known_topics if effects.at_once else set()
        if unknown:
            self._run(self._finish_checked(lane, batch, effects, unknown))
        else:
            self._finish(lane, batch, effects)

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._delivering.add(task)
        task.add_done_callback(self._delivering.discard)

    async def _finish_checked(self, lane: Lane, batch: Batch, effects: Effects, topics: set[str]) -> None:
        epoch = self._epoch
        try:
            await self._shell.check_topics(topics)
        except AntiphonError as error:
            if epoch == self._epoch:
                await self._shell.broken(error)
            return
        self._known_topics |= topics
        if epoch == self._epoch:
            self._finish(lane, batch, effects)

    def _finish(self, lane: Lane, batch: Batch, effects: Effects) -> None:
        lanes = self.lanes
        if lanes is None:
            return
        now = time.monotonic()
        effects.ready_at, effects.run_s = now, now - batch.started_at
        if batch.due_ms is not None:
            due = lanes.due.get(batch.tp)
            lanes.due[batch.tp] = batch.due_ms if due is None else min(due, batch.due_ms)
        lane.paced(len(batch), effects.run_s)
        lanes.done[batch.tp] = effects.next_offset
        lane.running = lane.chunk = None
        if effects.at_once:
            self._shell.send_at_once(effects.at_once)
            effects.at_once = []
        if effects.visible:
            lane.unsettled.append(effects)
        self._moved()

    def _moved(self) -> None:
        self._gather()
        self.dispatch()
        if self.lanes is None or not any(lane.running is not None for lane in self.lanes):
            self._quiet.set()

    # ---- failing

    def _failed(self, lane: Lane, batch: Batch) -> None:
        """Try a failed batch again in halves; set a record aside that fails alone."""
        lanes, chunk, error = self.lanes, lane.chunk, batch.error
        if lanes is None or chunk is None or error is None:
            return
        lane.running = lane.chunk = None
        if lane.fired is not None:
            lanes.due[chunk.tp] = lane.fired  # nothing of the batch counts, so its timer has not fired
        if isinstance(error, CannotGoOn):
            self.forget()
            self._run(self._shell.broken(error))
            return
        records = chunk.records
        if len(records) > 1:
            middle = len(records) // 2
            halves = [Chunk(chunk.tp, records[:middle], alone=True), Chunk(chunk.tp, records[middle:], alone=True)]
            self._paused(chunk.tp, lanes.put_back(lane, halves))
        elif not records:
            log.error(
                "processor %s: a timer of %s/%s raised %r; it is tried again in %d ms",
                batch.failed_in,
                chunk.tp.topic,
                chunk.tp.partition,
                error,
                TIMER_RETRY_MS,
            )
            lanes.due[chunk.tp] = batch.now_ms + TIMER_RETRY_MS
        elif (wait := self._wait_before_retry(chunk, error)) is not None:
            log.warning(
                "processor %s: %s/%s offset %s is tried again in %.1f s: %s",
                batch.failed_in,
                chunk.tp.topic,
                chunk.tp.partition,
                records[0].offset,
                wait,
                error,
            )
            again = Chunk(chunk.tp, records, attempts=chunk.attempts + 1, not_before=time.monotonic() + wait, alone=True)
            self._paused(chunk.tp, lanes.put_back(lane, [again]))
        else:
            lane.running, lane.chunk = batch, chunk
            self._finish(lane, batch, self._dead_letter(batch, records[0], error))
            return
        self._moved()

    @staticmethod
    def _wait_before_retry(chunk: Chunk, error: BaseException) -> float | None:
        if not getattr(error, "retryable", False):
            return None
        if chunk.attempts < len(RETRY_BACKOFF_S):
            return RETRY_BACKOFF_S[chunk.attempts]
        return OUTAGE_BACKOFF_S if getattr(error, "fault", "") == "broker" else None

    def _dead_letter(self, batch: Batch, record: Record, error: BaseException) -> Effects:
        shell, tp = self._shell, batch.tp
        log.error(
            "dead letter: %s/%s offset %s, processor %s raised %r", tp.topic, tp.partition, record.offset, batch.failed_in, error
        )
        effects = Effects(tp, next_offset=record.offset + 1, records=1)
        effects.dead_letters = 1
        headers = dead_letter_headers(
            record.headers,
            app=shell.app_id,
            topic=tp.topic,
            partition=tp.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            processor=batch.failed_in,
            error=error,
            reason=str(error),
            now_ms=batch.now_ms,
        )
        effects.outputs.append((shell.dead_letter_topic, record.key, record.value, -1, headers))
        batch.due_ms = None
        return effects

    # ---- committing

    def _gather(self, *, force: bool = False) -> None:
        """Start a turn from what is ready, now or after the linger."""
        lanes, member = self.lanes, self.member
        if self.settling is not None or lanes is None or member is None:
            return
        ready = [effects for lane in lanes for effects in lane.ready()]
        if not ready:
            return
        wait = 0.0 if force else self._wait(ready, lanes)
        loop = asyncio.get_running_loop()
        if self._linger is not None and (wait <= 0 or self._linger.when() > loop.time() + wait):
            self._linger.cancel()
            self._linger = None
        if wait > 0:
            self._linger = self._linger or loop.call_later(wait, self._linger_over)
            return
        for lane in lanes:
            lane.settling = len(lane.unsettled)
        self.settling = asyncio.ensure_future(self._settle(Turn(member, ready), lanes))

    def _wait(self, ready: list[Effects], lanes: Lanes) -> float:
        """Return how long to wait for more."""
        now = time.monotonic()
        if any(lane.held_up() for lane in lanes):
            return 0.0
        if any(lane.running is not None and len(lane.running) for lane in lanes):
            linger = TURN_LINGER_S - (now - min(e.ready_at for e in ready))
        else:
            linger = 0.0
        return max(linger, min(e.patience_s for e in ready) - (now - self._began_at))

    def _linger_over(self) -> None:
        self._linger = None
        self._gather(force=True)

    async def _settle(self, turn: Turn, lanes: Lanes) -> None:
        try:
            await self._settled(turn, lanes)
        except Exception as error:
            log.exception("a turn could not be completed")
            self.forget()
            await self._shell.broken(error)
        finally:
            self.settling = None
        if self.lanes is not None:  # also where another generation has opened meanwhile
            self._moved()

    async def _settled(self, turn: Turn, lanes: Lanes) -> None:
        began = self._began_at = time.monotonic()
        refusal = await self._committer.make_visible(turn)
        if refusal is None and not self._committer.transactional and not await self._shell.commit_offsets(turn.offsets()):
            refusal = Refusal("offsets", "REBALANCE_IN_PROGRESS", "the group moved on while the turn was written", fenced=True)
        observer = self._shell.observer
        if refusal is not None:
            observer.turn_refused(step=refusal.step, code=refusal.code)
            observer.turn_dropped(reason="refused")
            if refusal.permanent:
                raise ProcessorError(
                    f"the broker refuses the turn at {refusal.step}: {refusal.code} ({refusal.reason}); "
                    "nothing was lost: mend that and start again"
                )
            if self.lanes is lanes:
                self.forget()
                await self._shell.refused(refusal)
            return
        self._apply(turn, lanes)
        self.turns += 1
        observer.turn_committed(
            batches=len(turn.effects),
            records=sum(e.records for e in turn.effects),
            outputs=sum(len(e.outputs) for e in turn.effects) + sum(len(w) for e in turn.effects for w in e.encoded.values()),
            run_s=sum(e.run_s for e in turn.effects),
            commit_s=time.monotonic() - began,
        )

    def _apply(self, turn: Turn, lanes: Lanes) -> None:
        for (table, partition), (writes, encoded) in turn.tables().items():
            table.parts.apply(partition, writes, encoded, turn.tails.get(TP(table.changelog_topic_name, partition)))  # type: ignore[attr-defined]
        for effects in turn.effects:
            lanes.committed[effects.tp] = effects.next_offset
            if effects.dead_letters:
                error = next((v.decode() for k, v in effects.outputs[0][4] or () if k == ERROR), "")
                self._shell.observer.record_dead_lettered(topic=effects.tp.topic, partition=effects.tp.partition, error=error)
        for lane in lanes:
            del lane.unsettled[: lane.settling]
            lane.settling = 0

    def tidy(self, positions: dict[TP, int]) -> None:
        """Move offsets over trailing control markers of idle partitions, so that lag reads zero when nothing is left to do."""
        lanes = self.lanes
        if lanes is None or not self.accepting:
            return
        for tp, position in positions.items():
            lane = lanes.lanes.get(tp.partition)
            if lane is None or lane.running is not None or lane.unsettled or lanes.waiting(tp) or position <= lanes.received[tp]:
                continue
            lanes.received[tp] = lanes.done[tp] = position
            effects = Effects(tp, next_offset=position, records=0)
            effects.ready_at = time.monotonic()
            lane.unsettled.append(effects)
        self._gather()
