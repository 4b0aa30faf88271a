"""Edges, ways, and backoff."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.sagas.definition import Choice, Definition, Loop, Retry, Step, walk
from streams.core.sagas.graph import OTHERWISE, before, cycle_in, graph_of, graphs_of
from streams.core.sagas.loading import load_saga
from streams.core.sagas.retries import is_final, wait_ms
from streams.core.sagas.ways import Ways
from tests.streams.core.sagas.strategies import any_definition, good_definitions

DIAMOND = load_saga("""
    name: s
    nodes:
      - {name: a}
      - {name: c, kind: choice, cases: [{when: a.x, to: left}, {when: a.y, to: right}, {when: a.z, to: left}], otherwise: out}
      - {name: left}
      - {name: right}
      - {name: both, after: [left, right]}
      - {name: out}
      - {name: beside, after: a}
""")


def test_edges_are_told_from_both_ends() -> None:
    """Each pair of nodes has one edge, in the order of `after` and then of the cases; cases keep their numbers."""
    graph = graph_of(DIAMOND.nodes)
    assert graph.sources["both"] == ("left", "right")
    assert graph.targets["c"] == ("left", "right", "out")
    assert graph.cases["c"] == {0: "left", 1: "right", 2: "left", OTHERWISE: "out"}
    assert (graph.starts, graph.ends) == (("a",), ("both", "out", "beside"))


@settings(max_examples=100)
@given(any_definition)
def test_a_cycle_is_one_and_bodies_are_found(definition: Definition) -> None:
    """What is told to be a cycle is one; where none is told, there is none; every body is a graph of its own."""
    found = graphs_of(definition.nodes)
    assert set(found) == {""} | {node.name for node in walk(definition.nodes) if hasattr(node, "body")}
    for graph in found.values():
        circle = cycle_in(graph)
        if circle:
            assert circle[0] == circle[-1]
            assert all(after in graph.targets[name] for name, after in pairwise(circle))
        else:
            assert all(name not in earlier for name, earlier in before(graph).items())


def test_choices_keep_nodes_apart() -> None:
    """Two nodes on different ways never both run; what both ways reach, or no way, is not kept apart from anything."""
    ways = Ways(graph_of(DIAMOND.nodes))
    apart = {(one, other) for one, other in product(ways.before, ways.before) if ways.apart_by(one, other)}
    pairs = {("left", "right"), ("left", "out"), ("right", "out"), ("both", "out")}
    assert apart == pairs | {(other, one) for one, other in pairs}


@settings(max_examples=60)
@given(good_definitions(), st.data())
def test_nodes_that_are_kept_apart_never_run_together(definition: Definition, data: st.DataObject) -> None:
    """However the choices go, the rule of edges never runs two nodes that are said to be apart."""
    graph = graph_of(definition.nodes)
    ways = Ways(graph)
    ran: set[str] = set()
    for name in sorted(graph.nodes, key=lambda one: len(ways.before[one])):
        came = [source for source in graph.sources[name] if source in ran]
        if graph.sources[name] and not any(_taken(graph.nodes[source], name, data) for source in came):
            continue
        ran.add(name)
    assert not any(ways.apart_by(one, other) for one in ran for other in ran if one != other)


_chosen_key = "chosen"


def _taken(node: object, target: str, data: st.DataObject) -> bool:
    if not isinstance(node, Choice):
        return True
    chosen: dict[str, str] = data.__dict__.setdefault(_chosen_key, {})
    if node.name not in chosen:
        chosen[node.name] = data.draw(st.sampled_from([case.to for case in node.cases] + [node.otherwise]))
    return chosen[node.name] == target


@given(
    st.integers(1, 1_000),
    st.integers(0, 10**6),
    st.floats(1, 10),
    st.integers(0, 3_600_000),
    st.floats(0, 1),
    st.text(max_size=9),
)
def test_a_wait_is_bounded_and_the_same_again(
    attempt: int, backoff_ms: int, factor: float, longest_ms: int, jitter: float, call: str
) -> None:
    """No wait is longer than the backoff or its longest, none shorter than what is not jitter, and all are repeatable."""
    retry = Retry(attempts=1_000, backoff_ms=backoff_ms, factor=factor, backoff_ms_max=longest_ms, jitter=jitter)
    wait = wait_ms(retry, call, attempt=attempt)
    whole = min(longest_ms, backoff_ms * factor ** min(attempt - 1, 64))
    assert whole * (1 - jitter) - 1 <= wait <= whole + 1
    assert wait == wait_ms(retry, call, attempt=attempt)


def test_sagas_that_failed_together_come_back_apart() -> None:
    """The jitter spreads the waits of many calls over its range; without it all are alike."""
    retry = Retry(backoff_ms=1_000, jitter=0.5)
    waits = {wait_ms(retry, f"saga-{number}/pay", attempt=1) for number in range(200)}
    assert len(waits) > 100
    assert min(waits) < 550
    assert max(waits) > 950
    assert {wait_ms(Retry(backoff_ms=1_000, jitter=0), str(number), attempt=3) for number in range(9)} == {4_000}


def test_what_is_final() -> None:
    """The last attempt is, and so is a code that is never retried."""
    retry = Retry(attempts=3, never=("sold_out",))
    assert not is_final(retry, attempt=2, code="busy")
    assert is_final(retry, attempt=3, code="busy")
    assert is_final(retry, attempt=1, code="sold_out")


def test_walking_visits_bodies() -> None:
    """Each node is followed by those of its body."""
    inner = Loop(name="l", body=(Step(name="a", handler="a"), Loop(name="m", body=(Step(name="b", handler="b"),))))
    assert [node.name for node in walk((inner, Step(name="c", handler="c")))] == ["l", "a", "m", "b", "c"]
