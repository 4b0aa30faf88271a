"""What a leased lock with fencing tokens may do: the sequential model that a history is judged by.

A state is who holds, the largest token, what each store has seen, and *now*, the earliest time at which all steps so far can have
happened. A step happens at ``max(now, call)`` or later, and not after its answer.

    step                    asks of the state                                          makes of it
    acquire ok              token > largest (or the token of a live grant of the       the holder; lease ends at now + lease;
                            same owner: reentrant); nobody holds against it            token is the largest
    acquire refused "held"  somebody holds                                             -
    acquire unknown         nobody holds against it                                    as ok, with some token beyond the largest,
                                                                                       or one that the operation assumes
    release ok, unknown     the grant is held, by this owner                           without the holder
    release ok, once more   the grant was released, by this owner                      -
    renew ok                the grant is held, by this owner                           lease ends at now + lease
    release, renew refused, the grant is not held by this owner                        -
      expire
    write ok                token ≥ what the store has seen (guard `seen`), or         the store has seen the token
                            = the largest, and none beyond it (guard `granted`)
    write refused           token < largest or one beyond it, or not of a held grant   -

**Leases end by being over.** Where a step asks that somebody does not hold, *now* moves on to the end of the lease, as if it
ended there and not before; nothing ever asks that a lease has ended by some time (a service may be late: that is no double
holder). So every constraint on *now* is a lower bound, and the earliest *now* is the best one: a state that is later in *now* or
in the end of a lease allows nothing more. This makes steps deterministic although leases run in real time, and lets a search
forget a state that another one dominates.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from processors.core.verify.operations import NEVER_NS, Kind, Operation, Outcome

__all__ = ["HELD", "Blocked", "Guard", "Holder", "LockModel", "Rule", "State"]

HELD: Final = "held"
"""The reason of a refusal that is judged: the lock was held."""


class Guard(StrEnum):
    """What a guarded store compares a write's token with."""

    SEEN = "seen"
    """The largest token that this store has accepted: what a store can know by itself."""
    GRANTED = "granted"
    """The largest token that was granted: what a store beside the lock can know."""


class Rule(StrEnum):
    """Why a step is not possible."""

    HELD = "held"
    TOKEN = "token"  # noqa: S105 a name
    NOT_HELD = "not held"
    NOT_OWNER = "not owner"
    STILL_HELD = "still held"
    FREE = "free"
    STALE_WRITE = "stale write"
    UNGRANTED_WRITE = "ungranted write"
    WRITE_REFUSED = "write refused"
    LATE = "late"


class Holder(NamedTuple):
    """A grant that is held; its token is 0 where no one was told."""

    grant: str
    owner: str
    exclusive: bool
    token: int
    ends_ns: int


class State(NamedTuple):
    """A state of one lock; see the module's docstring. `beyond`: a token that no one was told is larger than `largest`."""

    holders: tuple[Holder, ...] = ()
    largest: int = 0
    beyond: bool = False
    seen: tuple[tuple[str, int], ...] = ()
    released: frozenset[tuple[str, str]] = frozenset()
    now_ns: int = 0


@dataclass(frozen=True, slots=True)
class Blocked:
    """A step that is not possible.

    Attributes:
        rule: Why.
        against: Who holds.
        bound_ns: When it would have been possible, at the earliest; ``NEVER_NS`` for never.
        token: The token that stands against it.
    """

    rule: Rule
    against: tuple[Holder, ...] = ()
    bound_ns: int = NEVER_NS
    token: int = 0


@dataclass(frozen=True, slots=True)
class LockModel:
    """The model.

    Attributes:
        guard: What guarded stores compare with.
        slack_ns: By how much a lease may be over early: a service that counts milliseconds cuts off parts of them.
        repeated: Grants that are released more than once: that they were is part of the state.
    """

    guard: Guard = Guard.SEEN
    slack_ns: int = 0
    repeated: frozenset[str] = frozenset()

    def step(self, state: State, operation: Operation) -> State | Blocked:
        """Return the state after an operation, or why it is not possible in this state."""
        kind, outcome = operation.kind, operation.outcome
        now_ns = max(state.now_ns, operation.call_ns)
        if now_ns > operation.return_ns:
            return Blocked(Rule.LATE, bound_ns=now_ns)
        if kind is Kind.ACQUIRE:
            return self._refused(state, now_ns) if outcome is Outcome.REFUSED else self._acquire(state, operation, now_ns)
        if kind is Kind.WRITE:
            if outcome is Outcome.REFUSED:
                return _write_refused(state, operation, now_ns)
            return self._write(state, operation, now_ns)
        if kind is Kind.EXPIRE or outcome is Outcome.REFUSED:
            ended = tuple(one for one in state.holders if one.grant == operation.grant and one.owner == operation.owner)
            return _without(state, ended, operation, now_ns, Rule.STILL_HELD)
        return self._end_or_renew(state, operation, now_ns)

    def _acquire(self, state: State, operation: Operation, now_ns: int) -> State | Blocked:
        owner, token = operation.owner, operation.token
        if token and token <= state.largest and not any(one.owner == owner and one.token == token for one in state.holders):
            return Blocked(Rule.TOKEN, token=state.largest)
        against = tuple(one for one in state.holders if one.owner != owner and (operation.exclusive or one.exclusive))
        freed = _without(state, against, operation, now_ns, Rule.HELD)
        if isinstance(freed, Blocked):
            return freed
        holder = Holder(operation.grant, owner, operation.exclusive, token, self._end(freed.now_ns, operation))
        beyond = not token or (state.beyond and token <= state.largest)
        return freed._replace(holders=(*freed.holders, holder), largest=max(state.largest, token), beyond=beyond)

    @staticmethod
    def _refused(state: State, now_ns: int) -> State | Blocked:
        return state._replace(now_ns=now_ns) if state.holders else Blocked(Rule.FREE)

    def _end_or_renew(self, state: State, operation: Operation, now_ns: int) -> State | Blocked:
        """A release that took effect, or a renewal."""
        name = (operation.grant, operation.owner)
        held = next((one for one in state.holders if one.grant == operation.grant), None)
        if held is None:
            if operation.kind is Kind.RELEASE and operation.answered and name in state.released:
                return state._replace(now_ns=now_ns)
            return Blocked(Rule.NOT_HELD, state.holders)
        if held.owner != operation.owner:
            return Blocked(Rule.NOT_OWNER, (held,))
        if operation.kind is Kind.RENEW:
            renewed = held._replace(ends_ns=self._end(now_ns, operation))
            return state._replace(holders=tuple(renewed if one is held else one for one in state.holders), now_ns=now_ns)
        released = state.released | {name} if operation.grant in self.repeated else state.released
        holders = tuple(one for one in state.holders if one is not held)
        return state._replace(holders=holders, released=released, now_ns=now_ns)

    def _write(self, state: State, operation: Operation, now_ns: int) -> State | Blocked:
        token, store = operation.token, operation.store
        if self.guard is Guard.GRANTED:
            if token != state.largest or state.beyond:
                rule = Rule.UNGRANTED_WRITE if token > state.largest else Rule.STALE_WRITE
                return Blocked(rule, token=state.largest)
            return state._replace(now_ns=now_ns)
        seen = next((largest for name, largest in state.seen if name == store), 0)
        if token < seen:
            return Blocked(Rule.STALE_WRITE, token=seen)
        others = tuple(one for one in state.seen if one[0] != store)
        return state._replace(seen=tuple(sorted((*others, (store, token)))), now_ns=now_ns)

    def _end(self, now_ns: int, operation: Operation) -> int:
        """When a lease that begins now may be over, at the earliest."""
        if operation.lease_ns == NEVER_NS:
            return NEVER_NS
        return max(now_ns, min(now_ns + operation.lease_ns - self.slack_ns, NEVER_NS - 1))


def _write_refused(state: State, operation: Operation, now_ns: int) -> State | Blocked:
    if operation.token < state.largest or (operation.token == state.largest and state.beyond):
        return state._replace(now_ns=now_ns)
    ended = tuple(one for one in state.holders if one.token == operation.token)
    return _without(state, ended, operation, now_ns, Rule.WRITE_REFUSED)


def _without(state: State, ended: tuple[Holder, ...], operation: Operation, now_ns: int, rule: Rule) -> State | Blocked:
    """The state in which the leases of some are over, as early as they may be; blocked where that is after the answer."""
    if not ended:
        return state._replace(now_ns=now_ns)
    over_ns = max(now_ns, *(one.ends_ns for one in ended))
    if over_ns > operation.return_ns or over_ns == NEVER_NS:
        return Blocked(rule, tuple(one for one in ended if one.ends_ns > operation.return_ns or one.ends_ns == NEVER_NS), over_ns)
    return state._replace(holders=tuple(one for one in state.holders if one not in ended), now_ns=over_ns)
