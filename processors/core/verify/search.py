"""Is there an order? The search for a linearization of one lock's history.

The tree search of Wing & Gong ("Testing and Verifying Concurrent Objects", JPDC 17, 1993) with the memory of Lowe ("Testing
for linearizability", CCPE 29(4), 2017), as in Porcupine (A. Athalye, 2017): calls and answers stand in a doubly linked list in
the order of time; an operation can be next if its call stands before the first answer of another; it is lifted out of the
list, and put back on the way back. A set of done operations with a state is entered once, and here not at all where a state
that dominates it (:mod:`processors.core.verify.model`) was entered with the same set.

    a  ├── acquire ──┤              ├─ release ─┤
    b        ├──────────── acquire ────────────────┤        order: a's acquire, a's release, b's acquire

Two things keep it short. Tokens grow, so an acquire can't be next while one with a smaller token is to come. An operation
without an answer need not be in the order at all, and of several that share a grant at most one is. The first answer that no
order gets past is where to look for the contradiction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from processors.core.verify.model import Blocked, LockModel, State
from processors.core.verify.operations import NEVER_NS, Kind, Operation, Outcome

__all__ = ["Search", "search"]

HEAD: Final = -1
"""Of the linked list; Python's last element."""
START: Final = State()
"""Nobody holds, nothing was granted."""


@dataclass(slots=True)
class Search:
    """What a search found.

    Attributes:
        linearizable: Whether there is an order; None where the limit on states was reached before that was known.
        states: How many states were entered.
        order: The order, as indexes of operations, where there is one; else the longest before the answer that stands against it.
        stuck: Index of the operation whose answer no order gets past, where there is none.
        why: Why it could not be next, after `order`; None where an acquire with a smaller token had to come before it.
        state: The state after `order`, where there is none.
    """

    linearizable: bool | None
    states: int = 0
    order: tuple[int, ...] = ()
    stuck: int | None = None
    why: Blocked | None = None
    state: State = START


@dataclass(slots=True)
class _Undo:
    """What an operation's step changed."""

    index: int
    state: State
    low: int
    mask: int
    loose: int
    first: int
    rank: int


@dataclass(slots=True)
class _Walk:
    """Where the search is: the operations that are done, the state, and the list of the others."""

    operations: Sequence[Operation]
    needed: Sequence[bool]
    by_token: bool
    nxt: list[int] = field(default_factory=list)
    prv: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    ranked: list[int] = field(default_factory=list)
    state: State = START
    low: int = 0
    mask: int = 0
    loose: int = 0
    first: int = 0
    rank: int = 0
    done: list[_Undo] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.operations)
        self._rank()
        events = [(one.call_ns, 0, index) for index, one in enumerate(self.operations)]
        events += [(self.operations[index].return_ns, 1, index) for index in range(count) if self.needed[index]]
        events.sort()  # a call and an answer at one time: the call is first, the interval is closed
        self.nxt = [HEAD] * (2 * count + 1)
        self.prv = [HEAD] * (2 * count + 1)
        last = HEAD
        needed, loose = 0, dict[object, int]()
        self.bits = [0] * count
        for _, is_answer, index in events:
            node = index + count * is_answer
            if is_answer or self.ranks[index] < 0:
                self.nxt[last], self.prv[node] = node, last
                last = node
            if is_answer:
                self.answers.append(index)
            elif self.needed[index]:
                self.bits[index] = needed
                needed += 1
            else:
                one = self.operations[index]
                self.bits[index] = loose.setdefault(one.grant if one.kind is Kind.ACQUIRE else index, len(loose))
        self.nxt[last], self.prv[HEAD] = HEAD, last

    def _rank(self) -> None:
        """Put the acquires that must be done in the order of their tokens; a token that stands twice may be a nested one."""
        self.ranks = [-1] * len(self.operations)
        times = Counter(one.token for one in self.operations if one.kind is Kind.ACQUIRE)
        if self.by_token:
            self.ranked = [
                index
                for index, one in enumerate(self.operations)
                if self.needed[index] and one.kind is Kind.ACQUIRE and one.outcome is Outcome.OK and times[one.token] == 1
            ]
        self.ranked.sort(key=lambda index: self.operations[index].token)
        for rank, index in enumerate(self.ranked):
            self.ranks[index] = rank

    def begin(self) -> int:
        """The first that may be next: of the acquires in the order of tokens only one may."""
        if self.rank < len(self.ranked):
            index = self.ranked[self.rank]
            if self.operations[index].call_ns <= self.deadline_ns():
                return index
        return self.nxt[HEAD]

    def behind(self, index: int) -> int:
        """The one to try after this one."""
        return self.nxt[HEAD if self.ranks[index] >= 0 else index]

    def overtakes(self, index: int, after: State) -> bool:
        """Whether the step would leave an acquire with a smaller token behind."""
        rank = self.rank + (self.ranks[index] >= 0)
        return rank < len(self.ranked) and after.largest >= self.operations[self.ranked[rank]].token > self.state.largest

    def is_out(self, index: int) -> bool:
        """Whether it cannot be done any more: another one with its grant was."""
        return not self.needed[index] and bool(self.loose >> self.bits[index] & 1)

    def deadline_ns(self) -> int:
        """Of the first answer that is still to come: whatever is next happens before it."""
        return self.operations[self.answers[self.first]].return_ns

    def mark(self, index: int) -> tuple[int, int, int]:
        """The set of done operations with one more, as a short key: all below `low`, and two bit sets."""
        if not self.needed[index]:
            return self.low, self.mask, self.loose | 1 << self.bits[index]
        low, mask = self.low, self.mask | 1 << (self.bits[index] - self.low)
        if mask & 1:
            ones = (mask ^ (mask + 1)).bit_length() - 1
            low, mask = low + ones, mask >> ones
        return low, mask, self.loose

    def lift(self, index: int, after: State, marks: tuple[int, int, int]) -> None:
        """Do an operation."""
        self.done.append(_Undo(index, self.state, self.low, self.mask, self.loose, self.first, self.rank))
        self.state = after
        self.low, self.mask, self.loose = marks
        self.rank += self.ranks[index] >= 0
        for node in self._nodes(index):
            before, behind = self.prv[node], self.nxt[node]
            self.nxt[before], self.prv[behind] = behind, before
        while self.first < len(self.answers) and self._is_done(self.answers[self.first]):
            self.first += 1

    def _nodes(self, index: int) -> tuple[int, ...]:
        """Of an operation in the list: its call, unless that waits for its rank, and its answer."""
        count = len(self.operations)
        return tuple(node for node, stands in ((index, self.ranks[index] < 0), (index + count, self.needed[index])) if stands)

    def _is_done(self, index: int) -> bool:
        place = self.bits[index] - self.low
        return place < 0 or bool(self.mask >> place & 1)

    def unlift(self) -> int:
        """Take the last one back; its index."""
        undo = self.done.pop()
        for node in reversed(self._nodes(undo.index)):
            self.nxt[self.prv[node]] = self.prv[self.nxt[node]] = node
        self.state, self.low, self.mask, self.loose = undo.state, undo.low, undo.mask, undo.loose
        self.first, self.rank = undo.first, undo.rank
        return undo.index


def search(
    operations: Sequence[Operation], model: LockModel, *, states_max: int, cut_ns: int = NEVER_NS, by_token: bool = True
) -> Search:
    """Search for an order of one lock's operations.

    Args:
        operations: In the order of their calls.
        model: What a lock may do.
        states_max: States to enter before the search gives up.
        cut_ns: Operations that were answered later need not be in the order, and none that was called later is.
        by_token: Leave out orders in which an acquire comes before one with a smaller token; the answer is the same without.
    """
    chosen = [index for index, one in enumerate(operations) if one.call_ns <= cut_ns]
    shown = [operations[index] for index in chosen]
    walk = _Walk(shown, [one.answered and one.return_ns <= cut_ns for one in shown], by_token)
    found = _run(walk, model, states_max)
    found.order = tuple(chosen[index] for index in found.order)
    found.stuck = None if found.stuck is None else chosen[found.stuck]
    return found


def _run(walk: _Walk, model: LockModel, states_max: int) -> Search:
    """The depth-first search."""
    count = len(walk.operations)
    memory: dict[object, list[tuple[int, ...]]] = {}
    found = Search(linearizable=None)
    best = (-1, -1)  # answers got past, operations done
    node = walk.begin() if walk.answers else HEAD
    while walk.first < len(walk.answers):
        if node != HEAD and node < count:  # a call
            after = model.step(walk.state, walk.operations[node])
            if (
                isinstance(after, Blocked)
                or walk.is_out(node)
                or after.now_ns > walk.deadline_ns()
                or walk.overtakes(node, after)
                or not _is_new(memory, marks := walk.mark(node), after)
            ):
                node = walk.behind(node)
                continue
            found.states += 1
            if found.states > states_max:
                return found
            walk.lift(node, after, marks)
            node = walk.begin() if walk.first < len(walk.answers) else HEAD
            continue
        if (walk.first, len(walk.done)) > best:
            best = (walk.first, len(walk.done))
            _remember(found, walk, model)
        if not walk.done:
            found.linearizable = False
            return found
        node = walk.behind(walk.unlift())
    found.linearizable = True
    found.order = tuple(one.index for one in walk.done)
    found.stuck = found.why = None
    return found


def _is_new(memory: dict[object, list[tuple[int, ...]]], marks: tuple[int, int, int], after: State) -> bool:
    """Whether no state that allows as much was entered with the same operations done; it is remembered."""
    holders = after.holders if len(after.holders) < 2 else tuple(sorted(after.holders))  # who came first is of no account
    key = (marks, after.largest, after.beyond, after.seen, after.released, tuple((one.grant, one.token) for one in holders))
    times = (after.now_ns, *(one.ends_ns for one in holders))
    entered = memory.get(key)
    if entered is None:
        memory[key] = [times]
        return True
    if any(all(early <= late for early, late in zip(one, times, strict=True)) for one in entered):
        return False
    entered.append(times)
    return True


def _remember(found: Search, walk: _Walk, model: LockModel) -> None:
    """The furthest that the search came."""
    found.stuck = walk.answers[walk.first]
    after = model.step(walk.state, walk.operations[found.stuck])
    found.why = after if isinstance(after, Blocked) else None
    found.order = tuple(one.index for one in walk.done)
    found.state = walk.state
