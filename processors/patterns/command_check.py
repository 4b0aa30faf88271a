"""`antiphon cep check CASES.jsonl...`: does the engine find what Apache Flink found?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from processors.patterns.counting import counted
from streams.cli.output import Exit, JsonFlag, err, fail, out, print_json, print_table

if TYPE_CHECKING:
    from processors.patterns.check import Verdict

__all__ = ["Chosen", "check"]

FAILURES_SHOWN: Final = 10
"""Failed cases that are listed: the first ones are as a rule one mistake; --json has all."""
DIFFERENCES_SHOWN: Final = 6
"""Differences of one failed case: a screen holds some cases then."""


class Chosen(StrEnum):
    """The engine's backends, as an option."""

    auto = "auto"
    general = "general"
    generated = "generated"


@dataclass(slots=True)
class Tally:
    """Verdicts, counted.

    Attributes:
        passed: Cases that agree to the letter.
        deviations: By rule: they differ as docs/cep-differences.md says, and in nothing else.
        skipped: By reason.
        failed: The verdicts of those that differ.
    """

    passed: int = 0
    deviations: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[Path, Verdict]] = field(default_factory=list)

    def add(self, path: Path, verdict: Verdict) -> None:
        """Count a verdict."""
        if verdict.status == "passed":
            self.passed += 1
        elif verdict.status == "deviation":
            self.deviations[verdict.rule] += 1
        elif verdict.status == "skipped":
            self.skipped[verdict.rule] += 1
        else:
            self.failed.append((path, verdict))

    @property
    def cases(self) -> int:
        """How many were read."""
        return self.passed + self.deviations.total() + self.skipped.total() + len(self.failed)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        from processors.patterns.check import DEVIATIONS

        return {
            "cases": self.cases,
            "passed": self.passed,
            "failed": len(self.failed),
            "deviations": self.deviations.total(),
            "skipped": self.skipped.total(),
            "deviations_by_rule": {
                rule: {"cases": count, "reason": DEVIATIONS[rule]} for rule, count in sorted(self.deviations.items())
            },
            "skipped_by_reason": dict(sorted(self.skipped.items())),
            "failures": [
                {"file": str(path), "case": verdict.name, "differences": list(verdict.differences)}
                for path, verdict in self.failed
            ],
        }


def check(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="CASES", help="Files of recorded cases, one a line.", exists=True, dir_okay=False, show_default=False
        ),
    ],
    backend: Annotated[Chosen, typer.Option(help="Which backend runs them.")] = Chosen.auto,
    json: JsonFlag = False,
) -> None:
    """Run recorded cases of Apache Flink CEP and compare matches, timeouts, late events and refused patterns as multisets.

    Exit code 1 where a case differs, 2 where a file holds no cases. A deliberate deviation is recognised by its rule: with
    Flink's way the case must agree to the letter. Cases whose `ties` is `observed` are skipped.
    """
    from processors.patterns.check import CaseError

    tally = Tally()
    try:
        for path in paths:
            _check_file(path, backend, tally)
    except (CaseError, UnicodeDecodeError) as error:
        raise fail(str(error), Exit.USAGE) from None
    if json:
        print_json(tally.document())
    else:
        _show(tally)
    if tally.failed:
        raise typer.Exit(Exit.FAILED)


def _check_file(path: Path, backend: Chosen, tally: Tally) -> None:
    """Check one file, with a bar on a terminal.

    Raises:
        CaseError: It holds something else, or nothing.
    """
    from rich.progress import Progress

    from processors.patterns.case_shape import shape_problem
    from processors.patterns.check import CaseError, cases_of, check_case

    with path.open("rb") as lines:
        total = sum(1 for line in lines if line.strip())
    before = tally.cases
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        for number, case in enumerate(progress.track(cases_of(path), total=total, description=path.name), 1):
            if problem := shape_problem(case):
                raise CaseError(f"{path}: case {number} ({case.get('name', 'without a name')}): {problem}")
            tally.add(path, check_case(case, backend.value))
    if tally.cases == before:
        raise CaseError(f"{path}: no case in it")


def _show(tally: Tally) -> None:
    from processors.patterns.check import DEVIATIONS

    rows: list[tuple[str, int, str]] = [("passed", tally.passed, "")]
    rows += [("deviation", count, f"{rule}: {DEVIATIONS[rule]}") for rule, count in sorted(tally.deviations.items())]
    rows += [("skipped", count, reason) for reason, count in sorted(tally.skipped.items())]
    rows.append(("failed", len(tally.failed), ""))
    print_table(["", "cases", ""], rows)
    for path, verdict in tally.failed[:FAILURES_SHOWN]:
        out.print(f"\nfailed: {verdict.name} ({path})", style="bold", markup=False, highlight=False, soft_wrap=True)
        for difference in verdict.differences[:DIFFERENCES_SHOWN]:
            out.print(f"  {difference}", markup=False, highlight=False, soft_wrap=True)
        more = len(verdict.differences) - DIFFERENCES_SHOWN
        if more > 0:
            out.print(f"  and {more:,} more", style="dim")
    more = len(tally.failed) - FAILURES_SHOWN
    if more > 0:
        out.print(f"\nand {counted(more, 'more failed case')}; --json has all", style="dim")
