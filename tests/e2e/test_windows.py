"""Windows on a real broker: two topics joined by a field, `kill -9` in between, every window once and with the right numbers."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.catalogue import CATALOGUE
from streams.broker import EmbeddedBroker
from tests.e2e.trial import PARTITIONS, Trial, read_committed, until

DISORDER_MS, GAP_MS, SIZE_MS = 2_000, 400, 1_000
EVENTS, TASKS = 4_000, 40

DEFINITIONS = f"""
- name: per-task
  topics: [in, reviews]
  types: [tool.failed, review.rejected]
  key: task
  window: {{kind: tumbling, size_ms: {SIZE_MS}}}
  disorder_ms: {DISORDER_MS}
  idle_after_ms: 4000
  follow_wall_clock: true
  aggregates:
    cost: {{agg: sum, field: cost}}
    agents: {{agg: distinct, field: agent}}
- name: bursts
  topics: [in]
  key: agent
  window: {{kind: session, gap_ms: {GAP_MS}}}
  disorder_ms: {DISORDER_MS}
  idle_after_ms: 4000
  follow_wall_clock: true
  aggregates:
    cost: {{agg: sum, field: cost}}
"""


class Windows(Trial):
    """A trial with a second source topic and the topics that windows write to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.program = "windows_app.py"
        self.reviews = f"{self.name}.reviews"
        self.results, self.late = f"{self.name}.antiphon.windows", f"{self.name}.antiphon.late"
        names = (self.reviews, self.results, self.late, f"{self.name}.antiphon.evictions")
        admin = AdminClient({"bootstrap.servers": self.servers})
        for future in admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names]).values():
            future.result()
        file = self.directory / "windows.yaml"
        file.write_text(DEFINITIONS)
        self.settings = {"WINDOWS_FILE": str(file), "WINDOWS_PREFIX": f"{self.name}."}
        self._producer = Producer({"bootstrap.servers": self.servers})
        self.events: list[dict[str, Any]] = []

    def write(self, events: list[dict[str, Any]]) -> None:
        """Write events to the topics of their types, keyed by agent."""
        for event in events:
            topic = self.reviews if event["type"] == "review.rejected" else self.source
            self._producer.produce(topic, json.dumps(event), event["agent"])
            self.sent += topic == self.source
        assert self._producer.flush(30) == 0
        self.events += events

    def decoded(self, topic: str) -> list[Any]:
        """Return the events of a topic that were committed."""
        return [
            CATALOGUE.decode(value, topic=topic, partition=p, offset=o)
            for p, o, _, value in read_committed(self.servers, topic)
            if value
        ]

    def expected(self) -> tuple[dict[tuple[str, int], tuple[int, float, int]], dict[tuple[str, int, int], tuple[int, float]]]:
        """Return what both definitions are to say, from all events."""
        windows: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        by_agent: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.events:
            windows[event["task"], event["ts"] // SIZE_MS * SIZE_MS].append(event)
            if event["type"] == "tool.failed":
                by_agent[event["agent"]].append(event)
        sessions: dict[tuple[str, int, int], tuple[int, float]] = {}
        for agent, events in by_agent.items():
            events.sort(key=lambda e: int(e["ts"]))
            groups: list[list[dict[str, Any]]] = []
            for event in events:
                if not groups or event["ts"] - groups[-1][-1]["ts"] > GAP_MS:
                    groups.append([])
                groups[-1].append(event)
            for one in groups:
                sessions[agent, one[0]["ts"], one[-1]["ts"] + GAP_MS] = (len(one), float(sum(e["cost"] for e in one)))
        totals = {
            at: (len(found), float(sum(e["cost"] for e in found)), len({e["agent"] for e in found}))
            for at, found in windows.items()
        }
        return totals, sessions


def make_events(seed: int, begin_ms: int) -> list[dict[str, Any]]:
    """Return events in the order in which they are written: out of order by less than the disorder allowed."""
    chance = random.Random(seed)
    events = []
    for n in range(EVENTS):
        agent, at = f"agent-{chance.randrange(16)}", begin_ms + 5 * n
        kind = "review.rejected" if chance.random() < 0.3 else "tool.failed"
        task = f"task-{chance.randrange(TASKS)}"
        events.append(
            {"type": kind, "task": task, "agent": agent, "cost": chance.randrange(100), "ts": at - chance.randrange(1_900)}
        )
    return events


def test_every_window_once_across_kills(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Two kinds of windows over two topics, four kill -9, then silence: each window has one result, and it is right."""
    with Windows(kafka.bootstrap_servers, tmp_path) as trial:
        events = make_events(7, int(time.time() * 1000) - 5 * EVENTS)
        chance = random.Random(time.time_ns())
        worker = trial.start()
        quarter = EVENTS // 4
        for n in range(4):
            before = trial.committed()
            trial.write(events[n * quarter : (n + 1) * quarter])
            if n < 3:
                trial.wait_committed(min(trial.sent, before + 1))
                moment = time.monotonic() + chance.random() * 0.5
                until(lambda at=moment: time.monotonic() >= at, "a random moment")  # type: ignore[misc]
                worker.kill()
                worker.wait()
                worker = trial.start()
        windows, sessions = trial.expected()
        told_before = len(read_committed(trial.servers, trial.results))
        until(lambda: len(read_committed(trial.servers, trial.results)) > told_before, "windows close, some without an event")
        worker.kill()
        worker.wait()
        worker = trial.start()
        until(lambda: len(read_committed(trial.servers, trial.results)) >= len(windows) + len(sessions), "every window is told")
        trial.stop(worker)
        results = trial.decoded(trial.results)
        assert trial.decoded(trial.late) == []
        assert read_committed(trial.servers, f"{trial.name}.dead-letters") == []
    assert {one.status for one in results} == {"complete"}
    told = {
        (r.correlation_key, r.start): (r.events, r.values["cost"], r.values["agents"]) for r in results if r.window == "per-task"
    }
    assert told == windows
    bursts = {(r.correlation_key, r.start, r.end): (r.events, r.values["cost"]) for r in results if r.window == "bursts"}
    assert bursts == sessions
    assert len(results) == len(windows) + len(sessions)
