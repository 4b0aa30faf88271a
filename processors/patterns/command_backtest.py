"""`antiphon cep backtest PATTERN|FILE`: what a pattern would have found in the log, and how that differs from another version."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, print_json
from streams.cli.replay import offset_or_time

if TYPE_CHECKING:
    from processors.patterns.backtest import Seen
    from processors.patterns.chosen import Chosen
    from processors.patterns.options import CepOptions
    from processors.patterns.store import PatternStore
    from processors.patterns.trial import Trial
    from streams.reader import LogReader, Selection

__all__ = ["backtest_command"]

LIMIT: Final = 20
"""Matches shown of each list unless told otherwise: a screenful."""


def backtest_command(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN|FILE",
            help="A pattern's name, name@version, or a file (FILE#name of several; - is standard input).",
            show_default=False,
        ),
    ],
    start: Annotated[
        str,
        typer.Option(
            "--from", help="From this offset of each partition on (negative: from the end), or this time, or 15m, 2h, 3d ago."
        ),
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Below this offset, or before this time; the end there is now, if none.")] = "",
    against: Annotated[
        str, typer.Option(metavar="VERSION|FILE", help="Compare with this version: a number, name@version, a name, or a file.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many matches of each list to show.", min=0)] = LIMIT,
    json: JsonFlag = False,
) -> None:
    """Run a pattern over the stored log, with the time rules of a worker, and write nothing anywhere.

    Exit code 4 where the pattern, the file, a topic or any record in the range is missing, 2 where the file is wrong. The pattern
    begins with nothing at the beginning of the range; what its end leaves open is told, not guessed. See docs/cep-tools.md.
    """
    from processors.core.cep.loading import DefinitionError
    from processors.patterns.backtest import Backtest, EmptyRange, read_range
    from processors.patterns.chosen import ChoiceError, NotThere
    from processors.patterns.options import CepOptions
    from processors.patterns.show_backtest import document, show
    from processors.patterns.store import PatternMissing
    from schemas.catalogue import CATALOGUE
    from streams.codec import Codec
    from streams.reader import LogReader

    selection = _selection(start, end)
    options, config = CepOptions.load(), cluster_config()
    try:
        chosen = _chosen(pattern, against, config, options)
        trials = [_trial(one, options, limit) for one in chosen]
        reader = LogReader(config)
        topics = {name: one for one in trials for name in one.topics}
        bounds = reader.bounds(_there(reader, topics, options), selection)
        partitions = {name: sum(1 for topic, _ in bounds if topic == name) for name in topics}
        backtest = Backtest(Codec(CATALOGUE), *trials, partitions=partitions)
        began = time.monotonic()
        with _progress() as seen:
            complete = read_range(backtest, reader, bounds, selection, seen)
        took_s = time.monotonic() - began
    except (PatternMissing, NotThere, EmptyRange) as error:
        raise fail(str(error), Exit.MISSING) from None
    except (ChoiceError, DefinitionError) as error:
        raise fail(str(error), Exit.USAGE) from None
    if not complete:
        err.print("interrupted: what follows holds for the records that were read", style="yellow")
    if json:
        print_json(document(backtest, chosen, bounds=bounds, took_s=took_s, complete=complete, limit=limit))
    else:
        show(backtest, took_s=took_s, limit=limit)


# ---- what, and where


def _selection(start: str, end: str) -> Selection:
    from streams.reader import Selection

    start_offset, start_ms = offset_or_time(start)
    end_offset, end_ms = offset_or_time(end)
    if end_offset is not None and end_offset < 0:
        raise typer.BadParameter(f"--to {end}: an end counts from the beginning")
    return Selection(start_offset=start_offset, end_offset=end_offset, start_ms=start_ms, end_ms=end_ms)


def _chosen(pattern: str, against: str, config: dict[str, Any], options: CepOptions) -> list[Chosen]:
    from processors.patterns.chosen import choose
    from processors.patterns.store import PatternStore

    def store() -> PatternStore:
        return PatternStore(config, options)

    new = choose(pattern, store)
    chosen = [new] if not against else [new, choose(against, store, of=new.definition.name)]
    for one in chosen:
        if one.definition.key is None:
            for name in one.definition.topics:
                if name in options.keyed_topics:
                    err.print(
                        f"{one.label}: workers read {name} for patterns with a key only, and would refuse this one",
                        style="yellow", markup=False, soft_wrap=True,
                    )  # fmt: skip
    return chosen


def _trial(chosen: Chosen, options: CepOptions, limit: int) -> Trial:
    from processors.core.cep.automaton import PatternError
    from processors.patterns.chosen import ChoiceError
    from processors.patterns.trial import Trial
    from schemas.catalogue import CATALOGUE

    rekeyed = frozenset(options.keyed_topics)
    try:
        trial = Trial(chosen.label, chosen.definition, CATALOGUE, rekeyed=rekeyed, prefix=options.topic_prefix, limit=limit)
    except PatternError as error:
        raise ChoiceError(f"{chosen.label}: {error}") from None
    for warning in trial.compiled.matcher.automaton.warnings:
        err.print(f"warning: {chosen.label}: {warning}", style="yellow", soft_wrap=True, markup=False)
    return trial


def _there(reader: LogReader, topics: dict[str, Trial], options: CepOptions) -> list[str]:
    """Return the topics, all of which exist."""
    from processors.patterns.chosen import NotThere

    for name, trial in topics.items():
        if not reader.topics.exists(name):
            there = ", ".join(one.name for one in reader.topics.list()[:TOPICS_SHOWN]) or "none"
            prefix = f" (AGENT_CEP_TOPIC_PREFIX is {options.topic_prefix!r})" if options.topic_prefix else ""
            raise NotThere(f"topic {name}, which {trial.label} reads, does not exist{prefix}; topics there are: {there}")
    return list(topics)


TOPICS_SHOWN: Final = 20
"""Topics named in place of one that is missing: a line or two."""


@contextmanager
def _progress() -> Iterator[Callable[[Seen], None]]:
    """A bar with records and matches so far, on a terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from processors.patterns.counting import counted

    columns = (TextColumn("backtest"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("backtest", total=None, said="")

        def seen(now: Seen) -> None:
            read, found = counted(now.records, "record"), counted(now.matches, "match", "matches")
            said = f"{now.done:,} of {counted(now.total, 'offset')}, {read}, {found}"
            bar.update(task, completed=now.done, total=now.total, said=said)

        yield seen
