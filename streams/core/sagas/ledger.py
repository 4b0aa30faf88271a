"""What came of sagas, as their events tell it: for people who look afterwards. One entry a saga, as they began."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

from schemas import sagas as events
from streams.core.sagas.timeline import Moment, What

__all__ = ["FOLDS", "Entry", "Ledger"]

ENTRIES_MAX: Final = 100_000
"""Of a ledger: more than anybody reads; the oldest that have ended are dropped."""

Fields = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """One saga.

    Attributes:
        saga: Its id.
        definition: What it does; empty where its beginning is not in the topic any more.
        version: Of the definition.
        status: running, paused, compensating, incident, completed, compensated or cancelled.
        at_ms: When it was last heard of.
        began_ms: When it began; 0: not known.
        by: Who started it.
        parent: Whose child it is.
        forked_from: Whose fork it is.
        input: JSON text.
        result: JSON text.
        code: Why it did not complete.
        reason: The same for people.
        incidents: What an operator has to look at: node, undo, code, reason.
        moments: Every decision: when, what, node, attempt, note, and the command that it followed from.
    """

    saga: str
    definition: str = ""
    version: int = 0
    status: str = "running"
    at_ms: int = 0
    began_ms: int = 0
    by: str = ""
    parent: str = ""
    forked_from: str = ""
    input: str = ""
    result: str = ""
    code: str = ""
    reason: str = ""
    incidents: list[Fields] = field(default_factory=list)
    moments: list[Fields] = field(default_factory=list)

    def document(self) -> Fields:
        """Return it as JSON."""
        return asdict(self)

    def timeline(self) -> list[Moment]:
        """Return its moments as a timeline takes them."""
        return [Moment(one["at_ms"], cast("What", one["what"]), one["node"], one["attempt"], one["note"]) for one in self.moments]


_STATUS: Final[Mapping[str, str]] = {"paused": "paused", "resumed": "running", "compensates": "compensating"}


class Ledger:
    """The sagas of a topic of events."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def take(self, kind: str, fields: Fields, at_ms: int, cause: str = "") -> None:
        """Take an event: its type, its fields, its time, and what it followed from."""
        fold = FOLDS.get(kind)
        if fold is None:
            return
        saga = fields["saga"]
        entry = self.entries.get(saga)
        if entry is None:
            if len(self.entries) >= ENTRIES_MAX:
                self.entries.popitem(last=False)
            entry = self.entries[saga] = Entry(saga)
        entry.at_ms = max(entry.at_ms, at_ms)
        for one in fields.get("moments", ()):
            entry.moments.append({"at_ms": at_ms, **one, "cause": cause})
            entry.status = _STATUS.get(one["what"], entry.status)
        fold(entry, fields, at_ms)

    def select(self, *, status: str = "", definition: str = "", prefix: str = "") -> Iterator[Entry]:
        """Yield those of a status, of a definition, and with ids that begin so."""
        for entry in self.entries.values():
            now = "incident" if entry.incidents else entry.status
            if status in ("", now, entry.status) and definition in ("", entry.definition) and entry.saga.startswith(prefix):
                yield entry


def _started(entry: Entry, fields: Fields, at_ms: int) -> None:
    entry.began_ms = entry.began_ms or at_ms
    for name in ("definition", "version", "input", "by", "parent", "forked_from"):
        setattr(entry, name, fields[name])


def _advanced(entry: Entry, fields: Fields, at_ms: int) -> None:
    """Take the moments alone."""


def _incident(entry: Entry, fields: Fields, at_ms: int) -> None:
    rest = [one for one in entry.incidents if (one["node"], one["undo"]) != (fields["node"], fields["undo"])]
    told = {name: fields[name] for name in ("node", "undo", "code", "reason")} | {"at_ms": at_ms}
    entry.incidents = [*rest, told] if fields["open"] else rest


def _ended(entry: Entry, fields: Fields, at_ms: int) -> None:
    entry.status, entry.incidents = fields["outcome"], []
    for name in ("definition", "version", "result", "code", "reason"):
        setattr(entry, name, fields[name])
    entry.began_ms = entry.began_ms or at_ms - fields["took_ms"]


FOLDS: Final[Mapping[str, Callable[[Entry, Fields, int], None]]] = {
    events.SagaStarted.event_type: _started,
    events.SagaAdvanced.event_type: _advanced,
    events.SagaIncident.event_type: _incident,
    events.SagaEnded.event_type: _ended,
}
