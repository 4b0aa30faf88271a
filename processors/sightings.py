"""The demo's patterns: three of the library over the landings of a history, and their matches as the pure engine finds them.

    agents.landings ──▶ worker, `processors.cep` ──▶ antiphon.matches, antiphon.late, antiphon.evictions ─┐
           └──────────▶ Matcher, offline ──────────▶ matches, late events, evictions ── equal, each once? ◀┘

A pattern's events come in the order of the log, partition by partition; an event whose time is before that of one that came
earlier in its partition takes no part, live as well as offline. So what is found is a function of the log alone, however it was
cut into batches and whichever worker had the partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from processors.core.activity import DAY_MS
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import EventFields, Match, Outputs, Stages
from processors.log_reader import LogRecord
from processors.patterns import library
from processors.proof import Comparison, Place
from schemas.cep import LateForPattern, PartialMatchEvicted, PatternMatched
from schemas.events import Event
from schemas.fleet import FileLanded

__all__ = ["LANDINGS", "Found", "Offline", "Outcome", "compare", "definitions", "outcomes"]

LANDINGS: Final = FileLanded.topic
"""What the patterns read."""

ADAPTED: Final[Mapping[str, tuple[int, str]]] = {
    "contended-file": (DAY_MS, "Three agents changed one file within a day"),
    "revert-after-landing": (DAY_MS, "A change that had landed was reverted within a day"),
    "thrash": (7 * DAY_MS, "Two agents changed one file in turn, four times within a week"),
}
"""Patterns with their windows, ms. People made the bundled history: what agents do within an hour takes them a day or a week."""

TAKEN_MAX: Final = 1000
"""Events of a lane that are matched at a time: one by one costs twice as much, and a thousand take a megabyte."""

Outcome = tuple[Any, ...]
"""What a pattern said, in a form that can be compared: kind, pattern, key and the events with their places."""


def definitions() -> list[Definition]:
    """Return the library's patterns as the demo runs them: over landings, in the order of the log, with windows for people.

    Nothing is given up for silence (`idle_after_ms`): the result shall depend on the log and not on the speed of this machine.
    """
    found = []
    for name, (within_ms, description) in ADAPTED.items():
        ready = library.load(name)
        changes: dict[str, Any] = {"description": description, "topics": (LANDINGS,), "disorder_ms": 0, "idle_after_ms": DAY_MS}
        if ready.key == FileLanded.key_field:
            changes["types"] = (FileLanded.event_type,)
        changes["pattern"] = ready.pattern.model_copy(update={"within_ms": within_ms})
        found.append(Definition.model_validate(ready.model_copy(update=changes).to_data()))
    return found


@dataclass(slots=True)
class Found:
    """What one pattern found offline: its matches, and everything it said."""

    definition: Definition
    matches: list[Match] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    late: int = 0


class Offline:
    """Runs the patterns over the log, partition by partition, without workers, turns or tables.

    Args:
        patterns: The definitions.
        without: Places of records that took no part for reasons that are not in the log: dead letters, and events whose time was
            ahead of the workers' clock.
    """

    def __init__(self, patterns: Sequence[Definition], without: Container[Place] = ()) -> None:
        self._without = without
        self.found = {one.name: Found(one) for one in patterns}
        self._matchers = {
            one.name: Matcher(compile_pattern(one.pattern), partial_matches_max=one.partial_matches_max) for one in patterns
        }
        self._states: dict[tuple[str, int], dict[Any, Any]] = {}
        self._newest: dict[tuple[str, int], int] = {}
        self._taken: dict[tuple[str, int], list[EventFields]] = {}

    def run(self, records: Iterable[LogRecord], decode: Callable[[LogRecord], Event]) -> None:
        """Take the records of the topic, each partition in order."""
        readers: dict[str, list[Found]] = {}
        for found in self.found.values():
            for event_type in found.definition.types:
                readers.setdefault(event_type, []).append(found)
        names: dict[type[Event], tuple[str, ...]] = {}
        for record in records:
            place = (record.topic, record.partition, record.offset)
            if place in self._without:
                continue
            event = decode(record)
            if wanted := readers.get(event.event_type):
                cls = type(event)
                if cls not in names:
                    names[cls] = tuple(cls.payload_fields())
                fields = {one: getattr(event, one) for one in names[cls]}
                fields |= {"id": place, "key": fields[cls.key_field], "type": event.event_type}
                for found in wanted:
                    self._take(found, fields)
        for name, partition in self._taken:
            self._match(self.found[name], partition)

    def _take(self, found: Found, event: EventFields) -> None:
        """Take an event of a lane, in order of its partition."""
        lane = (found.definition.name, event["id"][1])
        if event["ts"] < self._newest.get(lane, event["ts"]):
            found.outcomes["late", lane[0], event["key"], event["id"]] += 1
            found.late += 1
            return
        self._newest[lane] = event["ts"]
        taken = self._taken.setdefault(lane, [])
        taken.append(event)
        if len(taken) >= TAKEN_MAX:
            self._match(found, lane[1])

    def _match(self, found: Found, partition: int) -> None:
        name = found.definition.name
        taken, out = self._taken[name, partition], Outputs()
        self._matchers[name].run(self._states.setdefault((name, partition), {}), taken, out)
        taken.clear()
        found.matches += out.matches
        found.outcomes.update(("match", name, match.key, _places(match.stages)) for match in out.matches)
        found.outcomes.update(("evicted", name, one.key, _places(one.stages)) for one in out.evicted)


def outcomes(events: Iterable[Event], versions: Mapping[str, int]) -> dict[str, Counter[Outcome]]:
    """Return what the workers said, by pattern; anything of another version counts as what nobody expects.

    Args:
        events: Everything on the topics of matches, late events and evictions.
        versions: The version published of each pattern.
    """
    found: dict[str, Counter[Outcome]] = {name: Counter() for name in versions}
    for event in events:
        if not isinstance(event, PatternMatched | LateForPattern | PartialMatchEvicted):
            found.setdefault("", Counter())[event.event_type,] += 1
            continue
        name, key = event.pattern, event.correlation_key
        if isinstance(event, LateForPattern):
            if event.reason == "ahead":
                continue  # the workers' clock decided, which offline there is none of
            said: Outcome = ("late", name, key, (event.input_topic, event.input_partition, event.input_offset))
        else:
            kind = "match" if isinstance(event, PatternMatched) else "evicted"
            taken = ((one.stage, tuple((at.topic, at.partition, at.offset, at.ts) for at in one.events)) for one in event.stages)
            said = (kind, name, key, frozenset(taken))
        known = event.version == versions.get(name)
        found.setdefault(name, Counter())[said if known else (*said, event.version)] += 1
    return found


def compare(name: str, live: Counter[Outcome], found: Found) -> Comparison:
    """Compare what the workers said of a pattern with what was found offline: the same, each as often."""
    matches = sum(n for outcome, n in live.items() if outcome[0] == "match")
    if live == found.outcomes:
        return Comparison(name, matches, equal=True)
    for one in sorted({*live, *found.outcomes}, key=repr):
        if live[one] != found.outcomes[one]:
            return Comparison(name, matches, equal=False, difference=f"{one}: live {live[one]}, offline {found.outcomes[one]}")
    raise AssertionError("two unequal multisets differ in nothing")


def _places(stages: Stages) -> frozenset[tuple[str, tuple[tuple[str, int, int, int], ...]]]:
    return frozenset((stage, tuple((*event["id"], event["ts"]) for event in events)) for stage, events in stages.items())
