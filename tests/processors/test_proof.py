"""The replay proof: equal tables are equal, and every kind of difference is found and named."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from processors.core.activity import Windows
from processors.core.overlap import Limits
from processors.log_reader import LogRecord
from processors.proof import compare, decoded, live_rows, rebuild_activity, rebuild_overlap
from schemas.events import Event
from schemas.work import ChangeCommitted, FileChanged

EVENTS: list[Event] = [
    ChangeCommitted(agent="A", task="1", ts=1, arrived=9, files=1, added=1, removed=0),
    FileChanged(agent="A", task="1", ts=1, arrived=9, path="p", added=1, removed=0),
    FileChanged(agent="B", task="2", ts=5, arrived=10, path="p", added=1, removed=0),
]


def log() -> Iterator[LogRecord]:
    """Return the events as records: the offset says which event, as the decoder below knows."""
    for offset in range(len(EVENTS)):
        yield LogRecord("events", 0, offset, 0, b"", b"", ())


def decode(record: LogRecord) -> Event:
    return EVENTS[record.offset]


def changelog(rows: dict[str, object]) -> list[LogRecord]:
    return [
        LogRecord("log", 0, n, 0, orjson.dumps(k), None if v is None else orjson.dumps(v), ())
        for n, (k, v) in enumerate(rows.items())
    ]


def test_equal_tables_are_equal() -> None:
    """A changelog with the rows that the cores give is equal, older values and deleted keys notwithstanding."""
    rebuilt = rebuild_activity(log(), decode, Windows())
    history = [*changelog({"A|0": {"old": 1}, "gone": 1}), *changelog({**rebuilt[0], "gone": None})]
    result = compare("activity", live_rows(history), rebuilt)
    assert (result.equal, result.rows, result.difference) == (True, len(rebuilt[0]), "")
    assert decoded(live_rows(history))[0, "A|0"]["changes"] == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"A|0": None}, "live nothing"),
        ({"extra": 1}, "rebuilt nothing"),
        ({"A|0": {"changes": 99}}, 'live {"changes":99}, rebuilt {"changes":1'),
    ],
)
def test_the_first_difference_is_named(changed: dict[str, object], words: str) -> None:
    """A row that is missing, too many or another gives its partition, key and both values."""
    rebuilt = rebuild_activity(log(), decode, Windows())
    result = compare("activity", live_rows(changelog({**rebuilt[0], **changed})), rebuilt)
    assert not result.equal
    assert f'partition 0, key "{next(iter(changed))}"' in result.difference
    assert words in result.difference


def test_a_row_in_another_partition_is_a_difference() -> None:
    """The proof compares partition by partition: the same row elsewhere is not the same table."""
    rebuilt = rebuild_overlap(log(), decode, Limits())
    moved = [record._replace(partition=1) for record in changelog(dict(rebuilt[0]))]
    assert not compare("overlap", live_rows(moved), rebuilt).equal


def test_what_a_worker_set_aside_is_left_out() -> None:
    """A dead-lettered record is not replayed."""
    rebuilt = rebuild_overlap(log(), decode, Limits(), without={("events", 0, 2)})
    assert [change[2] for change in rebuilt[0]["p"]["changes"]] == ["A"]
