"""``antiphon worker NAMES...``: runs processors that installed packages offer, as one member of their consumer group."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated, Any

import typer

from streams.broker import resolve_bootstrap
from streams.cli.output import Exit, JsonFlag, fail, print_json, print_table
from streams.settings import Settings

__all__ = ["PROCESSORS", "worker"]

PROCESSORS = "antiphon.processors"


def worker(
    names: Annotated[
        list[str] | None, typer.Argument(help="Processors; the setting worker.processors if none.", show_default=False)
    ] = None,
    app_id: Annotated[str, typer.Option(help="Application and consumer group; worker.app_id if not given.")] = "",
    instance: Annotated[str, typer.Option(help="Unique id of this worker; worker.instance if not given.")] = "",
    web_port: Annotated[
        int | None, typer.Option(help="For /metrics, /health and /ready; 0 picks a free one.", min=0, max=65535)
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the installed processors and exit.")] = False,
    json: JsonFlag = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; it finishes its turn first. With --json it logs in JSON."""
    found = {entry.name: entry for entry in entry_points(group=PROCESSORS)}
    if list_only:
        if json:
            print_json(sorted(found))
        else:
            print_table(
                ["processor", "where"], [(entry.name, entry.value) for entry in sorted(found.values(), key=lambda one: one.name)]
            )
        return
    chosen: dict[str, Any] = {
        "app_id": app_id or None,
        "instance": instance or None,
        "web_port": web_port,
        "processors": names or None,
    }
    overrides: dict[str, Any] = {"worker": {name: value for name, value in chosen.items() if value is not None}}
    if json:
        overrides["log"] = {"format": "json"}
    settings = Settings(**overrides)
    wanted = list(settings.worker.processors) or sorted(found)
    if unknown := [name for name in wanted if name not in found]:
        raise fail(
            f"no processor is called {', '.join(unknown)}: installed are {', '.join(sorted(found)) or 'none'}", Exit.MISSING
        )

    from streams.worker import build_app, run_worker  # imports faust: half a second that --help need not pay

    registers = [found[name].load() for name in wanted]
    raise typer.Exit(run_worker(build_app(settings, registers, bootstrap_servers=resolve_bootstrap(settings))))
