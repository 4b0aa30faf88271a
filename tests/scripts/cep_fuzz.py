"""Fresh random patterns through real Flink CEP and through both backends: `python -m tests.scripts.cep_fuzz -n 20000 -s 1`.

Every case that differs without a rule (`DEVIATIONS` in processors/patterns/check.py) is made as small as it gets while it still
differs, and written to `--out`, a file of its own, with Flink's answer in it: `antiphon cep check` runs it again. The exit code
is 1 then, and 2 where there is no Flink to ask.

Needs Java 17 and, the first time, Maven: the oracle is copied to `--cache` and built there. About 100 cases a second.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from processors.patterns.check import Backend, check_case
from tests.scripts.cep_cases import KINDS, case
from tests.scripts.cep_flink import Flink, FlinkMissing, prepared

Case = dict[str, Any]
Oracle = Callable[[Case], Case]

BACKENDS: tuple[Backend, ...] = ("general", "generated")
SHRINK_STEPS_MAX = 3000
"""Tries to make one case smaller: each asks Flink again, a few milliseconds."""


def verdicts(filled: Case) -> list[tuple[str, str]]:
    """Status and rule of a case with an expectation, by each backend; a backend that raises has failed."""
    found: list[tuple[str, str]] = []
    for backend in BACKENDS:
        try:
            verdict = check_case(filled, backend)
            found.append((verdict.status, verdict.rule))
        except Exception as error:  # noqa: BLE001 whatever it is, it is a difference: Flink had an answer
            found.append(("failed", f"{backend}: {type(error).__name__}: {error}"))
    return found


def differs(filled: Case) -> bool:
    """Whether a backend's answer is not Flink's, and no rule says why."""
    return any(status == "failed" for status, _ in verdicts(filled))


# ---------------------------------------------------------------------- making a case small


def smaller(one: Case) -> Iterator[Case]:
    """The case with one thing less: an event, a stage, a quantifier, a window, a part of a condition."""
    for index in reversed(range(len(one["events"]))):
        yield {**one, "events": one["events"][:index] + one["events"][index + 1 :]}
    if "final_watermark" in one:
        yield {key: value for key, value in one.items() if key != "final_watermark"}
    for pattern in _smaller_patterns(one["pattern"]):
        yield {**one, "pattern": pattern}
    for index, event in enumerate(one["events"]):
        for name in event:
            if name not in {"id", "ts", "watermark"}:
                events = copy.deepcopy(one["events"])
                del events[index][name]
                yield {**one, "events": events}


def _smaller_patterns(pattern: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("skip", "within", "within_ms"):
        if name in pattern:
            yield {key: value for key, value in pattern.items() if key != name}
    for stages in _smaller_sequences(pattern["stages"]):
        yield {**pattern, "stages": stages}


def _smaller_sequences(stages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for index, stage in enumerate(stages):
        before, after = stages[:index], stages[index + 1 :]
        if len(stages) > 1 and (index or not after[0].get("negated")):
            yield before + after
        if "group" in stage:
            yield before + stage["group"] + after
            for group in _smaller_sequences(stage["group"]):
                yield [*before, {**stage, "group": group}, *after]
        for name in stage:
            if name not in {"name", "group", "negated", "contiguity"}:
                yield [*before, {key: value for key, value in stage.items() if key != name}, *after]
        for name in ("where", "until"):
            for part in _parts(stage.get(name)):
                yield [*before, {**stage, name: part}, *after]
        if (stage.get("times") or {}).get("within_ms") is not None:
            yield [*before, {**stage, "times": {**stage["times"], "within_ms": None}}, *after]


def _parts(condition: Any) -> Iterator[Any]:
    if isinstance(condition, dict) and condition.get("op") in {"and", "or", "not"}:
        yield from condition["args"]
        for index, argument in enumerate(condition["args"]):
            for part in _parts(argument):
                yield {**condition, "args": [*condition["args"][:index], part, *condition["args"][index + 1 :]]}


def shrunk(one: Case, oracle: Oracle, bad: Callable[[Case], bool] = differs) -> Case:
    """The smallest case found that is still bad, with the oracle's answer."""
    steps = 0
    progressing = True
    while progressing and steps < SHRINK_STEPS_MAX:
        progressing = False
        for candidate in smaller(one):
            steps += 1
            filled = oracle(candidate)
            if filled["expect"].get("error") not in {"format", "cap", "flink_bug"} and bad(filled):
                one, progressing = filled, True
                break
    return one


# ---------------------------------------------------------------------- the run


def fuzz(cases: Iterator[Case], oracle: Oracle, out: Path, advance: Callable[[], None]) -> Counter[str]:
    """Run cases; what became of them, counted. Each difference is written to `out`."""
    counts: Counter[str] = Counter()
    for one in cases:
        filled = oracle(one)
        found = verdicts(filled)
        status, rule = next((verdict for verdict in found if verdict[0] == "failed"), found[0])
        if status == "passed":
            expect = filled["expect"]
            rule = expect.get("error") or ("with matches" if expect["matches"] else "without a match")
        counts[f"{status}: {rule}" if rule else status] += 1
        if status == "failed":
            counts["differences"] += 1
            out.mkdir(parents=True, exist_ok=True)
            small = shrunk(filled, oracle)
            (out / f"{one['name']}.jsonl").write_text(json.dumps(small) + "\n", encoding="utf-8")
        advance()
    return counts


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(prog="cep_fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--cases", type=int, default=20_000, help="how many, half in each mode (default %(default)s)")
    parser.add_argument("-s", "--seed", type=int, default=1, help="same seed, same cases (default %(default)s)")
    parser.add_argument(
        "--mode", choices=[*KINDS, "both"], default="both", help="nfa: in order; operator: disorder and watermarks"
    )
    parser.add_argument("--oracle", type=Path, default=Path("../shared/cep-oracle"), help="the oracle (default %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/antiphon/cep-oracle", help="where a copy is built")
    parser.add_argument("--out", type=Path, default=Path("cep-differences"), help="where differences go (default %(default)s)")
    options = parser.parse_args(arguments)
    console = Console()
    modes = KINDS if options.mode == "both" else (options.mode,)
    cases = (case(options.seed, number, modes[number % len(modes)]) for number in range(options.cases))
    columns = (TextColumn("fuzzing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        directory = prepared(options.oracle.resolve(), options.cache)
        with Flink(directory) as flink, Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=options.cases)
            counts = fuzz(cases, flink, options.out, lambda: progress.advance(task))
    except FlinkMissing as error:
        console.print(f"cep_fuzz: {error}", style="red", markup=False)
        return 2
    differences = counts.pop("differences", 0)
    for what, count in sorted(counts.items()):
        console.print(f"{count:>8,}  {what}", markup=False)
    console.print(f"{differences:>8,}  unexplained" + (f", in {options.out}" if differences else ""), markup=False)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
