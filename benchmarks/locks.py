"""Locks: latency, throughput, hand-off and what a killed holder costs; `antiphon bench locks`.

One worker process holds the coordination processor, one process the clients, on a broker of their own. An operation is a pair:
acquire and release, both answered. What peers do on this machine is in docs/performance.md.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.children import Worker, python, result
from streams.bench import Bar, BenchReport, Progress, Row
from streams.broker import EmbeddedBroker

__all__ = ["bench"]

ROUNDS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_ROUNDS", "3"))
SECONDS: Final = os.environ.get("ANTIPHON_TEST_BENCH_SECONDS", "5")
WARM_UP_S: Final = os.environ.get("ANTIPHON_TEST_BENCH_WARM_UP_S", "60")
"""A broker that has just begun spends most of a core on compiling itself; what peers were measured with had run for long, too."""
HANDOFF_ROUNDS: Final = "10"
LEASE_S: Final = 1.0
QUEUED_S: Final = 1.0
"""Until a waiter surely waits, before its holder is killed."""

PAIRS: Final = {
    "uncontended": ("1", "1"),
    "16 clients": ("16", "1"),
    "64 clients": ("64", "1"),
    "64 clients, 4 connections": ("64", "4"),
}
"""Clients and connections: an owner is a task, and tasks of a service share its mesh."""


def _killed(servers: str) -> float:
    """Return how many seconds after a holder's SIGKILL its waiter has the lock."""
    with (
        Worker(python("lock_clients", servers, "hold", str(LEASE_S))) as holder,
        Worker(python("lock_clients", servers, "succeed", str(LEASE_S))) as waiter,
    ):
        time.sleep(QUEUED_S)
        holder.kill()
        killed = time.time()
        return float(waiter.found()["at"]) - killed


def bench(progress: Progress) -> BenchReport:
    """Run every job in turn, `ROUNDS` times over."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        servers = broker.bootstrap_servers
        with Worker(python("lock_worker", servers)):
            progress(f"locks: the broker warms up for {WARM_UP_S} s")
            result(python("lock_clients", servers, "pairs", "64", "1", WARM_UP_S))
            for number in range(1, ROUNDS + 1):
                for name, (clients, connections) in PAIRS.items():
                    one = result(python("lock_clients", servers, "pairs", clients, connections, SECONDS))
                    note(f"{name}, pairs", one["rate"])
                    note(f"{name}, p50", one["p50"])
                    note(f"{name}, p99", one["p99"])
                    progress(
                        f"locks, round {number} of {ROUNDS}: {name}: {one['rate']:,.0f} pairs/s, "
                        f"p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms"
                    )
                one = result(python("lock_clients", servers, "handoff", HANDOFF_ROUNDS))
                note("hand-off, p50", one["p50"])
                note("hand-off, p99", one["p99"])
                note("hand-off, out of order", one["inversions"])
                progress(f"locks, round {number} of {ROUNDS}: hand-off p50 {one['p50']:.1f} ms, {one['inversions']} out of order")
                note("killed holder to next grant", _killed(servers))
                progress(f"locks, round {number} of {ROUNDS}: {found['killed holder to next grant'][-1]:.2f} s after a kill")

    def unit(name: str) -> str:
        if name.endswith("pairs"):
            return "pairs/s"
        if name.endswith("order"):
            return "of 150 neighbours"
        return "s" if name.endswith("grant") else "ms"

    values = {name: statistics.median(rounds) for name, rounds in found.items()}
    worst = {name: max(rounds) for name, rounds in found.items()}
    rows = [
        Row(name, round(values[name], 3), unit(name), tuple(round(one, 3) for one in rounds)) for name, rounds in found.items()
    ]
    kill_bar = LEASE_S + 0.5
    bars = (
        Bar("64 clients, pairs a second", ">= 5000", values["64 clients, pairs"], values["64 clients, pairs"] >= 5_000),
        Bar("p50 of an uncontended pair, ms", "<= 15", values["uncontended, p50"], values["uncontended, p50"] <= 15),
        Bar("hand-offs out of order", "== 0", worst["hand-off, out of order"], worst["hand-off, out of order"] == 0),
        Bar(
            "killed holder to next grant, s",
            f"<= {kill_bar}",
            round(worst["killed holder to next grant"], 3),
            worst["killed holder to next grant"] <= kill_bar,
        ),
    )
    return BenchReport("locks", tuple(rows), bars)
