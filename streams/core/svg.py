"""SVG as text: the few shapes that pictures of patterns and sagas are made of, their colours, and how wide text is.

What holds: the result is well-formed whatever the texts hold (they are escaped, and characters that XML forbids are replaced);
the same calls give the same text; nothing is referred to by an id, so that several pictures fit on one page; all style is under
the class `antiphon-art`. What is not promised: the width of text is an estimate on the generous side, since fonts differ.

A picture has four parts: the size, `CSS`, a background, and what was drawn, in order. Colours follow `prefers-color-scheme`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import atan2, cos, sin
from typing import Final
from unicodedata import east_asian_width
from xml.sax.saxutils import escape, quoteattr

__all__ = ["BOLD", "MONO", "SMALL", "TEXT", "TITLE", "Canvas", "Font", "duration", "shorten", "wrap"]

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Font:
    """How a text is set.

    Attributes:
        css: Its class.
        size: In pixels.
        mono: Whether every letter is equally wide.
        scale: Wider than regular letters by this factor.
    """

    css: str
    size: float
    mono: bool = False
    scale: float = 1.0

    @property
    def line(self) -> float:
        """From one line to the next, in pixels."""
        return round(self.size * 1.4)

    def width(self, text: str) -> float:
        """About how wide `text` is, in pixels."""
        return self.size * self.scale * sum(map(self._em, text))

    def _em(self, letter: str) -> float:
        if east_asian_width(letter) in "WF":
            return 1.05
        if self.mono:
            return 0.605
        if letter in "iljt.,:;'|!()[] fI":
            return 0.38
        return 0.92 if letter in "mwMW@%" else 0.72 if letter.isupper() else 0.6


TEXT: Final = Font("t", 12)
SMALL: Final = Font("s", 11)
BOLD: Final = Font("b", 13, scale=1.1)
TITLE: Final = Font("h", 17, scale=1.1)
MONO: Final = Font("m", 11, mono=True)

_LIGHT: Final = {
    "paper": "#ffffff", "face": "#f6f8fa", "ink": "#1f2328", "faint": "#59636e", "rim": "#8c959f", "blue": "#0969da",
    "bluish": "#e8f4ff", "red": "#cf222e", "reddish": "#fff1f0", "amber": "#8a5a00", "amberish": "#fff8dc", "green": "#1a7f37",
    "greenish": "#e3fbe8", "violet": "#7a3fd4",
}  # fmt: skip
_DARK: Final = {
    "paper": "#0d1117", "face": "#161b22", "ink": "#e6edf3", "faint": "#9aa4af", "rim": "#6e7681", "blue": "#58a6ff",
    "bluish": "#10233c", "red": "#ff7b72", "reddish": "#2d1517", "amber": "#e3b341", "amberish": "#2b2211", "green": "#56d364",
    "greenish": "#10291a", "violet": "#bc8cff",
}  # fmt: skip
_SANS: Final = "ui-sans-serif,-apple-system,'Segoe UI','Helvetica Neue',Arial,sans-serif"
_MONO: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
_COLOURED: Final = ("ink", "faint", "blue", "red", "amber", "green", "violet", "rim")
_SHAPES: Final = (
    f".antiphon-art text{{font-family:{_SANS};font-size:12px}}"
    ".antiphon-art .s{font-size:11px}.antiphon-art .b{font-size:13px;font-weight:600}"
    ".antiphon-art .h{font-size:17px;font-weight:600}"
    f".antiphon-art .m{{font-family:{_MONO};font-size:11px;white-space:pre}}"
    ".antiphon-art .box{stroke-width:1.4}"
    ".antiphon-art .line{fill:none;stroke-width:1.6}.antiphon-art .thin{stroke-width:1}.antiphon-art .thick{stroke-width:2.4}"
    ".antiphon-art .dash{stroke-dasharray:6 4}.antiphon-art .dots{stroke-dasharray:0.1 4.5;stroke-linecap:round;stroke-width:2.2}"
)


def _colours(of: dict[str, str]) -> str:
    rules = [f".antiphon-art .{name}{{fill:{of[name]}}}" for name in _COLOURED]
    rules += [f".antiphon-art .line.{name},.antiphon-art .rim-{name}{{stroke:{of[name]}}}" for name in _COLOURED]
    rules += [f".antiphon-art .on-{name}{{fill:{of[name]}}}" for name in ("paper", "face", *(c for c in of if c.endswith("ish")))]
    return "".join((*rules, ".antiphon-art .line{fill:none}"))


CSS: Final = f"{_SHAPES}{_colours(_LIGHT)}@media (prefers-color-scheme:dark){{{_colours(_DARK)}}}"
"""One style for every picture; fills are classes of their own, because `var()` is unknown to most converters."""

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)


def _n(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")  # + 0.0: there is no -0


class Canvas:
    """What has been drawn so far."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, css: str, *, radius: float = 8) -> None:
        """A rectangle with round corners."""
        size = f'width="{_n(width)}" height="{_n(height)}"'
        self._parts.append(f'<rect x="{_n(x)}" y="{_n(y)}" {size} rx="{_n(radius)}" class="{css}"/>')

    def dot(self, x: float, y: float, radius: float, css: str) -> None:
        """A circle."""
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" class="{css}"/>')

    def text(self, x: float, y: float, text: str, font: Font = TEXT, css: str = "ink", *, anchor: str = "start") -> None:
        """One line of text, its baseline at `y`; `anchor` is start, middle or end."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{where} class="{font.css} {css}">{escape(_clean(text))}</text>')

    def path(self, data: Sequence[str | float], css: str) -> None:
        """A path, as commands and numbers."""
        drawn = " ".join(part if isinstance(part, str) else _n(part) for part in data)
        self._parts.append(f'<path d="{drawn}" class="line {css}"/>')

    def head(self, tip: Point, back: Point, colour: str) -> None:
        """An arrow's head at `tip`, for a line that comes from `back`."""
        angle = atan2(tip[1] - back[1], tip[0] - back[0])
        wings = ((-9 * cos(angle) + side * sin(angle), -9 * sin(angle) - side * cos(angle)) for side in (4.2, -4.2))
        (ax, ay), (bx, by) = wings
        points = f"{_n(tip[0])},{_n(tip[1])} {_n(tip[0] + ax)},{_n(tip[1] + ay)} {_n(tip[0] + bx)},{_n(tip[1] + by)}"
        self._parts.append(f'<polygon points="{points}" class="{colour}"/>')

    def arrow(self, points: Sequence[Point], colour: str, css: str = "", *, head: bool = True, radius: float = 8) -> None:
        """A line along `points` with round corners, and a head at its end."""
        end, back = points[-1], points[-2]
        stop = (end[0] - 7 * (end[0] > back[0]) + 7 * (end[0] < back[0]), end[1] - 7 * (end[1] > back[1])) if head else end
        data: list[str | float] = ["M", *points[0]]
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            data += ["L", *_toward(corner, before, radius), "Q", *corner, *_toward(corner, after, radius)]
        self.path([*data, "L", *stop], f"{colour} {css}".strip())
        if head:
            self.head(end, back, colour)

    @contextmanager
    def group(self, title: str = "", **data: str) -> Iterator[None]:
        """What is drawn meanwhile belongs together: `title` is shown when pointed at, `data` are attributes for programs."""
        attributes = "".join(f" data-{name}={quoteattr(_clean(value))}" for name, value in data.items())
        self._parts.append(f"<g{attributes}>" + (f"<title>{escape(_clean(title))}</title>" if title else ""))
        yield
        self._parts.append("</g>")

    def svg(self, width: float, height: float, title: str, description: str) -> str:
        """The picture, `width` by `height` pixels."""
        size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
        told = f"<title>{escape(_clean(title))}</title>\n<desc>{escape(_clean(description))}</desc>"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} class="antiphon-art" role="img">\n{told}\n<style>{CSS}</style>'
        paper = f'<rect width="{_n(width)}" height="{_n(height)}" rx="10" class="on-paper"/>'
        return "\n".join((head, paper, *self._parts, "</svg>\n"))


def _toward(corner: Point, other: Point, radius: float) -> Point:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(dx), abs(dy)) or 1.0
    part = min(radius, length / 2) / length
    return corner[0] + dx * part, corner[1] + dy * part


def shorten(text: str, font: Font, width: float) -> str:
    """`text`, cut with an ellipsis where it would be wider than `width` pixels."""
    if font.width(text) <= width:
        return text
    while text and font.width(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, font: Font, width: float, lines_max: int) -> list[str]:
    """`text` in lines of at most `width` pixels, broken at blanks if possible; … ends what does not fit."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest:
        if font.width(rest) <= width:
            return [*lines, rest]
        if len(lines) == lines_max - 1:
            return [*lines, shorten(rest, font, width)]
        cut = len(rest)
        while cut > 1 and font.width(rest[:cut]) > width:
            cut -= 1
        blank = rest.rfind(" ", 1, cut + 1)
        cut = blank if blank > cut // 2 else cut
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))


def duration(ms: int) -> str:
    """A time as people say it: `5 min`, `1 h 30 min`, `1.5 s`; exact."""
    if 1000 < ms < 60_000 and ms % 1000:
        return f"{ms / 1000:g} s"
    parts: list[str] = []
    for unit, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count:,} {unit}")
    return " ".join(parts) or "0 ms"
