"""What a demo run found, for people (rich), for programs (JSON) and as a picture (SVG)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

import orjson
from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from processors.core import activity, overlap
from processors.proof import Comparison
from processors.report_patterns import PatternLine, length, timeline

__all__ = ["Check", "FileLine", "Findings", "Report", "findings", "show", "svg", "write"]

TOP: Final = 10
"""Lines of a ranking."""


@dataclass(frozen=True, slots=True)
class Check:
    """Two numbers that were counted in different places and must agree."""

    name: str
    expected: int
    found: int

    @property
    def holds(self) -> bool:
        """Whether they do."""
        return self.expected == self.found


@dataclass(frozen=True, slots=True)
class FileLine:
    """A file in the ranking of contended ones."""

    path: str
    overlaps: int
    changes: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What the tables say."""

    events: int
    agents: int
    windows: int
    windows_closed: int
    late: int
    files: int
    changes: int
    overlaps: int
    uncertain: int
    contended: int
    busiest: Sequence[tuple[str, int, int]]
    most_contended: Sequence[FileLine]
    per_year: Mapping[int, int]


@dataclass(slots=True)
class Report:
    """A run: what went in and out, whether it adds up, and whether replay and offline patterns agree."""

    history: str
    workers: int
    partitions: int
    read: int = 0
    produced: int = 0
    produce_rate: float = 0.0
    outputs: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    rate: float = 0.0
    total_seconds: float = 0.0
    dead_letters: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    replay: list[Comparison] = field(default_factory=list)
    findings: Findings | None = None
    versions: dict[str, int] = field(default_factory=dict)
    patterns: list[PatternLine] = field(default_factory=list)
    kept: str = ""

    @property
    def accounted(self) -> bool:
        """Whether every event is accounted for."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def equal(self) -> bool:
        """Whether every table equals its replay, and every pattern what was found offline."""
        proven = len(self.patterns) == len(self.versions) and all(one.equal for one in self.patterns)
        return bool(self.replay) and all(one.equal for one in self.replay) and proven

    @property
    def good(self) -> bool:
        """Whether the run proved what it should."""
        return self.accounted and self.equal

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        checks = [{**asdict(check), "holds": check.holds} for check in self.checks]
        return {**asdict(self), "checks": checks, "accounted": self.accounted, "replay_equal": self.equal}


def findings(activity_rows: Mapping[tuple[int, str], Any], overlap_rows: Mapping[tuple[int, str], Any]) -> Findings:
    """Read the tables' rows, by partition and key, for what people want to know."""
    rows = [(key, row) for (_, key), row in activity_rows.items() if activity.is_result(key)]
    per_agent: Counter[str] = Counter()
    changes_of: Counter[str] = Counter()
    per_year: Counter[int] = Counter()
    for key, row in rows:
        agent, _, start = key.rpartition("|")
        events = row["changes"] + row["files"] + row["late"]
        per_agent[agent] += events
        changes_of[agent] += row["changes"]
        per_year[datetime.fromtimestamp(int(start) / 1000, UTC).year] += events
    views = {path: overlap.view(state) for (_, path), state in overlap_rows.items()}
    contended = sorted((path for path, v in views.items() if v.found), key=lambda path: (-views[path].found, path))
    return Findings(
        events=per_agent.total(),
        agents=len(per_agent),
        windows=len(rows),
        windows_closed=sum(row["closed"] and row["first_ms"] is not None for _, row in rows),  # the others hold late events only
        late=sum(row["late"] for _, row in rows),
        files=len(views),
        changes=sum(v.remembered + v.forgotten + v.repeated for v in views.values()),
        overlaps=sum(v.found for v in views.values()),
        uncertain=sum(v.uncertain for v in views.values()),
        contended=len(contended),
        busiest=[
            (agent, n, changes_of[agent]) for agent, n in sorted(per_agent.items(), key=lambda one: (-one[1], one[0]))[:TOP]
        ],
        most_contended=[FileLine(p, views[p].found, views[p].remembered + views[p].forgotten) for p in contended[:TOP]],
        per_year=dict(sorted(per_year.items())),
    )


def show(report: Report, console: Console) -> None:
    """Print it for people."""
    found = report.findings
    console.print()
    console.print(f"[bold]{plain(report.history)}[/] through {report.workers} workers and {report.partitions} partitions")
    console.print(
        f"in: {report.read:,} lines, {report.produced:,} events at {report.produce_rate:,.0f}/s; "
        f"processed in {report.seconds:.1f} s, {report.rate:,.0f} events/s",
        soft_wrap=True,
    )
    console.print(
        "out: " + (", ".join(f"{n:,} on {plain(topic)}" for topic, n in report.outputs.items()) or "nothing"), soft_wrap=True
    )
    if report.dead_letters:
        _table(console, "dead letters", ["reason", "records"], sorted(report.dead_letters.items()))
    else:
        console.print("dead letters: none")
    if found is not None:
        console.print(
            f"{found.agents:,} agents in {found.windows:,} windows ({found.windows_closed:,} closed), "
            f"{found.late:,} late events; "
            f"{found.overlaps:,} overlaps in {found.contended:,} of {found.files:,} files"
            + (f", {found.uncertain:,} changes uncertain" if found.uncertain else ""),
            soft_wrap=True,
        )
        _table(console, "busiest agents", ["agent", "events", "changes"], found.busiest)
        _table(
            console,
            "most contended files",
            ["file", "overlaps", "changes"],
            [(f.path, f.overlaps, f.changes) for f in found.most_contended],
        )
    _show_patterns(report.patterns, console)
    _table(
        console,
        "accounted for" if report.accounted else "NOT accounted for",
        ["check", "expected", "found", ""],
        [(c.name, c.expected, c.found, "ok" if c.holds else "DIFFERS") for c in report.checks],
    )
    for one in report.replay:
        console.print(f"replay of table {one.table}: {one.rows:,} rows, {_verdict(one.equal, one.difference)}", soft_wrap=True)
    for line in report.patterns:
        verdict = _verdict(line.equal, line.difference)
        console.print(f"pattern {plain(line.name)} offline: {line.matches:,} matches, {verdict}", soft_wrap=True)
    if report.kept:
        console.print(f"kept: {plain(report.kept)}", soft_wrap=True)
    console.print(f"{'[bold green]all good[/]' if report.good else '[bold red]failed[/]'} after {report.total_seconds:.1f} s")


def _verdict(equal: bool, difference: str) -> str:
    return "[bold green]equal[/]" if equal else f"[bold red]NOT EQUAL[/]: {plain(difference)}"


def _show_patterns(lines: Sequence[PatternLine], console: Console) -> None:
    rows = [(line.name, line.description, line.matches, f"{line.keys:,} {line.key}s", line.late) for line in lines]
    _table(console, "patterns", ["pattern", "looks for", "matches", "of", "late events"], rows)
    quickest = [
        (line.name, one.key, ", ".join(one.agents), _day(one.ended), length(one.took_ms))
        for line in lines
        for one in line.quickest
    ]
    _table(console, "quickest matches", ["pattern", "file or task", "agents", "day", "took"], quickest)
    most = [(line.name, key, n) for line in lines for key, n in line.most]
    _table(console, "most matches", ["pattern", "file or task", "matches"], most)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def write(report: Report, directory: Path) -> list[Path]:
    """Write `report.json` and `report.svg` and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    document, picture = directory / "report.json", directory / "report.svg"
    document.write_bytes(orjson.dumps(report.document(), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    picture.write_text(svg(report), encoding="utf-8")
    return [document, picture]


WIDTH: Final = 900
LABEL: Final = 340
BAR: Final = 18
GAP: Final = 6


def svg(report: Report) -> str:
    """Draw events a year, busiest agents and most contended files as bars, and when the patterns matched."""
    found = report.findings
    charts: list[tuple[str, list[tuple[str, int]]]] = []
    if found is not None:
        charts = [
            ("Events by year of work", [(str(year), n) for year, n in found.per_year.items()]),
            ("Busiest agents, events", [(agent, n) for agent, n, _ in found.busiest]),
            ("Most contended files, overlaps", [(f.path, f.overlaps) for f in found.most_contended]),
        ]
    verdict = "equal" if report.equal else "NOT EQUAL"
    heading = escape(f"{report.history}: {report.produced:,} events, replay {verdict}")
    y, parts = 40, [f'<text x="20" y="28" class="h">{heading}</text>']
    for title, bars in charts:
        y += 20
        parts.append(f'<text x="20" y="{y}" class="t">{escape(title)}</text>')
        y += 12
        largest = max((n for _, n in bars), default=1) or 1
        for label, n in bars:
            long = max(1, round((WIDTH - LABEL - 100) * n / largest))
            name = label if len(label) <= 48 else "…" + label[-47:]
            parts.append(f'<text x="{LABEL - 8}" y="{y + 13}" class="l"><title>{escape(label)}</title>{escape(name)}</text>')
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{long}" height="{BAR}"/>')
            parts.append(f'<text x="{LABEL + long + 6}" y="{y + 13}">{n:,}</text>')
            y += BAR + GAP
    drawn, y = timeline(report.patterns, y + 12)
    parts += drawn
    style = "text{font:12px sans-serif;fill:#333}"
    style += ".h{font-size:18px}.t{font-size:14px;font-weight:bold}.l{text-anchor:end}rect{fill:#3b6ea5}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 20}" viewBox="0 0 {WIDTH} {y + 20}" role="img">'
    return (
        f'{head}\n<style>{style}</style>\n<rect width="100%" height="100%" style="fill:#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    listed = list(rows)
    if not listed:
        return
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if isinstance(listed[0][index], int) else "left", overflow="fold")
    for row in listed:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else plain(str(cell)) for cell in row))
    console.print(table)
