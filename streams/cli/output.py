"""What every command shares: where it prints, how it fails, and which broker it talks to.

Results go to standard output: a rich table for a person, one JSON document (or one a line, where there are many) with ``--json``.
Everything else (progress, notes, errors) goes to standard error, so that a pipe holds results only.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from streams.errors import AntiphonError, BrokerError, ProcessorError, SettingsError, TopicMissing
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.topics import Topics

__all__ = ["Exit", "JsonFlag", "cluster_config", "err", "exit_code", "fail", "out", "print_json", "print_table", "topics_of"]

out = Console()
err = Console(stderr=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Exit(IntEnum):
    """What the exit code of a command says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BROKER = 3
    MISSING = 4


def exit_code(error: AntiphonError) -> Exit:
    """The exit code that an error ends a command with."""
    if isinstance(error, SettingsError):
        return Exit.USAGE
    if isinstance(error, BrokerError):
        return Exit.BROKER
    if isinstance(error, TopicMissing):
        return Exit.MISSING
    return Exit.FAILED


def fail(message: str, code: Exit) -> typer.Exit:
    """Print one line to standard error; raise what is returned."""
    err.print(f"[bold red]error:[/] {_plain(message)}", soft_wrap=True, highlight=False)
    return typer.Exit(code)


def print_json(document: object) -> None:
    """One JSON document on a line of its own."""
    typer.echo(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS, default=str).decode())


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str | None = None) -> None:
    """A table for a person; numbers to the right."""
    from rich.table import Table

    listed = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(
            *(f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else _plain(str(cell)) for cell in row)
        )
    out.print(table)


def cluster_config(settings: Settings | None = None) -> dict[str, Any]:
    """What a confluent-kafka client is made with: the configured cluster, or the embedded broker, started if none runs."""
    from streams.broker import resolve_bootstrap, running_broker

    settings = settings or Settings()
    if not settings.kafka.bootstrap_servers and running_broker(settings.broker.data_dir) is None:
        err.print("starting the embedded Kafka for this command (`antiphon broker start` keeps one running)", style="dim")
    return settings.kafka.client_config(resolve_bootstrap(settings))


def topics_of(settings: Settings | None = None) -> Topics:
    """The cluster's topics."""
    from streams.topics import Topics

    return Topics(cluster_config(settings))


def key_values(pairs: Iterable[str]) -> Mapping[str, str]:
    """``name=value`` options as a mapping.

    Raises:
        typer.BadParameter: one has no equals sign.
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is not name=value")
        found[name] = value
    return found


def not_found(kind: str, name: str, known: Iterable[str]) -> ProcessorError:
    """An error that names what there is instead."""
    return ProcessorError(f"no {kind} is called {name}: known are {', '.join(sorted(known)) or 'none'}")


def _plain(text: str) -> str:
    """Text whose brackets are not markup."""
    from rich.markup import escape

    return escape(text)
