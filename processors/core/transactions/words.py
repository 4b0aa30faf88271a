"""What the arbiter answers, and its limits.

What is asked comes as the fields of its command (`schemas.tables`), which are read and never changed: a commit is the hot path,
and a class for it would cost more than its check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from schemas.naming import NAME_CHARS_MAX

__all__ = ["Fields", "Problem", "Refusal", "TableLimits", "Told"]

Fields = dict[str, Any]
Problem = tuple[str, str]
"""A code for programs, and a reason for people."""

MINUTE_MS: Final = 60_000
ROWS_READ_BYTES_MAX: Final = 400_000
"""Of one page: with its headers it fits into a record of a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLimits:
    """What is refused or forgotten, and why there is a limit.

    Attributes:
        name_chars_max: Of tables, keys, transactions, owners.
        value_chars_max: Of a value: larger things belong into an object store, and their names here.
        reason_chars_max: Of a reason that somebody gives: it is kept and told, and what is beyond is cut off.
        rows_max: Reads, scans, expectations and writes of one transaction each: a command is one record.
        transaction_bytes_max: All of them as JSON: a promise is one row, and a row one record of a megabyte.
        participants_max: Of a transaction over several domains: what the coordinator allows.
        keys_max: Rows of one partition: about 2 GB in memory with ten versions each.
        versions_max: Of one row; a row that is written all the time would have no end of them.
        row_bytes_max: Versions of a row as JSON, as a large one is added: with small ones after it they fit into a record.
        horizon_ms: How long a version that was replaced is kept: longer than a transaction takes, and time to look back.
        ended_max: Transactions of one partition whose end is remembered for who asks again: a minute of full load.
        again_ms: For how long a client may ask again; what ended is remembered at least so long, or asking again is refused.
        fences_max: Resources whose tokens are remembered, on one partition.
        prepared_max: Promised and undecided at a time: their rows are locked, so more is an outage of the coordinator; and a mark
            names those of its domain.
        human_max: Commits that wait for a human at a time.
        ask_ms: How long a promise waits for a decision before it asks, and then twice as long each time.
        ask_ms_max: The longest of these pauses.
        page_rows_max: Rows of one page.
        recent_max: Changes that scans are checked by; where a snapshot is older, all rows of the domain are looked at.
        conflicts_max: Conflicts that one refusal names.
    """

    name_chars_max: int = NAME_CHARS_MAX
    value_chars_max: int = 65_536
    reason_chars_max: int = 1_000
    rows_max: int = 1_000
    transaction_bytes_max: int = 700_000
    participants_max: int = 64
    keys_max: int = 1_000_000
    versions_max: int = 16
    row_bytes_max: int = 600_000
    horizon_ms: int = 10 * MINUTE_MS
    ended_max: int = 200_000
    again_ms: int = 2 * MINUTE_MS
    fences_max: int = 100_000
    prepared_max: int = 3_000
    human_max: int = 10_000
    ask_ms: int = 5_000
    ask_ms_max: int = MINUTE_MS
    page_rows_max: int = 2_000
    recent_max: int = 20_000
    conflicts_max: int = 16


class Told(NamedTuple):
    """Something that is said.

    Attributes:
        kind: "refused", "outcome", "rows", "marked", "resolved", "locked", "queued", "kept"; "voted", "done" and "in_doubt" go to
            the coordinator.
        fields: Of the event, the domain included.
        route: Who asked.
        everybody: Whether it is an event, too.
    """

    kind: str
    fields: Fields
    route: str = ""
    everybody: bool = False


class Refusal(NamedTuple):
    """Why a transaction is refused."""

    code: str
    reason: str
    conflicts: list[Fields]
    waits_for: list[str]
