"""Where the committed contents of a table live: one part a partition, each knowing how much of the changelog it holds.

A part changes in two ways only: by the changelog (recovery, standby) and by a committed turn. So it is always a prefix of the
log, a rebalance can keep it, and recovery reads what is missing and no more.

    memory   a dict a partition, decoded values
    rocksdb  a RocksDB a partition (rocksdict); values and the changelog offset are written in one atomic batch, so a restart
    reads only the tail
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from rocksdict import AccessType, Options, Rdict, WriteBatch

from streams.errors import StateDirFull
from streams.turns.batch import GONE, Record

__all__ = ["Codec", "MemoryParts", "Parts", "RocksParts", "compact"]

log = logging.getLogger(__name__)

NOTHING_LOADED: Final = -1
"""The changelog offset of a part that holds nothing yet."""

OFFSET_KEY: Final = b"\x00antiphon.offset"
WRITTEN_KEY: Final = b"\x00antiphon.written_ms"
_RESERVED: Final = b"\x00"
"""JSON never starts with NUL, so these keys cannot meet a table's."""

STATE_AGE_MAX_MS: Final = 20 * 60 * 60 * 1000
"""A part untouched for longer is read again from the beginning: compaction may have dropped deletions (delete.retention.ms is a
day)."""

SHRINK_FROM_KEYS: Final = 10_000
"""Parts that were never larger are left as they are: an empty dict that had so many keys takes half a MiB."""
SHRINK_BELOW: Final = 4
"""A part is made anew when it has less than this fraction (one in so many) of the keys it once had."""

WRITE_BUFFER_BYTES: Final = 16 << 20
"""RocksDB's memtable a partition: a worker may hold a hundred partitions, and 64 MiB each would not fit beside anything else."""


class Codec(Protocol):
    """How a table's keys and values become bytes."""

    def encode_key(self, key: Any) -> bytes:
        """Return the key's bytes; equal keys give equal bytes."""
        ...

    def decode_key(self, raw: bytes) -> Any:
        """Return the key."""
        ...

    def encode_value(self, value: Any) -> bytes:
        """Return the value's bytes."""
        ...

    def decode_value(self, raw: bytes) -> Any:
        """Return the value."""
        ...


class Parts(Protocol):
    """The committed parts of one table."""

    def get(self, partition: int, key: Any, default: Any = None) -> Any:
        """Return the committed value."""
        ...

    def items(self, partition: int) -> Iterator[tuple[Any, Any]]:
        """Iterate over the committed keys and values of one partition."""
        ...

    def size(self, partition: int) -> int:
        """Return about how many keys a partition has."""
        ...

    def partitions(self) -> tuple[int, ...]:
        """Return the partitions held."""
        ...

    def offset(self, partition: int) -> int:
        """Return the changelog offset up to which, inclusive, a part holds the log; -1 for nothing."""
        ...

    def load(self, partition: int, records: Sequence[Record]) -> None:
        """Apply changelog records, in order."""
        ...

    def apply(self, partition: int, writes: Mapping[Any, Any], encoded: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Apply a committed turn whose last changelog record landed at `offset`."""
        ...

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Let go of every other partition."""
        ...

    def clear(self, partition: int) -> None:
        """Forget one partition, and its files."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


def compact(part: dict[Any, Any], peak: int) -> dict[Any, Any]:
    """Return a dict, made anew where it has lost most of the `peak` keys it had: Python shrinks none that only loses keys."""
    return dict(part) if peak >= SHRINK_FROM_KEYS and len(part) * SHRINK_BELOW < peak else part


class MemoryParts:
    """Parts as dicts of decoded values. Memory that deleted keys had is given back."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._parts: dict[int, dict[Any, Any]] = {}
        self._offsets: dict[int, int] = {}
        self._peaks: dict[int, int] = {}

    def _shrink(self, partition: int) -> None:
        part = self._parts[partition]
        peak = max(self._peaks.get(partition, 0), len(part))
        new = self._parts[partition] = compact(part, peak)
        self._peaks[partition] = peak if new is part else len(new)

    def get(self, partition: int, key: Any, default: Any = None) -> Any:
        """Return the committed value."""
        part = self._parts.get(partition)
        return default if part is None else part.get(key, default)

    def items(self, partition: int) -> Iterator[tuple[Any, Any]]:
        """Iterate over the committed keys and values of one partition."""
        return iter(self._parts.get(partition, {}).items())

    def size(self, partition: int) -> int:
        """Return the number of keys."""
        return len(self._parts.get(partition, ()))

    def partitions(self) -> tuple[int, ...]:
        """Return the partitions held."""
        return tuple(self._parts)

    def offset(self, partition: int) -> int:
        """Return the changelog offset up to which, inclusive, the part holds the log."""
        return self._offsets.get(partition, NOTHING_LOADED)

    def load(self, partition: int, records: Sequence[Record]) -> None:
        """Apply changelog records, in order."""
        part = self._parts.setdefault(partition, {})
        decode_key, decode_value = self._codec.decode_key, self._codec.decode_value
        for record in records:
            if record.key is None:
                continue  # nobody can own a changelog record without a key
            if record.value is None:
                part.pop(decode_key(record.key), None)
            else:
                part[decode_key(record.key)] = decode_value(record.value)
        if records:
            self._offsets[partition] = records[-1].offset
            self._shrink(partition)

    def apply(self, partition: int, writes: Mapping[Any, Any], encoded: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Apply a committed turn. `offset` is where its last changelog record landed, None where the answer did not tell."""
        if offset is not None and offset <= self.offset(partition):
            return  # a recovery has read this turn, and perhaps later ones, from the changelog already
        part = self._parts.setdefault(partition, {})
        for key, value in writes.items():
            if value is GONE:
                part.pop(key, None)
            else:
                part[key] = value
        self._shrink(partition)
        if offset is not None:
            self._offsets[partition] = offset

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Forget every other partition: it may be written elsewhere from now on."""
        for partition in set(self._parts) - set(partitions):
            self.clear(partition)

    def clear(self, partition: int) -> None:
        """Forget one partition."""
        self._parts.pop(partition, None)
        self._offsets.pop(partition, None)
        self._peaks.pop(partition, None)

    def close(self) -> None:
        """Release what is held."""


def _out_of_space(error: Exception) -> bool:
    text = str(error).lower()
    return "no space left" in text or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


class RocksParts:
    """Parts on disk, one RocksDB a partition under `directory`."""

    def __init__(self, codec: Codec, directory: Path) -> None:
        self._codec, self._directory = codec, directory
        self._open: dict[int, Rdict] = {}

    def _path(self, partition: int) -> Path:
        return self._directory / str(partition)

    def _db(self, partition: int) -> Rdict:
        db = self._open.get(partition)
        if db is None:
            path = self._path(partition)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                db = self._opened(path)
                stale = db.get(WRITTEN_KEY)
                if stale is not None and time.time() * 1000 - int(stale) > STATE_AGE_MAX_MS:
                    db.close()
                    shutil.rmtree(path)
                    db = self._opened(path)
            except Exception as error:
                if _out_of_space(error):
                    raise self._full(error) from error
                raise
            self._open[partition] = db
        return db

    @staticmethod
    def _opened(path: Path) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_keep_log_file_num(2)
        return Rdict(str(path), options=options, access_type=AccessType.read_write())

    def _full(self, error: Exception) -> StateDirFull:
        return StateDirFull(str(self._directory), str(error))

    def get(self, partition: int, key: Any, default: Any = None) -> Any:
        """Return the committed value, decoded."""
        raw = self._db(partition).get(self._codec.encode_key(key))
        return default if raw is None else self._codec.decode_value(raw)

    def items(self, partition: int) -> Iterator[tuple[Any, Any]]:
        """Iterate over the committed keys and values of one partition."""
        decode_key, decode_value = self._codec.decode_key, self._codec.decode_value
        raw_key: Any
        raw_value: Any
        for raw_key, raw_value in self._db(partition).items():
            if not raw_key.startswith(_RESERVED):
                yield decode_key(raw_key), decode_value(raw_value)

    def size(self, partition: int) -> int:
        """Return about how many keys there are (RocksDB's own estimate)."""
        estimate = self._db(partition).property_int_value("rocksdb.estimate-num-keys")
        return max(0, (estimate or 0) - 2)

    def partitions(self) -> tuple[int, ...]:
        """Return the partitions that are open."""
        return tuple(self._open)

    def offset(self, partition: int) -> int:
        """Return the changelog offset up to which, inclusive, the part holds the log."""
        raw = self._db(partition).get(OFFSET_KEY)
        return NOTHING_LOADED if raw is None else int(raw)

    def _write(self, partition: int, pairs: Iterable[tuple[bytes, bytes | None]], offset: int | None) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in pairs:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if offset is not None:
            batch.put(OFFSET_KEY, b"%d" % offset)
            batch.put(WRITTEN_KEY, b"%d" % int(time.time() * 1000))
        try:
            self._db(partition).write(batch)
        except Exception as error:
            if _out_of_space(error):
                raise self._full(error) from error
            raise

    def load(self, partition: int, records: Sequence[Record]) -> None:
        """Apply changelog records, in order, together with their last offset."""
        if records:
            self._write(partition, ((r.key, r.value) for r in records if r.key is not None), records[-1].offset)

    def apply(self, partition: int, writes: Mapping[Any, Any], encoded: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Apply a committed turn together with the offset of its last changelog record."""
        if offset is not None and offset <= self.offset(partition):
            return  # as above
        self._write(partition, encoded.items(), offset)

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Close every other partition; its files stay, and its offset tells a later recovery where to go on."""
        for partition in set(self._open) - set(partitions):
            try:
                self._open.pop(partition).close()
            except Exception as error:  # noqa: BLE001 rocksdict has no class of its own, and the others are to be closed too
                log.warning("%s: %s; what is missing there is read from the changelog again", self._path(partition), error)

    def clear(self, partition: int) -> None:
        """Remove one partition and its files."""
        db = self._open.pop(partition, None)
        if db is not None:
            db.close()
        shutil.rmtree(self._path(partition), ignore_errors=True)

    def close(self) -> None:
        """Close every partition, so that another process can open them."""
        self.keep_only(())
