"""Sagas: how many a second, how long one takes, and what a killed orchestrator costs; `antiphon bench sagas`.

One orchestrator worker, one participant process and one process of clients, on a broker of their own. A saga has three steps with
compensations, which the participant does at once.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.children import MARK, Worker, environment, python, result
from streams.bench import Bar, BenchReport, Progress, Row
from streams.broker import EmbeddedBroker

__all__ = ["bench"]

ROUNDS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_ROUNDS", "3"))
SECONDS: Final = os.environ.get("ANTIPHON_TEST_BENCH_SECONDS", "5")
WARM_UP_S: Final = os.environ.get("ANTIPHON_TEST_BENCH_WARM_UP_S", "60")
"""As for locks: a broker that has just begun spends most of a core on compiling itself."""
AT_ONCE: Final = (1, 16, 100)
IN_FLIGHT: Final = "500"
UNITS: Final = {"rate": "sagas/s", "p50": "ms", "p99": "ms", "twice": "steps"}


def _rates(progress: Progress, servers: str, number: int, found: dict[str, list[float]]) -> None:
    for at_once in AT_ONCE:
        one = result(python("saga_clients", servers, "run", str(at_once), SECONDS))
        for value in UNITS:
            found.setdefault(f"{at_once} at once, {value}", []).append(one[value])
        progress(f"sagas, round {number} of {ROUNDS}: {at_once} at once: {one['rate']:,.0f} sagas/s, p50 {one['p50']:.1f} ms")


def _takeover(progress: Progress, servers: str, state: str, number: int, found: dict[str, list[float]], worker: Worker) -> Worker:
    """Kill the orchestrator with sagas in flight; return the new one."""
    command = python("saga_clients", servers, "takeover", IN_FLIGHT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as clients:
        assert clients.stdout is not None, "it is a pipe"
        told: dict[str, Any] = {}
        again, restarted = worker, 0.0
        for line in clients.stdout:
            if line.startswith("STARTED"):
                worker.kill()
                restarted = time.time()
                again = Worker(python("saga_worker", servers, state))
                again.__enter__()
            elif (at := line.find(MARK)) >= 0:
                told = json.loads(line[at + len(MARK) :])
    found.setdefault("takeover, all ended", []).append(told["last"] - restarted)
    found.setdefault("takeover, steps that ran twice", []).append(told["twice"])
    progress(f"sagas, round {number} of {ROUNDS}: {IN_FLIGHT} in flight ended {told['last'] - restarted:.1f} s after the restart")
    return again


def bench(progress: Progress) -> BenchReport:
    """Run every job in turn, `ROUNDS` times over."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        servers, state = broker.bootstrap_servers, str(Path(directory) / "state")
        worker = Worker(python("saga_worker", servers, state))
        worker.__enter__()
        try:
            with Worker(python("saga_participant", servers)):
                progress(f"sagas: the broker warms up for {WARM_UP_S} s")
                result(python("saga_clients", servers, "run", "100", WARM_UP_S))
                for number in range(1, ROUNDS + 1):
                    _rates(progress, servers, number, found)
                    worker = _takeover(progress, servers, state, number, found, worker)
        finally:
            worker.__exit__()

    def median(name: str) -> float:
        return statistics.median(found[name])

    def unit(name: str) -> str:
        return "s" if name.endswith("ended") else UNITS.get(name.rpartition(", ")[2], "steps")

    rate, p50, took = median("100 at once, rate"), median("1 at once, p50"), median("takeover, all ended")
    twice = max(max(rounds) for name, rounds in found.items() if "twice" in name)
    bars = (
        Bar("100 at once, sagas a second", ">= 1000", round(rate), rate >= 1_000),
        Bar("one at once, p50, ms", "<= 60", round(p50, 1), p50 <= 60),
        Bar(f"{IN_FLIGHT} in flight, kill -9: all ended after, s", "<= 5", round(took, 2), took <= 5),
        Bar("steps that ran twice", "== 0", twice, twice == 0),
    )
    rows = tuple(
        Row(name, round(statistics.median(rounds), 3), unit(name), tuple(round(one, 3) for one in rounds))
        for name, rounds in found.items()
    )
    return BenchReport("sagas", rows, bars)
