"""Reading histories: what is an event, what is not and why, in bounded memory, line by line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.demo import BUNDLED
from processors.history import (
    KEPT_BYTES_MAX,
    LINE_BYTES_MAX,
    Entry,
    HistoryError,
    HistoryMissing,
    Malformed,
    parse_line,
    read_file,
)
from schemas.work import ChangeCommitted, FileChanged

NOW_MS = 1_800_000_000_000

GOOD: dict[str, Any] = {
    "seq": 1,
    "ts": 1000,
    "arrived": 2000,
    "agent": "a",
    "task": "t",
    "type": "file.changed",
    "path": "p",
    "added": 1,
    "removed": 0,
}
COMMIT: dict[str, Any] = {k: v for k, v in GOOD.items() if k != "path"} | {"type": "change.committed", "files": 1}


def line(**changes: object) -> bytes:
    return orjson.dumps({k: v for k, v in {**GOOD, **changes}.items() if v is not ...})


def read(tmp_path: Path, content: bytes) -> list[Entry]:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    return list(read_file(path, now_ms=NOW_MS))


def test_reads_the_bundled_history_whole() -> None:
    """Every one of its 115,241 lines is an event, in order."""
    entries = list(read_file(BUNDLED, now_ms=NOW_MS))
    assert [e.line for e in entries] == list(range(1, 115_242))
    kinds = [type(e.event) for e in entries]
    assert (kinds.count(ChangeCommitted), kinds.count(FileChanged)) == (14_012, 101_229)


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b"{", "BadJson", "not JSON"),
        (b"\xff\xfe", "BadJson", "not JSON"),
        (b'{"agent": "\\ud800"}', "BadJson", "not JSON"),
        (b"[1]", "NoObject", "not a JSON object"),
        (line(type="file.deleted"), "UnknownType", "file.deleted"),
        (line(type=["file.changed"]), "UnknownType", "allowed are change.committed, file.changed"),
        (line(path=..., task=...), "MissingField", "lacks task, path"),
        (line(colour="red"), "ExtraField", "colour"),
        (line(id="x"), "ExtraField", "id"),
        (line(added="1"), "WrongType", "added is '1'"),
        (line(added=True), "WrongType", "added is True"),
        (line(added=1.0), "WrongType", "added is 1.0"),
        (line(agent=None), "WrongType", "agent is None"),
        (line(added=-1), "OutOfRange", "added is -1"),
        (line(seq=2**60), "OutOfRange", "seq"),
        (line(agent=""), "OutOfRange", "agent has 0 characters"),
        (line(agent="x" * 257), "OutOfRange", "agent has 257 characters"),
        (line(ts=NOW_MS + 86_400_001), "InTheFuture", "ts is"),
        (line(arrived=NOW_MS * 1000), "InTheFuture", "arrived is"),
    ],
)
def test_what_is_no_event_says_why(raw: bytes, error: str, words: str) -> None:
    """Each kind of malformed line keeps its bytes and names its fault in one line."""
    found = parse_line(raw, now_ms=NOW_MS)
    assert isinstance(found, Malformed)
    assert (found.raw, found.error) == (raw, error)
    assert words in found.reason
    assert "\n" not in found.reason


def test_a_reverting_change_is_read() -> None:
    """`reverts` may be there or not; null is not the same as not there."""
    reverting, plain = (parse_line(orjson.dumps(COMMIT | more), now_ms=NOW_MS) for more in ({"reverts": "x"}, {}))
    assert isinstance(reverting, ChangeCommitted)
    assert isinstance(plain, ChangeCommitted)
    assert (reverting.reverts, plain.reverts) == ("x", None)
    assert isinstance(parse_line(orjson.dumps(COMMIT | {"reverts": None}), now_ms=NOW_MS), Malformed)


def test_goes_on_after_malformed_lines_and_keeps_counting(tmp_path: Path) -> None:
    """Good lines before and after a bad one are read, blank ones are passed over, and all keep their numbers."""
    entries = read(tmp_path, b"\xef\xbb\xbf" + line() + b"\r\n\nnonsense\n  \n" + line())
    assert [(e.line, isinstance(e.event, Malformed)) for e in entries] == [(1, False), (3, True), (5, False)]


def test_a_huge_line_is_one_dead_letter_and_the_next_line_is_read(tmp_path: Path) -> None:
    """A line beyond the limit is passed over in pieces, its beginning kept; the lines around it are whole."""
    entries = read(
        tmp_path, line() + b"\n" + b"x" * (5 * LINE_BYTES_MAX + 7) + b"\n" + line() + b"\n" + b"y" * (LINE_BYTES_MAX + 1)
    )
    assert [e.line for e in entries] == [1, 2, 3, 4]
    for entry in (entries[1], entries[3]):
        assert isinstance(entry.event, Malformed)
        assert entry.event.error == "LineTooLong"
        assert len(entry.event.raw) == KEPT_BYTES_MAX
    assert isinstance(entries[2].event, FileChanged)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_line_limit_is_exact(tmp_path: Path, extra: int) -> None:
    """A line of just the limit is read as a line, with and without an end."""
    content = b"z" * (LINE_BYTES_MAX + extra)
    for end in (b"\n", b"", b"\r\n"):
        entries = read(tmp_path, content + end + (line() if end else b""))
        first = entries[0].event
        assert isinstance(first, Malformed)
        assert first.error == ("LineTooLong" if extra > 0 else "BadJson")
        assert [e.line for e in entries] == [1, 2][: 2 if end else 1]


def test_gzip_is_known_by_its_bytes_and_its_damage_is_a_dead_letter(tmp_path: Path) -> None:
    """Compressed data needs no name; where it is cut off, what came before counts and the place is named."""
    packed = gzip.compress(b"\n".join([line(seq=n) for n in range(5000)]))
    assert len(read(tmp_path, packed)) == 5000
    entries = read(tmp_path, packed[: len(packed) // 2])
    last = entries[-1].event
    assert isinstance(last, Malformed)
    assert last.error == "BadGzip"
    assert all(isinstance(e.event, FileChanged) for e in entries[:-2])


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(line()), st.just(b"")), max_size=20))
def test_every_line_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    """Whatever the bytes, each line that is not blank gives exactly one entry with its number."""
    content = b"\n".join(lines)
    pieces = content.split(b"\n")
    expected = [
        n for n, piece in enumerate(pieces, 1) if piece.removeprefix(b"\xef\xbb\xbf" if n == 1 else b"").strip(b" \t\r\n")
    ]
    path = tmp_path_factory.mktemp("lines") / "h.jsonl"
    path.write_bytes(b"\n" + content if content.startswith(b"\x1f\x8b") else content)
    shift = 1 if content.startswith(b"\x1f\x8b") else 0
    if not expected:
        with pytest.raises(HistoryError, match="empty"):
            list(read_file(path, now_ms=NOW_MS))
    else:
        assert [e.line - shift for e in read_file(path, now_ms=NOW_MS)] == expected


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    """Missing, empty and directory: the error names the path and what to do."""
    (tmp_path / "empty").touch()
    for path, words in ((tmp_path / "no", "no such file"), (tmp_path / "empty", "empty"), (tmp_path, "--repo")):
        with pytest.raises(HistoryError) as caught:
            list(read_file(path, now_ms=NOW_MS))
        assert str(path) in str(caught.value)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(HistoryMissing):
        list(read_file(tmp_path / "no", now_ms=NOW_MS))


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    """The part that is read is told, growing, and never more than all."""
    told: list[float] = []
    path = tmp_path / "h"
    path.write_bytes(b"\n".join([line()] * 5000))
    list(read_file(path, now_ms=NOW_MS, on_progress=told.append))
    assert told == sorted(told)
    assert 0 < told[0] <= told[-1] <= 1
