"""A definition that was understood once, for all its instances: graphs by name, and templates that are ready to be filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streams.core.sagas.checking import from_data
from streams.core.sagas.definition import Choice, Definition, Each, Join, Loop, Node, Step, walk
from streams.core.sagas.expressions import Scope, compile_expression
from streams.core.sagas.graph import Graph, graph_of
from streams.core.sagas.templates import compile_template

__all__ = ["NodePlan", "Plan", "plan_of"]

Value = Callable[[Scope], Any]
_TEXTS: Final = ("until", "items")
"""Attributes of nodes that are expressions without `=`."""
_TEMPLATES: Final = ("input", "compensation_input", "result", "ask", "resource")


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node, ready to run.

    Attributes:
        node: As it was defined.
        sources: What it waits for.
        targets: What waits for it.
        values: Its templates and expressions by attribute.
        cases: Of a choice: each condition, and where it leads.
        body: Of a loop or each.
        alone: Of a join that cancels the rest: the nodes from which every way leads to it.
    """

    node: Node
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    values: Mapping[str, Value]
    cases: tuple[tuple[Value, str], ...] = ()
    body: GraphPlan | None = None
    alone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """A graph: nodes by name, and those it begins with."""

    nodes: Mapping[str, NodePlan]
    starts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A definition, ready to run.

    Attributes:
        definition: As it was defined.
        digest: Of it, as who defined it says.
        text: It as JSON.
        graph: Its graph.
        result: What a saga results in, over the results of its nodes.
        nodes: Every node by name, bodies included.
        children: Definitions (name and version) that it starts.
    """

    definition: Definition
    digest: str
    text: str
    graph: GraphPlan
    result: Value
    nodes: Mapping[str, Node]
    children: tuple[tuple[str, int], ...]


def plan_of(data: Any, digest: str, text: str) -> Plan:  # noqa: ANN401 - any JSON value
    """Understand a definition.

    Args:
        data: It, as JSON.
        digest: What it is told apart by.
        text: The same as `data`, as it came.

    Raises:
        DefinitionErrors: It cannot run.
    """
    definition = from_data(data)
    nodes = {node.name: node for node in walk(definition.nodes)}
    children = {(node.definition, node.version) for node in nodes.values() if node.kind == "child"}  # type: ignore[attr-defined]
    return Plan(
        definition,
        digest,
        text,
        _graph(definition.nodes),
        compile_template(definition.result).value,
        nodes,
        tuple(sorted(children)),
    )


def _graph(nodes: tuple[Node, ...]) -> GraphPlan:
    graph = graph_of(nodes)
    return GraphPlan({name: _node(node, graph) for name, node in graph.nodes.items()}, graph.starts)


def _node(node: Node, graph: Graph) -> NodePlan:
    values = {one: compile_template(getattr(node, one)).value for one in _TEMPLATES if hasattr(node, one)}
    values |= {one: compile_expression(text).value for one in _TEXTS if (text := getattr(node, one, ""))}
    if isinstance(node, Step) and node.compensation_input is None:
        values.pop("compensation_input")
    cases: tuple[tuple[Value, str], ...] = ()
    if isinstance(node, Choice):
        cases = tuple((compile_expression(case.when).value, case.to) for case in node.cases)
    return NodePlan(
        node,
        graph.sources[node.name],
        graph.targets[node.name],
        values,
        cases,
        _graph(node.body) if isinstance(node, Loop | Each) else None,
        _alone(node.name, graph) if isinstance(node, Join) and node.rest == "cancel" else frozenset(),
    )


def _alone(join: str, graph: Graph) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(graph.sources[join])
    while waiting:
        name = waiting.pop()
        if name not in found and all(target == join or target in found for target in graph.targets[name]):
            found.add(name)
            waiting += graph.sources[name]
    return frozenset(found)
