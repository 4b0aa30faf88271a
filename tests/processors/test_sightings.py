"""The demo's patterns offline: what they are, what they find, and that any difference from what the workers said is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from processors.core.cep.engine import compile_pattern
from processors.log_reader import LogRecord
from processors.patterns import library
from processors.report_patterns import PatternLine, length, pattern_line, timeline
from processors.sightings import LANDINGS, Found, Offline, Outcome, compare, definitions, outcomes
from schemas.cep import EventPlace, LateForPattern, PartialMatchEvicted, PatternMatched, PatternRefused, StageEvents
from schemas.events import Event
from schemas.fleet import ChangeLanded, ChangeReverted, FileLanded

HOUR = 3_600_000


def landed(agent: str, hour: int, path: str = "p") -> Event:
    return FileLanded(path=path, agent=agent, task=f"{agent}{hour}", ts=hour * HOUR, begun=0)


EVENTS: list[Event] = [
    ChangeLanded(task="t", agent="a", ts=0, begun=0, files=1),
    *(landed(agent, hour) for hour, agent in enumerate("abab")),
    ChangeReverted(task="t", agent="b", by_task="u", ts=5 * HOUR),
    landed("c", 6),
    landed("z", 4),  # after one that came later
]


def offline(events: Sequence[Event] = EVENTS, without: Sequence[int] = ()) -> dict[str, Found]:
    """Run the demo's patterns over events of one partition."""
    records = [LogRecord(LANDINGS, 0, n, 0, e.key(), b"", ()) for n, e in enumerate(events)]
    run = Offline(definitions(), {(LANDINGS, 0, n) for n in without})
    run.run(records, lambda record: events[record.offset])
    return run.found


def said(found: Found, version: int = 7) -> list[Event]:
    """What a worker says that found the same."""
    stamp: dict[str, Any] = {"pattern": found.definition.name, "version": version, "detected_at": 0}
    events: list[Event] = []
    for kind, _, key, content in found.outcomes.elements():
        if kind == "late":
            topic, partition, offset = content
            place = {"input_topic": topic, "input_partition": partition, "input_offset": offset}
            events.append(LateForPattern(correlation_key=key, ts=0, watermark=0, reason="late", **place, **stamp))
            continue
        places = {stage: [EventPlace(topic=t, partition=p, offset=o, ts=ts) for t, p, o, ts in taken] for stage, taken in content}
        stages = [StageEvents(stage=stage, events=taken) for stage, taken in places.items()]
        events.append(
            PatternMatched(correlation_key=key, stages=stages, started=0, ended=0, took_ms=0, **stamp)
            if kind == "match"
            else PartialMatchEvicted(correlation_key=key, stages=stages, started=0, reason="", **stamp)
        )
    return events


def test_the_patterns_are_the_librarys_over_landings() -> None:
    """They read one topic in the order of the log and by the record's own key, and say the window that they have."""
    for one in definitions():
        assert one.name in library.names()
        assert (one.topics, one.disorder_ms) == ((LANDINGS,), 0)
        assert compile_pattern(one.pattern).warnings == ()
        assert one.description.endswith({24 * HOUR: "within a day", 7 * 24 * HOUR: "within a week"}[one.pattern.within_ms or 0])


def test_each_finds_its_situation() -> None:
    """Two agents in turn, three agents at one file, a change taken back; an event out of order takes no part and is told."""
    found = offline()
    assert {name: len(one.matches) for name, one in found.items()} == {
        "contended-file": 1,
        "revert-after-landing": 1,
        "thrash": 1,
    }
    assert {name: one.late for name, one in found.items()} == {"contended-file": 1, "revert-after-landing": 0, "thrash": 1}


def test_order_counts_within_a_partition_only() -> None:
    """An event is late by those of its partition, whatever the time of others is."""
    events = [landed("a", 9, "p"), landed("a", 1, "q")]
    paths = sum(one.late for one in offline(events).values())
    assert paths == 2
    run = Offline(definitions())
    run.run([LogRecord(LANDINGS, n, n, 0, b"", b"", ()) for n in range(2)], lambda record: events[record.offset])
    assert sum(one.late for one in run.found.values()) == 0


def test_what_a_worker_set_aside_is_left_out() -> None:
    """A dead-lettered landing is not run offline."""
    assert not offline(without=[0])["revert-after-landing"].matches


@pytest.mark.parametrize("name", [one.name for one in definitions()])
def test_the_same_is_equal_and_each_difference_is_named(name: str) -> None:
    """A match that is missing, there twice, of another version or about other events is a difference."""
    found = offline()[name]
    events, versions = said(found), {name: 7}
    assert compare(name, outcomes(events, versions)[name], found).equal
    match = next(one for one in events if isinstance(one, PatternMatched))
    moved = match.model_copy(update={"stages": [*match.stages[1:], StageEvents(stage=match.stages[0].stage, events=[])]})
    others = [one for one in events if one is not match]
    for wrong in (others, [*events, match], [*others, match.model_copy(update={"version": 8})], [*others, moved]):
        comparison = compare(name, outcomes(wrong, versions)[name], found)
        assert not comparison.equal
        assert "live" in comparison.difference


def test_what_is_ahead_does_not_count_and_what_is_foreign_does() -> None:
    """Events ahead of a worker's clock are left out of the comparison; results of unknown patterns and other events are kept."""
    late = LateForPattern(
        pattern="thrash", version=7, correlation_key="p", input_topic="t", input_partition=0, input_offset=0, ts=0, watermark=0,
        reason="ahead", detected_at=0,
    )  # fmt: skip
    refused = PatternRefused(pattern="x", version=1, reason="", detected_at=0)
    other = late.model_copy(update={"pattern": "other", "reason": "late"})
    found = outcomes([late, refused, other], {"thrash": 7})
    assert {name: one.total() for name, one in found.items()} == {"thrash": 0, "": 1, "other": 1}


def lines() -> list[PatternLine]:
    """What the report says of each pattern."""
    found = offline()
    return [pattern_line(one, 7, compare(name, Counter[Outcome](one.outcomes), one)) for name, one in found.items()]


def test_lines_say_who_and_how_long() -> None:
    """A line has its matches, agents in order of coming, and how long each took."""
    contended, reverted, thrash = lines()
    assert (thrash.matches, thrash.keys, thrash.late, thrash.equal) == (1, 1, 1, True)
    assert thrash.quickest[0].agents == ("a", "b")
    assert (thrash.quickest[0].took_ms, thrash.quickest[0].ended) == (3 * HOUR, 3 * HOUR)
    assert contended.quickest[0].agents == ("a", "b", "c")
    assert (reverted.key, reverted.quickest[0].key) == ("task", "t")


def test_the_picture_has_a_stroke_for_each_match() -> None:
    """Every match is a stroke within the row of its pattern; without a match there is no picture."""
    parts, end = timeline(lines(), 100)
    picture = ET.fromstring(f"<svg>{''.join(parts)}</svg>")
    assert [path.get("d", "").count("M") for path in picture.iter("path")] == [1, 1, 1]
    assert end > 100
    assert timeline([], 100) == ([], 100)


@pytest.mark.parametrize(
    ("ms", "words"), [(0, "0 s"), (59_999, "59 s"), (90_000, "1 min 30 s"), (2 * HOUR, "2 h"), (26 * HOUR, "1 d 2 h")]
)
def test_lengths_are_for_people(ms: int, words: str) -> None:
    """A length of time has at most two units."""
    assert length(ms) == words
