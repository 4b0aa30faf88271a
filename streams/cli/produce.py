"""``antiphon produce TOPIC``: records from lines of a file or of standard input.

Three forms of a line, chosen by ``--format``:

* ``events``: a typed event as JSON, ``{"type": "change.committed", "agent": ..., ...}``: checked, encoded and keyed by the
  catalogue.
* ``json``: ``{"key": ..., "value": ..., "headers": {...}, "partition": 0}``; value and key are text, or JSON that is written as
  JSON.
* ``raw``: the line is the value; with ``--separator`` what stands before it is the key.

A line that is malformed is reported with its number and left out; the others go on, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import orjson
import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json
from streams.errors import AntiphonError, TopicMissing
from streams.settings import Settings
from streams.topics import Topics, broker_error

if TYPE_CHECKING:
    from streams.codec import Codec

__all__ = ["produce"]

REPORTED_MAX = 20
"""Malformed lines that are shown one by one; the rest is counted. More would hide the first, which tells what is wrong."""

IN_FLIGHT_MAX = 50_000
"""Records that wait for their acknowledgement: a few batches a partition, and tens of megabytes at most."""

FLUSH_S = 60.0
"""For the last records; a broker that does not take them in this time is not there."""

PROGRESS_LINES = 1_000
"""Between two moves of the bar."""


class Format(StrEnum):
    """What a line is."""

    EVENTS = "events"
    JSON = "json"
    RAW = "raw"


@dataclass(slots=True)
class Outgoing:
    """A record as the producer takes it."""

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    partition: int = -1


@dataclass(slots=True)
class Tally:
    """What became of the lines."""

    lines: int = 0
    acknowledged: int = 0
    malformed: int = 0
    failed: int = 0
    first_failure: Any = None

    def on_delivery(self, error: Any, _message: object) -> None:  # noqa: ANN401 confluent_kafka has no types
        """The producer's answer for one record."""
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1
            self.first_failure = self.first_failure or error


def produce(
    topic: Annotated[str, typer.Argument(help="Where to.", show_default=False)],
    file: Annotated[
        Path | None, typer.Argument(help="Lines to read; standard input if not given or -.", show_default=False)
    ] = None,
    form: Annotated[Format, typer.Option("--format", "-f", help="What a line is.")] = Format.EVENTS,
    separator: Annotated[str, typer.Option(help="With raw: what stands between key and value.")] = "",
    json: JsonFlag = False,
) -> None:
    """Write lines as records; malformed lines are named by number and left out (exit code 1)."""
    from confluent_kafka import Producer

    from streams.codec import Codec

    settings = Settings()
    conf = cluster_config(settings)
    codec = Codec.from_settings(settings)
    if not Topics(conf).exists(topic):
        raise TopicMissing(topic)
    producer = Producer(
        {**conf, "enable.idempotence": True, "linger.ms": 20, "queue.buffering.max.messages": IN_FLIGHT_MAX, "log_level": 0}
    )
    tally = Tally()
    with _source(file) as (lines, total), _progress(total) as moved:
        for number, line in enumerate(iter(lines.readline, b""), start=1):
            if not line.strip():
                continue
            tally.lines += 1
            try:
                record = _parse(line.rstrip(b"\r\n"), form, separator.encode(), topic, codec)
            except (ValueError, AntiphonError) as error:
                tally.malformed += 1
                if tally.malformed <= REPORTED_MAX:
                    err.print(
                        f"line {number}: {' '.join(str(error).split())}",
                        style="yellow",
                        markup=False,
                        soft_wrap=True,
                        highlight=False,
                    )
                continue
            _send(producer, topic, record, tally)
            if number % PROGRESS_LINES == 0:
                moved(lines)
        producer.flush(FLUSH_S)
    lost = tally.lines - tally.malformed - tally.acknowledged
    if json:
        print_json(
            {
                "topic": topic,
                "lines": tally.lines,
                "acknowledged": tally.acknowledged,
                "malformed": tally.malformed,
                "failed": lost,
            }
        )
    else:
        out.print(f"{tally.acknowledged:,} of {tally.lines:,} lines are in {topic}", highlight=False)
    if tally.malformed > REPORTED_MAX:
        err.print(f"and {tally.malformed - REPORTED_MAX:,} more malformed lines", style="yellow")
    if lost:
        if tally.first_failure is not None:
            raise broker_error(conf["bootstrap.servers"], tally.first_failure)
        raise fail(f"{lost:,} records were not acknowledged within {FLUSH_S:.0f} s", Exit.BROKER)
    if tally.malformed:
        raise typer.Exit(Exit.FAILED)


def _send(producer: Any, topic: str, record: Outgoing, tally: Tally) -> None:  # noqa: ANN401 confluent_kafka has no types
    """Hand it to the producer; a full queue is waited for, so that a slow broker slows the reading."""
    arguments: dict[str, Any] = {"key": record.key, "headers": record.headers or None, "on_delivery": tally.on_delivery}
    if record.partition >= 0:
        arguments["partition"] = record.partition
    while True:
        try:
            producer.produce(topic, record.value, **arguments)
        except BufferError:
            producer.poll(1.0)
        else:
            producer.poll(0)
            return


def _parse(line: bytes, form: Format, separator: bytes, topic: str, codec: Codec) -> Outgoing:
    """One line as a record; raises ``ValueError`` or :class:`SchemaError` with what is wrong."""
    if form is Format.RAW:
        key, found, value = line.partition(separator) if separator else (b"", b"", line)
        if separator and not found:
            raise ValueError(f"no {separator.decode()!r} between key and value")
        return Outgoing(value, key if found else None)
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a wrong line, not a wrong call
    if form is Format.EVENTS:
        from streams.cli.records import encode_event

        return Outgoing(*encode_event(document, topic=topic, codec=codec))
    if unknown := sorted(set(document) - {"key", "value", "headers", "partition"}):
        raise ValueError(f"unknown field {', '.join(unknown)}: allowed are key, value, headers and partition")
    headers = document.get("headers") or {}
    partition = document.get("partition", -1)
    if not isinstance(headers, dict) or not isinstance(partition, int):
        raise ValueError("headers must be an object and partition a number")  # noqa: TRY004 - a wrong line, not a wrong call
    return Outgoing(
        _bytes(document.get("value")),
        _bytes(document.get("key")),
        [(name, _bytes(text) or b"") for name, text in headers.items()],
        partition,
    )


def _bytes(value: object) -> bytes | None:
    """Text as it is, nothing as nothing, everything else as JSON."""
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else orjson.dumps(value)


@contextmanager
def _source(file: Path | None) -> Iterator[tuple[BinaryIO, int | None]]:
    """The lines and how many bytes they are, where that is known; a ``.gz`` is unpacked."""
    import gzip

    if file is None or str(file) == "-":
        yield sys.stdin.buffer, None
        return
    try:
        stream: Any = gzip.open(file) if file.suffix == ".gz" else file.open("rb")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}", Exit.MISSING) from error
    with stream:
        yield stream, None if file.suffix == ".gz" else file.stat().st_size


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[BinaryIO], None]]:
    """A bar on a terminal: of bytes read where their number is known, else a counter that turns."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("producing"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("producing", total=total)

        def moved(lines: BinaryIO) -> None:
            if total is not None:
                progress.update(task, completed=lines.tell())

        yield moved
