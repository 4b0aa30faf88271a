"""The worker's web pages: /metrics, /health, /ready and /status.

| page | answers | for |
| --- | --- | --- |
| /metrics | prometheus's text, or OpenMetrics where asked for | the scraper |
| /health | 200, or 503 when only a restart or a fix helps | a liveness probe |
| /ready | 200, or 503 while the worker does not process what it is assigned | a readiness probe, a rolling update |
| /status | everything, as JSON | people, the console |

A 503 says why not, in the words of `streams.status`. The pages answer from the moment the worker starts, also while its
tables are read back; Faust's own web server would answer only after that, which is too late for a liveness probe. They run on the
worker's event loop: a processor that blocks it for long is not healthy, and the probe's timeout says so.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web
from mode import Service

from streams.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.metrics import PrometheusObserver
    from streams.settings import Settings
    from streams.status import Status

__all__ = ["WorkerPages", "install"]

SHUTDOWN_S: Final = 1.0  # for a scrape in flight when the worker stops; the turn's own grace is elsewhere

_log = logging.getLogger(__name__)


class WorkerPages(Service):  # type: ignore[misc]  # mode has no types here
    """Serves the pages while its app runs."""

    def __init__(self, *, settings: Settings, status: Callable[[], Status], metrics: PrometheusObserver) -> None:
        """Takes what the pages show.

        Args:
            settings: Where to listen: `worker.web_host` and `worker.web_port`.
            status: The worker's snapshot, cheap to take.
            metrics: What /metrics shows.
        """
        super().__init__()
        self._host = settings.worker.web_host
        self._port = settings.worker.web_port
        self._status = status
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self.port = 0
        """The port it listens on; 0 before it started."""

    @property
    def url(self) -> str:
        """Where the pages are; the port is the real one once started."""
        host = "127.0.0.1" if self._host in ("0.0.0.0", "::") else self._host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port or self._port}"

    async def on_start(self) -> None:
        """Begins to listen.

        Raises:
            SettingsError: The port is taken, or the address is not this machine's.
        """
        pages = web.Application()
        pages.router.add_get("/metrics", self._on_metrics)
        pages.router.add_get("/health", self._on_health)
        pages.router.add_get("/ready", self._on_ready)
        pages.router.add_get("/status", self._on_status)
        self._runner = web.AppRunner(pages, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as fault:
            await self._runner.cleanup()
            self._runner = None
            if fault.errno == errno.EADDRINUSE:
                raise SettingsError(
                    f"worker.web_port (ANTIPHON_WORKER__WEB_PORT) = {self._port}: another program listens on it; "
                    "stop it, choose another, or 0 for a free one"
                ) from fault
            raise SettingsError(
                f"worker.web_host (ANTIPHON_WORKER__WEB_HOST) = {self._host!r}: cannot listen on port {self._port} there "
                f"({fault.strerror or fault}); allowed is an address of this machine, such as 127.0.0.1 or 0.0.0.0"
            ) from fault
        self.port = self._runner.addresses[0][1]
        _log.info("pages at %s: /metrics /health /ready /status", self.url)

    async def on_stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _on_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _on_health(self, _request: web.Request) -> web.Response:
        return self._verdict("healthy")

    async def _on_ready(self, _request: web.Request) -> web.Response:
        return self._verdict("ready")

    async def _on_status(self, _request: web.Request) -> web.Response:
        status = self._take()
        return _json(status.as_dict(), 200) if status else _json({"reasons": [_UNKNOWN]}, 503)

    def _verdict(self, name: str) -> web.Response:
        status = self._take()
        if status is None:
            return _json({name: False, "state": "unknown", "reasons": [_UNKNOWN]}, 503)
        verdict: bool = getattr(status, name)
        answer = {
            name: verdict,
            "state": status.state,
            "reasons": list(status.reasons),
            "app_id": status.app_id,
            "instance": status.instance,
        }
        return _json(answer, 200 if verdict else 503)

    def _take(self) -> Status | None:
        try:
            return self._status()
        except Exception:  # noqa: BLE001 - a page must answer, and the log has the rest
            _log.exception("the worker's status could not be taken")
            return None


_UNKNOWN: Final = "the worker's status could not be taken: see its log"


def _json(content: dict[str, Any], code: int) -> web.Response:
    headers = {"Cache-Control": "no-store"}  # a proxy's yesterday is no health
    return web.Response(body=orjson.dumps(content), status=code, content_type="application/json", headers=headers)


def install(
    app: Any,  # noqa: ANN401 - a faust.App, which has no types
    settings: Settings,
    status: Callable[[], Status],
    metrics: PrometheusObserver,
) -> WorkerPages | None:
    """Adds the pages to an app that has not started; they start first of its services and stop with it.

    Args:
        app: A `faust.App`.
        settings: Where to listen, and whether.
        status: The worker's snapshot, cheap to take.
        metrics: What /metrics shows; the status joins it.

    Returns:
        The service; None where `worker.web` is off.
    """
    metrics.watch(status)
    if not settings.worker.web:
        return None
    pages = WorkerPages(settings=settings, status=status, metrics=metrics)
    app.add_dependency(pages)
    return pages
