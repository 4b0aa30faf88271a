"""Reading a topic without a group: from given offsets on, and what is said where those are gone."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Producer

from processors.coordinating.following import Following
from streams.broker import EmbeddedBroker
from tests.e2e.trial import until

MakeTopic = Callable[..., str]


def read(following: Following, count: int) -> list[bytes | None]:
    """Take so many records."""
    found: list[bytes | None] = []

    def enough() -> bool:
        found.extend(record.value for record in following.take(100))
        return len(found) >= count

    until(enough, f"{count} records")
    return found


def test_it_goes_on_where_it_is_told_to(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """From the beginning where it is told nothing; its offsets are where the next one begins."""
    topic, client = make_topic("following", partitions=2), {"bootstrap.servers": kafka.bootstrap_servers}
    producer = Producer(client)
    for number in range(6):
        producer.produce(topic, f"{number}", partition=number % 2)
    assert producer.flush(20) == 0
    following = Following(client, topic, {1: 2})
    assert following.begin()
    assert sorted(read(following, 4)) == [b"0", b"2", b"4", b"5"]  # type: ignore[type-var] # none of them is None
    assert following.offsets == {0: 3, 1: 3}
    assert not following.lost
    following.close()


def test_a_topic_that_is_not_there_is_waited_for(kafka: EmbeddedBroker) -> None:
    """And not made."""
    following = Following({"bootstrap.servers": kafka.bootstrap_servers}, "no-such-topic", {})
    assert not following.begin()
    assert not following.begun
    following.close()


def test_records_that_are_gone_are_noticed(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """An offset that there is not is no reason to begin anywhere else unnoticed."""
    topic, client = make_topic("gone", partitions=1), {"bootstrap.servers": kafka.bootstrap_servers}
    following = Following(client, topic, {0: 1_000})
    assert following.begin()
    until(lambda: bool(following.take(10)) or following.lost, "the loss is noticed")
    assert following.lost
    following.close()
