"""The ready patterns: each finds what its name says and nothing that only resembles it, on events as they are really read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import orjson
import pytest
from typer import Typer
from typer.testing import CliRunner

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.cep.outputs import Outputs
from processors.log_reader import LogRecord
from processors.patterns import library
from processors.patterns.command_library import library_command
from processors.patterns.needs import Need
from processors.patterns.reading import Reading
from schemas.catalogue import CATALOGUE
from schemas.events import Event
from schemas.fleet import (
    ChangeLanded,
    ChangeReverted,
    ErrorRaised,
    FileLanded,
    HelpGiven,
    TaskFailed,
    TaskFinished,
    TaskOffered,
    TaskPickedUp,
)
from schemas.work import FileChanged
from streams.codec import Codec

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CODEC = Codec()
Backend = Literal["general", "generated"]


def failed(minute: int, agent: str = "ann", task: str = "t1") -> Event:
    return TaskFailed(task=task, agent=agent, ts=minute * MINUTE)


def helped(minute: int, agent: str = "ann", task: str = "t1") -> Event:
    return HelpGiven(task=task, agent=agent, helper="bob", ts=minute * MINUTE)


def finished(minute: int, agent: str = "ann", task: str = "t1") -> Event:
    return TaskFinished(task=task, agent=agent, ts=minute * MINUTE)


def offered(minute: int, task: str = "t1") -> Event:
    return TaskOffered(task=task, ts=minute * MINUTE)


def taken(minute: int, task: str = "t1") -> Event:
    return TaskPickedUp(task=task, agent="ann", ts=minute * MINUTE)


def changed(agents: str, path: str = "a.py", every_ms: int = MINUTE) -> list[Event]:
    """One change of a file by each agent of `agents`, a letter each."""
    return [
        FileChanged(agent=agent, task=str(n), ts=n * every_ms, arrived=n * every_ms, path=path, added=1, removed=0)
        for n, agent in enumerate(agents)
    ]


def errors(seconds: Sequence[int], agent: str = "ann") -> list[Event]:
    return [ErrorRaised(agent=agent, ts=second * 1000, kind="tool") for second in seconds]


def landed(ms: int, task: str = "t1") -> Event:
    return ChangeLanded(task=task, agent="ann", ts=ms, begun=ms, files=1)


def reverted(ms: int, task: str = "t1") -> Event:
    return ChangeReverted(task=task, agent="bob", by_task="t2", ts=ms)


CASES: list[tuple[str, str, list[Event], list[list[int]]]] = [
    ("stuck-agent", "three failures, no help", [failed(0), failed(1), failed(2)], [[0, 1, 2]]),
    ("stuck-agent", "a fourth failure is the same trouble", [failed(0), failed(1), failed(2), failed(3)], [[0, 1, 2]]),
    ("stuck-agent", "help came too late", [failed(0), failed(1), failed(2), helped(7)], [[0, 1, 2]]),
    ("stuck-agent", "help for somebody else", [failed(0), failed(1), failed(2), helped(3, "eve")], [[0, 1, 2]]),
    ("stuck-agent", "others fail in between", [failed(0), failed(1, "eve"), failed(2), failed(3)], [[0, 2, 3]]),
    ("stuck-agent", "help in time", [failed(0), failed(1), failed(2), helped(6)], []),
    ("stuck-agent", "it finished after all", [failed(0), failed(1), failed(2), finished(4)], []),
    ("stuck-agent", "only two failures", [failed(0), failed(1)], []),
    ("stuck-agent", "three agents failed once each", [failed(0), failed(1, "bob"), failed(2, "eve")], []),
    ("stuck-agent", "three tasks failed once each", [failed(0), failed(1, task="t2"), failed(2, task="t3")], []),
    ("task-nobody-picks-up", "nobody came", [offered(0)], [[0]]),
    ("task-nobody-picks-up", "somebody came too late", [offered(0), taken(16)], [[0]]),
    ("task-nobody-picks-up", "somebody took another task", [offered(0), taken(3, "t2")], [[0]]),
    ("task-nobody-picks-up", "taken in time", [offered(0), taken(14)], []),
    ("task-nobody-picks-up", "offered and taken twice", [offered(0), taken(1), offered(20), taken(21)], []),
    ("error-burst", "ten in a minute", errors(range(0, 60, 6)), [list(range(10))]),
    ("error-burst", "an error is in one burst only", errors(range(25)), [list(range(10)), list(range(10, 20))]),
    ("error-burst", "ten in two minutes and more", errors(range(0, 140, 14)), []),
    ("error-burst", "nine", errors(range(9)), []),
    ("error-burst", "of two agents", errors(range(5)) + errors(range(5), "bob"), []),
    ("thrash", "in turn", changed("abab"), [[0, 1, 2, 3]]),
    ("thrash", "each change in one match only", changed("abababab"), [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("thrash", "a third agent in between", changed("abcab"), [[0, 1, 3, 4]]),
    ("thrash", "twice in a row", changed("aabbab"), [[0, 2, 4, 5]]),
    ("thrash", "too slow", changed("abab", every_ms=20 * MINUTE), []),
    ("thrash", "one after the other", changed("aabb"), []),
    ("thrash", "a long series of one agent", changed("aaaaaa"), []),
    ("thrash", "two files", changed("ab") + changed("ab", "b.py"), []),
    ("contended-file", "three agents", changed("abc"), [[0, 1, 2]]),
    ("contended-file", "each change in one match only", changed("aabcdef"), [[0, 2, 3], [4, 5, 6]]),
    ("contended-file", "two agents", changed("ababab"), []),
    ("contended-file", "too slow", changed("abc", every_ms=30 * MINUTE), []),
    ("contended-file", "three files", changed("a") + changed("b", "b.py") + changed("c", "c.py"), []),
    ("revert-after-landing", "within an hour", [landed(0), reverted(HOUR)], [[0, 1]]),
    ("revert-after-landing", "landed twice, reverted once", [landed(0), landed(HOUR), reverted(2 * HOUR)], [[0, 2]]),
    ("revert-after-landing", "a day later", [landed(0), reverted(DAY)], []),
    ("revert-after-landing", "another change", [landed(0), reverted(HOUR, "t9")], []),
    ("revert-after-landing", "a change that never landed", [reverted(0)], []),
]


def found(definition: Definition, events: Sequence[Event], backend: Backend) -> list[list[int]]:
    """Return the places of the events of each match, after the events went through Avro and the reader of patterns."""
    records = [
        LogRecord("t", 0, n, 0, *CODEC.encode(event.stamped(id=str(n), source="/t", time_ms=0))[1:])
        for n, event in enumerate(events)
    ]
    (taken,), routed = Reading(CODEC, [Need(definition.model_copy(update={"key": None}), CATALOGUE)]).read(records, "t/0")
    assert not routed
    assert len(taken.events) == len(events), "the pattern does not read every type"
    assert definition.key is not None
    keyed = [{**one, "key": getattr(events[one["id"][2]], definition.key)} for one in taken.events]
    states: dict[Hashable, Any] = {}
    matcher, out = Matcher(compile_pattern(definition.pattern), backend=backend), Outputs()
    matcher.run(states, keyed, out)
    for key in list(states):
        matcher.advance(states, key, 10 * DAY, out)
    assert not states
    assert not out.evicted
    return sorted(sorted(one["id"][2] for events in match.stages.values() for one in events) for match in out.matches)


@pytest.mark.parametrize("backend", ["general", "generated"])
@pytest.mark.parametrize(("name", "what", "events", "expected"), CASES, ids=[f"{name}: {what}" for name, what, _, _ in CASES])
def test_finds_what_its_name_says(name: str, what: str, events: list[Event], expected: list[list[int]], backend: Backend) -> None:
    """Each pattern takes exactly the events of its situation, with either backend, and leaves no state behind."""
    assert found(library.load(name), events, backend) == expected, what


def test_each_has_cases_that_match_and_cases_that_do_not() -> None:
    """No pattern of the library is without an example of either kind."""
    for matches in (True, False):
        assert {name for name, _, _, expected in CASES if bool(expected) == matches} == set(library.names())


@pytest.mark.parametrize("name", library.names())
def test_is_ready_to_publish(name: str) -> None:
    """The file is named as the pattern, says what it is and what to adapt, reads known types, and compiles without a warning."""
    definition = library.load(name)
    assert definition.name == name
    assert definition.description
    assert compile_pattern(definition.pattern).warnings == ()
    classes = {cls.event_type: cls for cls in CATALOGUE.classes()}
    for event_type in definition.types:
        assert definition.key in classes[event_type].model_fields
        assert classes[event_type].topic in definition.topics
    assert library.text(name).startswith("# ")
    assert "# To adapt\n" in library.text(name)


@pytest.mark.parametrize("name", ["thrash", "contended-file"])
def test_a_pattern_of_changes_reads_landings_too(name: str) -> None:
    """As their comments say, the two patterns find the same by landings once topic and type are changed."""
    other = library.load(name).model_copy(update={"topics": (FileLanded.topic,), "types": (FileLanded.event_type,)})
    events: list[Event] = [FileLanded(path="p", agent=a, task=a, ts=n, begun=0) for n, a in enumerate("abacb")]
    assert len(found(other, events, "generated")) == 1


def test_the_command_lists_prints_and_refuses() -> None:
    """`antiphon cep library` lists all; with a name it prints the file as it is; an unknown name says what there is."""
    app = Typer()
    app.command()(library_command)
    runner = CliRunner()
    listed = runner.invoke(app, ["--json"])
    assert [one["name"] for one in orjson.loads(listed.stdout)] == library.names()
    assert runner.invoke(app, ["thrash"]).stdout == library.text("thrash")
    as_data: Any = orjson.loads(runner.invoke(app, ["thrash", "--json"]).stdout)
    assert Definition.model_validate(as_data) == library.load("thrash")
    assert runner.invoke(app, []).exit_code == 0
    refused = runner.invoke(app, ["trash"])
    assert refused.exit_code == 4
    assert "contended-file" in refused.stderr
