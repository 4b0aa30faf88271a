"""`antiphon verify locks HISTORY.jsonl...`: could a correct lock have answered like this?"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from processors.core.verify import (
    SLACK_NS,
    STATES_MAX,
    Guard,
    HistoryError,
    Report,
    Verdict,
    read_history,
    verdicts,
    words,
)
from streams.cli.output import Exit, JsonFlag, err, fail, out, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.core.verify import Conflict, Operation, ResourceVerdict

__all__ = ["locks"]

SHOWN_MAX: Final = 10
"""Locks that are told in words: what breaks one breaks others; --json has all."""
NS_PER_MS: Final = 1_000_000


def locks(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="HISTORY",
            help="Files of operations, one a line (docs/verify.md); several are one history.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    guard: Annotated[
        Guard,
        typer.Option(help="Guarded writes: a store refuses a smaller token than it has seen, or than was granted."),
    ] = Guard.SEEN,
    slack_ms: Annotated[
        int, typer.Option(min=0, help="By how much a lease may be over early: clocks of whole milliseconds.")
    ] = SLACK_NS // NS_PER_MS,
    states: Annotated[int, typer.Option(min=1, help="States of one lock to search before the verdict is unknown.")] = STATES_MAX,
    json: JsonFlag = False,
) -> None:
    """Judge a history of locks: is there an order of each lock's operations that a correct lock could have gone through?

    Exit code 1 where there is none, or where that is not known within --states; 2 where a file is no history, with the line of
    each mistake. A lock without an order is told with the operations that contradict each other.
    """
    operations = _read(paths)
    report = _judge(operations, guard, slack_ms * NS_PER_MS, states)
    if json:
        print_json(_document(report, operations, guard, slack_ms))
    else:
        _show(report, operations)
    if report.verdict is not Verdict.LINEARIZABLE:
        raise typer.Exit(Exit.FAILED)


def _read(paths: Sequence[Path]) -> Sequence[Operation]:
    try:
        with ExitStack() as files:
            return read_history([(str(path), files.enter_context(path.open("rb"))) for path in paths])
    except HistoryError as error:
        if len(error.problems) == 1:
            raise fail(error.problems[0], Exit.USAGE) from None
        for problem in error.problems:
            fail(problem, Exit.USAGE)
        raise typer.Exit(Exit.USAGE) from None
    except OSError as error:
        raise fail(f"{error.filename}: {error.strerror}", Exit.USAGE) from None


def _judge(operations: Sequence[Operation], guard: Guard, slack_ns: int, states: int) -> Report:
    """Judge each lock, with a bar on a terminal."""
    from rich.progress import Progress

    names = len({one.resource for one in operations})
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        judged = verdicts(operations, guard=guard, slack_ns=slack_ns, states_max=states)
        return Report(tuple(progress.track(judged, total=names, description="locks")))


def _document(report: Report, operations: Sequence[Operation], guard: Guard, slack_ms: int) -> dict[str, Any]:
    return {
        "verdict": report.verdict.value,
        "guard": guard.value,
        "slack_ms": slack_ms,
        "operations": len(operations),
        "unanswered": sum(not one.answered for one in operations),
        "resources": len(report.resources),
        "states": sum(one.states for one in report.resources),
        "kinds": _kinds(operations),
        "violations": [
            {"resource": one.resource, "operations": one.operations, **_violation(one.conflict)}
            for one in report.of(Verdict.NOT_LINEARIZABLE)
            if one.conflict is not None
        ],
        "unknown": [_size(one) for one in report.of(Verdict.UNKNOWN)],
    }


def _violation(conflict: Conflict) -> dict[str, Any]:
    return {
        "reason": conflict.reason,
        "prefix_operations": conflict.prefix,
        "prefix_end_ns": conflict.prefix_end_ns,
        "stuck_at": conflict.stuck.place,
        "conflict": [{"place": one.place, "text": words(one, conflict.origin_ns)} for one in conflict.operations],
    }


def _size(one: ResourceVerdict) -> dict[str, Any]:
    return {"resource": one.resource, "operations": one.operations, "states": one.states}


def _kinds(operations: Sequence[Operation]) -> dict[str, dict[str, int]]:
    """How many of each kind had which outcome: a history without contention proves little."""
    counted: Counter[tuple[str, str]] = Counter((one.kind.value, one.outcome.value) for one in operations)
    kinds: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(counted.items()):
        kinds.setdefault(kind, {})[outcome] = count
    return kinds


def _show(report: Report, operations: Sequence[Operation]) -> None:
    kinds = _kinds(operations)
    outcomes = ["ok", "refused", "timed_out", "unknown"]
    print_table(["", *outcomes], [[kind, *(kinds[kind].get(one, 0) for one in outcomes)] for kind in kinds])
    for one in report.of(Verdict.NOT_LINEARIZABLE)[:SHOWN_MAX]:
        assert one.conflict is not None
        _line(f"\n{one.resource}: not linearizable", style="bold")
        _line(f"  {one.conflict.reason}")
        _line(f"  its first {one.conflict.prefix:,} of {one.operations:,} operations have no order; these contradict each other:")
        for operation in one.conflict.operations:
            _line(f"    {words(operation, one.conflict.origin_ns)}")
    more = len(report.of(Verdict.NOT_LINEARIZABLE)) - SHOWN_MAX
    if more > 0:
        _line(f"\nand {more:,} more locks that are not linearizable; --json has all")
    for one in report.of(Verdict.UNKNOWN)[:SHOWN_MAX]:
        _line(f"\n{one.resource}: unknown after {one.states:,} states of {one.operations:,} operations; --states allows more")
    _line(f"\n{report.verdict}: {len(operations):,} operations on {len(report.resources):,} locks", style="bold")


def _line(text: str, style: str | None = None) -> None:
    out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
