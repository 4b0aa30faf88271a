"""The boxes of a drawn pattern: one stage, a group, a choice. `drawing` puts them in a row.

A box is a size, where lines come in and go out, and a function that draws it at a place; boxes hold boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from processors.core.cep.text import to_text
from streams.core.svg import BOLD, MONO, SMALL, Canvas, Font, duration, shorten, wrap

if TYPE_CHECKING:
    from processors.core.cep.expressions import Expr
    from processors.core.cep.model import Stage

__all__ = ["MEANINGS", "STROKES", "Box", "contiguity_inside", "frame", "match_box", "repeats", "stage_box"]

BOX_MAX: Final = 256
"""Pixels of a stage's box: a condition of 35 letters a line."""
BOX_MIN: Final = 128
LINES_MAX: Final = 6
"""Lines of a condition in its box; the whole of it is shown when pointed at."""
PAD: Final = 12
ARC: Final = 32
"""Pixels above a box for the arc of a repetition, with its words."""
FORK: Final = 22
"""Pixels on either side of a choice, where its lines part and join."""

STROKES: Final = {"strict": "", "relaxed": "dash", "any": "dots"}
"""How an arrow is drawn, by contiguity."""
MEANINGS: Final = {
    "strict": "strict: the very next event",
    "relaxed": "relaxed: others in between are skipped",
    "any": "any: events that fit may be skipped too",
}


@dataclass(frozen=True, slots=True)
class Box:
    """A piece of the picture.

    Attributes:
        width: In pixels.
        height: In pixels.
        enter: How far below its top a line comes in on the left.
        leave: How far below its top a line goes out on the right.
        draw: Draws it with its upper left corner at x, y.
    """

    width: float
    height: float
    enter: float
    leave: float
    draw: Callable[[Canvas, float, float], None]


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    font: Font
    colour: str


def repeats(stage: Stage) -> bool:
    """Whether more than one event, or round of a group, may be taken."""
    return stage.times is not None and stage.times.max != 1


def contiguity_inside(stage: Stage) -> str:
    """How one repetition follows the one before."""
    return "strict" if stage.consecutive else "any" if stage.allow_combinations else "relaxed"


def match_box() -> Box:
    """The end of a pattern."""

    def draw(canvas: Canvas, x: float, y: float) -> None:
        with canvas.group("every stage is fulfilled: a match", end="match"):
            canvas.rect(x, y, 70, 32, "box on-greenish rim-green", radius=16)
            canvas.text(x + 35, y + 20.5, "match", BOLD, "green", anchor="middle")

    return Box(70, 32, 16, 16, draw)


def stage_box(stage: Stage, *, last: bool, deadline_ms: int | None) -> Box:
    """Draw one named stage.

    Args:
        stage: It has a name.
        last: Whether nothing follows it in the pattern.
        deadline_ms: Of a negation: how long after the event before it holds; None is until the pattern's window ends.
    """
    assert stage.name is not None, "a group, any_of or all_of has a frame"
    title = f"not {stage.name}" if stage.negated else stage.name
    name = shorten(title, BOLD, BOX_MAX - 2 * PAD)
    lines = _lines(stage, last=last, deadline_ms=deadline_ms)
    words = _words(stage)
    width = max(BOX_MIN, BOLD.width(name) + 2 * PAD, *(line.font.width(line.text) + 2 * PAD for line in lines))
    width = max(width, SMALL.width(words) + 2 * PAD)
    above = ARC if repeats(stage) else 0
    body = 30 + sum(line.font.line for line in lines) + (6 if lines else 2)
    colour = "red" if stage.negated else "blue"
    face = "on-reddish rim-red" if stage.negated else "on-face rim-rim"
    dashes = " dash" if stage.negated or _may_be_empty(stage) else ""

    def draw(canvas: Canvas, x: float, y: float) -> None:
        with canvas.group(_told(stage), stage=stage.name or ""):
            if above:
                _arc(canvas, x + width / 2, y + above, width, words, STROKES[contiguity_inside(stage)])
            canvas.rect(x, y + above, width, body, f"box {face}{dashes}")
            canvas.text(x + PAD, y + above + 21, name, BOLD, colour)
            at = y + above + 26
            for line in lines:
                at += line.font.line
                canvas.text(x + PAD, at, line.text, line.font, line.colour)

    return Box(width, above + body, above + 21, above + 21, draw)


def frame(stage: Stage, inside: Sequence[Box]) -> Box:
    """Draw a group, a choice or an all-of around what it holds; branches one beneath the other.

    Args:
        stage: It has no name of a single stage.
        inside: One box for a group; one a branch or member otherwise.
    """
    kind = "group" if stage.group is not None else "one of" if stage.any_of is not None else "all of, in any order"
    title = f"{kind}: {stage.name}" if stage.name else kind
    more = [word for word, said in (("optional", _may_be_empty(stage)),) if said]
    notes = [f"until {to_text(stage.until)}"] if stage.until is not None else []
    if stage.all_of is not None and not repeats(stage) and contiguity_inside(stage) != "relaxed":
        notes.append("one right after the other" if stage.consecutive else "events that fit may be skipped")
    lines = [_Line(line, MONO, "faint") for note in notes for line in wrap(note, MONO, 340, 3)]
    title = " · ".join((title, *more))
    side = FORK + 14 if stage.any_of is not None else PAD
    head = 28
    inner = max(box.width for box in inside)
    words = _words(stage)
    width = max(inner + 2 * side, SMALL.width(title) + 2 * PAD, SMALL.width(words) + 60)
    width = max(width, *(line.font.width(line.text) + 2 * PAD for line in lines)) if lines else width
    above = ARC if repeats(stage) else 0
    tops: list[float] = []
    y = float(above + head)
    for box in inside:
        tops.append(y)
        y += box.height + 14
    height = y - 14 + PAD + sum(line.font.line for line in lines)
    single = stage.group is not None
    axis = tops[0] + inside[0].enter if single else (tops[0] + inside[0].enter + tops[-1] + inside[-1].enter) / 2
    leave = tops[0] + inside[0].leave if single else axis

    def draw(canvas: Canvas, x: float, y: float) -> None:
        with canvas.group(_told(stage), frame=kind):
            if above:
                _arc(canvas, x + width / 2, y + above, width, words, STROKES[contiguity_inside(stage)])
            dashes = " dash" if _may_be_empty(stage) else ""
            canvas.rect(x, y + above, width, height - above, f"box on-paper rim-violet{dashes}", radius=12)
            canvas.text(x + PAD, y + above + 18, title, SMALL, "violet")
            left = x + (width - inner) / 2 if not single else x + side
            for top, box in zip(tops, inside, strict=True):
                if stage.any_of is not None:
                    _forks(canvas, (x, y + axis), (x + width, y + axis), (left, y + top), box)
                box.draw(canvas, left, y + top)
            if single:
                canvas.path(["M", x, y + axis, "L", left, y + axis], "rim")
                end = y + tops[0] + inside[0].leave
                canvas.arrow([(left + inside[0].width, end), (x + width, end)], "rim", head=False)
            at = y + height - PAD + 2 - sum(line.font.line for line in lines)
            for line in lines:
                at += line.font.line
                canvas.text(x + PAD, at - 2, line.text, line.font, line.colour)

    return Box(width, height, axis, leave, draw)


def _forks(canvas: Canvas, start: tuple[float, float], end: tuple[float, float], at: tuple[float, float], box: Box) -> None:
    """The lines from the frame's left side to a branch, and from the branch to the right side."""
    enter, leave = at[1] + box.enter, at[1] + box.leave
    for (x1, y1), (x2, y2) in ((start, (at[0], enter)), ((at[0] + box.width, leave), end)):
        if y1 == y2:
            canvas.path(["M", x1, y1, "L", x2, y2], "rim")
            continue
        turn = start[0] + FORK / 2 + 4 if x1 == start[0] else end[0] - FORK / 2 - 4
        canvas.arrow([(x1, y1), (turn, y1), (turn, y2), (x2, y2)], "rim", head=False)


def _arc(canvas: Canvas, middle: float, y: float, width: float, words: str, stroke: str) -> None:
    """A repetition: from the right of the box's upper side back to the left of it."""
    reach = min(34.0, width / 2 - 16)
    left, right, top = middle - reach, middle + reach, y - 14
    canvas.path(["M", right, y, "C", right, top - 2, right - 6, top, right - 16, top, "L", left + 16, top,
                 "C", left + 6, top, left, top - 2, left, y - 6], f"blue {stroke}".strip())  # fmt: skip
    canvas.head((left, y), (left, y - 8), "blue")
    canvas.text(middle, top - 5, words, SMALL, "blue", anchor="middle")


def _words(stage: Stage) -> str:
    """How often, over the arc."""
    times = stage.times
    if times is None or not repeats(stage):
        return ""
    low, high = times.min, times.max
    if high is None:
        often = {0: "any number of times", 1: "once or more"}.get(low, f"{low:,} times or more")
    else:
        often = f"{high:,} times" if low == high else f"{low:,} to {high:,} times"
    inside = contiguity_inside(stage)
    return (
        often + ("" if inside == "relaxed" else f", {inside}") + (f", ≤ {duration(times.within_ms)}" if times.within_ms else "")
    )


def _may_be_empty(stage: Stage) -> bool:
    return stage.optional or (stage.times is not None and stage.times.min == 0)


def _lines(stage: Stage, *, last: bool, deadline_ms: int | None) -> list[_Line]:
    """What stands under the name."""
    found: list[_Line] = []
    if stage.negated:
        found.append(_Line(_absence(stage, last=last, deadline_ms=deadline_ms), SMALL, "red"))
    more = [word for word, said in (("optional", _may_be_empty(stage)), ("greedy", stage.greedy)) if said]
    if more:
        found.append(_Line(", ".join(more), SMALL, "violet"))
    if stage.where is None:
        found.append(_Line("any event", SMALL, "faint"))
    else:
        found += [_Line(line, MONO, "ink") for line in _wrapped(stage.where)]
    if stage.until is not None:
        found.append(_Line("until", SMALL, "faint"))
        found += [_Line(line, MONO, "ink") for line in _wrapped(stage.until)]
    return found


def _wrapped(condition: Expr) -> list[str]:
    return wrap(to_text(condition), MONO, BOX_MAX - 2 * PAD, LINES_MAX)


def _absence(stage: Stage, *, last: bool, deadline_ms: int | None) -> str:
    if stage.contiguity == "strict":
        return "not as the very next event"
    if not last:
        return "not before what follows"
    return f"not for {duration(deadline_ms)} after the event before" if deadline_ms else "not before the window ends"


def _told(stage: Stage) -> str:
    """Everything about a stage: what is shown when it is pointed at."""
    found = [stage.name or "group"]
    if stage.negated:
        found.append("negated: such an event ends the partial match, and is in no match")
    found.append(MEANINGS[stage.contiguity])
    if stage.where is not None:
        found.append(f"where {to_text(stage.where)}")
    if stage.until is not None:
        found.append(f"until {to_text(stage.until)}")
    if words := _words(stage):
        found.append(words)
    found += [word for word in ("optional", "greedy", "consecutive", "allow_combinations") if getattr(stage, word)]
    if stage.within_ms:
        found.append(f"within {duration(stage.within_ms)} ({stage.within})")
    return "\n".join(found)
