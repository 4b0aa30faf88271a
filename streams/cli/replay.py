"""``antiphon replay TOPIC...``: what happened, again: by offset, time or key, at its own pace or flat out.

A rebuilt table is compared with the live one by ``streams.replay.compare`` (docs/replay.md); `antiphon demo` does so for its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, print_json
from streams.cli.records import readable_parts
from streams.cli.tail import print_record, when_ms
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.replay import Progress, Replay
    from streams.transport import Record

__all__ = ["offset_or_time", "replay"]

GLOB = "*?["
"""What makes a key a pattern."""

FLAT_WORDS = ("flat", "max")
"""Speeds that are no number."""


def replay(
    topics: Annotated[list[str], typer.Argument(help="One topic or several, then in the order of time.", show_default=False)],
    start: Annotated[
        str,
        typer.Option(
            "--from", help="From this offset of each partition on (negative: from the end), or this time, or 15m, 2h, 3d ago."
        ),
    ] = "",
    end: Annotated[str, typer.Option("--to", help="Below this offset, or before this time; the end there is now, if none.")] = "",
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="Only this key; with *, ? or [...] those that it matches.")
    ] = None,
    first_key: Annotated[str | None, typer.Option(help="Keys from this one on, in byte order.")] = None,
    last_key: Annotated[str | None, typer.Option(help="Keys up to this one.")] = None,
    partition: Annotated[list[int] | None, typer.Option("--partition", "-p", help="Only these; may be repeated.", min=0)] = None,
    speed: Annotated[
        str, typer.Option(help="1x is real time by the records' timestamps, 10x ten times as fast; flat does not wait.")
    ] = "flat",
    gap_max: Annotated[float, typer.Option(help="The longest pause between two records, in seconds.", min=0)] = 10.0,
    count: Annotated[bool, typer.Option("--count", help="Count the records instead of printing them.")] = False,
    json: JsonFlag = False,
) -> None:
    """Read committed records up to the ends that the topics have now; exit code 4 where none is selected.

    Offsets are whole numbers, times are ISO 8601 such as 2026-01-31T12:00:00 (UTC if no zone). Progress and the time left go to
    standard error. To compare a table with a rebuild, see docs/replay.md.
    """
    from streams.replay import Replay, Selection

    start_offset, start_ms = offset_or_time(start)
    end_offset, end_ms = offset_or_time(end)
    if end_offset is not None and end_offset < 0:
        raise typer.BadParameter(f"--to {end}: an end counts from the beginning")
    pattern = key if key is not None and any(sign in key for sign in GLOB) else None
    selection = Selection(
        start_offset=start_offset,
        end_offset=end_offset,
        start_ms=start_ms,
        end_ms=end_ms,
        key=key.encode() if key is not None and pattern is None else None,
        first_key=None if first_key is None else first_key.encode(),
        last_key=None if last_key is None else last_key.encode(),
        partitions=frozenset(partition) if partition else None,
    )
    pace = _speed(speed)
    settings = Settings()
    servers = cluster_config(settings)["bootstrap.servers"]  # starts the embedded broker where none runs
    with _progress() as moved:
        reading = Replay(
            topics,
            settings=settings.with_changes({"kafka": {"bootstrap_servers": servers}}),
            selection=selection,
            speed=pace,
            gap_ms_max=gap_max * 1000,
            on_progress=moved,
        )
        shown = _show(reading, pattern, count=count, json=json)
    if count and json:
        print_json({"records": shown})
    elif count:
        typer.echo(shown)
    else:
        err.print(f"{shown:,} records", style="dim", highlight=False)
    if not shown:
        raise fail(f"nothing in {', '.join(topics)} is selected", Exit.MISSING)


def _show(reading: Replay, pattern: str | None, *, count: bool, json: bool) -> int:
    """Print the records, or only count them; Ctrl-C ends it as if the topics ended there."""
    shown = 0
    try:
        for record in reading:
            if pattern is not None and not _matches(record, pattern):
                continue
            shown += 1
            if count:
                continue
            document = readable_parts(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp,
                key=record.key,
                value=record.value,
                headers=record.headers or (),
            )
            (print_json if json else print_record)(document)
    except KeyboardInterrupt:
        err.print("interrupted", style="dim")
    return shown


def _matches(record: Record, pattern: str) -> bool:
    return record.key is not None and fnmatchcase(record.key.decode("utf-8", "backslashreplace"), pattern)


def offset_or_time(text: str) -> tuple[int | None, int | None]:
    """What --from or --to says: an offset, or a time in ms; neither where it says nothing.

    Raises:
        typer.BadParameter: It is none of them.
    """
    if not text:
        return None, None
    try:
        return int(text), None
    except ValueError:
        return None, when_ms(text)


def _speed(text: str) -> float:
    """A factor of real time; 0 is flat out."""
    from streams.replay import FLAT_OUT

    if text in FLAT_WORDS:
        return FLAT_OUT
    try:
        speed = float(text.removesuffix("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no speed: 1x is real time, 10x ten times as fast, flat does not wait") from error
    if speed <= 0 or not isfinite(speed):
        raise typer.BadParameter(f"{text!r} is no speed: it must be above zero; flat does not wait")
    return speed


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar with the time left, on a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("replay"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TextColumn("offsets"))
    with Bar(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("replay", total=None)

        def moved(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        yield moved
