"""``antiphon bench NAME``: runs a benchmark that an installed package offers, and says whether its bars hold."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import typer

from streams.bench import Bench, BenchReport
from streams.cli.output import Exit, JsonFlag, err, fail, out, print_json, print_table

__all__ = ["bench"]

BENCHMARKS = "antiphon.benchmarks"


def bench(
    name: Annotated[str, typer.Argument(help="Which; none lists them.", show_default=False)] = "",
    json: JsonFlag = False,
) -> None:
    """Run a benchmark; exit code 1 where one of its bars does not hold."""
    found = {entry.name: entry for entry in entry_points(group=BENCHMARKS)}
    if not name:
        if json:
            print_json(sorted(found))
        else:
            print_table(["benchmark", "where"], [(entry.name, entry.value) for entry in found.values()])
        return
    if name not in found:
        raise fail(f"no benchmark is called {name}: known are {', '.join(sorted(found)) or 'none'}", Exit.MISSING)
    run: Bench = found[name].load()
    with err.status(f"{name} ...") as status:

        def progress(line: str) -> None:
            if err.is_terminal:
                status.update(f"{name}: {line}")
            else:
                err.print(f"{name}: {line}", highlight=False, soft_wrap=True)

        report = run(progress)
    if json:
        print_json(report.as_json())
    else:
        _show(report)
    if not report.holds:
        raise typer.Exit(Exit.FAILED)


def _show(report: BenchReport) -> None:
    rows = [(row.name, _number(row.value), row.unit, ", ".join(_number(one) for one in row.rounds)) for row in report.rows]
    print_table(["", "median", "unit", "rounds"], rows, title=report.bench)
    if report.bars:
        out.print()
        print_table(
            ["bar", "promise", "found", ""],
            [(b.name, b.bar, _number(b.value), "holds" if b.holds else "DOES NOT HOLD") for b in report.bars],
        )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3g}"
