"""Faust's consumer with turns under it: fetching and group membership stay Faust's, the way of a record does not.

    aiokafka poll ─┬▶ changelog records ─▶ recovery (applied by the batch)
                   ├▶ batch topics ─▶ runner: lanes, batches, kafka transactions
                   └▶ any other topic ─▶ Faust's own path, record by record

A *gate* is open from the moment a generation's offsets and tables are known until its partitions are revoked. Offsets come from
librdkafka (aiokafka's OffsetFetch cannot ask for stable ones), and the group metadata that fences commits is taken when the
gate opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaException
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from streams.turns.committer import Committer
from streams.turns.fence import group_metadata
from streams.turns.lookup import Lookup
from streams.turns.prompt import PromptSender
from streams.turns.runner import Runner
from streams.turns.transport import TurnThread
from streams.turns.watch import Watch

if TYPE_CHECKING:
    from streams.observer import Observer
    from streams.turns.batch import Batch, Output
    from streams.turns.committer import Refusal
    from streams.turns.lanes import Lanes

__all__ = ["TurnConsumer"]

POLL_S: Final = 0.5
"""How long a poll waits for records; timers do not depend on it."""
POLL_RECOVERING_S: Final = 0.05
"""The same while changelogs are read: the end of recovery is seen after a poll."""
POLL_PAUSED_S: Final = 0.02
"""The same while a partition is paused, so that it is fetched again soon after it may be."""
TIDY_EVERY_S: Final = 1.0
TAKEN_OVER_MAX: Final = 3
"""A worker whose transactional id was taken this often within `TAKEN_OVER_WITHIN_S` shares its instance id with a live one."""
TAKEN_OVER_WITHIN_S: Final = 60.0


class TurnConsumer(driver.Consumer):
    """The consumer of an app whose processors work in turns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.app.options
        self.app_id = self.app.conf.id
        self.dead_letter_topic = options.dead_letter_topic
        self.batch_records_max, self.record_bytes_max = options.batch_records_max, options.record_bytes_max
        transactional_id = f"{self.app_id}-{options.instance}" if options.guarantee == "exactly_once" else None
        self.committer = Committer(
            options.client, transactional_id=transactional_id, transaction_timeout_ms=options.transaction_timeout_ms
        )
        self.lookup = Lookup(options.client, self.app_id)
        self.prompt = PromptSender(options.client)
        self.runner = Runner(self, self.committer)
        self.watch = Watch(self.app, self.runner)
        self._reseek: set[TP] = set()
        self._tidied_at = 0.0
        self._kick = asyncio.Event()
        self._taken_over: list[float] = []
        self._revoked = False
        self.waiting_for = ""
        """What keeps the gate from opening, in words; empty when nothing does."""

    @property
    def codec(self) -> Any:
        """The codec of typed events."""
        return self.app.codec

    @property
    def observer(self) -> Observer:
        """Who is told what happens."""
        observer: Observer = self.app.observer
        return observer

    def _new_consumer_thread(self) -> TurnThread:
        return TurnThread(self, loop=self.loop, beacon=self.beacon)

    def _batched(self, tp: TP) -> bool:
        return any(getattr(channel, "batched", False) for channel in self.app.topics._topic_name_index.get(tp.topic, ()))

    # ---- aiokafka's inner state, read in one place

    def aiokafka_position(self, tp: TP) -> int | None:
        """Return where the fetcher is in a partition; it moves over control markers and aborted records."""
        state = self._partition_state(tp)
        return None if state is None else state._position

    def log_end(self, tp: TP) -> int | None:
        """Return the end of what can be read of a partition, as of the last fetch."""
        state = self._partition_state(tp)
        return None if state is None else state.lso

    def caught_up(self, tp: TP) -> bool | None:
        """Return whether no record waits behind the running batch, up to the end seen last; None: it is not ours to read."""
        lanes, end = self.runner.lanes, self.log_end(tp)
        if lanes is None or tp not in lanes.received:
            return None
        return end is not None and lanes.received[tp] >= end and not lanes.waiting(tp)

    def _partition_state(self, tp: TP) -> Any:
        consumer = self._thread._consumer
        subscription = None if consumer is None else consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        try:
            return subscription.assignment.state_value(tp)
        except (AssertionError, KeyError):
            return None

    async def hold_changelogs(self, hold: bool) -> None:
        """Pause changelogs inside aiokafka as well: unread prefetched records otherwise delay every fetch from that broker."""

        async def do() -> None:
            consumer, standby = self._thread._consumer, self.app.tables.recovery.standby_tps
            tps = [tp for tp in consumer.assignment() if tp.topic in self.app.tables.changelog_topics and tp not in standby]
            (consumer.pause if hold else consumer.resume)(*tps)

        await self._thread.call_thread(do)

    def kick(self) -> None:
        """Let the fetch loop look at the world again at once."""
        self._kick.set()

    # ---- the shell of the runner

    async def deliver(self, batch: Batch) -> int:
        """Hand a batch to its processors as one Faust event."""
        tp, records = batch.tp, batch.records
        batch.waiting = len(self.app.topics._tp_index[tp])
        offset = records[-1].offset if records else -1
        await self.callback(
            ConsumerMessage(
                tp.topic,
                tp.partition,
                offset,
                batch.now_ms / 1000,
                0,
                None,
                None,
                batch,
                None,
                0,
                0,
                tp,
                generation_id=self.app.consumer_generation_id,
            )
        )
        return batch.waiting

    def send_at_once(self, outputs: list[Output]) -> None:
        """Send records that do not wait for the turn."""
        self.prompt.send(outputs)

    async def commit_offsets(self, offsets: dict[TP, int]) -> bool:
        """Commit offsets as the group's member."""
        done: bool = await self._thread.commit(offsets)
        return done

    async def check_topics(self, topics: set[str]) -> None:
        """Raise where an output topic does not exist and is not to be created."""
        await self.app.check_output_topics(topics)

    async def broken(self, error: BaseException) -> None:
        """Stop the worker with this error."""
        self.app.failure = self.app.failure or error
        await self.app.crash(error)

    async def refused(self, refusal: Refusal) -> None:
        """Forget what built on a refused turn; read tables and offsets again, after rejoining the group where it has moved on."""
        self.log.warning(
            "turn refused at %s: %s (%s); nothing of it counts, reading offsets and tables again",
            refusal.step,
            refusal.code,
            refusal.reason,
        )
        app = self.app
        if refusal.taken_over and self._shared_instance():
            await self.broken(app.shared_instance_error())
            return
        if app.rebalancing or app.should_stop:
            return  # recovery follows anyway
        self.stop_flow()
        app.flow_control.suspend()
        self.pause_partitions(self.assignment())
        app.flow_control.clear()
        if refusal.fenced:
            self._thread.thread_loop.call_soon_threadsafe(self._thread._consumer._coordinator.request_rejoin)
        else:
            app.tables.recovery.restart(app.consumer_generation_id)

    def _shared_instance(self) -> bool:
        now = time.monotonic()
        self._taken_over = [at for at in self._taken_over if now - at < TAKEN_OVER_WITHIN_S] + [now]
        return len(self._taken_over) >= TAKEN_OVER_MAX

    # ---- the gate

    async def open(self, generation: int) -> None:
        """Start turns for this generation, at stable committed offsets."""
        app = self.app
        if app.consumer_generation_id != generation or not self._thread._consumer:
            return
        coordinator = self._thread._consumer._coordinator
        member = group_metadata(
            group_id=self.app_id,
            generation=generation,
            member_id=coordinator.member_id,
            group_instance_id=app.conf.consumer_group_instance_id,
        )
        await self.committer.run(self.committer.ready)
        await asyncio.to_thread(self.prompt.ready)
        tps = {tp for tp in self.assignment() if self._batched(tp)}
        positions = await self._positions(tps, generation)
        if positions is None:
            return
        if await app.tables.recovery.outgrown(self):
            self.log.warning("a changelog has grown since its end was read: reading on before turns start")
            app.tables.recovery.restart(generation)
            return
        if positions:
            await self._thread.seek_wait(positions)
        await self.hold_changelogs(True)
        if self._revoked or app.consumer_generation_id != generation or coordinator.generation != generation:
            return  # a rebalance has begun meanwhile; the next assignment opens the gate
        self._reseek = set(positions)
        self.observer.rebalanced(generation=generation, partitions=len(positions))
        self.log.info(
            "generation %s: turns start on %s",
            generation,
            ", ".join(f"{tp.topic}/{tp.partition}@{o}" for tp, o in sorted(positions.items())) or "no partition",
        )
        self.runner.open(member, positions)

    async def _positions(self, tps: set[TP], generation: int) -> dict[TP, int] | None:
        """Return where to start in each partition; None when the group moved on meanwhile."""
        began = time.monotonic()
        while tps:
            try:
                committed = await self.lookup.run(self.lookup.committed, tps)
                starts = await self.lookup.ask(self.lookup.starts, tps)
                ends = await self.lookup.ask(self.lookup.ends, tps)
            except KafkaException as error:
                self.waiting_for = f"stable committed offsets for {time.monotonic() - began:.0f} s: {error.args[0].str()}"
                self.log.warning("waiting for %s", self.waiting_for)
                if self.app.consumer_generation_id != generation or self.app.should_stop:
                    return None
                await asyncio.sleep(0.1)
            else:
                self.waiting_for = ""
                return {tp: self._start(tp, committed[tp], starts[tp], ends[tp]) for tp in tps}
        return {}

    def _start(self, tp: TP, committed: int, start: int, end: int) -> int:
        if committed > end:
            self.log.error(
                "%s/%s: the group is at offset %s but the log ends at %s: the topic was made anew; starting at its beginning",
                tp.topic,
                tp.partition,
                committed,
                end,
            )
            return start
        if 0 <= committed < start:
            self.log.error(
                "%s/%s: records %s to %s were deleted by retention before they were processed",
                tp.topic,
                tp.partition,
                committed,
                start - 1,
            )
        return max(committed, start)

    async def close_gate(self, grace_s: float) -> None:
        """Let running batches finish and commit, give up what takes longer, start no other."""
        given_up = await self.runner.close(grace_s)
        if given_up:
            self.log.warning("%d batches did not end within %.1f s and are given up: their records run again", given_up, grace_s)
            self.observer.turn_dropped(reason="revoked")

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what runs before the partitions go."""
        self._revoked = True
        await self.close_gate(self.app.options.revoke_grace_s)
        self.observer.partitions_revoked(partitions=[(tp.topic, tp.partition) for tp in revoked if self._batched(tp)])
        self.observer.tables_revoked(partitions=[(table, partition) for table, partition, _ in self.app.tables.sizes()])
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Forget what an earlier generation left; recovery opens the gate."""
        self.runner.forget()
        self._revoked = False
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Seek the partitions that Faust itself commits; `open` seeks the batched ones."""
        others = {tp for tp in self.assignment() if not self._batched(tp) and tp.topic not in self.app.tables.changelog_topics}
        if others:
            found = await self._thread.call_thread(self._thread._consumer.seek_to_committed, *others)
            self._read_offset.update({tp: o if o is not None and o >= 0 else None for tp, o in found.items()})

    # ---- the fetch loop

    async def _poll(self) -> dict[TP, Any]:
        """Return fetched records by partition; never those of paused ones."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return {}
        active = set(self._get_active_partitions())
        lanes, timeout = self.runner.lanes, POLL_S
        if lanes is not None and (paused := lanes.paused()):
            active -= paused
            timeout = POLL_PAUSED_S
        if self.app.tables.recovery.reading:
            timeout = POLL_RECOVERING_S
        if not active:
            self._kick.clear()
            with contextlib.suppress(TimeoutError):  # nothing changed: look again
                await asyncio.wait_for(self._kick.wait(), POLL_PAUSED_S)
            return {}
        return await self._getmany(active_partitions=active, timeout=timeout) or {}

    async def _put_back(self) -> None:
        """Seek to where a partition's records were dropped: its position had moved on."""
        lanes = self.runner.lanes
        if lanes is None or not self._reseek:
            return
        back, self._reseek = {tp: lanes.received[tp] for tp in self._reseek if tp in lanes.received}, set()
        if back:
            await self._thread.seek_wait(back)

    async def _drain_messages(self, fetcher: Any) -> None:
        changelogs, recovery, runner = self.app.tables._changelogs, self.app.tables.recovery, self.runner
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                await self._put_back()
                lanes = runner.lanes
                for raw, records in (await self._poll()).items():
                    tp = TP(*raw)
                    if not records:
                        continue
                    if tp.topic in changelogs:
                        recovery.loaded(tp, records)
                    elif not self._batched(tp):
                        await self._per_record(tp, records)
                    elif not runner.accepting or not self.flow_active or not self._continues(tp, records, lanes):
                        self._reseek.add(tp)
                    else:
                        runner.offer(tp, records)
                recovery.check_end()
                if runner.lanes is lanes and not self._reseek:
                    self._tidy()
                runner.dispatch()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    def _continues(self, tp: TP, records: list[Any], lanes: Lanes | None) -> bool:
        """Whether fetched records go on where the runner is; of a poll from before the gate opened, they must fit exactly."""
        now = self.runner.lanes
        return now is not None and (now is lanes or now.received.get(tp) == records[0].offset)

    async def _per_record(self, tp: TP, records: Iterable[Any]) -> None:
        for record in records:
            at = self._read_offset[tp]
            if at is None or record.offset >= at:
                await self.callback(self._to_message(tp, record))
                self._read_offset[tp] = record.offset

    def _tidy(self) -> None:
        """Between two polls, positions are exact: nothing before them is left for anyone to process."""
        lanes, now = self.runner.lanes, time.monotonic()
        if lanes is None or now - self._tidied_at < TIDY_EVERY_S:
            return
        self._tidied_at = now
        found = {tp: self.aiokafka_position(tp) for tp in lanes.received}
        self.runner.tidy({tp: at for tp, at in found.items() if at is not None})

    @Service.task
    async def _watch(self) -> None:
        await self.watch.run(self)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave batch topics to the watchdog, which can tell a slow processor from an idle partition."""
        if not self._batched(tp) and not self._is_changelog_tp(tp):
            super().verify_event_path(now, tp)

    async def on_stop(self) -> None:
        """Stop, and end the threads."""
        await super().on_stop()
        await asyncio.get_running_loop().run_in_executor(None, self.committer.close)
        await asyncio.get_running_loop().run_in_executor(None, self.lookup.close)
        await asyncio.get_running_loop().run_in_executor(None, self.prompt.close)
