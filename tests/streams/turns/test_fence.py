"""The fence: group metadata made by hand is what librdkafka makes, and what the broker checks."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from faust.types import TP

from streams.broker import EmbeddedBroker
from streams.turns.committer import FENCE_CODES
from streams.turns.fence import group_metadata
from streams.turns.lookup import Lookup

DEADLINE_S = 30.0


def joined(kafka: EmbeddedBroker, topic: str, group: str, **settings: str) -> Consumer:
    """Return a member of a group."""
    conf = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "session.timeout.ms": 6000, **settings}
    consumer, deadline = Consumer(conf), time.monotonic() + DEADLINE_S
    consumer.subscribe([topic])
    while not consumer.assignment():
        consumer.poll(0.1)
        assert time.monotonic() < deadline, "the group gave no assignment"
    return consumer


@pytest.mark.parametrize("instance", [None, "worker-7"])
def test_the_bytes_are_librdkafka_s_own(kafka: EmbeddedBroker, topic: Callable[..., str], instance: str | None) -> None:
    """For a live member, static or not, we make the bytes that confluent-kafka's consumer makes; a new layout fails here."""
    group = f"fence-{secrets.token_hex(4)}"
    settings = {} if instance is None else {"group.instance.id": instance}
    consumer = joined(kafka, topic("fence"), group, **settings)
    try:
        made = group_metadata(group_id=group, generation=1, member_id=consumer.memberid(), group_instance_id=instance)
        assert consumer.memberid()
        assert made == consumer.consumer_group_metadata()
    finally:
        consumer.close()


def test_a_consumer_without_a_group_agrees() -> None:
    """Before it joins, a consumer has generation -1 and no member id."""
    consumer = Consumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0})
    assert group_metadata(group_id="g", generation=-1, member_id="") == consumer.consumer_group_metadata()
    consumer.close()


def committed_with(kafka: EmbeddedBroker, member: bytes, tp: TopicPartition) -> None:
    """Commit an offset in a kafka transaction under this group metadata."""
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"fence-{secrets.token_hex(4)}", "log_level": 0}
    )
    producer.init_transactions(DEADLINE_S)
    producer.begin_transaction()
    try:
        producer.send_offsets_to_transaction([tp], member, DEADLINE_S)
        producer.commit_transaction(DEADLINE_S)
    except KafkaException:
        producer.abort_transaction(DEADLINE_S)
        raise


async def test_the_broker_takes_the_current_generation_of_an_aiokafka_member_only(
    kafka: EmbeddedBroker, topic: Callable[..., str]
) -> None:
    """Faust's member fences librdkafka's transaction: this generation commits; the one before, and a stranger, are refused."""
    group, name = f"fence-{secrets.token_hex(4)}", topic("fence")
    consumer: Any = AIOKafkaConsumer(name, bootstrap_servers=kafka.bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        coordinator = consumer._coordinator
        member = {"group_id": group, "member_id": coordinator.member_id}
        now = coordinator.generation
        committed_with(kafka, group_metadata(**member, generation=now), TopicPartition(name, 0, 7))
        lookup, tp = Lookup({"bootstrap.servers": kafka.bootstrap_servers}, group), TP(name, 0)
        assert await lookup.ask(lookup.committed, [tp]) == {tp: 7}
        refused = []
        for metadata in (
            group_metadata(**member, generation=now - 1),
            group_metadata(group_id=group, member_id="stranger", generation=now),
        ):
            with pytest.raises(KafkaException) as caught:
                committed_with(kafka, metadata, TopicPartition(name, 0, 8))
            refused.append(caught.value.args[0])
        assert [error.name() for error in refused] == ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"]
        assert {error.code() for error in refused} <= FENCE_CODES
        assert await lookup.ask(lookup.committed, [tp]) == {tp: 7}
        lookup.close()
    finally:
        await consumer.stop()


@pytest.mark.parametrize("names", [("g\0", "m", None), ("g", "m\0", None), ("g", "m", "i\0")])
def test_a_name_that_the_layout_cannot_carry_is_refused(names: tuple[str, str, str | None]) -> None:
    """NUL ends a name in these bytes, so none may hold one."""
    group, member, instance = names
    with pytest.raises(ValueError, match="must not contain NUL"):
        group_metadata(group_id=group, generation=1, member_id=member, group_instance_id=instance)
