"""Which nodes of a graph can run in the same saga: two on different ways out of one choice cannot."""

from __future__ import annotations

from streams.core.sagas.graph import Graph, before

__all__ = ["Ways"]


class Ways:
    """What the choices of a graph without cycles keep apart.

    A node is under a way of a choice if every way from the beginning to it leads through the choice, and only those of its ways
    out lead to it from there.
    """

    def __init__(self, graph: Graph) -> None:
        self.before = before(graph)
        self._graph = graph
        self._always = self._dominators()

    def _dominators(self) -> dict[str, frozenset[str]]:
        """For each node, those that every way to it leads through, itself included."""
        found: dict[str, frozenset[str]] = {}
        for name in sorted(self._graph.nodes, key=lambda one: len(self.before[one])):  # sources have fewer before them
            sources = [found[source] for source in self._graph.sources[name]]
            shared = frozenset.intersection(*sources) if sources else frozenset[str]()
            found[name] = shared | {name}
        return found

    def _leads(self, target: str, name: str) -> bool:
        return target == name or target in self.before[name]

    def apart_by(self, one: str, other: str) -> str:
        """The choice that keeps the two from both running; empty: none does."""
        for choice in self._graph.cases:
            if choice in self._always[one] and choice in self._always[other] and choice not in {one, other}:
                targets = self._graph.targets[choice]
                if not any(self._leads(target, one) and self._leads(target, other) for target in targets):
                    return choice
        return ""

    def ordered(self, one: str, other: str) -> bool:
        """Whether one of the two comes before the other."""
        return one in self.before[other] or other in self.before[one]
