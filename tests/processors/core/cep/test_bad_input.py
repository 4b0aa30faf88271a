"""Events that are not what a pattern expects: what is defined for them, and that none stops a matcher."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from processors.core.cep.expressions import from_data, to_data
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import Outputs
from tests.processors.core.cep.naive import Json, holds
from tests.processors.core.cep.shapes import op
from tests.processors.core.cep.strategies import expressions
from tests.processors.core.cep.streams import BACKENDS, Backend, feed, matcher, pattern, run, spelled, stage

Event = dict[str, Any]
MISSING: Any = object()
HUGE = 10**400
"""A whole number that JSON may hold and no double can."""

thorough = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

wild_values = st.one_of(
    st.just(MISSING),
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from(["", "a", "b", "1", "true", "nan"]),
    st.lists(st.integers(0, 1), max_size=1),
    st.just({}),
)
"""What a payload can hold, and more: other types, NaN, infinities, whole numbers beyond 64 bits, lists, objects, nothing."""


def _event(number: int, ts: int, **fields: Any) -> Event:
    return {"id": f"e{number}", "key": "k", "ts": ts, **{name: value for name, value in fields.items() if value is not MISSING}}


def _taken(where: str | Json, event: Event, backend: Backend) -> bool:
    """Whether a pattern of one stage takes the event."""
    found = Pattern.model_validate({"stages": [{"name": "a", "where": where}]})
    return len(run(found, [event], backend).matches) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ("x == 1", [1, 1.0]),
        ("x != 1", [MISSING, None, True, "1", 0, math.nan, math.inf, HUGE, [1]]),
        ("x == 1 or y == 2", [1, 1.0]),
        ("x == true", [True]),
        ("x == null", [MISSING, None]),
        ("x == '1'", ["1"]),
        ("x in [1, 'a']", [1, 1.0]),
        ("x > 0", [1, 1.0, math.inf, HUGE]),
        ("x <= 1", [1, 1.0, 0]),
        ("not (x > 0)", [MISSING, None, True, "1", 0, math.nan, [1]]),
        ("x < 'b'", ["1"]),
        ("x + 0 == 1", [1, 1.0]),
        ("contains(x, '1')", ["1"]),
        ("x", [True]),
        ("x == x", [MISSING, None, True, 1, 1.0, "1", 0, math.inf, HUGE, [1]]),
        ("x == y", [MISSING, None]),
    ],
)
def test_what_each_kind_of_value_fulfils(backend: Backend, where: str, taken: list[Any]) -> None:
    """A field that is missing is null, True is not 1, a number is no string, NaN is nothing, and a list equals no constant."""
    values = [MISSING, None, True, "1", 1, 1.0, 0, math.nan, math.inf, [1]]
    values += [] if "+" in where else [HUGE]
    found = [value for value in values if _taken(where, _event(1, 1, x=value), backend)]
    assert Counter(map(repr, found)) == Counter(map(repr, taken))


@thorough
@given(expressions, wild_values, wild_values)
@example(from_data(op("==", op("mod", {"field": "a"}, 2), 0)), math.inf, 0)
@example(from_data(op("in", {"field": "a"}, [True, 0])), 1, 0)
@example(from_data(op("==", {"field": "a"}, {"field": "b"})), True, 1)
def test_no_value_raises_and_each_means_what_the_format_says(condition: Any, left: Any, right: Any) -> None:
    """Any condition on any values holds where the walked expression holds, with either backend."""
    data = to_data(condition)
    event = _event(1, 1, a=left, b=right)
    expected = holds(data, event, ())
    for backend in BACKENDS:
        assert _taken(data, event, backend) == expected


AGGREGATING = [
    {"name": "a", "times": {"min": 1, "max": 3}, "where": op("!=", {"field": "kind"}, "z")},
    {
        "name": "b",
        "contiguity": "relaxed",
        "where": op(
            "or",
            *[
                op(order, {"field": "x"}, {"agg": agg, "stage": "a", "field": "x"})
                for agg, order in zip(
                    ("sum", "avg", "min", "max", "first", "last"), ("<", ">", "<=", ">=", "==", "!="), strict=True
                )
            ],
        ),
    },
]


rows_of_values = st.lists(st.tuples(wild_values, st.integers(0, 12), st.sampled_from("xyz")), max_size=7)


@thorough
@given(rows_of_values, st.booleans())
def test_backends_agree_on_any_values(rows: list[tuple[Any, int, str]], windowed: bool) -> None:
    """Aggregates over any values: the same matches, timeouts and partial matches, and nothing raises."""
    in_order = zip(rows, sorted(ts for _, ts, _ in rows), strict=True)
    events = [_event(number, ts, x=value, kind=kind) for number, ((value, _, kind), ts) in enumerate(in_order, 1)]
    assert _seen(events, "general", windowed=windowed) == _seen(events, "generated", windowed=windowed)


@thorough
@given(rows_of_values)
@example([(0, 1, "x"), (0, 0, "x"), (0, 5, "x")])
def test_backends_agree_when_clocks_jump_back(rows: list[tuple[Any, int, str]]) -> None:
    """Times in any order: each partial match ends with its own window, in either backend."""
    events = [_event(number, ts, x=value, kind=kind) for number, (value, ts, kind) in enumerate(rows, 1)]
    assert _seen(events, "general", windowed=True) == _seen(events, "generated", windowed=True)


def _seen(events: list[Event], backend: Backend, *, windowed: bool) -> tuple[Any, ...]:
    """What is found, and what is held at the end."""
    found = Pattern.model_validate({"stages": AGGREGATING, **({"within_ms": 5} if windowed else {})})
    engine, states, out = matcher(found, backend), dict[Any, Any](), Outputs()
    engine.run(states, events, out)
    held = Counter((view.state, view.started, _ids(view.stages)) for state in states.values() for view in engine.view(state))
    matches = Counter((match.at, match.started, _ids(match.stages)) for match in out.matches)
    return held, matches, Counter((late.ts, _ids(late.stages)) for late in out.timed_out)


def _ids(stages: dict[str, list[Event]]) -> str:
    return "; ".join(f"{name}: {' '.join(event['id'] for event in taken)}" for name, taken in sorted(stages.items()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["x + 1 > 5", "sum(a.x) > 5", "avg(a.x) > 5", "max(a.x) > 5", "abs(x) > 5"])
def test_a_number_beyond_all_doubles_is_infinite(backend: Backend, where: str) -> None:
    """A payload with a number of 400 digits is more than 5 in every way, and does not raise."""
    found = pattern(stage("a"), {"name": "b", "where": where})
    events = [{**event, "x": HUGE} for event in feed("a1 b2")]
    assert spelled(run(found, events, backend)) == ["a1.1 b2.2"]


# ---------------------------------------------------------------------- clocks


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("skip", ["no_skip", "past_last"])
def test_an_earlier_event_is_taken_in_the_order_given_and_ends_no_wait(backend: Backend, skip: str) -> None:
    """Events count in the order they come; a clock that jumps back lets nothing time out, and a match stands at its ts."""
    found = pattern(stage("a"), stage("b"), within_ms=10, skip={"strategy": skip})
    out = run(found, feed("a100 x50 b40"), backend)
    assert spelled(out) == ["b40.3 a100.1"]
    assert [(match.at, match.started) for match in out.matches] == [(40, 100)]
    assert out.timed_out == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_after_a_jump_back_each_partial_match_keeps_its_own_deadline(backend: Backend) -> None:
    """What began at the earlier time ends first, although it came later."""
    engine, out, states = matcher(pattern(stage("a"), stage("b"), within_ms=10), backend), Outputs(), dict[Any, Any]()
    engine.run(states, feed("a100 a20"), out)
    assert engine.deadline(states["k"]) == 30
    engine.advance(states, "k", 60, out)
    assert [(_ids(late.stages), late.ts) for late in out.timed_out] == [("a: a20.2", 30)]
    engine.run(states, feed("b70"), out)
    assert [_ids(match.stages) for match in out.matches] == ["a: a100.1; b: b70.1"]


# ---------------------------------------------------------------------- keys and the reserved fields


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_value_that_can_be_hashed_is_a_key(backend: Backend) -> None:
    """No key at all, numbers and tuples are keys like others, each with its own matches; a list is a mistake that raises."""
    found = pattern(stage("a"), stage("b"))
    keys: list[Any] = [None, 0, "", "None", ("t", 1), 2.5]
    events = [{**event, "key": key} for event in feed("a1 b2") for key in keys]
    out = run(found, events, backend)
    assert Counter(match.key for match in out.matches) == Counter(keys)
    with pytest.raises(TypeError):
        run(found, [{**event, "key": ["k"]} for event in feed("a1")], backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["key", "ts"])
def test_an_event_without_key_or_time_raises_where_the_pattern_needs_it(backend: Backend, name: str) -> None:
    """It is the caller's mistake, and says which field; what was found before stays found, and the matcher can go on."""
    found = pattern(stage("a"), stage("b"), within_ms=10)
    engine, out, states = matcher(found, backend), Outputs(), dict[Any, Any]()
    (broken,) = feed("a3")
    del broken[name]
    with pytest.raises(KeyError, match=name):
        engine.run(states, [*feed("a1 b2 a3"), broken], out)
    engine.run(states, feed("b4"), out)
    assert spelled(out) == ["a1.1 b2.2", "a3.3 b4.1"]


# ---------------------------------------------------------------------- limits


@thorough
@given(st.lists(st.sampled_from("aab"), max_size=12), st.integers(1, 6), st.sampled_from(["no_skip", "to_next", "past_last"]))
def test_partial_matches_never_exceed_their_limit_and_the_oldest_go(kinds: list[str], most: int, skip: str) -> None:
    """A key never holds more than the limit; what is evicted began before all that is kept; both backends evict the same."""
    loop = stage("a", times={"min": 1, "max": None}, allow_combinations=True)
    found = pattern(loop, stage("b"), stage("c"), within_ms=100, skip={"strategy": skip})
    evicted = []
    for backend in BACKENDS:
        engine, out, states = matcher(found, backend, partial_matches_max=most), Outputs(), dict[Any, Any]()
        for event in feed(" ".join(f"{kind}{at}" for at, kind in enumerate(kinds, 1))):
            gone = len(out.evicted)
            engine.run(states, [event], out)
            started = [view.started for state in states.values() for view in engine.view(state)]
            assert len(started) <= most
            for partial in out.evicted[gone:]:
                assert partial.reason
                assert all(partial.stages["a"][0]["ts"] < ts for ts in started)
        evicted.append(Counter(_ids(partial.stages) for partial in out.evicted))
    assert evicted[0] == evicted[1]
