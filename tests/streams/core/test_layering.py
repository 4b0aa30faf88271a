"""Layers of a drawn graph."""

from __future__ import annotations

import itertools

from streams.core.layering import Arc, Node, lay_out


def test_layers_keep_distances_and_lines_lead_to_the_right() -> None:
    """Nodes of one layer do not touch, an edge is longer than a layer only past others, and one that leads back is turned."""
    nodes = [Node(40, 20, 20) for _ in range(6)]
    arcs = [Arc(*ends, 10, 10) for ends in ((0, 1), (0, 2), (0, 3), (1, 4), (3, 4), (4, 1), (0, 5))]
    layout = lay_out(nodes, arcs, 0)
    columns: dict[float, list[float]] = {}
    for x, y in layout.nodes:
        columns.setdefault(x, []).append(y)
    assert [len(columns[x]) for x in sorted(columns)] == [1, 4, 1]
    assert all(b - a >= 56 - 1e-6 for ys in columns.values() for a, b in itertools.pairwise(sorted(ys)))
    assert [route.turned for route in layout.routes] == [False] * 5 + [True, False]
    for arc, route in zip(arcs, layout.routes, strict=True):
        ends = layout.nodes[arc.source][0], layout.nodes[arc.target][0]
        assert all(min(ends) < left <= right < max(ends) for left, right, _ in route.points)
