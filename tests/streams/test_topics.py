"""Topics on a real broker: made, described, checked, removed, and every refusal in one line."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.broker_properties import HOST, Listener
from streams.errors import (
    BrokerAuthenticationFailed,
    BrokerUnavailable,
    PartitionMismatch,
    TopicError,
    TopicExists,
    TopicMissing,
)
from streams.ports import free_port
from streams.topics import COMPACTED, Topics


@pytest.fixture
def topics(kafka: EmbeddedBroker) -> Topics:
    return Topics(kafka.bootstrap_servers)


@pytest.fixture
def name() -> str:
    return f"topics-{secrets.token_hex(4)}"


def test_a_created_topic_can_be_written_at_once(topics: Topics, name: str) -> None:
    """When create returns, every partition has a leader, and the topic is listed."""
    topics.create(name, partitions=3)
    producer = Producer({"bootstrap.servers": topics.bootstrap_servers})
    for partition in range(3):
        producer.produce(name, b"value", partition=partition)
    assert producer.flush(10) == 0
    assert [(one.partitions, one.replication) for one in topics.list() if one.name == name] == [(3, 1)]
    described = topics.describe(name)
    assert [(one.first_offset, one.next_offset) for one in described.partitions] == [(0, 1)] * 3
    assert described.records == 3


def test_settings_that_differ_from_the_default_are_described(topics: Topics, name: str) -> None:
    """A compacted topic says so."""
    topics.create(name, partitions=1, config=COMPACTED)
    assert topics.describe(name).config["cleanup.policy"] == "compact"


def test_ensure_creates_once_and_never_changes_what_is_there(topics: Topics, name: str) -> None:
    """The second call finds the first one's topic; another number of partitions is an error, not a change."""
    assert topics.ensure(name, 2)
    assert not topics.ensure(name, 2)
    with pytest.raises(PartitionMismatch, match=f"topic {name} has 2 partitions and 8 are needed"):
        topics.ensure(name, 8)


def test_workers_that_start_together_all_get_the_topic(topics: Topics, name: str) -> None:
    """Of many that ensure the same topic at once, one creates it and none fails."""
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda _: Topics(topics.bootstrap_servers).ensure(name, 2), range(8)))
    assert created.count(True) == 1


def test_check_names_what_is_missing_and_how_to_make_it(topics: Topics, name: str) -> None:
    """A missing topic's error holds the command that creates it; a present one passes with the right number or any."""
    with pytest.raises(TopicMissing, match=f"antiphon topics create {name} --partitions 4"):
        topics.check({name: 4})
    topics.create(name, partitions=4)
    topics.check({name: 4})
    topics.check({name: None})
    with pytest.raises(PartitionMismatch):
        topics.check({name: 3})


def test_deleting_is_waited_for_and_only_works_once(topics: Topics, name: str) -> None:
    """After delete nobody sees the topic, and it can be created again at once."""
    topics.create(name, partitions=1)
    topics.delete(name)
    assert not topics.exists(name)
    with pytest.raises(TopicMissing):
        topics.delete(name)
    with pytest.raises(TopicMissing):
        topics.describe(name)
    topics.create(name, partitions=2)


def test_refusals_have_the_brokers_words(topics: Topics, name: str) -> None:
    """An existing name, a wrong name and a wrong setting are each one line that names the topic."""
    topics.create(name, partitions=1)
    with pytest.raises(TopicExists, match=name):
        topics.create(name, partitions=1)
    with pytest.raises(TopicError, match="not a name!"):
        topics.create("not a name!", partitions=1)
    with pytest.raises(TopicError, match="cleanup"):
        topics.create(f"{name}-2", partitions=1, config={"cleanup.policy": "nonsense"})
    with pytest.raises(TopicError, match="replication"):
        topics.create(f"{name}-3", partitions=1, replication_factor=3)


def test_no_broker_is_told_within_seconds() -> None:
    """An address where nobody listens gives one line that names it and the setting."""
    address = f"{HOST}:{free_port(HOST, set())}"
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=rf"{address} .*ANTIPHON_KAFKA__BOOTSTRAP_SERVERS") as caught:
        Topics(address).list()
    assert time.monotonic() - began < 10
    assert caught.value.retryable
    assert "\n" not in str(caught.value)


def test_wrong_credentials_are_not_reported_as_no_answer(tmp_path: Path) -> None:
    """The broker's refusal is an error of its own, and the password is not in it."""
    sasl = Listener("SASL", protocol="SASL_PLAINTEXT", users={"alice": "right"})
    with EmbeddedBroker(data_dir=tmp_path, heap_mb=256, listeners=[sasl]) as broker:
        conf = {
            "bootstrap.servers": broker.address("SASL"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "alice",
        }
        assert Topics({**conf, "sasl.password": "right"}).list() == []
        with pytest.raises(BrokerAuthenticationFailed, match="ANTIPHON_KAFKA__SASL_PASSWORD") as caught:
            Topics({**conf, "sasl.password": "wr0ng"}).list()
    assert "wr0ng" not in str(caught.value)


MakeTopic = Callable[..., str]


def test_the_factory_of_the_tests_makes_topics_of_their_own(make_topic: MakeTopic, topics: Topics) -> None:
    """Two calls with the same name make two topics."""
    assert make_topic("same") != make_topic("same")
