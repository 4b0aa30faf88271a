"""What the events of the engine tell a ledger."""

from __future__ import annotations

from schemas import sagas as events
from schemas.events import Event
from streams.core.sagas.builder import Saga
from streams.core.sagas.definition import NO_RETRY
from streams.core.sagas.ledger import Ledger
from streams.core.sagas.timeline import as_text, timeline_of
from tests.sagas.core.engine.world import World

KINDS: dict[str, type[Event]] = {
    "started": events.SagaStarted,
    "advanced": events.SagaAdvanced,
    "incident": events.SagaIncident,
    "ended": events.SagaEnded,
}


def _ledger(world: World, first: int = 0) -> Ledger:
    ledger = Ledger()
    for number, told in enumerate(world.told):
        if told.everybody and told.kind in KINDS and number >= first:
            ledger.take(KINDS[told.kind].event_type, told.fields, 1_000_000 + number, f"c{number}")
    return ledger


def _stubborn() -> World:
    world = World()
    saga = Saga("stubborn")
    saga.step("one", compensation="undo_one", compensation_retry=NO_RETRY, retry=NO_RETRY)
    saga.step("two", retry=NO_RETRY)
    world.start(saga)
    world.work({"two": "full", "undo_one": "down"})
    return world


def test_an_incident_is_open_until_it_is_resolved() -> None:
    """It is listed with its code; afterwards the saga has its end, and its moments draw a timeline."""
    world = _stubborn()
    entry = _ledger(world).entries["s"]
    assert [(one["node"], one["undo"], one["code"]) for one in entry.incidents] == [("one", True, "down")]
    assert [one.saga for one in _ledger(world).select(status="incident", definition="stubborn")] == ["s"]
    world.resolve("one", "skip")
    entry = _ledger(world).entries["s"]
    assert (entry.status, entry.code, entry.incidents) == ("compensated", "full", [])
    assert entry.moments[0]["cause"] == "c2"
    lines = as_text(timeline_of(entry.timeline()))
    assert any(line.startswith("one") and "!" in line for line in lines)


def test_a_beginning_that_is_not_there_any_more() -> None:
    """Retention took the first events: what is left is told."""
    world = _stubborn()
    world.resolve("one", "done")
    entry = _ledger(world, first=3).entries["s"]
    assert (entry.definition, entry.status) == ("stubborn", "compensated")
