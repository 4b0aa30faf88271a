"""The coordinator on Kafka: its answers follow from its log, and reach who they are for."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagas.shells import twophase
from schemas.catalogue import CATALOGUE
from schemas.events import Event
from schemas.tables import COMMANDS_TOPIC as TABLES_TOPIC
from schemas.transactions import (
    EVENTS_TOPIC,
    MANAGERS_TOPIC,
    AbandonTransaction,
    AskDecision,
    BeginTransaction,
    Enlisted,
    ParticipantDone,
    ParticipantVoted,
    ResolveTransaction,
)
from streams.machines.answers import Writer
from streams.turns.batch import Effects, Output
from tests.processors.coordinating import commands_log
from tests.processors.coordinating.commands_log import CODEC, START_MS, Worker, answers_of, by_record, kept, recorded
from tests.sagas.core.twophase_world import LIMITS, World
from tests.streams.turns.fakes import FakeRecord

EVENT_OF: Final[dict[str, type[Event]]] = {
    "begin": BeginTransaction,
    "voted": ParticipantVoted,
    "in_doubt": AskDecision,
    "done": ParticipantDone,
    "abandon": AbandonTransaction,
    "settle": ResolveTransaction,
}
SHELL: Final = twophase.shell(LIMITS)
SEEDS = st.integers(0, 1 << 30)
STEPS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["keep", "commit", "refused", "takeover"])), max_size=12)
VOTE: Final[dict[str, Any]] = {"txn": "t", "commit": True, "owner": "ann", "participants": ["a", "b"], "timeout_ms": 300}


@pytest.fixture(autouse=True, scope="module")
def _writer() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands_log, "WRITER", Writer(CODEC, SHELL.samples, EVENTS_TOPIC))
        yield


def worker() -> Worker:
    """Return a worker with the coordinator."""
    return Worker(shells=[SHELL])


def log_of(seed: int, steps: int) -> list[FakeRecord]:
    """Return what the coordinator of a random world was told."""
    world = World(random.Random(seed), LIMITS, heuristic=True)
    for _ in range(steps):
        world.step()
    found: list[FakeRecord] = []
    for kind, fields, route, now_ms in world.log:
        if kind in EVENT_OF:
            command = EVENT_OF[kind](**fields)
            found.append(recorded(command, len(found), START_MS + now_ms, call="call" if route else ""))
    return found


def run_each(log: list[FakeRecord]) -> tuple[dict[int, list[Output]], dict[int, list[Output]], dict[bytes, Any]]:
    """Return answers and events of each record, and the rows, of a worker that is never interrupted."""
    one, answers, events = worker(), dict[int, list[Output]](), dict[int, list[Output]]()
    for record in log:
        effects = one.run([record])
        one.commit()
        answers |= by_record(answers_of(effects))
        events |= by_record(effects.outputs)
    return answers, events, kept(one.rows)


@settings(max_examples=80)
@given(seed=SEEDS, length=st.integers(1, 250), steps=STEPS)
def test_what_is_told_does_not_depend_on_batches_crashes_and_zombies(
    seed: int, length: int, steps: list[tuple[int, str]]
) -> None:
    """However the log is cut and whoever is replaced: each run of a record says the same, and the rows are the same."""
    log = log_of(seed, length)
    answers, events, rows = run_each(log)
    chance, one, zombies = random.Random(seed), worker(), list[Worker]()

    def run(who: Worker, records: list[FakeRecord]) -> None:
        effects = who.run(records)
        told, heard = by_record(answers_of(effects)), by_record(effects.outputs)
        for record in records:
            assert told.get(record.offset, []) == answers.get(record.offset, [])
            assert heard.get(record.offset, []) == events.get(record.offset, [])

    for size, then in steps:
        run(one, [record for record in log if record.offset >= one.position][:size])
        if then == "commit":
            one.commit()
        elif then == "refused":
            one.refused()
        elif then == "takeover":
            zombies.append(one)
            shuffled = list(one.rows.items())
            chance.shuffle(shuffled)
            one = Worker(lambda: CODEC, dict(shuffled), one.committed, shells=[SHELL])
    for who in (*zombies, one):
        run(who, [record for record in log if record.offset >= who.position])
    one.commit()
    assert kept(one.rows) == rows


def told(effects: Effects) -> dict[str, list[Any]]:
    """Return what went out at once, by topic."""
    found: dict[str, list[Any]] = defaultdict(list)
    for topic, key, value, partition, headers in answers_of(effects):
        event: Any = CATALOGUE.decode(value) if value is not None else None
        found[topic].append((key, partition, event, dict(headers or ()).get("request-id")))
    return found


def votes(*, route: str = "2|call|me.replies") -> list[FakeRecord]:
    """Return the votes of a transaction of two domains."""
    return [
        recorded(ParticipantVoted(**VOTE, participant=who, route=route), number, START_MS)
        for number, who in enumerate(VOTE["participants"])
    ]


def test_a_decision_reaches_domains_the_client_and_everybody() -> None:
    """Each domain by its key, the client where its prepare said, before the kafka transaction; everybody with it."""
    effects = worker().run(votes())
    out = told(effects)
    assert [(key, event.event_type, event.txn, event.commit) for key, _, event, _ in out[TABLES_TOPIC]] == [
        (b"a", "transaction.decide", "t", True),
        (b"b", "transaction.decide", "t", True),
    ]
    ((key, partition, event, call),) = out["me.replies"]
    assert (key, partition, event.commit, call) == (b"t", 2, True, b"call")
    ((topic, key, value, _, _),) = effects.outputs
    assert (topic, key, CATALOGUE.type_of(value)) == (EVENTS_TOPIC, b"t", "transaction.decided")


@pytest.mark.parametrize("route", ["2|call|orders", "x|call|me.replies", "2|call", "2|ca\nll|me.replies", "2|call|me.replies|"])
def test_a_route_that_leads_elsewhere_is_none(route: str) -> None:
    """A vote is somebody else's record: what it names is written to only where it is a reply topic."""
    assert set(told(worker().run(votes(route=route)))) == {TABLES_TOPIC}


def test_managers_are_told_by_name() -> None:
    """On their topic, keyed by the name, with what they are asked to do."""
    managers = [Enlisted(name="pay", payload="{}")]
    begin = BeginTransaction(txn="t", owner="ann", participants=["manager:pay"], managers=managers, timeout_ms=300)
    one = worker()
    ((key, _, asked, _),) = told(one.run([recorded(begin, 0, START_MS, call="call")]))[MANAGERS_TOPIC]
    assert (key, asked.event_type, asked.payload, asked.at_ms) == (b"pay", "manager.prepare", "{}", START_MS)
    vote = ParticipantVoted(**{**VOTE, "participants": ["manager:pay"]}, participant="manager:pay")
    ((key, _, decided, _),) = told(one.run([recorded(vote, 1, START_MS)]))[MANAGERS_TOPIC]
    assert (key, decided.event_type, decided.commit) == (b"pay", "manager.decide", True)


def test_a_command_under_another_key_is_not_taken() -> None:
    """It may have come to a partition that does not decide about its transaction."""
    ask = recorded(AskDecision(txn="t", participant=""), 0, START_MS, call="call", key=b"other")
    one = worker()
    ((_, _, answer, _),) = told(one.run([ask]))["me.replies"]
    assert answer.code == "misplaced"
    one.commit()
    assert len(one.rows) == 1, "only the mark"
