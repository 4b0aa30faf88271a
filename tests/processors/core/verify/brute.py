"""A judge by exhaustion: every way in which a lock could have gone through a small history, tick by tick.

Nothing of the search's reasoning is used here: time runs, at each tick any open operation may take effect and any lease whose
time has come may end, in every order; an operation without an answer takes effect at some tick, or not at all. Tokens are
fractions: between any two there is one that no client was told, and no write has that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from processors.core.verify import NEVER_NS, Guard, Kind, Operation, Outcome

Holding = tuple[str, str, bool, Fraction, int]
"""Grant, owner, exclusive, token, tick at which it may end."""

Told = dict[str, set[Fraction]]
"""Tokens that each owner was told."""


class World(NamedTuple):
    """What a lock knows, and which operations have taken effect."""

    done: frozenset[int]
    holdings: frozenset[Holding]
    granted: Fraction
    seen: frozenset[tuple[str, int]]
    released: frozenset[tuple[str, str]]


def possible(operations: Sequence[Operation], guard: Guard) -> bool:
    """Return whether a correct lock could have answered like this; all of one resource, times are small numbers."""
    worlds = {World(frozenset(), frozenset(), Fraction(), frozenset(), frozenset())}
    ends = [one.return_ns for one in operations if one.return_ns < NEVER_NS]
    for tick in range(max(ends, default=0) + 1):
        worlds = _closure(worlds, operations, tick, guard)
        over = {index for index, one in enumerate(operations) if one.return_ns == tick}
        worlds = {world for world in worlds if over <= world.done}
    return bool(worlds)


def _closure(worlds: set[World], operations: Sequence[Operation], tick: int, guard: Guard) -> set[World]:
    """All worlds that can be reached within a tick."""
    reached, new = set(worlds), list(worlds)
    while new:
        world = new.pop()
        for after in _next(world, operations, tick, guard):
            if after not in reached:
                reached.add(after)
                new.append(after)
    return reached


def _next(world: World, operations: Sequence[Operation], tick: int, guard: Guard) -> Iterator[World]:
    told: Told = {}
    for one in operations:
        if one.kind is Kind.ACQUIRE and one.answered:
            told.setdefault(one.owner, set()).add(Fraction(one.token))
    for holding in world.holdings:
        if holding[4] <= tick:
            yield world._replace(holdings=world.holdings - {holding})
    for index, one in enumerate(operations):
        if index not in world.done and one.call_ns <= tick <= one.return_ns:
            for after in _effects(world, one, tick, guard, told):
                yield after._replace(done=world.done | {index})


def _effects(world: World, one: Operation, tick: int, guard: Guard, told: Told) -> Iterator[World]:
    mine = {held for held in world.holdings if held[0] == one.grant and held[1] == one.owner}
    refused = one.outcome is Outcome.REFUSED
    match one.kind:
        case Kind.ACQUIRE:
            yield from _acquire(world, one, tick, told)
        case Kind.WRITE:
            yield from _write(world, one, guard)
        case Kind.EXPIRE:
            if not mine:
                yield world
        case _ if refused:
            if not mine:
                yield world
        case Kind.RENEW:
            for held in mine:
                yield world._replace(holdings=(world.holdings - mine) | {(*held[:4], tick + one.lease_ns)})
        case Kind.RELEASE:
            name = (one.grant, one.owner)
            if mine:
                yield world._replace(holdings=world.holdings - mine, released=world.released | {name})
            elif one.answered and name in world.released:
                yield world


def _acquire(world: World, one: Operation, tick: int, told: Told) -> Iterator[World]:
    if one.outcome is Outcome.TIMED_OUT or (one.outcome is Outcome.REFUSED and one.reason != "held"):
        yield world
        return
    if one.outcome is Outcome.REFUSED:
        if world.holdings:
            yield world
        return
    if any(held[1] != one.owner and (one.exclusive or held[2]) for held in world.holdings):
        return
    lent = {held[3] for held in world.holdings if held[1] == one.owner}
    if one.answered:
        tokens = {Fraction(one.token)} if one.token > world.granted or one.token in lent else set()
    else:
        between = (world.granted + int(world.granted) + 1) / 2
        tokens = {between, *lent, *(token for token in told.get(one.owner, ()) if token > world.granted)}
    for token in tokens:
        held = (one.grant, one.owner, one.exclusive, token, tick + one.lease_ns)
        yield world._replace(holdings=world.holdings | {held}, granted=max(world.granted, token))


def _write(world: World, one: Operation, guard: Guard) -> Iterator[World]:
    if one.outcome is Outcome.REFUSED:
        if one.token < world.granted or not any(held[3] == one.token for held in world.holdings):
            yield world
        return
    seen = dict(world.seen)
    if guard is Guard.GRANTED:
        if one.token == world.granted:
            yield world
    elif one.token >= seen.get(one.store, 0):
        seen[one.store] = one.token
        yield world._replace(seen=frozenset(seen.items()))
