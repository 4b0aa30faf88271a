"""Random patterns in the case format, and events of one key for them, within what the enumerator defines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from tests.processors.core.cep.naive import Json

NAMES = "ab"
EVENTS_MAX = 7
"""Every way is tried: seven events are the most for which that takes milliseconds."""

STRATEGIES = ("no_skip", "to_next", "past_last", "to_first", "to_last")


def op(name: str, *args: Json) -> Json:
    """An operator's expression."""
    return {"op": name, "args": list(args)}


NAME: Json = {"field": "name"}
PRICE: Json = {"field": "price"}

simple_conditions: st.SearchStrategy[Json] = st.one_of(
    st.sampled_from(NAMES).map(lambda name: op("==", NAME, name)),
    st.sampled_from(["ab", "bc"]).map(lambda names: op("in", NAME, list(names))),
    st.sampled_from(NAMES).map(lambda name: op("!=", NAME, name)),
    st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 4)).map(lambda c: op(c[0], PRICE, c[1])),
)


def conditions(own: str, before: tuple[str, ...]) -> st.SearchStrategy[Json]:
    """A condition of stage `own`, which may ask for what was taken for it and for the stages before."""
    stages = st.sampled_from([own, *before])
    orders = st.sampled_from(["<", "<=", ">", ">=", "=="])
    taken = st.builds(
        lambda agg, stage, default: {"agg": agg, "stage": stage, "field": "price", "default": default},
        st.sampled_from(["sum", "avg", "min", "max", "first", "last"]),
        stages,
        st.sampled_from([None, 0, 2]),
    )
    asking = st.one_of(
        st.builds(lambda order, agg: op(order, PRICE, agg), orders, taken),
        st.builds(lambda order, agg, most: op(order, op("+", agg, PRICE), most), orders, taken, st.integers(2, 7)),
        st.builds(lambda order, stage, n: op(order, {"agg": "count", "stage": stage}, n), orders, stages, st.integers(0, 2)),
    )
    both = st.builds(lambda left, right: op("and", left, right), simple_conditions, asking)
    first_or = both.map(lambda c: op("or", op("==", {"agg": "count", "stage": own}, 0), c))
    return st.one_of(simple_conditions, simple_conditions, simple_conditions, both, first_or)


Focus = Literal["all", "negations", "choices"]
"""What the patterns are full of."""


class _Names:
    """Stage names, each once, and those that came before."""

    def __init__(self, focus: Focus) -> None:
        self.taken: list[str] = []
        self.focus = focus

    def next(self) -> str:
        self.taken.append(f"s{len(self.taken) + 1}")
        return self.taken[-1]


def _times(draw: st.DrawFn) -> Json:
    least = draw(st.integers(0, 3))
    most = draw(st.none() | st.integers(max(least, 1), max(least, 1) + 2))
    return {"min": least, "max": most}


def _quantified(draw: st.DrawFn, stage: dict[str, Any], *, single: bool) -> dict[str, Any]:
    if draw(st.integers(0, 2)) == 0:
        stage["times"] = _times(draw)
        inner = draw(st.sampled_from([None, None, "consecutive", "allow_combinations"]))
        if inner:
            stage[inner] = True
        if single and inner != "allow_combinations" and draw(st.integers(0, 3)) == 0:
            stage["greedy"] = True
        if single and stage["times"]["max"] is None and not stage.get("greedy") and draw(st.integers(0, 2)) == 0:
            stage["until"] = draw(simple_conditions)
    if stage.get("times", {}).get("min") != 0 and draw(st.integers(0, 4)) == 0:
        stage["optional"] = True
    return stage


def _stage(draw: st.DrawFn, names: _Names, depth: int) -> dict[str, Any]:
    contiguity = draw(st.sampled_from(["strict", "relaxed", "any"]))
    kinds = ["name"] * (3 if names.focus == "choices" else 9) + ["group", "all_of", "any_of"]
    kind = draw(st.sampled_from(kinds)) if depth < 2 and names.focus != "negations" else "name"
    if kind == "group":
        group = _sequence(draw, names, depth + 1, most=2)
        return _quantified(draw, {"group": group, "contiguity": contiguity}, single=False)
    if kind == "any_of":
        branches = [_sequence(draw, names, 2, most=2) for _ in range(2)]
        return {"any_of": branches, "contiguity": contiguity}
    if kind == "all_of":
        members = [{"name": names.next(), "where": draw(simple_conditions)} for _ in range(draw(st.integers(2, 3)))]
        inner = draw(st.sampled_from([{}, {"consecutive": True}, {"allow_combinations": True}]))
        return {"all_of": members, "contiguity": contiguity, **inner}
    before, name = tuple(names.taken), names.next()
    stage: dict[str, Any] = {"name": name, "contiguity": contiguity}
    if draw(st.integers(0, 19)):
        stage["where"] = draw(conditions(name, before) if names.focus == "all" else simple_conditions)
    return _quantified(draw, stage, single=True)


def _sequence(draw: st.DrawFn, names: _Names, depth: int, most: int) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, most))):
        if number and draw(st.integers(0, 1 if names.focus == "negations" else 4)) == 0 and not stages[-1].get("negated"):
            before, name = tuple(names.taken), names.next()
            contiguity = draw(st.sampled_from(["strict", "relaxed"]))
            stages.append({"name": name, "contiguity": contiguity, "negated": True, "where": draw(conditions(name, before))})
        else:
            stages.append(_stage(draw, names, depth))
    return stages


@st.composite
def patterns(draw: st.DrawFn, focus: Focus = "all") -> Json:
    """A pattern of up to four stages; whether it compiles and is in scope is left open."""
    stages = _sequence(draw, _Names(focus), 0, most=4 if focus == "all" else 3)
    pattern: dict[str, Any] = {"stages": stages}
    ends_open = stages[-1].get("negated") and stages[-1]["contiguity"] == "relaxed"
    if ends_open or draw(st.booleans()):
        pattern["within_ms"] = 12 - draw(st.integers(0, 10))
    return pattern


@st.composite
def wide_patterns(draw: st.DrawFn, strategies: Sequence[str] = STRATEGIES) -> Json:
    """Patterns beyond the enumerator's scope as well: skip strategies, windows between two events."""
    pattern: dict[str, Any] = draw(patterns())
    plain = [stage for stage in pattern["stages"] if "name" in stage and not stage.get("negated")]
    if plain and draw(st.integers(0, 3)) == 0:
        stage = draw(st.sampled_from(plain))
        if "times" in stage:
            stage["times"] = {**stage["times"], "within_ms": draw(st.integers(1, 4))}
        else:
            stage.update(within_ms=draw(st.integers(1, 4)), within="previous_and_current")
    skip: dict[str, Any] = {"strategy": draw(st.sampled_from(strategies))}
    if skip["strategy"] in {"to_first", "to_last"}:
        skip["stage"] = draw(st.sampled_from([stage["name"] for stage in plain] or ["none"]))
    return {**pattern, "skip": skip}


@st.composite
def streams(draw: st.DrawFn, keys: str = "k") -> list[dict[str, Any]]:
    """Events in order of time, some at the same one."""
    events, ts = [], 1
    for number in range(1, EVENTS_MAX + 1 - draw(st.integers(0, 3))):
        ts += draw(st.sampled_from([1, 1, 1, 0, 2, 3]))
        price = draw(st.sampled_from([2, 1, 3, 0, 4, 1.5]))
        key = draw(st.sampled_from(keys))
        events.append({"id": f"e{number}", "key": key, "ts": ts, "name": draw(st.sampled_from(NAMES)), "price": price})
    return events
