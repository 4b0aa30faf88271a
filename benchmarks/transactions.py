"""Transactions: commits a second in one domain and over two, what is aborted, and recovery; `antiphon bench transactions`.

One worker process holds the arbiter and the coordinator, one process the clients, on a broker of their own. A transaction reads
two of 1,000 accounts, writes both, and is serializable; one that is aborted is run again, and counts once. What Postgres does
is in docs/performance.md.
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
"""As for locks: a broker that has just begun spends most of a core on compiling itself."""
PARTS: Final = os.environ.get("ANTIPHON_TEST_BENCH_PARTS", "commits,recovery").split(",")
RECOVERY_KEYS: Final = os.environ.get("ANTIPHON_TEST_BENCH_KEYS", "100000")
VERSIONS: Final = "10"

JOBS: Final = {
    "one domain, 1 client": ("1", "1"),
    "one domain, 64 clients": ("1", "64"),
    "two domains, 1 client": ("2", "1"),
    "two domains, 64 clients": ("2", "64"),
}
"""Domains and clients."""
UNITS: Final = {"rate": "commits/s", "p50": "ms", "p99": "ms", "aborted": "of attempts"}


def _commits(progress: Progress, found: dict[str, list[float]]) -> None:
    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        servers = broker.bootstrap_servers
        with Worker(python("txn_worker", servers)):
            progress(f"transactions: the broker warms up for {WARM_UP_S} s")
            result(python("txn_clients", servers, "transfer", "1", "64", WARM_UP_S))
            for number in range(1, ROUNDS + 1):
                for name, (domains, clients) in JOBS.items():
                    one = result(python("txn_clients", servers, "transfer", domains, clients, SECONDS))
                    for value in UNITS:
                        found.setdefault(f"{name}, {value}", []).append(one[value])
                    progress(
                        f"transactions, round {number} of {ROUNDS}: {name}: {one['rate']:,.0f} commits/s, "
                        f"p50 {one['p50']:.1f} ms, {one['aborted']:.1%} of attempts aborted"
                    )
            for domains in ("1", "2"):
                total = result(python("txn_clients", servers, "check", domains))
                found.setdefault("money that is gone", []).append(abs(total["total"] - total["expected"]))


def _recovery(progress: Progress, found: dict[str, list[float]]) -> None:
    """Time a worker from its start as a process to its first answer about a row that it had to recover."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        servers = broker.bootstrap_servers
        with Worker(python("txn_worker", servers)):
            progress(f"transactions: {RECOVERY_KEYS} rows are written {VERSIONS} times")
            result(python("txn_clients", servers, "fill", RECOVERY_KEYS, VERSIONS))
        for number in range(1, ROUNDS + 1):
            began = time.perf_counter()
            with Worker(python("txn_worker", servers)) as worker:
                result(python("txn_clients", servers, "first"))
                found.setdefault("recovery", []).append(time.perf_counter() - began)
                found.setdefault("recovery, of it the changelog", []).append(worker.ready["recovery_s"])
            progress(f"transactions, round {number} of {ROUNDS}: recovered in {found['recovery'][-1]:.1f} s")


def bench(progress: Progress) -> BenchReport:
    """Run every job in turn, `ROUNDS` times over."""
    found: dict[str, list[float]] = {}
    bars: list[Bar] = []
    if "commits" in PARTS:
        _commits(progress, found)
        one = statistics.median(found["one domain, 64 clients, rate"])
        two = statistics.median(found["two domains, 64 clients, rate"])
        gone = max(found["money that is gone"])
        bars += [
            Bar("one domain, 64 clients, commits a second", ">= 4000", round(one), one >= 4_000),
            Bar("two domains, 64 clients, commits a second", ">= 1000", round(two), two >= 1_000),
            Bar("money that is gone", "== 0", gone, gone == 0),
        ]
    if "recovery" in PARTS:
        _recovery(progress, found)
        took = statistics.median(found["recovery"])
        bars.append(Bar(f"recovery of {RECOVERY_KEYS} keys of {VERSIONS} versions, s", "<= 10", round(took, 2), took <= 10))

    def unit(name: str) -> str:
        return UNITS.get(name.rpartition(", ")[2], "s" if name.startswith("recovery") else "units")

    rows = [
        Row(name, round(statistics.median(rounds), 3), unit(name), tuple(round(one, 3) for one in rounds))
        for name, rounds in found.items()
    ]
    return BenchReport("transactions", tuple(rows), tuple(bars))
