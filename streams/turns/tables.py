"""Faust tables whose writes collect in the turn.

Outside a batch a table reads what is committed and refuses writes: a stock Faust table written by a timer or a web request
changes memory and changelog without any offset or transaction around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faust
import orjson
from faust.exceptions import ImproperlyConfigured
from faust.stores import memory
from faust.tables.manager import TableManager

from streams.errors import ProcessorError
from streams.turns.batch import GONE, MISSING, View, current_batch, isolated
from streams.turns.recovery import TurnRecovery
from streams.turns.stores import MemoryParts, Parts, RocksParts

if TYPE_CHECKING:
    from faust.types import TP

__all__ = ["JsonCodec", "Table", "TurnTables"]


def _as_key(value: Any) -> Any:
    """JSON has no tuples and dicts have no list keys: a key that was a tuple comes back as one."""
    return tuple(_as_key(v) for v in value) if type(value) is list else value


_SAME: Final = frozenset({str, int})
"""What comes back as it was: their keys, and tuples of them, need not be read again to know."""
_AS_IT_IS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


class JsonCodec:
    """JSON by orjson. Keys: strings, numbers, booleans, None and tuples of these. Values: whatever JSON has, also nested.

    What would come back as something else is refused (dataclasses, dates): a recovered table equals the one that was lost.
    Two things are not noticed: a tuple comes back as a list, and NaN and the infinities as None.
    """

    def encode_key(self, key: Any) -> bytes:
        """Return the key's bytes; equal keys of one type give equal bytes.

        Raises:
            TypeError: JSON would make another key of it (a date a string), which a recovered table is not asked for.
        """
        raw = orjson.dumps(key)
        if type(key) is tuple and _SAME.issuperset(map(type, key)):
            return raw
        if type(key) not in _SAME and self.decode_key(raw) != key:
            raise TypeError(f"as a key it would come back as {self.decode_key(raw)!r}")
        return raw

    def decode_key(self, raw: bytes) -> Any:
        """Return the key; a list becomes a tuple."""
        key = orjson.loads(raw)
        return _as_key(key) if type(key) is list else key

    def encode_value(self, value: Any) -> bytes:
        """Return the value's bytes.

        Raises:
            TypeError: JSON would make something else of it.
        """
        return orjson.dumps(value, option=_AS_IT_IS)

    def decode_value(self, raw: bytes) -> Any:
        """Return the value."""
        return orjson.loads(raw)


class _Store(memory.Store):
    """Faust's store interface over the parts: what Faust itself asks a table's store for."""

    def __post_init__(self) -> None:
        self._key_partition: dict[Any, int] = {}

    @cached_property
    def parts(self) -> Parts:
        parts: Parts = self.table.new_parts()
        return parts

    @property
    def data(self) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        for partition in self.parts.partitions():
            merged.update(self.parts.items(partition))
        return merged

    def persisted_offset(self, tp: TP) -> int | None:
        offset = self.parts.offset(tp.partition)
        return offset if offset >= 0 else None

    def _clear(self) -> None:
        raise ProcessorError("a table is not cleared as a whole: delete its keys inside a batch")

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        self.parts.keep_only(tp.partition for tp in active_tps | standby_tps)

    async def on_stop(self) -> None:
        self.parts.close()


class Table(faust.Table):
    """A partitioned, compacted, exactly-once key-value table.

    Args:
        default: Called for a missing key by `view[key]`.
        codec: Keys and values to bytes and back, JSON unless given (see `streams.turns.stores.Codec`).
        immutable_values: Promise that no value is ever changed in place (frozen dataclasses, tuples of atoms); views then hand
        out the
            stored value itself, without a copy.
        The other arguments are Faust's.
    """

    def __init__(self, *args: Any, codec: Any = None, immutable_values: bool = False, **kwargs: Any) -> None:
        self.codec = codec or JsonCodec()
        self.immutable_values = immutable_values
        super().__init__(*args, **kwargs)

    def _new_store(self) -> Any:
        return _Store("memory://", self.app, self, table_name=self.name, loop=self.loop)

    def new_parts(self) -> Parts:
        """Make the store of the configured kind."""
        if self.app.options.store == "rocksdb":
            return RocksParts(
                self.codec, Path(self.app.options.state_dir) / self.app.conf.id / self.app.options.instance / self.name
            )
        return MemoryParts(self.codec)

    @property
    def parts(self) -> Parts:
        """The committed contents by partition."""
        parts: Parts = self.data.parts
        return parts

    def encode(self, writes: Mapping[Any, Any]) -> dict[bytes, bytes | None]:
        """Return the changelog records of these writes: one a key, None for a deletion.

        Raises:
            ProcessorError: A key or value has no encoding; names the key.
        """
        encode_key, encode_value = self.codec.encode_key, self.codec.encode_value
        encoded: dict[bytes, bytes | None] = {}
        for key, value in writes.items():
            try:
                encoded[encode_key(key)] = None if value is GONE else encode_value(value)
            except (TypeError, ValueError) as error:
                raise ProcessorError(
                    f"table {self.name!r}: key {key!r}: {type(value).__name__} cannot be stored ({error})"
                ) from error
        return encoded

    def _view(self) -> View | None:
        batch = current_batch()
        return None if batch is None else batch.view(self)

    def _committed(self, key: Any) -> Any:
        for partition in self.parts.partitions():
            value = self.parts.get(partition, key, MISSING)
            if value is not MISSING:
                return value if self.immutable_values else isolated(value)
        return MISSING

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value as the current batch sees it; outside a batch, the committed value on this worker."""
        view = self._view()
        if view is not None:
            return view.get(key, default)
        value = self._committed(key)
        return default if value is MISSING else value

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, MISSING)
        return self.__missing__(key) if value is MISSING else value

    def __contains__(self, key: object) -> bool:
        return self.get(key, MISSING) is not MISSING

    def __setitem__(self, key: Any, value: Any) -> None:
        self._writable()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._writable()[key]

    def pop(self, key: Any, *default: Any) -> Any:
        """Delete the key inside a batch and return its value."""
        if key not in self:
            if default:
                return default[0]
            raise KeyError(key)
        return self._writable().pop(key)

    def popitem(self) -> tuple[Any, Any]:
        """Delete some key inside a batch and return it with its value."""
        view = self._writable()
        for key in view:
            return key, view.pop(key)
        raise KeyError(f"table {self.name!r} is empty")

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the key's value; where it has none, write `default` inside a batch and return that."""
        view = self._writable()
        if key not in view:
            view[key] = default
        return view.get(key)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Write several keys inside a batch, with a dict's arguments."""
        view = self._writable()
        for key, value in dict(*args, **kwargs).items():
            view[key] = value

    def _writable(self) -> View:
        view = self._view()
        if view is None:
            raise ProcessorError(
                f"table {self.name!r} is written inside a batch only: elsewhere nothing ties the write to an offset. "
                "Send a record to a batch topic, or use batch.wake_at for what a timer does"
            )
        return view

    def items(self) -> Any:
        """Return the keys and values as the current batch sees them; outside a batch, the committed ones on this worker."""
        view = self._view()
        return view.items() if view is not None else list(self.data.data.items())

    def keys(self) -> Any:
        """Return the keys, as `items` sees them."""
        return [k for k, _ in self.items()]

    def values(self) -> Any:
        """Return the values, as `items` sees them."""
        return [v for _, v in self.items()]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def clear(self) -> None:
        """Refused: a changelog has no such record."""
        raise ProcessorError(f"table {self.name!r} is not cleared as a whole: delete its keys inside a batch")

    def using_window(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: Faust's windows take their time from the one event being processed, and a batch holds many."""
        raise ImproperlyConfigured(
            f"table {self.name!r}: Faust's windowed tables need a single current event; put the window's start into the key, as "
            "processors/core/activity.py does"
        )

    # Faust's expiry of windowed keys and its per-write changelog sends have no part in turns.
    def _should_expire_keys(self) -> bool:
        return False

    def on_key_set(self, key: Any, value: Any) -> None:
        """Do nothing: the turn writes the changelog."""

    def on_key_del(self, key: Any) -> None:
        """Do nothing: the turn writes the changelog."""


class TurnTables(TableManager):
    """Faust's table manager with batch recovery."""

    _recovery: TurnRecovery | None

    @property
    def recovery(self) -> TurnRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = TurnRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Yield table, partition and number of keys of what this worker holds."""
        for table in self.values():
            for partition in table.parts.partitions():
                yield table.name, partition, table.parts.size(partition)
