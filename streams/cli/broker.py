"""``antiphon broker start|stop|status|logs``: the embedded Kafka as a background process of this machine."""

from __future__ import annotations

import signal
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from streams.broker import EmbeddedBroker
from streams.broker_files import RunningBroker, running_broker
from streams.cli.output import Exit, JsonFlag, err, fail, out, print_json
from streams.processes import send_signal, wait_gone
from streams.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="The embedded Kafka of this machine.", no_args_is_help=True)

STOP_S = 30.0
"""From SIGTERM to SIGKILL, as when its owner stops it."""

FOLLOW_S = 0.2
"""Between two looks at the log's end."""


@app.command()
def start(
    port: Annotated[
        int | None, typer.Option(help="Port for clients; the setting broker.port if not given.", min=0, max=65535)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where topics are kept; the setting broker.data_dir if not given.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Start Kafka in the background; it stays until `antiphon broker stop`. The first start downloads 37 MB."""
    settings = _settings(port, data_dir)
    if running := running_broker(Path(settings.broker.data_dir)):
        _show(running, settings, json=json, word="is running already")
        return
    EmbeddedBroker.from_settings(settings).start(detached=True)
    started = running_broker(Path(settings.broker.data_dir))
    if started is None:
        raise fail("the broker ended as soon as it was ready: look at `antiphon broker logs`", Exit.FAILED)
    _show(started, settings, json=json, word="is ready")


@app.command()
def stop(data_dir: Annotated[Path | None, typer.Option(help="As for start.")] = None, json: JsonFlag = False) -> None:
    """Stop it gracefully; its topics stay on disk."""
    settings = _settings(None, data_dir)
    running = running_broker(Path(settings.broker.data_dir))
    if running is not None and send_signal(running.process, signal.SIGTERM) and not wait_gone(running.process, STOP_S):
        err.print(f"it did not stop within {STOP_S:.0f} s and was killed; the next start recovers its log", style="yellow")
        send_signal(running.process, signal.SIGKILL)
        wait_gone(running.process, STOP_S)
    if json:
        print_json({"stopped": running is not None, "data_dir": str(settings.broker.data_dir)})
    else:
        out.print("stopped" if running else f"no broker runs on {settings.broker.data_dir}", highlight=False)


@app.command()
def status(data_dir: Annotated[Path | None, typer.Option(help="As for start.")] = None, json: JsonFlag = False) -> None:
    """Where it listens and since when; exit code 1 where none runs."""
    settings = _settings(None, data_dir)
    running = running_broker(Path(settings.broker.data_dir))
    if running is None:
        if json:
            print_json({"running": False, "data_dir": str(settings.broker.data_dir)})
        else:
            out.print(f"no broker runs on {settings.broker.data_dir}; `antiphon broker start` starts one", highlight=False)
        raise typer.Exit(Exit.FAILED)
    _show(running, settings, json=json, word="is running")


@app.command()
def logs(
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, until Ctrl-C.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="As for start.")] = None,
) -> None:
    """The end of Kafka's own log."""
    path = EmbeddedBroker(data_dir=_settings(None, data_dir).broker.data_dir).log_file
    if not path.exists():
        raise fail(f"no log at {path}: no broker has run there yet", Exit.MISSING)
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in deque(file, maxlen=lines):
            typer.echo(line, nl=False)
        while follow:
            if line := file.readline():
                typer.echo(line, nl=False)
            elif path.stat().st_ino != _inode(file.fileno()):  # rotated
                break
            else:
                time.sleep(FOLLOW_S)


def _inode(descriptor: int) -> int:
    import os

    return os.fstat(descriptor).st_ino


def _settings(port: int | None, data_dir: Path | None) -> Settings:
    """The settings with what the options say instead."""
    chosen = {"port": port, "data_dir": data_dir}
    return Settings(broker={name: value for name, value in chosen.items() if value is not None})


def _show(running: RunningBroker, settings: Settings, *, json: bool, word: str) -> None:
    data_dir = Path(settings.broker.data_dir)
    uptime_s = max(0, int(time.time() - running.since_ms / 1000))
    if json:
        print_json(
            {
                "running": True,
                "bootstrap_servers": running.bootstrap_servers,
                "pid": running.pid,
                "detached": running.detached,
                "uptime_s": uptime_s,
                "data_dir": str(data_dir),
            }
        )
        return
    out.print(f"Kafka {word} at [bold]{running.bootstrap_servers}[/] (process {running.pid}, up {uptime_s} s)", highlight=False)
    out.print(f"data in {data_dir}", style="dim", highlight=False, soft_wrap=True)
    if not running.detached:
        out.print("it ends with the program that started it", style="dim")
