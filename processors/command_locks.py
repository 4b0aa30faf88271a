"""`antiphon locks`: who holds locks and permits, who waits for whom and how long, now or at an earlier time, from the events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from processors.core.coordination.lock_view import LockView
    from processors.log_reader import LogRecord
    from streams.codec import Codec

__all__ = ["command"]

ROWS_MAX: Final = 50
"""Locks shown to a person; --json has all."""
QUEUE_SHOWN: Final = 5
"""Those that wait for one of them; the same."""
REFRESH_S: Final = 1.0
TOLD_EVERY: Final = 10_000
"""Events between two moves of the progress bar."""

Document = dict[str, Any]


def command(
    prefix: Annotated[str, typer.Argument(help="Only names that begin so, such as repo/.", show_default=False)] = "",
    at: Annotated[
        str, typer.Option(help="As it was at this time: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")
    ] = "",
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what somebody waits for.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="The wait-for graph for Graphviz, such as `dot -Tsvg`.")] = False,
    json: JsonFlag = False,
) -> None:
    """Show locks and semaphores: holders, tokens, ages, queues in order, who waits for whom, and deadlocks.

    It reads the events of coordination from the beginning, so it needs no worker that answers. Exit code 4 where there are none.
    """
    from processors.core.coordination.lock_report import dot as drawn
    from processors.core.coordination.lock_report import report
    from streams.cli.tail import when_ms

    if watch and (at or dot):
        raise typer.BadParameter("--watch shows what is now, as a table or with --json")
    if dot and json:
        raise typer.BadParameter("only one of --dot and --json")
    at_ms = when_ms(at) if at else None
    reading = _Reading(at_ms)

    def document() -> Document:
        now_ms = at_ms if at_ms is not None else int(time.time() * 1000)
        return report(reading.view, now_ms, prefix=prefix, contended=waiting)

    reading.all()
    if watch:
        _watch(reading, document, json=json)
        return
    found = document()
    if dot:
        typer.echo(drawn(found), nl=False)
    elif json:
        print_json(found)
    else:
        for part in _parts(found):
            out.print(part)


class _Reading:
    """The events, read into a view.

    Args:
        at_ms: Those up to this time; None for all.
    """

    def __init__(self, at_ms: int | None) -> None:
        from processors.core.coordination.lock_view import LockView
        from schemas.coordination import EVENTS_TOPIC
        from streams.codec import Codec
        from streams.settings import Settings

        self._settings = Settings()
        self.topic = self._settings.client.coordination_topic_prefix + EVENTS_TOPIC
        self.client = cluster_config(self._settings)
        self._at_ms = at_ms
        self._codec: Codec = Codec.from_settings(self._settings)
        self.view: LockView = LockView()
        self.offsets: dict[int, int] = {}

    def all(self) -> None:
        """Read all that is there, with a bar on a terminal."""
        from processors.log_reader import LogReader

        self._there()
        with LogReader(self.client, group="antiphon-locks") as reader:
            count = sum(reader.ends(self.topic).values())
            with _progress(count) as moved:
                for number, record in enumerate(reader.read(self.topic)):
                    self.take(record)
                    if number % TOLD_EVERY == 0:
                        moved(number)

    def take(self, record: LogRecord) -> None:
        """Take one record; what is no event is passed over."""
        from processors.coordinating.following import happened_ms
        from processors.core.coordination.lock_view import FOLDS
        from schemas.errors import SchemaError

        self.offsets[record.partition] = record.offset + 1
        if self._at_ms is not None and record.timestamp > self._at_ms:
            return
        try:
            kind = self._codec.type_of(record)
            if kind in FOLDS:
                self.view.take(kind, self._codec.read(record), happened_ms(record, kind))
        except SchemaError as error:
            err.print(f"{self.topic}[{record.partition}]@{record.offset}: {error}", style="dim", markup=False, highlight=False)

    def _there(self) -> None:
        from streams.errors import TopicMissing
        from streams.topics import Topics

        try:
            Topics(self.client).describe(self.topic)
        except TopicMissing:
            raise fail(f"there is no topic {self.topic}: no coordination processor has run here", Exit.MISSING) from None


@contextmanager
def _progress(count: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import Progress

    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("events", total=count)
        yield lambda done: progress.update(task, completed=done)


def _watch(reading: _Reading, document: Callable[[], Document], *, json: bool) -> None:
    from rich.console import Group
    from rich.live import Live

    from processors.coordinating.following import Following

    following = Following(reading.client, reading.topic, reading.offsets)

    def catch_up() -> None:
        while records := following.take(TOLD_EVERY):
            for record in records:
                reading.take(record)

    try:
        while not following.begin():
            time.sleep(REFRESH_S)
        with Live(console=out, auto_refresh=False, screen=out.is_terminal and not json) as live:
            while True:
                catch_up()
                if json:
                    print_json(document())
                else:
                    live.update(Group(*_parts(document())), refresh=True)
                time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return
    finally:
        following.close()


# ---- for a person


def _parts(found: Document) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    rows = [*found["locks"], *found["semaphores"]]
    if rows:
        table = Table(header_style="bold", box=None, pad_edge=False)
        for column in ("name", "held by", "token", "for", "lease ends in", "waiting", "since"):
            table.add_column(column, overflow="fold")
        for one in rows[:ROWS_MAX]:
            _row(table, one)
        parts.append(table)
    else:
        parts.append(Text("nobody holds or waits for anything", style="dim"))
    if len(rows) > ROWS_MAX:
        parts.append(Text(f"and {len(rows) - ROWS_MAX:,} more; --waiting or a prefix shows fewer, --json all", style="dim"))
    for one in found["told"][:ROWS_MAX]:
        others = ", ".join(one["waits_for"])
        parts.append(Text(f"{one['owner']} ({one['kind']}) has waited for {others} for {_age(one['age_ms'])}"))
    for core in found["deadlocks"]:
        said = "; ".join(f"{one['owner']} waits for {', '.join(one['waits_for'])} ({one['name'] or one['kind']})" for one in core)
        parts.append(Text(f"deadlock: {said}", style="bold red"))
    return parts


def _row(table: Any, one: Document) -> None:  # noqa: ANN401 - of rich, imported where it is needed
    from rich.text import Text

    name = one["name"] if "capacity" not in one else f"{one['name']} ({one['out']} of {_known(one['capacity'])} out)"
    holders, queue = one["holders"][:QUEUE_SHOWN], one["queue"][:QUEUE_SHOWN]
    held = [f"{each['owner']}{_mark(each)}" for each in holders]
    waits = [f"{each['owner']}{_mark(each)}" for each in queue]
    for rows, shown in ((held, one["holders"]), (waits, one["queue"])):
        if len(shown) > QUEUE_SHOWN:
            rows.append(f"and {len(shown) - QUEUE_SHOWN:,} more")
    columns = [
        [name],
        held,
        [str(each["token"]) for each in holders],
        [_age(each["age_ms"]) for each in holders],
        [_age(each["expires_in_ms"]) for each in holders],
        waits,
        [_age(each["age_ms"]) for each in queue],
    ]
    table.add_row(*(Text("\n".join(column)) for column in columns))


def _mark(one: Document) -> str:
    if "permits" in one:
        return f" ×{one['permits']}"
    return " (shared)" if one["mode"] == "shared" else ""


def _known(capacity: int | None) -> str:
    return "?" if capacity is None else str(capacity)


def _age(ms: int) -> str:
    """Return a time in words of two digits at least."""
    if ms < 0:
        return "over"
    seconds = ms / 1000
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
