"""A cycle of transactions as a picture: its transactions on a circle, each with an arrow to the next and why."""

from __future__ import annotations

import math
from typing import Final
from xml.sax.saxutils import escape

from processors.core.verify.transactions.judging import Anomaly

__all__ = ["draw"]

SHOWN_MAX: Final = 12
"""Transactions of one picture: more cannot be read."""
WIDTH: Final = 900
RADIUS: Final = 230
CENTRE: Final = (450, 300)
BOX: Final = (150, 34)
COLOURS: Final = {"ww": "#1f5f9e", "wr": "#2f7d32", "rw": "#b3261e", "rw predicate": "#8e24aa", "realtime": "#777777"}


def draw(anomaly: Anomaly) -> str:
    """Return an SVG of an anomaly's cycle; of one without a cycle its text alone."""
    steps = anomaly.cycle[:SHOWN_MAX]
    lines = [f'<text x="20" y="30" font-size="18" font-weight="bold">{escape(anomaly.name)}</text>']
    if anomaly.text:
        lines.append(f'<text x="20" y="56" font-size="13">{escape(anomaly.text)}</text>')
    places = [_place(number, len(steps)) for number in range(len(steps))]
    for number, (_, edge) in enumerate(steps):
        (x1, y1), (x2, y2) = places[number], places[(number + 1) % len(steps)]
        ax, ay = _towards(x1, y1, x2, y2)
        bx, by = _towards(x2, y2, x1, y1)
        colour = COLOURS.get(edge.kind, "#777777")
        bend = 40 if len(steps) == 2 else 0
        mx, my = (ax + bx) / 2, (ay + by) / 2 + (bend if number else -bend)
        lines.append(
            f'<path d="M{ax:.0f},{ay:.0f} Q{mx:.0f},{my:.0f} {bx:.0f},{by:.0f}" '
            f'stroke="{colour}" fill="none" marker-end="url(#a)"/>'
        )
        label = f"{edge.kind} {edge.key}".strip()
        lines.append(
            f'<text x="{mx:.0f}" y="{my - 4:.0f}" font-size="12" text-anchor="middle" fill="{colour}">{escape(label)}</text>'
        )
    for (x, y), (one, _) in zip(places, steps, strict=True):
        lines.append(
            f'<rect x="{x - BOX[0] / 2:.0f}" y="{y - BOX[1] / 2:.0f}" width="{BOX[0]}" height="{BOX[1]}" '
            f'rx="6" fill="#f4f4f4" stroke="#333"/>'
        )
        lines.append(f'<text x="{x:.0f}" y="{y + 5:.0f}" font-size="13" text-anchor="middle">{escape(_short(one.name))}</text>')
    for number, (_, edge) in enumerate(steps):
        lines.append(f'<text x="20" y="{CENTRE[1] * 2 + 20 + 18 * number}" font-size="12">{escape(edge.why)}</text>')
    height = CENTRE[1] * 2 + 40 + 18 * len(steps) if steps else 80
    arrow = '<path d="M0,0 L9,4 L0,8 z"/>'
    marker = f'<defs><marker id="a" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">{arrow}</marker></defs>'
    body = "\n".join(lines)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    return f"{head}\n{marker}\n{body}\n</svg>\n"


def _place(number: int, count: int) -> tuple[float, float]:
    if count == 1:
        return CENTRE
    angle = 2 * math.pi * number / count - math.pi / 2 if count > 2 else math.pi * (1 + number)
    return CENTRE[0] + RADIUS * math.cos(angle), CENTRE[1] + RADIUS * math.sin(angle)


def _towards(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float]:
    """Return where a line from one box's centre to another's leaves the first."""
    dx, dy = x2 - x1, y2 - y1
    share = min(BOX[0] / 2 / abs(dx) if dx else math.inf, BOX[1] / 2 / abs(dy) if dy else math.inf)
    return x1 + dx * share, y1 + dy * share


def _short(name: str) -> str:
    return name if len(name) <= 20 else name[:8] + "…" + name[-11:]
