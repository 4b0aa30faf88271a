"""Patterns under real faults: what the workers say equals `Matcher` offline over the same log, each result exactly once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.e2e.cep_trial import ABSENT, FOLLOWED, LOOP, CepTrial, events
from tests.e2e.trial import until

SHORT_KILLS, LONG_KILLS = 3, 20


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> CepTrial:
    return CepTrial.on(kafka.bootstrap_servers, tmp_path)


def killed_while_patterns_change(trial: CepTrial, kills: int, **settings: str) -> None:
    """Kill the only worker at random moments under load, while patterns are replaced."""
    chance = random.Random(time.time_ns())
    trial.publish(FOLLOWED, ABSENT, LOOP)
    worker = trial.start(0, **settings)
    for round_ in range(kills):
        trial.produce_events(events(trial.records // kills, keys=40, seed=round_, span_ms=1_000))
        if round_ % 3 == 1:
            trial.publish(FOLLOWED.model_copy(update={"description": f"{round_}", "on_replace": "drain"}))
        if round_ % 3 == 2:
            trial.publish(LOOP.model_copy(update={"description": f"{round_}", "on_replace": "restart"}))
        moment = time.monotonic() + chance.random() * 2.0
        until(lambda at=moment: time.monotonic() >= at, "a random moment")  # type: ignore[misc]
        worker.kill()
        worker.wait()
        worker = trial.start(0, **settings)
    trial.finish()


def test_a_worker_killed_while_patterns_run_and_change_finds_everything_once(trial: CepTrial) -> None:
    """Three kill -9 under load, with partial matches, absence timers and replaced patterns, neither lose nor double a result."""
    trial.records = 6_000
    with trial:
        killed_while_patterns_change(trial, SHORT_KILLS)
