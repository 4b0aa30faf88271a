"""The engine by small scripts: what is found, when, what is left behind; both backends."""

from __future__ import annotations

import orjson
import pytest

from processors.core.cep.automaton import PatternError
from processors.core.cep.outputs import Outputs, SkipMissed
from processors.core.cep.snapshot import StateMismatch
from tests.processors.core.cep.streams import BACKENDS, Backend, States, feed, matcher, pattern, run, spelled, stage

HELPLESS = pattern(stage("f", times={"min": 3, "max": None}), stage("h", negated=True), within_ms=100)
"""Three failures or more, and no help within 100 ms of the first."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_absence_is_found_when_its_time_is_up_without_a_further_event(backend: Backend) -> None:
    """The clock alone completes a pattern that ends with what must not come."""
    events = feed("f1 f2 f3 x4")
    assert spelled(run(HELPLESS, events, backend, clock=100)) == []
    out = run(HELPLESS, events, backend, clock=101)
    assert spelled(out) == ["f1.1 f2.2 f3.3"]
    assert [match.at for match in out.matches] == [101]
    assert spelled(run(HELPLESS, feed("f1 f2 f3 h50 x60"), backend, clock=500)) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_times_out_is_an_output_with_what_it_had(backend: Backend) -> None:
    """A partial match whose window ends says which events it had, and when the window ended."""
    out = run(pattern(stage("a"), stage("b"), stage("c"), within_ms=10), feed("a1 b4 c20"), backend)
    (timed_out,) = out.timed_out
    assert {name: [event["id"] for event in taken] for name, taken in timed_out.stages.items()} == {"a": ["a1.1"], "b": ["b4.2"]}
    assert timed_out.ts == 11
    assert out.matches == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_without_a_partial_match_has_no_state(backend: Backend) -> None:
    """State appears with the first event of a match and goes with the last, by match, by death and by time."""
    engine, out = matcher(pattern(stage("a"), stage("b", contiguity="strict"), within_ms=10), backend), Outputs()
    states: States = {}
    for text, left in (("x1", 0), ("a2", 1), ("b3", 0), ("a4", 1), ("x5", 0), ("a6", 1)):
        engine.run(states, feed(text), out)
        assert len(states) == left, text
    assert engine.deadline(states["k"]) == 16
    engine.advance(states, "k", 15, out)
    assert len(states) == 1
    engine.advance(states, "k", 16, out)
    assert states == {}
    assert len(out.timed_out) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("skip", ["no_skip", "past_last"])
def test_too_many_partial_matches_of_a_key_are_evicted_oldest_first(backend: Backend, skip: str) -> None:
    """Beyond the limit those that began first go, each as an output that says why; other keys are not touched."""
    found = pattern(stage("a"), stage("b"), skip={"strategy": skip})
    engine, out = matcher(found, backend, partial_matches_max=3), Outputs()
    states: States = {}
    engine.run(states, feed("a1 a2 a3 a4 a5"), out)
    engine.run(states, feed("a9", key="other"), out)
    assert [[event["id"] for event in evicted.stages["a"]] for evicted in out.evicted] == [["a1.1"], ["a2.2"]]
    assert "more than 3 partial matches" in out.evicted[0].reason
    assert [partial.started for partial in engine.view(states["k"])] == [3, 4, 5]
    assert len(engine.view(states["other"])) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_survives_being_written_down(backend: Backend) -> None:
    """After every event the state goes through JSON and into the other backend, and nothing changes."""
    loop = stage("b", times={"min": 1, "max": None})
    found = pattern(stage("a"), loop, stage("c"), within_ms=50, skip={"strategy": "to_next"})
    events = feed("a1 b2 a3 b4 x5 b6 c7 a8 c9")
    expected = spelled(run(found, events, backend))
    assert expected
    engines = [matcher(found, backend), matcher(found, "general")]
    states: States = {}
    out = Outputs()
    for turn, event in enumerate(events):
        engine = engines[turn % 2]
        other = engines[1 - turn % 2]
        engine.run(states, [event], out)
        states = {key: other.load(orjson.loads(orjson.dumps(engine.dump(state)))) for key, state in states.items()}
    assert spelled(out) == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("skip", ["no_skip", "to_next"])
def test_a_draining_matcher_ends_what_was_begun_and_begins_nothing(backend: Backend, skip: str) -> None:
    """State of the running version goes on in a matcher that begins nothing; when it has ended, the key is gone."""
    found = pattern(stage("a"), stage("b", times={"min": 1, "max": None}), stage("c"), within_ms=50, skip={"strategy": skip})
    engine, drain = matcher(found, backend), matcher(found, begins=False)
    states: States = {}
    engine.run(states, feed("a1 b2"), Outputs())
    left: States = {"k": drain.load(engine.dump(states["k"]))}
    out = Outputs()
    drain.run(left, feed("x3 a4 b5 c6 a7 b8 c9"), out)
    assert {match.stages["a"][0]["id"] for match in out.matches} == {"a1.1"}
    drain.advance(left, "k", 60, out)
    assert left == {}
    drain.run(left, feed("a70 b71 c72"), out)
    assert left == {}


def test_an_id_that_is_a_position_stays_one() -> None:
    """A (topic, partition, offset) is a tuple again after the state was written down."""
    engine = matcher(pattern(stage("a"), stage("b")))
    states: States = {}
    engine.run(states, [{**feed("a1")[0], "id": ("topic", 3, 17)}], Outputs())
    engine.load(orjson.loads(orjson.dumps(engine.dump(states["k"]))))
    back = engine.view(engine.load(orjson.loads(orjson.dumps(engine.dump(states["k"])))))
    assert back[0].stages["a"][0]["id"] == ("topic", 3, 17)


def test_state_of_another_pattern_is_refused() -> None:
    """State that names a state which the pattern does not have says so."""
    engine = matcher(pattern(stage("a"), stage("b")))
    states: States = {}
    engine.run(states, feed("a1"), Outputs())
    with pytest.raises(StateMismatch, match="'b'"):
        matcher(pattern(stage("a"), stage("c"))).load(engine.dump(states["k"]))
    with pytest.raises(StateMismatch, match="form"):
        engine.load([99])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_goes_its_own_way(backend: Backend) -> None:
    """What happens to a copy leaves the original as it was."""
    engine = matcher(pattern(stage("a"), stage("b", times={"min": 1, "max": None}), stage("c"), within_ms=90), backend)
    states: States = {}
    engine.run(states, feed("a1 b2 a3"), Outputs())
    before = engine.dump(states["k"])
    copied: States = {"k": engine.copy(states["k"])}
    out = Outputs()
    engine.run(copied, feed("b4 c5 b6 c7 x200"), out)
    assert out.matches
    assert engine.dump(states["k"]) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missed_skip_is_an_error_when_the_pattern_says_so(backend: Backend) -> None:
    """`throw_on_miss`: what was found before stays, the match that has nothing to skip to raises."""
    optional = stage("b", optional=True)
    found = pattern(stage("a"), optional, stage("c"), skip={"strategy": "to_first", "stage": "b", "throw_on_miss": True})
    engine, out = matcher(found, backend), Outputs()
    states: States = {}
    with pytest.raises(SkipMissed, match="stage 'b'"):
        engine.run(states, feed("a1 b2 c3 a4 c5"), out)
    assert len(out.matches) == 1


def test_the_generated_backend_says_what_it_cannot_do() -> None:
    """A loop over what may be empty runs on the general backend, and asking for the generated one says why."""
    inner = {"group": [stage("b", optional=True)], "times": {"min": 1, "max": None}, "contiguity": "relaxed"}
    found = pattern(stage("a"), inner, stage("c"), within_ms=50)
    assert matcher(found).backend == "general"
    with pytest.raises(PatternError, match="may be empty"):
        matcher(found, "generated")
    assert "a1.1 c4.4" in spelled(run(found, feed("a1 x2 x3 c4")))


def test_an_event_that_concerns_nobody_costs_one_look_up() -> None:
    """The source for a relaxed sequence has no code for events of other kinds."""
    source = matcher(pattern(stage("a"), stage("b"), stage("c"))).source
    assert source is not None
    head = source[: source.index("k = e['key']")]
    assert "if not c:" in head
    assert "continue" in head


def test_a_strict_chain_needs_no_lists() -> None:
    """Where there can never be two partial matches in a state, its place holds the one itself."""
    rising = {"name": "r", "where": "count(r) == 0 or value > last(r.value)", "times": {"min": 4, "max": 4}, "consecutive": True}
    source = matcher(pattern(rising)).source
    assert source is not None
    assert "for n in" not in source
    assert "append(m)" not in source


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    """A pattern that may keep nothing can find nothing."""
    with pytest.raises(PatternError, match="at least 1"):
        matcher(pattern(stage("a")), partial_matches_max=limit)
