"""The whole job from the log: our worker on an embedded broker beside Flink's job in its MiniCluster.

    ours     fetch ▶ decode what the pattern needs ▶ match ▶ produce ▶ kafka transaction with state and offsets, exactly once
    Flink    generate in the process ▶ keyBy ▶ match ▶ discard, without checkpoints

So ours does more. In its time it has: from the moment its partitions may be fetched until the last record's offset is committed.
Flink's has the start of its job, as BENCH.md has it; a row says what one of a thousand events takes. Both find the same matches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.children import python, result
from benchmarks.jobs import cep_topic
from benchmarks.oracle import Flink, Found
from streams.bench import Progress
from streams.broker import EmbeddedBroker

__all__ = ["PATTERNS", "RATIO_MIN", "Jobs", "jobs"]

PATTERNS: Final = ("P1", "P2", "P2x3", "P3")
RATIO_MIN: Final = 1.5
"""Ours to Flink's job."""
START_EVENTS: Final = 1_000
"""Of the job that tells what Flink's start takes."""


class Jobs:
    """Both sides on one stream.

    Args:
        servers: The broker that holds the stream.
        events: How many events it has.
    """

    def __init__(self, servers: str, events: int) -> None:
        self._servers, self._events = servers, events

    def ours(self, pattern: str) -> dict[str, Any]:
        """Run our worker in a fresh process, and count what it has written."""
        found = result(python("cep_worker", self._servers, pattern, str(self._events)))
        counted = cep_topic.written(self._servers, found["matches_topic"], found["timeouts_topic"])
        return found | counted

    def theirs(self, flink: Flink, pattern: str) -> Found:
        """Run Flink's job in a fresh JVM."""
        return flink.run("job", pattern, self._events)

    @staticmethod
    def start_s(flink: Flink) -> float:
        """How long a job takes that has next to nothing to do."""
        return START_EVENTS / flink.run("job", "P1", START_EVENTS).rate


@contextmanager
def jobs(events: int, progress: Progress) -> Iterator[Jobs]:
    """A broker with the stream on it, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as directory, EmbeddedBroker(data_dir=Path(directory) / "kafka", heap_mb=1_024) as broker:
        progress(f"writing {events:,} events")
        cep_topic.fill(broker.bootstrap_servers, events)
        yield Jobs(broker.bootstrap_servers, events)
