"""Sagas on a real broker: an orchestrator in its process, participants beside the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.core.sagas.builder import Saga
from streams.core.sagas.definition import NO_RETRY
from streams.sagas import SagaFailed, SagaRefused, StepCall, StepFailed
from tests.e2e.saga_trial import SagaTrial


def trip() -> Saga:
    """Three steps with compensations."""
    saga = Saga("trip", inputs=["who"], result={"flight": "=flight.seat", "paid": "=pay"})
    saga.step("flight", compensation="cancel_flight", retry=NO_RETRY)
    saga.step("hotel", compensation="cancel_hotel", retry=NO_RETRY)
    saga.step("pay", retry=NO_RETRY, input={"who": "=input.who"})
    return saga


async def test_a_saga_completes_or_is_undone_in_reverse_order(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """The result is that of its steps; a failure undoes what was done, the last first, with what was done."""
    seen: list[tuple[str, Any]] = []

    async def flight(given: Any) -> Any:
        seen.append(("flight", given))
        return {"seat": "7A"}

    def hotel(given: Any, call: StepCall) -> Any:
        seen.append(("hotel", call.key))
        return None

    async def pay(given: Any) -> Any:
        if given["who"] == "poor":
            raise StepFailed("no_money", "the card is empty")
        return 42

    async def undo(given: Any, call: StepCall) -> None:
        seen.append((call.node, given))

    handlers: dict[str, Any] = {"flight": flight, "hotel": hotel, "pay": pay, "cancel_flight": undo, "cancel_hotel": undo}
    with SagaTrial(kafka.bootstrap_servers, tmp_path) as trial:
        await trial.begin()
        async with trial.mesh("agent") as mesh, mesh.participate("travel", handlers):
            assert await mesh.sagas.run(trip(), {"who": "ann"}, id="ann/1") == {"flight": "7A", "paid": 42}
            assert seen == [("flight", {"who": "ann"}), ("hotel", "ann/1/hotel")]
            seen.clear()
            with pytest.raises(SagaFailed, match="no_money") as failed:
                await mesh.sagas.run(trip(), {"who": "poor"}, id="poor/1")
            assert (failed.value.outcome, failed.value.code) == ("compensated", "no_money")
            assert [what for what, _ in seen[2:]] == ["hotel", "flight"]
            assert seen[3][1] == {"input": {"who": "poor"}, "result": {"seat": "7A"}}
            handle = mesh.sagas.handle("ann/1")
            assert (await handle.state())["status"] == "completed"
            assert await handle.result() == {"flight": "7A", "paid": 42}
            assert await mesh.sagas.run(trip(), {"who": "ann"}, id="ann/1") == {"flight": "7A", "paid": 42}
            with pytest.raises(SagaRefused, match="different"):
                await mesh.sagas.start(trip(), {"who": "bob"}, id="ann/1")
