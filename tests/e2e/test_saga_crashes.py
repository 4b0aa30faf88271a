"""The crash matrix: orchestrator and participant are killed beside every step and every compensation of a saga."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.core.sagas.builder import Saga
from streams.core.sagas.definition import Retry
from streams.sagas import SagaFailed
from tests.e2e.saga_participant import STEPS
from tests.e2e.saga_trial import SagaTrial
from tests.e2e.trial import until

UNDONE = ("undo_three", "undo_two", "undo_one")
POINTS = [f"{when}:{name}" for name in (*STEPS, "undo_four", *UNDONE) for when in ("before", "after")]
EVERY_DAY = {"after:two", "before:undo_two"}


def quest() -> Saga:
    """Four steps, each with a compensation; the last fails where it is told to."""
    saga = Saga("quest", result="=four")
    for name in STEPS:
        saga.step(name, compensation=f"undo_{name}", timeout_ms=60_000, retry=Retry(attempts=5, backoff_ms=50))
    return saga


def _matrix() -> list[Any]:
    found: list[Any] = []
    for victim in ("orchestrator", "participant"):
        for point in POINTS:
            marks = () if point in EVERY_DAY else pytest.mark.soak
            found.append(pytest.param(victim, point, marks=marks, id=f"{victim}-{point}"))
    return found


@pytest.mark.parametrize(("victim", "point"), _matrix())
async def test_a_saga_ends_well_whoever_is_killed(kafka: EmbeddedBroker, tmp_path: Path, victim: str, point: str) -> None:
    """It is completed, or all is undone in reverse order; each effect is there once, and what was answered has not run again."""
    effects, pauses = tmp_path / "effects.sqlite", tmp_path / "pauses"
    pauses.mkdir()
    (pauses / point).touch()
    fails = "undo" in point
    with SagaTrial(kafka.bootstrap_servers, tmp_path) as trial:
        await trial.begin()
        participant, _ = await asyncio.to_thread(trial.start_participant, effects, str(pauses))
        async with trial.mesh("agent") as mesh:
            running = asyncio.ensure_future(mesh.sagas.run(quest(), {"fails": fails}, id="quest/1"))
            await asyncio.to_thread(until, (pauses / f"{point}.here").exists, f"somebody is at {point}")
            if victim == "orchestrator":
                await trial.replace()
            else:
                participant.kill()
                participant.wait()
                (pauses / point).unlink()
                await asyncio.to_thread(trial.start_participant, effects, str(pauses))
            (pauses / point).unlink(missing_ok=True)
            async with asyncio.timeout(120):
                if fails:
                    with pytest.raises(SagaFailed, match="refused"):
                        await running
                else:
                    assert await running == "four"
            state = await mesh.sagas.state("quest/1")
    with sqlite3.connect(effects) as database:
        done = [key for (key,) in database.execute("SELECT key FROM effects ORDER BY number")]
        runs = [key for (key,) in database.execute("SELECT key FROM runs")]
    forward = [f"quest/1/{name}" for name in STEPS]
    if fails:
        assert state["status"] == "compensated"
        assert done == [*forward[:3], *(f"{key}/undo" for key in reversed(forward))]
    else:
        assert (state["status"], done) == ("completed", forward)
    name = f"quest/1/{point.partition(':')[2].removeprefix('undo_')}" + ("/undo" if fails else "")
    twice = {key for key in runs if runs.count(key) > 1}
    assert twice <= ({name} if victim == "participant" else set()), "only what was at work when its participant died runs again"
