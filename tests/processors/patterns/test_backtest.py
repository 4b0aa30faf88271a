"""A backtest finds what the matcher finds offline, and what a worker's lane finds, however the log was read."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs
from processors.patterns.backtest import Backtest
from processors.patterns.found import Comparison, Found, TooManyDifferences, compare, keep
from processors.patterns.trial import Open, Trial
from schemas.catalogue import CATALOGUE
from streams.codec import Codec
from streams.transport import Record
from tests.processors.patterns.lane_bench import NOW, SOURCE, Bench, event, pattern, stage

FOLLOWED = pattern("followed", stage("a"), stage("b"), within_ms=50)
ABSENT = pattern("absent", stage("a"), stage("c", negated=True), within_ms=40)
LOOP = pattern("loop", stage("a"), stage("b", times={"min": 2, "max": None}), stage("c"), within_ms=60)
SKIPPED = pattern("skipped", stage("a", times={"min": 2, "max": 2}), stage("c", negated=True), within_ms=45, skip="past_last")
PATTERNS = (FOLLOWED, ABSENT, LOOP, SKIPPED)
DISORDER_MS = 25
PARTITIONS = 3

Log = list[Record]


def record(body: dict[str, Any], offset: int, *, topic: str = SOURCE, partition: int = 0, logged: int | None = None) -> Record:
    """Return a JSON record, written when it happened unless told otherwise."""
    fields = {name: value for name, value in body.items() if name != "_key"}
    key = body.get("_key")
    at = body["ts"] if logged is None else logged
    return Record(topic, partition, offset, at, None if key is None else key.encode(), json.dumps(fields).encode(), ())


def numbered(events: list[dict[str, Any]]) -> Log:
    """Return records of one partition."""
    return [record(one, i) for i, one in enumerate(events)]


def backtested(
    definition: Definition, log: Log, *, against: Definition | None = None, cut: random.Random | None = None, **more: Any
) -> Backtest:
    """Run a backtest, in one piece or in random ones."""
    trials = [Trial(one.name, one, CATALOGUE, limit=10**6, **more) for one in (definition, against) if one is not None]
    backtest = Backtest(Codec(CATALOGUE), *trials, partitions=dict.fromkeys((SOURCE, "other"), PARTITIONS))
    at = 0
    while at < len(log):
        size = len(log) if cut is None else cut.randrange(0, 9)
        backtest.take(log[at : at + size])
        at += size
    backtest.end()
    return backtest


def found(trial: Trial) -> dict[str, Any]:
    """Return all that a trial says."""
    return {
        "counts": dict(trial.tally.counts), "matches": trial.tally.matches, "lates": trial.tally.lates, "open": trial.open(10**6),
        "most": trial.most, "taken": trial.taken,
    }  # fmt: skip


@st.composite
def logs(draw: st.DrawFn, disorder_ms: int, partitions: int = 1, *, silence: bool = True) -> Log:
    """Return records whose times go forward, and back by at most so much.

    With `silence`, nothing is written for long now and then, and some events are as late as if they had been held up by that.
    """
    short = st.integers(0, 20)
    gaps = st.one_of(short, short, short, st.integers(60, 150), st.just(40_000 if silence else 300))
    delays = st.one_of(*[st.integers(0, disorder_ms)] * 9, st.just(39_980 if silence else 0))
    one = st.tuples(st.sampled_from("aabbc"), gaps, st.sampled_from("xyz"), delays, st.integers(0, partitions - 1))
    ts, records = 0, []
    offsets: Counter[int] = Counter()
    for kind, step, key, back, partition in draw(st.lists(one, min_size=draw(st.sampled_from([0, 20])), max_size=60)):
        ts += step
        body = event(kind, max(0, ts - back), key, owner=key)
        records.append(record(body, offsets[partition], partition=partition, logged=NOW - 1_000_000 + ts))
        offsets[partition] += 1
    return records


def offline(definition: Definition, log: Log) -> tuple[list[Found], int, list[tuple[str, int | None]]]:
    """Run a pattern over a log in order of time, and its clocks to where the log's newest event lets them go."""
    matcher, states, out = Matcher(compile_pattern(definition.pattern), backend="general"), {}, Outputs()  # type: ignore[var-annotated]

    def clock(key: str, ts: int) -> None:
        while (state := states.get(key)) is not None and (due := matcher.deadline(state)) is not None and due <= ts:
            matcher.advance(states, key, due, out)

    bodies = [
        {**json.loads(one.value or b""), "key": (one.key or b"").decode(), "id": (one.topic, one.partition, one.offset)}
        for one in log
    ]
    mark = max((one["ts"] for one in bodies), default=0) - definition.disorder_ms - 1
    for one in sorted(bodies, key=lambda body: body["ts"]):
        if definition.disorder_ms and one["ts"] > mark:
            continue  # it still waits
        clock(one["key"], one["ts"])
        matcher.run(states, [one], out)
    for key in list(states):
        clock(key, mark)
    left = [(key, view.deadline) for key, state in states.items() for view in matcher.view(state)]
    return sorted(Found.of(str(m.key), m.stages) for m in out.matches), len(out.timed_out), sorted(left, key=str)


def left_open(rest: Open) -> list[tuple[str, int | None]]:
    """Return key and deadline of what is open."""
    return sorted(((one.of.key, one.deadline) for one in rest.partials), key=str)


@pytest.mark.parametrize("disorder_ms", [0, DISORDER_MS])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_backtest_finds_what_the_matcher_finds_offline(disorder_ms: int, data: st.DataObject) -> None:
    """Matches, timeouts and what is left open are those of the matcher over the events in the order of time."""
    log = data.draw(logs(disorder_ms, silence=False))
    for definition in PATTERNS:
        allowing = definition.model_copy(update={"disorder_ms": disorder_ms})
        trial = backtested(allowing, log).new
        matches, timed_out, left = offline(allowing, log)
        assert trial.tally.matches == matches
        assert trial.tally.counts["matched"] == len(matches)
        assert (trial.tally.counts["timed_out"], left_open(trial.open(10**6))) == (timed_out, left)
        assert not trial.tally.lates


@settings(max_examples=60, deadline=None)
@given(logs(40, PARTITIONS), st.integers(0, 10**6), st.sampled_from([0, 10, 40]), st.sampled_from([None, "owner"]))
def test_how_the_range_was_read_changes_nothing(log: Log, seed: int, disorder_ms: int, key: str | None) -> None:
    """In one piece or in any pieces: the same matches, late events, open partial matches and greatest number of them."""
    for definition in PATTERNS:
        one = definition.model_copy(update={"disorder_ms": disorder_ms, "key": key})
        whole, cut = backtested(one, log), backtested(one, log, cut=random.Random(seed))
        assert found(whole.new) == found(cut.new)


@settings(max_examples=40, deadline=None)
@given(logs(40), st.sampled_from([0, 10, 40]))
def test_a_backtest_finds_what_a_lane_of_a_worker_finds(log: Log, disorder_ms: int) -> None:
    """A worker that was up when the records were written says the same matches and the same late events."""
    for definition in PATTERNS:
        one = definition.model_copy(update={"disorder_ms": disorder_ms})
        trial = backtested(one, log).new
        bench = Bench()
        bench.now = NOW - 1_000_000
        bench.publish(one)
        for given_record in bench.records([{**json.loads(r.value or b""), "_key": (r.key or b"").decode()} for r in log]):
            logged = log[given_record.offset].timestamp
            if logged > bench.now:
                bench.idle(logged - bench.now)
            bench.batch([given_record._replace(timestamp=logged)], after_ms=max(0, logged - bench.now))
        said = Counter((key, str(stages)) for _, key, stages in bench.found())
        mine = Counter((m.key, str({name: [p[2] for p in of] for name, of in m.stages})) for m in trial.tally.matches)
        assert mine == said
        assert sorted(late.place[2] for late in trial.tally.lates) == sorted(late["input_offset"] for late in bench.of("late"))


# ---- time, limits, keys


def test_silence_of_the_log_lets_an_absence_be_found_and_the_end_of_the_range_does_not() -> None:
    """Nothing for longer than idle_after_ms ends a wait, as in a worker; after the last record time stands still."""
    patient = ABSENT.model_copy(update={"idle_after_ms": 1_000})
    silent = backtested(patient, numbered([event("a", 0), event("b", 5_000, "other")])).new
    assert [match.ended for match in silent.tally.matches] == [NOW - 1_000_000]
    assert silent.open(1).partial_matches == 0
    at_the_end = backtested(patient, numbered([event("b", 0), event("a", 5_000)])).new
    rest = at_the_end.open(1)
    assert (at_the_end.tally.matches, rest.partial_matches, rest.pending) == ([], 1, 1)
    assert rest.first_deadline == NOW - 1_000_000 + 5_040


@pytest.mark.parametrize("pieces", [1, 2])
def test_what_comes_after_a_silence_that_decided_is_late(pieces: int) -> None:
    """An absence that was noticed in a silence stays noticed, though the event comes at last, wherever the reading was cut."""
    patient = ABSENT.model_copy(update={"idle_after_ms": 1_000})
    log = [record(event("a", 0), 0), record(event("c", 30), 1, logged=NOW - 1_000_000 + 5_000)]
    backtest = Backtest(Codec(CATALOGUE), Trial("p", patient, CATALOGUE), partitions={SOURCE: 1})
    for at in range(0, 2, 2 // pieces):
        backtest.take(log[at : at + 2 // pieces])
    backtest.end()
    assert (backtest.new.tally.counts["matched"], [one.place[2] for one in backtest.new.tally.lates]) == (1, [1])


def test_each_lane_of_a_keyed_pattern_has_its_own_time() -> None:
    """As in a worker: an event moves time for keys of its own lane only."""
    one = FOLLOWED.model_copy(update={"key": "owner", "idle_after_ms": 1_000})
    here, there = (next(key for key in "abcdef" if murmur2(key.encode(), PARTITIONS) == lane) for lane in (0, 1))

    def late(second: str) -> int:
        log = [record(event("z", 1_000, owner=here), i, partition=i, logged=NOW) for i in range(PARTITIONS)]
        log += [record(event("a", 10, owner=second), 7, logged=NOW + 1)]
        return backtested(one, log).new.tally.counts["late"]

    assert (late(here), late(there)) == (1, 0)


def test_a_silent_partition_holds_time_back_until_it_is_idle() -> None:
    """With several sources the slowest counts, unless nothing of it was written for idle_after_ms."""
    one = FOLLOWED.model_copy(update={"topics": (SOURCE, "other"), "idle_after_ms": 1_000})

    def tried(first_logged: int) -> Trial:
        log = [
            record(event("a", 10), 0, topic="other", logged=NOW),
            record(event("z", 50), 1, topic="other", logged=NOW + 700),
            record(event("z", 99), 2, topic="other", logged=NOW + first_logged - 1),
            record(event("b", 30), 0, logged=NOW + first_logged),
            record(event("z", 99), 1, logged=NOW + first_logged + 1),
        ]
        return backtested(one, log).new

    heard, idle = tried(900), tried(1_500)
    assert (heard.tally.counts["matched"], heard.tally.counts["late"]) == (1, 0)
    assert (idle.tally.counts["matched"], [one.place for one in idle.tally.lates]) == (0, [(SOURCE, 0, 0)])


def test_an_event_ahead_of_the_clock_it_was_written_at_takes_no_part() -> None:
    """More than a minute after its record's timestamp: it is counted as ahead, and moves no time."""
    log = [record(event("a", 0), 0), record(event("b", 90_000), 1, logged=NOW - 1_000_000 + 1), record(event("b", 10), 2)]
    trial = backtested(FOLLOWED, log).new
    assert (trial.tally.counts["ahead"], trial.tally.counts["matched"]) == (1, 1)
    assert trial.tally.late_by_max_ms == 0
    log = [record(event("z", 0), 0, logged=NOW), record(event("z", 5), 1, logged=NOW - 10_000_000)]
    assert not backtested(FOLLOWED, log).new.tally.lates, "a timestamp that goes back takes no clock with it"


def test_the_most_partial_matches_of_a_key_and_evictions() -> None:
    """The greatest number a key had after an event is told with its key, and what a limit drops is counted."""
    log = numbered([event("a", ts, key) for ts, key in enumerate("zyyyzy")])
    assert backtested(FOLLOWED, log).new.most == (4, "y")
    limited = backtested(FOLLOWED.model_copy(update={"partial_matches_max": 2}), log).new
    assert (limited.most, limited.tally.counts["evicted"]) == ((2, "y"), 2)


def test_events_are_keyed_by_a_field_and_those_without_it_are_nobodys() -> None:
    """The payload's field decides, over partitions, in the order of time; 7 and "7" are one key."""
    one = FOLLOWED.model_copy(update={"key": "owner", "idle_after_ms": 1_000})
    log = [
        record(event("a", 0, "k1", owner=7), 0, partition=0),
        record(event("b", 5, "k2", owner="8"), 0, partition=1),
        record(event("b", 9, "k3", owner="7"), 0, partition=2),
        record(event("b", 10, "k3"), 1, partition=2),
        *(record(event("z", 5_000, "k", owner=7), 9, partition=number) for number in range(PARTITIONS)),
    ]
    trial = backtested(one, log).new
    assert [match.identity for match in trial.tally.matches] == [("7", ((SOURCE, 0, 0), (SOURCE, 2, 0)))]
    assert trial.taken == 6


def test_a_record_that_is_no_event_is_told_and_the_rest_goes_on() -> None:
    """As a dead letter of a worker does, it costs itself alone."""
    log = numbered([event("a", 0), event("b", 1), event("b", 2)])
    log[1] = log[1]._replace(value=b"no event")
    backtest = backtested(FOLLOWED, log)
    assert (backtest.unreadable_count, [one.offset for one in backtest.unreadable]) == (1, [1])
    assert backtest.new.tally.counts["matched"] == 1


# ---- comparison

KEYS = st.sampled_from("xy")


def made(key: str, offsets: set[int], stage_name: str) -> Found:
    """Return a match of these records."""
    return Found(max(offsets), key, min(offsets), ((stage_name, tuple((SOURCE, 0, one, one) for one in sorted(offsets))),))


FOUND = st.builds(made, KEYS, st.sets(st.integers(0, 3), min_size=1), st.sampled_from(["a", "b"]))


@given(st.lists(FOUND, max_size=12), st.lists(FOUND, max_size=12), st.integers(0, 10**6))
def test_a_comparison_is_the_difference_of_multisets_whatever_the_order(new: list[Found], old: list[Found], seed: int) -> None:
    """By key and records, with their numbers; who came first does not matter."""
    compared = compare(new, old)
    left, right = Counter(one.identity for one in new), Counter(one.identity for one in old)
    assert Counter(one.identity for one in compared.only_new) == left - right
    assert Counter(one.identity for one in compared.only_old) == right - left
    assert compared.both == (left & right).total()
    assert compared.equal == (left == right)
    mixed, chance = Comparison(), random.Random(seed)
    rest = {"new": list(new), "old": list(old)}
    while any(rest.values()):
        side: Any = chance.choice([name for name, of in rest.items() if of])
        mixed.add(side, rest[side].pop(0))
    assert mixed.done() == compared


def test_two_versions_that_differ_too_much_end_the_comparison() -> None:
    """What it holds is bounded; what both have is not held."""
    comparison = Comparison(differences_max=2)
    match = [Found(i, "k", i, (("a", ((SOURCE, 0, i, i),)),)) for i in range(4)]
    for one in match:
        comparison.add("new", one)
        comparison.add("old", one)
    comparison.add("new", match[0])
    comparison.add("new", match[1])
    with pytest.raises(TooManyDifferences, match="more than 2 matches"):
        comparison.add("new", match[2])


@settings(max_examples=30, deadline=None)
@given(logs(0, silence=False), st.integers(0, 10**6))
def test_two_versions_are_compared_in_one_reading(log: Log, seed: int) -> None:
    """What both find, and each alone, is what two backtests one after the other find."""
    wider = FOLLOWED.model_copy(update={"name": "wider", "pattern": FOLLOWED.pattern.model_copy(update={"within_ms": 90})})
    together = backtested(wider, log, against=FOLLOWED, cut=random.Random(seed))
    alone = compare(backtested(wider, log).new.tally.matches, backtested(FOLLOWED, log).new.tally.matches)
    assert together.comparison is not None
    assert together.comparison.done() == alone


@settings(max_examples=30, deadline=None)
@given(logs(0, PARTITIONS, silence=False), st.integers(0, 6))
def test_a_limit_keeps_the_earliest_matches(log: Log, limit: int) -> None:
    """With a limit, what is shown is the beginning of what is shown without one, and all are counted."""
    everything, some = backtested(FOLLOWED, log).new, Trial("p", FOLLOWED, CATALOGUE, limit=limit)
    backtest = Backtest(Codec(CATALOGUE), some, partitions={SOURCE: PARTITIONS})
    backtest.take(log)
    backtest.end()
    assert some.tally.matches == everything.tally.matches[:limit]
    assert some.tally.counts == everything.tally.counts


def test_the_earliest_match_is_shown_whichever_partition_it_is_on() -> None:
    """Matches of a later partition take the place of later matches of an earlier one."""
    late, early = ([event("a", at), event("b", at + 1)] for at in (100, 0))
    log = [record(one, i, partition=lane) for lane, events in enumerate((late, early)) for i, one in enumerate(events)]
    trial = Trial("p", FOLLOWED, CATALOGUE, limit=1)
    Backtest(Codec(CATALOGUE), trial, partitions={SOURCE: 2}).take(log)
    assert [match.stages[0][1][0][:3] for match in trial.tally.matches] == [(SOURCE, 1, 0)]


def test_a_match_is_the_same_whichever_stage_has_its_records() -> None:
    """Versions whose stages have other names, or share the records differently, agree."""
    first, second = (SOURCE, 0, 1, 10), (SOURCE, 0, 2, 20)
    one = Found(20, "k", 10, (("a", (first,)), ("b", (second,))))
    other = Found(20, "k", 10, (("x", (second,)), ("y", (first,))))
    assert compare([one], [other]).equal


@given(st.lists(FOUND, max_size=20), st.integers(0, 6))
def test_the_earliest_are_kept(found: list[Found], limit: int) -> None:
    """A tally keeps the first by time, however they came, and counts all."""
    kept: list[Found] = []
    for one in found:
        keep(kept, one, limit)
    assert kept == sorted(found)[:limit]
