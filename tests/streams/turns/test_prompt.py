"""The sender of what does not wait, on a real broker: it arrives, in order, and what does not is counted and nobody's failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError, Producer

from streams.broker import EmbeddedBroker
from streams.ports import free_port
from streams.turns import prompt as module
from streams.turns.batch import Output
from streams.turns.prompt import PromptSender
from tests.e2e.trial import read_committed, until

Topic = Callable[..., str]
Make = Callable[..., PromptSender]


@pytest.fixture
def make(kafka: EmbeddedBroker) -> Iterator[Make]:
    """Makes senders that are closed in the end."""
    made: list[PromptSender] = []

    def sender(**settings: str) -> PromptSender:
        made.append(PromptSender({"bootstrap.servers": kafka.bootstrap_servers, **settings}))
        return made[-1]

    yield sender
    for one in made:
        one.close()


def out(topic: str, value: bytes, partition: int = 0) -> Output:
    return topic, b"k", value, partition, None


def seen(kafka: EmbeddedBroker, topic: str) -> list[bytes | None]:
    return [value for *_, value in read_committed(kafka.bootstrap_servers, topic, 1)]


def poll_until(sender: PromptSender, holds: Callable[[], bool], what: str) -> None:
    """Let a sender notice what has become of its records, as its next bundle does."""

    def looked() -> bool:
        assert isinstance(sender._producer, Producer)
        sender._producer.poll(0)
        return holds()

    until(looked, what)


async def test_what_is_sent_arrives_in_order(kafka: EmbeddedBroker, topic: Topic, make: Make) -> None:
    """With its key, its headers and on the partition that was named; nobody has to wait, flush or close for it."""
    name, sender = topic("at-once", partitions=2), make()
    sender.send([(name, b"k", b"%d" % n, 1, [("h", b"%d" % n), ("none", None)] if n % 2 else None) for n in range(50)])  # type: ignore[list-item]
    sender.send([out(name, b"last", 1)])

    def arrived() -> bool:
        return len(read_committed(kafka.bootstrap_servers, name, 2)) == 51

    await asyncio.to_thread(until, arrived, "all have arrived")
    found = sorted(read_committed(kafka.bootstrap_servers, name, 2), key=lambda one: one[1])
    assert [(partition, key, value) for partition, _, key, value in found] == [
        (1, b"k", value) for value in [*(b"%d" % n for n in range(50)), b"last"]
    ]
    assert sender.failed == 0


async def test_the_first_goes_at_once_and_the_next_together(
    topic: Topic, make: Make, monkeypatch: pytest.MonkeyPatch, kafka: EmbeddedBroker
) -> None:
    """Closing does not wait for the moment to be over: what still waits for others goes first."""
    monkeypatch.setattr(module, "APART_S", 3_600.0)
    name, sender = topic("at-once", partitions=1), make()
    sender._bundles._apart_s = module.APART_S
    sender.send([out(name, b"0")])
    sender.send([out(name, b"1")])
    sender.send([out(name, b"2")])
    until(lambda: seen(kafka, name) == [b"0"], "the first has arrived")
    assert len(sender._bundles._waiting) == 2
    await asyncio.to_thread(sender.close)
    assert seen(kafka, name) == [b"0", b"1", b"2"]
    assert sender._producer is None


async def test_a_fatal_error_costs_a_producer_and_nothing_else(kafka: EmbeddedBroker, topic: Topic, make: Make) -> None:
    """An idempotent producer that has lost its place sends nothing any more: another one goes on. Others errors pass."""
    name, sender = topic("at-once", partitions=1), make()
    sender.send([out(name, b"0")])
    first = sender._producer
    sender._bundles.flush()
    sender._noticed(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    sender._go([out(name, b"1")])
    assert sender._producer is first
    assert first is not None
    assert first.flush(30) == 0
    sender._noticed(KafkaError(KafkaError._FATAL, "lost its place", fatal=True))
    sender._go([out(name, b"2")])
    assert sender._producer is not first
    second = sender._producer
    sender._go([out(name, b"3")])
    assert sender._producer is second, "one is enough"
    assert second is not None
    assert second.flush(30) == 0
    assert seen(kafka, name) == [b"0", b"1", b"2", b"3"]


async def test_what_is_not_delivered_is_counted_and_told_seldom(
    kafka: EmbeddedBroker, topic: Topic, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Too large for its topic, or a partition that is not there: the rest goes, nothing is raised, one line in ten seconds."""
    small, sender = topic("small", partitions=1, **{"max.message.bytes": "1000"}), make()
    with caplog.at_level(logging.WARNING, module.__name__):
        sender._go([out(small, bytes(range(256)) * 20)])
        poll_until(sender, lambda: sender.failed == 1, "the large one is counted")
        sender._go([out(small, b"nowhere", 99)])
        poll_until(sender, lambda: sender.failed == 2, "the lost one is counted")
        (said,) = [record.getMessage() for record in caplog.records if record.name == module.__name__]
        assert said.startswith("1 records were not delivered, whoever waits for them asks again; the last: ")
        sender._told_at -= module.TELL_EVERY_S
        sender._go([out(small, b"nowhere", 99)])
        poll_until(sender, lambda: sender.failed == 3, "this one too")
        said = caplog.records[-1].getMessage()
        assert said.startswith("3 records were not delivered")
        sender._go([out(small, b"good")])
    assert sender._producer is not None
    assert sender._producer.flush(30) == 0
    assert (seen(kafka, small), sender.failed) == ([b"good"], 3)


async def test_what_is_too_much_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no broker answers the queue has an end; the worker goes on."""
    monkeypatch.setattr(module, "QUEUE_KBYTES_MAX", 1)
    sender = PromptSender({"bootstrap.servers": f"127.0.0.1:{free_port('127.0.0.1', set())}"})
    sender.send([out("any", b"x" * 800), out("any", b"y" * 800), out("any", b"z" * 800)])
    assert sender.failed == 2
    monkeypatch.setattr(module, "CLOSE_S", 0.0)
    sender.close()


async def test_it_is_ready_before_it_is_needed(
    kafka: EmbeddedBroker, topic: Topic, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting beforehand is done once, and used; where nobody answers nothing is raised."""
    name, sender = topic("at-once", partitions=1), make()
    await asyncio.to_thread(sender.ready)
    connected = sender._producer
    await asyncio.to_thread(sender.ready)
    sender.send([out(name, b"0")])
    assert connected is not None
    assert sender._producer is connected
    await asyncio.to_thread(sender.close)
    assert seen(kafka, name) == [b"0"]
    monkeypatch.setattr(module, "READY_S", 0.05)
    monkeypatch.setattr(module, "CLOSE_S", 0.0)
    alone = PromptSender({"bootstrap.servers": f"127.0.0.1:{free_port('127.0.0.1', set())}"})
    await asyncio.to_thread(alone.ready)
    assert alone.failed == 0
    alone.close()


def test_closing_what_never_sent_is_nothing() -> None:
    """No connection is made for it."""
    sender = PromptSender({"bootstrap.servers": "127.0.0.1:1"})
    began = time.monotonic()
    sender.close()
    assert sender._producer is None
    assert time.monotonic() >= began
