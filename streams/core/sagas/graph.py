"""The edges of a graph by name, and who comes before whom: what checks, engine and picture ask of a definition.

Edges are told as (from, to). An edge of a choice has the numbers of its cases; `OTHERWISE` stands for the last way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streams.core.sagas.definition import Choice, Each, Loop, Node

__all__ = ["OTHERWISE", "Graph", "before", "cycle_in", "graph_of", "graphs_of"]

OTHERWISE: Final = -1
"""The number of the way out of a choice that no case takes."""


@dataclass(frozen=True, slots=True)
class Graph:
    """One graph: that of the definition, or of one body.

    Attributes:
        nodes: By name, in order.
        sources: For each node, whence edges lead to it: each name once, those in `after` first.
        targets: For each node, where its edges lead: each name once.
        cases: For each choice, target by case.
        starts: Nodes without an edge into them.
        ends: Nodes without an edge out of them.
    """

    nodes: Mapping[str, Node]
    sources: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, tuple[str, ...]]
    cases: Mapping[str, Mapping[int, str]]
    starts: tuple[str, ...]
    ends: tuple[str, ...]


def graph_of(nodes: tuple[Node, ...]) -> Graph:
    """The graph of `nodes`, which stand beside each other. Edges from or to what is not there are left out."""
    by_name: dict[str, Node] = {}
    for node in nodes:
        by_name.setdefault(node.name, node)
    sources: dict[str, list[str]] = {name: [] for name in by_name}
    targets: dict[str, list[str]] = {name: [] for name in by_name}
    cases: dict[str, dict[int, str]] = {}
    for name, node in by_name.items():
        for source in node.after:
            _connect(source, name, sources, targets)
    for name, node in by_name.items():
        if isinstance(node, Choice):
            ways = dict(enumerate(case.to for case in node.cases)) | ({OTHERWISE: node.otherwise} if node.otherwise else {})
            cases[name] = ways
            for target in ways.values():
                _connect(name, target, sources, targets)
    return Graph(
        by_name,
        {name: tuple(found) for name, found in sources.items()},
        {name: tuple(found) for name, found in targets.items()},
        cases,
        tuple(name for name in by_name if not sources[name]),
        tuple(name for name in by_name if not targets[name]),
    )


def _connect(source: str, target: str, sources: dict[str, list[str]], targets: dict[str, list[str]]) -> None:
    if source in targets and target in sources and target not in targets[source]:
        targets[source].append(target)
        sources[target].append(source)


def graphs_of(nodes: tuple[Node, ...]) -> dict[str, Graph]:
    """The graph of `nodes` under the empty name, and that of each body under the name of the node that has it."""
    found = {"": graph_of(nodes)}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Loop | Each):
            found[node.name] = graph_of(node.body)
            waiting += node.body
    return found


def cycle_in(graph: Graph) -> tuple[str, ...]:
    """Names of nodes that follow each other in a circle, the first again at the end; empty where there is none."""
    done: set[str] = set()
    for root in graph.nodes:
        way: list[str] = []
        rests = []
        if root not in done:
            way.append(root)
            rests.append(iter(graph.targets[root]))
        while way:
            following = next(rests[-1], None)
            if following is None:
                rests.pop()
                done.add(way.pop())
            elif following in way:
                return (*way[way.index(following) :], following)
            elif following not in done:
                way.append(following)
                rests.append(iter(graph.targets[following]))
    return ()


def before(graph: Graph) -> dict[str, frozenset[str]]:
    """For each node, every node from which a way leads to it. The graph has no cycle."""
    found: dict[str, frozenset[str]] = {}
    for root in graph.nodes:
        stack = [root]
        while stack:
            name = stack[-1]
            missing = [source for source in graph.sources[name] if source not in found]
            if missing:
                stack += missing
                continue
            stack.pop()
            found[name] = frozenset(graph.sources[name]).union(*(found[source] for source in graph.sources[name]))
    return found
