"""A live worker seen from outside: pages, metrics and logs while it works, stalls, follows its file and stops."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker

DEADLINE_S = 60.0
"""For each thing waited for; a few seconds as a rule, more on a machine that runs other tests."""
RECORDS = 500

WORKER = """
import asyncio, sys
from pathlib import Path
from streams.settings import Settings
from streams.worker import build_app, run_worker

topic, gate = sys.argv[1], Path(sys.argv[2])

def register(app):
    seen = app.Table("seen", default=int)

    @app.agent(app.batch_topic(topic), name="work")
    async def work(stream):
        async for batch in stream:
            view = batch.view(seen)
            for record in batch.records:
                view[record.key.decode()] = view.get(record.key.decode(), 0) + 1
                if record.value == b"slow":
                    while not gate.exists():
                        await asyncio.sleep(0.02)

sys.exit(run_worker(build_app(Settings(), [register])))
"""


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    url: str
    topic: str
    gate: Path
    config: Path
    log: Path
    servers: str

    async def get(self, path: str) -> tuple[int, Any]:
        try:
            async with aiohttp.ClientSession() as client, client.get(self.url + path) as answer:
                is_json = answer.content_type == "application/json"
                return answer.status, await (answer.json() if is_json else answer.text())
        except aiohttp.ClientConnectionError:
            return 0, {}

    async def metric(self, name: str) -> float:
        """The sum over a metric's series; 0.0 before it is there."""
        _, text = await self.get("/metrics")
        return sum(float(number) for number in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text or "", re.MULTILINE))

    def produce(self, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.servers})
        for number, value in enumerate(values):
            producer.produce(self.topic, value, f"k{number % 10}".encode(), partition=0)
        assert producer.flush(DEADLINE_S) == 0


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not await holds():
        assert asyncio.get_running_loop().time() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(0.1)


@pytest.fixture
async def worker(kafka: EmbeddedBroker, make_topic: Callable[..., str], tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker process with settings from a file, on a topic of one partition."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    topic, config, log = make_topic("seen", partitions=1), tmp_path / "antiphon.toml", tmp_path / "log.jsonl"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka.bootstrap_servers}"\n[log]\nformat = "json"\n'
        f'[worker]\napp_id = "{topic}-app"\ninstance = "w1"\npartitions = 1\nweb_port = {port}\n'
        f'stall_after_s = 1.0\nstate_dir = "{tmp_path}"\n'
    )
    gate = tmp_path / "gate"
    root = Path(__file__).parents[2]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            WORKER,
            topic,
            str(gate),
            cwd=root,
            stdout=out,
            stderr=out,
            env={**os.environ, "ANTIPHON_CONFIG": str(config)},
        )
    try:
        yield Worker(process, f"http://127.0.0.1:{port}", topic, gate, config, log, kafka.bootstrap_servers)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_live_worker_is_seen_from_outside(worker: Worker) -> None:
    """Ready, counted, stalled with the place named, released, its settings changed meanwhile, stopped, all its log in JSON."""

    async def is_ready() -> bool:
        assert worker.process.returncode is None, worker.log.read_text()
        return (await worker.get("/ready"))[0] == 200

    await until(is_ready, "/ready answers 200")
    _, status = await worker.get("/status")
    assert (status["state"], [one["partition"] for one in status["partitions"]]) == ("running", [0])

    worker.produce(*[b"quick"] * RECORDS)

    async def all_counted() -> bool:
        return await worker.metric("antiphon_events_total") == RECORDS

    async def keys_measured() -> bool:
        return await worker.metric("antiphon_table_keys") == 10

    await until(all_counted, "every record is counted once")
    await until(keys_measured, "the table's ten keys are measured")
    assert await worker.metric("antiphon_turns_total") >= 1
    assert await worker.metric("antiphon_turn_commit_seconds_count") >= 1
    assert await worker.metric("antiphon_ready") == 1

    worker.produce(b"slow")

    async def is_stalled() -> bool:
        code, content = await worker.get("/health")
        place = f"{worker.topic}[0] at offset {RECORDS} in processor work"
        return code == 503 and any("stalled" in reason and place in reason for reason in content["reasons"])

    await until(is_stalled, "/health names topic, partition, offset and processor of the stall")

    async def is_counted() -> bool:
        return await worker.metric("antiphon_stalls_total") == 1 and await worker.metric("antiphon_stalled_seconds") >= 1

    await until(is_counted, "the stall is counted, once, and its seconds are shown")
    worker.gate.touch()

    async def is_healthy() -> bool:
        return (await worker.get("/health"))[0] == 200 and await worker.metric("antiphon_stalled_seconds") == 0

    await until(is_healthy, "/health is 200 again once the processor goes on")
    assert await worker.metric("antiphon_stalls_total") == 1

    worker.config.write_text(worker.config.read_text().replace("stall_after_s = 1.0", "stall_after_s = 77.0"))

    async def is_followed() -> bool:
        return "worker.stall_after_s changed from 1.0 to 77.0" in worker.log.read_text()

    await until(is_followed, "the changed file is followed")

    worker.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(worker.process.wait(), DEADLINE_S) == 0
    for line in worker.log.read_text().splitlines():
        entry = json.loads(line)
        assert (entry["app"], entry["worker"]) == (f"{worker.topic}-app", "w1"), line
