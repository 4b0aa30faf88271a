"""What a machine of requests remembers whatever they are for: live ones, answers of ended ones, deadlines, the last token.

    ["r", request id]   the row of a live request, or [3 ended, owner, [name], number, answer, arguments]
    ["meta"]            [last token, last asked_ms, last number]

A request is one row from its first to its last state, so a command writes a row, however many wait. Other kinds of rows of a
machine begin with a letter of their own (see `Ledger.kinds`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from processors.core.coordination.lock_rows import ENDED, Key, Past, Row
from processors.core.coordination.request_words import Refused, TimedOut
from streams.core.at import Deadlines

__all__ = ["META", "REQUEST", "Kept", "Ledger"]

REQUEST: Final = "r"
META: Final[Key] = ("meta",)


class Kept(Protocol):
    """What is kept in a row."""

    def row(self) -> Row:
        """Return the row."""


class Request(Kept, Protocol):
    """A live request."""

    request_id: str
    owner: str
    name: str
    route: str


R = TypeVar("R", bound=Request)


class Ledger(Generic[R]):
    """The requests of one primitive in one partition; every change is noted for the next `changes`.

    Args:
        ended_max: How many ended requests are remembered.
    """

    def __init__(self, *, ended_max: int) -> None:
        self.requests: dict[str, R] = {}
        self.ended: dict[str, Past] = {}
        """Oldest first."""
        self.due = Deadlines()
        self.kinds: dict[str | int, Mapping[Any, Kept]] = {}
        """What the machine keeps beside requests: by the first part of its keys, then by the rest (a lone one not as a tuple)."""
        self._ended_max = ended_max
        self._token = self._clock_ms = self._number = 0
        self._dirty: set[Key] = set()

    # ---- rows

    def load(self, rows: Iterable[tuple[Key, Row]], live: Callable[[str, Row], R]) -> list[tuple[Key, Row]]:
        """Take the rows of an empty ledger, and return those that are of other kinds.

        Args:
            rows: All rows of the machine.
            live: Makes a request from its id and row.
        """
        rest: list[tuple[Key, Row]] = []
        ended: list[tuple[int, str, Past]] = []
        for key, row in rows:
            if key == META:
                self._token, self._clock_ms, self._number = row
            elif key[0] != REQUEST:
                rest.append((key, row))
            elif row[0] == ENDED:
                past = Past.of(row)
                ended.append((past.number, str(key[1]), past))
            else:
                request_id = str(key[1])
                self.requests[request_id] = live(request_id, row)
        self.ended = {request_id: past for _, request_id, past in sorted(ended, key=lambda one: one[0])}
        return rest

    def touch(self, *key: str) -> None:
        """Note that a row has changed."""
        self._dirty.add(key)

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that have changed since the last call, None for those that went."""
        changed: dict[Key, Row | None] = {}
        for key in sorted(self._dirty):
            kept: Kept | None
            if key == META:
                changed[key] = (self._token, self._clock_ms, self._number)
                continue
            if key[0] == REQUEST:
                request_id = str(key[1])
                kept = self.requests.get(request_id) or self.ended.get(request_id)
            else:
                kept = self.kinds[key[0]].get(key[1] if len(key) == 2 else key[1:])
            changed[key] = None if kept is None else kept.row()
        self._dirty = set()
        return changed

    # ---- time and position

    def next_token(self, least: int) -> int:
        """Return a token that is at least `least` and larger than every one before."""
        self._token = max(least, self._token + 1)
        self._dirty.add(META)
        return self._token

    def asked_at(self, now_ms: int) -> int:
        """Return the time of a request that begins to wait: never before that of an earlier one, whatever the clock does."""
        if now_ms > self._clock_ms:
            self._clock_ms = now_ms
            self._dirty.add(META)
        return self._clock_ms

    def next_number(self) -> int:
        """Return a number that is larger than every one before: what is numbered is forgotten in this order."""
        self._number += 1
        self._dirty.add(META)
        return self._number

    # ---- a request's way

    def keep(self, request: R, due_ms: int | None) -> None:
        """Keep a live request, new or changed, with its deadline."""
        self.requests[request.request_id] = request
        self._dirty.add((REQUEST, request.request_id))
        if due_ms is None:
            self.due.end(request.request_id)
        else:
            self.due.set(request.request_id, due_ms)

    def end(self, request: R, kind: str, arguments: tuple[Any, ...]) -> None:
        """End a live request, and remember its answer."""
        del self.requests[request.request_id]
        self.due.end(request.request_id)
        self.remember(request.request_id, request.owner, request.name, kind, arguments)

    def remember(self, request_id: str, owner: str, name: str, kind: str, arguments: tuple[Any, ...]) -> None:
        """Remember the answer of a request that has ended, and forget the oldest one."""
        self.ended.pop(request_id, None)
        self.ended[request_id] = Past(owner, (name,), self.next_number(), kind, arguments)
        self._dirty.add((REQUEST, request_id))
        while len(self.ended) > self._ended_max:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            self._dirty.add((REQUEST, oldest))

    # ---- answers

    def reused(
        self, request_id: str, owner: str, name: str, route: str, *, ends: Collection[str], waits: bool = True
    ) -> Refused | None:
        """Return the refusal of an id that is another request's; None where it is this one's or nobody's.

        Args:
            request_id: The id.
            owner: Who asks.
            name: What about.
            route: Where the answer goes.
            ends: How requests of this kind end.
            waits: Whether they may wait or hold before.
        """
        live, past = self.requests.get(request_id), self.ended.get(request_id)
        if live is not None:
            same = waits and (live.owner, live.name) == (owner, name)
        else:
            same = past is None or (past.kind in ends and (past.owner, past.resources[0]) == (owner, name))
        if same:
            return None
        return Refused(owner, request_id, route, name, "id_reused", "another request has this id: give every request its own")

    def repeated(self, request_id: str, past: Past, route: str) -> Refused | TimedOut | None:
        """Return a remembered refusal or timeout once more; None where it ended otherwise."""
        name = past.resources[0]
        if past.kind == "refused":
            code, text = past.arguments
            return Refused(past.owner, request_id, route, name, code, text, repeated=True)
        if past.kind == "timed_out":
            return TimedOut(past.owner, request_id, route, name, past.arguments[0], repeated=True)
        return None

    def forgotten(self, request_id: str, owner: str, name: str, route: str) -> Refused:
        """Return the refusal of a request that is asked again and not known: to begin it now could begin it for nobody."""
        text = "the request is not known any more, or never came: ask anew, with another request id"
        return Refused(owner, request_id, route, name, "forgotten", text)
