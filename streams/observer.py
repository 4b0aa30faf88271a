"""What a worker tells whoever watches it: hooks that do nothing until someone overrides them.

The runtime calls an `Observer`; metrics (`streams.metrics`) and tracing (`streams.tracing`) are observers. So the
turn, the consumer and the tables import neither prometheus nor OpenTelemetry, and a test watches a worker with a
subclass of ten lines. `Observers` passes every call on to several.

An observer must be cheap (hooks run on the event loop, between polls), must not block and must not raise: a fault in
an observer says nothing about the events. `Observers` logs such a fault and carries on; the bare class does not guard.

Calls a turn makes, in order (the number of a turn grows by one within a process; 0 means that the caller has none):

    processor_span(batch, turn=7) once a batch  ->  turn_committed(turn=7)        the usual way
                                                ->  turn_refused(turn=7)          the broker refused the commit,
                                                      then turn_dropped(turn=7)     nothing of it became visible
                                                ->  turn_dropped(turn=7)          revoked, or a processor raised
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ObservedBatch", "Observer", "Observers"]

_log = logging.getLogger(__name__)

_NOTHING: AbstractContextManager[None] = nullcontext()  # reusable and reentrant, so one serves every batch


class ObservedBatch(Protocol):
    """What an observer reads of a batch; `streams.Batch` has it."""

    @property
    def topic(self) -> str:
        """Topic that the records came from."""

    @property
    def partition(self) -> int:
        """Partition that the records came from."""

    @property
    def records(self) -> Sequence[Any]:
        """The aiokafka records, each with `offset` and `headers`."""


class Observer:
    """Hooks of a worker, all of them optional; this class does nothing in each."""

    def turn_committed(self, *, batches: int, records: int, outputs: int, run_s: float, commit_s: float, turn: int = 0) -> None:
        """A turn's kafka transaction was committed.

        Args:
            batches: Batches in the turn, one a partition.
            records: Source records in them.
            outputs: Records written besides the offsets: outputs, changelog and dead letters.
            run_s: Seconds the processors took.
            commit_s: Seconds the kafka transaction was open.
            turn: Number of the turn; 0 if unnumbered.
        """

    def turn_refused(self, *, step: str, code: str, turn: int = 0) -> None:
        """The broker refused a kafka transaction.

        Args:
            step: Where it was refused: "init", "begin", "produce", "offsets", "commit" or "abort".
            code: Kafka's error name, such as "ILLEGAL_GENERATION" or "PRODUCER_FENCED".
            turn: Number of the turn; 0 if unnumbered.
        """

    def turn_dropped(self, *, reason: str, turn: int = 0) -> None:
        """A turn's effects were discarded before anything was visible; its records run again.

        Args:
            reason: One word or two from a small set: "revoked", "refused", "raised", "stopping".
            turn: Number of the turn; 0 if unnumbered.
        """

    def record_dead_lettered(self, *, topic: str, partition: int, error: str) -> None:
        """A record left as a dead letter, in the same kafka transaction as its offset.

        Args:
            topic: Topic the record came from.
            partition: Its partition.
            error: Class name of what the processor raised.
        """

    def rebalanced(self, *, generation: int, partitions: int) -> None:
        """The group agreed on a new assignment.

        Args:
            generation: The group's generation.
            partitions: How many source partitions this worker has now.
        """

    def lag_measured(self, *, topic: str, partition: int, records: int, seconds: float) -> None:
        """How far a partition is behind the log's end.

        Args:
            topic: Source topic.
            partition: Its partition.
            records: Records between the committed position and the end.
            seconds: Age of the oldest record not yet processed; 0.0 when there is none.
        """

    def table_measured(self, *, table: str, partition: int, keys: int) -> None:
        """How many keys a partition of a table holds.

        Args:
            table: Name of the table.
            partition: Its partition.
            keys: Live keys.
        """

    def stalled(self, *, topic: str, partition: int, offset: int, processor: str, seconds: float) -> None:
        """A batch has been in a processor longer than `worker.stall_after_s`; called again while it lasts.

        Args:
            topic: Source topic of the batch.
            partition: Its partition.
            offset: First offset of the batch.
            processor: Name of the processor.
            seconds: How long so far.
        """

    def stall_ended(self, *, topic: str, partition: int) -> None:
        """A batch that had been reported as stalled came back, was revoked or was dropped.

        Args:
            topic: Source topic of the batch.
            partition: Its partition.
        """

    def partition_paused(self, *, topic: str, partition: int) -> None:
        """Backpressure: the worker stopped fetching a partition.

        Args:
            topic: Source topic.
            partition: Its partition.
        """

    def partition_resumed(self, *, topic: str, partition: int) -> None:
        """The worker fetches a paused partition again.

        Args:
            topic: Source topic.
            partition: Its partition.
        """

    def partitions_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """Partitions left this worker: whatever was measured of them is someone else's to report now.

        Args:
            partitions: Pairs of topic and partition, source topics only.
        """

    def tables_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """Table partitions left this worker, as `partitions_revoked`.

        Args:
            partitions: Pairs of table and partition.
        """

    def recovery_progress(self, *, table: str, partition: int, done: int, total: int) -> None:
        """A table's partition is being read back from its changelog; the last call has `done == total`.

        Args:
            table: Name of the table.
            partition: Its partition.
            done: Changelog offsets passed.
            total: Changelog offsets to pass.
        """

    def processor_span(
        self,
        batch: ObservedBatch,  # noqa: ARG002 - for those who override
        *,
        processor: str = "",  # noqa: ARG002
        turn: int = 0,  # noqa: ARG002
    ) -> AbstractContextManager[None]:
        """Wraps one run of a processor over one batch.

        Args:
            batch: The batch handed over.
            processor: Name of the processor.
            turn: Number of the turn; 0 if unnumbered.

        Returns:
            A context manager; what the processor raises passes through it.
        """
        return _NOTHING


class Observers(Observer):
    """Passes every call on to each of several observers; the fault of one is logged and touches nobody else."""

    def __init__(self, *observers: Observer) -> None:
        """Takes the observers in the order of their calls.

        Args:
            observers: Those to call; none is allowed.
        """
        self._observers = observers
        self._spanning = tuple(one for one in observers if type(one).processor_span is not Observer.processor_span)

    def processor_span(self, batch: ObservedBatch, *, processor: str = "", turn: int = 0) -> AbstractContextManager[None]:
        """See `Observer.processor_span`; free when no observer overrides it."""
        if not self._spanning:
            return _NOTHING
        return self._spans(batch, processor=processor, turn=turn)

    @contextmanager
    def _spans(self, batch: ObservedBatch, *, processor: str, turn: int) -> Iterator[None]:
        with ExitStack() as stack:
            for one in self._spanning:
                try:
                    stack.enter_context(one.processor_span(batch, processor=processor, turn=turn))
                except Exception:  # noqa: BLE001 - whatever an observer raises says nothing about the events
                    _log.exception("observer %s failed in processor_span", type(one).__name__)
            yield

    def _each(self, hook: str, /, **facts: object) -> None:
        for one in self._observers:
            try:
                getattr(one, hook)(**facts)
            except Exception:  # noqa: BLE001 - as above
                _log.exception("observer %s failed in %s", type(one).__name__, hook)

    def turn_committed(self, *, batches: int, records: int, outputs: int, run_s: float, commit_s: float, turn: int = 0) -> None:
        """See `Observer.turn_committed`."""
        self._each(
            "turn_committed",
            batches=batches,
            records=records,
            outputs=outputs,
            run_s=run_s,
            commit_s=commit_s,
            turn=turn,
        )

    def turn_refused(self, *, step: str, code: str, turn: int = 0) -> None:
        """See `Observer.turn_refused`."""
        self._each("turn_refused", step=step, code=code, turn=turn)

    def turn_dropped(self, *, reason: str, turn: int = 0) -> None:
        """See `Observer.turn_dropped`."""
        self._each("turn_dropped", reason=reason, turn=turn)

    def record_dead_lettered(self, *, topic: str, partition: int, error: str) -> None:
        """See `Observer.record_dead_lettered`."""
        self._each("record_dead_lettered", topic=topic, partition=partition, error=error)

    def rebalanced(self, *, generation: int, partitions: int) -> None:
        """See `Observer.rebalanced`."""
        self._each("rebalanced", generation=generation, partitions=partitions)

    def lag_measured(self, *, topic: str, partition: int, records: int, seconds: float) -> None:
        """See `Observer.lag_measured`."""
        self._each("lag_measured", topic=topic, partition=partition, records=records, seconds=seconds)

    def table_measured(self, *, table: str, partition: int, keys: int) -> None:
        """See `Observer.table_measured`."""
        self._each("table_measured", table=table, partition=partition, keys=keys)

    def stalled(self, *, topic: str, partition: int, offset: int, processor: str, seconds: float) -> None:
        """See `Observer.stalled`."""
        self._each("stalled", topic=topic, partition=partition, offset=offset, processor=processor, seconds=seconds)

    def stall_ended(self, *, topic: str, partition: int) -> None:
        """See `Observer.stall_ended`."""
        self._each("stall_ended", topic=topic, partition=partition)

    def partition_paused(self, *, topic: str, partition: int) -> None:
        """See `Observer.partition_paused`."""
        self._each("partition_paused", topic=topic, partition=partition)

    def partition_resumed(self, *, topic: str, partition: int) -> None:
        """See `Observer.partition_resumed`."""
        self._each("partition_resumed", topic=topic, partition=partition)

    def partitions_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Observer.partitions_revoked`."""
        self._each("partitions_revoked", partitions=partitions)

    def tables_revoked(self, *, partitions: Sequence[tuple[str, int]]) -> None:
        """See `Observer.tables_revoked`."""
        self._each("tables_revoked", partitions=partitions)

    def recovery_progress(self, *, table: str, partition: int, done: int, total: int) -> None:
        """See `Observer.recovery_progress`."""
        self._each("recovery_progress", table=table, partition=partition, done=done, total=total)
