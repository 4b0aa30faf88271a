"""The overlap machine against a dumb oracle, in any order, with every bound."""

from __future__ import annotations

import itertools
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.core import overlap
from processors.core.overlap import Limits
from processors.core.step import fold
from schemas.work import FileChanged, OverlapFound

Pair = frozenset[tuple[int, int, str, str]]


def change(agent: str, task: str, ts: int, arrived: int) -> FileChanged:
    return FileChanged(agent=agent, task=task, ts=ts, arrived=arrived, path="a.py", added=1, removed=0, seq=0)


def run(changes: list[FileChanged], limits: Limits = overlap.DEFAULT_LIMITS) -> tuple[overlap.State, list[OverlapFound]]:
    state, found = fold(lambda s, e, now: overlap.step(s, e, now, limits), overlap.EMPTY, changes)
    return state, [f for f in found if isinstance(f, OverlapFound)]


def pair(found: OverlapFound) -> Pair:
    return frozenset(
        {
            (found.first_arrived, found.first_ts, found.first_agent, found.first_task),
            (found.second_arrived, found.second_ts, found.second_agent, found.second_task),
        }
    )


def identity(c: FileChanged) -> tuple[int, int, str, str]:
    return (c.arrived, c.ts, c.agent, c.task)


def oracle(changes: list[FileChanged]) -> set[Pair]:
    """Compare every two changes: neither had landed when the other's work began."""
    return {
        frozenset({identity(a), identity(b)})
        for a, b in itertools.combinations(changes, 2)
        if a.agent != b.agent and min(a.ts, a.arrived) < b.arrived and min(b.ts, b.arrived) < a.arrived
    }


small = st.integers(0, 12)
changes_of_a_file = st.lists(st.builds(change, st.sampled_from("ABC"), st.sampled_from("12345"), small, small), max_size=25)


@given(changes_of_a_file)
def test_finds_exactly_the_oracles_pairs_each_once(changes: list[FileChanged]) -> None:
    """Whatever the order, duplicates and clocks, the pairs are those of the quadratic comparison, each once."""
    state, found = run(changes)
    assert Counter(map(pair, found)) == Counter(oracle(changes))
    assert state["found"] == len(found)
    assert overlap.view(state).exact


@given(changes_of_a_file, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(changes: list[FileChanged], chance: object) -> None:
    """The remembered changes and the pairs, with the roles of first and second, are the same for every order of the records."""
    shuffled = list(changes)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    one, found = run(changes)
    two, also_found = run(shuffled)
    assert one == two
    assert set(found) == set(also_found)


@given(changes_of_a_file, st.integers(1, 5), st.integers(0, 8))
def test_what_forgetting_cost_is_counted(changes: list[FileChanged], changes_max: int, reach_ms: int) -> None:
    """A bounded state finds only true pairs; each pair it misses has a change that was counted as uncertain when it came."""
    unique = list({identity(c): c for c in changes}.values())
    limits = Limits(changes_max=changes_max, reach_ms=reach_ms)
    state = overlap.EMPTY
    found: list[Pair] = []
    uncertain: set[tuple[int, int, str, str]] = set()
    for c in unique:
        done = overlap.step(state, c, 0, limits)
        if done.state["uncertain"] > state["uncertain"]:
            uncertain.add(identity(c))
        found += [pair(f) for f in done.outputs if isinstance(f, OverlapFound)]
        state = done.state
        assert len(state["changes"]) <= changes_max
        assert not reach_ms or state["changes"][-1][0] - state["changes"][0][0] <= reach_ms
    assert len(found) == len(set(found))
    missed = oracle(unique) - set(found)
    assert set(found) <= oracle(unique)
    assert all(p & uncertain for p in missed)
    assert state["forgotten"] + len(state["changes"]) == len(unique)


@given(changes_of_a_file, st.integers(0, 25))
def test_state_survives_encode_and_decode(changes: list[FileChanged], cut: int) -> None:
    """A fold that goes through JSON in the middle ends in the same bytes, and replay gives the same bytes."""
    whole, _ = run(changes)
    half, _ = run(changes[:cut])
    rest, _ = fold(overlap.step, orjson.loads(orjson.dumps(half)), changes[cut:])
    assert orjson.dumps(rest) == orjson.dumps(whole) == orjson.dumps(run(changes)[0])


@given(changes_of_a_file)
def test_a_step_leaves_its_input_alone(changes: list[FileChanged]) -> None:
    """No step changes the state it was given, so a dropped turn drops everything."""
    state = overlap.EMPTY
    for c in changes:
        before = orjson.dumps(state)
        after = overlap.step(state, c, 0).state
        assert orjson.dumps(state) == before
        state = after


def test_the_drawn_example() -> None:
    """The drawing in the module's docstring is true."""
    a, b = change("A", "1", 0, 15), change("B", "2", 7, 19)
    c, d = change("C", "3", 27, 32), change("D", "4", 16, 16)
    assert {pair(f) for f in run([a, b, c, d])[1]} == {
        frozenset({identity(a), identity(b)}),
        frozenset({identity(b), identity(d)}),
    }


def test_an_agent_does_not_overlap_itself() -> None:
    """Two changes of one agent are never a pair."""
    assert run([change("A", "1", 0, 10), change("A", "2", 5, 15)])[1] == []


def test_seen_means_landed_when_the_work_began() -> None:
    """A change that begins in the very millisecond in which another lands has seen it."""
    assert run([change("A", "1", 0, 10), change("B", "2", 10, 20)])[1] == []


def test_a_clock_that_is_ahead_is_not_believed() -> None:
    """A change made after it landed counts as made and landed in one moment, and the event keeps the author's time."""
    found = run([change("A", "1", 99, 10), change("B", "2", 5, 20)])[1]
    assert [(f.first_ts, f.first_arrived, f.second_ts) for f in found] == [(99, 10, 5)]
    assert run([change("A", "1", 99, 10), change("B", "2", 11, 20)])[1] == []


@pytest.mark.parametrize(("changes_max", "reach_ms"), [(0, 0), (1, -1)])
def test_refuses_senseless_limits(changes_max: int, reach_ms: int) -> None:
    """Limits that could not work are refused when they are made."""
    with pytest.raises(ValueError, match="at least 1 and at least 0"):
        Limits(changes_max=changes_max, reach_ms=reach_ms)
