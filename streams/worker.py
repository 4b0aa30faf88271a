"""Runs a Faust app as a worker process: logs, metrics, spans, web pages, settings that follow their file, and an orderly end.

SIGTERM and SIGINT stop it gracefully: the turn that runs is finished and committed, the group is left, then the process ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import faust

from streams import interpreter, logs, web
from streams.errors import AntiphonError
from streams.live import LiveSettings
from streams.metrics import PrometheusObserver
from streams.observer import Observers
from streams.settings import Settings
from streams.tracing import Tracing
from streams.turns import App
from streams.turns.options import unique_instance

__all__ = ["Register", "build_app", "run_worker"]

Register = Callable[[Any], None]
"""What the entry point of a processor names: puts its agents and tables on the app."""

EXIT_FAILED: Final = 1

_log = logging.getLogger(__name__)


def build_app(settings: Settings, registers: Sequence[Register], *, bootstrap_servers: str = "") -> App:
    """The app of a worker, with everything that makes it visible from outside.

    Args:
        settings: Of the process.
        registers: Those of the processors that it runs.
        bootstrap_servers: The resolved brokers, where the embedded one is used.

    Raises:
        SettingsError: The span exporter's package is not installed.
    """
    worker = settings.worker
    instance = worker.instance or unique_instance()
    logs.configure(settings.log, app_id=worker.app_id, instance=instance)
    metrics = PrometheusObserver(app_id=worker.app_id, instance=instance)
    tracing = Tracing(settings.tracing, instance=instance, make_global=True)
    observer = Observers(metrics, tracing.observer())
    app = App.from_settings(settings, instance=instance, bootstrap_servers=bootstrap_servers, observer=observer)
    web.install(app, settings, app.status, metrics)
    for register in registers:
        register(app)
    live = LiveSettings(settings)

    @app.task
    async def follow_settings() -> None:
        await live.watch()

    live.on_change(lambda new: app.change(batch_records_max=new.worker.turn_records_max, stall_after_s=new.worker.stall_after_s))
    return app


def run_worker(app: App, *, loglevel: str | None = None) -> int:
    """Run until a signal or a failure; on a signal the running batches are finished and committed.

    Args:
        app: The app, its processors declared.
        loglevel: Let Faust set logging up with this level; None leaves logging as it is.

    Returns:
        The exit code: 0 after a signal, 1 after a failure that has no words of its own.

    Raises:
        AntiphonError: What kept it from starting or stopped it, in one line.
    """
    app.preflight()
    interpreter.tune()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = faust.Worker(
        app, loop=loop, loglevel=loglevel, override_logging=loglevel is not None, quiet=True, redirect_stdouts=False
    )
    worker.spinner = None  # it writes escape codes to stderr, terminal or not, and breaks the first line of JSON logs
    code = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        code = EXIT_FAILED if ended.code not in (0, None) else 0
    except Exception as error:  # noqa: BLE001 whatever stopped the worker, the first failure says why
        app.failure = app.failure or error
    if isinstance(app.failure, AntiphonError):
        raise app.failure
    if app.failure is not None:
        _log.error("the worker stopped: %r", app.failure)
        return EXIT_FAILED
    return code
