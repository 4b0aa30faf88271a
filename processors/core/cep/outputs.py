"""What an engine finds: matches, partial matches whose time ran out, and those that had to go because there were too many."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from processors.core.cep.conditions import Node
from schemas.errors import AntiphonError

__all__ = ["EventFields", "Evicted", "Match", "Outputs", "PartialMatch", "SkipMissed", "TimedOut", "evicted_because", "stages_of"]

EventFields = dict[str, Any]
"""An event: its payload fields, and the reserved `id`, `key` and `ts` (ms)."""

Stages = dict[str, list[EventFields]]
"""The events taken, by stage, in order; stages that took none are absent."""


class _Found:
    """Something found: events of one key, by stage. The events are put in order when they are asked for."""

    __slots__ = ("_stages", "key", "node")

    def __init__(self, key: Hashable, node: Node | None) -> None:
        self.key = key
        self.node = node
        self._stages: Stages | None = None

    @property
    def stages(self) -> Stages:
        """The events taken, by stage, in order; stages that took none are absent."""
        if self._stages is None:
            self._stages = stages_of(self.node)
        return self._stages


class Match(_Found):
    """A match.

    Attributes:
        key: Whose events these are.
        stages: The events, by stage.
        at: The key's clock when it was found, ms: the time of the event that completed it, or the end of a wait.
        started: Time of its first event, ms.
    """

    __slots__ = ("at", "started")

    def __init__(self, key: Hashable, node: Node | None, at: int, started: int) -> None:
        self.key = key
        self.node = node
        self._stages = None
        self.at = at
        self.started = started

    def __repr__(self) -> str:
        return f"Match(key={self.key!r}, stages={self.stages!r}, at={self.at}, started={self.started})"


class TimedOut(_Found):
    """A partial match whose time ran out.

    Attributes:
        key: Whose events these are.
        stages: The events it had, by stage.
        ts: When its window ended, ms.
    """

    __slots__ = ("ts",)

    def __init__(self, key: Hashable, node: Node | None, ts: int) -> None:
        super().__init__(key, node)
        self.ts = ts

    def __repr__(self) -> str:
        return f"TimedOut(key={self.key!r}, stages={self.stages!r}, ts={self.ts})"


class Evicted(_Found):
    """A partial match that was dropped before its time.

    Attributes:
        key: Whose events these are.
        stages: The events it had, by stage.
        reason: Why, in words.
    """

    __slots__ = ("reason",)

    def __init__(self, key: Hashable, node: Node | None, reason: str) -> None:
        super().__init__(key, node)
        self.reason = reason

    def __repr__(self) -> str:
        return f"Evicted(key={self.key!r}, stages={self.stages!r}, reason={self.reason!r})"


@dataclass(slots=True)
class Outputs:
    """What a run found, in the order found; an engine appends to it."""

    matches: list[Match] = field(default_factory=list)
    timed_out: list[TimedOut] = field(default_factory=list)
    evicted: list[Evicted] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.matches or self.timed_out or self.evicted)


@dataclass(slots=True, frozen=True)
class PartialMatch:
    """A partial match as it stands, for people to look at.

    Attributes:
        stages: The events it has, by stage.
        state: The name of its state in the automaton.
        started: Time of its first event, ms.
        deadline: When its time runs out, ms; None is never.
        pending: Whether the end of that time makes it a match.
        node: The last event of its chain.
    """

    stages: Stages
    state: str
    started: int
    deadline: int | None
    pending: bool
    node: Node | None = field(compare=False, repr=False)


def evicted_because(partial_matches_max: int) -> str:
    """The reason of an eviction, in words."""
    return f"more than {partial_matches_max} partial matches of one key: those that began first go first"


class SkipMissed(AntiphonError):
    """A match has no event of the stage to skip to, and the pattern says `throw_on_miss`: mend the pattern."""

    retryable = False
    fault = "caller"


def stages_of(node: Node | None) -> Stages:
    """The events of the partial match that ends with `node`."""
    path = []
    while node is not None:
        path.append(node)
        node = node[0]
    found: Stages = {}
    for node in reversed(path):
        taken = found.get(node[2])
        if taken is None:
            found[node[2]] = [node[1]]
        else:
            taken.append(node[1])
    return found
