"""What is wrong with the graphs of a definition: edges, cycles, what cannot be reached, joins and the pivot."""

from __future__ import annotations

from collections.abc import Iterator

from streams.core.documents import Path
from streams.core.sagas.checking_values import located
from streams.core.sagas.definition import Choice, Definition, Each, Join, Loop, Node, Step, walk
from streams.core.sagas.expressions import BadExpression, compile_expression
from streams.core.sagas.graph import OTHERWISE, Graph, cycle_in, graph_of
from streams.core.sagas.mistakes import Mistake
from streams.core.sagas.ways import Ways
from streams.core.words import did_you_mean

__all__ = ["check_graph"]


def check_graph(definition: Definition) -> list[Mistake]:
    """Every mistake of every graph, bodies included."""
    homes = {node.name: "" for node in definition.nodes}
    places = {id(node): path for node, path in located(definition.nodes)}  # a name may be there twice
    bodies = [node for node in walk(definition.nodes) if isinstance(node, Loop | Each)]
    for node in bodies:
        homes.update({inner.name: node.name for inner in node.body})
    found = [*_Check(definition.nodes, "", places, homes).mistakes()]
    for node in bodies:
        found += _Check(node.body, node.name, places, homes).mistakes()
    return found


class _Check:
    """The checks of one graph."""

    def __init__(self, nodes: tuple[Node, ...], home: str, places: dict[int, Path], homes: dict[str, str]) -> None:
        self._graph = graph_of(nodes)
        self._nodes = self._graph.nodes
        self._home = home
        self._places = places
        self._homes = homes

    def mistakes(self) -> Iterator[Mistake]:
        yield from self._edges()
        circle = cycle_in(self._graph)
        if circle:
            names = " → ".join(circle)
            reason = f"a cycle: {names}; what repeats is the body of a loop, with a bound"
            yield self._mistake(self._nodes[circle[0]], "after", reason)
        yield from self._unreachable(circle)
        if not circle:
            ways = Ways(self._graph)
            yield from self._joins(ways)
            yield from self._pivots(ways)

    def _mistake(self, node: Node, key: str | tuple[str | int, ...], reason: str) -> Mistake:
        keys = (key,) if isinstance(key, str) else key
        return Mistake(path=(*self._places[id(node)], *keys), reason=reason, node=node.name)

    # ---- edges

    def _edges(self) -> Iterator[Mistake]:
        for node in self._nodes.values():
            for index, name in enumerate(node.after):
                reason = self._no_node(name, node)
                if name in node.after[:index]:
                    reason = f"{name!r} is here twice"
                other = self._nodes.get(name)
                if not reason and isinstance(other, Choice) and node.name not in self._graph.cases[name].values():
                    reason = f"{name!r} is a choice, whose cases say what follows it: add a case, or its 'otherwise'"
                elif not reason and isinstance(other, Choice):
                    reason = f"a case of {name!r} leads here already: leave it out of 'after'"
                if reason:
                    yield self._mistake(node, ("after", index), reason)
            if isinstance(node, Choice):
                for index, case in enumerate(node.cases):
                    reason = self._no_node(case.to, node)
                    if reason:
                        yield self._mistake(node, ("cases", index, "to"), reason)
                reason = self._no_node(node.otherwise, node) if node.otherwise else ""
                if reason:
                    yield self._mistake(node, "otherwise", reason)

    def _no_node(self, name: str, node: Node) -> str:
        if name in self._nodes:
            return ""
        if name == self._home:
            return f"{name!r} is the node whose body this is: a body begins with a node without 'after'"
        if name in self._homes:
            home = self._homes[name]
            where = f"in the body of {home!r}" if home else "not in this body"
            return f"the node {name!r} is {where}: edges stay within one graph"
        return f"there is no node {name[:60]!r}.{did_you_mean(name, [one for one in self._nodes if one != node.name])}"

    # ---- reach

    def _unreachable(self, circle: tuple[str, ...]) -> Iterator[Mistake]:
        reached: set[str] = set()
        waiting = list(self._graph.starts)
        dead: dict[str, str] = {}
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            node = self._nodes[name]
            if isinstance(node, Choice):
                alive, closed = _alive(node, self._graph)
                waiting += alive
                dead.update(dict.fromkeys(closed, name))
            else:
                waiting += self._graph.targets[name]
        for name, node in self._nodes.items():
            if name in reached or name in circle:
                continue
            if name in dead:
                why = f"the choice {dead[name]!r} never leads here: its cases are always, or never, true"
            elif circle and not dead:
                why = f"only the cycle {' → '.join(circle)} leads here"
            else:
                why = f"nothing leads here that can be reached; it is behind {', '.join(self._graph.sources[name])}"
            yield self._mistake(node, (), f"the node cannot be reached: {why}")

    # ---- joins

    def _joins(self, ways: Ways) -> Iterator[Mistake]:
        for node in self._nodes.values():
            if not isinstance(node, Join):
                continue
            sources = self._graph.sources[node.name]
            if len(sources) < 2:
                yield self._mistake(node, (), f"a join waits for at least two nodes in 'after', and there are {len(sources)}")
                continue
            if isinstance(node.need, int) and node.need > len(sources):
                yield self._mistake(node, "need", f"{node.need} are needed, and there are {len(sources)} edges into the join")
            if node.need == "all":
                apart = next(
                    (
                        (one, other, choice)
                        for index, one in enumerate(sources)
                        for other in sources[index + 1 :]
                        if (choice := ways.apart_by(one, other))
                    ),
                    None,
                )
                if apart:
                    one, other, choice = apart
                    reason = f"{one!r} and {other!r} never both come: {choice!r} chooses between them; need 'any'"
                    yield self._mistake(node, "need", reason)

    # ---- pivot

    def _pivots(self, ways: Ways) -> Iterator[Mistake]:
        pivots = [node for node in self._nodes.values() if isinstance(node, Step) and node.pivot]
        for pivot in pivots:
            if self._home:
                reason = "a pivot happens once: it cannot be in the body of a loop or a list"
                yield self._mistake(pivot, "pivot", reason)
                continue
            if pivot.compensation:
                yield self._mistake(pivot, "compensation", "it would never run: behind its success a pivot is not undone")
            for node in self._nodes.values():
                yield from self._around(pivot, node, ways)

    def _around(self, pivot: Step, node: Node, ways: Ways) -> Iterator[Mistake]:
        if node is pivot or ways.apart_by(pivot.name, node.name):
            return
        inside = [node, *(walk(node.body) if isinstance(node, Loop | Each) else ())]
        if pivot.name in ways.before[node.name]:
            for one in inside:
                if isinstance(one, Step) and one.pivot and one is node:
                    yield self._mistake(
                        one, "pivot", f"there is one before it, {pivot.name!r}: only one is the point of no return"
                    )
                elif isinstance(one, Step) and one.compensation:
                    reason = f"it would never run: behind the pivot {pivot.name!r} the saga only goes forward"
                    yield self._mistake(one, "compensation", reason)
        elif not ways.ordered(pivot.name, node.name):
            for one in inside:
                if getattr(one, "if_fails", "") == "compensate":
                    reason = (
                        f"it runs beside the pivot {pivot.name!r}, and behind that nothing could be undone if it failed: put it"
                        " before or behind the pivot, or let 'if_fails' be go_on or skip"
                    )
                    yield self._mistake(one, (), reason)
                    return


def _alive(choice: Choice, graph: Graph) -> tuple[list[str], list[str]]:
    """Where a choice can lead, and where it never does, as far as conditions are constant."""
    alive: list[str] = []
    decided = False
    for case in choice.cases:
        constant = _constant(case.when)
        if not decided and constant is not False:
            alive.append(case.to)
        decided = decided or constant is True
    if not decided and OTHERWISE in graph.cases[choice.name]:
        alive.append(choice.otherwise)
    targets = graph.targets[choice.name]
    return [target for target in targets if target in alive], [target for target in targets if target not in alive]


def _constant(text: str) -> bool | None:
    """The truth of a condition that reads nothing; None: it reads something, or is none."""
    try:
        expression = compile_expression(text)
    except BadExpression:
        return None
    return None if expression.reads else expression.value({}) is True
