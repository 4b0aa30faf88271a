"""Small streams for tests of the engine: `feed("a1 b3 c3")` is an event a at 1 ms, b and c at 3 ms."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Literal

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import Outputs

States = dict[Hashable, Any]
Backend = Literal["auto", "general", "generated"]
BACKENDS: tuple[Backend, ...] = ("general", "generated")


def feed(text: str, *, key: str = "k") -> list[dict[str, Any]]:
    """Events from words: a kind of letters, a time in ms; the id is the word with its place."""
    events = []
    for place, word in enumerate(text.split(), 1):
        kind = word.rstrip("0123456789")
        events.append({"id": f"{word}.{place}", "key": key, "ts": int(word[len(kind) :]), "kind": kind})
    return events


def pattern(*stages: dict[str, Any], **more: Any) -> Pattern:
    """A pattern as data."""
    return Pattern.model_validate({"stages": list(stages), **more})


def stage(name: str, kinds: str | None = None, contiguity: str = "relaxed", **more: Any) -> dict[str, Any]:
    """A stage that takes events of some kinds, by default of its own name."""
    return {"name": name, "where": f"kind in {list(kinds or name)!r}", "contiguity": contiguity, **more}


def member(name: str) -> dict[str, Any]:
    """A stage of an all-of."""
    return {"name": name, "where": f"kind == {name!r}"}


def matcher(found: Pattern, backend: Backend = "auto", **more: Any) -> Matcher:
    """A matcher."""
    return Matcher(compile_pattern(found), backend=backend, **more)


def run(
    found: Pattern, events: list[dict[str, Any]], backend: Backend = "auto", clock: int | None = None, **more: Any
) -> Outputs:
    """What a pattern makes of events, and of the clock afterwards."""
    engine, out = matcher(found, backend, **more), Outputs()
    states: States = {}
    engine.run(states, events, out)
    if clock is not None:
        for key in list(states):
            engine.advance(states, key, clock, out)
    return out


def spelled(out: Outputs) -> list[str]:
    """The matches, sorted: "a1.1 b3.2" are the ids of their events in order of time."""
    found = []
    for match in out.matches:
        events = sorted((event for taken in match.stages.values() for event in taken), key=lambda event: int(event["ts"]))
        found.append(" ".join(event["id"] for event in events))
    return sorted(found)
