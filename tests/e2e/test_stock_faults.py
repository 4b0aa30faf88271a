"""Each fault of stock Faust 0.15.3 that the runtime mends: the stock behaviour and ours, side by side on one broker."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from streams.broker import EmbeddedBroker
from streams.turns import lookup as lookup_module
from streams.turns.fence import group_metadata
from streams.turns.lookup import Lookup
from tests.e2e.trial import read_committed, until

HERE = Path(__file__).parent
STOCK, OURS = "stock", "ours"
WITHIN_S = 30.0


class Run:
    """One app of one kind, with its own topics, group and processes."""

    def __init__(self, servers: str, directory: Path, kind: str, case: str) -> None:
        self.servers, self.directory, self.kind, self.case = servers, directory, kind, case
        self.name = f"{case}-{kind}-{secrets.token_hex(3)}"
        self.source, self.out, self.changelog = f"{self.name}.in", f"{self.name}.out", f"{self.name}-counts-changelog"
        self.log = directory / f"{self.name}.log"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._group = Consumer({"bootstrap.servers": servers, "group.id": self.name})
        self.create(self.source, self.out)

    def create(self, *topics: str) -> None:
        """Create topics of one partition."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
            future.result()

    def produce(self, *values: bytes) -> None:
        """Write values to the source."""
        producer = Producer({"bootstrap.servers": self.servers})
        for value in values:
            producer.produce(self.source, value, b"key")
        assert producer.flush(WITHIN_S) == 0

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        given = {
            "STOCK_SERVERS": self.servers,
            "STOCK_APP": self.name,
            "STOCK_KIND": self.kind,
            "STOCK_CASE": self.case,
            "STOCK_SOURCE": self.source,
            "STOCK_OUT": self.out,
            "PYTHONPATH": str(HERE.parent.parent),
            **settings,
        }
        with self.log.open("ab") as output:
            command = [sys.executable, str(HERE / "stock_app.py")]
            worker = subprocess.Popen(command, env=os.environ | given, stdout=output, stderr=subprocess.STDOUT)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """Leave no process behind."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self._group.close()

    def said(self) -> list[str]:
        """Return what the workers told."""
        return [line[4:] for line in self.log.read_text(errors="replace").splitlines() if line.startswith("SAY ")]

    def committed(self) -> int:
        """Return the group's committed offset."""
        (answer,) = self._group.committed([TopicPartition(self.source, 0)], timeout=5)
        return int(answer.offset)

    def values(self, topic: str = "") -> list[bytes | None]:
        """Return the committed values of a topic, the outputs' unless named."""
        return [value for *_, value in read_committed(self.servers, topic or self.out, 1)]

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Look until something holds; the log says why it does not."""
        try:
            until(holds, f"{self.kind}: {what}", WITHIN_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')[-3000:]}") from None


Pair = tuple[Run, Run]


def runs(kafka: EmbeddedBroker, directory: Path, case: str) -> Iterator[Pair]:
    """Yield the same case for stock Faust and for ours."""
    pair = Run(kafka.bootstrap_servers, directory, STOCK, case), Run(kafka.bootstrap_servers, directory, OURS, case)
    try:
        yield pair
    finally:
        for run in pair:
            run.close()


# ---- an agent that raises


@pytest.fixture(scope="module")
def raised(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both kinds after a good record, one that raises, and a good one."""
    for pair in runs(kafka, tmp_path_factory.mktemp("raise"), "raise"):
        for run in pair:
            run.produce(b"one", b"poison", b"three")
            run.start()
        for run in pair:
            run.wait(lambda run=run: run.committed() == 3, "all three records are committed")  # type: ignore[misc]
        yield pair


def test_a_record_whose_agent_raises(raised: Pair) -> None:
    """Stock Faust commits past it and it is nowhere; ours sets it aside with its bytes and goes on."""
    stock, ours = raised
    topics = AdminClient({"bootstrap.servers": stock.servers}).list_topics(timeout=WITHIN_S).topics
    assert stock.committed() == 3
    assert [name for name in topics if name.startswith(stock.name) and name not in {stock.source, stock.out}] == []
    assert ours.committed() == 3
    assert ours.values(f"{ours.name}.dead-letters") == [b"poison"]


def test_what_an_agent_sent_before_it_raised(raised: Pair) -> None:
    """`send_soon` escapes stock Faust's failed agent; ours sends what finished records sent, and nothing of the failed one."""
    stock, ours = raised
    stock.wait(lambda: b"three" in stock.values(), "the buffered sends are out")
    assert stock.values() == [b"one", b"poison", b"three"]
    assert ours.values() == [b"one", b"three"]


# ---- concurrency


@pytest.fixture
def slow(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[Pair]:
    yield from runs(kafka, tmp_path, "slow")


def test_a_record_that_still_runs_when_its_worker_is_killed(slow: Pair) -> None:
    """With concurrency=2 stock Faust commits past a record that runs, so kill -9 loses it; ours commits behind it only."""
    stock, ours = slow
    for run in slow:
        run.produce(b"slow", b"1", b"2", b"3")
        run.start()
    stock.wait(lambda: "slow" in stock.said() and stock.committed() == 4, "offsets jump over the record that runs")
    ours.wait(lambda: "slow" in ours.said(), "the slow record runs")
    assert b"slow" not in stock.values()
    assert ours.committed() < 1
    for run in slow:
        run.workers[0].send_signal(signal.SIGKILL)
        run.workers[0].wait()
        run.produce(b"4")
        run.start(STOCK_HURRY="1")
    for run in slow:
        run.wait(lambda run=run: run.committed() == 5, "everything is committed")  # type: ignore[misc]
    assert sorted(filter(None, stock.values())) == [b"1", b"2", b"3", b"4"]
    assert ours.values() == [b"slow", b"1", b"2", b"3", b"4"]


# ---- timers and tables


@pytest.fixture
def timer(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[Pair]:
    yield from runs(kafka, tmp_path, "timer")


def test_a_table_written_by_a_timer(timer: Pair) -> None:
    """Stock Faust refuses table writes outside a stream, so no lease can expire; ours gives timers a batch of their own."""
    stock, ours = timer
    for run in timer:
        run.produce(b"lease")
        run.start()
    refusal = "refused: Cannot modify table key from outside of stream iteration"
    stock.wait(lambda: refusal in stock.said(), "the timer's write is refused")
    ours.wait(lambda: "written" in ours.said(), "the timer has written")
    changelog = f"{ours.name}-leases-changelog"

    def expired() -> bool:
        last = {key: value for _, _, key, value in read_committed(ours.servers, changelog, 1)}
        return last == {b'"lease"': None, b'"expired"': b"1"}

    ours.wait(expired, "the lease is gone from the changelog")


# ---- recovery


@pytest.fixture
def recovering(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[Pair]:
    yield from runs(kafka, tmp_path, "recover")


def in_transaction(servers: str, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Write records in a kafka transaction, which leaves a commit marker as the last offset."""
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"t-{secrets.token_hex(4)}"})
    producer.init_transactions(WITHIN_S)
    producer.begin_transaction()
    for key, value in records:
        producer.produce(topic, value, key, 0)
    producer.commit_transaction(WITHIN_S)


def test_a_changelog_that_ends_in_a_commit_marker(recovering: Pair) -> None:
    """Stock Faust waits for a record at the last offset, where a marker is, and never starts; ours ends where the log does."""
    stock, ours = recovering
    for run in recovering:
        run.create(run.changelog)
        in_transaction(run.servers, run.changelog, [(b'"k%d"' % n, b"%d" % n) for n in range(5)])
        run.produce(b"go")
        run.start()
    ours.wait(lambda: ours.values() == [b"4"], "the record is processed over the recovered table")
    stuck = "read 4 of 5, waiting"
    stock.wait(lambda: stock.said().count(stuck) >= 60, "recovery has read all there is, and waits")  # three seconds of looks
    assert not any("ready" in line for line in stock.said())
    assert stock.values() == []


# ---- offsets


async def test_offsets_that_are_part_of_an_open_kafka_transaction(
    kafka: EmbeddedBroker, topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stock Faust's client is given the old offset and would repeat what is about to commit; ours waits for the outcome."""
    monkeypatch.setattr(lookup_module, "COMMITTED_TIMEOUT_S", 0.5)
    servers, group, name = kafka.bootstrap_servers, f"open-{secrets.token_hex(3)}", topic("open", partitions=1)
    tp, stranger = TP(name, 0), group_metadata(group_id=group, generation=-1, member_id="")
    producer = Producer({"bootstrap.servers": servers, "transactional.id": group})
    producer.init_transactions(WITHIN_S)
    lookup = Lookup({"bootstrap.servers": servers}, group)
    consumer: Any = AIOKafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    consumer.assign([tp])
    await consumer.start()
    try:
        for offset in (3, 7):
            producer.begin_transaction()
            producer.send_offsets_to_transaction([TopicPartition(name, 0, offset)], stranger, WITHIN_S)
            if offset == 3:
                producer.commit_transaction(WITHIN_S)
                assert await lookup.ask(lookup.committed, [tp]) == {tp: 3}
        began = time.monotonic()
        asked = asyncio.ensure_future(lookup.ask(lookup.committed, [tp]))
        assert await consumer.committed(tp) == 3
        assert not (await asyncio.wait({asked}, timeout=1.5))[0]
        assert await consumer.committed(tp) == 3
        producer.commit_transaction(WITHIN_S)
        assert await asked == {tp: 7}
        assert time.monotonic() - began >= 1.5
    finally:
        await consumer.stop()
        lookup.close()
