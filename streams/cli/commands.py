"""``antiphon``: the broker, topics, records, workers, benchmarks and settings from the command line.

Exit codes: 0 all is well; 1 a check or a bar did not hold, or the job failed; 2 wrong usage or settings; 3 the broker does not
answer or refuses; 4 what was named does not exist. An error is one line on standard error.

Packages add commands by entry point group ``antiphon.commands``: the name is the command's, the object a typer app or a function.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from streams.cli import bench, broker, deadletters, produce, replay, sagas, settings, table, tail, topics, txn, worker
from streams.cli.output import Exit, err, exit_code, fail, out
from streams.errors import AntiphonError

__all__ = ["app", "main"]

COMMANDS = "antiphon.commands"

app = typer.Typer(
    name="antiphon",
    help="Coordination for AI agent services as events on Kafka.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a trace is for a bug; what we expect is one line
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"antiphon {version('antiphon')}", highlight=False)
        raise typer.Exit(Exit.OK)


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Coordination for AI agent services as events on Kafka."""


app.add_typer(broker.app, name="broker")
app.add_typer(topics.app, name="topics")
app.command("produce")(produce.produce)
app.command("tail")(tail.tail)
app.command("replay")(replay.replay)
app.add_typer(deadletters.app, name="deadletters")
app.add_typer(table.app, name="table")
app.add_typer(sagas.app, name="sagas")
app.add_typer(txn.app, name="txn")
app.command("worker")(worker.worker)
app.command("bench")(bench.bench)
app.command("settings")(settings.settings)


def add_installed_commands() -> None:
    """Add the commands of other packages, each once; one that cannot be imported costs itself, not the others."""
    known = {one.name for one in app.registered_commands} | {one.name for one in app.registered_groups}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        if entry.name in known:
            continue
        try:
            command = entry.load()
        except ImportError as error:
            err.print(f"command {entry.name} is not available: {error}", style="yellow", soft_wrap=True)
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


def main() -> None:
    """Run the command that ``sys.argv`` names, and exit with its code."""
    add_installed_commands()
    try:
        app()
    except AntiphonError as error:
        fail(" ".join(str(error).split("\n")) if exit_code(error) is not Exit.USAGE else str(error), exit_code(error))
        sys.exit(exit_code(error))
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)
