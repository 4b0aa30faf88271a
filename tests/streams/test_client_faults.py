"""The client against a broker that dies, stops, refuses or is not there, and a consumer that is killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from schemas.work import FileChanged
from streams.broker import EmbeddedBroker, Listener
from streams.broker_properties import HOST
from streams.client import connect
from streams.errors import BrokerAuthenticationFailed, BrokerUnavailable, QueueFull
from streams.fetching import KafkaFeed
from streams.ports import free_port
from streams.producer import DeliveryFailed, KafkaSender
from streams.reader import LogReader
from streams.settings import Settings
from streams.topics import Topics
from streams.transport import Outgoing

MakeTopic = Callable[..., str]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that may be hurt."""
    with EmbeddedBroker(data_dir=tmp_path_factory.mktemp("own"), heap_mb=512) as broker:
        yield broker


def seen(servers: str, topic: str) -> list[tuple[int, bytes]]:
    reader = LogReader({"bootstrap.servers": servers})
    return [(r.partition, r.value or b"") for batch, _ in reader.read(reader.bounds([topic])) for r in batch]


def changed(seq: int) -> FileChanged:
    return FileChanged(agent=f"agent-{seq % 5}", task="t", ts=1, arrived=2, path="p", added=1, removed=0, seq=seq)


async def test_a_broker_that_is_killed_and_restarted_loses_repeats_and_reorders_nothing(own: EmbeddedBroker) -> None:
    """Publishing goes on through kill -9 of the broker: each record is there once and in order."""
    Topics(own.bootstrap_servers).ensure("killed", 2)
    sender = KafkaSender({"bootstrap.servers": own.bootstrap_servers}, in_flight_max=500, delivery_timeout_s=60)
    count = 6_000

    def hurt() -> None:
        own.kill()
        own.start()

    hurting: threading.Thread | None = None
    for n in range(count):
        await sender.send_soon(Outgoing("killed", b"k", b"%d" % n, partition=n % 2))
        if n == 2_000:
            hurting = threading.Thread(target=hurt)
            hurting.start()
    position = await sender.send(Outgoing("killed", b"k", b"last", partition=0))
    await sender.close()
    assert hurting is not None
    await asyncio.to_thread(hurting.join)
    records = seen(own.bootstrap_servers, "killed")
    for partition in (0, 1):
        values = [value for at, value in records if at == partition and value != b"last"]
        assert values == [b"%d" % n for n in range(partition, count, 2)]
    assert position.offset == count // 2


async def test_a_broker_that_stops_makes_publishers_wait_with_bounded_memory(own: EmbeddedBroker) -> None:
    """While the broker is frozen no more than the bound is accepted; when it goes on, everything arrives once."""
    Topics(own.bootstrap_servers).ensure("frozen", 1)
    bound = 1 << 20
    sender = KafkaSender(
        {"bootstrap.servers": own.bootstrap_servers}, in_flight_max=1_000_000, delivery_timeout_s=60, in_flight_bytes_max=bound
    )
    await sender.send(Outgoing("frozen", None, b"first"))
    assert own.pid
    accepted = 0
    most = 0
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def publish() -> None:
        nonlocal accepted, most
        for n in range(20_000):
            await sender.send_soon(Outgoing("frozen", b"k", b"%06d" % n + b"x" * 1_000))
            accepted += 1
            most = max(most, sender.in_flight[1])

    os.kill(own.pid, signal.SIGSTOP)
    try:
        task = asyncio.ensure_future(publish())
        last, stable_since = -1, time.monotonic()
        while time.monotonic() - stable_since < 1.5:  # until nothing more is accepted
            if accepted != last:
                last, stable_since = accepted, time.monotonic()
            await asyncio.sleep(0.05)
        assert not task.done()
        assert 0 < accepted < 1_000
    finally:
        os.kill(own.pid, signal.SIGCONT)
    await task
    await sender.close()
    assert most <= bound
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20 * bound / 1024
    assert [value[:6] for _, value in seen(own.bootstrap_servers, "frozen")[1:]] == [b"%06d" % n for n in range(20_000)]


async def test_errors_in_the_background_are_never_lost(own: EmbeddedBroker) -> None:
    """With the broker gone publish raises, and publish_soon's failures are raised by flush or given to on_error."""
    Topics(own.bootstrap_servers).ensure("gone", 1)
    sender = KafkaSender({"bootstrap.servers": own.bootstrap_servers}, in_flight_max=3, delivery_timeout_s=4.0)
    await sender.send(Outgoing("gone", None, b"first"))
    assert own.pid
    os.kill(own.pid, signal.SIGSTOP)
    try:
        told: list[Exception] = []
        await sender.send_soon(Outgoing("gone", None, b"1"))
        await sender.send_soon(Outgoing("gone", None, b"2"), lambda error, _record: told.append(error))
        with pytest.raises(BrokerUnavailable, match="gone was not acknowledged within 4 s"):
            await sender.send(Outgoing("gone", None, b"3"))
        with pytest.raises(DeliveryFailed, match="1 published records were not delivered; the first, to gone") as caught:
            await sender.flush()
        assert caught.value.count == 1
        assert [type(one) for one in told] == [BrokerUnavailable]
        await sender.flush()
    finally:
        os.kill(own.pid, signal.SIGCONT)
    await sender.close()


async def test_a_full_queue_raises_after_its_limit_and_a_cancelled_caller_leaves_room(
    own: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever, and who stops waiting does not hold a place."""
    monkeypatch.setattr("streams.producer.ADMISSION_MARGIN_S", -29.5)
    Topics(own.bootstrap_servers).ensure("full", 1)
    sender = KafkaSender({"bootstrap.servers": own.bootstrap_servers}, in_flight_max=1, delivery_timeout_s=30)
    await sender.send(Outgoing("full", None, b"first"))
    assert own.pid
    os.kill(own.pid, signal.SIGSTOP)
    try:
        await sender.send_soon(Outgoing("full", None, b"1"))
        waiting = asyncio.ensure_future(sender.send_soon(Outgoing("full", None, b"cancelled")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(QueueFull, match=r"1 records .* in flight"):
            await sender.send_soon(Outgoing("full", None, b"refused"))
    finally:
        os.kill(own.pid, signal.SIGCONT)
    await sender.send(Outgoing("full", None, b"2"))
    await sender.close()
    assert [value for _, value in seen(own.bootstrap_servers, "full")] == [b"first", b"1", b"2"]


def _consume(servers: str, topic: str, path: str, stop_after: int) -> None:
    async def main() -> None:
        async with connect(kafka={"bootstrap_servers": servers}) as mesh:
            with Path(path).open("a") as out:  # noqa: ASYNC230 - a line at a time, on purpose
                async for delivery in mesh.subscribe(topic, group="g-" + topic):
                    out.write(f"{delivery.event.seq}\n")
                    out.flush()
                    if delivery.event.seq == stop_after:
                        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())


async def test_a_consumer_killed_between_processing_and_commit_sees_the_record_again(
    kafka: EmbeddedBroker, make_topic: MakeTopic, tmp_path: Path
) -> None:
    """Nothing is skipped: after kill -9 the next one gets at least everything that was not committed."""
    topic = make_topic(partitions=1)
    async with connect(kafka={"bootstrap_servers": kafka.bootstrap_servers}) as mesh:
        for n in range(50):
            await mesh.publish_soon(changed(n), topic=topic)
        await mesh.flush()
        out = tmp_path / "seen"
        for stop in (20, 49):
            process = multiprocessing.get_context("spawn").Process(
                target=_consume, args=(kafka.bootstrap_servers, topic, str(out), stop)
            )
            process.start()
            await asyncio.to_thread(process.join, 60)
            assert process.exitcode == -signal.SIGKILL
        times = Counter(int(line) for line in out.read_text().split())
    assert sorted(times) == list(range(50))
    assert times[20] == 2


async def test_prefetch_is_bounded_while_a_subscriber_is_slow(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """A subscriber that does not ask for more holds little more than its buffer, and gets all of it when it does."""
    topic = make_topic()
    async with connect(kafka={"bootstrap_servers": kafka.bootstrap_servers}) as mesh:
        for n in range(20_000):
            await mesh.publish_soon(changed(n), topic=topic)
        await mesh.flush()
        async with mesh.subscribe(topic, group="g-" + topic, buffer_max=100) as subscription:
            first = await anext(subscription)
            await asyncio.sleep(1.0)  # the time in which too much would be fetched
            assert cast(KafkaFeed, subscription._feed)._buffered <= 101
            rest = [first.event.seq]
            async with asyncio.timeout(120):
                while len(rest) < 20_000:
                    rest.append((await anext(subscription)).event.seq)
    assert sorted(rest) == list(range(20_000))


async def test_no_broker_and_wrong_credentials_are_one_clear_line(tmp_path: Path) -> None:
    """Connecting says where nobody answers, and who refuses, without the password."""
    with pytest.raises(BrokerUnavailable, match="no Kafka broker answers"):
        await connect(kafka={"bootstrap_servers": f"{HOST}:{free_port(HOST, set())}"})
    listener = Listener("SASL", protocol="SASL_PLAINTEXT", users={"ada": "right"})
    with EmbeddedBroker(data_dir=tmp_path / "sasl", heap_mb=256, listeners=[listener]) as broker:
        settings = Settings(
            kafka={
                "bootstrap_servers": broker.address("SASL"),
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_username": "ada",
                "sasl_password": "wrong-secret",
            }
        )
        with pytest.raises(BrokerAuthenticationFailed) as caught:
            await connect(settings)
    assert "wrong-secret" not in str(caught.value)
