"""Versions of rows in a copy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.tables.rows import NEWEST, DomainRows, Version

KEYS = ("d/a", "d/ab", "d/b")
WRITES = st.lists(st.dictionaries(st.sampled_from(KEYS), st.none() | st.sampled_from(["1", "2"]), min_size=1), max_size=12)


@given(WRITES, st.data())
def test_a_read_sees_what_was_there_at_its_position(writes: list[dict[str, str | None]], data: st.DataObject) -> None:
    """Whatever was trimmed, at or above the floor; gets and scans alike."""
    rows, states = DomainRows(), [dict[str, str | None]()]
    for position, one in enumerate(writes, 1):
        rows.write([{"table": "t", "key": key, "value": value} for key, value in one.items()], position, 0, "x", "me")
        states.append(states[-1] | one)
    floor = data.draw(st.integers(0, len(writes)))
    rows.trim(floor)
    for at in (*range(floor, len(states)), NEWEST):
        state = states[min(at, len(states) - 1)]
        seen = {key: version.value for key in KEYS if (version := rows.read("t", key, at)) is not None}
        assert {key: value for key, value in seen.items() if value is not None} == {
            key: value for key, value in state.items() if value is not None
        }
        for prefix in ("d/", "d/a", "d/c"):
            wanted = sorted((key, value) for key, value in state.items() if value is not None and key.startswith(prefix))
            assert [(key, version.value) for key, version in rows.scan("t", prefix, at)] == wanted


@given(WRITES, st.data())
def test_rows_that_are_loaded_and_followed_at_once_come_out_the_same(
    writes: list[dict[str, str | None]], data: st.DataObject
) -> None:
    """A page may be older or newer than what the feed has brought for a row."""
    versions: dict[str, Version] = {}
    rows = DomainRows()
    for position, one in enumerate(writes, 1):
        for key, value in one.items():
            versions[key] = Version(position, value, 0, "x", "me")
    pages = list(data.draw(st.permutations(sorted(versions))))
    first = data.draw(st.integers(0, len(writes)))
    for position, one in enumerate(writes, 1):
        if data.draw(st.booleans()) and pages:
            key = pages.pop()
            if versions[key].value is not None:
                rows.load("t", key, versions[key])
        if position > first:
            rows.write([{"table": "t", "key": key, "value": value} for key, value in one.items()], position, 0, "x", "me")
    for key in pages:
        if versions[key].value is not None:
            rows.load("t", key, versions[key])
    for key in KEYS:
        wanted = versions[key].value if key in versions else None
        found = rows.read("t", key, NEWEST)
        if wanted is not None or (key in versions and versions[key].position > first):
            assert (found and found.value) == wanted


def test_a_deleted_row_is_gone_once_nobody_can_see_it() -> None:
    """Copies do not grow with what is deleted."""
    rows = DomainRows()
    rows.write([{"table": "t", "key": "d/a", "value": "1"}], 1, 0, "x", "me")
    rows.write([{"table": "t", "key": "d/a", "value": None}], 2, 0, "x", "me")
    rows.trim(1)
    assert rows.read("t", "d/a", 1) == Version(1, "1", 0, "x", "me")
    rows.trim(2)
    assert not list(rows.all())
