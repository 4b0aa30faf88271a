"""One run of real pattern workers under real faults, and the same log through `Matcher` offline: both must find the same.

The offline side knows nothing of batches, lanes, tables or watermarks. It reads the log, learns from `PatternActivated` which
version holds from which offset of which partition, and runs each version over its part of the log, key by key.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs
from processors.patterns.options import CepOptions
from processors.patterns.store import PatternStore
from schemas.catalogue import CATALOGUE
from tests.e2e.trial import PARTITIONS, Trial, read_committed, until

Found = Counter[tuple[Any, ...]]
FOREVER = 1 << 62
PACE_EVERY = 50
"""Records written at a go."""


def definition(name: str, stages: list[dict[str, Any]], **more: Any) -> Definition:
    """Return a pattern over the trial's topic."""
    body = {key: more.pop(key) for key in ("within_ms", "skip") if key in more}
    given = {"topics": ["in"], "idle_after_ms": 700, **more}
    return Definition.model_validate({"name": name, "pattern": {"stages": stages, **body}, **given})


def stage(name: str, kind: str, contiguity: str = "relaxed", **more: Any) -> dict[str, Any]:
    """Return a stage that takes events of one type."""
    return {"name": name, "contiguity": contiguity, "where": f"type == '{kind}'", **more}


FOLLOWED = definition("followed", [stage("a", "a"), stage("b", "b")], within_ms=1_500)
ABSENT = definition("absent", [stage("a", "a"), stage("none", "c", negated=True)], within_ms=900)
LOOP = definition("loop", [stage("a", "a"), stage("more", "b", times={"min": 2, "max": 3}), stage("c", "c")], within_ms=2_500)


@dataclass
class CepTrial(Trial):
    """A trial whose workers match patterns."""

    program: str = "cep_app.py"
    versions: dict[int, Definition] = field(default_factory=dict)
    clock: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = {"FAULT_PREFIX": f"{self.name}.", "FAULT_TOPICS": "in", **self.settings}
        self.store = PatternStore({"bootstrap.servers": self.servers}, CepOptions(topic_prefix=f"{self.name}."))

    @classmethod
    def on(cls, servers: str, directory: Path, **settings: str) -> CepTrial:
        """Make a trial."""
        return cls(servers, directory, dict(settings))

    def publish(self, *definitions: Definition) -> int:
        """Publish patterns; return the last one's version."""
        for one in definitions:
            version = self.store.publish(one).version
            self.versions[version] = one
        return version

    def produce_events(self, records: Iterable[tuple[bytes, bytes]], *, partition: int = -1, topic: str = "") -> None:
        """Write records, to the trial's source unless told otherwise."""
        producer = Producer({"bootstrap.servers": self.servers, "queue.buffering.max.messages": 200_000})
        for key, value in records:
            producer.produce(topic or self.source, value, key, partition=partition)
            self.sent += not topic
        assert producer.flush(30) == 0

    def load(self, count: int, *, keys: int, span_ms: int) -> None:
        """Write records of three types, live: over this span of time, each with the time it is written at."""
        begin = time.monotonic()

        def records() -> Iterable[tuple[bytes, bytes]]:
            for i in range(count):
                if i % PACE_EVERY == 0:
                    time.sleep(max(0.0, begin + span_ms * i / count / 1000 - time.monotonic()))
                self.clock = max(self.clock, time.time_ns() // 1_000_000)
                body = {"type": self.chance.choice("abc"), "ts": self.clock, "n": i}
                yield b"k%d" % self.chance.randrange(keys), json.dumps(body).encode()

        self.produce_events(records())

    # ---- what the workers said

    def said(self, topic: str) -> list[dict[str, Any]]:
        """Return the events of an output topic, with their type."""
        try:
            records = read_committed(self.servers, f"{self.name}.{topic}")
        except AssertionError:
            return []
        return [
            {"event": CATALOGUE.type_of(value), **CATALOGUE.read(value), "at": (partition, offset)}
            for partition, offset, _, value in records
        ]

    def results(self) -> dict[str, Found]:
        """Return everything found, each with how often it was said."""
        found: dict[str, Found] = {"matched": Counter(), "timed_out": Counter(), "evicted": Counter()}
        for topic in ("antiphon.matches", "antiphon.timeouts", "antiphon.evictions"):
            if topic in self.topics():
                for one in self.said(topic):
                    found[one["event"].rpartition(".")[2]][_identity(one)] += 1
        return found

    def topics(self) -> set[str]:
        """Return the trial's topics, without its prefix."""
        names = self._admin.list_topics(timeout=10).topics
        return {name.removeprefix(f"{self.name}.") for name in names if name.startswith(f"{self.name}.")}

    def changes(self) -> list[dict[str, Any]]:
        """Return what was said about versions, in the order of offsets."""
        if "antiphon.pattern-changes" not in self.topics():
            return []
        return [one for one in self.said("antiphon.pattern-changes") if one["event"] == "pattern.activated"]

    def wait_action(self, version: int, action: str, partitions: int = PARTITIONS) -> dict[int, int]:
        """Wait until every partition has said this of a version; return from which offset each."""

        def said() -> dict[int, int]:
            mine = [one for one in self.changes() if (one["version"], one["action"]) == (version, action)]
            assert len({one["input_partition"] for one in mine}) == len(mine), "a change is said once a partition"
            return {one["input_partition"]: one["input_offset"] for one in mine}

        until(lambda: len(said()) == partitions, f"version {version} {action} everywhere")
        return said()

    def told(self, missing: Found) -> list[tuple[Any, ...]]:
        """Return what was said about the versions that results are missing of, for a failure's message."""
        versions = {identity[0] for identity in missing}
        changes = [one for one in self.changes() if one["version"] in versions]
        return sorted((c["version"], c["input_partition"], c["input_offset"], c["action"], c["detected_at"]) for c in changes)

    # ---- the same offline

    def log(self) -> dict[int, list[dict[str, Any]]]:
        """Return the events of each partition, as patterns see them."""
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for partition, offset, key, value in sorted(read_committed(self.servers, self.source), key=lambda r: r[:2]):
            body = json.loads(value or b"{}")
            found[partition].append({**body, "id": (self.source, partition, offset), "key": (key or b"").decode()})
        return found

    def expected(self) -> dict[str, Found]:
        """Run every version over its part of the log."""
        total: dict[str, Found] = {"matched": Counter(), "timed_out": Counter(), "evicted": Counter()}
        changes = self.changes()
        log = self.log()
        for version, one in self.versions.items():
            for partition in range(PARTITIONS):
                mine = [c for c in changes if (c["version"], c["input_partition"]) == (version, partition)]
                said = {c["action"]: c["input_offset"] for c in mine}
                if "activated" in said:
                    for kind, found in _offline(version, one, log[partition], said).items():
                        total[kind] += found
        return total

    def verify(self, *, at_least_once: bool = False) -> None:
        """What was said is what the offline run finds, each exactly once; nothing is a dead letter or late."""
        want = self.expected()
        seen: dict[str, Found] = {}

        def complete() -> bool:
            nonlocal seen
            seen = self.results()
            return all(sum(seen[kind].values()) >= sum(want[kind].values()) for kind in want)

        with contextlib.suppress(AssertionError):  # what is missing is told below
            until(complete, "all results said", 60)
        late = self.said("antiphon.late") if "antiphon.late" in self.topics() else []
        assert not late, f"{len(late)} events are late, such as {late[:3]}"
        for kind, found in want.items():
            missing, more = found - seen[kind], seen[kind] - found
            if missing:
                some, changes = list(missing)[:3], self.told(missing)
                pytest.fail(f"{kind}: {len(missing)} of {sum(found.values())} missing, such as {some}; {changes}")
            assert not more, f"{kind}: {sum(more.values())} too many, such as {more.most_common(3)}"
        assert sum(want["matched"].values()) > 0, "a trial without a match shows nothing"
        assert not read_committed(self.servers, f"{self.name}.dead-letters")

    def finish(self) -> None:
        """Let the workers process everything and say everything, compare, and stop them."""
        self.wait_committed(self.sent)
        self.verify()
        for worker in self.workers:
            if worker.poll() is None:
                self.stop(worker)
        self.verify()


def _offline(version: int, one: Definition, log: list[dict[str, Any]], said: dict[str, int]) -> dict[str, Found]:
    """Run one version over one partition."""
    begin = said["activated"]
    end = said.get("draining", said.get("replaced", FOREVER))
    matcher = Matcher(compile_pattern(one.pattern), backend="general", partial_matches_max=one.partial_matches_max)
    states: dict[Any, Any] = {}
    out = Outputs()
    last = -1
    for event in log:
        offset = event["id"][2]
        if offset >= begin and (offset < end or "draining" in said):
            matcher.run(states, [event], out)
            last = event["ts"] if offset < end else last
    if "replaced" in said:
        for key in list(states):
            matcher.advance(states, key, last - 1, out)
        evicted = Counter(_id(version, key, view.stages) for key, state in states.items() for view in matcher.view(state))
    else:
        for key in list(states):
            matcher.advance(states, key, FOREVER, out)
        evicted = Counter()
    found = {
        "matched": [_id(version, m.key, m.stages) for m in out.matches],
        "timed_out": [(*_id(version, t.key, t.stages), t.ts) for t in out.timed_out],
    }
    before = {kind: Counter(i for i in ids if _first(i) < end) for kind, ids in found.items()}
    return {**before, "evicted": evicted}


def _id(version: int, key: Any, stages: dict[str, list[dict[str, Any]]]) -> tuple[Any, ...]:
    taken = tuple((name, tuple(event["id"][1:] for event in of)) for name, of in sorted(stages.items()))
    return version, key, taken


def _first(identity: tuple[Any, ...]) -> int:
    found: int = min(offset for _, of in identity[2] for _, offset in of)
    return found


def _identity(one: dict[str, Any]) -> tuple[Any, ...]:
    taken = tuple(
        (of["stage"], tuple((event["partition"], event["offset"]) for event in of["events"]))
        for of in sorted(one["stages"], key=lambda of: of["stage"])
    )
    found = (one["version"], one["correlation_key"], taken)
    return (*found, one["deadline"]) if one["event"] == "pattern.timed_out" else found
