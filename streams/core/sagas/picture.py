"""A saga's graph as SVG, with what each node is doing in one instance.

    ●──▶ ┌ flight ───────┐ ──▶ ┌ big ───┐ ──flight.price > 500──▶ ┌ ask ──────┐ ──▶ ┌ pay ──┐
         │ book_flight   │     │ choice │                         │ approval  │     │ pivot │
         │ ↶ cancel_fli… │     └────────┘ ──else──────────────────────────────────▶ └───────┘
         └───────────────┘

Bodies of loops and lists are graphs inside their node. Colours say the state; its word is in the box too, so that nothing depends
on seeing colours. Beneath are the states that there are, and how many nodes each has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from streams.core.layering import Arc, Layout, Route, lay_out
from streams.core.layering import Node as Place
from streams.core.sagas.definition import (
    Approval,
    Child,
    Choice,
    Definition,
    Each,
    Join,
    Lock,
    Loop,
    Node,
    Signal,
    Step,
    Timer,
    walk,
)
from streams.core.sagas.graph import OTHERWISE, Graph, graph_of
from streams.core.svg import BOLD, SMALL, TEXT, TITLE, Canvas, duration, shorten, wrap

__all__ = ["NodeState", "Status", "draw_saga"]

Status = Literal[
    "", "running", "retrying", "waiting", "done", "failed", "passed_over", "undoing", "undone", "incident", "cancelled"
]
"""What a node is doing; empty: nothing yet."""

MARGIN: Final = 28.0
LABEL_WIDTH_MAX: Final = 150.0
"""Pixels of a condition on an edge; the whole is shown when pointed at."""
LINE_WIDTH_MAX: Final = 210.0
"""Pixels of a line in a box."""
PAD: Final = 14.0
"""Pixels between a frame and the body in it."""

_LOOKS: Final[Mapping[Status, tuple[str, str]]] = {
    "": ("on-face rim-rim", "faint"),
    "running": ("on-bluish rim-blue", "blue"),
    "retrying": ("on-amberish rim-amber", "amber"),
    "waiting": ("on-bluish rim-violet", "violet"),
    "done": ("on-greenish rim-green", "green"),
    "failed": ("on-reddish rim-red", "red"),
    "passed_over": ("on-paper rim-faint dash", "faint"),
    "undoing": ("on-amberish rim-violet", "violet"),
    "undone": ("on-paper rim-violet", "violet"),
    "incident": ("on-reddish rim-red thick", "red"),
    "cancelled": ("on-paper rim-red dash", "red"),
}
"""The face of a box, and the ink of its state's word."""
_CAME: Final = frozenset(get_args(Status)) - {"", "passed_over"}


@dataclass(frozen=True, slots=True)
class NodeState:
    """What one node is doing.

    Attributes:
        status: In a word.
        note: More, in a few words: `attempt 3 of 5`, `7 of 20`, `waits for lock seats/7`.
    """

    status: Status
    note: str = ""


def draw_saga(definition: Definition, states: Mapping[str, NodeState] | None = None, *, title: str = "", told: str = "") -> str:
    """Draw `definition`.

    Args:
        definition: Checked.
        states: What its nodes are doing, by name (of a body: in its latest pass); none: the definition alone.
        title: Above it; empty: name and version.
        told: Beneath the title; empty: the description.

    Returns:
        The SVG document.
    """
    states = states or {}
    flow = _Flow(definition.nodes, states)
    title, told = title or f"{definition.name}@{definition.version}", told or definition.description
    canvas = Canvas()
    width = max(flow.width, 420.0)
    y = MARGIN + TITLE.size - 4
    canvas.text(MARGIN, y, shorten(title, TITLE, width), TITLE)
    y += 8
    for line in wrap(told, TEXT, width, 3):
        y += TEXT.line
        canvas.text(MARGIN, y, line, TEXT, "faint")
    top = y + 22
    flow.draw(canvas, MARGIN, top)
    bottom = top + flow.height + 14
    if states:
        bottom = _legend(canvas, definition, states, bottom + 18, width)
    description = f"{len(list(walk(definition.nodes)))} nodes. {told}".strip()
    return canvas.svg(width + 2 * MARGIN, bottom + MARGIN - 8, title, description)


def _legend(canvas: Canvas, definition: Definition, states: Mapping[str, NodeState], y: float, width: float) -> float:
    counts = Counter(states[node.name].status if node.name in states else "" for node in walk(definition.nodes))
    x = MARGIN
    for status in get_args(Status):
        if not counts[status]:
            continue
        words = f"{counts[status]} {(status or 'not yet').replace('_', ' ')}"
        wide = 26 + SMALL.width(words) + 18
        if x > MARGIN and x + wide > MARGIN + width:
            x, y = MARGIN, y + 20
        canvas.rect(x, y - 10, 18, 13, f"box {_LOOKS[status][0]}", radius=4)
        canvas.text(x + 26, y, words, SMALL, "faint")
        x += wide
    return y + 8


class _Box:
    """A node: its texts, its size, and the graph inside it."""

    def __init__(self, node: Node, states: Mapping[str, NodeState]) -> None:
        self.node = node
        self.state = states.get(node.name, NodeState(""))
        self.lines = [shorten(line, SMALL, LINE_WIDTH_MAX) for line in _lines(node)]
        word = self.state.status.replace("_", " ")
        self.word = shorten(f"{word} · {self.state.note}" if self.state.note else word, SMALL, LINE_WIDTH_MAX)
        self.name = shorten(node.name, BOLD, LINE_WIDTH_MAX)
        self.inner = _Flow(node.body, states) if isinstance(node, Loop | Each) else None
        texts = max([BOLD.width(self.name), *(SMALL.width(line) for line in (*self.lines, self.word))])
        self.width = max(72.0, texts + 24)
        self.head = 12 + BOLD.line + SMALL.line * (len(self.lines) + bool(self.word))
        self.height = self.head
        if self.inner:
            self.width = max(self.width, self.inner.width + 2 * PAD)
            self.height += self.inner.height + PAD

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """Draw it, its middle at (`x`, `y`)."""
        left, top = x - self.width / 2, y - self.height / 2
        face, ink = _LOOKS[self.state.status]
        heavy = " thick" if isinstance(self.node, Step) and self.node.pivot and "thick" not in face else ""
        radius = 22.0 if isinstance(self.node, Choice | Join) else 8.0
        with canvas.group(_told(self.node, self.state), node=self.node.name, kind=self.node.kind, state=self.state.status):
            canvas.rect(left, top, self.width, self.height, f"box {face}{heavy}", radius=min(radius, self.height / 2))
            line = top + BOLD.line + 2
            canvas.text(x, line, self.name, BOLD, anchor="middle")
            for text in self.lines:
                line += SMALL.line
                canvas.text(x, line, text, SMALL, "faint", anchor="middle")
            if self.word:
                canvas.text(x, line + SMALL.line, self.word, SMALL, ink, anchor="middle")
        if self.inner:
            self.inner.draw(canvas, x - self.inner.width / 2, top + self.head)


class _Flow:
    """A graph: where its nodes and edges go. The first place is the beginning, a dot."""

    def __init__(self, nodes: tuple[Node, ...], states: Mapping[str, NodeState]) -> None:
        self._graph = graph_of(nodes)
        self._boxes = [_Box(node, states) for node in self._graph.nodes.values()]
        self._numbers = {name: number for number, name in enumerate(self._graph.nodes, start=1)}
        self._edges = [("", name) for name in self._graph.starts] + [
            (name, target) for name in self._graph.nodes for target in self._graph.targets[name]
        ]
        self._labels = [_label(self._graph, source, target) for source, target in self._edges]
        self._layout = self._place()
        self.width, self.height = self._layout.width, self._layout.height

    def _place(self) -> Layout:
        places = [Place(10, 8, 8), *(Place(box.width, box.height / 2, box.height / 2) for box in self._boxes)]
        arcs = []
        for (source, target), label in zip(self._edges, self._labels, strict=True):
            words = shorten(label, SMALL, LABEL_WIDTH_MAX)
            wide = SMALL.width(words) + 12 if words else 0.0
            arcs.append(Arc(self._numbers.get(source, 0), self._numbers.get(target, 0), wide, 17.0))
        return lay_out(places, [arc for arc in arcs if arc.source != arc.target], 0)

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw it, its corner at (`left`, `top`)."""
        kept = [(edge, label) for edge, label in zip(self._edges, self._labels, strict=True) if edge[0] != edge[1]]
        for (edge, label), route in zip(kept, self._layout.routes, strict=True):
            self._edge(canvas, edge, label, route, left, top)
        x, y = self._layout.nodes[0]
        canvas.dot(left + x, top + y, 5, "rim")
        for box, (x, y) in zip(self._boxes, self._layout.nodes[1:], strict=True):
            box.draw(canvas, left + x, top + y)

    def _edge(self, canvas: Canvas, edge: tuple[str, str], label: str, route: Route, left: float, top: float) -> None:
        source, target = (self._numbers.get(name, 0) for name in edge)
        came = [not number or self._boxes[number - 1].state.status in _CAME for number in (source, target)]
        passed = [bool(number) and self._boxes[number - 1].state.status == "passed_over" for number in (source, target)]
        colour, stroke = ("faint", "dash thin") if any(passed) else ("green", "") if all(came) and target else ("rim", "")
        direction = -1 if route.turned else 1
        (x, y), (end_x, end_y) = self._layout.nodes[source], self._layout.nodes[target]
        x += direction * (self._boxes[source - 1].width / 2 if source else 5)
        end_x -= direction * self._boxes[target - 1].width / 2
        stops = [(b, a, at) if route.turned else (a, b, at) for a, b, at in route.points]
        data: list[str | float] = ["M", left + x, top + y]
        for near, far, at in [*stops, (end_x - 7 * direction, end_x - 7 * direction, end_y)]:
            bend = (near - x) / 2
            straight: list[str | float] = ["L", left + near, top + at]
            curve: list[str | float] = ["C", left + x + bend, top + y, left + near - bend, top + at, left + near, top + at]
            data += straight if at == y else curve
            if far != near:
                data += ["L", left + far, top + at]
            x, y = far, at
        with canvas.group(label, edge=f"{edge[0]}>{edge[1]}"):
            canvas.path(data, f"{colour} {stroke}".strip())
            canvas.head((left + end_x, top + end_y), (left + end_x - direction, top + end_y), colour)
            if label:
                near, far, at = route.label
                words = shorten(label, SMALL, LABEL_WIDTH_MAX)
                canvas.text(left + (near + far) / 2, top + at - 5, words, SMALL, "faint", anchor="middle")


def _label(graph: Graph, source: str, target: str) -> str:
    """What an edge out of a choice says: its conditions."""
    node = graph.nodes.get(source)
    if not isinstance(node, Choice):
        return ""
    ways = [number for number, to in graph.cases[source].items() if to == target]
    return " or ".join("else" if number == OTHERWISE else node.cases[number].when for number in ways)


def _lines(node: Node) -> list[str]:
    """What stands beneath a node's name."""
    words = _WORDS.get(type(node))
    return words(node) if words else [node.kind]


def _of_step(step: Step) -> list[str]:
    lines = [step.handler] if step.handler != step.name else []
    lines += [f"↶ {step.compensation}"] if step.compensation else []
    lines += ["pivot: no way back"] if step.pivot else []
    return lines or ["step"]


_WORDS: Final[Mapping[type[Node], Callable[[Any], list[str]]]] = {
    Step: _of_step,
    Join: lambda join: [f"join: {join.need}" if isinstance(join.need, str) else f"join: {join.need} of {len(join.after)}"],
    Loop: lambda loop: [f"until {loop.until}", f"at most {loop.passes_max} passes"],
    Each: lambda each: [f"each of {each.items}", f"at most {each.items_max}"],
    Child: lambda child: [f"saga {child.definition}@{child.version}"],
    Approval: lambda approval: [f"approval by {approval.approvers}" if approval.approvers else "approval"],
    Signal: lambda signal: [f"signal {signal.signal}"],
    Timer: lambda timer: [f"wait {duration(timer.wait_ms)}" if timer.wait_ms else f"wait until {timer.until}"],
    Lock: lambda lock: [f"lock {lock.resource} ({lock.mode})"],
}


def _told(node: Node, state: NodeState) -> str:
    """What is shown when a node is pointed at."""
    told = [node.name, *_lines(node)]
    if isinstance(node, Step):
        told.append(f"at most {node.retry.attempts} attempts of {duration(node.timeout_ms)}")
    if state.status:
        told.append(f"{state.status.replace('_', ' ')} {state.note}".strip())
    return "\n".join(told)
