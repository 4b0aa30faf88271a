"""Where the nodes and lines of a graph go, in layers from left to right, so that no two of them overlap.

The four steps of the method of layers: turn the edges that lead back; give each node the layer behind its furthest predecessor;
order each layer by the mean place of its neighbours and keep the order with the fewest crossings; move everything towards its
neighbours as far as the order and the distances allow. An edge is cut into one item a layer, and its label is an item of its own:
labels take part like nodes, in layers between those of the nodes, and so have room.

Sources: "Methods for Visual Understanding of Hierarchical System Structures", Sugiyama, Tagawa, Toda, IEEE SMC 1981; "A Technique
for Drawing Directed Graphs", Gansner, Koutsofios, North, Vo, IEEE TSE 1993; the last step is isotonic regression by pooling
adjacent violators. The same graph gives the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Arc", "Layout", "Node", "Route", "lay_out", "spread"]

SWEEPS: Final = 12
"""Passes over the layers, there and back: more change nothing in graphs of this size."""
COLUMN_GAP: Final = 34.0
"""Pixels between two layers: room for a line to bend."""
LINE_GAP: Final = 1.0
"""The same between two lines without a label, beside their own few pixels."""
ROW_GAP: Final = 16.0
"""Pixels between two items of a layer."""


@dataclass(frozen=True, slots=True)
class Node:
    """What is placed: `above` and `below` its line, in pixels; `sinks` is placed beneath others where it can."""

    width: float
    above: float
    below: float
    sinks: bool = False


@dataclass(frozen=True, slots=True)
class Arc:
    """An edge between two nodes, by number, that are not the same, and the size of its label."""

    source: int
    target: int
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where an edge passes: points from its source to its target, and where its label's line is.

    Attributes:
        points: (left, right, y) of every item that it passes between the two nodes, in the direction of the edge.
        label: The item of its label, one of `points`.
    """

    points: tuple[tuple[float, float, float], ...]
    label: tuple[float, float, float]
    turned: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The places: (x of the middle, y of the line) of each node, a route for each arc, and the size of it all."""

    nodes: tuple[tuple[float, float], ...]
    routes: tuple[Route, ...]
    width: float
    height: float


@dataclass(slots=True, eq=False)
class _Item:
    layer: int
    width: float
    above: float
    below: float
    low: bool
    left: list[_Item] = field(default_factory=list)
    right: list[_Item] = field(default_factory=list)
    y: float = 0.0
    place: int = 0


def lay_out(nodes: Sequence[Node], arcs: Sequence[Arc], start: int) -> Layout:
    """Place `nodes` and `arcs`, with `start` in the first layer.

    Args:
        nodes: Each is reached from `start`, or stands in the first layer too.
        arcs: Between them.
        start: The number of a node.
    """
    turned = _leading_back(len(nodes), arcs, start)
    ranks = _ranks(len(nodes), arcs, turned)
    items = [_Item(2 * rank, node.width, node.above, node.below, node.sinks) for node, rank in zip(nodes, ranks, strict=True)]
    chains: list[list[_Item]] = []
    for number, arc in enumerate(arcs):
        first, last = (arc.target, arc.source) if number in turned else (arc.source, arc.target)
        chains.append(_chain(items[first], items[last], arc, labelled_last=number in turned))
    layers = _layers([*items, *(item for chain in chains for item in chain)])
    _order(layers)
    _place(layers)
    lefts = _columns(layers)
    columns = [max(item.width for item in layer) for layer in layers]
    top = min((item.y - item.above for layer in layers for item in layer), default=0.0)
    for layer in layers:
        for item in layer:
            item.y -= top
    bottom = max(item.y + item.below for layer in layers for item in layer)
    routes = []
    for number, chain in enumerate(chains):
        passed = [(lefts[item.layer], lefts[item.layer] + columns[item.layer], item.y) for item in chain]
        label = passed[-1] if number in turned else passed[0]
        routes.append(Route(tuple(reversed(passed) if number in turned else passed), label, number in turned))
    places = tuple((lefts[item.layer] + columns[item.layer] / 2, item.y) for item in items)
    return Layout(places, tuple(routes), lefts[-1] + columns[-1], bottom)


def _leading_back(count: int, arcs: Sequence[Arc], start: int) -> set[int]:
    """The arcs that lead to a node from which their source was reached, found in depth first order."""
    out: list[list[int]] = [[] for _ in range(count)]
    for number, arc in enumerate(arcs):
        out[arc.source].append(number)
    back: set[int] = set()
    state = [0] * count  # 0 not seen, 1 on the way, 2 done
    for root in [start, *range(count)]:
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(out[root]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = 2
                stack.pop()
                continue
            target = arcs[following].target
            if state[target] == 1:
                back.add(following)
            elif state[target] == 0:
                state[target] = 1
                stack.append((target, iter(out[target])))
    return back


def _ranks(count: int, arcs: Sequence[Arc], turned: set[int]) -> list[int]:
    """For each node, how many arcs the longest way to it has."""
    ends = [(a.target, a.source) if n in turned else (a.source, a.target) for n, a in enumerate(arcs)]
    before, out = [0] * count, [[] for _ in range(count)]  # type: list[int], list[list[int]]
    for source, target in ends:
        before[target] += 1
        out[source].append(target)
    ranks, ready = [0] * count, [node for node in range(count) if not before[node]]
    while ready:
        node = ready.pop()
        for target in out[node]:
            ranks[target] = max(ranks[target], ranks[node] + 1)
            before[target] -= 1
            if not before[target]:
                ready.append(target)
    return ranks


def _chain(first: _Item, last: _Item, arc: Arc, *, labelled_last: bool) -> list[_Item]:
    chain: list[_Item] = []
    labelled = last.layer - 1 if labelled_last else first.layer + 1
    low = first.low or last.low
    for layer in range(first.layer + 1, last.layer):
        if layer == labelled:
            chain.append(_Item(layer, arc.width, arc.height, 4.0, low))
        else:
            chain.append(_Item(layer, 0.0, 3.0, 3.0, low))
    for left, right in zip([first, *chain], [*chain, last], strict=True):
        left.right.append(right)
        right.left.append(left)
    return chain


def _layers(items: list[_Item]) -> list[list[_Item]]:
    layers: list[list[_Item]] = [[] for _ in range(max(item.layer for item in items) + 1)]
    for item in items:
        layers[item.layer].append(item)
    return layers


def _order(layers: list[list[_Item]]) -> None:
    """Order each layer for few crossings."""
    _number(layers)
    best = [list(layer) for layer in layers]
    fewest = _crossings(layers)
    for sweep in range(SWEEPS):
        there = sweep % 2 == 0
        for layer in layers if there else reversed(layers):
            means = {id(item): _mean([one.place for one in (item.left if there else item.right)], item.place) for item in layer}
            layer.sort(key=lambda item: (item.low, means[id(item)]))
            for place, item in enumerate(layer):
                item.place = place
        crossings = _crossings(layers)
        if crossings < fewest or sweep == 0:
            fewest, best = crossings, [list(layer) for layer in layers]
    for layer, ordered in zip(layers, best, strict=True):
        layer[:] = ordered
    _number(layers)


def _number(layers: list[list[_Item]]) -> None:
    for layer in layers:
        for place, item in enumerate(layer):
            item.place = place


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(layers: list[list[_Item]]) -> int:
    found = 0
    for layer in layers:
        ends = [(item.place, one.place) for item in layer for one in item.right]
        found += sum(a < c and b > d for a, b in ends for c, d in ends)
    return found


def _place(layers: list[list[_Item]]) -> None:
    for layer in layers:
        y = 0.0
        for item in layer:
            item.y = y + item.above
            y = item.y + item.below + ROW_GAP
    for sweep in range(2 * SWEEPS):
        both = sweep >= 2 * SWEEPS - 4
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            near = [(item.left + item.right) if both else (item.left if sweep % 2 == 0 else item.right) for item in layer]
            _settle(layer, [_wanted(item, ones) for item, ones in zip(layer, near, strict=True)])


def _gap(above: _Item, item: _Item) -> float:
    return ROW_GAP if above.width or item.width else LINE_GAP


def _wanted(item: _Item, near: Sequence[_Item]) -> float:
    """The mean height of what is next to `item`; lines to sinks do not pull at what is none: the main way stays straight."""
    pulling = [one.y for one in near if item.low or not one.low] or [one.y for one in near]
    return _mean(pulling, item.y)


def _settle(layer: list[_Item], wanted: list[float]) -> None:
    """Move each item as near to where it is wanted as its neighbours in the layer allow (least squares)."""
    shifts, shift = [], 0.0
    for above, item in zip([None, *layer], layer, strict=False):
        if above is not None:
            shift += above.below + _gap(above, item) + item.above
        shifts.append(shift)
    for item, place in zip(layer, spread(wanted, shifts), strict=True):
        item.y = place


def spread(wanted: Sequence[float], shifts: Sequence[float]) -> list[float]:
    """The places nearest to `wanted` (least squares) that are as far apart as `shifts`, which grow, or farther."""
    pools: list[tuple[float, int]] = []  # sum and count
    for want, moved in zip(wanted, shifts, strict=True):
        total, count = want - moved, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            more, size = pools.pop()
            total, count = total + more, count + size
        pools.append((total, count))
    places = [total / count for total, count in pools for _ in range(count)]
    return [place + moved for place, moved in zip(places, shifts, strict=True)]


def _columns(layers: list[list[_Item]]) -> list[float]:
    lefts, x = [], 0.0
    for layer in layers:
        lefts.append(x)
        x += max(item.width for item in layer) + COLUMN_GAP
    return lefts
