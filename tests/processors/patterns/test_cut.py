"""What is found does not depend on how the log was cut into batches, which of them were dropped, or who ran them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs
from tests.processors.patterns.lane_bench import SOURCE, Bench, event, pattern, stage

FOLLOWED = pattern("followed", stage("a"), stage("b"), within_ms=50)
ABSENT = pattern("absent", stage("a"), stage("c", negated=True), within_ms=40)
LOOP = pattern("loop", stage("a"), stage("b", times={"min": 2, "max": None}), stage("c"), within_ms=60)
STEPS = pattern("steps", stage("a"), stage("b"), stage("c"), within_ms=30, within="previous_and_current")
SKIPPED = pattern("skipped", stage("a", times={"min": 2, "max": 2}), stage("c", negated=True), within_ms=45, skip="past_last")
PATTERNS = (FOLLOWED, ABSENT, LOOP, STEPS, SKIPPED)
DISORDER_MS = 25


def offline(definition: Definition, log: list[dict[str, Any]]) -> Counter[str]:
    """Run a pattern over a log in order of time, wait by wait."""
    matcher, states, out = Matcher(compile_pattern(definition.pattern), backend="general"), {}, Outputs()  # type: ignore[var-annotated]

    def clock(key: str, ts: int) -> None:
        while (state := states.get(key)) is not None and (due := matcher.deadline(state)) is not None and due <= ts:
            matcher.advance(states, key, due, out)

    for one in log:
        clock(one["key"], one["ts"])
        matcher.run(states, [one], out)
    for key in list(states):
        clock(key, 1 << 62)
    return Counter(
        repr(("matched", m.key, {s: [e["id"][2] for e in of] for s, of in m.stages.items()})) for m in out.matches
    ) + Counter(repr(("timed_out", t.key, {s: [e["id"][2] for e in of] for s, of in t.stages.items()})) for t in out.timed_out)


@st.composite
def logs(draw: st.DrawFn, disorder_ms: int) -> list[dict[str, Any]]:
    """Return events whose times go forward, and back by less than what is allowed."""
    gaps = st.integers(0, 20) | st.integers(60, 150)
    one_event = st.tuples(st.sampled_from("aabc"), gaps, st.sampled_from("xyz"), st.integers(0, 10**6))
    steps = draw(st.lists(one_event, max_size=60))
    ts, found = 0, []
    for kind, step, key, back in steps:
        ts += step
        found.append(event(kind, max(0, ts - (back % (disorder_ms + 1))), key))
    return found


def run_cut(definitions: list[Definition], log: list[dict[str, Any]], seed: int) -> list[Counter[str]]:
    """Run a log through a lane in random pieces, with dropped batches, idle wake-ups and changes of worker."""
    chance, bench = random.Random(seed), Bench()
    versions = [bench.publish(one) for one in definitions]
    records = bench.records(log)
    at = 0
    bench.behind = True
    while at < len(records):
        size = chance.randrange(0, 9)
        done = chance.random() > 0.25
        bench.batch(records[at : at + size], commit=done)
        at += size if done else 0
        if chance.random() < 0.15:
            bench.other_worker()
    bench.behind = False
    bench.idle(10_000_000)
    assert not bench.of("late")
    return [
        Counter(
            repr((kind, key, stages)) for kind in ("matched", "timed_out") for of, key, stages in bench.found(kind) if of == v
        )
        for v in versions
    ]


@settings(max_examples=60, deadline=None)
@given(logs(0), st.integers(0, 10**6))
def test_in_order(log: list[dict[str, Any]], seed: int) -> None:
    """Events in order: every pattern finds what the matcher finds offline, each once."""
    in_order = [{**one, "key": one["_key"], "id": (SOURCE, 0, i)} for i, one in enumerate(log)]
    assert run_cut(list(PATTERNS), log, seed) == [offline(one, in_order) for one in PATTERNS]


@settings(max_examples=60, deadline=None)
@given(logs(DISORDER_MS), st.integers(0, 10**6))
def test_out_of_order(log: list[dict[str, Any]], seed: int) -> None:
    """Events out of order within the bound: what is found is what the sorted log gives, none is late."""
    allowing = [one.model_copy(update={"disorder_ms": DISORDER_MS}) for one in PATTERNS]
    in_order = sorted(({**one, "key": one["_key"], "id": (SOURCE, 0, i)} for i, one in enumerate(log)), key=lambda e: e["ts"])
    assert run_cut(allowing, log, seed) == [offline(one, in_order) for one in allowing]


@pytest.mark.parametrize("disorder_ms", [0, 10])
def test_lateness_is_judged_record_by_record(disorder_ms: int) -> None:
    """Which events are late is the same for one batch and for batches of one."""
    log = [event("a", ts) for ts in (100, 95, 88, 101, 130, 119, 125, 90, 130, 131)]
    late = []
    for size in (1, 3, len(log)):
        bench = Bench()
        bench.publish(FOLLOWED.model_copy(update={"disorder_ms": disorder_ms}))
        records = bench.records(log)
        for at in range(0, len(log), size):
            bench.batch(records[at : at + size])
        late.append([(one["input_offset"], one["watermark"], one["reason"]) for one in bench.of("late")])
    assert late[0] == late[1] == late[2]
    assert [offset for offset, *_ in late[0]] == ([1, 2, 5, 6, 7] if disorder_ms == 0 else [2, 5, 7])
