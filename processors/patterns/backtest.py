"""Patterns over a part of the log that is there already: what they would have found, as a worker that was up when it was written.

    records ─▶ Reading ─▶ by lane, as in a worker ─▶ Work, as in a worker ─▶ Tally ─▶ Comparison with another version

The parts that decide are the worker's own (`reading`, `needs`, `versions.Run`, `work`). In its place stand: a dict for the table
of states, a tally for the output topics, and for the wall clock the time at which each record was *written*. So what depends
on the wall clock in a worker (which source is idle, what is ahead, time that passes while the log is silent) depends on the log
alone here, and two backtests of the same range find the same, however it was cut into batches.

    in a worker                                      here
    a lane is a partition of its source topics       the same
    … of the topic of events keyed anew              the key's partition, of as many as the source topics have
    order on a lane with several sources: arrival    by the records' timestamps
    the wall clock at a record                       its timestamp, or a later one before it on the lane
    after the last record time goes on               it stops at the latest timestamp in the range: what is open stays open
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from processors.patterns.found import Comparison
from processors.patterns.reading import Reading, key_text, text_of
from schemas.errors import AntiphonError, Fault, SchemaError

if TYPE_CHECKING:
    from processors.patterns.trial import Trial
    from streams.codec import Codec
    from streams.reader import Bounds, LogReader, Selection
    from streams.turns.batch import Record

__all__ = ["Backtest", "EmptyRange", "Seen", "Unreadable", "read_range"]

UNREADABLE_KEPT: Final = 10
"""Records that cannot be read and are told with their reason; the rest is counted: as a rule one producer writes them all."""


class EmptyRange(AntiphonError):
    """No record lies between the beginning and the end that were asked for; the message says what the topics hold."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a backtest is.

    Attributes:
        done: Offsets behind us.
        total: Offsets in the range.
        records: Records read.
        matches: Matches of the new version so far.
    """

    done: int
    total: int
    records: int
    matches: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that a worker would have set aside as a dead letter."""

    topic: str
    partition: int
    offset: int
    reason: str


class Backtest:
    """One reading of a range, by one version or by two that are compared.

    Args:
        codec: Of typed events.
        new: The version in question.
        old: The one to compare with.
        partitions: How many partitions each topic has.
    """

    def __init__(self, codec: Codec, new: Trial, old: Trial | None = None, *, partitions: Mapping[str, int]) -> None:
        self._codec, self.new, self.old = codec, new, old
        self.trials = [new] if old is None else [new, old]
        self._partitions = partitions
        self.comparison = None if old is None else Comparison()
        for trial, side in zip(self.trials, ("new", "old"), strict=False):
            trial.tally.comparison, trial.tally.side = self.comparison, side  # type: ignore[assignment] # a literal of two
        self.records = self.unreadable_count = 0
        self.unreadable: list[Unreadable] = []
        self.span_ms: tuple[int, int] | None = None
        """The least and the greatest timestamp read."""
        self._readings: dict[str, tuple[Reading, list[Trial]]] = {}

    @property
    def topics(self) -> tuple[str, ...]:
        """What is to be read."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.topics))

    @property
    def merged(self) -> bool:
        """Whether records are to be given in the order of time over all partitions; else in that of each is enough."""
        return any(trial.merged for trial in self.trials)

    def take(self, records: Iterable[Record]) -> None:
        """Take the next records.

        Raises:
            TooManyDifferences: See `Comparison.add`.
        """
        for record in records:
            at = record.timestamp
            if self.span_ms is None:
                self.span_ms = (at, at)
                for trial in self.trials:
                    trial.begin(self._partitions, at)
            elif not self.span_ms[0] <= at <= self.span_ms[1]:
                self.span_ms = (min(self.span_ms[0], at), max(self.span_ms[1], at))
            self.records += 1
            try:
                self._read(record)
            except SchemaError as error:
                self.unreadable_count += 1
                if len(self.unreadable) < UNREADABLE_KEPT:
                    self.unreadable.append(Unreadable(record.topic, record.partition, record.offset, error.reason))
        for trial in self.trials:
            trial.match()

    def end(self) -> None:
        """The range has been read: let time pass to its end."""
        for trial in self.trials:
            if self.span_ms is not None:
                trial.end(self.span_ms[1])

    # ---- inside

    def _read(self, record: Record) -> None:
        known = self._readings.get(record.topic)
        if known is None:
            trials = [trial for trial in self.trials if record.topic in trial.topics]
            needs = [trial.compiled.need for trial in trials]
            known = (Reading(self._codec, needs, [need for need in needs if need.keyed is not None]), trials)
            self._readings[record.topic] = known
        reading, trials = known
        planned = reading.plan(record)
        if planned is None:
            return
        plan, decoded = planned
        fields = reading.fields(plan, record, decoded)
        source = f"{record.topic}/{record.partition}"
        place = (record.topic, record.partition, record.offset)
        for target in plan.targets:
            trial = trials[target]
            field_name = trial.compiled.need.keyed
            if field_name is not None:
                key = key_text(fields.get(field_name))
            else:
                key = None if record.key is None else text_of(record.key)
            if key is not None:
                event = reading.event(plan, fields, place, key, record.timestamp)
                trial.add(key, record.partition, event, source, record.timestamp)


def read_range(
    backtest: Backtest,
    reader: LogReader,
    bounds: Bounds,
    selection: Selection,
    on_progress: Callable[[Seen], None] | None = None,
) -> bool:
    """Run a backtest over a part of the log.

    Args:
        backtest: What to run.
        reader: Reads.
        bounds: Where each partition begins and ends, of `LogReader.bounds` for the selection.
        selection: Which records.
        on_progress: Called after each batch.

    Returns:
        Whether all was read; False: it was interrupted, and the backtest holds for what had been read.

    Raises:
        EmptyRange: There is no record in it.
        TooManyDifferences: See `Comparison.add`.
        BrokerError: The broker does not answer or refuses.
    """
    total = sum(max(0, end - start) for start, end in bounds.values())
    complete = True
    try:
        for batch, done in reader.read(bounds, merged=backtest.merged):
            backtest.take([record for record in batch if selection.takes(record)])
            if on_progress is not None:
                on_progress(Seen(done, total, backtest.records, backtest.new.tally.counts["matched"]))
    except KeyboardInterrupt:
        complete = False
    if not backtest.records:
        whole = reader.bounds(backtest.topics)
        held = ", ".join(f"{topic}/{number}: {first} to {end}" for (topic, number), (first, end) in sorted(whole.items()))
        raise EmptyRange(f"no record between --from and --to; the offsets that there are, ends not included: {held}")
    backtest.end()
    return complete
