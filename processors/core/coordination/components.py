"""Strongly connected components of a graph (Tarjan 1972, without recursion: a queue of ten thousand is as deep as it is long)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

__all__ = ["components"]

Node = TypeVar("Node", int, str, tuple[str, str])


def components(leads: Mapping[Node, Collection[Node]]) -> list[set[Node]]:
    """Return the components, those that lead nowhere else first; the same in every run.

    Args:
        leads: Where each node leads; all of them are nodes.
    """
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    stack: list[Node] = []
    on: set[Node] = set()
    found: list[set[Node]] = []

    def visit(node: Node) -> tuple[Node, Iterator[Node]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        return node, iter(sorted(leads[node]))

    for root in leads:
        work = [] if root in index else [visit(root)]
        while work:
            node, others = work[-1]
            for other in others:
                if other not in index:
                    work.append(visit(other))
                    break
                if other in on:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part: set[Node] = set()
                    while node not in part:
                        part.add(stack.pop())
                    found.append(part)
                    on -= part
    return found
