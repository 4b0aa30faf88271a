"""Records as named tuples: aiokafka's frozen dataclass costs a tenth of a whole turn to build.

A frozen dataclass sets each of its eleven fields through `object.__setattr__`, about 1 µs a record; a named tuple of the same
fields is made in a quarter of that (docs/performance.md). The names are aiokafka's, so whatever reads a `ConsumerRecord` reads
these.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher

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
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: tuple[tuple[str, bytes], ...]


_new: Final = tuple.__new__


class _Records(fetcher.PartitionRecords):
    """Unpacks a fetched partition into `FetchedRecord`s."""

    def _consumer_record(self, tp: Any, record: Any) -> FetchedRecord:
        key, value = record.key, record.value
        return _new(
            FetchedRecord,
            (
                tp[0],
                tp[1],
                record.offset,
                record.timestamp,
                record.timestamp_type,
                key,
                value,
                None,
                -1 if key is None else len(key),
                -1 if value is None else len(value),
                tuple(record.headers),
            ),
        )


def install() -> None:
    """Let aiokafka's fetcher build these records. It names its class in one module-wide place, so this is process-wide.

    Faust's consumers pass no deserialisers to aiokafka; a consumer made with them, elsewhere in the process, keeps aiokafka's
    own class.
    """
    if fetcher.PartitionRecords is not _choose:
        fetcher.PartitionRecords = _choose


_stock: Final = fetcher.PartitionRecords


def _choose(
    tp: Any, records: Any, aborted: Any, offset: int, key_deserializer: Any, value_deserializer: Any, crcs: bool, isolation: Any
) -> Any:
    kind = _Records if key_deserializer is None and value_deserializer is None else _stock
    return kind(tp, records, aborted, offset, key_deserializer, value_deserializer, crcs, isolation)
