"""Records as named tuples, made a whole batch at a time: what aiokafka spends between the socket and a record, more than halved.

aiokafka asks three Python functions and a generator for each record, and builds a frozen dataclass, which sets each of its
eleven fields through `object.__setattr__`: about 2 µs a record. A named tuple of eight, made in one comprehension over
aiokafka's compiled reader, takes 0.4 µs; the other three follow from these (docs/performance.md). The names are aiokafka's, so
whatever reads a `ConsumerRecord` reads these.

Which records are handed out, and where the position stands afterwards, is as aiokafka has it: none of aborted kafka transactions
where only committed ones are asked for, none of control batches, none before the position.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException

__all__ = ["FetchedRecord", "install"]


class FetchedRecord(NamedTuple):
    """A record as read from the log, with the fields of aiokafka's `ConsumerRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def checksum(self) -> None:
        """None: records of today's format have none of their own."""

    @property
    def serialized_key_size(self) -> int:
        """Bytes of the key; -1 where there is none."""
        return -1 if self.key is None else len(self.key)

    @property
    def serialized_value_size(self) -> int:
        """Bytes of the value; -1 where there is none."""
        return -1 if self.value is None else len(self.value)


_new: Final = tuple.__new__


def _made(tp: Any, batch: Iterator[Any]) -> list[FetchedRecord]:
    topic, partition = tp
    return [
        _new(
            FetchedRecord,
            (
                topic,
                partition,
                record.offset,
                record.timestamp,
                record.timestamp_type,
                record.key,
                record.value,
                tuple(headers) if (headers := record.headers) else (),
            ),
        )
        for record in batch
    ]


class _Records(fetcher.PartitionRecords):
    """Unpacks a fetched partition into `FetchedRecord`s."""

    next_fetch_offset: int
    _batch: Any = None
    """The log's batch that is being read, and an iterator over what is left of it."""
    _rest: Iterator[Any]

    def __next__(self) -> FetchedRecord:
        found = self.take(1)
        if not found:
            raise StopIteration
        return found[0]

    def take(self, records_max: int) -> list[FetchedRecord]:
        """Return the next records and move the position behind them; fewer than `records_max` only where there are no more."""
        taken: list[FetchedRecord] = []
        while len(taken) < records_max and (self._batch is not None or self._open()):
            wanted = records_max - len(taken)
            made = _made(self._tp, islice(self._rest, wanted))
            ended = len(made) < wanted
            if made and made[0].offset < self.next_fetch_offset:  # a batch is fetched whole, wherever in it the position is
                made = [record for record in made if record.offset >= self.next_fetch_offset]
            if made:
                self.next_fetch_offset = made[-1].offset + 1
                taken = taken + made if taken else made
            if ended:  # the batch's own end: compaction may have taken its last records
                self.next_fetch_offset = self._batch.next_offset
                self._batch = None
        return taken

    def _open(self) -> bool:
        """Go to the next batch with records for anyone; return whether there is one."""
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._is_aborted(batch) or batch.is_control_batch:
                self.next_fetch_offset = batch.next_offset
                continue
            self._batch, self._rest = batch, chain(batch)  # its own iterator may be asked for only once; a chain's any time
            return True
        return False

    def _is_aborted(self, batch: Any) -> bool:
        """Whether a batch belongs to an aborted kafka transaction; keeps book of which these are so far in the log."""
        if self._isolation_level != fetcher.READ_COMMITTED or batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch:
            if self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            return False
        return bool(batch.is_transactional) and batch.producer_id in self._aborted_producers


_stock: Final = fetcher.PartitionRecords
_stock_getall: Final = fetcher.FetchResult.getall


def _choose(
    tp: Any, records: Any, aborted: Any, offset: int, key_deserializer: Any, value_deserializer: Any, crcs: bool, isolation: Any
) -> Any:
    kind = _Records if key_deserializer is None and value_deserializer is None else _stock
    return kind(tp, records, aborted, offset, key_deserializer, value_deserializer, crcs, isolation)


def _getall(self: Any, max_records: int | None = None) -> list[Any]:
    """Return what was fetched of a partition, at most `max_records` of it; nothing where the position has moved meanwhile."""
    records = self._partition_records
    if type(records) is not _Records:
        return _stock_getall(self, max_records)
    if not self.check_assignment(self._topic_partition):
        return []
    wanted = sys.maxsize if max_records is None else max_records
    found = records.take(wanted)
    self._update_position()
    if len(found) < wanted:
        self._partition_records = None
    return found


def install() -> None:
    """Let aiokafka's fetcher build these records. It names its class in one module-wide place, so this is process-wide.

    Faust's consumers pass no deserialisers to aiokafka; a consumer made with them, elsewhere in the process, keeps aiokafka's
    own class.
    """
    fetcher.PartitionRecords = _choose
    fetcher.FetchResult.getall = _getall
