"""One run of real workers on a real broker under real faults, and the count of what came of every record."""

from __future__ import annotations

import collections
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

HERE = Path(__file__).parent
PARTITIONS = 4
PROGRESS_S = 90.0
"""No fault here takes longer than this to be overcome: session (6 s) plus transaction timeout (10 s) plus a loaded machine."""


def read_committed(servers: str, topic: str, partitions: int = PARTITIONS) -> list[tuple[int, int, bytes | None, bytes | None]]:
    """Return every committed record of a topic as partition, offset, key, value."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"reader-{secrets.token_hex(6)}",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    found: list[tuple[int, int, bytes | None, bytes | None]] = []
    ended: set[int | None] = set()
    deadline = time.monotonic() + PROGRESS_S
    while len(ended) < partitions:
        assert time.monotonic() < deadline, f"{topic}: only partitions {ended} could be read to their end"
        for message in consumer.consume(5_000, 1.0):
            if message.error():
                ended.add(message.partition())
            else:
                found.append((message.partition() or 0, message.offset() or 0, message.key(), message.value()))
    consumer.close()
    return found


def until(holds: Callable[[], bool], what: str, within_s: float = PROGRESS_S) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Trial:
    """A source topic, the workers that process it, and what they must leave behind."""

    servers: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    records: int = 12_000
    name: str = field(default_factory=lambda: f"trial-{secrets.token_hex(4)}")
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    sent: int = 0
    program: str = "fault_app.py"
    """The worker under test, beside this file."""

    def __post_init__(self) -> None:
        self.source, self.out = f"{self.name}.in", f"{self.name}.out"
        self._admin = AdminClient({"bootstrap.servers": self.servers})
        for future in self._admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in (self.source, self.out)]).values():
            future.result()
        self._group = Consumer({"bootstrap.servers": self.servers, "group.id": self.name})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self._group.close()

    def produce(self, values: Iterable[bytes] | None = None, *, partition: int = -1) -> None:
        """Write records, over about a thousand keys."""
        producer = Producer({"bootstrap.servers": self.servers, "queue.buffering.max.messages": 200_000})
        for value in values if values is not None else (b"v%d" % i for i in range(self.records)):
            producer.produce(self.source, value, b"k%d" % (self.sent % 997), partition=partition)
            self.sent += 1
        assert producer.flush(30) == 0

    def start(self, instance: int = 0, **settings: str) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        log = self.directory / f"{self.name}.{len(self.logs)}.log"
        self.logs.append(log)
        given = {
            "FAULT_SERVERS": self.servers,
            "FAULT_APP": self.name,
            "FAULT_INSTANCE": f"w{instance}",
            "FAULT_SOURCE": self.source,
            "FAULT_OUT": self.out,
            "FAULT_STATE": str(self.directory / "state"),
            "PYTHONPATH": str(HERE.parent.parent),
            **self.settings,
            **settings,
        }
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, str(HERE / self.program)], env=os.environ | given, stdout=output, stderr=subprocess.STDOUT
            )
        self.workers.append(worker)
        return worker

    def log_text(self) -> str:
        """Return what all workers logged."""
        return "".join(log.read_text(errors="replace") for log in self.logs)

    def starts(self, worker: int) -> int:
        """Return how often a worker has opened its partitions."""
        return self.logs[worker].read_text(errors="replace").count("turns start on")

    def wait_shared(self) -> None:
        """Wait until every live worker has partitions of its own."""

        def has_some(log: Path) -> bool:
            starts = [line for line in log.read_text(errors="replace").splitlines() if "turns start on" in line]
            return bool(starts) and "@" in starts[-1]

        until(
            lambda: all(has_some(log) for log, worker in zip(self.logs, self.workers, strict=True) if worker.poll() is None),
            "all share",
        )

    def committed(self) -> int:
        """Return how many source records the group has committed; markers do not occur in the source."""
        try:
            answer = self._group.committed([TopicPartition(self.source, p) for p in range(PARTITIONS)], timeout=5)
        except KafkaException:
            return 0
        return sum(max(0, at.offset) for at in answer)

    def wait_committed(self, count: int, within_s: float = PROGRESS_S) -> None:
        """Wait until the group has committed this many source records."""
        best = 0

        def enough() -> bool:
            nonlocal best
            best = max(best, self.committed())
            return best >= count

        try:
            until(enough, f"{count} records committed", within_s)
        except AssertionError as error:
            raise AssertionError(
                f"{error} (got {best}); the last worker said:\n{self.logs[-1].read_text(errors='replace')[-3000:]}"
            ) from None

    def stop(self, worker: subprocess.Popen[bytes], within_s: float = 30.0) -> None:
        """Stop a worker as an operator does."""
        worker.terminate()
        assert worker.wait(within_s) == 0, f"exit code {worker.returncode}: {self.log_text()[-3000:]}"

    def finish(self) -> None:
        """Let the workers process everything, stop them, and count."""
        self.wait_committed(self.sent)
        for worker in self.workers:
            if worker.poll() is None:
                self.stop(worker)
        self.verify()

    def verify(self, *, at_least_once: bool = False) -> None:
        """Every good record once in the read-committed output and the table; every poison record once among dead letters."""
        source = read_committed(self.servers, self.source)
        good = [r for r in source if not (r[3] or b"").startswith(b"poison")]
        want = {b"%d:%d" % (p, o) for p, o, *_ in good}
        found = collections.Counter(v for *_, v in read_committed(self.servers, self.out) if v and not v.startswith(b"expired"))
        twice = [v for v, n in found.items() if n > 1]
        assert want - set(found) == set(), f"lost {len(want - set(found))}"
        assert set(found) - want == set(), f"never asked for: {sorted(set(found) - want)[:5]}"
        if not at_least_once:
            assert not twice, f"{len(twice)} doubled, such as {twice[:5]}"
            self.verify_table(collections.Counter((p, (k or b"").decode()) for p, _, k, _ in good))
        dead = collections.Counter((k, v) for _, _, k, v in read_committed(self.servers, f"{self.name}.dead-letters"))
        assert dead == collections.Counter((k, v) for _, _, k, v in source if (v or b"").startswith(b"poison"))

    def verify_table(self, want: dict[tuple[int, str], int]) -> None:
        """The table, as rebuilt from its changelog, has exactly these counts by partition and key."""
        table: dict[tuple[int, str], int] = {}
        for partition, _, key, value in sorted(
            read_committed(self.servers, f"{self.name}-counts-changelog"), key=lambda r: r[:2]
        ):
            name = (partition, json.loads(key or b"null"))
            if value is None:
                table.pop(name, None)
            else:
                table[name] = json.loads(value)
        wrong = {k: (table.get(k), n) for k, n in want.items() if table.get(k) != n}
        assert not wrong, f"{len(wrong)} keys are wrong (found, wanted), such as {dict(list(wrong.items())[:5])}"
        assert set(table) == set(want)
