"""`antiphon verify transactions HISTORY.jsonl...`: could an isolation level have let this happen?"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from processors.core.verify.history import HistoryError
from processors.core.verify.transactions import Report, judge, read_transactions
from processors.core.verify.transactions.picture import draw
from streams.cli.output import Exit, JsonFlag, err, fail, out, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.core.verify.transactions import Anomaly, Transaction

__all__ = ["transactions"]

SHOWN_MAX: Final = 10
"""Anomalies that are told in words; --json has more."""


class Level(StrEnum):
    """What a history is held against."""

    READ_COMMITTED = "read_committed"
    REPEATABLE_READ = "repeatable_read"
    SNAPSHOT = "snapshot"
    SERIALIZABLE = "serializable"


def transactions(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="HISTORY",
            help="Files of transactions, one a line (docs/verify-transactions.md); several are one history.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    isolation: Annotated[Level, typer.Option(help="The level that the history should have.")] = Level.SERIALIZABLE,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="A transaction that had ended before another began comes before it.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Write a picture of the first anomaly here.", dir_okay=False, show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Judge a history of transactions on lists: which anomalies are there, and does the level forbid one of them?

    Exit code 1 where it does; 2 where a file is no history, with the line of each mistake. Each anomaly is told with a cycle of
    transactions, edge by edge.
    """
    history = _read(paths)
    with err.status(f"{len(history):,} transactions are judged", spinner="line"):
        report = judge(history, level=isolation.value, realtime=realtime)
    if svg is not None and report.anomalies:
        svg.write_text(draw((report.forbidden or report.anomalies)[0]), encoding="utf-8")
    if json:
        print_json(_document(report, history))
    else:
        _show(report, history)
    if not report.ok:
        raise typer.Exit(Exit.FAILED)


def _read(paths: Sequence[Path]) -> Sequence[Transaction]:
    try:
        with ExitStack() as files:
            return read_transactions([(str(path), files.enter_context(path.open("rb"))) for path in paths])
    except HistoryError as error:
        for problem in error.problems:
            fail(problem, Exit.USAGE)
        raise typer.Exit(Exit.USAGE) from None
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}", Exit.USAGE) from None


def _document(report: Report, history: Sequence[Transaction]) -> dict[str, Any]:
    return {
        "isolation": report.level,
        "ok": report.ok,
        "transactions": len(history),
        "outcomes": dict(Counter(one.outcome.value for one in history)),
        "edges": report.edges,
        "anomalies": [_anomaly(one, report.level) for one in report.anomalies],
    }


def _anomaly(one: Anomaly, level: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "forbidden": level in one.forbidden_by,
        "forbidden_by": sorted(one.forbidden_by),
        "text": one.text,
        "cycle": [
            {"txn": txn.name, "place": txn.place, "edge": edge.kind, "key": edge.key, "why": edge.why} for txn, edge in one.cycle
        ],
    }


def _show(report: Report, history: Sequence[Transaction]) -> None:
    counted = Counter(one.outcome.value for one in history)
    found = Counter(one.name for one in report.anomalies)
    print_table(
        ["committed", "aborted", "unknown", "operations", "dependencies"],
        [[counted["committed"], counted["aborted"], counted["unknown"], sum(len(one.ops) for one in history), report.edges]],
    )
    for one in [*report.forbidden, *(one for one in report.anomalies if one not in report.forbidden)][:SHOWN_MAX]:
        word = "forbidden" if report.level in one.forbidden_by else "allowed"
        _line(f"\n{one.name} ({word} by {report.level})", style="bold")
        if one.text:
            _line(f"  {one.text}")
        for txn, edge in one.cycle:
            _line(f"  {txn.name} ({txn.place})")
            _line(f"    ─{edge.kind}▶ {edge.why}")
    if len(report.anomalies) > SHOWN_MAX:
        _line(f"\nand {len(report.anomalies) - SHOWN_MAX:,} more; --json has them")
    names = ", ".join(f"{count:,} {name}" for name, count in sorted(found.items())) or "no anomaly"
    verdict = f"{report.level} holds" if report.ok else f"not {report.level}"
    _line(f"\n{verdict}: {names} in {len(history):,} transactions", style="bold")


def _line(text: str, style: str | None = None) -> None:
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
