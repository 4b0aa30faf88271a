"""Timelines of sagas."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from streams.core.sagas.timeline import MOMENTS_MAX, Moment, Timeline, What, as_text, timeline_of

HOUR_MS = 3_600_000
HISTORY = [
    Moment(0, "started"),
    Moment(0, "called", "flight", 1),
    Moment(300, "failed", "flight", 1, "busy: try later"),
    Moment(700, "called", "flight", 2),
    Moment(900, "answered", "flight", 2),
    Moment(900, "called", "hotel", 1),
    Moment(1_400, "answered", "hotel", 1),
    Moment(1_400, "waits", "seats", 0, "lock seats/7, held by saga trip-3"),
    Moment(2 * HOUR_MS, "gave_up", "seats", 0, "lock_timed_out"),
    Moment(2 * HOUR_MS, "compensates"),
    Moment(2 * HOUR_MS, "undo_called", "hotel", 1),
    Moment(2 * HOUR_MS + 400, "undone", "hotel"),
    Moment(2 * HOUR_MS + 400, "ended", note="compensated"),
]


def test_a_history_becomes_lanes() -> None:
    """Calls, backoff, waits and compensations are spans of their node, with how they ended and why."""
    timeline = timeline_of(HISTORY)
    spans = {lane.node: [(s.kind, s.start_ms, s.end_ms, s.end, s.note) for s in lane.spans] for lane in timeline.lanes}
    assert spans == {
        "flight": [
            ("call", 0, 300, "failed", "busy: try later"),
            ("backoff", 300, 700, "ok", "busy: try later"),
            ("call", 700, 900, "ok", ""),
        ],
        "hotel": [("call", 900, 1_400, "ok", ""), ("undo", 2 * HOUR_MS, 2 * HOUR_MS + 400, "ok", "")],
        "seats": [("wait", 1_400, 2 * HOUR_MS, "failed", "lock_timed_out")],
    }
    assert timeline.retries == 1
    assert [mark.what for mark in timeline.marks] == ["started", "compensates", "ended"]


def test_idle_time_is_cut_short() -> None:
    """Two hours in which nothing happens take no more room than what is usual, and their real length is told."""
    timeline = timeline_of(HISTORY)
    (cut,) = timeline.breaks
    assert (cut.start_ms, cut.end_ms) == (1_400, 2 * HOUR_MS)
    assert cut.right - cut.left < 0.7
    assert not timeline_of(HISTORY[:8]).breaks


def test_the_text_can_be_read() -> None:
    """Lanes in columns, with signs for calls, retries, waits, breaks and compensations, and the saga's own moments beneath."""
    assert as_text(timeline_of(HISTORY), columns=60) == [
        "        00:00:00.000 – 02:00:00.400  (≈ 1 h 59 min)",
        "flight  ━━━━✗┄┄┄┄━━━✓",
        "hotel               ━━━━━━━✓                          ◁◁◁◁◁✓",
        "seats                      ·············≈·············✗",
        "00:00:00.000  started",
        "02:00:00.000  compensates",
        "02:00:00.400  ended: compensated",
    ]


def test_what_is_not_over_goes_on_until_now() -> None:
    """An open wait is drawn until the given time, with its reason."""
    timeline = timeline_of(HISTORY[:8], now_ms=5_000)
    (wait,) = timeline.lanes[-1].spans
    assert (wait.end, wait.end_ms, wait.note) == ("open", 5_000, "lock seats/7, held by saga trip-3")
    assert timeline_of(HISTORY, now_ms=9 * HOUR_MS).end_ms == 2 * HOUR_MS + 400


moments = st.lists(
    st.builds(
        Moment, st.integers(0, 10**13), st.sampled_from(get_args(What)), st.sampled_from(["", "a", "b", "each[3]/pay"]),
        st.integers(0, 5), st.text(max_size=5),
    ),
    max_size=30,
)  # fmt: skip


@given(moments, st.none() | st.integers(0, 10**13), st.integers(1, 120))
def test_any_history_is_drawn(history: list[Moment], now_ms: int | None, columns: int) -> None:
    """Places go from 0 to 1 and never back, spans of a lane do not overlap, and the same history gives the same timeline."""
    timeline = timeline_of(history, now_ms=now_ms)
    assert timeline == timeline_of(history, now_ms=now_ms)
    for lane in timeline.lanes:
        ends = [place for span in lane.spans for place in (span.left, span.right)]
        assert ends == sorted(ends)
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in ends)
    assert all(one.start_ms < one.end_ms for one in timeline.breaks)
    names = max([len(lane.node) for lane in timeline.lanes], default=4)
    assert all(len(line) <= max(columns, min(names, max(8, columns // 3)) + 22) for line in as_text(timeline, columns=columns))


def test_a_timeline_is_bounded_and_may_be_empty() -> None:
    """Moments beyond the limit are counted, and no moments give an empty timeline."""
    timeline = timeline_of([Moment(number, "signalled") for number in range(MOMENTS_MAX + 7)])
    assert timeline.left_out == 7
    assert as_text(timeline)[-1] == "7 more are left out"
    assert timeline_of([]) == Timeline(0, 0, (), (), (), 0, 0)
