"""Why a pattern stands where it stands, in words."""

from __future__ import annotations

from typing import Any

import pytest

from processors.core.cep.explain import explain, explain_begin
from processors.core.cep.outputs import Outputs
from tests.processors.core.cep.streams import BACKENDS, Backend, States, feed, matcher, pattern, stage

HELPLESS = pattern(stage("f", times={"min": 2, "max": None}), stage("h", negated=True), within_ms=100)


def state_after(found: Any, events: list[dict[str, Any]], backend: Backend = "auto") -> tuple[Any, Any]:
    """The matcher and the key's state after events."""
    engine = matcher(found, backend)
    states: States = {}
    engine.run(states, events, Outputs())
    return engine, states["k"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_partial_match_says_what_it_waits_for_and_until_when(backend: Backend) -> None:
    """Its stage, the condition as text, the deadline, and the values of the event that did not fit."""
    engine, state = state_after(pattern(stage("a"), stage("b"), within_ms=50), feed("a1 x2"), backend)
    (found,) = explain(engine, state, feed("a1 x2")[1])
    assert [event["id"] for event in found.stages["a"]] == ["a1.1"]
    assert (found.started, found.deadline, found.pending) == (1, 51, False)
    (wait,) = found.waits
    assert (wait.stage, wait.ends, wait.condition, wait.holds) == ("b", False, "kind in ['b']", False)
    assert wait.why == ("kind in ['b'] is false: kind is 'x'",)
    assert found.outcome == "the event did not advance it: for 'b' kind in ['b'] is false: kind is 'x'"


def test_the_event_that_was_taken_is_said_to_be() -> None:
    """Where the last event advanced a partial match, that is the answer."""
    events = feed("a1 b2")
    engine, state = state_after(pattern(stage("a"), stage("b"), stage("c"), within_ms=50), events)
    (found,) = explain(engine, state, events[-1])
    assert found.outcome == "it took the event as 'b'"


def test_only_the_false_parts_of_a_condition_are_named() -> None:
    """Of `and` the parts that are false with their values, of a comparison with what was taken both sides."""
    rising = {"name": "b", "where": "kind == 'b' and price > last(a.price) and agent != 'x'", "contiguity": "relaxed"}
    events = [{**event, "price": price} for event, price in zip(feed("a1 b2"), (5, 3), strict=True)]
    engine, state = state_after(pattern(stage("a"), rising, within_ms=50), events)
    (found,) = explain(engine, state, events[-1])
    assert found.waits[0].why == ("price > last(a.price) is false: price is 3, last(a.price) is 5",)


def test_a_missing_field_is_named() -> None:
    """A condition over a field that the event does not have says so."""
    engine, state = state_after(pattern(stage("a"), {"name": "b", "where": "cost > 3", "contiguity": "relaxed"}), feed("a1 x2"))
    (found,) = explain(engine, state, feed("x2")[0])
    assert found.waits[0].why == ("cost > 3 is false: the event has no cost",)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pending_match_names_what_would_end_it(backend: Backend) -> None:
    """Absence waits for its time; the negation that would end it is told, and that the event was not it."""
    engine, state = state_after(HELPLESS, feed("f1 f2 x3"), backend)
    pending = [found for found in explain(engine, state, feed("x3")[0]) if found.pending]
    assert len(pending) == 1
    assert pending[0].deadline == 101
    assert [(wait.stage, wait.ends, wait.holds) for wait in pending[0].waits] == [("h", True, False)]
    assert "waiting for its time to end" in pending[0].outcome


def test_what_would_begin_a_match_is_told_too() -> None:
    """For a key without a partial match: the first stage, and why the event was not it."""
    engine = matcher(pattern(stage("a"), stage("b")))
    (wait,) = explain_begin(engine, feed("x1")[0])
    assert (wait.stage, wait.holds, wait.why) == ("a", False, ("kind in ['a'] is false: kind is 'x'",))
    assert explain_begin(engine)[0].holds is None


def test_a_negated_condition_names_what_was_true() -> None:
    """`not` fails because something holds: that is what is said."""
    engine, state = state_after(
        pattern(stage("a"), {"name": "b", "where": "not (kind == 'x')", "contiguity": "relaxed"}), feed("a1 x2")
    )
    (found,) = explain(engine, state, feed("x2")[0])
    assert found.waits[0].why == ("kind == 'x' is true: kind is 'x'",)
