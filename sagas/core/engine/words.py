"""What the orchestrator says, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from streams.core.sagas.limits import PAYLOAD_CHARS_MAX

__all__ = ["Fields", "Ignored", "SagaLimits", "Told", "from_text", "to_text"]

Fields = dict[str, Any]
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaLimits:
    """What is refused or forgotten, and why there is a limit.

    Attributes:
        live_max: Sagas of one partition that have not ended: each is a row that recovery reads.
        ended_max: Ended sagas of one partition that are remembered, for who asks, for forks, and against late commands.
        definitions_max: Of one partition; those that no saga and no other definition has are dropped for new ones.
        chars_max: Of all data in one saga: its row is one record, and the broker takes a million bytes.
        payload_chars_max: Of one input, answer or signal.
        moments_max: Of one saga: what a history of it can be read as.
        signals_max: That wait in one saga for a node that wants them.
        seen_max: Ids of signals that one saga remembers.
        followers_max: Who are told the end of one saga.
        depth_max: Children of children.
        again_ms: After which a call that was not answered is sent again, since it may be lost; then twice as long each time.
        again_ms_max: The longest of these pauses.
        reason_chars_max: Of a reason: some lines, and it is in every look at the saga.
    """

    live_max: int = 100_000
    ended_max: int = 20_000
    definitions_max: int = 1_000
    chars_max: int = 524_288
    payload_chars_max: int = PAYLOAD_CHARS_MAX
    moments_max: int = 20_000
    signals_max: int = 1_000
    seen_max: int = 1_000
    followers_max: int = 16
    depth_max: int = 8
    again_ms: int = 5_000
    again_ms_max: int = 5 * 60_000
    reason_chars_max: int = 500


class Told(NamedTuple):
    """Something that is said.

    Attributes:
        kind: "call" and "lock_..." to others; the rest are events and answers.
        fields: Of the event.
        route: Who asked.
        everybody: Whether it is an event.
    """

    kind: str
    fields: Fields
    route: str = ""
    everybody: bool = False


Ignored = str
"""Why an answer does not count: unknown, duplicate or late."""

from_text = orjson.loads


def to_text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as JSON text."""
    return orjson.dumps(value).decode()
