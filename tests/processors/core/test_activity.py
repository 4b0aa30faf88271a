"""The activity machine against a dumb oracle: counts, lateness, closing, and what stays bounded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.core import activity
from processors.core.activity import Windows
from schemas.events import Event
from schemas.work import ChangeCommitted, FileChanged, LateEvent, WindowClosed

WorkEvent = ChangeCommitted | FileChanged
W = Windows(size_ms=10, lateness_ms=7)


def committed(agent: str, ts: int, arrived: int, reverts: str | None = None) -> ChangeCommitted:
    return ChangeCommitted(agent=agent, task="t", ts=ts, arrived=arrived, files=1, added=2, removed=3, reverts=reverts, seq=0)


def changed(agent: str, ts: int, arrived: int, added: int = 5) -> FileChanged:
    return FileChanged(agent=agent, task="t", ts=ts, arrived=arrived, path="p", added=added, removed=1, seq=0)


def run(events: list[WorkEvent], windows: Windows = W, rows: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[Event]]:
    rows = {} if rows is None else rows
    outputs: list[Event] = []
    for event in events:
        done = activity.step(rows, event, 0, windows)
        for key, row in done.state.items():
            if row is None:
                del rows[key]
            else:
                rows[key] = row
        outputs.extend(done.outputs)
    return rows, outputs


def at(event: WorkEvent) -> int:
    return min(event.ts, event.arrived)


time_ms = st.integers(0, 80)
agents = st.sampled_from(["A", "B", "C|1", "~"])
some_events = st.lists(
    st.one_of(
        st.builds(committed, agents, time_ms, time_ms, st.sampled_from([None, "x"])),
        st.builds(changed, agents, time_ms, time_ms, st.integers(0, 9)),
    ),
    max_size=40,
)


@given(some_events)
def test_rows_are_the_oracles(events: list[WorkEvent]) -> None:
    """Each row counts the records of its window that came before the watermark passed it, and the late ones apart."""
    rows, _ = run(events)
    expected: dict[str, dict[str, Any]] = {}
    for n, event in enumerate(events):
        watermark = max(map(at, events[: n + 1])) - W.lateness_ms
        start = at(event) // 10 * 10
        row = expected.setdefault(
            f"{event.agent}|{start}",
            {"changes": 0, "reverts": 0, "files": 0, "added": 0, "removed": 0, "first_ms": None, "last_ms": None, "late": 0},
        )
        if start + 10 <= watermark:
            row["late"] += 1
            continue
        if isinstance(event, FileChanged):
            row["files"] += 1
            row["added"] += event.added
            row["removed"] += event.removed
        else:
            row["changes"] += 1
            row["reverts"] += event.reverts is not None
        row["first_ms"] = min(at(event), at(event) if row["first_ms"] is None else row["first_ms"])
        row["last_ms"] = max(at(event), row["last_ms"] or 0)
    last = max(map(at, events), default=0) - W.lateness_ms
    for key, row in expected.items():
        row["closed"] = int(key.rpartition("|")[2]) + 10 <= last
    assert {k: v for k, v in rows.items() if activity.is_result(k)} == expected


@given(some_events)
def test_every_window_closes_once_and_every_late_event_goes_out(events: list[WorkEvent]) -> None:
    """What is opened is closed exactly once or still open; the clock's totals agree with the rows and with the outputs."""
    rows, outputs = run(events)
    closed = Counter((o.agent, o.window_start) for o in outputs if isinstance(o, WindowClosed))
    late = [o for o in outputs if isinstance(o, LateEvent)]
    assert set(closed.values()) <= {1}
    seen = activity.view(activity_rows := rows)
    results = {k: v for k, v in activity_rows.items() if activity.is_result(k)}
    assert seen.late == len(late) == sum(r["late"] for r in results.values())
    assert seen.closed == len(closed)
    still_open = [k for k, r in results.items() if not r["closed"]]
    assert seen.opened == len(closed) + len(still_open)
    listed = [a for k, r in rows.items() if k.endswith("~") and k != activity.CLOCK for a in r["agents"]]
    assert len(listed) == len(still_open)
    assert seen.windows_open <= W.lateness_ms // W.size_ms + 2


@given(some_events, st.integers(0, 40))
def test_rows_survive_encode_and_decode_and_any_cut(events: list[WorkEvent], cut: int) -> None:
    """Where the turns are cut and how often the rows go through JSON changes no byte and no output."""
    whole, outputs = run(events)
    half, first = run(events[:cut])
    rest, second = run(events[cut:], rows={k: orjson.loads(orjson.dumps(v)) for k, v in half.items()})
    assert {k: orjson.dumps(v) for k, v in rest.items()} == {k: orjson.dumps(v) for k, v in whole.items()}
    assert first + second == outputs


@given(some_events)
def test_a_step_leaves_its_input_alone(events: list[WorkEvent]) -> None:
    """No step changes the rows it was given, so a dropped turn drops everything."""
    rows: dict[str, Any] = {}
    for event in events:
        before = orjson.dumps(rows)
        done = activity.step(rows, event, 0, W)
        assert orjson.dumps(rows) == before
        rows = {k: v for k, v in {**rows, **done.state}.items() if v is not None}


def test_a_clock_that_is_ahead_moves_no_watermark() -> None:
    """A change that says it was made a thousand years after it landed closes nothing."""
    rows, outputs = run([changed("A", 5, 5), changed("B", 10**15, 6), changed("A", 7, 7)])
    assert outputs == []
    assert rows["A|0"]["files"] == 2


def test_many_agents_close_in_pieces_and_lose_nobody() -> None:
    """More agents than one record may close: the rest follow with the next records, each once."""
    many = activity.CLOSING_MAX + activity.SHARD_AGENTS + 1
    rows, _ = run([changed(f"agent-{n}", 5, 5) for n in range(many)])
    _, first = run([changed("late riser", 50, 50)], rows=rows)
    assert 0 < len(first) <= activity.CLOSING_MAX
    _, late = run([changed("agent-0", 5, 50)], rows=rows)
    assert Counter(o.agent for o in (*first, *late) if isinstance(o, WindowClosed)) == Counter(f"agent-{n}" for n in range(many))
    assert [type(o) for o in late if not isinstance(o, WindowClosed)] == [LateEvent]
    assert rows["agent-0|0"] == {**rows["agent-1|0"], "late": 1}
    assert set(rows[activity.CLOCK]["open"]) == {"50"}


@pytest.mark.parametrize(("size_ms", "lateness_ms"), [(0, 0), (1, -1), (1, 1_000_000)])
def test_refuses_senseless_windows(size_ms: int, lateness_ms: int) -> None:
    """Windows that could not work, or would keep too many open, are refused when they are made."""
    with pytest.raises(ValueError, match="lateness_ms"):
        Windows(size_ms=size_ms, lateness_ms=lateness_ms)
