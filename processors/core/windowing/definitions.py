"""Windows as data: what people write in YAML, checked before anything runs.

    name: task-failures
    topics: [agents.events, agents.reviews]
    types: [tool.failed, review.rejected]
    key: task                       # the field that the topics have in common
    window: {kind: hopping, size_ms: 300000, advance_ms: 60000}
    disorder_ms: 5000
    allowed_lateness_ms: 60000
    aggregates:
      failures: {agg: count}
      agents: {agg: distinct, field: agent}
      slowest: {agg: quantile, field: took_ms, q: 0.99}

What holds for every definition that exists: its numbers fit together, and one key's windows fit a record of the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from processors.core.aggregates import Aggregate
from processors.core.watermarks import AHEAD_MAX_MS, IDLE_AFTER_MS, TIME_MAX, Bounds

__all__ = [
    "AGGREGATES_MAX",
    "KEYS_MAX",
    "WINDOWS_PER_KEY_MAX",
    "Definition",
    "DefinitionError",
    "Hopping",
    "Session",
    "Sliding",
    "Tumbling",
    "Window",
    "load",
]

AGGREGATES_MAX: Final = 32
"""Aggregates of a definition: each is a state in every window."""
WINDOWS_PER_KEY_MAX: Final = 1000
"""Windows of one key at a time. With a count and a sum each they take 100 KiB, a tenth of what a record of the log may have."""
KEYS_MAX: Final = 1_000_000
"""Keys of one partition with open windows. In memory a key with one window takes about 1 KiB."""
TOPICS_MAX: Final = 32
TYPES_MAX: Final = 256
DESCRIPTION_CHARS_MAX: Final = 2000

_Ms = Annotated[int, Field(ge=0, le=TIME_MAX)]
_Span = Annotated[int, Field(ge=1, le=TIME_MAX)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class DefinitionError(ValueError):
    """A definition makes no sense; the message says where, what is wrong and what is allowed. Correct the file."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Tumbling(_Part):
    """Windows `[n * size_ms, (n + 1) * size_ms)`, one after the other; counted from 1970 (UTC)."""

    kind: Literal["tumbling"]
    size_ms: _Span

    @property
    def advance_ms(self) -> int:
        """How far apart the windows begin."""
        return self.size_ms


class Hopping(_Part):
    """Windows `[n * advance_ms, n * advance_ms + size_ms)`: they overlap, and an event is in several."""

    kind: Literal["hopping"]
    size_ms: _Span
    advance_ms: _Span

    @model_validator(mode="after")
    def _overlaps(self) -> Self:
        if self.advance_ms > self.size_ms:
            raise ValueError(f"advance_ms is {self.advance_ms}: more than size_ms would leave events in no window")
        return self


class Sliding(_Part):
    """For each event at t, the window `(t - size_ms, t]`: what has happened in the time before it, itself included."""

    kind: Literal["sliding"]
    size_ms: _Span


class Session(_Part):
    """Events of a key that are at most `gap_ms` from their neighbours; a session ends `gap_ms` after its last event."""

    kind: Literal["session"]
    gap_ms: _Span


Window = Tumbling | Hopping | Sliding | Session


class Definition(_Part):
    """One question asked of every key, window by window.

    Attributes:
        name: Names results, state and internal topics.
        description: For people.
        topics: The topics read.
        types: Event types that count; empty: all on the topics.
        key: The payload field by which events belong together; text or whole numbers.
        time: The payload field with the event time in epoch milliseconds. An event without it, or None here: the record's
            timestamp. An event whose field is no time is left out.
        window: The kind of window and its measures.
        aggregates: What is computed, by name.
        allowed_lateness_ms: How long after its end (in event time) a window still takes events, and corrects its result.
        disorder_ms: See `processors.core.watermarks`, as for the next three.
        idle_after_ms: Likewise.
        ahead_max_ms: Likewise.
        follow_wall_clock: Likewise.
        early_every: Report a window that is not over after each so many events; None: not before it is over.
        windows_per_key_max: Beyond it a key's oldest window is evicted.
        keys_max: Keys of one partition with open windows; beyond it those that end soonest are evicted.
        rekey: Whether events go through an internal topic keyed by `key`. None: if any type is keyed by another field, is not
            known, or there are several topics.
    """

    name: _Name
    description: Annotated[str, Field(max_length=DESCRIPTION_CHARS_MAX)] = ""
    topics: Annotated[tuple[_Topic, ...], Field(min_length=1, max_length=TOPICS_MAX, strict=False)]
    types: Annotated[tuple[_Text, ...], Field(max_length=TYPES_MAX, strict=False)] = ()
    key: _Text
    time: _Text | None = "ts"
    window: Annotated[Window, Field(discriminator="kind")]
    aggregates: Annotated[dict[_Name, Aggregate], Field(min_length=1, max_length=AGGREGATES_MAX)]
    allowed_lateness_ms: _Ms = 0
    disorder_ms: _Ms = 0
    idle_after_ms: _Span | None = IDLE_AFTER_MS
    ahead_max_ms: _Ms | None = AHEAD_MAX_MS
    follow_wall_clock: bool = False
    early_every: Annotated[int, Field(ge=1)] | None = None
    windows_per_key_max: Annotated[int, Field(ge=1, le=WINDOWS_PER_KEY_MAX)] = WINDOWS_PER_KEY_MAX
    keys_max: Annotated[int, Field(ge=1)] = KEYS_MAX
    rekey: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for what in ("topics", "types"):
            values = getattr(self, what)
            if len(set(values)) < len(values):
                raise ValueError(f"{what} names one twice")
        if self.follow_wall_clock and self.idle_after_ms is None:
            raise ValueError("follow_wall_clock is on and idle_after_ms is null: time follows the wall clock in idleness only")
        if self.early_every is not None and self.window.kind == "sliding":
            raise ValueError("early_every: a sliding window has its result as soon as its event is in time; there is none before")
        if self.window.kind in ("tumbling", "hopping"):
            self._few_enough(self.window.size_ms, self.window.advance_ms)
        return self

    def _few_enough(self, size_ms: int, advance_ms: int) -> None:
        open_at_a_time = (size_ms + self.allowed_lateness_ms + self.disorder_ms) // advance_ms + 1
        if open_at_a_time > self.windows_per_key_max:
            raise ValueError(
                f"a key would have {open_at_a_time} windows at a time (size, allowed lateness and disorder, by the advance): "
                f"windows_per_key_max is {self.windows_per_key_max}"
            )

    @property
    def bounds(self) -> Bounds:
        """What the definition says about time."""
        return Bounds(
            disorder_ms=self.disorder_ms,
            idle_after_ms=self.idle_after_ms,
            ahead_max_ms=self.ahead_max_ms,
            follow_wall_clock=self.follow_wall_clock,
        )

    @property
    def horizon_ms(self) -> int:
        """How far apart, at most, the first and the last thing lie that a key waits for, and how far time may run ahead."""
        length = self.window.gap_ms if isinstance(self.window, Session) else self.window.size_ms
        return length + self.allowed_lateness_ms + self.disorder_ms + (self.ahead_max_ms or 0)

    def digest(self) -> str:
        """Return eight hex digits of what decides the meaning of stored state: a definition with others starts with none."""
        shape = self.model_dump_json(include={"key", "time", "window", "aggregates", "types", "topics"})
        return hashlib.blake2b(shape.encode(), digest_size=4).hexdigest()


def load(text: str, *, where: str = "definitions") -> tuple[Definition, ...]:
    """Read definitions from YAML or JSON: one, or a list of them.

    Args:
        text: The file's contents.
        where: How messages call it.

    Raises:
        DefinitionError: The text is no YAML, a definition breaks a rule, or two have one name.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise DefinitionError(f"{where}: no YAML: {' '.join(str(e).split())}") from None
    items = data if isinstance(data, list) else [data]
    found = tuple(_definition(item, f"{where}, definition {n}") for n, item in enumerate(items, 1))
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionError(f"{where}: {', '.join(twice)}: the name is used twice")
    return found


def _definition(item: Any, where: str) -> Definition:  # noqa: ANN401 what YAML gives
    if not isinstance(item, dict):
        raise DefinitionError(f"{where}: a mapping is expected, and this is {type(item).__name__}")
    name = item.get("name")
    try:
        return Definition.model_validate(item)
    except ValidationError as e:
        lines = [f"{where} ({name}): {_path(one['loc'])}: {one['msg']}" for one in e.errors(include_url=False)]
        raise DefinitionError("\n".join(lines)) from None


def _path(loc: Iterable[object]) -> str:
    return ".".join(map(str, loc)) or "definition"
