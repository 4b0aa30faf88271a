"""``antiphon deadletters``: what was set aside, why, and back with it once the reason is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table
from streams.cli.records import readable_parts
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.deadletters import DeadLetter, DeadLetters, Filter, Group, Outcome
    from streams.replay import Progress

__all__ = ["app"]

app = typer.Typer(
    help="Records that a processor could not take: list, show, redrive, purge. Exit code 4 where none is selected.",
    no_args_is_help=True,
)

LISTED_MAX = 50
"""Rows of `ls --all`: a screenful; the groups say what there is, and --json has no limit."""

REASON_CHARS = 100
"""Of a reason in a table; `show` has all of it."""

AppName = Annotated[
    str,
    typer.Argument(metavar="[APP]", help="Application id, or a dead letter topic; worker.app_id if none.", show_default=False),
]
Fingerprint = Annotated[str, typer.Option("--fingerprint", "-f", help="Those that failed alike; its beginning is enough.")]
Error = Annotated[str, typer.Option("--error", "-e", help="Those of this error class.")]
Topic = Annotated[str, typer.Option("--topic", "-t", help="Those that came from this topic.")]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Those with this key.")]
Processor = Annotated[str, typer.Option("--processor", help="Those that this processor refused; the name's end is enough.")]
At = Annotated[str, typer.Option("--at", help="This one: PARTITION/OFFSET, or as `ls --all` prints it.")]


@app.command("ls")
def list_letters(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    processor: Processor = "",
    every: Annotated[bool, typer.Option("--all", "-a", help="Each letter instead of a row for each way of failing.")] = False,
    settled: Annotated[bool, typer.Option("--settled", help="With --all: also those that were redriven or put away.")] = False,
    json: JsonFlag = False,
) -> None:
    """List what waits: a row for each way of failing, or for each letter."""
    if settled and not every:
        raise typer.BadParameter("--settled needs --all")
    letters, chosen = _letters(name), _filter(fingerprint, error, topic, key, processor)
    shown = _show_letters(letters.list(chosen, settled=settled), json=json) if every else _show_groups(letters, chosen, json=json)
    if not shown:
        raise fail(f"no dead letter in {letters.topic} is selected", Exit.MISSING)


@app.command("show")
def show(
    position: Annotated[
        str, typer.Argument(help="PARTITION/OFFSET in the dead letter topic, or all of APP.dead-letters/PARTITION/OFFSET.")
    ],
    name: AppName = "",
    json: JsonFlag = False,
) -> None:
    """Show one letter: where it came from, why it is here, its key, value and headers."""
    topic, partition, offset = _place(position)
    letters = _letters(topic or name)
    letter = letters.show(partition, offset)
    if letter is None:
        raise fail(f"no dead letter lies at {letters.topic}/{partition}/{offset}", Exit.MISSING)
    document = _document(letter)
    if json:
        print_json(document)
        return
    for field, value in document.items():
        if isinstance(value, dict):
            out.print(f"{field}:", markup=False, highlight=False)
            for inner, content in value.items():
                out.print(f"  {inner}: {content}", markup=False, highlight=False, soft_wrap=True)
        elif value not in (None, ""):
            out.print(f"{field}: {value}", markup=False, highlight=False, soft_wrap=True)


@app.command("redrive")
def redrive(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    processor: Processor = "",
    at: At = "",
    json: JsonFlag = False,
) -> None:
    """Put letters back where they came from, each exactly once: a second run finds nothing to do.

    Exit code 1 where some cannot go back, because their topic is gone: these stay.
    """
    where, chosen = _chosen(name, at, _filter(fingerprint, error, topic, key, processor))
    letters = _letters(where)
    with _progress("redrive") as moved:
        outcome = letters.redrive(chosen, on_progress=moved)
    _report(letters, "redriven", outcome, json=json)


@app.command("purge")
def purge(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    processor: Processor = "",
    at: At = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Put letters away for good: they are not listed or redriven again, and the broker may delete them."""
    where, chosen = _chosen(name, at, _filter(fingerprint, error, topic, key, processor))
    if not yes and not typer.confirm("Put the selected dead letters away for good?", err=True):
        err.print("nothing put away")
        raise typer.Exit(Exit.FAILED)
    letters = _letters(where)
    with _progress("purge") as moved:
        outcome = letters.purge(chosen, on_progress=moved)
    _report(letters, "purged", outcome, json=json)


def _letters(name: str) -> DeadLetters:
    from streams.deadletters import DeadLetters

    settings = Settings()
    return DeadLetters(
        name or settings.worker.app_id, cluster_config(settings), replication_factor=settings.kafka.replication_factor
    )


def _filter(fingerprint: str, error: str, topic: str, key: str | None, processor: str) -> Filter:
    from streams.deadletters import Filter

    return Filter(
        fingerprint=fingerprint, error=error, topic=topic, key=None if key is None else key.encode(), processor=processor
    )


def _chosen(name: str, at: str, chosen: Filter) -> tuple[str, Filter]:
    """The application and the filter, narrowed to one place where --at says so."""
    from dataclasses import replace

    if not at:
        return name, chosen
    topic, partition, offset = _place(at)
    return topic or name, replace(chosen, partition=partition, offset=offset)


def _place(text: str) -> tuple[str, int, int]:
    """Topic (empty if not given), partition and offset."""
    *topic, partition, offset = text.split("/") if "/" in text else ("", "", text)
    if not (partition.isdigit() and offset.isdigit()):
        raise typer.BadParameter(f"{text!r} is no position: PARTITION/OFFSET, as `deadletters ls --all` prints it")
    return "/".join(topic), int(partition), int(offset)


def _show_groups(letters: DeadLetters, chosen: Filter, *, json: bool) -> int:
    groups = letters.groups(chosen)
    if json:
        for group in groups:
            print_json(_group(group))
    elif groups:
        print_table(
            ["fingerprint", "letters", "error", "processor", "last at", "reason of the last"],
            [
                (one.fingerprint, one.count, one.last.error, one.last.processor, _at(one.last), one.last.reason[:REASON_CHARS])
                for one in groups
            ],
        )
    return len(groups)


def _show_letters(found: Iterator[DeadLetter], *, json: bool) -> int:
    count = 0
    rows = []
    for letter in found:
        count += 1
        if json:
            print_json(_document(letter))
        elif count <= LISTED_MAX:
            rows.append((_at(letter), letter.origin, _when(letter.time_ms), letter.error, letter.reason[:REASON_CHARS]))
    if rows:
        print_table(["at", "from", "since", "error", "reason"], rows)
    if rows and count > LISTED_MAX:
        err.print(f"{count - LISTED_MAX:,} more: narrow it down, or use --json", style="dim")
    return count


def _at(letter: DeadLetter) -> str:
    return f"{letter.at_partition}/{letter.at_offset}"


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _group(group: Group) -> dict[str, Any]:
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "first": _document(group.first),
        "last": _document(group.last),
    }


def _document(letter: DeadLetter) -> dict[str, Any]:
    """A letter as a JSON-able mapping, its value decoded where it is an event."""
    record = readable_parts(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        timestamp_ms=letter.timestamp_ms,
        key=letter.key,
        value=letter.value,
        headers=letter.headers,
    )
    return {
        "position": letter.position,
        "origin": letter.origin,
        "app": letter.app,
        "processor": letter.processor,
        "error": letter.error,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "time_ms": letter.time_ms,
        "redriven_from": letter.redriven_from,
        "timestamp_ms": letter.timestamp_ms,
        "type": record["type"],
        "key": record["key"],
        "value": record["value"],
        "headers": record["headers"],
    }


@contextmanager
def _progress(verb: str) -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left, on a terminal."""
    from rich.progress import Progress as Bar

    with Bar(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(verb, total=None)

        def moved(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        yield moved


def _report(letters: DeadLetters, verb: str, outcome: Outcome, *, json: bool) -> None:
    """Say what was done, and end with the code that fits."""
    if json:
        print_json({verb: outcome.done, "settled_before": outcome.settled_before, "refused": dict(outcome.refused)})
    else:
        out.print(f"{outcome.done:,} {verb}, {outcome.settled_before:,} were settled before", highlight=False)
    for reason, count in outcome.refused.items():
        err.print(f"{count:,} stay: {reason}", style="yellow", markup=False, soft_wrap=True, highlight=False)
    if outcome.refused:
        raise typer.Exit(Exit.FAILED)
    if not outcome.done and not outcome.settled_before:
        raise fail(f"no dead letter in {letters.topic} is selected", Exit.MISSING)
