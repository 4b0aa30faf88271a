"""Who is stuck: the wait-for graph of a view, reduced.

An owner is one line of work: while it waits it gives nothing back. That is what makes a deadlock. So a request is *stuck among*
some owners if it cannot be granted unless one of those gives something back or gives up. Each way to be stuck is an `Edge`:

    lock        somebody else holds it in a conflicting mode, or waits for it, conflicts and goes first
    semaphore   the permits that those have are too many for what is asked for to be free without them; or one of them goes first
    told        it says itself for whom it waits

An owner is stuck if all its waiting requests are, and not only on account of what it has itself: an owner that has two of two
permits and asks for another one may be two tasks that share a name, and is left alone. Most owners have one waiting request.

Owners that are stuck among themselves are a deadlock, whatever all others do. A lock's edge has one owner, so there a deadlock is
a cycle. A semaphore's may need several: three of four holders in a circle are none, if the fourth can give its permits back. So
it is found by reduction (Holt 1972): those that are not stuck among the waiting ones are taken away, until all that are left are.

    core    a part that is stuck among itself, with nobody in it who is not needed for that
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

from processors.core.coordination.components import components
from processors.core.coordination.lock_places import LOCKS, SEMAPHORES, TOLD, Key, Place, Request
from processors.core.coordination.lock_view import LockView

__all__ = ["Core", "Edge", "cores", "edges", "smallest", "stuck"]

LOOKS_MAX: Final = 100_000
"""Looks at owners while a deadlock is made smaller: about a second. One of more than 200 may be told with some too many."""

Reasons = dict[str, dict[Key, list["Edge"]]]
"""For each owner that is stuck, why each of its requests is."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A reason why a request waits. Begun and ended by events, and never the same again once it has ended.

    Attributes:
        owner: Who waits.
        request: With what.
        name: For what; empty where only owners are told.
        owners: Those that all have to stay for this to be a reason.
        by: What they do: their requests, holding or waiting.
        how: "holds", "goes_first" or "told".
        number: Of the event after which this holds, where requests do not tell: with another one it is not the same.
    """

    owner: str
    request: Key
    name: str
    owners: tuple[str, ...]
    by: tuple[Key, ...]
    how: Literal["holds", "goes_first", "told"]
    number: int = 0

    @property
    def foreign(self) -> bool:
        """Whether it lies with somebody else too."""
        return any(one != self.owner for one in self.owners)


@dataclass(frozen=True, slots=True)
class Core:
    """A deadlock: for each owner's each request a reason that lies with these owners."""

    edges: tuple[Edge, ...]

    @property
    def owners(self) -> frozenset[str]:
        """Who is in it."""
        return frozenset(edge.owner for edge in self.edges)

    @property
    def domains(self) -> tuple[str, ...]:
        """Where its requests are."""
        return tuple(sorted({key[1] for edge in self.edges for key in (edge.request, *edge.by)}))

    def holds(self, view: LockView) -> bool:
        """Return whether each of its reasons is still one."""
        owners = self.owners
        for edge in self.edges:
            request = view.waiting(edge.request)
            if request is None or edge not in edges(view, request, owners):
                return False
        return True


# ---- edges


def edges(view: LockView, request: Request, among: AbstractSet[str], *, near: bool = False) -> list[Edge]:
    """Return the reasons why a waiting request is stuck among some owners; the same in every run.

    Args:
        view: The state.
        request: Which.
        among: Those that do not give up.
        near: Of those that go first look at the nearest only, whoever they are. They wait for the rest, so where each owner waits
            with one request nothing is missed, and a queue of n costs n looks.
    """
    if request.key[0] == LOCKS:
        return list(_at_locks(view, request, among, near))
    if request.key[0] == SEMAPHORES:
        return list(_at_semaphore(view, request, among, near))
    told = [one for one in request.waits_for if one in among and one != request.owner]
    return [Edge(request.owner, request.key, "", (one,), (), "told", request.number) for one in told]


def _at_locks(view: LockView, request: Request, among: AbstractSet[str], near: bool) -> Iterator[Edge]:
    owner, key = request.owner, request.key
    for name in request.names:
        place = view.places[LOCKS, name]
        if view.holding_of.get(owner) and _open(place.holders.values(), request):
            continue
        for one in place.holders.values():
            if one.owner in among and one.owner != owner and (request.exclusive or one.exclusive):
                yield Edge(owner, key, name, (one.owner,), (one.key,), "holds")
        for one in place.ahead(request, None if near else among):
            if one.owner in among:
                yield Edge(owner, key, name, (one.owner,), (one.key,), "goes_first")


def _open(holders: Iterable[Request], request: Request) -> bool:
    """Whether the owner has it already in a mode that will do."""
    return any(one.owner == request.owner and (one.exclusive or not request.exclusive) for one in holders)


def _at_semaphore(view: LockView, request: Request, among: AbstractSet[str], near: bool) -> Iterator[Edge]:
    owner, key, (name,) = request.owner, request.key, request.names
    place = view.places[SEMAPHORES, name]
    for one in place.ahead(request, None if near else among):
        if one.owner in among:
            yield Edge(owner, key, name, (one.owner,), (one.key,), "goes_first")
    if not place.capacity or place.capacity < request.permits:  # closed: it waits for another capacity
        return
    theirs: dict[str, int] = {}
    for one in place.holders.values():
        if one.owner in among:
            theirs[one.owner] = theirs.get(one.owner, 0) + one.permits
    spare = place.capacity - request.permits
    alone = sorted(one for one, permits in theirs.items() if permits > spare)
    if owner in alone:  # whatever others give back
        alone = [owner]
    for who in alone:
        yield _permits(request, place, (who,))
    if not alone:
        several: list[str] = []
        total = 0
        for who in sorted(theirs, key=lambda one: (-theirs[one], one)):
            several.append(who)
            total += theirs[who]
            if total > spare:
                yield _permits(request, place, tuple(sorted(several)))
                return


def _permits(request: Request, place: Place, owners: tuple[str, ...]) -> Edge:
    by = tuple(sorted(one.key for one in place.holders.values() if one.owner in owners))
    return Edge(request.owner, request.key, request.names[0], owners, by, "holds", place.resized)


# ---- reduction


def stuck(view: LockView, among: AbstractSet[str], *, near: bool = True) -> Reasons:
    """Return the owners that are stuck among those of them that are stuck; `near` as for `edges`."""
    left = {owner for owner in among if owner in view.waiting_of}
    reasons: Reasons = {}
    back: dict[str, set[str]] = {}

    def look(owner: str) -> bool:
        mine: dict[Key, list[Edge]] = {}
        foreign = False
        for request in view.waiting_of[owner].values():
            found = mine[request.key] = edges(view, request, left, near=near)
            if not found:
                return False
            foreign = foreign or any(edge.foreign for edge in found)
        reasons[owner] = mine
        for found in mine.values():
            for edge in found:
                for other in edge.owners:
                    back.setdefault(other, set()).add(owner)
        return foreign

    gone = [owner for owner in sorted(left) if not look(owner)]
    left.difference_update(gone)
    while gone:
        again = {one for owner in gone for one in back.pop(owner, ()) if one in left}
        gone = [owner for owner in sorted(again) if not look(owner)]
        left.difference_update(gone)
    return {owner: reasons[owner] for owner in sorted(left)}


def cores(view: LockView, without: AbstractSet[str] = frozenset()) -> list[Core]:
    """Return deadlocks that have no owner in common; each lasts whatever becomes of the others.

    Args:
        view: The state.
        without: Owners that are left out of account, as if they gave back what they have.
    """
    found: list[Core] = []
    if not _may_be(view):
        return found
    rest = view.waiting_of.keys() - without
    while reasons := stuck(view, rest):
        rest = set(reasons)
        leads = {
            owner: {one for found in mine.values() for edge in found for one in edge.owners} for owner, mine in reasons.items()
        }
        parts = [core for part in components(leads) if (core := smallest(view, part))]
        assert parts, "a part that leads nowhere else is stuck in itself"
        found += parts
        rest = rest.difference(*(core.owners for core in parts))
    return found


def _may_be(view: LockView) -> bool:
    """Whether anybody both waits and keeps others waiting. Going first alone makes no deadlock: in a domain it is one order."""
    waiting, holding = view.waiting_of, view.holding_of
    few, many = (waiting, holding) if len(waiting) < len(holding) else (holding, waiting)
    return any(owner in many for owner in few) or any(key[0] == TOLD for of in waiting.values() for key in of)


def smallest(view: LockView, part: AbstractSet[str]) -> Core | None:
    """Return a deadlock among some owners with nobody in it who is not needed.

    Ever smaller groups are left out and kept out where that leaves a deadlock (Zeller 2002: ddmin). First all that hold nothing:
    of a long queue seldom anybody is needed.
    """
    reasons = stuck(view, part & view.holding_of.keys(), near=False) or stuck(view, part, near=False)
    size, looks = len(reasons) // 2, 0
    while size:
        for first in range(0, len(names := list(reasons)), size):
            looks += len(reasons)
            if looks > LOOKS_MAX:
                break
            if fewer := stuck(view, reasons.keys() - set(names[first : first + size]), near=False):
                reasons = fewer
        size //= 2
    if not reasons:
        return None
    return Core(tuple(_shown(found) for owner in _in_order(reasons) for _, found in sorted(reasons[owner].items())))


def _shown(found: list[Edge]) -> Edge:
    """Return one reason of a request, one that lies with others if there is one."""
    return next((edge for edge in found if edge.foreign), found[0])


def _in_order(reasons: Reasons) -> list[str]:
    """Return owners so that each follows one that waits for it, as far as that goes."""
    order: dict[str, None] = {}
    for start in reasons:
        todo = [start]
        while todo:
            owner = todo.pop()
            if owner not in order:
                order[owner] = None
                todo += (one for found in reasons[owner].values() for one in reversed(_shown(found).owners))
    return list(order)
