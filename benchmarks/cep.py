"""Our pattern engine against Apache Flink's, and what a million keys leave behind; `antiphon bench cep`.

    engine   our matcher alone in a fresh process, Flink's NFA alone in a fresh JVM, in turn, on the oracle's stream (BENCH.md)
    memory   a million keys, each with one partial match that times out
    job      our worker on an embedded broker, exactly once, beside Flink's job in its MiniCluster (`benchmarks.cep_job`)

Rates are medians of the rounds, ratios medians of the ratios within a round. Where Flink cannot be run (no oracle, Java or
Maven) a row says so, ours is measured alone, and no bar that needs Flink is claimed.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks import cep_job
from benchmarks.children import python, result
from benchmarks.oracle import Flink, Found, OracleMissing, prepare
from streams.bench import Bar, BenchReport, Progress, Row

__all__ = ["bench"]

ROUNDS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_ROUNDS", "3"))
EVENTS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_EVENTS", "2000000"))
"""What BENCH.md asks for; fewer are for trying things out: a JVM is cold in its first seconds."""
KEYS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_KEYS", "1000000"))
PARTS: Final = frozenset(os.environ.get("ANTIPHON_TEST_BENCH_PARTS", "engine,memory,job").split(","))

RATIO_MIN: Final = {"P1": 4.0, "P2": 3.0, "P2x3": 4.0, "P3": 4.0, "P2skip": 1.2}
"""Ours to Flink's NFA."""
LEFT_MAX: Final = 0.05
"""The part of a peak's growth that may stay: allocators keep a few pages for the next."""
MIB: Final = 1 << 20


@dataclass(slots=True)
class Report:
    """Rows and bars as they come in."""

    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def row(self, name: str, unit: str, rounds: list[float], digits: int = 0) -> float:
        """Add the median of the rounds as a row and return it."""
        value = statistics.median(rounds)
        self.rows.append(Row(name, round(value, digits), unit, tuple(round(one, digits) for one in rounds)))
        return value

    def at_least(self, name: str, value: float, bar: float) -> None:
        """Add a bar that `value` must reach."""
        self.bars.append(Bar(name, f">= {bar}", round(value, 3), value >= bar))

    def at_most(self, name: str, value: float, bar: float) -> None:
        """Add a bar that `value` must not pass."""
        self.bars.append(Bar(name, f"<= {bar}", round(value, 3), value <= bar))


def differences(ours: Mapping[str, Any], theirs: Found) -> int:
    """How many of the three counts differ: matches, timed-out partial matches, checksum."""
    pairs = (
        (ours["matches"], theirs.matches),
        (ours["timed_out"], theirs.timed_out),
        (ours["checksum"], theirs.checksum),
    )
    return sum(a != b for a, b in pairs)


def _most(pairs: list[tuple[dict[str, Any], Found]]) -> int:
    return max(differences(ours, theirs) for ours, theirs in pairs)


def _engine(report: Report, flink: Flink | None, progress: Progress) -> None:
    ours: dict[str, list[dict[str, Any]]] = {name: [] for name in RATIO_MIN}
    theirs: dict[str, list[Found]] = {name: [] for name in RATIO_MIN}
    for number in range(1, ROUNDS + 1):
        for name in RATIO_MIN:
            found = result(python("cep_engine", name, str(EVENTS)))
            ours[name].append(found)
            line = f"round {number} of {ROUNDS}: {name}: {found['rate']:,.0f} events/s ({found['backend']})"
            if flink is not None:
                theirs[name].append(flink.run("nfa", name, EVENTS))
                line += f", Flink's NFA {theirs[name][-1].rate:,.0f}"
            progress(line)
    for name, bar in RATIO_MIN.items():
        report.row(f"{name}: ours, {ours[name][0]['backend']}", "events/s", [one["rate"] for one in ours[name]])
        for count in ("matches", "timed_out", "checksum"):
            report.row(f"{name}: {count.replace('_', ' ')}", "", [one[count] for one in ours[name]])
        if theirs[name]:
            report.row(f"{name}: Flink's NFA", "events/s", [one.rate for one in theirs[name]])
            pairs = list(zip(ours[name], theirs[name], strict=True))
            ratio = report.row(f"{name}: ours / Flink's NFA", "ratio", [a["rate"] / b.rate for a, b in pairs], 2)
            report.at_least(f"{name}: ours / Flink's NFA", ratio, bar)
            report.at_most(f"{name}: matches, timed out, checksum that differ", _most(pairs), 0)


def _jobs(report: Report, flink: Flink | None, progress: Progress) -> None:
    ours: dict[str, list[dict[str, Any]]] = {name: [] for name in cep_job.PATTERNS}
    theirs: dict[str, list[Found]] = {name: [] for name in cep_job.PATTERNS}
    starts: list[float] = []
    with cep_job.jobs(EVENTS, progress) as jobs:
        for number in range(1, ROUNDS + 1):
            if flink is not None:
                starts.append(jobs.start_s(flink))
            for name in cep_job.PATTERNS:
                ours[name].append(jobs.ours(name))
                line = f"job, round {number} of {ROUNDS}: {name}: {ours[name][-1]['rate']:,.0f} events/s"
                if flink is not None:
                    theirs[name].append(jobs.theirs(flink, name))
                    line += f", Flink's job {theirs[name][-1].rate:,.0f}"
                progress(line)
    if starts:
        report.row("start of Flink's job, in its time", "s", starts, 2)
    for name in cep_job.PATTERNS:
        report.row(f"{name} from Kafka: ours, exactly once", "events/s", [one["rate"] for one in ours[name]])
        report.row(f"{name} from Kafka: processor time", "us/event", [one["cpu_us"] for one in ours[name]], 2)
        if theirs[name]:
            report.row(f"{name}: Flink's job", "events/s", [one.rate for one in theirs[name]])
            pairs = list(zip(ours[name], theirs[name], strict=True))
            ratio = report.row(f"{name} from Kafka: ours / Flink's job", "ratio", [a["rate"] / b.rate for a, b in pairs], 2)
            report.at_least(f"{name} from Kafka: ours / Flink's job", ratio, cep_job.RATIO_MIN)
            report.at_most(f"{name} from Kafka: matches, timed out, checksum that differ", _most(pairs), 0)


def _memory(report: Report, progress: Progress) -> None:
    rounds = []
    for number in range(1, ROUNDS + 1):
        rounds.append(result(python("cep_memory", str(KEYS), "rss")))
        progress(f"memory, round {number} of {ROUNDS}: {(rounds[-1]['peak'] - rounds[-1]['before']) / MIB:,.0f} MiB and back")
    traced = result(python("cep_memory", str(KEYS), "traced"))
    for when in ("before", "peak", "after"):
        report.row(f"memory {when}, {KEYS:,} keys", "MiB resident", [one[when] / MIB for one in rounds], 1)
    for when in ("before", "peak", "after"):
        report.row(f"memory {when}, {KEYS:,} keys, Python's own", "MiB", [traced[when] / MIB], 1)
    report.row("a key with one partial match, with its event", "bytes", [(traced["peak"] - traced["before"]) / traced["keys"]])
    left = report.row("growth left", "part", [left_of(one) for one in rounds], 4)
    report.at_most("resident memory left of the growth", left, LEFT_MAX)
    report.at_most("Python's memory left of the growth", left_of(traced), LEFT_MAX)
    report.at_most("keys left of those that timed out", max(one["keys_left"] for one in rounds), 0)


def left_of(found: Mapping[str, float]) -> float:
    """Which part of what was taken between before and the peak is still there."""
    return max(0.0, (found["after"] - found["before"]) / (found["peak"] - found["before"]))


def bench(progress: Progress) -> BenchReport:
    """Run everything that can be run here, `ROUNDS` times over."""
    report, flink = Report(), None
    if PARTS & {"engine", "job"}:
        try:
            flink = prepare(progress)
        except OracleMissing as missing:
            progress(f"without Flink: {missing}")
            report.rows.append(Row(f"Flink not measured: {missing}", 0, "runs"))
    if "engine" in PARTS:
        _engine(report, flink, progress)
    if "memory" in PARTS:
        _memory(report, progress)
    if "job" in PARTS:
        _jobs(report, flink, progress)
    return BenchReport("cep", tuple(report.rows), tuple(report.bars))
