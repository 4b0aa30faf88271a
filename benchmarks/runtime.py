"""The runtime against the bare client and stock Faust, in one run on one topic, interleaved; `antiphon bench runtime`.

Each number is the median of its rounds, each ratio the median of the ratios within a round: the machine's speed drifts, and what
ran side by side drifted together. The job is that of `benchmarks.jobs.work` for all.
"""

from __future__ import annotations

import os
import secrets
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from benchmarks.children import Worker, python, result
from benchmarks.jobs.work import PARTITIONS, records
from streams.bench import Bar, BenchReport, Progress, Row
from streams.broker import EmbeddedBroker
from streams.topics import COMPACTED, Topics

ROUNDS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_ROUNDS", "3"))
EVENTS: Final = int(os.environ.get("ANTIPHON_TEST_BENCH_EVENTS", "500000"))
"""For the fast ones: two to five seconds each."""
STOCK_SHARE: Final = {"plain": 10, "table": 25}
"""Stock Faust gets this fraction of the events: it takes as long for them."""
COMMANDS: Final = 500
RECOVERED_KEYS: Final = 100_000

Jobs = Mapping[str, Callable[[], dict[str, float]]]


def _fill(servers: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    made = records()
    for i in range(count):
        key, value = made[i % len(made)]
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.05)
        if i % 1_000 == 0:
            producer.poll(0)
    producer.flush()


def _fill_changelog(servers: str, topic: str, keys: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for i in range(keys):
        producer.produce(topic, b"%d" % i, b'"agent-%06d"' % i, partition=i % PARTITIONS)
    producer.flush()


def _round_trip(servers: str, name: str) -> dict[str, float]:
    topics = Topics(servers)
    source, out = f"{name}.in", f"{name}.out"
    topics.create(source, partitions=PARTITIONS)
    topics.create(out, partitions=PARTITIONS)
    with Worker(python("echo", servers, source, out, name)):
        return result(python("latency", servers, source, out, str(COMMANDS)))


def _recovery(servers: str, name: str) -> dict[str, float]:
    topics = Topics(servers)
    topics.create(f"{name}.in", partitions=PARTITIONS)
    topics.create(f"{name}-counts-changelog", partitions=PARTITIONS, config=COMPACTED)
    _fill_changelog(servers, f"{name}-counts-changelog", RECOVERED_KEYS)
    with Worker(python("echo", servers, f"{name}.in", f"{name}.in", name)) as worker:
        if worker.ready["records"] != RECOVERED_KEYS:
            raise RuntimeError(f"recovered {worker.ready['records']} of {RECOVERED_KEYS} keys")
        return {"seconds": worker.ready["recovery_s"]}


def _jobs(servers: str, source: str, out: str) -> Jobs:
    def job(module: str, count: int, *more: str) -> Callable[[], dict[str, float]]:
        return lambda: result(python(module, servers, source, out, str(count), *more))

    return {
        "bare loop": job("bare", EVENTS),
        "stock Faust": job("stock", EVENTS // STOCK_SHARE["plain"], "plain"),
        "stock Faust, table": job("stock", EVENTS // STOCK_SHARE["table"], "table"),
        "ours": job("ours", EVENTS, "plain", "exactly_once"),
        "ours, table": job("ours", EVENTS, "table", "exactly_once"),
        "ours, at least once": job("ours", EVENTS, "plain", "at_least_once"),
        "ours, table, at least once": job("ours", EVENTS, "table", "at_least_once"),
    }


def _bars(rates: Mapping[str, list[float]], round_trip: list[float], recovery: list[float]) -> list[Bar]:
    def ratio(ours: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[ours], rates[other], strict=True))

    def at_least(name: str, value: float, bar: float) -> Bar:
        return Bar(name, f">= {bar}", round(value, 3), value >= bar)

    def at_most(name: str, value: float, bar: float) -> Bar:
        return Bar(name, f"<= {bar}", round(value, 3), value <= bar)

    return [
        at_least("ours / stock Faust", ratio("ours", "stock Faust"), 15),
        at_least("ours, table / stock Faust, table", ratio("ours, table", "stock Faust, table"), 20),
        at_least("ours / bare loop", ratio("ours", "bare loop"), 0.55),
        at_most("cost of exactly once", 1 - ratio("ours", "ours, at least once"), 0.20),
        at_most("cost of exactly once, table", 1 - ratio("ours, table", "ours, table, at least once"), 0.20),
        at_most("round trip p50, ms", statistics.median(round_trip), 10),
        at_most(f"recovery of {RECOVERED_KEYS} keys, s", statistics.median(recovery), 5),
    ]


def bench(progress: Progress) -> BenchReport:
    """Run every job in turn, `ROUNDS` times over, on a broker of its own."""
    rates: dict[str, list[float]] = {}
    trips: dict[str, list[float]] = {"p50": [], "p90": [], "p99": []}
    recovery: list[float] = []
    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        servers, topics = broker.bootstrap_servers, Topics(broker.bootstrap_servers)
        for topic in ("bench.in", "bench.out"):
            topics.create(topic, partitions=PARTITIONS)
        progress(f"writing {EVENTS:,} events")
        _fill(servers, "bench.in", EVENTS)
        for number in range(1, ROUNDS + 1):
            for name, job in _jobs(servers, "bench.in", "bench.out").items():
                found = job()["rate"]
                rates.setdefault(name, []).append(found)
                progress(f"round {number} of {ROUNDS}: {name}: {found:,.0f} events/s")
            for name, value in _round_trip(servers, f"trip-{secrets.token_hex(4)}").items():
                trips[name].append(value)
            progress(f"round {number} of {ROUNDS}: round trip p50 {trips['p50'][-1]:.1f} ms, p99 {trips['p99'][-1]:.1f} ms")
            recovery.append(_recovery(servers, f"recovery-{secrets.token_hex(4)}")["seconds"])
            progress(f"round {number} of {ROUNDS}: {RECOVERED_KEYS:,} keys recovered in {recovery[-1]:.2f} s")

    def row(name: str, unit: str, rounds: list[float], digits: int) -> Row:
        return Row(name, round(statistics.median(rounds), digits), unit, tuple(round(one, digits) for one in rounds))

    rows = [row(name, "events/s", found, 0) for name, found in rates.items()]
    rows += [row(f"round trip {name}", "ms", found, 2) for name, found in trips.items()]
    ratios = [a / b for a, b in zip(rates["ours, table"], rates["bare loop"], strict=True)]
    rows.append(row("ours, table / bare loop", "ratio", ratios, 3))
    rows.append(row(f"recovery of {RECOVERED_KEYS} keys", "s", recovery, 2))
    return BenchReport("runtime", tuple(rows), tuple(_bars(rates, trips["p50"], recovery)))
