"""What once broke: time after a restart, versions that follow each other, what is left in memory, ids of results."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from processors.patterns.versions import Run
from tests.processors.patterns.lane_bench import NOW, Bench, event, pattern, stage

AB = (stage("a"), stage("b"))
IDS = ("pattern.matched", "pattern.timed_out")


def of_two(definition: Any, **more: Any) -> Any:
    """Return a pattern over two topics."""
    return definition.model_copy(update={"topics": ("in", "other"), **more})


def cut(definition: Any, log: list[dict[str, Any]], size: int) -> Bench:
    """Run a log in batches of a size."""
    bench = Bench()
    bench.publish(definition)
    records = bench.records(log)
    for at in range(0, len(log), size):
        bench.batch(records[at : at + size])
    return bench


def test_the_backlog_of_a_worker_that_was_away_is_not_late() -> None:
    """A worker that was down longer than `idle_after_ms` does not take its own absence for the silence of a topic."""
    bench = Bench("in", "other")
    bench.publish(of_two(pattern("p", *AB, within_ms=100_000), idle_after_ms=1_000))
    bench.feed(event("x", 0))
    bench.feed(event("x", 0), topic="other")
    bench.other_worker()
    bench.now += 3_600_000
    bench.behind = True
    bench.feed(event("a", 50_000))
    bench.feed(event("b", 20_000), topic="other")
    assert not bench.of("late")


def test_a_topic_that_nobody_reads_any_more_does_not_hold_time_back() -> None:
    """A version that reads fewer topics than the one before judges lateness record by record from its first event on."""
    late = []
    for size in (1, 2):
        bench = Bench("in", "other")
        bench.publish(of_two(pattern("p", *AB)))
        bench.feed(event("x", 0))
        bench.feed(event("x", 0), topic="other")
        bench.publish(pattern("p", *AB))
        records = bench.records([event("a", 100), event("a", 50)])
        for at in range(0, 2, size):
            bench.batch(records[at : at + size])
        late.append(len(bench.of("late")))
    assert late == [1, 1]


def test_a_wrong_record_timestamp_does_not_send_time_ahead() -> None:
    """A record written "in 1970" with a right `ts` of its own: silence moves time no faster than the wall clock."""
    bench = Bench()
    bench.publish(pattern("p", *AB, within_ms=60_000, idle_after_ms=500))
    bench.batch([one._replace(timestamp=NOW // 1000) for one in bench.records([{"type": "a", "ts": NOW, "_key": "k"}])])
    bench.idle(2_000)
    bench.feed({"type": "b", "ts": bench.now, "_key": "k"})
    assert len(bench.of("matched")) == 1


def test_waits_that_ended_early_leave_nothing_in_memory() -> None:
    """With a long window, keys that matched at once are forgotten, though one that waits would have to end before them."""
    bench = Bench()
    version = bench.publish(pattern("p", *AB, within_ms=10**9))
    bench.feed(event("a", 0, "the first to end"))
    for n in range(30):
        bench.feed(*(event(kind, n, f"{n}-{i}") for i in range(100) for kind in "a"))
        bench.feed(*(event(kind, n, f"{n}-{i}") for i in range(100) for kind in "b"))
    run = bench.cell._lanes[0].runs[version]
    assert run.rows == 1
    assert len(run.deadlines) <= 1_300


def test_a_worker_that_has_not_read_of_a_pattern_yet_does_not_remove_it() -> None:
    """A lane that comes to a worker whose view of the patterns topic is behind keeps what it runs."""
    bench = Bench()
    before = bench.teller.snapshot()
    version = bench.publish(pattern("p", *AB))
    bench.feed(event("a", 0))
    bench.other_worker()
    now, bench.cell._follower.current = bench.cell._follower.current, before
    bench.feed(event("x", 1))
    bench.cell._follower.current = now
    bench.feed(event("b", 2))
    assert bench.found() == [(version, "k", {"a": [0], "b": [2]})]


def test_restart_ends_versions_that_drain_too() -> None:
    """A version that is to begin anew leaves nothing of the ones before it, however old."""
    bench = Bench()
    versions = [bench.publish(pattern("p", *AB))]
    bench.feed(event("a", 0))
    versions.append(bench.publish(pattern("p", *AB, description="2")))
    bench.feed(event("a", 1))
    bench.publish(pattern("p", *AB, description="3", on_replace="restart"))
    bench.feed(event("b", 2))
    assert bench.found() == []
    assert bench.found("evicted") == [(versions[0], "k", {"a": [0]}), (versions[1], "k", {"a": [1]})]
    assert not any(bench.rows(version) for version in versions)


def test_a_state_that_cannot_be_read_does_not_stop_its_deletion() -> None:
    """A version goes with the rows that this release cannot read; they are said, and the lane works on."""
    bench = Bench()
    version = bench.publish(pattern("p", *AB))
    bench.feed(event("a", 0))
    for key, raw in bench.states.log.items():
        bench.states.log[key] = (raw or b"").replace(b'"state":[1', b'"state":[9')
    bench.other_worker()
    bench.publish(pattern("p", *AB, description="2", on_replace="restart"))
    bench.feed(event("a", 1), event("b", 2))
    assert not bench.rows(version)
    assert len(bench.of("failed")) == len(bench.of("matched")) == 1


def test_a_memory_that_could_not_be_made_is_not_trusted() -> None:
    """Where reading the tables fails half-way, the next batch reads them again: no version is begun anew without its timers."""
    bench = Bench()
    version = bench.publish(pattern("p", *AB, within_ms=100))
    bench.feed(event("a", 0))
    bench.other_worker()
    with patch.object(Run, "index", side_effect=OSError("gone")), pytest.raises(OSError, match="gone"):
        bench.feed(event("x", 1))
    bench.feed(event("x", 200, "other"))
    assert bench.found("timed_out") == [(version, "k", {"a": [0]})]


def test_a_row_that_grows_too_large_while_it_waits_stops_no_lane() -> None:
    """No record is to blame for what becomes of events that waited: the key's partial matches go, and it is said."""
    loop = stage("b", "any", times={"min": 1, "max": None}, allow_combinations=True, until="contains(text, '!')")
    bench = Bench()
    many = pattern("p", stage("a"), loop, stage("c"), disorder_ms=1_000, partial_matches_max=50_000)
    version = bench.publish(many)
    bench.feed(event("a", 0), *(event("b", n, text="z" * 85_000) for n in range(1, 11)))
    bench.feed(event("x", 5_000, "other"))
    assert [one["correlation_key"] for one in bench.of("failed")] == ["k"]
    assert bench.rows(version) == ["other"]


def test_ids_of_timeouts_are_their_own_however_the_log_was_cut() -> None:
    """A match that times out as part of a longer one has the same events and another id, in one batch or in several."""
    loop = pattern("p", stage("a"), stage("b", times={"min": 1, "max": None}), within_ms=100)
    log = [event("a", 0), event("b", 1), event("x", 500)]
    found = [sorted(one["headers"]["ce_id"] for one in cut(loop, log, size).out if one["event"] in IDS) for size in (1, 3)]
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


def test_ids_name_the_last_event_where_times_are_equal() -> None:
    """Of events with equal times the last one taken ends a match, whatever its stage: no two matches have one id."""
    group = {"group": [stage("a"), stage("b", optional=True)], "times": {"min": 1, "max": None}, "contiguity": "relaxed"}
    log = [event("a", 0), event("b", 0), event("a", 0)]
    found = [sorted(one["headers"]["ce_id"] for one in cut(pattern("p", group), log, size).of("matched")) for size in (1, 3)]
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0]) == 5


@pytest.mark.parametrize("size", [1, 3, 100])
def test_timeouts_with_a_skip_strategy_do_not_depend_on_the_cut(size: int) -> None:
    """A match that the end of one wait sets free ends others before their time, also where one event ends all these waits."""
    stages = (stage("a", "strict", optional=True), stage("s", "any", where="type == 'b'", optional=True))
    skipping = {"strategy": "to_last", "stage": "s"}
    body = pattern("p", *stages, stage("b", "any"), within_ms=20, within="previous_and_current", skip=skipping)
    kinds = [
        (1, "b"),
        (6, "b"),
        (11, "a"),
        (13, "b"),
        (18, "c"),
        (18, "b"),
        (20, "b"),
        (25, "a"),
        (34, "c"),
        (43, "b"),
        (44, "c"),
    ]
    log = []
    for ts, kind in kinds:
        log += [event("x", ts, "clock"), event(kind, ts)]
    whole, pieces = cut(body, log, 1_000), cut(body, log, size)
    for kind in ("matched", "timed_out"):
        assert sorted(map(repr, pieces.found(kind))) == sorted(map(repr, whole.found(kind)))
