"""What runs on a lane: versions and their changes at known offsets, time, keys, limits and bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processors.patterns.cell import REKEYING
from processors.patterns.follower import Snapshot
from processors.patterns.lane import DROP_MAX
from processors.patterns.options import CepOptions
from schemas.cep import PatternMatched
from schemas.errors import MalformedRecord
from schemas.work import FileChanged
from streams.errors import CannotGoOn
from tests.processors.patterns.lane_bench import KEYED, NOW, SOURCE, Bench, event, pattern, stage

FOLLOWED = pattern("followed", stage("a"), stage("b"), within_ms=1_000)
ABSENT = pattern("absent", stage("a"), stage("b", negated=True), within_ms=1_000, idle_after_ms=500)


def actions(bench: Bench) -> list[tuple[int, str, int]]:
    """Return what was said about versions: version, action, offset."""
    return [(one["version"], one["action"], one["input_offset"]) for one in bench.of("activated")]


def newer(definition: Any, **more: Any) -> Any:
    """Return the next version of a definition."""
    return definition.model_copy(update={"description": "newer", **more})


# ---- versions


def test_a_match_names_its_version_its_events_and_how_long_it_took() -> None:
    """Each match carries pattern, version, the events' places and times, first, last and duration, and when it was detected."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    bench.feed(event("x", 0), event("a", 10, "agent-7"), event("b", 260, "agent-7"))
    (match,) = bench.of("matched")
    begin = NOW - 1_000_000
    assert {**match, "headers": None} == {
        "event": "pattern.matched", "to": "antiphon.matches", "headers": None,
        "pattern": "followed", "version": version, "correlation_key": "agent-7",
        "stages": [
            {"stage": "a", "events": [{"topic": SOURCE, "partition": 0, "offset": 1, "ts": begin + 10}]},
            {"stage": "b", "events": [{"topic": SOURCE, "partition": 0, "offset": 2, "ts": begin + 260}]},
        ],
        "started": begin + 10, "ended": begin + 260, "took_ms": 250, "detected_at": bench.now,
    }  # fmt: skip
    assert match["headers"]["ce_id"] == b"0/0/1-in/0/2/1"


def test_a_result_has_the_bytes_that_its_class_would_have() -> None:
    """Results are written without their classes, and are the same records."""
    bench = Bench()
    bench.publish(FOLLOWED)
    bench.feed(event("a", 10), event("b", 260))
    ((topic, key, value, headers),) = [one for one in bench.sent if one[0] == "antiphon.matches"]
    fields = bench.codec.catalogue.read(value)
    named = dict(headers)
    place = f"{SOURCE}/0/1"
    made = PatternMatched.from_fields(fields).stamped(
        id=named["ce_id"].decode(), source="/antiphon/in/0", time_ms=bench.now, correlation_id=place, causation_id=place
    )
    encoded = bench.codec.encode(made)
    assert (encoded.topic, encoded.key, encoded.value, encoded.headers) == (topic, key, value, headers)


def test_a_version_holds_from_a_known_offset() -> None:
    """A pattern sees nothing before the offset that it was activated at, and everything after."""
    bench = Bench()
    bench.feed(event("a", 0), event("a", 1))
    version = bench.publish(FOLLOWED)
    bench.feed(event("b", 2), event("a", 3), event("b", 4))
    assert actions(bench) == [(version, "activated", 2)]
    assert bench.found() == [(version, "k", {"a": [3], "b": [4]})]


def test_drain_lets_old_partial_matches_end_and_begins_none() -> None:
    """After a replacement with drain what the old version had ends under it; new ones begin under the new version only."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    bench.feed(event("a", 0), event("a", 1, "other"))
    new = bench.publish(newer(FOLLOWED, on_replace="drain"))
    bench.feed(event("a", 2), event("b", 3))
    assert sorted(bench.found(), key=str) == [(old, "k", {"a": [0], "b": [3]}), (new, "k", {"a": [2], "b": [3]})]
    assert actions(bench) == [(old, "activated", 0), (old, "draining", 2), (new, "activated", 2)]
    bench.feed(event("b", 4, "other"))
    assert actions(bench)[3:] == [(old, "drained", 5)]
    assert bench.rows(old) == []
    bench.feed(event("a", 5), event("b", 6))
    assert bench.found()[-1] == (new, "k", {"a": [5], "b": [6]})


def test_a_change_that_a_batch_of_another_topic_brings_is_told_for_the_patterns_own() -> None:
    """A lane has several topics: whichever brings a change, it is told with the offset of the topic that the pattern reads."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    bench.feed(event("a", 0), event("b", 1))
    new = bench.publish(newer(FOLLOWED))
    bench.feed(topic=KEYED)
    assert actions(bench) == [(old, "activated", 0)]
    bench.feed(event("a", 2), event("b", 3))
    assert actions(bench)[1:] == [(old, "draining", 2), (old, "drained", 4), (new, "activated", 2)]
    assert {one["input_topic"] for one in bench.of("activated")} == {SOURCE}
    assert bench.found()[1:] == [(new, "k", {"a": [2], "b": [3]})]


def test_a_single_event_pattern_drains_at_once() -> None:
    """An event that would begin and end a match under the old version does neither."""
    bench = Bench()
    old = bench.publish(pattern("one", stage("a")))
    bench.feed(event("a", 0))
    new = bench.publish(newer(pattern("one", stage("a"))))
    bench.feed(event("a", 1))
    assert bench.found() == [(old, "k", {"a": [0]}), (new, "k", {"a": [1]})]
    assert (old, "drained", 2) in actions(bench)


def test_drain_goes_on_with_events_that_were_waiting() -> None:
    """With disorder, events that had arrived before the replacement may still begin partial matches of the old version."""
    bench = Bench()
    bench.behind = True
    old = bench.publish(pattern("followed", stage("a"), stage("b"), within_ms=1_000, disorder_ms=100))
    bench.feed(event("a", 0))
    new = bench.publish(newer(pattern("followed", stage("a"), stage("b"), within_ms=1_000, disorder_ms=100)))
    bench.feed(event("a", 10), event("b", 20), event("x", 500))
    assert sorted(bench.found(), key=str) == [(old, "k", {"a": [0], "b": [2]}), (new, "k", {"a": [1], "b": [2]})]


def test_restart_drops_old_partial_matches_and_says_so() -> None:
    """After a replacement with restart each old partial match is said to be evicted, and its state is gone."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    bench.feed(event("a", 0), event("a", 1, "other"))
    new = bench.publish(newer(FOLLOWED, on_replace="restart"))
    bench.feed(event("b", 2), event("a", 3), event("b", 4))
    assert bench.found() == [(new, "k", {"a": [3], "b": [4]})]
    assert sorted(bench.found("evicted"), key=str) == [(old, "k", {"a": [0]}), (old, "other", {"a": [1]})]
    assert {one["reason"] for one in bench.of("evicted")} == {"replaced"}
    assert actions(bench) == [(old, "activated", 0), (old, "replaced", 2), (new, "activated", 2)]
    assert bench.rows(old) == []


def test_a_paused_pattern_sees_nothing_and_waits_for_nothing() -> None:
    """Events of a pause pass unseen; partial matches rest, and time out only when the pattern goes on."""
    bench = Bench()
    version = bench.publish(ABSENT)
    bench.feed(event("a", 0))
    bench.publish(ABSENT, paused=True, version=version)
    bench.feed(event("b", 10), event("a", 20))
    bench.idle(3_600_000)
    assert not bench.of("matched")
    bench.publish(ABSENT, version=version)
    bench.feed(event("x", 30))
    assert actions(bench) == [(version, "activated", 0), (version, "paused", 1), (version, "resumed", 3)]
    bench.idle(3_600_000)
    assert bench.found() == [(version, "k", {"a": [0]})]


def test_a_removed_pattern_leaves_no_state_behind() -> None:
    """Removing deletes every row, a bounded number with each batch, and says nothing of partial matches."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    count = 2 * DROP_MAX + 10
    bench.feed(*(event("a", 0, f"k{i}") for i in range(count)))
    assert len(bench.rows(version)) == count
    bench.control("followed", None)
    bench.feed(event("b", 1, "k0"))
    assert len(bench.rows(version)) == count - DROP_MAX
    bench.idle(1_000)
    assert bench.rows(version) == []
    assert not bench.of("matched")
    assert not bench.of("evicted")
    assert actions(bench) == [(version, "activated", 0), (version, "removed", count)]
    assert [key for key, value in bench.lanes.log.items() if value is not None] == [b'["lane"]']


def test_another_worker_goes_on_with_the_version_that_the_lane_had() -> None:
    """The version in the lane's state counts, not what the patterns topic says by then: changes come between two batches."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    bench.other_worker()
    bench.feed(event("b", 1))
    assert bench.found() == [(old, "k", {"a": [0], "b": [1]})]
    bench.other_worker()
    new = bench.publish(newer(FOLLOWED))
    bench.feed(event("a", 2), event("b", 3))
    assert bench.found()[-1] == (new, "k", {"a": [2], "b": [3]})


def test_a_change_in_a_dropped_batch_comes_again() -> None:
    """Where the batch that applied a change is dropped, the next one applies it, and it is said once."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    records = bench.records([event("a", 0), event("b", 1)])
    bench.batch(records, commit=False)
    bench.batch(records)
    assert actions(bench) == [(version, "activated", 0)]
    assert bench.found() == [(version, "k", {"a": [0], "b": [1]})]


# ---- a release that knows less


def from_a_newer_release(bench: Bench) -> None:
    """Let the stored definitions have a word that this release does not know, and another worker take the lane."""
    for key, value in bench.lanes.log.items():
        if value is not None:
            bench.lanes.log[key] = value.replace(b'"relaxed"', b'"newer"')
    bench.other_worker()


def test_a_version_that_cannot_be_run_stops_the_worker() -> None:
    """No record is to blame, so none becomes a dead letter; the worker that can run it goes on where the last one stopped."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    before = dict(bench.lanes.log)
    from_a_newer_release(bench)
    for _ in range(2):
        with pytest.raises(
            CannotGoOn, match=r"'followed', version 0, .* cannot be run by this release \(pattern.stages.0.contiguity"
        ):
            bench.feed(event("b", 1))
    bench.lanes.log.update(before)
    bench.other_worker()
    bench.offsets["in"] = 1
    bench.feed(event("b", 1))
    assert bench.found() == [(version, "k", {"a": [0], "b": [1]})]


@pytest.mark.parametrize("status", ["active", "draining", "dropping"])
def test_a_version_that_cannot_be_run_goes_when_it_is_removed(status: str) -> None:
    """Deleting needs no understanding: its rows go, whatever it was doing, and that is said."""
    bench = Bench()
    bench.publish(FOLLOWED)
    bench.feed(event("a", 0), event("a", 0, key="l"))
    if status == "draining":
        bench.publish(newer(FOLLOWED))
        bench.feed()
    bench.control("followed", None)
    if status == "dropping":
        bench.feed(event("a", 1))
    from_a_newer_release(bench)
    for ts in (2, 3):
        bench.feed(event("b", ts))
    assert [value for value in bench.states.log.values() if value is not None] == []
    assert [key for key, value in bench.lanes.log.items() if value is not None] == [b'["lane"]']
    assert [action for _, action, _ in actions(bench)][-1] == "removed"


def test_a_version_that_cannot_be_run_goes_when_it_is_replaced() -> None:
    """A version that this release can run takes its place; of the old one's partial matches nothing can be told."""
    bench = Bench()
    bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    from_a_newer_release(bench)
    new = bench.publish(newer(FOLLOWED))
    bench.feed(event("b", 1), event("a", 2), event("b", 3))
    assert bench.found() == [(new, "k", {"a": [2], "b": [3]})]
    assert actions(bench)[1:] == [(0, "replaced", 4), (new, "activated", 1)]


def test_a_worker_that_is_behind_on_the_patterns_topic_deletes_nothing() -> None:
    """It does not know a pattern that another worker has brought: that it is not on the topic means nothing yet."""
    bench = Bench()
    bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    from_a_newer_release(bench)
    bench.cell._follower.current = Snapshot(seq=1)
    with pytest.raises(CannotGoOn):
        bench.feed(event("b", 1))


# ---- the patterns topic


def test_a_bad_record_is_reported_once_and_the_last_good_version_stays() -> None:
    """Bytes that mean nothing, a pattern that does not compile, a topic that is not read: each is an event with its reason."""
    bench = Bench()
    good = bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    bench.control("followed", b"\xff\x00garbage")
    bench.publish(FOLLOWED.model_copy(update={"topics": ("elsewhere",)}))
    doubled = FOLLOWED.to_data()
    doubled["pattern"]["stages"][1]["name"] = "a"
    bench.control("followed", json.dumps({"format": 1, "definition": doubled}).encode())
    bench.control("followed", json.dumps({"format": 7}).encode())
    bench.feed(event("b", 1))
    bench.other_worker()
    bench.feed(event("a", 2), event("b", 3))
    reasons = [(one["version"], one["reason"]) for one in bench.of("refused")]
    assert [offset for offset, _ in reasons] == [1, 2, 3, 4]
    assert "no JSON" in reasons[0][1]
    assert "names topic 'elsewhere'" in reasons[1][1]
    assert "format is 7" in reasons[3][1]
    assert [version for version, *_ in bench.found()] == [good, good]


def test_a_pause_that_was_overtaken_changes_nothing() -> None:
    """A record that names an older version than the one there is comes too late."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    new = bench.publish(newer(FOLLOWED))
    bench.publish(FOLLOWED, paused=True, version=old)
    bench.feed(event("a", 0), event("b", 1))
    assert bench.found() == [(new, "k", {"a": [0], "b": [1]})]
    assert "overtaken" in bench.of("refused")[0]["reason"]


def test_a_resume_that_crossed_with_a_removal_does_not_bring_the_pattern_back() -> None:
    """It names a version that was removed before it; published anew, the pattern has a version of its own."""
    bench = Bench()
    old = bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    bench.control("followed", None)
    bench.publish(FOLLOWED, paused=False, version=old)
    bench.feed(event("a", 1), event("b", 2))
    assert bench.found() == []
    assert bench.rows(old) == []
    assert "which was removed" in bench.of("refused")[0]["reason"]
    new = bench.publish(FOLLOWED)
    bench.feed(event("a", 3), event("b", 4))
    assert bench.found() == [(new, "k", {"a": [3], "b": [4]})]


# ---- time


def test_absence_is_noticed_on_time_with_no_further_event() -> None:
    """With nothing to read, what did not come is a match when its deadline passes on the wall clock, and not before."""
    bench = Bench()
    bench.publish(ABSENT)
    bench.feed({"type": "a", "ts": bench.now, "_key": "k"})
    bench.idle(900)
    assert not bench.of("matched")
    bench.idle(200)
    (match,) = bench.of("matched")
    assert NOW + 1_000 <= match["detected_at"] <= NOW + 1_010


def test_unread_records_hold_the_wall_clock_back() -> None:
    """A worker that comes back to a backlog does not take silence for absence: the answer may be among the unread."""
    bench = Bench()
    bench.publish(ABSENT)
    bench.feed({"type": "a", "ts": bench.now, "_key": "k"})
    bench.behind = True
    bench.idle(60_000)
    assert not bench.of("matched")
    bench.feed({"type": "b", "ts": NOW + 500, "_key": "k"})
    bench.behind = False
    bench.idle(60_000)
    assert not bench.of("matched")


def test_a_history_is_not_late_after_a_long_silence() -> None:
    """A worker that has waited for hours takes a log of years ago: where nothing waits, the wall clock moves no event time."""
    bench = Bench()
    bench.publish(FOLLOWED)
    bench.idle(3 * 3_600_000)
    bench.feed(event("a", -(10**10)), event("b", -(10**10) + 5))
    bench.idle(3 * 3_600_000)
    bench.feed(event("a", 0), event("b", 5))
    assert not bench.of("late")
    assert len(bench.of("matched")) == 2


def test_the_time_of_a_history_goes_on_from_its_last_event() -> None:
    """While old events wait, silence lets their time pass as fast as the wall clock; it does not jump to today."""
    bench = Bench()
    version = bench.publish(pattern("absent", stage("a"), stage("b", negated=True), within_ms=60_000, idle_after_ms=500))
    bench.feed(event("a", -(10**10)))
    bench.idle(59_000)
    assert not bench.of("matched")
    bench.feed(event("x", -(10**10) + 59_500))
    bench.idle(2_000)
    assert not bench.of("late")
    assert bench.found() == [(version, "k", {"a": [0]})]


def test_time_passes_while_nobody_works() -> None:
    """What did not come while every worker was away is noticed as soon as one has read to the end and been idle."""
    bench = Bench()
    bench.publish(ABSENT)
    bench.feed({"type": "a", "ts": bench.now, "_key": "k"})
    bench.other_worker()
    bench.behind = True
    bench.batch([], after_ms=3_600_000)
    bench.behind = False
    bench.idle(2_000)
    (match,) = bench.of("matched")
    assert match["detected_at"] <= NOW + 3_600_000 + 2_000


def test_the_clock_of_other_keys_ends_waits_too() -> None:
    """Event time belongs to the partition: an event of one key ends the waits of another."""
    bench = Bench()
    version = bench.publish(ABSENT)
    bench.behind = True
    bench.feed(event("a", 0), event("x", 900, "other"))
    assert not bench.of("matched")
    bench.feed(event("x", 1_002, "other"))
    assert bench.found() == [(version, "k", {"a": [0]})]


def test_a_broken_clock_is_reported_and_believed_for_no_one() -> None:
    """An event from far in the future takes no part and does not make later ones late."""
    bench = Bench()
    bench.publish(FOLLOWED)
    ahead = {"type": "a", "ts": bench.now + 10_000_000, "_key": "k"}
    bench.feed(event("a", 0), ahead, event("b", 1))
    assert [(one["input_offset"], one["reason"]) for one in bench.of("late")] == [(1, "ahead")]
    assert len(bench.of("matched")) == 1


def test_timeouts_are_left_out_where_the_definition_says_so() -> None:
    """Partial matches whose window ends are said unless `timed_out` is off."""
    bench = Bench()
    loud = bench.publish(pattern("loud", stage("a"), stage("b"), within_ms=100))
    bench.publish(pattern("quiet", stage("a"), stage("b"), within_ms=100, timed_out=False))
    bench.feed(event("a", 0), event("x", 500))
    assert [(one["version"], one["deadline"]) for one in bench.of("timed_out")] == [(loud, NOW - 1_000_000 + 100)]


# ---- keys and limits


def test_events_of_several_partitions_meet_under_a_field_of_theirs() -> None:
    """Keyed by a field, records go through a topic of their own, and a match still names the original records."""
    bench = Bench()
    version = bench.publish(pattern("task", stage("a"), stage("b"), within_ms=1_000, key="task", idle_after_ms=100))
    bench.feed(
        event("a", 0, "agent-1", task="t7"), event("b", 5, "agent-2", task="t7"), event("b", 6, "agent-3", task=8), event("b", 7)
    )
    bench.relay()
    bench.idle(1_000)
    assert bench.found() == [(version, "t7", {"a": [0], "b": [1]})]
    assert {place["topic"] for one in bench.of("matched")[0]["stages"] for place in one["events"]} == {SOURCE}
    assert (version, "activated", 0) in actions(bench)
    assert [one["input_topic"] for one in bench.of("activated")] == [KEYED]


def test_time_waits_for_every_partition_that_other_workers_key_anew() -> None:
    """They bring one partition's backlog before the next one's: what comes second is not late for that."""
    bench = Bench()
    bench.cell._options = CepOptions(topics=(SOURCE,), keyed_topics=("wide",))
    bench.cell._keyed_partitions = {"wide": 2}
    version = bench.publish(pattern("task", stage("a"), stage("b"), within_ms=1_000, key="task", topics=["wide"]))

    def keyed(partition: int, *events: dict[str, Any]) -> None:
        records = [record._replace(partition=partition) for record in bench.records(events, "wide")]
        offset = bench.offsets.get(KEYED, 0)
        bench.offsets[KEYED] = offset + len(records)
        bench.batch(
            [
                record._replace(topic=KEYED, partition=0, offset=at, key=b"7", headers=tuple(REKEYING.headers_on(record, "task")))
                for at, record in enumerate(records, offset)
            ],
            KEYED,
        )

    keyed(0, event("b", 5), event("a", 500_000))
    keyed(1, event("a", 0), event("z", 500_000))
    assert not bench.of("late")
    assert bench.found() == [(version, "7", {"a": [2], "b": [0]})]


def test_a_field_that_is_the_record_key_anyway_needs_no_detour() -> None:
    """Event types whose key field is the pattern's key are matched where they are."""
    bench = Bench()
    change: dict[str, Any] = {"agent": "ann", "task": "t", "arrived": 0, "path": "p", "added": 1, "removed": 0}
    version = bench.publish(
        pattern("twice", {"name": "f", "times": {"min": 2, "max": 2}}, types=["file.changed"], key="agent", within_ms=1_000)
    )
    for ts in (1, 2):
        value = bench.codec.catalogue.encode(FileChanged(**change, ts=NOW - 1_000 + ts))
        bench.batch(bench.records([{"_key": "ann"}], value=value))
    assert bench.found() == [(version, "ann", {"f": [0, 1]})]
    assert not [one for one in bench.sent if one[0] == KEYED]


def test_the_oldest_partial_matches_go_beyond_the_limit() -> None:
    """A key has at most `partial_matches_max`; what goes is said."""
    bench = Bench()
    bench.publish(pattern("many", stage("a"), stage("b"), partial_matches_max=3))
    bench.feed(*(event("a", i) for i in range(8)))
    bench.feed(event("b", 100))
    assert len(bench.of("evicted")) >= 5
    assert len(bench.of("matched")) <= 3
    assert len(bench.of("evicted")) + len(bench.of("matched")) == 8


def test_a_key_that_has_nothing_has_no_row() -> None:
    """State goes when the last partial match of a key ends."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    bench.feed(event("a", 0), event("a", 0, "other"))
    assert sorted(bench.rows(version)) == ["k", "other"]
    bench.feed(event("b", 1), event("x", 5_000))
    bench.feed(event("x", 10_000))
    assert bench.rows(version) == []


def test_a_miss_gives_up_its_key_only() -> None:
    """Where `throw_on_miss` fires, the key's partial matches go and the failure is said with its event; other keys go on."""
    bench = Bench()
    definition = pattern(
        "missed",
        stage("a"),
        stage("b", optional=True),
        stage("c"),
        skip={"strategy": "to_first", "stage": "b", "throw_on_miss": True},
    )
    version = bench.publish(definition)
    bench.feed(event("a", 0), event("a", 1, "other"), event("b", 2, "other"), event("c", 3), event("c", 4, "other"))
    assert [(one["correlation_key"], one["input_offset"]) for one in bench.of("failed")] == [("k", 3)]
    assert (version, "other", {"a": [1], "b": [2], "c": [4]}) in bench.found()
    assert "k" not in bench.rows(version)


# ---- bad input


@pytest.mark.parametrize("value", [b"garbage", b"[1]", b"{broken", b'"text"'])
def test_what_is_no_event_raises_and_changes_nothing(value: bytes) -> None:
    """A record that cannot be read is the runtime's to isolate; the memory of the lane is as it was."""
    bench = Bench()
    version = bench.publish(FOLLOWED)
    bench.feed(event("a", 0))
    lane = bench.cell._lanes[0]
    before, token = lane.runs, lane.token
    with pytest.raises(MalformedRecord, match=r"in/0/1|in.*offset 1"):
        bench.batch(bench.records([{}], value=value))
    assert (lane.runs, lane.token) == (before, token)
    bench.feed(event("b", 2))
    assert bench.found() == [(version, "k", {"a": [0], "b": [2]})]


@pytest.mark.parametrize(
    "odd",
    [
        {"type": 7, "ts": 0},
        {"ts": "yesterday", "type": "a"},
        {"type": "a", "ts": -5},
        {"type": "a", "ts": 1e300},
        {"type": "a", "ts": True},
        {"type": "a", "n": {"deep": [1]}},
        {},
    ],
)
def test_odd_fields_are_null_and_odd_times_the_records_own(odd: dict[str, Any]) -> None:
    """A field of a wrong type is null, a time that is none is the record's: nothing raises, and the next events are matched."""
    bench = Bench()
    version = bench.publish(
        pattern("n", {"name": "n", "where": "n > 1"}, {"name": "m", "where": "n == 9", "contiguity": "relaxed"})
    )
    bench.feed({**odd, "_key": "k"})
    bench.feed(
        {"n": 5, "ts": bench.now, "_key": "j"},
        {"n": 9, "ts": bench.now + 1, "_key": "j"},
        {"n": 9, "ts": bench.now, "_key": None},
    )
    assert bench.found() == [(version, "j", {"n": [1], "m": [2]})]


def test_a_tombstone_is_nobodys_event() -> None:
    """A record without a value is passed over."""
    bench = Bench()
    bench.publish(FOLLOWED)
    (record,) = bench.records([{}])
    bench.batch([record._replace(value=None)])
    assert not bench.of("matched")
