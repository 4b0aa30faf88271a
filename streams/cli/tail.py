"""``antiphon tail TOPIC``: the records of a topic as they come, decoded by the catalogue where they are events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json
from streams.cli.records import readable
from streams.errors import TopicMissing
from streams.topics import Topics, broker_error

__all__ = ["Start", "print_record", "records", "tail", "when_ms"]

POLL_S = 0.5
"""The longest that Ctrl-C waits."""

RECORDS_MAX = 500
"""One poll's: a screenful of screens."""

TIMEOUT_S = 10.0
"""For looking up offsets."""


def tail(
    topic: Annotated[str, typer.Argument(help="Which.", show_default=False)],
    beginning: Annotated[bool, typer.Option("--beginning", "-b", help="From the first record on.")] = False,
    offset: Annotated[
        int | None, typer.Option(help="From this offset of each partition on; negative counts from the end.")
    ] = None,
    since: Annotated[str, typer.Option(help="From this time on: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")] = "",
    partition: Annotated[int | None, typer.Option("--partition", "-p", help="Only this one.", min=0)] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", help="Stop after so many records.", min=1)] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more at the end, or stop there.")] = True,
    uncommitted: Annotated[
        bool, typer.Option("--uncommitted", help="Also records of kafka transactions that are open or aborted.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print records as they come, from now on unless told otherwise; Ctrl-C ends it."""
    if sum([beginning, offset is not None, bool(since)]) > 1:
        raise typer.BadParameter("only one of --beginning, --offset and --since")
    start = Start(beginning=beginning, offset=offset, since_ms=when_ms(since) if since else None)
    conf = cluster_config()
    shown = 0
    try:
        for message in records(conf, topic, start, partition=partition, follow=follow, uncommitted=uncommitted):
            record = readable(message)
            if json:
                print_json(record)
            else:
                print_record(record)
            shown += 1
            if count is not None and shown >= count:
                break
    except KeyboardInterrupt:
        err.print(f"{shown:,} records", style="dim")


class Start:
    """Where to begin; at the end if nothing is said."""

    def __init__(self, *, beginning: bool, offset: int | None, since_ms: int | None) -> None:
        self.beginning = beginning
        self.offset = offset
        self.since_ms = since_ms

    def positions(self, consumer: Any, topic: str, partitions: list[int]) -> tuple[dict[int, int], dict[int, int]]:  # noqa: ANN401 untyped
        """First offset to read and the end, by partition."""
        from confluent_kafka import TopicPartition

        bounds = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), TIMEOUT_S) for number in partitions}
        ends = {number: high for number, (_, high) in bounds.items()}
        if self.since_ms is not None:
            asked = [TopicPartition(topic, number, self.since_ms) for number in partitions]
            found = {one.partition: one.offset for one in consumer.offsets_for_times(asked, TIMEOUT_S)}
            return {number: at if at >= 0 else ends[number] for number, at in found.items()}, ends
        if self.beginning:
            return {number: low for number, (low, _) in bounds.items()}, ends
        if self.offset is None:
            return dict(ends), ends
        return {
            number: min(max(self.offset + (high if self.offset < 0 else 0), low), high) for number, (low, high) in bounds.items()
        }, ends


def records(
    conf: dict[str, Any], topic: str, start: Start, *, partition: int | None, follow: bool, uncommitted: bool
) -> Iterator[Any]:
    """Messages from the start on; ends at the end that was seen first where it does not follow."""
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    known = {one.name: one.partitions for one in Topics(conf).list(internal=True)}
    if topic not in known:
        raise TopicMissing(topic)
    if partition is not None and partition >= known[topic]:
        raise fail(f"topic {topic} has no partition {partition}: it has {known[topic]}", Exit.MISSING)
    partitions = list(range(known[topic])) if partition is None else [partition]
    consumer = Consumer(
        {
            **conf,
            "group.id": "antiphon-tail",  # asked for by the library; nothing is committed to it
            "enable.auto.commit": False,
            "enable.partition.eof": True,  # where offsets end in a transaction's marker, the end is told only so
            "isolation.level": "read_uncommitted" if uncommitted else "read_committed",
            "log_level": 0,
        }
    )
    try:
        positions, ends = start.positions(consumer, topic, partitions)
        unread = {number for number in partitions if positions[number] < ends[number]}
        consumer.assign([TopicPartition(topic, number, at) for number, at in positions.items()])
        while follow or unread:
            for message in consumer.consume(RECORDS_MAX, POLL_S):
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise broker_error(conf["bootstrap.servers"], error)
                    unread.discard(message.partition() or 0)
                elif follow or (message.offset() or 0) < ends[message.partition() or 0]:
                    yield message
    except KafkaException as error:
        raise broker_error(conf["bootstrap.servers"], error.args[0]) from error
    finally:
        consumer.close()


def print_record(record: dict[str, Any]) -> None:
    """Print one readable record for a person."""
    from rich.text import Text

    at = datetime.fromtimestamp(record["timestamp_ms"] / 1000, UTC).isoformat(timespec="milliseconds")
    line = Text.assemble(
        (f"{record['partition']}/{record['offset']}", "cyan"), " ", (at, "dim"), " ", (str(record["type"] or "-"), "green")
    )
    line.append(f" {record['key']}", "bold")
    line.append(f" {record['value'] if isinstance(record['value'], str) else _compact(record['value'])}")
    out.print(line, soft_wrap=True)
    if record["error"]:
        out.print(Text(f"  {record['error']}", "yellow"), soft_wrap=True)


def _compact(value: object) -> str:
    import orjson

    return orjson.dumps(value, default=str).decode()


def when_ms(text: str) -> int:
    """A moment in ms: an ISO 8601 time, or a distance into the past."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[-1:] in units and text[:-1].isdigit():
        return int((time.time() - int(text[:-1]) * units[text[-1]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a time such as 2026-01-31T12:00:00 nor a distance such as 15m") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
