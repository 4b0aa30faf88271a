"""One contract for both kinds of store: a part is always a prefix of its changelog."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Rdict

from streams.errors import StateDirFull
from streams.turns.batch import GONE
from streams.turns.stores import NOTHING_LOADED, SHRINK_FROM_KEYS, STATE_AGE_MAX_MS, MemoryParts, Parts, RocksParts
from streams.turns.tables import JsonCodec
from tests.streams.turns.fakes import FakeRecord

CODEC = JsonCodec()


def changelog(*writes: tuple[Any, Any], at: int = 0) -> list[Any]:
    """Return changelog records, the first at this offset; a value GONE is a deletion."""
    return [
        FakeRecord(at + n, None if v is GONE else CODEC.encode_value(v), CODEC.encode_key(k)) for n, (k, v) in enumerate(writes)
    ]


def apply(parts: Parts, writes: dict[Any, Any], offset: int | None, *, partition: int = 0) -> None:
    """Apply a committed turn."""
    encoded = {CODEC.encode_key(k): None if v is GONE else CODEC.encode_value(v) for k, v in writes.items()}
    parts.apply(partition, writes, encoded, offset)


def contents(parts: Parts, partition: int = 0) -> dict[Any, Any]:
    """Return a partition as a dict."""
    return dict(parts.items(partition))


@pytest.fixture(params=["memory", "rocksdb"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Parts]:
    """An empty store of either kind."""
    made: Parts = MemoryParts(CODEC) if request.param == "memory" else RocksParts(CODEC, tmp_path / "table")
    yield made
    made.close()


# ---- the contract


def test_a_new_store_holds_nothing(parts: Parts) -> None:
    """No key, no partition, and an offset before the first."""
    assert (parts.partitions(), parts.get(0, "k", "none"), parts.offset(0), contents(parts)) == ((), "none", NOTHING_LOADED, {})
    assert parts.size(0) == 0


def test_a_changelog_is_loaded_in_order(parts: Parts) -> None:
    """The last record of a key counts, deletions delete, and the offset is the last record's."""
    parts.load(0, changelog(("a", 1), ("b", 2), ("a", 3), ("b", GONE), (("t", 1), [1]), at=5))
    assert contents(parts) == {"a": 3, ("t", 1): [1]}
    assert (parts.offset(0), parts.get(0, "b"), parts.get(0, ("t", 1))) == (9, None, [1])
    parts.load(0, [])
    assert parts.offset(0) == 9


def test_a_record_without_a_key_is_passed_over(parts: Parts) -> None:
    """Nobody can own it; the offset moves on all the same."""
    parts.load(0, [FakeRecord(3, b"1", None)])
    assert (contents(parts), parts.offset(0)) == ({}, 3)


def test_a_committed_turn_is_applied_with_its_offset(parts: Parts) -> None:
    """Writes and deletions of a turn arrive together, and so does where they lie in the changelog."""
    parts.load(0, changelog(("a", 1), ("b", 2)))
    apply(parts, {"a": GONE, "c": {"n": [1]}, "never": GONE}, 4)
    assert (contents(parts), parts.offset(0)) == ({"b": 2, "c": {"n": [1]}}, 4)


def test_a_turn_that_was_read_from_the_changelog_is_not_applied_again(parts: Parts) -> None:
    """After a recovery has read past it, a late answer changes nothing, so a newer value is not overwritten by an older."""
    parts.load(0, changelog(("a", "old"), ("a", "new")))
    apply(parts, {"a": "old"}, 0)
    apply(parts, {"a": "old"}, 1)
    assert (contents(parts), parts.offset(0)) == ({"a": "new"}, 1)


def test_a_turn_whose_offset_is_not_known_is_applied_and_read_again(parts: Parts) -> None:
    """Without the answer the part keeps its older offset: a later recovery reads the turn once more, to the same end."""
    parts.load(0, changelog(("a", 1)))
    apply(parts, {"a": 2}, None)
    assert (contents(parts), parts.offset(0)) == ({"a": 2}, 0)
    parts.load(0, changelog(("a", 2), at=1))
    assert (contents(parts), parts.offset(0)) == ({"a": 2}, 1)


def test_partitions_are_separate(parts: Parts) -> None:
    """Keys and offsets of one partition say nothing about another's."""
    apply(parts, {"k": 0}, 10, partition=0)
    apply(parts, {"k": 1}, 20, partition=1)
    assert [(contents(parts, p), parts.offset(p)) for p in (0, 1)] == [({"k": 0}, 10), ({"k": 1}, 20)]
    assert sorted(parts.partitions()) == [0, 1]
    parts.keep_only([1, 7])
    assert parts.partitions() == (1,)
    parts.clear(1)
    assert (parts.partitions(), parts.offset(1), contents(parts, 1)) == ((), NOTHING_LOADED, {})


def test_clearing_what_is_not_held_is_nothing(parts: Parts) -> None:
    """A partition may be cleared before it was ever opened."""
    parts.clear(9)
    assert parts.offset(9) == NOTHING_LOADED


def test_the_number_of_keys_is_about_right(parts: Parts) -> None:
    """Exactly in memory; RocksDB estimates, without its own two keys."""
    apply(parts, {f"k{n}": n for n in range(100)}, 99)
    assert parts.size(0) == 100


KEYS = st.sampled_from(["a", "b", 1, ("t", 2)])
VALUES = st.integers(0, 9) | st.just(GONE) | st.lists(st.integers(0, 2), max_size=2)
TURNS = st.lists(st.tuples(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), st.booleans()), max_size=8)


@settings(max_examples=30, deadline=None)
@given(turns=TURNS, again=st.integers(0, 8))
def test_a_part_is_a_prefix_of_its_log(tmp_path_factory: pytest.TempPathFactory, turns: list[Any], again: int) -> None:
    """Turns applied live, with their offsets known or not, and a recovery from any held offset give what the whole log gives."""
    log: list[Any] = []
    stores: list[Parts] = [MemoryParts(CODEC), RocksParts(CODEC, tmp_path_factory.mktemp("rocks"))]
    for writes, told in turns:
        log += changelog(*writes.items(), at=len(log))
        for store in stores:
            apply(store, writes, len(log) - 1 if told else None)
    for store in stores:
        if again:
            store.load(0, [r for r in log if r.offset > store.offset(0)])
        fresh = MemoryParts(CODEC)
        fresh.load(0, log)
        assert contents(store) == contents(fresh)
        store.close()


# ---- in memory


def test_memory_of_deleted_keys_is_given_back() -> None:
    """A part that has lost most of its keys is made anew, keeps the rest, and a small one is left alone."""
    parts = MemoryParts(JsonCodec())
    many = {f"key-{i}": i for i in range(SHRINK_FROM_KEYS)}
    parts.apply(0, many, {}, 1)
    full = sys.getsizeof(parts._parts[0])
    parts.apply(0, dict.fromkeys(list(many)[: SHRINK_FROM_KEYS // 2], GONE), {}, 2)
    assert sys.getsizeof(parts._parts[0]) == full
    parts.apply(0, dict.fromkeys(list(many)[:-7], GONE), {}, 3)
    assert sys.getsizeof(parts._parts[0]) < full / 100
    assert dict(parts.items(0)) == dict(list(many.items())[-7:])
    part = parts._parts[0]
    parts.apply(0, dict.fromkeys(part, GONE), {}, 4)
    assert parts._parts[0] is part


def test_keep_only_in_memory_forgets_the_rest() -> None:
    """A partition that went elsewhere is read again when it comes back, since others may write it meanwhile."""
    parts = MemoryParts(CODEC)
    apply(parts, {"k": 1}, 5)
    parts.keep_only([])
    assert (parts.offset(0), contents(parts)) == (NOTHING_LOADED, {})


# ---- on disk


def test_state_on_disk_survives_with_its_offset(tmp_path: Path) -> None:
    """A restart finds values, deletions and offset, so that only the tail is read."""
    first = RocksParts(CODEC, tmp_path)
    first.load(0, changelog(("a", 1), ("b", 2)))
    apply(first, {"a": GONE, "c": 3}, 5)
    first.close()
    again = RocksParts(CODEC, tmp_path)
    assert (contents(again), again.offset(0)) == ({"b": 2, "c": 3}, 5)
    again.close()


def test_a_closed_partition_keeps_its_files(tmp_path: Path) -> None:
    """A partition that went elsewhere and comes back is read from where its files end."""
    parts = RocksParts(CODEC, tmp_path)
    apply(parts, {"k": 1}, 5)
    parts.keep_only([])
    assert parts.partitions() == ()
    assert (parts.offset(0), contents(parts)) == (5, {"k": 1})
    parts.close()


def test_clearing_removes_the_files(tmp_path: Path) -> None:
    """A changelog made anew is not mixed with what was stored of the old one."""
    parts = RocksParts(CODEC, tmp_path)
    apply(parts, {"k": 1}, 5)
    parts.clear(0)
    assert not (tmp_path / "0").exists()
    apply(parts, {"new": 1}, 0)
    assert (contents(parts), parts.offset(0)) == ({"new": 1}, 0)
    parts.close()


@pytest.mark.parametrize(("age_ms", "kept"), [(STATE_AGE_MAX_MS - 60_000, True), (STATE_AGE_MAX_MS + 60_000, False)])
def test_state_too_old_is_dropped(tmp_path: Path, age_ms: int, kept: bool) -> None:
    """Beyond the time for which compaction keeps deletions the tail does not tell all: the part starts anew."""
    written = time.time()
    with time_machine.travel(written, tick=False):
        parts = RocksParts(CODEC, tmp_path)
        apply(parts, {"k": 1}, 5)
        parts.close()
    with time_machine.travel(written + age_ms / 1000, tick=False):
        again = RocksParts(CODEC, tmp_path)
        assert (contents(again), again.offset(0)) == (({"k": 1}, 5) if kept else ({}, NOTHING_LOADED))
        again.close()


class FullDisk:
    """A database on a disk without space."""

    def __init__(self, db: Rdict, error: Exception) -> None:
        self._db, self._error = db, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def write(self, _: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error", [Exception("IO error: No space left on device: While appending to file"), OSError(errno.ENOSPC, "full")]
)
def test_a_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    """The error has the directory and what the system said; what was stored before stays readable."""
    parts = RocksParts(CODEC, tmp_path)
    apply(parts, {"k": 1}, 5)
    parts._open[0] = cast(Any, FullDisk(parts._open[0], error))
    with pytest.raises(StateDirFull, match=str(tmp_path)):
        apply(parts, {"k": 2}, 6)
    with pytest.raises(StateDirFull):
        parts.load(0, changelog(("k", 3), at=6))
    assert (contents(parts), parts.offset(0)) == ({"k": 1}, 5)
    parts.close()


def test_other_trouble_is_not_called_a_full_disk(tmp_path: Path) -> None:
    """What the disk says otherwise is passed on as it is."""
    parts = RocksParts(CODEC, tmp_path)
    apply(parts, {"k": 1}, 5)
    parts._open[0] = cast(Any, FullDisk(parts._open[0], Exception("Corruption: block checksum mismatch")))
    with pytest.raises(Exception, match="Corruption"):
        apply(parts, {"k": 2}, 6)
    parts.close()


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """RocksDB's own words on a file system without space are understood, when it opens and when it writes."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        parts = RocksParts(CODEC, small / "table")
        apply(parts, {"first": 1}, 0)
        filler = {f"k{n}": "x" * 100_000 for n in range(40)}
        with pytest.raises(StateDirFull, match="small"):
            apply(parts, filler, 1)
        assert parts.get(0, "first") == 1
        with pytest.raises(StateDirFull, match="small"):
            apply(parts, {"k": 1}, 0, partition=1)
        parts.close()
        assert parts.partitions() == ()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
