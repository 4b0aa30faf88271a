"""What the patterns found, as a part of the demo's report: lines for people and programs, and a picture of when they matched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from processors.core.cep.outputs import Match
from processors.proof import Comparison
from processors.sightings import Found

__all__ = ["PatternLine", "Sighting", "length", "pattern_line", "timeline"]

TOP: Final = 5
"""Matches and keys shown of one pattern: some lines each, and all are in the topic."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One match: its key, its agents in the order in which they came in, when it ended (ms) and how long it took (ms)."""

    key: str
    agents: Sequence[str]
    ended: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class PatternLine:
    """What one pattern found.

    Attributes:
        name: The pattern.
        description: What it looks for.
        key: The field by which events belong together.
        version: As published.
        matches: How many.
        keys: Of how many keys.
        late: Events that took no part: their time is before that of one that came earlier.
        quickest: The matches that took least time.
        most: The keys with most matches.
        ended: When each match ended, in order.
        equal: Whether the workers said exactly what was found offline.
        difference: The first difference, where not.
    """

    name: str
    description: str
    key: str
    version: int
    matches: int
    keys: int
    late: int
    quickest: Sequence[Sighting]
    most: Sequence[tuple[str, int]]
    ended: Sequence[int]
    equal: bool
    difference: str = ""


def pattern_line(found: Found, version: int, comparison: Comparison) -> PatternLine:
    """Sum up what a pattern found."""
    sightings = [_sighting(match) for match in found.matches]
    keys = Counter(one.key for one in sightings)
    return PatternLine(
        name=found.definition.name,
        description=found.definition.description,
        key=found.definition.key or "key",
        version=version,
        matches=comparison.rows,
        keys=len(keys),
        late=found.late,
        quickest=sorted(sightings, key=lambda one: (one.took_ms, one.ended, one.key))[:TOP],
        most=sorted(((key, n) for key, n in keys.items() if n > 1), key=lambda one: (-one[1], one[0]))[:TOP],
        ended=sorted(one.ended for one in sightings),
        equal=comparison.equal,
        difference=comparison.difference,
    )


def _sighting(match: Match) -> Sighting:
    events = sorted((event for taken in match.stages.values() for event in taken), key=lambda event: int(event["ts"]))
    agents = tuple(dict.fromkeys(str(event["agent"]) for event in events))
    ended = int(events[-1]["ts"])
    return Sighting(str(match.key), agents, ended, ended - match.started)


def length(ms: int) -> str:
    """Return a length of time for people: its two largest units."""
    seconds = ms // 1000
    for unit, size, below, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // part
            return f"{seconds // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{seconds} s"


WIDTH: Final = 900
LEFT: Final = 170
RIGHT: Final = 60
ROW: Final = 34


def timeline(lines: Sequence[PatternLine], top: int) -> tuple[list[str], int]:
    """Draw when each pattern matched: a row a pattern, a stroke a match, years below.

    Args:
        lines: The patterns.
        top: Where it begins, from above.

    Returns:
        SVG elements, and where the drawing ends; nothing where nothing matched.
    """
    moments = [ended for line in lines for ended in line.ended]
    if not moments:
        return [], top
    first, last = _year(min(moments)), _year(max(moments)) + 1
    begin, end = _new_year(first), _new_year(last)

    def across(ms: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (ms - begin) / (end - begin)

    parts, y = [f'<text x="20" y="{top + 20}" class="t">When patterns matched</text>'], top + 32
    for line in lines:
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 18}" class="l"><title>{escape(line.description)}</title>{escape(line.name)}</text>'
        )
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{ROW - 8}" style="fill:#eef2f7"/>')
        strokes = "".join(f"M{across(ended):.1f} {y}v{ROW - 8}" for ended in line.ended)
        parts.append(f'<path d="{strokes}" style="stroke:#b3392e;stroke-opacity:.55;stroke-width:1.5"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 6}" y="{y + 18}">{line.matches:,}</text>')
        y += ROW
    parts += [
        f'<text x="{across(_new_year(year)):.1f}" y="{y + 10}" style="text-anchor:middle">{year}</text>'
        for year in _years(first, last)
    ]
    return parts, y + 16


def _years(first: int, last: int) -> Iterator[int]:
    """Yield some twelve years of those between, so that they do not run into each other."""
    yield from range(first, last + 1, max(1, (last - first) // 12))


def _year(ms: int) -> int:
    return datetime.fromtimestamp(ms / 1000, UTC).year


def _new_year(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
