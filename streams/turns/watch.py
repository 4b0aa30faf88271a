"""The watchdog: what runs too long, how far behind each partition is, how large the tables are.

A stall explains itself: topic, partition, offset, processor and for how long, with the line the processor stands at.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from streams.status import (
    PartitionStatus,
    State,
    Status,
    TableStatus,
    reason_broker_unreachable,
    reason_no_partitions,
    reason_recovering,
    reason_stalled,
)

if TYPE_CHECKING:
    from faust.types import TP

    from streams.turns.batch import Batch
    from streams.turns.consumer import TurnConsumer
    from streams.turns.runner import Runner

__all__ = ["Watch"]

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
REPORT_STALL_EVERY_S: Final = 30.0
"""A stall is logged once and then this often."""
TABLES_EVERY_S: Final = 5.0


class Watch:
    """Looks at the runner once a second and tells the observer; makes the worker's `Status`."""

    def __init__(self, app: Any, runner: Runner) -> None:
        self._app, self._runner = app, runner
        self._stalled: dict[TP, float] = {}
        self._tables_at = 0.0

    async def run(self, consumer: TurnConsumer) -> None:
        """Look until the consumer stops."""
        while not consumer.should_stop:
            await consumer.sleep(LOOK_EVERY_S)
            self.look(consumer)

    def look(self, consumer: TurnConsumer) -> None:
        """Look once."""
        now = time.monotonic()
        self._look_for_stalls(now)
        observer = self._app.observer
        for part in self.partitions(consumer):
            observer.lag_measured(topic=part.topic, partition=part.partition, records=part.lag_records, seconds=part.lag_seconds)
        if now - self._tables_at >= TABLES_EVERY_S:
            self._tables_at = now
            for table, partition, keys in self._app.tables.sizes():
                observer.table_measured(table=table, partition=partition, keys=keys)

    def _running(self) -> dict[TP, Batch]:
        lanes = self._runner.lanes
        return {} if lanes is None else {lane.running.tp: lane.running for lane in lanes if lane.running is not None}

    def _look_for_stalls(self, now: float) -> None:
        running, limit = self._running(), self._app.options.stall_after_s
        for tp in [tp for tp in self._stalled if tp not in running or now - running[tp].started_at < limit]:
            del self._stalled[tp]
            self._app.observer.stall_ended(topic=tp.topic, partition=tp.partition)
        for tp, batch in running.items():
            seconds = now - batch.started_at
            if seconds < limit:
                continue
            holder = self._holder(batch)
            offset = batch.records[0].offset if batch.records else -1
            self._app.observer.stalled(topic=tp.topic, partition=tp.partition, offset=offset, processor=holder, seconds=seconds)
            if now - self._stalled.get(tp, -REPORT_STALL_EVERY_S) >= REPORT_STALL_EVERY_S:
                self._stalled[tp] = now
                log.error(
                    "stalled: %s\n%s", self._stall(batch, seconds), self._app.agents.human_tracebacks() if batch.held_by else ""
                )

    def _holder(self, batch: Batch) -> str:
        return ", ".join(sorted(batch.held_by)) or "(waiting for its processor, which is busy with another partition)"

    def _stall(self, batch: Batch, seconds: float) -> str:
        offset = batch.records[0].offset if batch.records else -1
        return reason_stalled(
            topic=batch.topic, partition=batch.partition, offset=offset, processor=self._holder(batch), seconds=seconds
        )

    # ---- the worker as a value

    def partitions(self, consumer: TurnConsumer) -> list[PartitionStatus]:
        """Return how each source partition stands."""
        lanes, running, now = self._runner.lanes, self._running(), time.monotonic()
        if lanes is None:
            return []
        found = []
        for tp in sorted(lanes.received):
            batch = running.get(tp)
            end = consumer.log_end(tp)
            position = lanes.committed[tp]
            unread = 0 if end is None else max(0, end - (consumer.aiokafka_position(tp) or position))
            waiting = lanes.waiting(tp) + (len(batch) if batch is not None else 0)
            uncommitted = sum(e.records for e in lanes.lanes[tp.partition].unsettled if e.tp == tp)
            lag = unread + waiting + uncommitted
            oldest = lanes.oldest_timestamp(tp)
            busy = 0.0 if batch is None else now - batch.started_at
            found.append(
                PartitionStatus(
                    topic=tp.topic,
                    partition=tp.partition,
                    committed=position,
                    end=-1 if end is None else end,
                    lag_records=lag,
                    lag_seconds=max(0.0, time.time() - oldest / 1000) if oldest is not None and lag else 0.0,
                    paused=tp in lanes.paused(),
                    processor="" if batch is None else self._holder(batch),
                    busy_s=busy,
                    stalled=busy >= self._app.options.stall_after_s,
                )
            )
        return found

    def status(self, consumer: TurnConsumer) -> Status:
        """Return the worker's status."""
        app, options = self._app, self._app.options
        state = self._state()
        partitions = self.partitions(consumer)
        stalls = [
            self._stall(b, time.monotonic() - b.started_at)
            for b in self._running().values()
            if time.monotonic() - b.started_at >= options.stall_after_s
        ]
        reasons = list(stalls)
        healthy = not stalls and app.failure is None
        if app.failure is not None:
            reasons.append(str(app.failure))
        since = consumer.committer.waiting_since
        if since is not None:
            reasons.append(reason_broker_unreachable(options.client["bootstrap.servers"], time.monotonic() - since))
        if consumer.waiting_for:
            reasons.append(f"waiting for {consumer.waiting_for}")
        tables = self.tables()
        if state == "recovering":
            reasons.append(reason_recovering(tables))
        elif state == "running" and not partitions:
            reasons.append(reason_no_partitions(app.batch_topics))
        elif state in ("starting", "rebalancing", "stopping"):
            reasons.append(f"the worker is {state}")
        return Status(
            app_id=app.conf.id,
            instance=options.instance,
            generation=app.consumer_generation_id or -1,
            state=state,
            partitions=tuple(partitions),
            tables=tables,
            reasons=tuple(reasons),
            healthy=healthy,
            ready=healthy and state == "running" and not reasons,
        )

    def tables(self) -> tuple[TableStatus, ...]:
        """Return how each table partition stands."""
        recovery = self._app.tables.recovery
        found = {(t, p): TableStatus(table=t, partition=p, keys=k) for t, p, k in self._app.tables.sizes()}
        if recovery.reading:
            for tp, done, target in recovery.remaining():
                name = recovery.tp_to_table[tp].name
                keys = found[name, tp.partition].keys if (name, tp.partition) in found else 0
                found[name, tp.partition] = TableStatus(
                    table=name, partition=tp.partition, keys=keys, recovered=done, to_recover=target
                )
        return tuple(found[at] for at in sorted(found))

    def _state(self) -> State:
        app = self._app
        if app.should_stop:
            return "stopping"
        if not app.consumer_generation_id:
            return "starting"
        if app.tables.recovery.reading:
            return "recovering"
        if self._runner.accepting:
            return "running"
        return "rebalancing"
