"""What a cell knows of a primitive: which commands it takes, how they reach its machine, and how its outcomes are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from schemas.naming import domain_of

if TYPE_CHECKING:
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["Key", "Machine", "Row", "Shell", "place_problem"]

Key = tuple[str | int, ...]
Row = Any
"""A JSON value."""


class Machine(Protocol):
    """One primitive in one partition: pure, and made anew from its rows at any time."""

    def tick(self, at: At) -> list[Any]:
        """Do what is due at `at.now_ms`, and return what came of it."""

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that have changed since the last call; None for one that is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """One primitive on Kafka; each module beside this one makes its own.

    Attributes:
        name: The first part of its rows' keys, and what `request.*` events call it.
        commands: The event types of its commands.
        samples: One of each event that it writes.
        load: Makes the machine from its rows, in any order; from none the machine of a partition that has seen nothing.
        carry_out: Carries out a command: the machine, the command's type, its fields, the record's key, the route of its answer,
            the moment. It looks at the key: under another one than its domain the command may have come to the wrong partition.
        tell: Writes outcomes; the domain is the command's, empty for what the passing of time did.
        finish: Called once at the end of a batch that had commands: writes what is told of all of them together. What it says
            must not depend on where a batch ends, save for how it is cut into records.
    """

    name: str
    commands: frozenset[str]
    samples: tuple[Event, ...]
    load: Callable[[Iterable[tuple[Key, Row]]], Machine]
    carry_out: Callable[[Any, str, dict[str, Any], bytes | None, str, At], list[Any]]
    tell: Callable[[Iterable[Any], Answers, str], None]
    finish: Callable[[Any, Answers], None] | None = None


def place_problem(key: bytes | None, domain: str, name: str = "") -> str:
    """Return what is wrong with where a command is, empty where nothing is; such a command is refused as "misplaced".

    Args:
        key: The record's key.
        domain: The command's.
        name: What it is about; empty where it names something that is known by an id only.
    """
    if key == domain.encode() and (not name or domain_of(name) == domain):
        return ""
    return f"the record's key and domain {domain[:40]!r} are not those of {name[:40]!r}: key a command by its name's domain"
