"""The state of one key under one pattern version, as a value of a table.

    key      [version, correlation key]
    value    {"due": 1700000030000, "state": [...], "waiting": [[event, true], ...]}

`state` is what `Matcher.dump` gives, null where only events wait; `waiting` holds events that are not after the watermark yet,
in order of arrival, each with whether it may begin a partial match (false: it came after its version was replaced). `due` is
the next time at which waiting alone changes something.

A row is never changed: its state is a live object that only copies are made of. So a dropped batch leaves nothing behind, and
what is read again and again is not decoded again and again. It is encoded when it is written, once a batch, and decoded when it
is first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from streams.turns.tables import JsonCodec

if TYPE_CHECKING:
    from processors.core.cep.engine import Matcher

__all__ = ["Row", "RowCodec", "Waiting"]

Event = dict[str, Any]
Waiting = tuple[Event, bool]
"""An event, and whether it may begin a partial match."""


class Row:
    """One row.

    Attributes:
        due: When waiting alone changes something, ms of event time; None: never.
        first: The time of the earliest event that waits; None where none does.
    """

    __slots__ = ("_encoded", "_matcher", "_raw", "_state", "_waiting", "due", "first")

    def __init__(self, matcher: Matcher, state: Any, waiting: Sequence[Waiting], due: int | None) -> None:  # noqa: ANN401 the engine's own
        self._raw: bytes | None = None
        self._encoded: bytes | None = None
        self._matcher: Matcher | None = matcher
        self._state, self._waiting, self.due = state, waiting, due
        self.first = min((event["ts"] for event, _ in waiting), default=None)

    @classmethod
    def read(cls, raw: bytes) -> Row:
        """Return the row that these bytes are."""
        row = cls.__new__(cls)
        row._encoded = None
        content = orjson.loads(raw)
        waiting = [(_event(event), starts) for event, starts in content["waiting"]]
        row._raw, row._matcher, row._state = (None if content["state"] is None else raw), None, None
        row._waiting, row.due = waiting, content["due"]
        row.first = min((event["ts"] for event, _ in waiting), default=None)
        return row

    @property
    def waiting(self) -> Sequence[Waiting]:
        """The events that wait, by arrival."""
        return self._waiting

    def state(self, matcher: Matcher) -> Any:  # noqa: ANN401 the engine's own
        """Return a state of the key that may be changed; None where there is none.

        Raises:
            StateMismatch: It was written for another pattern.
        """
        if self._raw is not None:
            self._state, self._matcher, self._raw = matcher.load(orjson.loads(self._raw)["state"]), matcher, None
        if self._state is None:
            return None
        if self._matcher is not matcher and self._matcher is not None:  # another backend of the same pattern
            return matcher.load(orjson.loads(orjson.dumps(self._matcher.dump(self._state))))
        return matcher.copy(self._state)

    def encode(self) -> bytes:
        """Return the row's bytes."""
        if self._raw is not None:
            return self._raw
        if self._encoded is not None:  # asked for its size before: wanted once more, when it is written
            encoded, self._encoded = self._encoded, None
            return encoded
        dumped = None if self._state is None or self._matcher is None else self._matcher.dump(self._state)
        return orjson.dumps({"due": self.due, "state": dumped, "waiting": self._waiting})

    def size(self) -> int:
        """Return how many bytes it has."""
        self._encoded = self.encode()
        return len(self._encoded)


class RowCodec(JsonCodec):
    """Rows to bytes and back."""

    def encode_value(self, value: Any) -> bytes:  # noqa: ANN401 as its base
        """Return the row's bytes."""
        row: Row = value
        return row.encode()

    def decode_value(self, raw: bytes) -> Any:  # noqa: ANN401 as its base
        """Return the row."""
        return Row.read(raw)


def _event(event: Event) -> Event:
    event["id"] = tuple(event["id"])
    return event
