"""Who holds what and who waits for it, as told by the events of all partitions: the fold that detector and command line share.

A request is known by `Key`, begins to wait or to hold once and ends once, and no id is used twice. So what is seen before some
moment and again after it was there at that moment: the ground that `deadlocks` stands on.

Events of one domain come in the order in which they happened; those of two domains in any order. The view is therefore exact for
each domain, as it was when its last event was read, and never for all of them at one time.

    lock.queued, request.queued, wait.began        a request waits
    lock.granted, semaphore.granted                it holds (and waits no more)
    *.released, *.expired                          it has ended; so have those that were refused or timed out, or `wait.ended`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["LOCKS", "SEMAPHORES", "TOLD", "Key", "LockView", "Place", "Request"]

LOCKS: Final = "locks"
SEMAPHORES: Final = "semaphores"
TOLD: Final = "told"
"""Waits of what is not coordinated here (transactions, sagas), which say themselves whom they wait for."""

STILL_THERE: Final = frozenset({"not_granted", "not_owner", "id_reused", "bad_lease"})
"""Refusals of a command that leave the request that it names as it is. Any other ends what waits under that id; none ends a grant."""

Key = tuple[str, str, str]
"""Primitive, domain, request id."""

Fields = Mapping[str, Any]


@dataclass(slots=True)
class Request:
    """A request that waits or holds.

    Attributes:
        kind: "locks", "semaphores" and so on; "transaction" or "saga" for what is told by others.
        names: What it is for; empty where that is not known here.
        since_ms: When it began to wait, or was granted, by the worker's clock.
        number: Events of the view until then: an order within a domain.
        order: Its place in its queues, where its event tells it.
        upgrade: Whether it waits as an upgrade, ahead of those that are none.
        permits: Of a semaphore; 0 where its event does not tell.
        waits_for: Owners, for those that tell themselves.
    """

    key: Key
    kind: str
    owner: str
    names: tuple[str, ...]
    since_ms: int
    number: int
    exclusive: bool = True
    priority: int = 0
    order: tuple[int, ...] = ()
    upgrade: bool = False
    permits: int = 0
    waits_for: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    expires_ms: int = 0

    @property
    def holds(self) -> bool:
        """Whether it has what it asked for."""
        return bool(self.tokens)


@dataclass(slots=True)
class Place:
    """One lock or semaphore: who holds it and who waits, in the order of the events.

    Attributes:
        capacity: Of a semaphore, where an event has told it.
        resized: The number of the event that last changed the capacity.
        granted: The number of the event that last gave something.
    """

    holders: dict[Key, Request] = field(default_factory=dict)
    queue: dict[Key, Request] = field(default_factory=dict)
    capacity: int | None = None
    resized: int = 0
    granted: int = 0


class LockView:
    """The state of all domains as far as events have been read. Nothing here looks at a clock: a lease ends with its event.

    Attributes:
        requests: All that wait or hold.
        places: Locks and semaphores that somebody holds or waits for, by primitive and name.
        number: How many events were taken.
    """

    def __init__(self) -> None:
        self.requests: dict[Key, Request] = {}
        self.places: dict[tuple[str, str], Place] = {}
        self.waiting_of: dict[str, dict[Key, Request]] = {}
        self.holding_of: dict[str, dict[Key, Request]] = {}
        self.number = 0

    def take(self, kind: str, fields: Fields, at_ms: int) -> bool:
        """Take one event.

        Args:
            kind: Its type; those that say nothing about who holds or waits are passed over.
            fields: Its fields.
            at_ms: Its time.

        Returns:
            Whether something has changed.
        """
        fold = _FOLDS.get(kind)
        if fold is None:
            return False
        self.number += 1
        return fold(self, fields, at_ms)

    def waiting(self, key: Key) -> Request | None:
        """Return a request that waits."""
        request = self.requests.get(key)
        return None if request is None or request.holds else request

    # ---- what events do

    def begin(self, request: Request) -> bool:
        """Let a request wait or hold, in place of what it did before."""
        self.end(request.key)
        self.requests[request.key] = request
        of = self.holding_of if request.holds else self.waiting_of
        of.setdefault(request.owner, {})[request.key] = request
        for name in request.names:
            place = self.places.setdefault((request.key[0], name), Place())
            (place.holders if request.holds else place.queue)[request.key] = request
            if request.holds:
                place.granted = self.number
        return True

    def end(self, key: Key) -> bool:
        """Let a request be gone."""
        request = self.requests.pop(key, None)
        if request is None:
            return False
        of = self.holding_of if request.holds else self.waiting_of
        mine = of[request.owner]
        del mine[key]
        if not mine:
            del of[request.owner]
        for name in request.names:
            place = self.places[key[0], name]
            del (place.holders if request.holds else place.queue)[key]
            if not place.holders and not place.queue:
                del self.places[key[0], name]
        return True


def _key(primitive: str, fields: Fields) -> Key:
    return primitive, fields["domain"], fields["request_id"]


def _lock_queued(view: LockView, fields: Fields, at_ms: int) -> bool:
    owner, names = fields["owner"], tuple(fields["resources"])
    exclusive = fields["mode"] == "exclusive"
    modes: dict[str, bool] = {}
    for one in view.holding_of.get(owner, {}).values() if exclusive else ():
        if one.key[0] == LOCKS:
            modes.update((name, modes.get(name, False) or one.exclusive) for name in one.names)
    upgrade = any(not modes.get(name, True) for name in names)
    return view.begin(
        Request(
            _key(LOCKS, fields),
            LOCKS,
            owner,
            names,
            at_ms,
            view.number,
            exclusive=exclusive,
            priority=fields.get("priority", 0),
            order=tuple(fields.get("order", ())),
            upgrade=upgrade,
        )
    )


def _lock_granted(view: LockView, fields: Fields, at_ms: int) -> bool:
    return view.begin(
        Request(
            _key(LOCKS, fields),
            LOCKS,
            fields["owner"],
            tuple(fields["resources"]),
            at_ms,
            view.number,
            exclusive=fields["mode"] == "exclusive",
            tokens=tuple(fields["tokens"]),
            expires_ms=fields["expires_ms"],
        )
    )


def _queued(view: LockView, fields: Fields, at_ms: int) -> bool:
    primitive, name = fields["primitive"], fields["name"]
    view.begin(
        Request(
            _key(primitive, fields),
            primitive,
            fields["owner"],
            (name,),
            at_ms,
            view.number,
            priority=fields.get("priority", 0),
            order=tuple(fields.get("order", ())),
            permits=fields.get("permits", 0),
        )
    )
    if fields.get("capacity"):
        view.places[primitive, name].capacity = fields["capacity"]
    return True


def _permits_granted(view: LockView, fields: Fields, at_ms: int) -> bool:
    return view.begin(
        Request(
            _key(SEMAPHORES, fields),
            SEMAPHORES,
            fields["owner"],
            (fields["name"],),
            at_ms,
            view.number,
            permits=fields["permits"],
            tokens=(fields["token"],),
            expires_ms=fields["expires_ms"],
        )
    )


def _resized(view: LockView, fields: Fields, at_ms: int) -> bool:  # noqa: ARG001 - all folds have the same parameters
    place = view.places.get((SEMAPHORES, fields["name"]))
    if place is None:
        return False
    place.resized = view.number
    if fields["capacity"] is not None:
        place.capacity = fields["capacity"]
    return True


def _began(view: LockView, fields: Fields, at_ms: int) -> bool:
    key = _key(TOLD, fields)
    known = view.requests.get(key)
    return view.begin(
        Request(
            key,
            fields["kind"],
            fields["owner"],
            (),
            at_ms if known is None else known.since_ms,
            view.number,
            priority=fields.get("priority", 0),
            waits_for=tuple(fields["waits_for"]),
        )
    )


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


_FOLDS: Final[dict[str, Callable[[LockView, Fields, int], bool]]] = {
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
