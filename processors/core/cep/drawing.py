"""A pattern as people think of it: its stages in order, as SVG. `drawing_states` draws the automaton that it compiles to.

    ●──▶ ┌ failed ──┐ ──relaxed──▶ ┌ not helped ┐ ──▶ ( match )
         │ type == …│   ≤ 5 min    │ type == …  │
         └──────────┘              └────────────┘
         ├────── within 10 min, from the first … ────┤

An arrow is drawn by the contiguity of the stage it leads to; an arc over a box is a repetition, drawn by the contiguity inside.
Groups and choices are boxes around boxes. A sequence that is too wide goes on in a second row.

Pieces are put together from the inside out, as in railroad diagrams; `drawing_boxes` has the boxes, and here they become rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from processors.core.cep.compiler import compile_pattern
from processors.core.cep.drawing_boxes import MEANINGS, STROKES, Box, contiguity_inside, frame, match_box, repeats, stage_box
from streams.core.svg import SMALL, TEXT, TITLE, Canvas, duration, shorten, wrap

if TYPE_CHECKING:
    from processors.core.cep.automaton import Automaton
    from processors.core.cep.model import Definition, Pattern, Skip, Stage

__all__ = ["Caption", "draw_stages", "footer", "header"]

WIDTH_MAX: Final = 1120
"""Pixels of a row of stages: what a screen shows without scrolling."""
MARGIN: Final = 28
GAP: Final = 60
"""Pixels of an arrow, at least."""
NESTED: Final = 72
"""Pixels that a frame takes from the rows inside it."""
ROW_GAP: Final = 44
"""Between two rows: the line that leads from one to the next passes here."""

SKIPS: Final = {
    "no_skip": "no_skip: nothing else changes",
    "to_next": "to_next: drops what began with the same event",
    "past_last": "past_last: drops what began before the match ended",
    "to_first": "to_first: drops what began before the match's first event of {stage}",
    "to_last": "to_last: drops what began before the match's last event of {stage}",
}


@dataclass(frozen=True, slots=True)
class Caption:
    """What stands around a picture.

    Attributes:
        title: Above it, large.
        description: Beneath the title.
        facts: Word and sentence, beneath the picture.
    """

    title: str = ""
    description: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, definition: Definition, version: int | None = None) -> Caption:
        """Name, version, description, and what the definition reads."""
        read = ", ".join(definition.topics) or "the events it is given"
        types = f" (only {', '.join(definition.types)})" if definition.types else ""
        facts = [("reads", read + types)]
        facts.append(("for each", definition.key or "record key"))
        title = definition.name if version is None else f"{definition.name}@{version}"
        return cls(title, definition.description, tuple(facts))


def draw_stages(pattern: Pattern, caption: Caption | None = None) -> str:
    """Draw the stages of `pattern`.

    Args:
        pattern: It compiles.
        caption: What stands around it.

    Returns:
        The SVG document.

    Raises:
        PatternError: It does not compile.
    """
    automaton, caption, canvas = compile_pattern(pattern), caption or Caption(), Canvas()
    flow = _sequence(pattern.stages, WIDTH_MAX, pattern=pattern)
    width = max(flow.width, 560.0)
    top = header(canvas, caption, MARGIN, width)
    flow.draw(canvas, MARGIN, top)
    bottom = top + flow.height
    if automaton.window_ms:
        bottom = _window(canvas, MARGIN + 22, MARGIN + flow.width, bottom + 18, automaton.window_ms)
    bottom = _legend(canvas, pattern, bottom + 30)
    facts = (("after a match", _skip_words(pattern.skip)), *caption.facts)
    bottom = footer(canvas, automaton, facts, bottom + 12, width)
    told = caption.description or f"The stages {', '.join(automaton.stages)}"
    return canvas.svg(width + 2 * MARGIN, bottom + MARGIN - 8, caption.title or "pattern", told)


# ---- around the picture


def header(canvas: Canvas, caption: Caption, left: float, width: float) -> float:
    """Draw title and description; where the picture begins."""
    y = float(MARGIN)
    if caption.title:
        y += TITLE.size - 4
        canvas.text(left, y, shorten(caption.title, TITLE, width), TITLE)
        y += 8
    for line in wrap(caption.description, TEXT, width, 3):
        y += TEXT.line
        canvas.text(left, y, line, TEXT, "faint")
    return y + (22 if y > MARGIN else 0)


def footer(canvas: Canvas, automaton: Automaton, facts: Sequence[tuple[str, str]], y: float, width: float) -> float:
    """Draw facts and the compiler's warnings, a word before each; the baseline of the last line."""
    rows = [(word, text, "faint", "ink") for word, text in facts]
    rows += [("warning", text, "amber", "amber") for text in automaton.warnings]
    column = max(SMALL.width(word) for word, *_ in rows) + 14
    for word, text, colour, ink in rows:
        canvas.text(MARGIN, y + SMALL.line, word, SMALL, colour)
        for line in wrap(text, SMALL, width - column, 4):
            y += SMALL.line
            canvas.text(MARGIN + column, y, line, SMALL, ink)
        y += 3
    return y


def _window(canvas: Canvas, left: float, right: float, y: float, ms: int) -> float:
    text = f"within {duration(ms)}, from the first event to the last"
    with canvas.group(f"{ms:,} ms; an event exactly at the end is too late", window=str(ms)):
        middle, half = (left + right) / 2, SMALL.width(text) / 2 + 8
        if right - left > 2 * half + 30:
            canvas.path(["M", left, y - 6, "L", left, y + 6, "M", left, y, "L", middle - half, y], "amber thin")
            canvas.path(["M", right, y - 6, "L", right, y + 6, "M", right, y, "L", middle + half, y], "amber thin")
            canvas.text(middle, y + 4, text, SMALL, "amber", anchor="middle")
        else:
            canvas.path(["M", left, y - 6, "L", left, y + 6, "M", left, y, "L", right, y, "M", right, y - 6, "L", right, y + 6],
                        "amber thin")  # fmt: skip
            canvas.text(left, y + 20, text, SMALL, "amber")
            return y + 24
    return y + 8


def _legend(canvas: Canvas, pattern: Pattern, y: float) -> float:
    used = _contiguities(pattern.stages, first=True)
    x = float(MARGIN)
    for name in (one for one in STROKES if one in used):
        canvas.arrow([(x, y), (x + 34, y)], "blue", STROKES[name])
        canvas.text(x + 42, y + 4, MEANINGS[name], SMALL, "faint")
        x += 42 + SMALL.width(MEANINGS[name]) + 22
    return y + 4 if used else y - 24


def _contiguities(stages: Sequence[Stage], *, first: bool) -> set[str]:
    found: set[str] = set()
    for index, stage in enumerate(stages):
        if not stage.negated and not (first and index == 0):
            found.add(stage.contiguity)
        if repeats(stage):
            found.add(contiguity_inside(stage))
        for inside in (stage.group or (), *(stage.any_of or ())):
            found |= _contiguities(inside, first=True)
    return found


def _skip_words(skip: Skip) -> str:
    told = SKIPS[skip.strategy].format(stage=skip.stage)
    return f"{told}, and fails where there is none" if skip.throw_on_miss and "{stage}" in SKIPS[skip.strategy] else told


# ---- a sequence


def _sequence(stages: Sequence[Stage], width_max: float, *, pattern: Pattern | None = None) -> Box:
    """Stages in order; those of the whole pattern (`pattern`) come with a beginning and an end."""
    boxes: list[tuple[Stage | None, Box]] = []
    for index, stage in enumerate(stages):
        last = pattern is not None and index == len(stages) - 1
        boxes.append((stage, _stage(stage, width_max - GAP, last=last, deadline_ms=_step_ms(stage, pattern if last else None))))
    if pattern is not None:
        boxes.append((None, match_box()))
    links = []
    for index, (into, _) in enumerate(boxes):
        if into is None or into.negated:
            links.append(_Link("", None))
        else:
            step = _step_ms(into, pattern if index == len(stages) - 1 else None)
            links.append(_Link(into.contiguity if index else "", step))
    rows: list[list[int]] = [[]]
    used = 0.0
    for index, (_, box) in enumerate(boxes):
        needed = links[index].length + box.width
        if rows[-1] and used + needed > width_max:
            rows.append([])
            used = 0.0
        rows[-1].append(index)
        used += needed
    return _rows([[(links[index], boxes[index][1]) for index in row] for row in rows], dot=pattern is not None)


def _step_ms(stage: Stage, pattern: Pattern | None) -> int | None:
    """From the event before to the one of `stage`, which may end a `pattern` whose window is of steps."""
    if stage.within_ms and stage.within == "previous_and_current":
        return stage.within_ms
    return pattern.within_ms if pattern is not None and pattern.within == "previous_and_current" else None


@dataclass(frozen=True, slots=True)
class _Link:
    """The arrow that leads to a box: a contiguity, or none where it means nothing, and the longest time it may take."""

    contiguity: str
    step_ms: int | None

    @property
    def length(self) -> float:
        """In pixels."""
        step = f"≤ {duration(self.step_ms)}" if self.step_ms else ""
        wanted = max(SMALL.width(self.contiguity), SMALL.width(step))
        return max(wanted + 28, GAP) if wanted else 34.0

    def draw(self, canvas: Canvas, x: float, y: float) -> None:
        """From `x` to the right."""
        with canvas.group(MEANINGS.get(self.contiguity, ""), link=self.contiguity):
            canvas.arrow([(x, y), (x + self.length, y)], "blue" if self.contiguity else "rim", STROKES.get(self.contiguity, ""))
            middle = x + (self.length - 8) / 2
            if self.contiguity:
                canvas.text(middle, y - 6, self.contiguity, SMALL, "blue", anchor="middle")
            if self.step_ms:
                canvas.text(middle, y + 15, f"≤ {duration(self.step_ms)}", SMALL, "amber", anchor="middle")


def _rows(rows: list[list[tuple[_Link, Box]]], *, dot: bool) -> Box:
    tops, y = [], 0.0
    ends: list[float] = []
    lead = 12.0 if dot else 0.0
    for row in rows:
        # each box hangs on the line that the one before left at: levels are relative to the row's entry
        level, highest, lowest = 0.0, 0.0, 0.0
        for _, box in row:
            highest = min(highest, level - box.enter)
            lowest = max(lowest, level - box.enter + box.height)
            level += box.leave - box.enter
        above = -highest
        tops.append((y + above, level))
        ends.append(lead + sum(link.length + box.width for link, box in row))
        y += above + lowest + ROW_GAP
    height, width = y - ROW_GAP, max(ends) + (14 if len(rows) > 1 else 0)

    def draw(canvas: Canvas, x: float, top: float) -> None:
        if dot:
            canvas.dot(x + 6, top + tops[0][0], 5, "rim")
        for number, row in enumerate(rows):
            at, line = x + lead, top + tops[number][0]
            if number:
                above = line - max(box.enter for _, box in row) - ROW_GAP / 2
                before = top + tops[number - 1][0] + tops[number - 1][1]
                end = x + ends[number - 1]
                canvas.arrow([(end, before), (x + width, before), (x + width, above), (x + 2, above), (x + 2, line), (at, line)],
                             "rim", head=False)  # fmt: skip
            for link, box in row:
                link.draw(canvas, at, line)
                at += link.length
                box.draw(canvas, at, line - box.enter)
                at += box.width
                line += box.leave - box.enter

    return Box(width, height, tops[0][0], tops[-1][0] + tops[-1][1], draw)


def _stage(stage: Stage, width_max: float, *, last: bool, deadline_ms: int | None) -> Box:
    if stage.group is not None:
        return frame(stage, [_sequence(stage.group, width_max - NESTED)])
    if stage.any_of is not None:
        return frame(stage, [_sequence(branch, width_max - NESTED) for branch in stage.any_of])
    if stage.all_of is not None:
        return frame(stage, [_stage(member, width_max, last=False, deadline_ms=None) for member in stage.all_of])
    return stage_box(stage, last=last, deadline_ms=deadline_ms)
