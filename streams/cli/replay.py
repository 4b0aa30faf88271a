"""``antiphon replay TOPIC...``: what happened, again: by offset, time or key, at its own pace or flat out."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.output import JsonFlag, cluster_config, err, print_json
from streams.cli.records import readable_parts
from streams.cli.tail import print_record, when_ms
from streams.settings import Settings

__all__ = ["replay"]


def _speed(text: str) -> float:
    from streams.replay import FLAT_OUT

    if text in ("flat", "max", ""):
        return FLAT_OUT
    try:
        speed = float(text.removesuffix("x"))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no speed: 1x is real time, 10x ten times as fast, flat as fast as it goes"
        ) from error
    if speed <= 0:
        raise typer.BadParameter(f"{text!r}: a speed is above zero; flat as fast as it goes")
    return speed


def replay(
    topics: Annotated[list[str], typer.Argument(help="One topic or several, then in the order of time.", show_default=False)],
    from_offset: Annotated[int | None, typer.Option(help="From this offset of each partition on; negative from the end.")] = None,
    to_offset: Annotated[int | None, typer.Option(help="Below this offset.", min=0)] = None,
    since: Annotated[str, typer.Option(help="From this time on: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")] = "",
    until: Annotated[str, typer.Option(help="Before this time.")] = "",
    key: Annotated[str | None, typer.Option(help="Only this key.")] = None,
    first_key: Annotated[str | None, typer.Option(help="Keys from this one on, in byte order.")] = None,
    last_key: Annotated[str | None, typer.Option(help="Keys up to this one.")] = None,
    partition: Annotated[list[int] | None, typer.Option("--partition", "-p", help="Only these.")] = None,
    speed: Annotated[str, typer.Option(help="1x is real time by the records' timestamps; flat does not wait.")] = "flat",
    gap_max: Annotated[float, typer.Option(help="The longest pause between two records, in seconds.", min=0)] = 10.0,
    count_only: Annotated[bool, typer.Option("--count", help="Count the records instead of printing them.")] = False,
    json: JsonFlag = False,
) -> None:
    """Read committed records to the ends that the topics have now; progress and time left on standard error."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from streams.replay import Progress as Done
    from streams.replay import Replay, Selection

    settings = Settings()
    config = cluster_config(settings)  # starts the embedded broker where none runs
    settings = settings.with_changes({"kafka": {"bootstrap_servers": config["bootstrap.servers"]}})
    selection = Selection(
        start_offset=from_offset,
        end_offset=to_offset,
        start_ms=when_ms(since) if since else None,
        end_ms=when_ms(until) if until else None,
        key=None if key is None else key.encode(),
        first_key=None if first_key is None else first_key.encode(),
        last_key=None if last_key is None else last_key.encode(),
        partitions=frozenset(partition) if partition else None,
    )
    columns = (
        TextColumn("replay"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} offsets"),
        TimeRemainingColumn(),
    )
    shown = 0
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("replay", total=None)

        def moved(done: Done) -> None:
            bar.update(task, completed=done.done, total=done.total)

        reading = Replay(
            topics, settings=settings, selection=selection, speed=_speed(speed), gap_ms_max=gap_max * 1000, on_progress=moved
        )
        for record in reading:
            shown += 1
            if count_only:
                continue
            readable = readable_parts(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp,
                key=record.key,
                value=record.value,
                headers=record.headers or (),
            )
            if json:
                print_json(readable)
            else:
                print_record(readable)
    if count_only and json:
        print_json({"records": shown})
    else:
        err.print(f"{shown:,} records")
