"""What can't be ordered, for a person: the few operations that contradict each other, and the contradiction in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from processors.core.verify.model import Blocked, Holder, LockModel, Rule
from processors.core.verify.operations import NEVER_NS, Kind, Operation, Outcome
from processors.core.verify.search import Search, search

__all__ = ["Conflict", "conflict", "words"]

GROUPS_MAX: Final = 256
"""Grants before the contradiction that are searched for its other side; it is among the last few as a rule."""
SHOWN_MAX: Final = 12
"""Operations of a contradiction: with more nobody sees it; the last ones before it are shown."""
NS_PER_MS: Final = 1_000_000

DONE: Final = {
    Kind.ACQUIRE: "acquire",
    Kind.RELEASE: "release",
    Kind.RENEW: "renewal",
    Kind.EXPIRE: "end of lease",
    Kind.WRITE: "guarded write",
}

SAID: Final = {
    Rule.TOKEN: "{who} was granted token {token}, which is not larger than {other}{granted} before",
    Rule.HELD: "{who} was granted the lock {mode} with token {token} while {held}",
    Rule.STILL_HELD: "{who} was {lost} of grant {grant} while {held}",
    Rule.WRITE_REFUSED: "the write with token {token} was refused, and no larger token was granted, while {held}",
    Rule.STALE_WRITE: "the write with token {token} was accepted after token {other}{granted}",
    Rule.UNGRANTED_WRITE: "the write with token {token} was accepted, and no such token had been granted",
    Rule.NOT_OWNER: "{who}'s {what} of grant {grant} was accepted, and the grant is {whose}'s",
    Rule.NOT_HELD: "{who}'s {what} of grant {grant} was accepted, and the grant was not held then{holders}",
    Rule.FREE: "{who} was refused because the lock was held, and nobody held it",
    Rule.LATE: "{who}'s {what} was answered at {answered}, and what came before it cannot have ended before {possible}{holders}",
}
"""Each rule, broken."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a lock's history can't be ordered.

    Attributes:
        reason: The contradiction in words.
        prefix: How many of the lock's operations were called up to the end of the shortest prefix that can't be ordered.
        prefix_end_ns: The time of its last answer.
        stuck: The operation whose answer ends it.
        operations: Those that contradict each other, in the order of their calls; `stuck` is among them.
        origin_ns: The lock's first call: times in words count from it.
    """

    reason: str
    prefix: int
    prefix_end_ns: int
    stuck: Operation
    operations: tuple[Operation, ...]
    origin_ns: int


def conflict(
    operations: Sequence[Operation],
    telling: Sequence[Operation],
    cut_ns: int,
    found: Search,
    model: LockModel,
    states_max: int,
) -> Conflict:
    """Name a contradiction.

    Args:
        operations: All of the lock.
        telling: Those that were searched.
        cut_ns: Where the shortest prefix ends.
        found: The search that did not get to its end.
        model: What a lock may do.
        states_max: States to enter in each search for fewer operations.
    """
    assert found.stuck is not None
    prefix = [one for one in telling if one.call_ns <= cut_ns]
    core = _fewest(prefix, cut_ns, model, states_max)
    at = search(core, model, states_max=states_max, cut_ns=cut_ns, by_token=False)
    stuck, why, holders, before = telling[found.stuck], found.why, found.state.holders, [telling[one] for one in found.order]
    if at.linearizable is False and at.stuck is not None:
        stuck, why, holders, before = core[at.stuck], at.why, at.state.holders, [core[index] for index in at.order]
    shown = core if len(core) <= SHOWN_MAX else [*before[1 - SHOWN_MAX :], stuck]
    origin_ns = operations[0].call_ns
    return Conflict(
        reason=_reason(stuck, why, holders, prefix, origin_ns),
        prefix=sum(one.call_ns <= cut_ns for one in operations),
        prefix_end_ns=cut_ns,
        stuck=stuck,
        operations=tuple(
            sorted({one.place: one for one in reversed(shown)}.values(), key=lambda one: (one.call_ns, one.return_ns))
        ),
        origin_ns=origin_ns,
    )


def _fewest(prefix: Sequence[Operation], cut_ns: int, model: LockModel, states_max: int) -> list[Operation]:
    """A part of the prefix that can't be ordered either, from which nothing can be taken away.

    Only whole grants are left out: a lock that never made a grant may do everything that it may do beside it. Exceptions are
    refusals because the lock was held or because of a write's token, so these go first; where it takes them, nothing is left out.
    """

    def fails(names: Sequence[object]) -> bool:
        return search(_members(groups, names), model, states_max=states_max, cut_ns=cut_ns).linearizable is False

    groups = _groups([one for one in prefix if one.outcome is not Outcome.REFUSED or one.kind in (Kind.RELEASE, Kind.RENEW)])
    names = sorted(groups, key=lambda name: max(one.call_ns for one in groups[name]))
    if not fails(names):
        return list(prefix)
    size = 2
    while size < len(names) and not fails(names[-size:]):
        size = size * 2 if size < GROUPS_MAX else len(names)
    kept = names[-size:]
    if len(kept) <= GROUPS_MAX:
        for name in list(kept):
            without = [one for one in kept if one != name]
            if fails(without):
                kept = without
    return _members(groups, kept)


def _groups(operations: Sequence[Operation]) -> dict[object, list[Operation]]:
    """The operations by what they are about: a grant with its writes; all of an owner whose grants share tokens by nesting."""
    acquires = [one for one in operations if one.kind is Kind.ACQUIRE]
    told = Counter((one.owner, one.token) for one in acquires if one.token)
    nested = {owner for (owner, _), count in told.items() if count > 1}
    nested |= {one.owner for one in acquires if one.token and not one.answered}
    group_of: dict[object, object] = {one.grant: ("owner", one.owner) if one.owner in nested else one.grant for one in acquires}
    grant_of = {one.token: one.grant for one in acquires if one.answered}
    groups: dict[object, list[Operation]] = {}
    for one in operations:
        grant = grant_of.get(one.token, ("write", one.place)) if one.kind is Kind.WRITE else one.grant
        groups.setdefault(group_of.get(grant, grant), []).append(one)
    return groups


def _members(groups: dict[object, list[Operation]], names: Sequence[object]) -> list[Operation]:
    return sorted((one for name in names for one in groups[name]), key=lambda one: (one.call_ns, one.return_ns))


def words(one: Operation, origin_ns: int) -> str:
    """One operation as a sentence, with its place and times in milliseconds since ``origin_ns``."""
    who = one.client if one.owner == one.client else f"{one.client} (for {one.owner})"
    told = one.outcome.value.replace("_", " ") if one.answered else "no answer"
    what = f"{DONE[one.kind]}"
    if one.kind is Kind.ACQUIRE:
        what += f" {'exclusive' if one.exclusive else 'shared'}, grant {one.grant}"
        if one.token and one.answered:
            told += f", token {one.token}"
    elif one.kind is Kind.WRITE:
        what += f" with token {one.token}" + (f" to {one.store}" if one.store else "")
    else:
        what += f" of grant {one.grant}"
    if one.kind in (Kind.ACQUIRE, Kind.RENEW):
        what += " without end" if one.lease_ns == NEVER_NS else f", lease {one.lease_ns / NS_PER_MS:,.0f} ms"
    if one.reason:
        told += f" ({one.reason})"
    answered = f" to {_at(one.return_ns, origin_ns)}" if one.answered else ""
    return f"{who}: {what}: {told} [{_at(one.call_ns, origin_ns)}{answered}] {one.place}"


def _at(time_ns: int, origin_ns: int) -> str:
    return f"+{(time_ns - origin_ns) / NS_PER_MS:,.3f} ms"


def _reason(
    stuck: Operation, why: Blocked | None, holders: tuple[Holder, ...], prefix: Sequence[Operation], origin_ns: int
) -> str:
    """The contradiction in words."""
    if why is None:
        return f"{stuck.owner}'s {DONE[stuck.kind]} fits into no order with those before it"
    first = next((one for one in prefix if one.kind is Kind.ACQUIRE and one.token == why.token), None)
    return SAID[why.rule].format(
        who=stuck.owner,
        what=DONE[stuck.kind],
        lost="told the end of the lease" if stuck.kind is Kind.EXPIRE else f"refused the {DONE[stuck.kind]}",
        mode="exclusively" if stuck.exclusive else "shared",
        grant=stuck.grant,
        token=stuck.token,
        other=why.token,
        granted=f", granted to {first.owner}" if first else "",
        whose=why.against[0].owner if why.against else "nobody",
        held=_held(why, origin_ns),
        holders="".join(f"; {one.owner} held it with token {one.token}" for one in why.against or holders),
        answered=_at(stuck.return_ns, origin_ns),
        possible=_at(why.bound_ns, origin_ns),
    )


def _held(why: Blocked, origin_ns: int) -> str:
    """Who held, and until when at least."""
    parts = []
    for one in why.against:
        mode = "exclusively" if one.exclusive else "shared"
        lease = "without end" if one.ends_ns == NEVER_NS else f"that cannot have been over before {_at(one.ends_ns, origin_ns)}"
        parts.append(f"{one.owner} held it {mode} with token {one.token}, not released, on a lease {lease}")
    return "; ".join(parts)
