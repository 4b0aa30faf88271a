"""The worker's pages on a real server: codes, reasons, formats, and when they begin to answer."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams.errors import SettingsError
from streams.metrics import PrometheusObserver
from streams.settings import Settings
from streams.status import (
    PartitionStatus,
    Status,
    TableStatus,
    reason_broker_unreachable,
    reason_no_partitions,
    reason_recovering,
    reason_stalled,
)
from streams.web import WorkerPages, install

DEADLINE_S = 30.0
"""For a child process to import faust and listen; two seconds as a rule."""

TABLES = (
    TableStatus(table="activity", partition=0, keys=430, recovered=430, to_recover=1_000),
    TableStatus(table="done", partition=0, keys=5, recovered=9, to_recover=9),
)
STALLED = reason_stalled(topic="agents.events", partition=2, offset=41, processor="overlap", seconds=33.4)
READY = Status(
    app_id="orders",
    instance="w1",
    generation=4,
    state="running",
    ready=True,
    partitions=(PartitionStatus(topic="agents.events", partition=2, lag_records=7, lag_seconds=1.5),),
)


class Worker:
    """Pages with a status that the test sets."""

    def __init__(self) -> None:
        self.status: Status | Exception = READY
        self.metrics = PrometheusObserver()
        self.pages = WorkerPages(settings=Settings(), status=self.take, metrics=self.metrics)

    def take(self) -> Status:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    async def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        async with aiohttp.ClientSession() as client, client.get(self.pages.url + path, headers=headers) as answer:
            content = await (answer.json() if answer.content_type == "application/json" else answer.text())
            return answer.status, content, answer.headers["Content-Type"]


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker()
    await made.pages.start()
    yield made
    await made.pages.stop()


async def test_a_ready_worker_answers_200_on_both(worker: Worker) -> None:
    """With no reasons."""
    for path, name in (("/health", "healthy"), ("/ready", "ready")):
        code, content, _ = await worker.get(path)
        assert (code, content[name], content["reasons"], content["state"]) == (200, True, [], "running")


@pytest.mark.parametrize(
    ("status", "health", "ready", "reason"),
    [
        (
            Status(app_id="o", instance="w", state="recovering", tables=TABLES, reasons=(reason_recovering(TABLES),)),
            200,
            503,
            "recovering activity: 43 % (430 of 1000 changelog offsets)",
        ),
        (
            Status(app_id="o", instance="w", state="running", reasons=(reason_no_partitions(("agents.events",)),)),
            200,
            503,
            "no partitions assigned of agents.events: more workers than partitions, or the first rebalance is not over",
        ),
        (
            Status(app_id="o", instance="w", reasons=(reason_broker_unreachable("kafka-1:9092", 12.2),)),
            200,
            503,
            "broker kafka-1:9092 unreachable for 12 s: start it, or check kafka.bootstrap_servers",
        ),
        (
            Status(app_id="o", instance="w", state="running", healthy=False, reasons=(STALLED,)),
            503,
            503,
            "stalled: agents.events[2] at offset 41 in processor overlap for 33 s",
        ),
    ],
)
async def test_a_worker_that_is_not_ready_says_why(worker: Worker, status: Status, health: int, ready: int, reason: str) -> None:
    """Each reason is one line for an operator; only what needs a restart or a fix fails the liveness probe."""
    worker.status = status
    code, content, _ = await worker.get("/health")
    assert (code, content["reasons"]) == (health, [reason])
    code, content, _ = await worker.get("/ready")
    assert (code, content["reasons"], content["ready"]) == (ready, [reason], False)


async def test_metrics_are_prometheus_text_or_open_metrics(worker: Worker) -> None:
    """By the Accept header, with the worker's state among them."""
    worker.metrics.watch(worker.take)
    code, text, content_type = await worker.get("/metrics")
    assert code == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "antiphon_ready 1.0" in text
    _, text, content_type = await worker.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_status_is_everything_as_json(worker: Worker) -> None:
    """Partitions and sums included."""
    code, content, _ = await worker.get("/status")
    assert code == 200
    assert content["partitions"][0]["lag_records"] == 7
    assert (content["lag_records"], content["lag_seconds"], content["generation"]) == (7, 1.5, 4)


async def test_a_status_that_cannot_be_taken_is_a_503_and_in_the_log(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """A probe gets an answer, not a broken connection."""
    worker.status = RuntimeError("dictionary changed size")
    for path in ("/health", "/ready", "/status"):
        code, content, _ = await worker.get(path)
        assert code == 503
        assert content["reasons"] == ["the worker's status could not be taken: see its log"]
    assert "dictionary changed size" in caplog.text


async def test_a_taken_port_is_one_clear_line() -> None:
    """With both names of the setting and what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        pages = WorkerPages(settings=Settings(worker={"web_port": port}), status=lambda: READY, metrics=PrometheusObserver())
        with pytest.raises(SettingsError, match=rf"ANTIPHON_WORKER__WEB_PORT\) = {port}: another program listens on it"):
            await pages.start()
        await pages.stop()


async def test_an_address_that_is_not_this_machines_is_one_clear_line() -> None:
    """192.0.2.0/24 belongs to documentation, never to a machine."""
    pages = WorkerPages(settings=Settings(worker={"web_host": "192.0.2.1"}), status=lambda: READY, metrics=PrometheusObserver())
    with pytest.raises(SettingsError, match=r"worker\.web_host .* cannot listen"):
        await pages.start()
    await pages.stop()


async def test_stopping_frees_the_port(worker: Worker) -> None:
    """A restarted worker can listen on the same one."""
    url = worker.pages.url
    await worker.pages.stop()
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(url + "/health")


APP_WITHOUT_BROKER = """
import asyncio, sys, faust
from streams.metrics import PrometheusObserver
from streams.settings import Settings
from streams.status import Status, reason_broker_unreachable
from streams.web import install

async def main():
    app = faust.App("pages-early", broker="kafka://127.0.0.1:1", web_enabled=False, datadir=sys.argv[1])
    @app.agent(app.topic("t"))
    async def work(stream):
        async for _ in stream:
            pass
    waiting = Status(app_id="o", instance="w", reasons=(reason_broker_unreachable("127.0.0.1:1", 0),))
    pages = install(app, Settings(), lambda: waiting, PrometheusObserver())
    starting = asyncio.create_task(app.start())
    while not pages.port:
        await asyncio.sleep(0.02)
    print(pages.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_pages_answer_while_the_app_still_waits_for_its_broker(tmp_path: Path) -> None:
    """A liveness probe must not wait for Kafka: on a Faust app whose broker is away, /health answers and /ready says why."""
    # A process of its own, because a Faust app that is stopped while it starts leaves an event loop unclosed.
    root = str(Path(__file__).parents[2])
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        APP_WITHOUT_BROKER,
        str(tmp_path),
        cwd=root,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert child.stdout is not None
    try:
        url = (await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)).decode().strip()
        async with aiohttp.ClientSession() as client:
            async with client.get(url + "/health") as answer:
                assert answer.status == 200
            async with client.get(url + "/ready") as answer:
                assert answer.status == 503
                assert "unreachable" in (await answer.json())["reasons"][0]
    finally:
        child.kill()
        await child.communicate()


async def test_no_pages_where_they_are_switched_off() -> None:
    """worker.web = false serves nothing, and the metrics still know the status."""
    metrics = PrometheusObserver()
    assert install(object(), Settings(worker={"web": False}), lambda: READY, metrics) is None
    assert metrics.registry.get_sample_value("antiphon_ready") == 1
