"""Who holds what and who waits for it, as told by the events of all partitions: the fold that detector and command line share.

A request is known by `Key`, begins to wait or to hold once and ends once, and no id is used twice. So what is seen before some
moment and again after it was there at that moment: the ground that `deadlocks` stands on.

Events of one domain come in the order in which they happened; those of two domains in any order. The view is therefore exact for
each domain, as it was when its last event was read, and never for all of them at one time.

    lock.queued, request.queued, wait.began        a request waits
    lock.granted, semaphore.granted                it holds (and waits no more)
    *.released, *.expired                          it has ended; so have those that were refused or timed out, or `wait.ended`

Of the other primitives nothing is told here: who has yet to come to a barrier is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from typing import Any, Final, Self

from processors.core.coordination.lock_places import LOCKS, SEMAPHORES, TOLD, Key, Place, Request

__all__ = ["LockView"]

STILL_THERE: Final = frozenset({"not_granted", "not_owner", "id_reused"})
"""Refusals of commands that leave the request that they name as it is. Any other ends what waits under that id, none a grant."""

Fields = Mapping[str, Any]
Row = Any
"""A JSON value."""


class LockView:
    """The state of all domains as far as events have been read. Nothing here looks at a clock: a lease ends with its event.

    Attributes:
        requests: All that wait or hold.
        places: Locks and semaphores that somebody holds or waits for, by primitive and name.
        waiting_of: The waiting requests of each owner that waits.
        holding_of: The grants of each owner that holds something.
        number: How many events were taken.
    """

    def __init__(self) -> None:
        self.requests: dict[Key, Request] = {}
        self.places: dict[tuple[str, str], Place] = {}
        self.waiting_of: dict[str, dict[Key, Request]] = {}
        self.holding_of: dict[str, dict[Key, Request]] = {}
        self.number = 0
        self._dirty: set[tuple[str, ...]] = set()

    def take(self, kind: str, fields: Fields, at_ms: int) -> bool:
        """Take one event.

        Args:
            kind: Its type; those that say nothing about who holds or waits are passed over.
            fields: Its fields.
            at_ms: Its time.

        Returns:
            Whether something has changed.
        """
        fold = FOLDS.get(kind)
        if fold is None:
            return False
        self.number += 1
        return fold(self, fields, at_ms)

    def waiting(self, key: Key) -> Request | None:
        """Return a request that waits."""
        request = self.requests.get(key)
        return None if request is None or request.holds else request

    # ---- rows

    @classmethod
    def load(cls, rows: Iterable[tuple[tuple[str, ...], Row]]) -> Self:
        """Return the view that wrote these rows."""
        view = cls()
        requests: list[Request] = []
        places: list[tuple[tuple[str, str], Row]] = []
        for key, row in rows:
            if len(key) == 3:
                owner, names, order, waits_for, tokens, *rest = row
                requests.append(Request(key, owner, tuple(names), tuple(order), tuple(waits_for), tuple(tokens), *rest))
            else:
                places.append(((key[0], key[1]), row))
        for request in sorted(requests, key=lambda one: one.number):
            view.number = max(view.number, request.number)
            view.begin(request)
        for name, row in places:
            view.places[name].capacity, view.places[name].resized = row
            view.number = max(view.number, row[1])
        view._dirty.clear()
        return view

    def changes(self) -> dict[tuple[str, ...], Row | None]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        changed: dict[tuple[str, ...], Row | None] = {}
        for key in sorted(self._dirty):
            changed[key] = self._row(key)
        self._dirty.clear()
        return changed

    def rows(self) -> dict[tuple[str, ...], Row]:
        """Return all rows."""
        self._dirty.clear()
        return {key: row for key in (*self.requests, *self.places) if (row := self._row(key)) is not None}

    def _row(self, key: tuple[str, ...]) -> Row | None:
        if len(key) == 3:
            request = self.requests.get(key)
            return None if request is None else astuple(request)[1:]
        place = self.places.get((key[0], key[1]))
        return None if place is None or place.capacity is None else (place.capacity, place.resized)

    # ---- what events do

    def begin(self, request: Request) -> bool:
        """Let a request wait or hold, in place of what it did before."""
        self.end(request.key)
        self.requests[request.key] = request
        self._dirty.add(request.key)
        of = self.holding_of if request.holds else self.waiting_of
        of.setdefault(request.owner, {})[request.key] = request
        for name in request.names:
            place = self.places.get((request.key[0], name))
            if place is None:
                place = self.places[request.key[0], name] = Place()
            place.add(request)
        return True

    def end(self, key: Key) -> bool:
        """Let a request be gone."""
        request = self.requests.pop(key, None)
        if request is None:
            return False
        self._dirty.add(key)
        of = self.holding_of if request.holds else self.waiting_of
        mine = of[request.owner]
        del mine[key]
        if not mine:
            del of[request.owner]
        for name in request.names:
            place = self.places[key[0], name]
            place.remove(request)
            if not place.holders and not place.queue:
                del self.places[key[0], name]
                if place.capacity is not None:
                    self._dirty.add((key[0], name))
        return True

    def resize(self, name: str, capacity: int) -> bool:
        """Let a semaphore that somebody holds or waits for have this capacity."""
        place = self.places.get((SEMAPHORES, name))
        if place is None or place.capacity == capacity:
            return False
        place.capacity, place.resized = capacity, self.number
        self._dirty.add((SEMAPHORES, name))
        return True


def _key(primitive: str, fields: Fields) -> Key:
    return primitive, fields["domain"], fields["request_id"]


def _lock_queued(view: LockView, fields: Fields, at_ms: int) -> bool:
    request = Request(_key(LOCKS, fields), fields["owner"], tuple(fields["resources"]), tuple(fields["order"]))
    request.kind, request.since_ms, request.number = LOCKS, at_ms, view.number
    request.exclusive, request.priority = fields["mode"] == "exclusive", fields["priority"]
    return view.begin(request)


def _lock_granted(view: LockView, fields: Fields, at_ms: int) -> bool:
    request = Request(_key(LOCKS, fields), fields["owner"], tuple(fields["resources"]), tokens=tuple(fields["tokens"]))
    request.kind, request.since_ms, request.number = LOCKS, at_ms, view.number
    request.exclusive, request.expires_ms = fields["mode"] == "exclusive", fields["expires_ms"]
    return view.begin(request)


def _queued(view: LockView, fields: Fields, at_ms: int) -> bool:
    if fields["primitive"] != SEMAPHORES:
        return False
    request = Request(_key(SEMAPHORES, fields), fields["owner"], (fields["name"],), tuple(fields["order"]))
    request.kind, request.since_ms, request.number = SEMAPHORES, at_ms, view.number
    request.permits, request.priority = fields["permits"], fields["priority"]
    view.begin(request)
    view.resize(fields["name"], fields["capacity"])
    return True


def _permits_granted(view: LockView, fields: Fields, at_ms: int) -> bool:
    request = Request(_key(SEMAPHORES, fields), fields["owner"], (fields["name"],), tokens=(fields["token"],))
    request.kind, request.since_ms, request.number = SEMAPHORES, at_ms, view.number
    request.permits, request.expires_ms = fields["permits"], fields["expires_ms"]
    return view.begin(request)


def _resized(view: LockView, fields: Fields, at_ms: int) -> bool:  # noqa: ARG001 - all folds have the same parameters
    capacity = fields["capacity"]  # None: the setting was taken back, and the semaphore has what it had until it is forgotten
    return capacity is not None and view.resize(fields["name"], capacity)


def _began(view: LockView, fields: Fields, at_ms: int) -> bool:
    key, waits_for = _key(TOLD, fields), tuple(dict.fromkeys(fields["waits_for"]))
    known = view.requests.get(key)
    if known is not None and (known.owner, known.waits_for) == (fields["owner"], waits_for):
        return False
    request = Request(key, fields["owner"], waits_for=waits_for)
    request.kind, request.priority, request.number = fields["kind"], fields["priority"], view.number
    request.lease_ms = fields.get("lease_ms", 0)
    request.since_ms = at_ms if known is None else known.since_ms
    return view.begin(request)


def _ends(primitive: str) -> Callable[[LockView, Fields, int], bool]:
    return lambda view, fields, _: view.end(_key(primitive or fields["primitive"], fields))


def _refusal(primitive: str) -> Callable[[LockView, Fields, int], bool]:
    def fold(view: LockView, fields: Fields, at_ms: int) -> bool:  # noqa: ARG001 - all folds have the same parameters
        request = view.waiting(_key(primitive or fields["primitive"], fields))
        if request is None or request.owner != fields["owner"] or fields["code"] in STILL_THERE:
            return False
        return view.end(request.key)

    return fold


def _renewal(primitive: str) -> Callable[[LockView, Fields, int], bool]:
    def fold(view: LockView, fields: Fields, at_ms: int) -> bool:  # noqa: ARG001 - all folds have the same parameters
        request = view.requests.get(_key(primitive, fields))
        if request is not None and request.holds:
            request.expires_ms = fields["expires_ms"]
        return False  # it holds as before

    return fold


FOLDS: Final[dict[str, Callable[[LockView, Fields, int], bool]]] = {
    "lock.queued": _lock_queued,
    "lock.granted": _lock_granted,
    "lock.renewed": _renewal(LOCKS),
    "lock.released": _ends(LOCKS),
    "lock.expired": _ends(LOCKS),
    "lock.refused": _refusal(LOCKS),
    "lock.timed_out": _ends(LOCKS),
    "request.queued": _queued,
    "request.refused": _refusal(""),
    "request.timed_out": _ends(""),
    "semaphore.granted": _permits_granted,
    "semaphore.renewed": _renewal(SEMAPHORES),
    "semaphore.released": _ends(SEMAPHORES),
    "semaphore.expired": _ends(SEMAPHORES),
    "semaphore.resized": _resized,
    "wait.began": _began,
    "wait.ended": _ends(TOLD),
}
"""What each event does; all others say nothing here."""
