"""The automaton of a pattern as SVG: its states from left to right, its edges with what they ask of an event.

    ●─▶[failed:1]──take c1──▶[failed:0]──take c1──▶[failed]──take c1──▶[helped]─ ─after 5 min─ ─▶((match))
                               ⟲ ignore otherwise                         ╲··c2··▶[stop]

Every state and every edge of the automaton is drawn once, but for what a *stop* state takes: nothing is left there to take it. A
pending state has a line to the match that no event makes, only time. A condition that is too long for its edge has a number, and
stands beneath the picture in full; `otherwise` is the opposite of the one other condition of the same state that it denies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from processors.core.cep.automaton import TRUE, negation
from processors.core.cep.drawing import MARGIN, Caption, footer, header
from processors.core.cep.text import to_text
from schemas.errors import AntiphonError, Fault
from streams.core.layering import Arc, Node, Route, lay_out, spread
from streams.core.svg import BOLD, MONO, SMALL, Canvas, duration, shorten, wrap

if TYPE_CHECKING:
    from processors.core.cep.automaton import Automaton, Edge, State
    from processors.core.cep.expressions import Expr

__all__ = ["EDGES_DRAWN_MAX", "STATES_DRAWN_MAX", "DrawingError", "draw_states"]

STATES_DRAWN_MAX: Final = 80
"""States of one picture: a chain of so many is some 15,000 pixels wide, and no one follows more lines than that."""
EDGES_DRAWN_MAX: Final = 400
"""Edges of one picture: crossings are counted by pairs, and beyond this nothing can be told apart."""
INLINE_CHARS_MAX: Final = 28
"""Letters of a condition that stand on its edge."""
MANY_STATES: Final = 16
"""From so many states on every condition has a number: columns get narrower by half."""
NAME_WIDTH_MAX: Final = 150
"""Pixels of a state's name."""
LOOP: Final = 30
"""Pixels above or below a state for an edge back to itself, with its label."""

_LOOKS: Final = {
    "take": ("blue", "", "take: the event joins the partial match"),
    "ignore": ("faint", "dash", "ignore: it goes on without the event"),
    "proceed": ("violet", "dots", "proceed: the edges of the next state count here too"),
    "stop": ("red", "dots", "stop: what must not come ends it"),
    "time": ("amber", "dash", "time: the window's end completes it"),
}
_FACES: Final = {
    "start": "on-bluish rim-blue",
    "normal": "on-face rim-rim",
    "pending": "on-amberish rim-amber",
    "stop": "on-reddish rim-red",
    "final": "on-greenish rim-green",
}
_INKS: Final = {"start": "blue", "normal": "ink", "pending": "amber", "stop": "red", "final": "green"}
_KINDS: Final = {
    "start": "start: the one empty partial match is here, always",
    "normal": "normal: a partial match waits for an event",
    "pending": "pending: a match when its time is up, unless a stop comes first",
    "stop": "stop: what gets here is gone, with all that it split into",
    "final": "final: a match",
}


class DrawingError(AntiphonError):
    """The automaton is too large for a picture: draw its stages, or shorten its loops for the drawing."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


@dataclass(frozen=True, slots=True)
class _Line:
    """An edge as it is drawn."""

    source: int
    target: int
    look: str
    label: str
    told: str


@dataclass(slots=True)
class _Conditions:
    """The words for conditions; long ones get a number."""

    chars_max: int
    numbered: dict[Expr, int] = field(default_factory=dict)

    def words(self, condition: Expr, state: State, edge: Edge) -> str:
        """What stands on `edge`, an edge of `state`; empty is always."""
        if condition == TRUE:
            return ""
        others = [other.condition for other in state.edges if other is not edge]
        if edge.action == "ignore" and condition != TRUE and negation(condition) in others:
            return "otherwise"
        text = to_text(condition)
        if len(text) <= self.chars_max:
            return text
        return f"c{self.numbered.setdefault(condition, len(self.numbered) + 1)}"


def draw_states(automaton: Automaton, caption: Caption | None = None) -> str:
    """Draw `automaton`.

    Args:
        automaton: At most `STATES_DRAWN_MAX` states and `EDGES_DRAWN_MAX` edges.
        caption: What stands around it.

    Returns:
        The SVG document.

    Raises:
        DrawingError: It is larger.
    """
    caption, canvas = caption or Caption(), Canvas()
    reached = _reached(automaton)
    conditions = _Conditions(INLINE_CHARS_MAX if len(reached) < MANY_STATES else 0)
    lines = _lines(automaton, reached, conditions)
    _check(len(reached), len(lines))
    loops = [[line for line in lines if line.source == line.target == number] for number in range(len(reached))]
    others = [line for line in lines if line.source != line.target]
    sides = _sides(len(reached), others)
    nodes = [_node(state, loops[number], sides[number]) for number, state in enumerate(reached)]
    arcs = [Arc(line.source, line.target, SMALL.width(_label(line)) + 12 if _label(line) else 0, 17) for line in others]
    layout = lay_out(nodes, arcs, 0)
    width = max(layout.width + 30, 620.0)
    left, top = MARGIN + 30.0, header(canvas, caption, MARGIN, width) + 4
    ends = _ports(reached, others, layout.routes, layout.nodes, sides)
    for line, route, (start, end) in zip(others, layout.routes, ends, strict=True):
        _edge(canvas, line, route, reached, start, end, left, top)
    for number, (x, y) in enumerate(layout.nodes):
        _state(canvas, reached[number], left + x, top + y, loops[number], sides[number])
    first_x, first_y = left + layout.nodes[0][0] - _width(reached[0]) / 2, top + layout.nodes[0][1]
    canvas.dot(first_x - 34, first_y, 5, "rim")
    canvas.arrow([(first_x - 34, first_y), (first_x, first_y)], "rim")
    y = _legend(canvas, lines, top + layout.height + 34, width)
    facts = tuple((f"c{number}", to_text(condition)) for condition, number in conditions.numbered.items())
    y = _conditions(canvas, facts, y + 12, width)
    more = (("within", duration(automaton.window_ms)),) if automaton.window_ms else ()
    y = footer(canvas, automaton, (*more, ("after a match", automaton.skip + _of(automaton)), *caption.facts), y + 6, width)
    told = f"{len(reached)} states and {len(lines)} edges. {caption.description}".strip()
    return canvas.svg(width + 2 * MARGIN, y + MARGIN - 8, caption.title or "automaton", told)


def _of(automaton: Automaton) -> str:
    return f" {automaton.skip_stage}" if automaton.skip_stage else ""


def _check(states: int, edges: int) -> None:
    if states > STATES_DRAWN_MAX or edges > EDGES_DRAWN_MAX:
        raise DrawingError(
            f"the automaton has {states:,} states and {edges:,} edges, and a picture holds {STATES_DRAWN_MAX} and"
            f" {EDGES_DRAWN_MAX}: draw the stages (without --states), or give its `times` small numbers to see the shape"
        )


def _reached(automaton: Automaton) -> list[State]:
    """The states in the order of a breadth first walk from the start; those that cannot be reached come last."""
    found = {id(automaton.start): automaton.start}
    order = [automaton.start]
    for state in order:
        for edge in state.edges:
            if id(edge.target) not in found:
                found[id(edge.target)] = edge.target
                order.append(edge.target)
    return [*order, *(state for state in automaton.states if id(state) not in found)]


# ---- edges


def _lines(automaton: Automaton, states: Sequence[State], conditions: _Conditions) -> list[_Line]:
    numbers = {id(state): number for number, state in enumerate(states)}
    final = next((number for number, state in enumerate(states) if state.kind == "final"), None)
    found: list[_Line] = []
    for number, state in enumerate(states):
        if state.kind == "stop":
            continue
        for edge in state.edges:
            look = "stop" if edge.target.kind == "stop" else edge.action
            told = "\n".join((_LOOKS[look][2], f"if {to_text(edge.condition)}" if edge.condition != TRUE else "always"))
            found.append(_Line(number, numbers[id(edge.target)], look, conditions.words(edge.condition, state, edge), told))
        if state.kind == "pending" and final is not None:
            ms = state.window_ms or automaton.window_ms
            found.append(_Line(number, final, "time", f"after {duration(ms)}", _LOOKS["time"][2]))
    return found


def _label(line: _Line) -> str:
    if line.look == "time":
        return line.label
    return f"{line.look} {line.label}".strip()


def _sides(count: int, lines: Sequence[_Line]) -> list[int]:
    """The most lines that a state has on one side."""
    out, into = [0] * count, [0] * count
    for line in lines:
        out[line.source] += 1
        into[line.target] += 1
    return [max(pair) for pair in zip(out, into, strict=True)]


End = tuple[float, float]


def _ports(
    states: Sequence[State], lines: Sequence[_Line], routes: Sequence[Route], places: Sequence[End], sides: Sequence[int]
) -> list[tuple[End, End]]:
    """Where each line leaves its source and meets its target: spread over their sides, in the order of where they go."""
    found: list[list[End]] = [[(0.0, 0.0), (0.0, 0.0)] for _ in lines]
    for number, state in enumerate(states):
        x, y = places[number]
        for right in (True, False):
            here: list[tuple[float, int, int]] = []
            for index, (line, route) in enumerate(zip(lines, routes, strict=True)):
                if line.source == number and route.turned is not right:
                    here.append((route.points[0][2], index, 0))
                if line.target == number and route.turned is right:
                    here.append((route.points[-1][2], index, 1))
            here.sort()
            edge = _half(max(len(here), sides[number])) - 8
            step = min(12.0, 2 * edge / max(1, len(here) - 1))
            steps = [place * step for place in range(len(here))]
            offsets = spread([min(edge, max(-edge, at - y)) for at, *_ in here], steps)
            for place, (offset, (_, index, end)) in enumerate(zip(offsets, here, strict=True)):
                fits = max(min(offset, edge - steps[-1] + steps[place]), steps[place] - edge)
                found[index][end] = (x + (_width(state) / 2) * (1 if right else -1), y + fits)
    return [(start, end) for start, end in found]


def _edge(
    canvas: Canvas, line: _Line, route: Route, states: Sequence[State], start: End, end: End, left: float, top: float
) -> None:
    colour, stroke, _ = _LOOKS[line.look]
    direction = -1 if route.turned else 1
    x, y = left + start[0], top + start[1]
    data: list[str | float] = ["M", x, y]
    stops = [(b, a, at) if route.turned else (a, b, at) for a, b, at in route.points]
    tip = (left + end[0], top + end[1])
    for near, far, at in [*((left + a, left + b, top + at) for a, b, at in stops), (tip[0] - 7 * direction, 0.0, tip[1])]:
        bend = (near - x) / 2
        data += ["C", x + bend, y, near - bend, at, near, at] if at != y else ["L", near, at]
        x, y = near, at
        if far:
            data += ["L", far, at]
            x = far
    with canvas.group(line.told, edge=line.look, source=states[line.source].name, target=states[line.target].name):
        canvas.path(data, f"{colour} {stroke}".strip())
        canvas.head(tip, (tip[0] - direction, tip[1]), colour)
        near, far, at = route.label
        canvas.text(left + (near + far) / 2, top + at - 5, _label(line), SMALL, colour, anchor="middle")


# ---- states


def _name(state: State) -> tuple[str, str]:
    """A state's name, and the small print beneath it."""
    name = {"$endState$": "match"}.get(state.name, state.name).replace("GroupPattern", "group").replace("$endState$", "match")
    small = "" if state.kind in {"normal", name} else {"final": ""}.get(state.kind, state.kind)
    if state.window_ms:
        small = f"{small} ≤ {duration(state.window_ms)}".strip()
    return shorten(name, BOLD, NAME_WIDTH_MAX), small


def _width(state: State) -> float:
    name, small = _name(state)
    return max(64.0, BOLD.width(name) + 24, SMALL.width(small) + 24)


def _node(state: State, loops: Sequence[_Line], side: int) -> Node:
    half = _half(side)
    width = max([_width(state), *(SMALL.width(_label(loop)) for loop in loops)])
    return Node(width, half + LOOP * ((len(loops) + 1) // 2), half + LOOP * (len(loops) // 2), state.kind == "stop")


def _half(side: int) -> float:
    return max(21.0, 4.0 * side)


def _state(canvas: Canvas, state: State, x: float, y: float, loops: Sequence[_Line], side: int) -> None:
    name, small = _name(state)
    width, half = _width(state), _half(side)
    told = [state.name, _KINDS[state.kind]]
    if state.stage and state.kind != "final":
        told.append(f"stage {state.stage}")
    if state.window_ms:
        told.append(f"at most {duration(state.window_ms)} after the event before")
    with canvas.group("\n".join(told), state=state.name, kind=state.kind):
        radius = 21.0 if state.kind == "final" else 4.0 if state.kind == "stop" else 10.0
        canvas.rect(x - width / 2, y - half, width, 2 * half, f"box {_FACES[state.kind]}", radius=radius)
        if state.kind == "final":
            canvas.rect(x - width / 2 + 3, y - half + 3, width - 6, 2 * half - 6, "box on-greenish rim-green", radius=18)
        canvas.text(x, y - 1 if small else y + 4.5, name, BOLD, _INKS[state.kind], anchor="middle")
        if small:
            canvas.text(x, y + 13, small, SMALL, "faint", anchor="middle")
    for number, loop in enumerate(loops):
        _loop(canvas, loop, state, x, y, half + LOOP * (number // 2), up=number % 2 == 0, half=half)


def _loop(canvas: Canvas, line: _Line, state: State, x: float, y: float, far: float, *, up: bool, half: float) -> None:
    """An edge back to its own state: an arc above or below it."""
    colour, stroke, _ = _LOOKS[line.look]
    sign = -1 if up else 1
    reach = 16.0 + (far - half) / 3
    edge, top = y + sign * half, y + sign * (far + 13)
    drawn = f"{colour} {stroke}".strip()
    with canvas.group(line.told, edge=line.look, source=state.name, target=state.name):
        canvas.path(["M", x + reach, edge, "C", x + reach, top, x + reach - 4, top, x + reach - 10, top, "L", x - reach + 10, top,
                     "C", x - reach + 4, top, x - reach, top, x - reach, edge + sign * 7], drawn)  # fmt: skip
        canvas.head((x - reach, edge), (x - reach, edge + sign), colour)
        canvas.text(x, top - 4 if up else top + 13, _label(line), SMALL, colour, anchor="middle")


# ---- beneath


def _legend(canvas: Canvas, lines: Sequence[_Line], y: float, width: float) -> float:
    x = float(MARGIN)
    used = {line.look for line in lines}
    for look, (colour, stroke, words) in _LOOKS.items():
        if look not in used:
            continue
        wide = 40 + SMALL.width(words) + 24
        if x > MARGIN and x + wide > MARGIN + width:
            x, y = float(MARGIN), y + 20
        canvas.arrow([(x, y), (x + 32, y)], colour, stroke)
        canvas.text(x + 40, y + 4, words, SMALL, "faint")
        x += wide
    return y + 6


def _conditions(canvas: Canvas, facts: Sequence[tuple[str, str]], y: float, width: float) -> float:
    """The conditions that have a number, in full as far as a picture goes."""
    for number, text in facts:
        canvas.text(MARGIN, y + MONO.line, number, MONO, "blue")
        for line in wrap(text, MONO, width - 44, 6):
            y += MONO.line
            canvas.text(MARGIN + 44, y, line, MONO)
        y += 3
    return y
