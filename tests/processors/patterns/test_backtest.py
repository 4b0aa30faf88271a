"""A backtest finds what the matcher finds offline, and what a worker's lane finds, however the log was read."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs
from processors.patterns.backtest import Backtest
from processors.patterns.found import Found
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
    """Return records whose times go forward, and back by at most so much; now and then the log is silent for long."""
    gaps = st.integers(0, 20) | st.integers(60, 150) | st.just(40_000 if silence else 300)
    one = st.tuples(st.sampled_from("aabc"), gaps, st.sampled_from("xyz"), st.integers(0, 10**6), st.integers(0, partitions - 1))
    ts, records = 0, []
    offsets: Counter[int] = Counter()
    for kind, step, key, back, partition in draw(st.lists(one, max_size=60)):
        ts += step
        body = event(kind, max(0, ts - (back % (disorder_ms + 1))), key, owner=key)
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
