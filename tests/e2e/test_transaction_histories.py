"""Histories of real clients under faults, judged: serializable has no anomaly; read committed has, and the judge sees them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.core.verify.transactions import Report
from streams.broker import EmbeddedBroker
from tests.e2e.txn_trial import COMMITTED_MIN, TxnTrial

RUNS = 100
"""Of the soak."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[TxnTrial]:
    with TxnTrial(kafka.bootstrap_servers, tmp_path, roles="transactions", chance=random.Random(7)) as made:
        yield made


async def run(trial: TxnTrial, *faults: str) -> Report:
    """Run clients through faults, read everything, and judge."""
    history = await asyncio.to_thread(trial.run, faults)
    await trial.read_all(history)
    report = trial.judged(history, trial.isolation)
    assert report.committed >= COMMITTED_MIN, f"{report.committed} transactions; {trial.said()}"
    return report


def told(report: Report, history: str) -> str:
    """Return what is wrong, for a person."""
    return "\n".join(
        [history]
        + [f"{one.name} {one.text}" + "".join(f"\n  {edge.kind} {edge.why}" for _, edge in one.cycle) for one in report.forbidden]
    )


@pytest.mark.parametrize(
    ("mode", "faults"),
    [
        ("optimistic", ("worker_killed", "coordinator_killed")),
        ("optimistic", ("client_killed", "worker_frozen")),
        ("pessimistic", ("worker_replaced", "client_frozen")),
    ],
)
async def test_serializable_is_serializable_under_faults(trial: TxnTrial, mode: str, faults: tuple[str, ...]) -> None:
    """Workers, coordinators and clients are killed, frozen and replaced: no anomaly in what clients saw."""
    trial.mode = mode
    await trial.begin()
    await asyncio.to_thread(trial.start_coordinator)
    report = await run(trial, *faults)
    assert report.ok, told(report, trial.said())


async def test_read_committed_has_anomalies_that_the_judge_finds(trial: TxnTrial) -> None:
    """Nothing that read committed forbids of reads; held against serializable there are anomalies."""
    trial.isolation = "read_committed"
    await trial.begin()
    await asyncio.to_thread(trial.start_coordinator)
    await run(trial, "worker_hiccup")
    history = next(iter(trial.directory.glob("*.jsonl")))
    assert not trial.judged(history, "serializable").ok


@pytest.mark.soak
@pytest.mark.timeout(7_200)
async def test_a_hundred_runs_without_an_anomaly(trial: TxnTrial) -> None:
    """Random faults, optimistic and pessimistic in turn."""
    await trial.begin()
    await asyncio.to_thread(trial.start_coordinator)
    found: Counter[str] = Counter()
    for number in range(RUNS):
        trial.mode = ("optimistic", "pessimistic")[number % 2]
        report = await run(trial)
        found["committed"] += report.committed
        assert report.ok, f"run {number}: {told(report, trial.said())}"
        print(f"run {number + 1} of {RUNS}: {report.committed} committed, {report.edges} dependencies, no anomaly")  # noqa: T201 - progress
