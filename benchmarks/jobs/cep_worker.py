"""Our worker on one pattern, exactly once. `python -m benchmarks.jobs.cep_worker BOOTSTRAP PATTERN EVENTS [RECORDS_A_BATCH]`.

Timed from the moment partitions may be fetched to the commit of the last record's offset. Then the worker goes on until the idle
log lets the stream's time run out (Flink's job ends with a last watermark), so that both have found the same when they are
compared.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final

from benchmarks.jobs.cep_stream import patterns
from benchmarks.jobs.cep_topic import PARTITIONS, TOPIC, event_type, register
from processors import cep
from processors.core.cep.model import Definition
from processors.patterns.options import CepOptions
from processors.patterns.store import PatternStore
from streams.observer import Observer
from streams.topics import Topics
from streams.turns import App, Options
from streams.turns.options import BATCH_RECORDS_MAX
from streams.worker import run_worker

IDLE_AFTER_MS: Final = 3_000
"""When a log without new records lets time run on."""
QUIET_S: Final = 4.0
"""No output for so long after time may run on: nothing is left to find."""
TYPES: Final = {"P1": (0, 1, 2)}
"""The event types that a pattern asks for; the others are read whole: a loop's match waits for any further event (Flink)."""


class _Watch(Observer):
    """Notes when the first batch began and the last offset was committed, and ends the process when nothing more is found."""

    def __init__(self, wanted: int, topics: dict[str, str]) -> None:
        self._topics = topics
        self._wanted, self._done, self._turns, self._commit_s, self._run_s = wanted, 0, 0, 0.0, 0.0
        self._began = self._cpu = self._last_output = 0.0
        self._found: dict[str, Any] | None = None

    def rebalanced(self, *, partitions: int, **_: Any) -> None:
        """Start the clock: from here on records are fetched."""
        if partitions and not self._began:
            self._began, self._cpu = time.perf_counter(), time.process_time()

    def turn_committed(self, *, records: int, outputs: int, run_s: float, commit_s: float, **_: Any) -> None:
        """Count what is committed."""
        now = time.perf_counter()
        if outputs:
            self._last_output = now
        self._done += records
        if self._found is not None:
            return
        self._turns, self._commit_s, self._run_s = self._turns + 1, self._commit_s + commit_s, self._run_s + run_s
        if self._done >= self._wanted:
            seconds, cpu = now - self._began, time.process_time() - self._cpu
            self._found = {
                "rate": self._done / seconds,
                "cpu_us": cpu / self._done * 1e6,
                "turns": self._turns,
                "commit_ms": 1_000 * self._commit_s / self._turns,
                "run_us": 1e6 * self._run_s / self._done,
            }
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        time.sleep(IDLE_AFTER_MS / 1_000)
        while time.perf_counter() - self._last_output < QUIET_S:
            time.sleep(0.2)
        sys.stdout.write("RESULT " + json.dumps({**(self._found or {}), **self._topics}) + "\n")
        sys.stdout.flush()
        os._exit(0)


def main(servers: str, name: str, wanted: int, batch: int = BATCH_RECORDS_MAX) -> None:
    """Publish the pattern, run it over the topic, print the result."""
    register()
    prefix = f"{uuid.uuid4().hex[:8]}."
    kafka = {"bootstrap.servers": servers}
    topics: dict[str, Any] = {**_outputs(prefix), "topics": (TOPIC,), "patterns_topic": f"{prefix}patterns"}
    options = CepOptions(**topics)
    definition = {
        "name": name.lower(),
        "topics": [TOPIC],
        "types": [event_type(number) for number in TYPES.get(name, ())],
        "idle_after_ms": IDLE_AFTER_MS,
        "pattern": patterns(event_type)[name],
    }
    runtime = Options(
        client=kafka,
        partitions=PARTITIONS,
        state_dir=Path(tempfile.mkdtemp()),
        create_topics=True,
        batch_records_max=batch,
    )
    app = App(f"{prefix}cep", options=runtime, observer=_Watch(wanted, _outputs(prefix)))
    cep.register(app, options)
    app.preflight()
    for output in _outputs(prefix).values():  # made beforehand, as an operator would: not what is measured
        Topics(kafka).ensure(output, partitions=PARTITIONS)
    PatternStore(kafka, options).publish(Definition.model_validate(definition))
    run_worker(app, loglevel="warn")


def _outputs(prefix: str) -> dict[str, str]:
    names = ("matches_topic", "timeouts_topic", "evictions_topic", "late_topic", "changes_topic", "keyed_topic")
    return {name: prefix + name for name in names}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
