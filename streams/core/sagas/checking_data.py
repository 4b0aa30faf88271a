"""What is wrong with the data that flows through a definition: expressions, what they read, and sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from streams.core.documents import Path
from streams.core.sagas.definition import Approval, Child, Choice, Definition, Each, Lock, Loop, Node, Step, Timer, walk
from streams.core.sagas.expressions import BadExpression, Read, compile_expression
from streams.core.sagas.graph import before, cycle_in, graph_of
from streams.core.sagas.limits import PAYLOAD_CHARS_MAX
from streams.core.sagas.mistakes import Mistake
from streams.core.sagas.templates import understand
from streams.core.words import did_you_mean

__all__ = ["SAGA_KEYS", "check_data"]

SAGA_KEYS: Final = frozenset({"id"})
"""What there is to read of `saga`."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What can be read at one place.

    Attributes:
        nodes: Names of nodes that come before.
        extra: `item` and `index`, inside bodies.
    """

    nodes: frozenset[str]
    extra: frozenset[str] = frozenset()


def check_data(definition: Definition) -> list[Mistake]:
    """Every mistake of every expression and template."""
    return [*_Check(definition).mistakes()]


class _Check:
    """The checks of one definition."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._inputs = definition.inputs
        self._all = {node.name for node in walk(definition.nodes)}
        self._homes = {
            inner.name: node.name for node in walk(definition.nodes) if isinstance(node, Loop | Each) for inner in node.body
        }
        self._node = ""

    def mistakes(self) -> Iterator[Mistake]:
        top = _Scope(frozenset())
        yield from self._graph(self._definition.nodes, ("nodes",), top)
        self._node = ""
        everything = _Scope(frozenset(node.name for node in self._definition.nodes))
        yield from self._template(self._definition.result, ("result",), everything)
        for index, schedule in enumerate(self._definition.schedules):
            path: Path = ("schedules", index, "input")
            understood, wrong = understand(schedule.input)
            yield from (self._mistake((*path, *one.path), one.reason, one.column) for one in wrong)
            if understood.expressions:
                where, _ = understood.expressions[0]
                yield self._mistake(
                    (*path, *where), "a schedule's input has no data to read: write '==' for a text that begins with '='"
                )
            if not wrong:
                yield from self._size(schedule.input, path)

    def _mistake(self, path: Path, reason: str, column: int = 0) -> Mistake:
        return Mistake(path=path, reason=reason, node=self._node, column=column)

    def _graph(self, nodes: tuple[Node, ...], path: Path, outer: _Scope) -> Iterator[Mistake]:
        graph = graph_of(nodes)
        known = before(graph) if not cycle_in(graph) else dict.fromkeys(graph.nodes, frozenset(graph.nodes))
        for index, node in enumerate(nodes):
            self._node = node.name
            scope = _Scope(outer.nodes | known[node.name], outer.extra)
            place = (*path, index)
            yield from self._of_node(node, place, scope)
            if isinstance(node, Loop | Each):
                extra = scope.extra | ({"index", "item"} if isinstance(node, Each) else {"index"})
                inside = _Scope(scope.nodes, extra)
                yield from self._graph(node.body, (*place, "body"), inside)
                self._node = node.name
                whole = _Scope(scope.nodes | {inner.name for inner in node.body}, extra)
                yield from self._template(node.result, (*place, "result"), whole)
                if isinstance(node, Loop):
                    yield from self._expression(node.until, (*place, "until"), whole)

    def _of_node(self, node: Node, path: Path, scope: _Scope) -> Iterator[Mistake]:
        match node:
            case Step():
                yield from self._template(node.input, (*path, "input"), scope)
                own = _Scope(scope.nodes | {node.name}, scope.extra)
                yield from self._template(node.compensation_input, (*path, "compensation_input"), own)
                yield from self._grant(node, path, scope)
            case Choice():
                for index, case in enumerate(node.cases):
                    yield from self._expression(case.when, (*path, "cases", index, "when"), scope)
            case Each():
                yield from self._expression(node.items, (*path, "items"), scope)
            case Child():
                yield from self._template(node.input, (*path, "input"), scope)
            case Approval():
                yield from self._template(node.ask, (*path, "ask"), scope)
            case Timer():
                if node.until:
                    yield from self._expression(node.until, (*path, "until"), scope)
            case Lock():
                yield from self._template(node.resource, (*path, "resource"), scope)

    def _grant(self, step: Step, path: Path, scope: _Scope) -> Iterator[Mistake]:
        if not step.grant:
            return
        lock = next((node for node in walk(self._definition.nodes) if node.name == step.grant), None)
        if not isinstance(lock, Lock):
            locks = [node.name for node in walk(self._definition.nodes) if isinstance(node, Lock)]
            there = f"there are {', '.join(locks)}" if locks else "there is none"
            yield self._mistake((*path, "grant"), f"a lock node is wanted, and {step.grant[:60]!r} is none; {there}")
        elif step.grant not in scope.nodes:
            yield self._mistake((*path, "grant"), f"the lock {step.grant!r} is not taken before this: put it in 'after'")

    # ---- expressions

    def _expression(self, text: str, path: Path, scope: _Scope) -> Iterator[Mistake]:
        if not text.strip():
            yield self._mistake(path, "an expression is wanted, and there is none")
            return
        if text.startswith("="):
            yield self._mistake(path, "here always stands an expression: leave the '=' in front away", 1)
            return
        try:
            expression = compile_expression(text)
        except BadExpression as error:
            yield self._mistake(path, error.reason, error.column)
            return
        for read, column in expression.reads:
            reason = self._why_not(read, scope)
            if reason:
                yield self._mistake(path, reason, column)

    def _template(self, template: Any, path: Path, scope: _Scope) -> Iterator[Mistake]:  # noqa: ANN401 JSON
        understood, wrong = understand(template)
        yield from (self._mistake((*path, *one.path), one.reason, one.column) for one in wrong)
        for where, expression in understood.expressions:
            for read, column in expression.reads:
                reason = self._why_not(read, scope)
                if reason:
                    yield self._mistake((*path, *where), reason, column + 1)
        if not wrong:
            yield from self._size(template, path)

    def _size(self, value: Any, path: Path) -> Iterator[Mistake]:  # noqa: ANN401 JSON
        chars = len(json.dumps(value))
        if chars > PAYLOAD_CHARS_MAX:
            reason = f"the payload has {chars} characters as JSON, at most {PAYLOAD_CHARS_MAX} are allowed"
            yield self._mistake(path, reason)

    def _why_not(self, read: Read, scope: _Scope) -> str:
        """Why this path cannot be read here; empty: it can."""
        name = str(read[0])
        if name in scope.nodes or name in scope.extra:
            return ""
        if name == "input":
            if self._inputs and len(read) > 1 and read[1] not in self._inputs:
                known = f"'inputs' has {', '.join(self._inputs)}"
                return f"the missing input {read[1]!r}: {known}.{did_you_mean(read[1], self._inputs)}"
            return ""
        if name == "saga":
            return "" if len(read) == 2 and read[1] in SAGA_KEYS else "of the saga there is only 'saga.id'"
        if name in {"item", "index"}:
            return f"there is {name!r} only inside the body of {'an each' if name == 'item' else 'a loop or an each'}"
        return self._why_not_node(name, scope)

    def _why_not_node(self, name: str, scope: _Scope) -> str:
        if name == self._node:
            return "a node cannot read its own result: it is not there yet"
        missing = f"the missing input {name[:60]!r}: "
        if name not in self._all:
            known = sorted({*scope.nodes, *scope.extra, "input", "saga"})
            return f"{missing}no node has this name; here are {', '.join(known)}.{did_you_mean(name, known)}"
        home = self._homes.get(name, "")
        if home in scope.nodes:
            return f"{missing}it is in the body of {home!r}; read what that results in, {home!r}"
        inside = f" is in the body of {home!r}, which" if home and home != self._homes.get(self._node) else ""
        return f"{missing}the node{inside} does not come before this one; put it in 'after', or before that"
