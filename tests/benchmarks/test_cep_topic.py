"""The stream on a real log: what is written is the stream, and what a worker writes is counted."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.jobs import cep_topic
from benchmarks.jobs.cep_stream import FIRST_TS, draws
from schemas.catalogue import CATALOGUE, Catalogue
from schemas.cep import EventPlace, PatternMatched, StageEvents
from streams.broker import EmbeddedBroker

EVENTS = 300


@pytest.fixture
def stream_topic(kafka: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A name of the test's own for the stream's topic."""
    name = f"bench-cep-{secrets.token_hex(4)}"
    monkeypatch.setattr(cep_topic, "TOPIC", name)
    yield name
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_topics([name]).values():
        future.result(20)


def messages(servers: str, topic: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-test"})
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(cep_topic.PARTITIONS)])
        found: list[Message] = []
        while len(found) < count and (more := consumer.consume(count - len(found), 10.0)):
            found += more
        return found
    finally:
        consumer.close()


def test_the_log_holds_the_stream(kafka: EmbeddedBroker, stream_topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type by schema id, key as record key and field, value as field, time as timestamp; each key in one partition, in order."""
    catalogue = Catalogue()
    monkeypatch.setattr(cep_topic, "CATALOGUE", catalogue)
    cep_topic.register()
    cep_topic.fill(kafka.bootstrap_servers, EVENTS)
    found = []
    partition_of: dict[int, int | None] = {}
    last: dict[int, int] = {}
    for message in messages(kafka.bootstrap_servers, stream_topic, EVENTS):
        value = message.value()
        fields = catalogue.read(value)
        at = message.timestamp()[1]
        found.append((catalogue.type_of(value), message.key(), fields["agent"], fields["value"], at))
        key = fields["agent"]
        assert partition_of.setdefault(key, message.partition()) == message.partition()
        assert last.get(key, 0) < at
        last[key] = at
    assert sorted(found, key=lambda one: one[-1]) == [
        (cep_topic.event_type(kind), b"%d" % key, key, value, ts) for kind, key, value, ts in draws(EVENTS)
    ]


def test_what_a_worker_has_written_is_counted(kafka: EmbeddedBroker, make_topic: Callable[..., str]) -> None:
    """Matches, their checksum, and timed-out partial matches; what a kafka transaction has taken back does not count."""
    matches, timeouts = make_topic("matches"), make_topic("timeouts")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"bench-{matches}"})
    producer.init_transactions(30)
    places = [EventPlace(topic="t", partition=0, offset=n, ts=FIRST_TS + n) for n in (1, 20, 300)]
    match = PatternMatched(
        id="m", source="s", pattern="p", version=0, correlation_key="7", started=FIRST_TS + 1, ended=FIRST_TS + 300, took_ms=299,
        stages=[StageEvents(stage="a", events=places[:1]), StageEvents(stage="b", events=places[1:])], detected_at=0,
    )  # fmt: skip
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(matches, CATALOGUE.encode(match), b"7")
        producer.produce(timeouts, b"whatever", b"7")
        producer.flush(30)
        end(30)
    assert cep_topic.written(kafka.bootstrap_servers, matches, timeouts) == {"matches": 2, "timed_out": 2, "checksum": 642}
