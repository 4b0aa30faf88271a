"""Aggregates against the whole list of values, in any order and any split."""

from __future__ import annotations

import math
import statistics
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from processors.core import aggregates
from processors.core.aggregates import EXACT_MAX, NUMBER_MAX, QUANTILE_ERROR, Aggregate, add, fresh, merge, result, weight

ALL = [
    Aggregate(agg="count"),
    *(Aggregate(agg=agg, field="x") for agg in ("count", "sum", "mean", "min", "max", "distinct")),
    *(Aggregate(agg="quantile", field="x", q=q) for q in (0.0, 0.5, 0.99, 1.0)),
]
NAMES = [f"{a.agg}{'' if a.q is None else a.q}{'' if a.field else '-events'}" for a in ALL]


def _run(a: Aggregate, values: list[Any]) -> Any:
    state = fresh(a)
    for value in values:
        state, _ = add(a, state, {"x": value})
    return state


def _expected(a: Aggregate, values: list[float]) -> float | None:
    n = len(values)
    if a.q is not None:
        return sorted(values)[math.floor(a.q * (n - 1))] if n else None
    return {
        "count": float(n),
        "sum": math.fsum(values),
        "mean": math.fsum(values) / n if n else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "distinct": float(len({str(v) for v in values})),
    }[a.agg]


_NUMBERS = st.floats(-1e6, 1e6).map(lambda v: v + 0.0) | st.floats(-1e280, 1e280).map(lambda v: v + 0.0)


@pytest.mark.parametrize("a", ALL, ids=NAMES)
@settings(max_examples=60, deadline=None)
@given(values=st.lists(_NUMBERS, max_size=EXACT_MAX), order=st.randoms(use_true_random=False), cut=st.integers(0, EXACT_MAX))
def test_small_windows_are_exact_in_any_order_and_split(a: Aggregate, values: list[float], order: Any, cut: int) -> None:
    """The result is that of the whole list, also after a shuffle, a merge and a trip through JSON."""
    shuffled = list(values)
    order.shuffle(shuffled)
    one, other = (orjson.loads(orjson.dumps(_run(a, part))) for part in (shuffled[:cut], shuffled[cut:]))
    expected = _expected(a, values)
    assert result(a, _run(a, values)) == expected
    assert result(a, merge(a, one, other)) == expected


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99])
@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=EXACT_MAX + 1, max_size=300),
    order=st.randoms(use_true_random=False),
    cut=st.integers(0, 300),
)
def test_large_quantiles_are_near_in_any_order_and_split(q: float, values: list[float], order: Any, cut: int) -> None:
    """Within the relative error of the value at that rank, and the very same however the values came."""
    a = Aggregate(agg="quantile", field="x", q=q)
    exact = _expected(a, values)
    assert exact is not None
    found = result(a, _run(a, values))
    assert found == pytest.approx(exact, rel=QUANTILE_ERROR * 1.001, abs=1e-300)
    order.shuffle(values)
    assert result(a, merge(a, _run(a, values[:cut]), _run(a, values[cut:]))) == found


@pytest.mark.parametrize("n", [65, 1000, 20_000])
def test_large_distinct_counts_are_near(n: int) -> None:
    """Four standard errors are the limit, for one sketch and for two that are merged."""
    a = Aggregate(agg="distinct", field="x")
    half, rest = _run(a, [f"task-{i}" for i in range(n // 2)]), _run(a, [f"task-{i}" for i in range(n // 3, n)])
    for state in (_run(a, [f"task-{i % n}" for i in range(n + 50)]), merge(a, half, rest), merge(a, rest, half)):
        assert result(a, orjson.loads(orjson.dumps(state))) == pytest.approx(n, rel=0.092)
        assert weight(state) < 2000


def test_distinct_tells_types_apart() -> None:
    """What the producer wrote counts: the number 1, the text and the boolean are three values."""
    a = Aggregate(agg="distinct", field="x")
    assert result(a, _run(a, [1, "1", True, 1, "1", 1.0])) == 4


@pytest.mark.parametrize("a", [a for a in ALL if a.field], ids=[n for n, a in zip(NAMES, ALL, strict=True) if a.field])
def test_a_missing_field_counts_for_nothing(a: Aggregate) -> None:
    """Neither an absent field nor None changes the state, and neither is skipped."""
    state = _run(a, [3.0])
    assert add(a, state, {}) == (state, False)
    assert add(a, state, {"x": None}) == (state, False)


@pytest.mark.parametrize(
    "bad", ["7", True, [1], {"y": 1}, math.nan, math.inf, -math.inf, 10**400, -(10**400), NUMBER_MAX * 2, b"7"], ids=repr
)
@pytest.mark.parametrize("a", [a for a in ALL if a.agg not in {"count", "distinct"}])
def test_a_value_of_the_wrong_kind_is_skipped(a: Aggregate, bad: Any) -> None:
    """It changes nothing, raises nothing and is reported as skipped."""
    state = _run(a, [3.0])
    assert add(a, state, {"x": bad}) == (state, True)


def test_distinct_skips_what_has_no_equality() -> None:
    """Lists and maps are no values to tell apart."""
    a = Aggregate(agg="distinct", field="x")
    assert add(a, [], {"x": [1]}) == ([], True)
    assert add(a, [], {"x": {"y": 1}}) == ([], True)


def test_the_results_of_nothing() -> None:
    """Counts and sums of nothing are 0; what needs a value is None."""
    found = {a.agg: result(a, fresh(a)) for a in ALL}
    assert found == {"count": 0, "sum": 0, "mean": None, "min": None, "max": None, "distinct": 0, "quantile": None}


def test_a_sum_that_floats_would_lose() -> None:
    """The sum is rounded once, when it is read."""
    a = Aggregate(agg="sum", field="x")
    assert result(a, _run(a, [1e16, 1.0, -1e16])) == 1.0
    assert result(a, _run(a, [0.1] * 10)) == 1.0


def test_a_sketch_stays_within_its_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where values span too much, the small ones run together, the large keep their precision, in any order."""
    monkeypatch.setattr(aggregates, "BUCKETS_MAX", 50)
    a = Aggregate(agg="quantile", field="x", q=0.99)
    values = [1.1**n for n in range(300)]
    up, down = _run(a, values), _run(a, values[::-1])
    assert len(up["up"]) == 50
    assert up == {**down, "up": {k: down["up"][k] for k in up["up"]}}
    assert result(a, up) == pytest.approx(sorted(values)[296], rel=QUANTILE_ERROR)
    assert sum(up["up"].values()) == 300


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL), st.lists(_NUMBERS, max_size=200))
def test_no_state_weighs_more_than_is_said(a: Aggregate, values: list[float]) -> None:
    """Limits on what one row holds can rely on `weight`."""
    state = _run(a, values)
    assert len(orjson.dumps(state)) <= weight(state)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"agg": "sum"}, "sum needs a field"),
        ({"agg": "median", "field": "x"}, "Input should be"),
        ({"agg": "quantile", "field": "x"}, "q goes with quantile"),
        ({"agg": "sum", "field": "x", "q": 0.5}, "q goes with quantile"),
        ({"agg": "quantile", "field": "x", "q": 1.5}, "0 to 1 is allowed"),
        ({"agg": "sum", "field": ""}, "1 to 200 characters"),
    ],
)
def test_aggregates_that_make_no_sense_are_refused(data: dict[str, Any], says: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(ValidationError, match=says):
        Aggregate.model_validate(data)


def test_the_median_agrees_with_the_library() -> None:
    """The quantile at 0.5 is the low median of a small window."""
    values = [5.0, 1.0, 9.0, 3.0]
    assert result(Aggregate(agg="quantile", field="x", q=0.5), _run(ALL[7], values)) == statistics.median_low(values)
