"""The verdict: which anomalies a history has, each with a cycle of transactions that shows it, and which levels that rules out.

    anomaly         a cycle of                                   forbidden from
    G0              ww                                           read_committed
    G1a, G1b        (a read of what was taken back, or half)     read_committed
    G1c             ww and wr                                    read_committed
    G-single        exactly one rw                               repeatable_read where it is of rows; snapshot
    G2-item         several rw, all of rows                      repeatable_read; serializable
    G2              several rw, one of them of a predicate       serializable

Repeatable read here is Adya's PL-2.99: everything but what needs a predicate. Snapshot is PL-SI as far as cycles tell it. What
cannot be at any level (a value that nobody wrote, two orders of one list) is forbidden everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from processors.core.coordination.components import components
from processors.core.verify.transactions.graph import Edge, Graph, build
from processors.core.verify.transactions.model import Outcome, Transaction

__all__ = ["LEVELS", "Anomaly", "Report", "Step", "judge"]

LEVELS: Final = ("read_committed", "repeatable_read", "snapshot", "serializable")
ALWAYS: Final = frozenset(LEVELS)
FORBIDS: Final[dict[str, frozenset[str]]] = {
    "G-single": frozenset({"repeatable_read", "snapshot", "serializable"}),
    "G-single (predicate)": frozenset({"snapshot", "serializable"}),
    "lost update": frozenset({"repeatable_read", "snapshot", "serializable"}),
    "G2-item": frozenset({"repeatable_read", "serializable"}),
    "G2": frozenset({"serializable"}),
}
"""The levels that forbid an anomaly; one that is not here is forbidden by all."""
SHOWN_MAX: Final = 100
"""Anomalies of a kind that are told: what breaks one thing breaks others."""

Step = tuple[Transaction, Edge]
Follow = Callable[[Edge], bool]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One anomaly.

    Attributes:
        name: As the literature calls it.
        text: In words, where it needs no cycle.
        cycle: Each transaction with the edge to the next one, the last one's to the first.
        forbidden_by: The levels that do not allow it.
    """

    name: str
    text: str
    cycle: tuple[Step, ...]
    forbidden_by: frozenset[str]


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict.

    Attributes:
        level: What the history was held against.
        anomalies: All that were found, up to a limit of each kind.
        committed: Transactions that count as committed, among them those whose outcome nobody knew and whose appends were read.
        edges: Dependencies between them.
    """

    level: str
    anomalies: tuple[Anomaly, ...]
    committed: int
    edges: int

    @property
    def forbidden(self) -> tuple[Anomaly, ...]:
        """The anomalies that the level does not allow."""
        return tuple(one for one in self.anomalies if self.level in one.forbidden_by)

    @property
    def ok(self) -> bool:
        """Whether the history is one that the level allows."""
        return not self.forbidden


def judge(history: Sequence[Transaction], *, level: str = "serializable", realtime: bool = False) -> Report:
    """Return what is wrong with a history.

    Args:
        history: As `read_transactions` returns it.
        level: The isolation level that it should have.
        realtime: Whether the order of time counts too (strict serializability).
    """
    graph = build(history, realtime=realtime)
    anomalies = [Anomaly(one.name, one.text, (), ALWAYS) for one in graph.wrong]
    counted: dict[str, int] = {}
    for anomaly in _cycles(graph):
        counted[anomaly.name] = counted.get(anomaly.name, 0) + 1
        if counted[anomaly.name] <= SHOWN_MAX:
            anomalies.append(anomaly)
    edges = sum(len(edges) for others in graph.edges.values() for edges in others.values())
    known = [one for one in graph.nodes if one.outcome is not Outcome.ABORTED]
    return Report(level, tuple(anomalies), len(known), edges)


def _cycles(graph: Graph) -> Iterator[Anomaly]:
    """Yield a shortest cycle for each component and kind."""

    def order(edge: Edge) -> bool:
        return edge.kind in ("realtime", "process")

    def writes(edge: Edge) -> bool:
        return edge.kind == "ww" or order(edge)

    def flows(edge: Edge) -> bool:
        return edge.kind in ("ww", "wr") or order(edge)

    for component in _components(graph, writes):
        yield Anomaly("G0", "", _named(graph, _shortest(graph, component, writes)), ALWAYS)
    for component in _components(graph, flows):
        path = _through(graph, component, flows, lambda edge: edge.kind == "wr")
        if path:
            yield Anomaly("G1c", "", _named(graph, path), ALWAYS)
    for component in _components(graph, lambda _: True):
        yield from _anti(graph, component, flows)


def _anti(graph: Graph, component: set[int], flows: Follow) -> Iterator[Anomaly]:
    """Yield the cycles of a component that need anti-dependencies: first with one, else with several."""
    found = False
    for kind in ("rw", "rw predicate"):
        for one, other, edge in _edges(graph, component):
            if edge.kind == kind and (back := _path(graph, other, one, component, flows)):
                steps = _named(graph, [(one, edge), *back])
                name = "G-single (predicate)" if kind != "rw" else "lost update" if _lost(steps) else "G-single"
                yield Anomaly(name, "", steps, FORBIDS[name])
                found = True
                break
    for inner in _components(graph, lambda edge: edge.kind != "rw predicate", component):
        path = _two(graph, inner, flows, lambda edge: edge.kind != "rw predicate")
        if path:
            yield Anomaly("G2-item", "", _named(graph, path), FORBIDS["G2-item"])
            found = True
    path = _two(graph, component, flows, lambda _: True, predicate=True)
    if path:
        yield Anomaly("G2", "", _named(graph, path), FORBIDS["G2"])
    elif not found:  # a cycle that the searches above have no name for is one all the same
        yield Anomaly("G2", "", _named(graph, _shortest(graph, component, lambda _: True)), FORBIDS["G2"])


def _two(graph: Graph, component: set[int], flows: Follow, follow: Follow, *, predicate: bool = False) -> list[tuple[int, Edge]]:
    """Return a short cycle with at least two anti-dependencies, one of a predicate where asked; empty where none was found."""
    for one, other, edge in _edges(graph, component):
        wanted = edge.kind == "rw predicate" if predicate else edge.kind == "rw"
        if not wanted or not follow(edge):
            continue
        back = _path(graph, other, one, component, follow)
        if back and any(step[1].kind.startswith("rw") for step in back):
            return [(one, edge), *back]
        if back and (longer := _path(graph, other, one, component, lambda its: follow(its) and not flows(its))):
            return [(one, edge), *longer]
    return []


def _lost(steps: tuple[Step, ...]) -> bool:
    """Whether two transactions read the same list and both appended to it."""
    return len(steps) == 2 and steps[0][1].key == steps[1][1].key and steps[1][1].kind == "ww"


def _edges(graph: Graph, component: set[int]) -> Iterator[tuple[int, int, Edge]]:
    for one in sorted(component):
        for other, edges in graph.edges.get(one, {}).items():
            if other in component:
                for edge in edges:
                    yield one, other, edge


def _path(graph: Graph, start: int, end: int, component: set[int], follow: Follow) -> list[tuple[int, Edge]]:
    """Return a shortest way of some edges within a component, as nodes each with the edge that leaves it."""
    came: dict[int, tuple[int, Edge]] = {}
    queue = deque([start])
    reached = {start}
    while queue:
        node = queue.popleft()
        if node == end and (came or start != end):
            way: list[tuple[int, Edge]] = []
            while node != start:
                node, edge = came[node]
                way.append((node, edge))
            return way[::-1]
        for other, edges in graph.edges.get(node, {}).items():
            if other in component and other not in reached and (edge_ := next(filter(follow, edges), None)):
                reached.add(other)
                came[other] = (node, edge_)
                queue.append(other)
    return []


def _shortest(graph: Graph, component: set[int], follow: Follow) -> list[tuple[int, Edge]]:
    """Return a short cycle of some edges in a component that has one."""
    return _through(graph, component, follow, follow)


def _through(graph: Graph, component: set[int], follow: Follow, wanted: Follow) -> list[tuple[int, Edge]]:
    """Return a short cycle with an edge that is wanted, the rest of edges that may be followed."""
    best: list[tuple[int, Edge]] = []
    for tried, (one, other, edge) in enumerate(_edges(graph, component)):
        if wanted(edge) and (back := _path(graph, other, one, component, follow)) and (not best or len(back) + 1 < len(best)):
            best = [(one, edge), *back]
        if best and (len(best) == 2 or tried > SHOWN_MAX):
            break
    return best


def _named(graph: Graph, path: list[tuple[int, Edge]]) -> tuple[Step, ...]:
    return tuple((graph.nodes[node], edge) for node, edge in path)


def _components(graph: Graph, follow: Follow, within: set[int] | None = None) -> list[set[int]]:
    """Return the strongly connected components of more than one node, by some edges."""
    nodes = sorted(within) if within is not None else range(len(graph.nodes))
    leads = {node: list(_next(graph, node, follow, within)) for node in nodes}
    return sorted((one for one in components(leads) if len(one) > 1), key=min)


def _next(graph: Graph, node: int, follow: Follow, within: set[int] | None) -> Iterator[int]:
    for other, edges in graph.edges.get(node, {}).items():
        if (within is None or other in within) and any(follow(edge) for edge in edges):
            yield other
