"""Which operations a verdict depends on: those without an answer double the orders there are, and most are of no account."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from processors.core.verify.model import HELD
from processors.core.verify.operations import Kind, Operation, Outcome

__all__ = ["telling"]


def telling(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations of one lock that a verdict depends on, in the order of their calls.

    What is left out fits into every order that the others have. An acquire that timed out, or was refused for another reason than
    that the lock was held, asks nothing of the state and changes nothing. Without an answer, a write, a renewal
    that does not shorten the lease, or what a stranger asked only ever forbids something, and may not have taken effect. So may
    an acquire, unless something that was seen later may come of it: its grant was seen alive, somebody was refused because the
    lock was held, or a write because of its token, or it lent its token to a nested grant, or to a write before that.

    An acquire without an answer stands there several times where it may have been a nested one, or the one that another was
    nested in: with no token, and with each that it may have had.
    """
    facts = _Facts.of(operations)
    chosen: list[Operation] = []
    for one in operations:
        if one.answered:
            if one.kind is not Kind.ACQUIRE or one.outcome is Outcome.OK or _is_held_refusal(one):
                chosen.append(one)
        elif one.kind is Kind.RELEASE or (one.kind is Kind.RENEW and one.lease_ns < facts.leases_ns.get(one.grant, 0)):
            if facts.owners.get(one.grant) == one.owner:
                chosen.append(one)
        elif one.kind is Kind.ACQUIRE and facts.tells(one):
            chosen.append(one)
            chosen += (replace(one, token=token) for token in sorted(facts.tokens(one)))
    return chosen


def _is_held_refusal(one: Operation) -> bool:
    return one.kind is Kind.ACQUIRE and one.outcome is Outcome.REFUSED and one.reason == HELD


@dataclass(slots=True)
class _Facts:
    """What was seen of a lock.

    Attributes:
        owners: By grant.
        leases_ns: The longest lease of each grant.
        alive: Grants that were released or renewed.
        refused_ns: The last answer that may be due to a grant that no one was told of.
        released_ns: By grant, when its release was known.
        granted: Answered acquires by owner.
        all_granted: And all of them.
        early: Tokens of writes that were asked before any client had been told of the token, with the time of the answer.
    """

    owners: dict[str, str] = field(default_factory=dict)
    leases_ns: dict[str, int] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    refused_ns: int = -1
    released_ns: dict[str, int] = field(default_factory=dict)
    granted: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    all_granted: list[Operation] = field(default_factory=list)
    early: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> Self:
        facts = cls()
        for one in operations:
            if one.kind in (Kind.ACQUIRE, Kind.RENEW):
                facts.leases_ns[one.grant] = max(one.lease_ns, facts.leases_ns.get(one.grant, 0))
            if one.kind is Kind.ACQUIRE:
                facts.owners[one.grant] = one.owner
                if one.outcome is Outcome.OK:
                    facts.granted[one.owner].append(one)
                    facts.all_granted.append(one)
            if one.outcome is Outcome.OK and one.kind in (Kind.RELEASE, Kind.RENEW):
                facts.alive.add(one.grant)
                if one.kind is Kind.RELEASE:
                    facts.released_ns[one.grant] = min(one.return_ns, facts.released_ns.get(one.grant, one.return_ns))
            if _is_held_refusal(one) or (one.kind is Kind.WRITE and one.outcome is Outcome.REFUSED):
                facts.refused_ns = max(facts.refused_ns, one.return_ns)
        told_ns: dict[int, int] = {}
        for one in facts.all_granted:
            told_ns[one.token] = min(one.return_ns, told_ns.get(one.token, one.return_ns))
        written = [one for one in operations if one.kind is Kind.WRITE and one.outcome is Outcome.OK]
        facts.early = [(one.token, one.return_ns) for one in written if one.call_ns < told_ns.get(one.token, -1)]
        return facts

    def tells(self, one: Operation) -> bool:
        """Whether an acquire without an answer may explain something."""
        if one.call_ns <= self.refused_ns or one.grant in self.alive or any(self._nested(one)):
            return True
        return any(back_ns >= one.call_ns and token in self.tokens(one) for token, back_ns in self.early)

    def _nested(self, one: Operation) -> Iterator[Operation]:
        """Later acquires of its owner whose token is not larger than all others, and may be its own."""
        for later in self.granted.get(one.owner, ()):
            if later.return_ns >= one.call_ns and any(
                other.token >= later.token
                and other is not later
                and other.call_ns <= later.return_ns
                and (other.owner == one.owner or not (other.exclusive or one.exclusive))
                for other in self.all_granted
            ):
                yield later

    def tokens(self, one: Operation) -> set[int]:
        """Tokens that it may have had: of its owner's grants that were not released before, or came later."""
        return {
            other.token
            for other in self.granted.get(one.owner, ())
            if other.return_ns >= one.call_ns or self.released_ns.get(other.grant, one.call_ns) >= one.call_ns
        }
