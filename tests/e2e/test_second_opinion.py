"""The judge of lock histories against porcupine: the same verdict on every lock of simulated services, correct and broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processors.core.verify import Verdict, judge
from tests.e2e.second_opinion import opinion, program
from tests.processors.core.verify.simulated import Broken, Line, operations, simulated

SEEDS = 12
"""Of each kind of service."""


@pytest.fixture(scope="module")
def porcupine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(tmp_path_factory.getbasetemp())


def told(seed: int, broken: Broken | None) -> list[Line]:
    """A history on locks of its own."""
    lines = simulated(seed, broken)
    for line in lines:
        line["resource"] = f"{line['resource']} {seed} {broken}"
        line["client"] = f"{line['client']} {seed} {broken}"
    return lines


def test_porcupine_agrees(porcupine: Path, tmp_path: Path) -> None:
    """Lock by lock; the correct ones are accepted by both, and most of the broken ones refused by both."""
    lines = [line for broken in (None, *Broken) for seed in range(SEEDS) for line in told(seed, broken)]
    for number, line in enumerate(lines):
        line["id"] = number
    history = tmp_path / "history.jsonl"
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ours = {one.resource: one.verdict is Verdict.LINEARIZABLE for one in judge(operations(lines)).resources}
    theirs = opinion(porcupine, history)
    assert {name: verdict for name, verdict in theirs.items() if ours[name] != verdict} == {}
    assert theirs.keys() == ours.keys()
    assert all(verdict for name, verdict in theirs.items() if name.endswith(" None"))
    assert sum(not verdict for verdict in theirs.values()) > SEEDS * len(Broken) * 3 // 4  # locks, two in each history
