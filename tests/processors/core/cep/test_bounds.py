"""Limits that are smaller than a pattern is long, patterns too large for a backend, and keys whose beginning a negation ended."""

from __future__ import annotations

from typing import Any

import pytest

from processors.core.cep import ordered
from processors.core.cep.expressions import from_data
from processors.core.cep.outputs import Outputs
from tests.processors.core.cep.streams import BACKENDS, Backend, States, feed, matcher, pattern, spelled, stage


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_limit_below_the_number_of_stages_holds(backend: Backend, most: int) -> None:
    """Partial matches in different stages count together, also where no stage ever has two."""
    everything = pattern(*({"name": name, "contiguity": "strict"} for name in "abcd"))
    engine, out = matcher(everything, backend, partial_matches_max=most), Outputs()
    states: States = {}
    engine.run(states, feed("x1 x2 x3 x4 x5 x6"), out)
    assert engine.count(states["k"]) == most
    assert out.matches == []
    assert len(out.evicted) == 6 - most


def test_a_pattern_too_large_to_generate_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its source would be too long, a pattern is the general backend's and no error."""
    monkeypatch.setattr(ordered, "STEPS_MAX", 1)
    assert matcher(pattern(stage("a"), stage("b"), skip={"strategy": "to_next"}), "auto").backend == "general"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_negation_that_ends_the_beginning_ends_nothing_else(backend: Backend) -> None:
    """With a skip strategy the only partial match of a key is kept, also where nothing may begin beside it any more."""
    opened = {"group": [stage("a", optional=True)]}
    twice = stage("c", times={"min": 2, "max": 2})
    engine, out = matcher(pattern(opened, stage("b", negated=True), twice, skip={"strategy": "to_next"}), backend), Outputs()
    engine.run({}, feed("c1 b2 c3"), out)
    assert spelled(out) == ["c1.1 c3.3"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "alone", [["and", [{"field": "x"}]], ["or", [{"field": "x"}]], ["not", [{"op": "not", "args": [{"field": "x"}]}]]]
)
def test_what_stands_alone_in_a_conjunction_is_a_boolean(backend: Backend, alone: list[Any]) -> None:
    """`and(x)` is false where x is null, also where it is compared further and the source was made for it."""
    condition = from_data({"op": "in", "args": [{"op": alone[0], "args": alone[1]}, [None]]})
    engine, out = matcher(pattern({"name": "a", "where": condition}), backend), Outputs()
    engine.run({}, [{"id": "e1", "key": "k", "ts": 1}], out)
    assert out.matches == []
