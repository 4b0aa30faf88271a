"""The replay proof: both tables rebuilt from the log by the pure cores, compared with what the workers wrote, bit for bit.

    agents.events ─▶ activity core ─▶ rows ─┐                      ┌─ <app>-activity-changelog
    agents.files  ─▶ overlap core  ─▶ rows ─┴─▶ encoded ─ equal? ◀─┴─ <app>-overlap-changelog

No Faust, no turns, no tables take part in the rebuilding. What a worker dead-lettered is left out, as it was left out live.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from processors.core import activity, overlap
from processors.core.activity import Windows
from processors.core.overlap import Limits
from processors.log_reader import LogRecord
from schemas.work import ChangeCommitted, FileChanged
from streams.turns import JsonCodec

__all__ = [
    "Comparison",
    "Decode",
    "Place",
    "Raw",
    "Tables",
    "compare",
    "decoded",
    "live_rows",
    "rebuild_activity",
    "rebuild_overlap",
]

Place = tuple[str, int, int]
"""Topic, partition, offset."""
Tables = dict[int, dict[str, Any]]
"""Rows by partition and key."""
Raw = dict[tuple[int, bytes], bytes]
"""The bytes of a compacted topic by partition and key."""

Decode = Callable[[LogRecord], Any]
"""Turns a record into its event."""

SHOWN_BYTES: Final = 300
"""Of each side of a first difference."""

_json = JsonCodec()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether a table and its rebuilt self are equal; if not, the first difference by partition and key."""

    table: str
    rows: int
    equal: bool
    difference: str = ""


def rebuild_activity(records: Iterable[LogRecord], decode: Decode, windows: Windows, *, without: Container[Place] = ()) -> Tables:
    """Fold the agents' events to the rows of the activity table."""
    tables: Tables = {}
    for partition, event in _events(records, decode, (ChangeCommitted, FileChanged), without):
        rows = tables.setdefault(partition, {})
        for key, row in activity.step(rows, event, 0, windows).state.items():
            if row is None:
                del rows[key]
            else:
                rows[key] = row
    return tables


def rebuild_overlap(records: Iterable[LogRecord], decode: Decode, limits: Limits, *, without: Container[Place] = ()) -> Tables:
    """Fold the changed files to the rows of the overlap table."""
    tables: Tables = {}
    for partition, event in _events(records, decode, (FileChanged,), without):
        rows = tables.setdefault(partition, {})
        rows[event.path] = overlap.step(rows.get(event.path), event, 0, limits).state
    return tables


def _events(
    records: Iterable[LogRecord], decode: Decode, types: tuple[type, ...], without: Container[Place]
) -> Iterable[tuple[int, Any]]:
    for record in records:
        if (record.topic, record.partition, record.offset) not in without:
            event = decode(record)
            if isinstance(event, types):
                yield record.partition, event


def live_rows(changelog: Iterable[LogRecord]) -> Raw:
    """Return what a compacted changelog says now: the last value of each key, without the deleted ones."""
    rows: Raw = {}
    for record in changelog:
        place, value = (record.partition, record.key or b""), record.value
        if value is None:
            rows.pop(place, None)
        else:
            rows[place] = value
    return rows


def decoded(rows: Raw) -> Mapping[tuple[int, str], Any]:
    """Return rows as values by partition and key."""
    return {(partition, _json.decode_key(key)): _json.decode_value(value) for (partition, key), value in rows.items()}


def compare(table: str, live: Raw, rebuilt: Tables) -> Comparison:
    """Compare a table with its rebuilt self, byte by byte."""
    ours = {(p, _json.encode_key(key)): _json.encode_value(row) for p, rows in rebuilt.items() for key, row in rows.items()}
    if ours == live:
        return Comparison(table, len(live), equal=True)
    for place in sorted(ours.keys() | live.keys()):
        if ours.get(place) != live.get(place):
            partition, key = place
            what = f"partition {partition}, key {_shown(key)}: live {_shown(live.get(place))}, rebuilt {_shown(ours.get(place))}"
            return Comparison(table, len(live), equal=False, difference=what)
    raise AssertionError("two unequal mappings differ in no key")


def _shown(raw: bytes | None) -> str:
    if raw is None:
        return "nothing"
    text = raw.decode(errors="replace")
    return text if len(text) <= SHOWN_BYTES else text[:SHOWN_BYTES] + "..."
