"""The engine against the enumerator: both backends find what trying every way finds, no more and no less."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from processors.core.cep.automaton import Automaton, PatternError
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import Outputs
from processors.patterns.check import check_case
from tests.processors.core.cep.enumerator import Found, matches, timed_out
from tests.processors.core.cep.naive import Json
from tests.processors.core.cep.scope import out_of_scope
from tests.processors.core.cep.shapes import EVENTS_MAX, Focus, patterns, streams, wide_patterns

Backend = Literal["general", "generated"]
BACKENDS: tuple[Backend, ...] = ("general", "generated")
Event = dict[str, Any]

many = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
some = settings(many, max_examples=60)
FOREVER = (1 << 63) - 1
clocks = st.none() | st.integers(1, 40)


def _compiled(pattern: Json) -> Automaton:
    """The pattern's automaton; patterns that are refused are not looked at here."""
    try:
        return compile_pattern(Pattern.from_case(pattern))
    except (PatternError, ValidationError):
        assume(False)
        raise


def _matcher(automaton: Automaton, backend: Backend) -> Matcher:
    try:
        return Matcher(automaton, backend=backend, partial_matches_max=100_000)
    except PatternError:
        return Matcher(automaton, backend="general", partial_matches_max=100_000)


def _found(stages: dict[str, list[Event]], at: int) -> Found:
    return tuple(sorted((stage, tuple(event["id"] for event in events)) for stage, events in stages.items())), at


def _matches_of(out: Outputs) -> Counter[Found]:
    return Counter(_found(match.stages, match.at) for match in out.matches)


def _timed_out_of(out: Outputs) -> Counter[Found]:
    return Counter(_found(partial.stages, partial.ts) for partial in out.timed_out)


def _run(matcher: Matcher, events: list[Event], end: int | None) -> Outputs:
    out, states = Outputs(), dict[Any, Any]()
    matcher.run(states, events, out)
    _advance(matcher, states, end, out)
    return out


def _advance(matcher: Matcher, states: dict[Any, Any], end: int | None, out: Outputs) -> None:
    if end is not None:
        for key in list(states):
            matcher.advance(states, key, end, out)


def _end_of(events: list[Event], end: int | None) -> int | None:
    return None if end is None else max([end, *(event["ts"] for event in events)])


def _same(out: Outputs, other: Outputs) -> bool:
    return _matches_of(out) == _matches_of(other) and _timed_out_of(out) == _timed_out_of(other)


@pytest.mark.parametrize("focus", ["all", "negations", "choices"])
@many
@given(st.data(), streams(), clocks)
def test_the_engine_finds_what_trying_every_way_finds(
    focus: Focus, data: st.DataObject, events: list[Event], end: int | None
) -> None:
    """Matches with their times are the same as multisets, timed-out partial matches as sets, with either backend."""
    pattern = data.draw(patterns(focus))
    assume(out_of_scope(pattern) is None)
    automaton = _compiled(pattern)
    end = _end_of(events, end)
    expected, expected_timed_out = matches(pattern, events, end), timed_out(pattern, events, end)
    for backend in BACKENDS:
        out = _run(_matcher(automaton, backend), events, end)
        assert _matches_of(out) == expected, backend
        assert set(_timed_out_of(out)) == expected_timed_out, backend


@some
@given(wide_patterns(), streams("kl"), clocks)
def test_both_backends_find_the_same_in_the_same_states(pattern: Json, events: list[Event], end: int | None) -> None:
    """After every event of two keys: the same outputs, the same keys alive with the same partial matches, the same deadlines."""
    automaton = _compiled(pattern)
    left, right = _matcher(automaton, "general"), _matcher(automaton, "generated")
    out, other, states, others = Outputs(), Outputs(), dict[Any, Any](), dict[Any, Any]()
    for event in events:
        left.run(states, [event], out)
        right.run(others, [event], other)
        assert _views(left, states) == _views(right, others)
    end = _end_of(events, end)
    _advance(left, states, end, out)
    _advance(right, others, end, other)
    assert _same(out, other)
    assert _views(left, states) == _views(right, others)


def _views(matcher: Matcher, states: dict[Any, Any]) -> dict[Any, Any]:
    """What each key holds, by place in time."""
    return {
        key: (
            matcher.deadline(state),
            Counter(
                (partial.state, partial.started, partial.deadline, partial.pending, _found(partial.stages, 0))
                for partial in matcher.view(state)
            ),
        )
        for key, state in states.items()
    }


@some
@given(wide_patterns(), streams("kl"), clocks, st.lists(st.integers(0, EVENTS_MAX), max_size=3), st.sampled_from(BACKENDS))
def test_where_a_batch_ends_changes_nothing(
    pattern: Json, events: list[Event], end: int | None, cuts: list[int], backend: Backend
) -> None:
    """One run over all events finds, in the same order, what runs over any slices of them find."""
    matcher = _matcher(_compiled(pattern), backend)
    whole = _run(matcher, events, _end_of(events, end))
    out, states = Outputs(), dict[Any, Any]()
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    for start, stop in pairwise(edges):
        matcher.run(states, events[start:stop], out)
    _advance(matcher, states, _end_of(events, end), out)
    assert [_found(match.stages, match.at) for match in out.matches] == [
        _found(match.stages, match.at) for match in whole.matches
    ]
    assert _same(out, whole)


@some
@given(wide_patterns(), streams("kl"), clocks, st.integers(0, EVENTS_MAX), st.sampled_from(BACKENDS), st.sampled_from(BACKENDS))
def test_a_stored_state_goes_on_as_if_nothing_had_happened(
    pattern: Json, events: list[Event], end: int | None, cut: int, before: Backend, after: Backend
) -> None:
    """Between any two events the state may go through JSON, a new compilation of the pattern, and to the other backend."""
    end = _end_of(events, end)
    whole = _run(_matcher(_compiled(pattern), before), events, end)
    writer, reader = _matcher(_compiled(pattern), before), _matcher(_compiled(pattern), after)
    out, states = Outputs(), dict[Any, Any]()
    writer.run(states, events[:cut], out)
    stored = {key: json.loads(json.dumps(writer.dump(state))) for key, state in states.items()}
    loaded = {key: reader.load(value) for key, value in stored.items()}
    assert {key: reader.deadline(state) for key, state in loaded.items()} == {
        key: writer.deadline(state) for key, state in states.items()
    }
    assert {key: len(reader.view(state)) for key, state in loaded.items()} == {
        key: len(writer.view(state)) for key, state in states.items()
    }
    reader.run(loaded, events[cut:], out)
    _advance(reader, loaded, end, out)
    assert _same(out, whole)


@some
@given(wide_patterns(), streams(), st.integers(0, EVENTS_MAX), st.sampled_from(BACKENDS))
def test_a_copy_goes_its_own_way(pattern: Json, events: list[Event], cut: int, backend: Backend) -> None:
    """What happens to a copy leaves the original as it was, and the original then finds what it would have found."""
    matcher = _matcher(_compiled(pattern), backend)
    states, out = dict[Any, Any](), Outputs()
    matcher.run(states, events[:cut], out)
    before = {key: json.dumps(matcher.dump(state)) for key, state in states.items()}
    copies = {key: matcher.copy(state) for key, state in states.items()}
    tried = Outputs()
    matcher.run(copies, events[cut:], tried)
    _advance(matcher, copies, 1_000, tried)
    assert {key: json.dumps(matcher.dump(state)) for key, state in states.items()} == before
    again = Outputs()
    matcher.run(states, events[cut:], again)
    _advance(matcher, states, 1_000, again)
    assert _same(again, tried)


@some
@given(wide_patterns(), streams("kl"), st.sampled_from(BACKENDS))
def test_keys_do_not_know_of_each_other(pattern: Json, events: list[Event], backend: Backend) -> None:
    """Two keys in one stream give what each gives alone."""
    matcher = _matcher(_compiled(pattern), backend)
    together, alone = _run(matcher, events, None), Outputs()
    for key in "kl":
        out = _run(matcher, [event for event in events if event["key"] == key], None)
        alone.matches += out.matches
        alone.timed_out += out.timed_out
    assert _same(together, alone)


@some
@given(wide_patterns(), streams(), st.sampled_from(BACKENDS))
def test_the_deadline_is_exact(pattern: Json, events: list[Event], backend: Backend) -> None:
    """One millisecond before it `advance` does nothing, at it something; without a deadline it never does anything."""
    matcher = _matcher(_compiled(pattern), backend)
    states, out = dict[Any, Any](), Outputs()
    matcher.run(states, events, out)
    for key, state in list(states.items()):
        deadline = matcher.deadline(state)
        silent = Outputs()
        matcher.advance(states, key, 1_000 if deadline is None else deadline - 1, silent)
        assert not silent
        if deadline is not None:
            held = len(matcher.view(states[key]))
            matcher.advance(states, key, deadline, silent)
            assert len(matcher.view(states[key]) if key in states else []) < held


def _cases() -> list[Json]:
    path = Path(__file__).with_name("flink_cases.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case["name"])
def test_the_definition_is_flinks(case: Json) -> None:
    """On recorded answers of Flink 2.2 the enumerator is right, and so are both backends."""
    assert out_of_scope(case["pattern"]) is None
    end = FOREVER if case.get("final_watermark") == "max" else case.get("final_watermark")
    expect = case["expect"]
    found = Counter(_named(match, at) for match, at in zip(expect["matches"], expect["at"], strict=True))
    assert matches(case["pattern"], case["events"], end) == found
    timed_out_there = {_named(partial["match"], partial["ts"]) for partial in expect["timed_out"]}
    assert timed_out(case["pattern"], case["events"], end) == timed_out_there
    assert {check_case(case, backend).status for backend in BACKENDS} == {"passed"}


def _named(match: dict[str, list[str]], at: int) -> Found:
    return tuple(sorted((stage, tuple(ids)) for stage, ids in match.items())), at
