"""``antiphon deadletters``: what was set aside, why, and back with it once the reason is mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.deadletters import DeadLetter, DeadLetters, Filter, Outcome

__all__ = ["app"]

app = typer.Typer(help="Records that a processor could not take: list, show, redrive, purge.", no_args_is_help=True)

LISTED_MAX = 50
"""Rows of `ls` unless --all: a screenful; the groups say what there is."""

AppName = Annotated[str, typer.Argument(help="Application id; the setting worker.app_id if none.")]
Fingerprint = Annotated[str, typer.Option("--fingerprint", "-f", help="Those that failed alike; its beginning is enough.")]
Error = Annotated[str, typer.Option("--error", "-e", help="Those of this error class.")]
Topic = Annotated[str, typer.Option("--topic", "-t", help="Those that came from this topic.")]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Those with this key.")]
Sure = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _letters(name: str) -> DeadLetters:
    from streams.deadletters import DeadLetters

    settings = Settings()
    return DeadLetters(
        name or settings.worker.app_id, cluster_config(settings), replication_factor=settings.kafka.replication_factor
    )


def _filter(fingerprint: str, error: str, topic: str, key: str | None) -> Filter:
    from streams.deadletters import Filter

    return Filter(fingerprint=fingerprint, error=error, topic=topic, key=None if key is None else key.encode())


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _document(letter: DeadLetter) -> dict[str, Any]:
    def text(raw: bytes | None) -> str | None:
        return None if raw is None else raw.decode("utf-8", "backslashreplace")

    return {
        "position": letter.position,
        "origin": letter.origin,
        "app": letter.app,
        "processor": letter.processor,
        "error": letter.error,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "time_ms": letter.time_ms,
        "timestamp_ms": letter.timestamp_ms,
        "key": text(letter.key),
        "value": text(letter.value),
        "headers": {name: text(value) for name, value in letter.headers},
        "redriven_from": letter.redriven_from,
    }


@app.command("ls")
def list_letters(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every letter, and those that are settled.")] = False,
    json: JsonFlag = False,
) -> None:
    """List what waits: a row for each way of failing, or each letter with --all."""
    letters, chosen = _letters(name), _filter(fingerprint, error, topic, key)
    if every:
        found = list(letters.list(chosen, settled=True))
        if json:
            for letter in found:
                print_json(_document(letter))
        else:
            rows = [(one.position, one.origin, _when(one.time_ms), one.error, one.reason[:100]) for one in found[:LISTED_MAX]]
            print_table(["at", "from", "since", "error", "reason"], rows)
            if len(found) > LISTED_MAX:
                err.print(f"{len(found) - LISTED_MAX:,} more: narrow it down, or use --json")
        return
    groups = letters.groups(chosen)
    if json:
        for group in groups:
            print_json(
                {
                    "fingerprint": group.fingerprint,
                    "count": group.count,
                    "first": _document(group.first),
                    "last": _document(group.last),
                }
            )
    elif not groups:
        out.print("no dead letters")
    else:
        columns = ["fingerprint", "letters", "error", "processor", "reason of the last", "last at"]
        print_table(
            columns,
            [(g.fingerprint, g.count, g.last.error, g.last.processor, g.last.reason[:100], g.last.position) for g in groups],
        )


@app.command("show")
def show(
    position: Annotated[str, typer.Argument(help="PARTITION/OFFSET in the dead letter topic, or all of APP.dead-letters/P/O.")],
    name: AppName = "",
    json: JsonFlag = False,
) -> None:
    """Show one letter: where it came from, why it is here, its key, value and headers."""
    *topic, partition, offset = position.split("/")
    if not (partition.isdigit() and offset.isdigit()):
        raise typer.BadParameter(f"{position!r} is no position: PARTITION/OFFSET, as `deadletters ls --all` prints it")
    letters = _letters("/".join(topic) or name)
    letter = letters.show(int(partition), int(offset))
    if letter is None:
        raise fail(f"no dead letter lies at {letters.topic}/{partition}/{offset}", Exit.MISSING)
    document = _document(letter)
    if json:
        print_json(document)
        return
    for field, value in document.items():
        if field == "headers":
            for header, content in value.items():
                out.print(f"  {header}: {content}", markup=False, highlight=False, soft_wrap=True)
        else:
            out.print(f"{field}: {value}", markup=False, highlight=False, soft_wrap=True)


def _settle(verb: str, act: Callable[[Any], Outcome], *, json: bool) -> None:
    from rich.progress import Progress

    with Progress(console=err, transient=True) as bar:
        task = bar.add_task(verb, total=None)
        outcome = act(lambda done: bar.update(task, completed=done.done, total=done.total))
    if json:
        print_json({verb: outcome.done, "settled_before": outcome.settled_before, "refused": dict(outcome.refused)})
    else:
        out.print(f"{outcome.done:,} {verb}, {outcome.settled_before:,} were settled before")
        for reason, count in outcome.refused.items():
            err.print(f"{count:,} stay: {reason}", markup=False, soft_wrap=True)
    if outcome.refused:
        raise typer.Exit(Exit.FAILED)
    if not outcome.done and not outcome.settled_before:
        raise typer.Exit(Exit.MISSING)


@app.command("redrive")
def redrive(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    json: JsonFlag = False,
) -> None:
    """Put letters back where they came from, each exactly once; a second run finds nothing to do."""
    letters, chosen = _letters(name), _filter(fingerprint, error, topic, key)
    _settle("redriven", lambda moved: letters.redrive(chosen, on_progress=moved), json=json)


@app.command("purge")
def purge(
    name: AppName = "",
    fingerprint: Fingerprint = "",
    error: Error = "",
    topic: Topic = "",
    key: Key = None,
    yes: Sure = False,
    json: JsonFlag = False,
) -> None:
    """Put letters away for good: they are not listed or redriven again."""
    if not yes:
        typer.confirm("Put the selected dead letters away for good?", abort=True, err=True)
    letters, chosen = _letters(name), _filter(fingerprint, error, topic, key)
    _settle("purged", lambda moved: letters.purge(chosen, on_progress=moved), json=json)
