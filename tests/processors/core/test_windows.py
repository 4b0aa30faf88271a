"""Windows against the oracle, for all four kinds, any disorder, lateness and batch boundaries."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core import windows
from processors.core.windowing import due, keyed
from processors.core.windowing.definitions import Definition, load
from processors.core.windows import CLOCK, Occurrence, Windows, step, view
from schemas.windows import EventLeftOut, WindowEvicted, WindowResult

_spec = importlib.util.spec_from_file_location("window_oracle", Path(__file__).parent / "window_oracle.py")
assert _spec is not None
assert _spec.loader is not None
oracle = importlib.util.module_from_spec(_spec)
sys.modules["window_oracle"] = oracle
_spec.loader.exec_module(oracle)

NOW = 1_000_000
KINDS: dict[str, dict[str, Any]] = {
    "tumbling": {"kind": "tumbling", "size_ms": 10},
    "hopping": {"kind": "hopping", "size_ms": 10, "advance_ms": 4},
    "sliding": {"kind": "sliding", "size_ms": 10},
    "session": {"kind": "session", "gap_ms": 5},
}
TOTAL = {"agg": "sum", "field": "x"}


def define(kind: str = "tumbling", **more: Any) -> Definition:
    """Return a definition for short times: no idleness and no limit ahead unless asked for."""
    data = {
        "name": "w", "topics": ["t"], "key": "k", "window": KINDS[kind], "aggregates": {"total": TOTAL},
        "idle_after_ms": None, "ahead_max_ms": None,
    }  # fmt: skip
    return Definition.model_validate({**data, **more})


def happen(offset: int, ts: Any, *, key: Any = "a", x: Any = 1, source: int = 0) -> Occurrence:
    """Return an event."""
    return Occurrence("t", source, offset, {"k": key, "ts": ts, "x": x})


class Partition:
    """A table partition: rows as a broker would give them back, and all outputs."""

    def __init__(self, definition: Definition) -> None:
        self.definition, self.outputs = definition, []  # type: Definition, list[Any]
        self.rows: dict[str, Any] = {}
        self.wake: int | None = None

    def batch(self, *events: Occurrence, now_ms: int = NOW, behind: tuple[str, ...] = ()) -> list[Any]:
        """Run a batch and store its rows as JSON; return its outputs."""
        before = orjson.dumps(self.rows)
        work = Windows(self.definition, self.rows, now_ms)
        work.tick(behind)
        for event in events:
            work.take(event)
        done = work.done()
        assert orjson.dumps(self.rows) == before, "the rows that were given are only read"
        self.wake = work.wake_at()
        for name, row in done.state.items():
            self.rows.pop(name, None)
            if row is not None:
                self.rows[name] = orjson.loads(orjson.dumps(row))
        self.outputs += done.outputs
        return list(done.outputs)

    def results(self) -> list[tuple[Any, ...]]:
        """Return what the results say: key, start, end, status, events, total."""
        return [
            (o.correlation_key, o.start, o.end, o.status, o.events, o.values["total"])
            for o in self.outputs
            if isinstance(o, WindowResult)
        ]

    def left_out(self) -> list[tuple[int, str]]:
        """Return which events were left out, and why."""
        return [(o.input_offset, o.reason) for o in self.outputs if isinstance(o, EventLeftOut)]


# ---- properties

_EVENTS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab"), st.integers(0, 60), st.integers(-9, 9)), max_size=22).map(
    lambda rows: [oracle.Happened(*row) for row in rows]
)
_DRIFTING = st.lists(st.tuples(st.just(0), st.sampled_from("ab"), st.integers(-14, 6), st.integers(-9, 9)), max_size=26).map(
    lambda rows: [oracle.Happened(s, k, max(0, 3 * n + ts), x) for n, (s, k, ts, x) in enumerate(rows)]
)
_CUTS = st.sets(st.integers(0, 26))


def _run(d: Definition, events: list[Any], cuts: set[int]) -> Partition:
    part = Partition(d)
    batch: list[Occurrence] = []
    for i, e in enumerate(events):
        if i in cuts:
            part.batch(*batch)
            batch = []
        batch.append(happen(i, e.ts, key=e.key, x=e.x, source=e.source))
    part.batch(*batch)
    return part


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=250, deadline=None)
@given(events=_EVENTS | _DRIFTING, cuts=_CUTS, disorder=st.integers(0, 12), lateness=st.integers(0, 15))
def test_every_window_says_what_the_whole_list_says(
    kind: str, events: list[Any], cuts: set[int], disorder: int, lateness: int
) -> None:
    """Results, revisions, replaced sessions and late events are those of the oracle, however the log was cut."""
    d = define(kind, disorder_ms=disorder, allowed_lateness_ms=lateness)
    part = _run(d, events, cuts)
    results, late = oracle.expected(d, events)
    assert sorted(oracle.seen(o, "total") for o in part.outputs if isinstance(o, WindowResult)) == sorted(results)
    assert {offset for offset, _ in part.left_out()} == late


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(events=_EVENTS | _DRIFTING, cuts=_CUTS, lateness=st.integers(0, 15), limit=st.integers(6, 9), early=st.booleans())
def test_a_key_says_the_same_in_the_same_order_however_the_log_is_cut(
    kind: str, events: list[Any], cuts: set[int], lateness: int, limit: int, early: bool
) -> None:
    """Ids, order and contents of one key's outputs do not depend on batch boundaries, with early results and evictions too."""
    d = define(
        kind, allowed_lateness_ms=lateness, windows_per_key_max=limit + (lateness // 4 if kind == "hopping" else 0),
        early_every=2 if early and kind != "sliding" else None,
    )  # fmt: skip
    one, other = _run(d, events, set(range(30))), _run(d, events, cuts)
    for key in "ab":
        assert [o for o in one.outputs if o.correlation_key == key] == [o for o in other.outputs if o.correlation_key == key]
    ids = [o.id for o in one.outputs]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(events=_EVENTS, cuts=_CUTS, lateness=st.integers(0, 15))
def test_state_goes_when_the_windows_are_closed(kind: str, events: list[Any], cuts: set[int], lateness: int) -> None:
    """Once time has passed everything, the clock's row is all that is left, and every window had one complete result."""
    d = define(kind, allowed_lateness_ms=lateness, idle_after_ms=50, follow_wall_clock=True)
    part = _run(d, events, cuts)
    part.batch(now_ms=NOW + 10**6)
    assert set(part.rows) <= {CLOCK}
    assert part.wake is None
    assert view(part.rows, d, NOW).keys == 0
    spans = [(r[0], r[1], r[2]) for r in part.results() if r[3] == "complete"]
    assert len(set(spans)) == len(spans)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 100)), max_size=60),
    st.sampled_from([1, 600, 5000, 10**6]),
    st.integers(1, 4),
)
def test_the_calendar_gives_back_what_was_entered(moves: list[tuple[bool, int, int]], horizon: int, row_keys: int) -> None:
    """Keys come out when they are due, earliest first, the last place entered always among them, and nothing stays behind."""
    rows: dict[str, Any] = {}
    stands: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due, "ROW_KEYS", row_keys)
        for put, key, at in moves:
            calendar = due.Calendar(rows, horizon_ms=horizon)
            if put:
                calendar.put(f"k{key}", at)
                stands[f"k{key}"] = at
            else:
                found = calendar.pop(at, keys_max=7)
                assert found == sorted(found)
                valid = {key: deadline for deadline, key in found if stands.get(key) == deadline}
                expected = sorted((deadline, key) for key, deadline in stands.items() if deadline <= at)
                assert len(found) == 7 or sorted((deadline, key) for key, deadline in valid.items()) == expected
                for gone in valid:
                    del stands[gone]
            for name, row in calendar.changed.items():
                rows.pop(name, None)
                if row is not None:
                    rows[name] = orjson.loads(orjson.dumps(row))
        calendar = due.Calendar(rows, horizon_ms=horizon)
        found = calendar.pop(1000, keys_max=1000)
        assert {(d, k) for k, d in stands.items()} <= set(found)
        assert calendar.next() is None
        rows.update(calendar.changed)
        assert not any(rows.values())


# ---- named situations


def test_a_tumbling_window_closes_when_the_watermark_is_at_its_last_instant() -> None:
    """Not an event earlier, once, and final where nothing may come late."""
    part = Partition(define(disorder_ms=3))
    part.batch(happen(0, 5), happen(1, 12), happen(2, 9))
    assert part.results() == []
    part.batch(happen(3, 13))
    assert part.results() == [("a", 0, 10, "complete", 2, 2.0)]
    assert part.outputs[0].final
    part.batch(happen(4, 9))
    assert part.left_out() == [(4, "late")]
    assert part.outputs[-1].watermark == 9


def test_another_keys_event_closes_a_window() -> None:
    """Time is the partition's, so a key that has gone silent has its result too."""
    part = Partition(define())
    part.batch(happen(0, 5))
    part.batch(happen(1, 50, key="b"))
    assert part.results() == [("a", 0, 10, "complete", 1, 1.0)]


def test_within_the_allowed_lateness_a_result_is_corrected() -> None:
    """Each late event gives a new revision; after the allowed lateness it is left out."""
    part = Partition(define(allowed_lateness_ms=10))
    part.batch(happen(0, 5), happen(1, 11), happen(2, 6), happen(3, 7), happen(4, 20), happen(5, 8))
    assert [r for r in part.results() if r[1] == 0] == [
        ("a", 0, 10, "complete", 1, 1.0), ("a", 0, 10, "revised", 2, 2.0), ("a", 0, 10, "revised", 3, 3.0),
    ]  # fmt: skip
    assert [o.revision for o in part.outputs if isinstance(o, WindowResult) and o.start == 0] == [0, 1, 2]
    assert part.left_out() == [(5, "late")]


def test_early_results_are_asked_for() -> None:
    """With `early_every` a window tells how it stands; without, nothing is said before it is over."""
    part = Partition(define(early_every=2))
    part.batch(*(happen(n, n) for n in range(5)), happen(5, 30))
    assert part.results() == [
        ("a", 0, 10, "early", 2, 2.0), ("a", 0, 10, "early", 4, 4.0), ("a", 0, 10, "complete", 5, 5.0),
    ]  # fmt: skip
    assert [o.revision for o in part.outputs] == [0, 1, 2]
    assert [o.final for o in part.outputs] == [False, False, True]


def test_an_event_is_in_every_hopping_window_that_holds_it() -> None:
    """Windows begin at multiples of the advance, also before the first event."""
    part = Partition(define("hopping"))
    part.batch(happen(0, 9), happen(1, 40, key="b"))
    assert [r[1:3] for r in part.results()] == [(0, 10), (4, 14), (8, 18)]


def test_a_sliding_window_ends_at_each_event() -> None:
    """It holds what has happened in the size before it; events of one time share a window."""
    part = Partition(define("sliding"))
    part.batch(happen(0, 10), happen(1, 15), happen(2, 15), happen(3, 20), happen(4, 40, key="b"))
    assert part.results() == [
        ("a", 1, 11, "complete", 1, 1.0), ("a", 6, 16, "complete", 3, 3.0), ("a", 11, 21, "complete", 3, 3.0),
    ]  # fmt: skip


def test_a_late_event_corrects_the_sliding_windows_after_it() -> None:
    """Its own window is closed and not reported; those that are not closed count it."""
    part = Partition(define("sliding", allowed_lateness_ms=4))
    part.batch(happen(0, 20), happen(1, 23), happen(2, 15))
    assert part.results() == [("a", 11, 21, "complete", 1, 1.0), ("a", 11, 21, "revised", 2, 2.0)]
    part.batch(happen(3, 60, key="b"))
    assert part.results()[2:] == [("a", 14, 24, "complete", 3, 3.0)]


def test_sessions_of_events_exactly_a_gap_apart_are_one() -> None:
    """As in Flink and Kafka Streams; a millisecond more makes two."""
    part = Partition(define("session"))
    part.batch(happen(0, 10), happen(1, 15), happen(2, 21), happen(3, 90, key="b"))
    assert part.results() == [("a", 10, 20, "complete", 2, 2.0), ("a", 21, 26, "complete", 1, 1.0)]


def test_a_late_event_joins_two_sessions_that_were_told() -> None:
    """The joined session replaces both results, and says so."""
    part = Partition(define("session", allowed_lateness_ms=100))
    part.batch(happen(0, 10), happen(1, 19), happen(2, 60, key="b"))
    assert part.results() == [("a", 10, 15, "complete", 1, 1.0), ("a", 19, 24, "complete", 1, 1.0)]
    [joined] = part.batch(happen(3, 14))
    assert (joined.start, joined.end, joined.status, joined.revision, joined.events) == (10, 24, "revised", 1, 3)
    assert [(one.start, one.end) for one in joined.replaces] == [(10, 15), (19, 24)]
    [grown] = part.batch(happen(4, 12))
    assert (grown.status, grown.revision, grown.replaces) == ("revised", 2, [])


def test_a_silent_stream_is_told_of_at_the_time_promised() -> None:
    """With the wall clock followed, the batch asked for by `wake_at` closes the window, and one before it does not."""
    part = Partition(
        define(
            idle_after_ms=1000,
            follow_wall_clock=True,
            ahead_max_ms=5000,
            disorder_ms=2,
            window={"kind": "tumbling", "size_ms": 5000},
        )
    )
    part.batch(happen(0, NOW + 100))
    wake = part.wake
    assert wake == NOW + 5000 - 1 + 2 + 1
    part.batch(now_ms=wake - 1)
    assert part.results() == []
    part.batch(now_ms=wake)
    assert part.results() == [("a", NOW, NOW + 5000, "complete", 1, 1.0)]
    assert part.wake is None


def test_without_the_wall_clock_a_silent_stream_waits_for_its_next_event() -> None:
    """Nothing to wake up for, and the window stays open."""
    part = Partition(define(idle_after_ms=1000))
    part.batch(happen(0, 5))
    assert part.wake is None
    part.batch(now_ms=NOW + 10**6)
    assert part.results() == []


def test_two_topics_are_joined_and_the_slower_holds_time() -> None:
    """A window of both waits for both, until one has been idle for long enough."""
    part = Partition(define(idle_after_ms=1000))
    part.batch(happen(0, 5, x=1, source=1), happen(0, 6, x=10), happen(1, 30, x=100))
    assert part.results() == []
    assert part.wake == NOW + 1000
    part.batch(now_ms=NOW + 1000, behind=("t/1",))
    assert part.results() == []
    part.batch(now_ms=NOW + 2000)
    assert part.results() == [("a", 0, 10, "complete", 2, 11.0)]


def test_an_event_from_the_future_is_left_out_and_moves_nothing() -> None:
    """One broken clock closes nobody's window."""
    part = Partition(define(ahead_max_ms=100))
    part.batch(happen(0, NOW), happen(1, NOW + 101), happen(2, NOW + 1))
    assert part.left_out() == [(1, "ahead")]
    assert part.outputs[0].ts == NOW + 101
    assert view(part.rows, part.definition, NOW).time.watermark == NOW


@pytest.mark.parametrize("key", [None, "", True, 1.5, ["a"], "k" * 1025], ids=repr)
def test_an_event_without_a_key_is_left_out(key: Any) -> None:
    """It still tells the time: it did happen."""
    part = Partition(define())
    part.batch(happen(0, 5), happen(1, 50, key=key))
    assert part.left_out() == [(1, "no_key")]
    assert part.results() == [("a", 0, 10, "complete", 1, 1.0)]


@pytest.mark.parametrize("ts", [-1, True, 1.5, "5", 2**53], ids=repr)
def test_an_event_without_a_time_is_left_out(ts: Any) -> None:
    """A time that is none is not replaced by another; an absent one is."""
    part = Partition(define())
    part.batch(happen(0, ts), Occurrence("t", 0, 1, {"k": "a", "x": 1}, stamp=7), happen(2, 20))
    assert part.left_out() == [(0, "no_time")]
    assert part.results() == [("a", 0, 10, "complete", 1, 1.0)]


def test_whole_numbers_are_keys_too() -> None:
    """As text, so that they can be a record's key."""
    part = Partition(define())
    part.batch(happen(0, 5, key=7), happen(1, 20, key=7))
    assert part.results() == [("7", 0, 10, "complete", 1, 1.0)]


def test_bad_values_are_skipped_and_counted_in_the_result() -> None:
    """The event counts; what an aggregate cannot use is said by aggregate."""
    part = Partition(define(aggregates={"total": TOTAL, "n": {"agg": "count"}}))
    part.batch(happen(0, 5, x="much"), happen(1, 6, x=3), happen(2, 7, x=None), happen(3, 20))
    [closed] = part.outputs
    assert (closed.values, closed.skipped, closed.events) == ({"total": 3.0, "n": 3.0}, {"total": 1}, 3)


def test_too_many_windows_of_a_key_evict_the_oldest() -> None:
    """What it held goes out, and what still comes for it is left out instead of opening it again."""
    part = Partition(define("session", windows_per_key_max=2, disorder_ms=1000))
    part.batch(happen(0, 100), happen(1, 200), happen(2, 300))
    [gone] = part.outputs
    assert isinstance(gone, WindowEvicted)
    assert (gone.start, gone.end, gone.reason, gone.events, gone.values) == (100, 105, "windows_per_key", 1, {"total": 1.0})
    part.batch(happen(3, 100))
    assert part.left_out() == [(3, "late")]


def test_windows_that_take_too_much_room_evict_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's row stays small enough for a record, whatever the aggregates hold."""
    monkeypatch.setattr(keyed, "BYTES_PER_KEY_MAX", 4000)
    part = Partition(define("session", disorder_ms=10**6, aggregates={"total": TOTAL, "ids": {"agg": "distinct", "field": "x"}}))
    for n in range(200):
        part.batch(happen(n, 1000 * (n // 50), x=n))
        assert len(orjson.dumps(part.rows["key|a"])) <= 4000
    assert {o.reason for o in part.outputs} == {"bytes_per_key"}


def test_too_many_keys_evict_the_one_that_ends_soonest() -> None:
    """The key that has just come stays, a session that has gone on is judged by its new end."""
    part = Partition(define("session", keys_max=2, disorder_ms=1000))
    part.batch(happen(0, 10, key="a"), happen(1, 12, key="b"), happen(2, 15, key="a"))
    part.batch(happen(3, 11, key="c"))
    [gone] = part.outputs
    assert (gone.correlation_key, gone.reason, gone.end) == ("b", "keys", 17)
    assert view(part.rows, part.definition, NOW).keys == 2
    part.batch(happen(4, 5000, key="c"))
    assert sorted(r[0] for r in part.results()) == ["a", "c"]


def test_a_life_of_a_key_has_ids_of_its_own() -> None:
    """A key that was evicted and comes back does not repeat the ids of its former results."""
    part = Partition(define(keys_max=1, disorder_ms=100, windows_per_key_max=20))
    part.batch(happen(0, 5, key="a"), happen(1, 5, key="b"), happen(2, 5, key="a"), happen(3, 5, key="b"))
    ids = [o.id for o in part.outputs]
    assert len(set(ids)) == len(ids) == 3


def test_a_thousand_keys_close_over_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch closes a limited number, and asks to be woken at once for the rest; nothing is told twice."""
    monkeypatch.setattr(windows, "KEYS_A_BATCH_MAX", 300)
    part = Partition(define())
    part.batch(*(happen(n, 5, key=f"k{n}") for n in range(1000)))
    closed = [len(part.batch(happen(1000, 50, key="z")))]
    while part.wake == NOW and closed[-1]:
        closed.append(len(part.batch()))
    assert closed == [300, 300, 300, 100]
    assert len({r[0] for r in part.results()}) == 1000
    assert sorted(part.rows) == sorted([CLOCK, due.DIRECTORY, "key|z", next(n for n in part.rows if n.startswith("due/"))])


def test_the_drawing_of_the_four_kinds() -> None:
    """What docs/windows.md draws: the windows of events at 1, 4, 5, 9, 11 and 18."""
    drawn = {
        "tumbling": ({"kind": "tumbling", "size_ms": 6}, [(0, 6), (6, 12), (18, 24)]),
        "hopping": (
            {"kind": "hopping", "size_ms": 6, "advance_ms": 3},
            [(-3, 3), (0, 6), (3, 9), (6, 12), (9, 15), (15, 21), (18, 24)],
        ),
        "sliding": ({"kind": "sliding", "size_ms": 6}, [(-4, 2), (-1, 5), (0, 6), (4, 10), (6, 12), (13, 19)]),
        "session": ({"kind": "session", "gap_ms": 3}, [(1, 8), (9, 14), (18, 21)]),
    }
    for window, spans in drawn.values():
        part = Partition(define(window=window))
        part.batch(*(happen(n, ts) for n, ts in enumerate((1, 4, 5, 9, 11, 18))), happen(6, 90, key="b"))
        assert [r[1:3] for r in part.results()] == spans


def test_the_definition_in_the_docs_is_one() -> None:
    """It loads as it stands."""
    page = (Path(__file__).parents[3] / "docs" / "windows.md").read_text(encoding="utf-8")
    block = page[page.index("    # windows.yaml") : page.index("    AGENT_WINDOWS")]
    [found] = load("\n".join(line[4:] for line in block.splitlines()))
    assert found.name == "task-failures"


def test_what_is_no_part_of_the_question_may_change_while_windows_are_open() -> None:
    """Another disorder or lateness cuts the calendar otherwise; every key is still found when it is due."""
    part = Partition(define("session", disorder_ms=5000))
    part.batch(*(happen(n, 10 * n, key=f"k{n}") for n in range(300)))
    part.definition = define("session", disorder_ms=20, allowed_lateness_ms=3)
    part.batch(*(happen(300 + n, 3000 + n, key=f"k{n}") for n in range(100)))
    part.definition = define("session", disorder_ms=0)
    part.batch(happen(1000, 10**6, key="z"))
    assert len(part.results()) == 400
    assert view(part.rows, part.definition, NOW).keys == 1


def test_one_event_is_one_step() -> None:
    """The contract of every machine: rows in, changed rows and outputs out."""
    rows: dict[str, Any] = {}
    for n, ts in enumerate((5, 20)):
        done = step(rows, happen(n, ts), NOW, define())
        rows.update(done.state)
    [closed] = done.outputs
    assert isinstance(closed, WindowResult)
    assert closed.events == 1
    assert view(rows, define(), NOW).counted["events"] == 2
