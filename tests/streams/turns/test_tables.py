"""Tables: what is refused, what a key and a value become, what code outside a batch may do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest
from faust.exceptions import ImproperlyConfigured
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ProcessorError
from streams.turns import App, JsonCodec, Options, Table
from streams.turns.batch import GONE, Batch, enter_batch
from streams.turns.stores import MemoryParts, RocksParts
from tests.streams.turns.fakes import batch

CODEC = JsonCodec()


def app(**options: Any) -> App:
    """Return an app that is never started."""
    return App("tables", options=Options(client={"bootstrap.servers": "127.0.0.1:1"}, **options))


@pytest.fixture
def counts() -> Table:
    """A table whose partition 0 has one key."""
    table: Table = app().Table("counts", default=int)
    table.parts.apply(0, {"old": 7}, {}, 0)
    return table


@pytest.fixture
def current() -> Any:
    """The batch of this test's task."""
    made = batch()
    enter_batch(made)
    yield made
    enter_batch(None)


# ---- bytes

atoms = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)


@given(keys)
def test_a_key_comes_back_from_the_changelog_as_it_was(key: Any) -> None:
    """Also a tuple, of whatever depth, so that a recovered table is asked with the keys it was written with."""
    again = CODEC.decode_key(CODEC.encode_key(key))
    assert (again, type(again)) == (key, type(key))
    assert hash(again) == hash(key)


@given(values)
def test_a_value_comes_back_from_the_changelog_as_it_was(value: Any) -> None:
    """Numbers, texts, lists and dicts are the same after recovery."""
    assert CODEC.decode_value(CODEC.encode_value(value)) == value


@dataclasses.dataclass(frozen=True)
class Point:
    x: int


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("key", [Point(1), uuid.UUID(int=1), dt.date(2026, 1, 1), Colour.RED, ("t", Colour.RED), float("nan")])
def test_a_key_that_would_not_come_back_is_refused(counts: Table, current: Batch, key: Any) -> None:
    """JSON would make another key of it, which a recovered table is not asked for, so it is never stored."""
    counts[key] = 1
    with pytest.raises(ProcessorError, match="table 'counts': key"):
        current.seal(record_bytes_max=1_000)


def test_writes_are_encoded_with_their_deletions(counts: Table) -> None:
    """A deletion is a changelog record without a value."""
    assert counts.encode({"a": 1, ("b", 2): [1], "c": GONE}) == {b'"a"': b"1", b'["b",2]': b"[1]", b'"c"': None}


# ---- inside a batch


def test_a_table_used_inside_a_batch_is_its_view(counts: Table, current: Batch) -> None:
    """Code that knows only the table, as any Faust code, reads and writes the turn."""
    counts["new"] += 1
    counts["new"] += 1
    del counts["old"]
    assert (counts["new"], "old" in counts, counts.get("old"), counts["none"]) == (2, False, None, 0)
    assert (list(counts), counts.keys(), counts.values(), counts.items(), len(counts)) == (["new"], ["new"], [2], [("new", 2)], 1)
    assert current.view(counts)["new"] == 2
    assert dict(counts.parts.items(0)) == {"old": 7}
    assert current.seal(record_bytes_max=1_000).encoded == {counts: {b'"new"': b"2", b'"old"': None}}


def test_a_dict_s_other_ways_to_write_join_the_turn_too(counts: Table, current: Batch) -> None:
    """`update`, `setdefault`, `pop` and `popitem` are writes like any other, not lost in a temporary dict."""
    counts.update({"a": 1}, b=2)
    counts.update([("c", 3)])
    assert counts.setdefault("a", 9) == 1
    assert counts.setdefault("d", 4) == 4
    assert counts.pop("old") == 7
    assert counts.pop("old", "none") == "none"
    with pytest.raises(KeyError):
        counts.pop("old")
    assert current.effects.writes[counts] == {"a": 1, "b": 2, "c": 3, "d": 4, "old": GONE}
    key, value = counts.popitem()
    assert current.effects.writes[counts][key] is GONE
    assert {key: value}.items() < {"a": 1, "b": 2, "c": 3, "d": 4}.items()
    while counts:
        counts.popitem()
    with pytest.raises(KeyError):
        counts.popitem()


# ---- outside


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.__setitem__("k", 1),
        lambda t: t.__delitem__("old"),
        lambda t: t.pop("old"),
        lambda t: t.update({"k": 1}),
        lambda t: t.update(k=1),
        lambda t: t.setdefault("k", 1),
        lambda t: t.popitem(),
    ],
)
def test_writing_outside_a_batch_is_refused(counts: Table, write: Any) -> None:
    """No offset stands for such a write, so it says what to do instead, and changes nothing."""
    with pytest.raises(ProcessorError, match="table 'counts' is written inside a batch only"):
        write(counts)
    assert dict(counts.parts.items(0)) == {"old": 7}


def test_reading_outside_a_batch_sees_what_is_committed(counts: Table) -> None:
    """Over all partitions of this worker, and as copies."""
    counts.parts.apply(3, {"far": [1]}, {}, 0)
    assert (counts["old"], counts["far"], counts.get("no", 5), counts["no"], len(counts)) == (7, [1], 5, 0, 2)
    counts["far"].append(2)
    assert counts["far"] == [1]
    assert sorted(counts.keys()) == ["far", "old"]


def test_a_batch_that_has_ended_is_outside(counts: Table, current: Batch) -> None:
    """A task that outlives its batch cannot write through the table either."""
    current.ended = True
    with pytest.raises(ProcessorError, match="inside a batch only"):
        counts["k"] = 1


# ---- refused


def test_windows_are_refused_with_the_way_round(counts: Table) -> None:
    """Faust's windowed tables need a single current event."""
    table: Any = counts
    with pytest.raises(ImproperlyConfigured, match="put the window's start into the key"):
        table.tumbling(10.0)
    with pytest.raises(ImproperlyConfigured, match="put the window's start into the key"):
        table.hopping(10.0, 5.0)


@pytest.mark.parametrize("kind", ["GlobalTable", "SetTable", "SetGlobalTable"])
def test_faust_s_other_tables_are_refused(kind: str) -> None:
    """They write their changelogs outside the turn, so declaring one says what to use instead."""
    with pytest.raises(ProcessorError, match=r"table 'seen': Faust's global and set tables .* use app.Table"):
        getattr(app(), kind)("seen")


def test_a_table_is_not_cleared_as_a_whole(counts: Table, current: Batch) -> None:
    """A changelog has no record for that."""
    with pytest.raises(ProcessorError, match="not cleared as a whole"):
        counts.clear()


def test_faust_s_own_changelog_writes_are_switched_off(counts: Table) -> None:
    """The turn writes the changelog; keys do not expire behind its back."""
    counts.on_key_set("k", 1)
    counts.on_key_del("k")
    assert not counts._should_expire_keys()


# ---- the store behind


def test_the_store_is_the_one_the_options_name(tmp_path: Path) -> None:
    """Memory, or RocksDB in a directory of this app, instance and table."""
    assert isinstance(app().Table("t").parts, MemoryParts)
    parts = app(store="rocksdb", state_dir=tmp_path, instance="w1").Table("t").parts
    assert isinstance(parts, RocksParts)
    parts.load(2, [])
    parts.offset(2)
    assert (tmp_path / "tables" / "w1" / "t" / "2").is_dir()
    parts.close()


async def test_faust_asks_the_store_through_the_table(counts: Table) -> None:
    """Offsets for recovery come from the parts, and a finished rebalance keeps only what is assigned."""
    tp = TP(counts.changelog_topic_name, 0)
    assert (counts.persisted_offset(tp), counts.persisted_offset(tp._replace(partition=5))) == (0, None)
    counts.parts.apply(4, {"k": 1}, {}, 0)
    await counts.data.on_recovery_completed({tp}, {tp._replace(partition=9)})
    assert counts.parts.partitions() == (0,)
    await counts.data.on_stop()


def test_a_codec_of_one_s_own(current: Batch) -> None:
    """Keys and values are whatever the table's codec makes of them."""

    class Raw:
        encode_key = decode_key = encode_value = decode_value = staticmethod(lambda value: value)

    table: Table = app().Table("raw", codec=Raw())
    table[b"k"] = b"v"
    assert current.seal(record_bytes_max=1_000).encoded == {table: {b"k": b"v"}}
    assert orjson.loads(CODEC.encode_value({"a": 1})) == {"a": 1}
