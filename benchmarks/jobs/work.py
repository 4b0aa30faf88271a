"""The job that every runtime does: decode an eight-field record, count per key, write every tenth count.

The record and the job are those of the design's table: about 180 bytes of Avro, 1,000 agents, all twenty event types wanted.
"""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
import uuid
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader, schemaless_writer

SCHEMA: Final = parse_schema(
    {
        "type": "record",
        "name": "AgentEvent",
        "namespace": "bench",
        "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "type", "type": "string"},
            {"name": "agent_id", "type": "string"},
            {"name": "task_id", "type": "string"},
            {"name": "ts", "type": "long"},
            {"name": "value", "type": "double"},
            {"name": "attempt", "type": "int"},
            {"name": "payload", "type": "string"},
        ],
    }
)
AGENTS: Final = 1_000
OUT_EVERY: Final = 10
PARTITIONS: Final = 4
DISTINCT: Final = 20_000
"""Records made once and sent again and again: making them is not what is measured."""

reader: Any = schemaless_reader
Bytes: Any = io.BytesIO


def records(seed: int = 7) -> list[tuple[bytes, bytes]]:
    """Return keys and Avro values of `DISTINCT` events."""
    chance = random.Random(seed)
    made = []
    for i in range(DISTINCT):
        event = {
            "event_id": str(uuid.UUID(int=chance.getrandbits(128))),
            "type": f"agent.kind.{i % 20:02d}",
            "agent_id": f"agent-{chance.randrange(AGENTS):04d}",
            "task_id": f"task-{i % 5000:06d}",
            "ts": 1_700_000_000_000 + i,
            "value": chance.random(),
            "attempt": i % 4,
            "payload": "x" * 56 + f"{i:08d}",
        }
        buffer = io.BytesIO()
        schemaless_writer(buffer, SCHEMA, event)
        made.append((str(event["agent_id"]).encode(), buffer.getvalue()))
    return made


class Clock:
    """From the first record to the last commit, and the processor time in between."""

    def __init__(self) -> None:
        self._began = self._cpu = 0.0
        self.started = False

    def start(self) -> None:
        """Start at the first record."""
        if not self.started:
            self.started, self._began, self._cpu = True, time.perf_counter(), time.process_time()

    def report(self, records_done: int, **more: Any) -> None:
        """Print the result line and leave at once: what a runtime does while it stops is not measured."""
        seconds = time.perf_counter() - self._began
        found = {"rate": records_done / seconds, "cpu_us": (time.process_time() - self._cpu) / records_done * 1e6, **more}
        sys.stdout.write("RESULT " + json.dumps(found) + "\n")
        sys.stdout.flush()
        os._exit(0)
