"""Who is stuck: the wait-for graph of a view, reduced.

An owner that waits gives nothing back until its wait ends; that is what makes a deadlock. So an owner is *stuck among* some
owners if one of its waits cannot end unless one of those gives something back or gives up. Each way to be stuck is an `Edge`:

    lock        somebody else holds it in a conflicting mode, or waits for it, conflicts and goes first
    semaphore   the permits that those have are too many for what is asked for to be free without them; or one of them goes first
    told        it says itself for whom it waits

Owners that are stuck among themselves are a deadlock, whatever all others do. A lock's edge has one owner, so there a deadlock is a
cycle. A semaphore's may need several: three of four holders in a circle are none, if the fourth can give its permits back. So it is
found by reduction: those that are not stuck among the waiting ones are taken away, until all that are left are stuck.

    core    a part that is stuck among itself, with nobody in it who is not needed for that
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal

from processors.core.coordination.lock_view import LOCKS, SEMAPHORES, TOLD, Key, LockView, Place, Request

__all__ = ["Core", "Edge", "cores", "edges", "stuck"]

SHRINK_MAX: Final = 64
"""Owners of a strongly connected part that is made smaller: it costs their square, and what is left out is few words in a message."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A reason why a request waits. Begun and ended by events, and never the same again once it has ended.

    Attributes:
        owner: Who waits.
        request: With what.
        name: For what; empty where that is not known.
        owners: Those that all have to stay for this to be a reason.
        by: What they do: their requests, holding or waiting.
        how: "holds", "goes first" or "told".
        number: Of the event after which this holds: with another one it is not the same.
    """

    owner: str
    request: Key
    name: str
    owners: tuple[str, ...]
    by: tuple[Key, ...]
    how: Literal["holds", "goes first", "told"]
    number: int = 0


@dataclass(frozen=True, slots=True)
class Core:
    """A deadlock: for each owner a reason that lies with the others."""

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


def edges(view: LockView, request: Request, among: AbstractSet[str]) -> list[Edge]:
    """Return the reasons why a waiting request is stuck among some owners; the same in every run."""
    if request.key[0] == LOCKS:
        return list(_at_locks(view, request, among))
    if request.key[0] == SEMAPHORES:
        return list(_at_semaphore(view, request, among))
    if request.key[0] == TOLD:
        told = [one for one in request.waits_for if one in among and one != request.owner]
        return [Edge(request.owner, request.key, "", (one,), (), "told", request.number) for one in told]
    return []  # a barrier or a latch: who has yet to come is not known


def _at_locks(view: LockView, request: Request, among: AbstractSet[str]) -> Iterator[Edge]:
    owner, key = request.owner, request.key
    for name in request.names:
        place = view.places[LOCKS, name]
        mine = [one for one in place.holders.values() if one.owner == owner]
        if any(one.exclusive or not request.exclusive for one in mine):
            continue
        for one in place.holders.values():
            if one.owner in among and one.owner != owner and (request.exclusive or one.exclusive):
                yield Edge(owner, key, name, (one.owner,), (one.key,), "holds")
        for one in _ahead(place, request):
            if one.owner in among and one.owner != owner:
                yield Edge(owner, key, name, (one.owner,), (one.key,), "goes first")


def _ahead(place: Place, request: Request) -> Iterator[Request]:
    """Yield the nearest that go first and conflict, back to an exclusive one: that one waits for the rest."""
    if request.order or len({one.priority for one in place.queue.values()}) > 1 or request.upgrade:
        earlier = sorted((one for one in place.queue.values() if _goes_first(one, request)), key=lambda one: (one.order, one.number))
    else:
        earlier = []
        for one in place.queue.values():
            if one is request:
                break
            earlier.append(one)
    for one in reversed(earlier):
        if request.exclusive or one.exclusive:
            yield one
        if one.exclusive:
            return


def _goes_first(one: Request, request: Request) -> bool:
    """Whether a waiting request certainly goes before another one at the same place."""
    if one.order and request.order:
        return one.order < request.order
    if one.upgrade != request.upgrade:
        return one.upgrade
    return one.number < request.number and one.priority >= request.priority


def _at_semaphore(view: LockView, request: Request, among: AbstractSet[str]) -> Iterator[Edge]:
    owner, key, (name,) = request.owner, request.key, request.names
    place = view.places[SEMAPHORES, name]
    for one in _ahead(place, request):
        if one.owner in among and one.owner != owner:
            yield Edge(owner, key, name, (one.owner,), (one.key,), "goes first")
    holders = list(place.holders.values())
    theirs: dict[str, int] = {}
    for one in holders:
        if one.owner in among:
            theirs[one.owner] = theirs.get(one.owner, 0) + one.permits
    if not theirs:
        return
    if place.capacity is None or not request.permits:  # how many are needed is not known: anyone's might be enough
        if all(one.owner in among for one in holders):
            yield _permits(request, holders, tuple(sorted(theirs)), place.granted)
        return
    spare = place.capacity - request.permits
    if spare < 0:  # closed: it waits for another capacity
        return
    alone = [one for one, permits in theirs.items() if permits > spare]
    for one in sorted(alone):
        yield _permits(request, holders, (one,), place.resized)
    if not alone:
        several: list[str] = []
        total = 0
        for one in sorted(theirs, key=lambda one: (-theirs[one], one)):
            several.append(one)
            total += theirs[one]
            if total > spare:
                yield _permits(request, holders, tuple(sorted(several)), place.resized)
                return


def _permits(request: Request, holders: list[Request], owners: tuple[str, ...], number: int) -> Edge:
    by = tuple(sorted(one.key for one in holders if one.owner in owners))
    return Edge(request.owner, request.key, request.names[0], owners, by, "holds", number)


# ---- reduction


def stuck(view: LockView, among: AbstractSet[str]) -> dict[str, list[Edge]]:
    """Return the owners that are stuck among those of them that are stuck, each with its reasons."""
    left = {owner for owner in among if owner in view.waiting_of}
    reasons: dict[str, list[Edge]] = {}
    back: dict[str, set[str]] = {}

    def look(owner: str) -> bool:
        found = [edge for request in view.waiting_of[owner].values() for edge in edges(view, request, left)]
        reasons[owner] = found
        for edge in found:
            for other in edge.owners:
                back.setdefault(other, set()).add(owner)
        return bool(found)

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
    rest = set(view.waiting_of) - without
    while reasons := stuck(view, rest):
        rest = set(reasons)
        for part in _parts(reasons):
            if core := _core(view, part):
                found.append(core)
                rest -= core.owners
    return found


def _core(view: LockView, part: set[str]) -> Core | None:
    """Return one deadlock among owners of which each leads to each."""
    reasons = stuck(view, part)
    if not reasons:
        return None
    if cycle := _shortest_cycle(reasons):
        return Core(tuple(cycle))
    if len(reasons) <= SHRINK_MAX:
        for owner in sorted(reasons):
            if owner in reasons and (fewer := stuck(view, reasons.keys() - {owner})):
                reasons = fewer
    return Core(tuple(reasons[owner][0] for owner in _in_order(reasons)))


def _shortest_cycle(reasons: dict[str, list[Edge]]) -> list[Edge]:
    """Return a shortest circle of reasons that lie with one owner each, from its smallest owner on."""
    best: list[Edge] = []
    for start in list(reasons)[:SHRINK_MAX]:
        came: dict[str, Edge] = {}
        row = [start]
        while row and start not in came:
            following = []
            for owner in row:
                for edge in reasons[owner]:
                    (other, *more) = edge.owners
                    if not more and other in reasons and other not in came:
                        came[other] = edge
                        following.append(other)
            row = following
        if start not in came:
            continue
        cycle = [came[start]]
        while cycle[-1].owner != start:
            cycle.append(came[cycle[-1].owner])
        if not best or len(cycle) < len(best):
            best = cycle[::-1]
    return best


def _in_order(reasons: dict[str, list[Edge]]) -> list[str]:
    """Return owners so that each follows one that waits for it, as far as that goes."""
    order: dict[str, None] = {}
    for start in reasons:
        todo = [start]
        while todo:
            owner = todo.pop()
            if owner not in order:
                order[owner] = None
                todo += reversed(reasons[owner][0].owners)
    return list(order)


def _parts(reasons: dict[str, list[Edge]]) -> list[set[str]]:
    """Return the strongly connected parts, ends of chains first (Tarjan 1972, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on: set[str] = set()
    parts: list[set[str]] = []

    def visit(owner: str) -> tuple[str, Iterator[str]]:
        index[owner] = low[owner] = len(index)
        stack.append(owner)
        on.add(owner)
        return owner, iter(sorted({one for edge in reasons[owner] for one in edge.owners if one in reasons}))

    for root in reasons:
        work = [] if root in index else [visit(root)]
        while work:
            owner, others = work[-1]
            for other in others:
                if other not in index:
                    work.append(visit(other))
                    break
                if other in on:
                    low[owner] = min(low[owner], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[owner])
                if low[owner] == index[owner]:
                    at = stack.index(owner)
                    parts.append(set(stack[at:]))
                    del stack[at:]
                    on -= parts[-1]
    return parts
