"""A backtest over the log of a real broker says what real workers said while the log was written."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processors.core.cep.model import Definition
from processors.patterns.backtest import Backtest, read_range
from processors.patterns.trial import Trial
from schemas.catalogue import CATALOGUE
from streams.broker import EmbeddedBroker
from streams.codec import Codec
from streams.reader import LogReader, Selection
from tests.e2e.cep_trial import ABSENT, FOLLOWED, LOOP, CepTrial, definition, stage
from tests.e2e.trial import PARTITIONS, until

KEYED = definition(
    "keyed", [stage("a", "a"), stage("b", "b"), stage("c", "c")], within_ms=40, key="owner", disorder_ms=20, idle_after_ms=30_000
)
OWNERS = 40
LATER_MS = 10_000
"""When the last events are: after every window, and less than a minute ahead of the clock."""


def events(trial: CepTrial, count: int) -> Iterator[tuple[bytes, bytes]]:
    """Give out records, each a millisecond after the one before."""
    begin = time.time_ns() // 1_000_000
    for i in range(count):
        body = {"type": trial.chance.choice("abc"), "ts": begin + i, "owner": trial.chance.randrange(OWNERS)}
        yield b"k%d" % trial.chance.randrange(40), json.dumps(body).encode()
    trial.clock = begin + count


def last_events(trial: CepTrial) -> None:
    """Let event time pass all windows: on every partition, and for every lane of those behind."""
    for partition in range(PARTITIONS):
        bodies = ({"type": "z", "ts": trial.clock + LATER_MS + n, "owner": n} for n in range(OWNERS))
        trial.produce_events(((b"z", json.dumps(body).encode()) for body in bodies), partition=partition)


def backtested(trial: CepTrial, version: int, one: Definition) -> tuple[Counter[Any], Trial]:
    """Run one version over the trial's topic; return its matches as `CepTrial.results` has those of the workers."""
    reader = LogReader({"bootstrap.servers": trial.servers})
    on_trial = Trial(one.name, one, CATALOGUE, prefix=f"{trial.name}.", limit=10**6)
    backtest = Backtest(Codec(CATALOGUE), on_trial, partitions={trial.source: PARTITIONS})
    assert read_range(backtest, reader, reader.bounds([trial.source]), Selection())
    assert backtest.records == trial.sent
    found = Counter(
        (version, match.key, tuple((name, tuple(place[1:3] for place in of)) for name, of in sorted(match.stages)))
        for match in on_trial.tally.matches
    )
    return found, on_trial


def test_a_backtest_finds_what_the_workers_said(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Record by record the same matches: in order, with absence, in loops, and keyed anew by a field with disorder."""
    trial = CepTrial.on(kafka.bootstrap_servers, tmp_path)
    with trial:
        for one in (FOLLOWED, ABSENT, LOOP, KEYED):
            trial.publish(one)
        worker = trial.start(0)
        for version, one in trial.versions.items():
            if one is not KEYED:
                trial.wait_action(version, "activated")
        trial.produce_events(events(trial, 3_000))
        last_events(trial)
        trial.wait_committed(trial.sent)
        tests = {version: backtested(trial, version, one) for version, one in trial.versions.items()}
        want: Counter[Any] = sum((found for found, _ in tests.values()), Counter())
        until(lambda: sum(trial.results()["matched"].values()) >= sum(want.values()), "every match of the backtests is said", 60)
        trial.stop(worker)
        said = trial.results()["matched"]
        assert said == want
        for _, on_trial in tests.values():
            assert on_trial.tally.counts["matched"] > 0
            assert on_trial.tally.counts["late"] == 0
            assert on_trial.open(0).partial_matches == 0
