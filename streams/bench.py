"""What a benchmark reports: numbers with their units, and the bars that they are held against.

A benchmark is found by entry point group ``antiphon.benchmarks``: ``function(progress) -> BenchReport``, where ``progress`` takes
one line of text about what runs now. ``antiphon bench NAME --json`` prints :meth:`BenchReport.as_json`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Bar", "Bench", "BenchReport", "Progress", "Row"]

Progress = Callable[[str], None]
"""Is told in one line what runs now."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number: the median of its rounds."""

    name: str
    value: float
    unit: str
    rounds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise about a number, in words (``>= 15x stock Faust``), what was found, and whether it holds."""

    name: str
    bar: str
    value: float
    holds: bool


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that one benchmark found."""

    bench: str
    rows: tuple[Row, ...]
    bars: tuple[Bar, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every bar does."""
        return all(bar.holds for bar in self.bars)

    def as_json(self) -> dict[str, Any]:
        """``{"bench", "rows": [{"name", "value", "unit", "rounds"}], "bars": [{"name", "bar", "value", "holds"}]}``."""
        rows = [{**asdict(row), "rounds": list(row.rounds)} for row in self.rows]
        return {"bench": self.bench, "rows": rows, "bars": [asdict(bar) for bar in self.bars]}


Bench = Callable[[Progress], BenchReport]
"""What the entry point names."""
