"""Patterns under real faults: what the workers say equals `Matcher` offline over the same log, each result exactly once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.topics import Topics
from tests.e2e.cep_trial import ABSENT, FOLLOWED, LOOP, CepTrial, definition, stage
from tests.e2e.trial import read_committed, until

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
        trial.load(trial.records // kills, keys=40, span_ms=1_000)
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


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_twenty_kills_while_patterns_change(trial: CepTrial, store: str) -> None:
    """Twenty kill -9 under load, with either store of tables, neither lose nor double a result."""
    trial.records = 40_000
    with trial:
        killed_while_patterns_change(trial, LONG_KILLS, FAULT_STORE=store)


def test_workers_come_and_go_while_patterns_run(trial: CepTrial) -> None:
    """A second worker joins under load and the first leaves: partial matches and versions go with their partitions."""
    trial.publish(FOLLOWED, ABSENT, LOOP)
    with trial:
        first = trial.start(0)
        trial.load(4_000, keys=40, span_ms=2_000)
        trial.wait_committed(trial.sent // 4)
        trial.start(1)
        trial.load(4_000, keys=40, span_ms=1_000)
        trial.wait_shared()
        trial.publish(LOOP.model_copy(update={"description": "newer"}))
        trial.load(4_000, keys=40, span_ms=500)
        trial.stop(first)
        trial.finish()


def test_waits_end_once_across_a_kill(trial: CepTrial) -> None:
    """What did not come while the worker was dead is noticed by its successor, once, with no event to wake it."""
    patient = ABSENT.model_copy(update={"pattern": ABSENT.pattern.model_copy(update={"within_ms": 4_000})})
    version = trial.publish(patient)
    with trial:
        worker = trial.start(0)
        trial.wait_action(version, "activated")
        trial.produce_events((b"k%d" % i, b'{"type":"a","ts":%d}' % (time.time_ns() // 1_000_000)) for i in range(60))
        trial.wait_committed(60)
        assert not sum(trial.results()["matched"].values()), "nothing has waited long enough yet"
        worker.kill()
        worker.wait()
        trial.start(0)
        trial.finish()
        assert sum(trial.results()["matched"].values()) == 60


def test_events_keyed_anew_are_matched_once_across_kills(trial: CepTrial) -> None:
    """Keyed by a field that is not the records' key: kills between the two steps neither lose nor double a match."""
    pairs = 2_000
    version = trial.publish(
        definition(
            "task", [stage("a", "a"), stage("b", "b")], key="task", within_ms=600_000, disorder_ms=2_000, idle_after_ms=1_000
        )
    )
    with trial:
        worker = trial.start(0)
        trial.wait_action(version, "activated")
        begin = time.time_ns() // 1_000_000 - 10_000
        body = b'{"type":"%s","ts":%d,"task":"t%d"}'
        trial.produce_events((b"p%d" % i, body % (b"a", begin + i, i)) for i in range(pairs))
        trial.produce_events((b"q%d" % i, body % (b"b", begin + pairs + i, i)) for i in range(pairs))
        for fraction in (8, 3):
            trial.wait_committed(trial.sent // fraction)
            worker.kill()
            worker.wait()
            worker = trial.start(0)
        found: Counter[str] = Counter()

        def complete() -> bool:
            found.clear()
            found.update(one["correlation_key"] for one in trial.said("antiphon.matches"))
            return len(found) == pairs

        trial.wait_committed(trial.sent)
        until(lambda: "antiphon.matches" in trial.topics() and complete(), "every pair found")
        assert set(found.values()) == {1}
        source = {(partition, offset) for partition, offset, *_ in read_committed(trial.servers, trial.source)}
        for one in trial.said("antiphon.matches"):
            places = [place for of in one["stages"] for place in of["events"]]
            assert {place["topic"] for place in places} == {trial.source}
            assert {(place["partition"], place["offset"]) for place in places} <= source
        trial.stop(worker)


def test_a_topic_with_other_partitions_is_keyed_anew_by_workers_of_its_own(trial: CepTrial) -> None:
    """Six partitions beside four: `cep-keys` brings the events to where they are matched, each once across kills of both."""
    pairs, wide = 1_000, f"{trial.name}.wide"
    Topics(trial.servers).create(wide, partitions=6)
    trial.settings["FAULT_KEYED"] = "wide"
    version = trial.publish(
        definition(
            "task", [stage("a", "a"), stage("b", "b")],
            topics=["wide"], key="task", within_ms=600_000, disorder_ms=2_000, idle_after_ms=30_000,
        )
    )  # fmt: skip
    begin = time.time_ns() // 1_000_000 - 10_000
    body = b'{"type":"%s","ts":%d,"task":"t%d"}'
    found: Counter[str] = Counter()

    def matches(count: int) -> bool:
        found.clear()
        if "antiphon.matches" in trial.topics():
            found.update(one["correlation_key"] for one in trial.said("antiphon.matches"))
        return len(found) >= count

    def write(kind: bytes, at: int, keys: Iterable[int]) -> None:
        trial.produce_events(((b"%s%d" % (kind, i), body % (kind, begin + at + i, i)) for i in keys), topic=wide)

    with trial:
        workers = [trial.start(0), trial.start(1, FAULT_APP=f"{trial.name}-keys")]
        trial.wait_action(version, "activated")
        write(b"a", 0, range(pairs))
        write(b"b", pairs, range(pairs))
        for number, app in enumerate((trial.name, f"{trial.name}-keys")):
            workers[number].kill()
            workers[number].wait()
            workers[number] = trial.start(number, FAULT_APP=app)
        write(b"z", 10_000, range(600))  # from every partition to every other, so that time goes on
        until(lambda: matches(pairs), "every pair found")
        assert set(found.values()) == {1}
        places = {
            (place["topic"], place["partition"])
            for one in trial.said("antiphon.matches")
            for of in one["stages"]
            for place in of["events"]
        }
        assert places == {(wide, partition) for partition in range(6)}
        for worker in workers:
            trial.stop(worker)


def test_bad_input_on_every_topic_stops_nothing(trial: CepTrial) -> None:
    """Garbage among the definitions is refused once with its reason, among the events it is a dead letter; the rest goes on."""
    version = trial.publish(FOLLOWED)
    patterns = f"{trial.name}.antiphon.patterns"
    with trial:
        worker = trial.start(0)
        trial.wait_action(version, "activated")
        producer = Producer({"bootstrap.servers": trial.servers})
        for key, value in ((b"followed", b"\xff\xfe"), (b"\xff", b"{}"), (b"odd", b'{"format": 1}')):
            producer.produce(patterns, value, key)
        producer.flush(10)
        trial.produce_events([(b"k", b'{"type":"a","ts":1}'), (b"k", b"\xde\xad"), (b"k", b"\x00\x7f\xff\xff\xff"), (b"k", b"")])
        trial.produce_events([(b"k", b'{"type":"b","ts":2}')])
        trial.wait_committed(trial.sent)
        until(lambda: "antiphon.matches" in trial.topics() and len(trial.said("antiphon.matches")) == 1, "the match")
        dead = [value for *_, value in read_committed(trial.servers, f"{trial.name}.dead-letters")]
        assert sorted(dead, key=str) == sorted([b"\xde\xad", b"\x00\x7f\xff\xff\xff", b""], key=str)

        def refused() -> list[str]:
            return [one["reason"] for one in trial.said("antiphon.pattern-changes") if one["event"] == "pattern.refused"]

        until(lambda: len(refused()) == 3, "three refusals")
        trial.stop(worker)
        trial.start(0)
        trial.produce_events([(b"k", b'{"type":"a","ts":3}'), (b"k", b'{"type":"b","ts":4}')])
        until(lambda: len(trial.said("antiphon.matches")) == 2, "the next match")
        assert len(refused()) == 3, "a refusal is said once, also across a restart"
        assert trial.store.get("followed").problem.startswith("no JSON")
