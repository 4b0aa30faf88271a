"""Countdown latches: whoever waits goes on when so many things have happened.

One machine holds the latches of one partition. What holds after every command:

* What remains only goes down, and never below 0. At 0 the latch is open for ever: whoever waits goes on, and whoever asks later.
* A count-down counts once: its id is remembered as long as the latch counts, and an open one has nothing to count.
* The first use says how many there are, and everybody names the same. There is no way to count up; a new latch under an old name
  is made by the first use after a removal, and has a larger token.
* A waiter gives up when its time is over, and is forgotten when it is not heard of within its lease.

            first use    ┌──────────┐  remaining 0    ┌──────┐
           ─────────────▶│ counting │────────────────▶│ open │      ids counted are forgotten
                         └──────────┘                 └──────┘
                              └──────── removed ──────────┘        who waits is refused

After `java.util.concurrent.CountDownLatch`. Not promised: that an open latch is remembered longer than `open_max` later ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from processors.core.coordination.latch_words import (
    AwaitLatch,
    CountDown,
    Counted,
    LatchLimits,
    Opened,
    Outcome,
    Removed,
    RemoveLatch,
)
from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Row
from processors.core.coordination.request_checks import Problem, command_problem, range_problem, waiting_problem
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from processors.core.coordination.waiters import Waiter, gone, hear_again, new_waiter
from streams.core.at import At

__all__ = ["Latches"]

LATCH: Final = "l"
COUNTED: Final = "c"
_WHAT: Final = "the latch"
_ENDS: Final = frozenset({"refused", "timed_out", "opened"})


class Latch:
    """One latch. Its row is ["l", name]: [count, remaining, token, number].

    Attributes:
        number: Grows from each that opens to the next; 0 while it counts.
        counted: The ids that were counted, while it counts; each has a row.
        waiting: Who waits, by request id, in the order in which they came.
    """

    __slots__ = ("count", "counted", "number", "remaining", "token", "waiting")

    def __init__(self, count: int, remaining: int, token: int, number: int = 0) -> None:
        self.count, self.remaining, self.token, self.number = count, remaining, token, number
        self.counted: set[str] = set()
        self.waiting: dict[str, None] = {}

    def row(self) -> Row:
        """Return its row."""
        return (self.count, self.remaining, self.token, self.number)


class Mark:
    """An id that was counted. Its row is ["c", latch, id]: [what remained then]."""

    __slots__ = ("remaining",)

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining

    def row(self) -> Row:
        """Return its row."""
        return (self.remaining,)


class Latches:
    """The latches of one partition; see the module."""

    def __init__(self, limits: LatchLimits | None = None) -> None:
        self.limits = limits or LatchLimits()
        self._ledger: Ledger[Waiter] = Ledger(ended_max=self.limits.ended_max)
        self._latches: dict[str, Latch] = {}
        self._marks: dict[tuple[str, str], Mark] = {}
        self._open: dict[str, None] = {}
        """The names of open ones, in the order in which they opened."""
        self._ledger.kinds.update({LATCH: self._latches, COUNTED: self._marks})

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: LatchLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        machine = cls(limits)
        ledger, latches, marks = machine._ledger, machine._latches, machine._marks
        for key, row in ledger.load(rows, Waiter.of):
            if key[0] == LATCH:
                latches[str(key[1])] = Latch(*row)
            else:
                marks[str(key[1]), str(key[2])] = Mark(*row)
        for name, request_id in marks:
            latches[name].counted.add(request_id)
        for waiter in sorted(ledger.requests.values(), key=lambda one: one.order):
            latches[waiter.name].waiting[waiter.request_id] = None
            ledger.due.set(waiter.request_id, waiter.due_ms)
        opened = sorted((one.number, name) for name, one in latches.items() if one.number)
        machine._open = {name: None for _, name in opened}
        return machine

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._ledger.due.next_ms()

    # ---- commands

    def count_down(self, asked: CountDown, at: At) -> list[Outcome]:
        """Count: `Counted`, and `Opened` for all who wait where nothing remains."""
        outcomes, name = self.tick(at), asked.name
        who = (asked.owner, asked.request_id, asked.route, name)
        problem = command_problem(asked.request_id, asked.owner, name, _WHAT)
        problem = problem or range_problem("bad_count", "by", asked.by, 1, self.limits.count_max)
        latch = self._latch(name, asked.count, at) if problem is None else problem
        if not isinstance(latch, Latch):
            outcomes.append(Refused(*who, *latch))
            return outcomes
        mark = self._marks.get((name, asked.request_id))
        if mark is not None or not latch.remaining:
            outcomes.append(Counted(*who, latch.token, latch.count, mark.remaining if mark else 0, repeated=True))
            return outcomes
        latch.remaining = max(0, latch.remaining - asked.by)
        self._ledger.touch(LATCH, name)
        outcomes.append(Counted(*who, latch.token, latch.count, latch.remaining))
        if latch.remaining:
            latch.counted.add(asked.request_id)
            self._marks[name, asked.request_id] = Mark(latch.remaining)
            self._ledger.touch(COUNTED, name, asked.request_id)
        else:
            self._opens(name, latch, outcomes)
        return outcomes

    def wait(self, asked: AwaitLatch, at: At) -> list[Outcome]:
        """Wait: `Opened` where it is open, else `Queued`, with that or `TimedOut` to come."""
        outcomes, ledger, name = self.tick(at), self._ledger, asked.name
        who = (asked.owner, asked.request_id, asked.route, name)
        if problem := waiting_problem(asked, self.limits, _WHAT):
            outcomes.append(Refused(*who, *problem))
        elif reused := ledger.reused(asked.request_id, asked.owner, name, asked.route, ends=_ENDS):
            outcomes.append(reused)
        elif (waiter := ledger.requests.get(asked.request_id)) is not None:
            hear_again(ledger, waiter, asked.route, at)
            outcomes.append(Queued(*waiter.who, (), repeated=True))
        elif (past := ledger.ended.get(asked.request_id)) is not None:
            again = ledger.repeated(asked.request_id, past, asked.route)
            token, count = past.arguments if again is None else (0, 0)
            outcomes.append(again or Opened(*who, token, count, repeated=True))
        elif asked.again:
            outcomes.append(ledger.forgotten(asked.request_id, asked.owner, name, asked.route))
        else:
            latch = self._latch(name, asked.count, at)
            if not isinstance(latch, Latch):
                outcomes.append(Refused(*who, *latch))
            elif latch.number:
                outcomes.append(Opened(*who, latch.token, latch.count, repeated=True))
            elif problem := self._cannot_wait(latch, name):
                ledger.remember(asked.request_id, asked.owner, name, "refused", problem)
                outcomes.append(Refused(*who, *problem))
            elif asked.wait_ms == 0:
                ledger.remember(asked.request_id, asked.owner, name, "timed_out", (0,))
                outcomes.append(TimedOut(*who, 0))
            else:
                waiter = new_waiter(ledger, asked, asked.route, at, order=ledger.next_token(at.token()))
                latch.waiting[asked.request_id] = None
                ledger.keep(waiter, waiter.due_ms)
                outcomes.append(Queued(*who, ()))
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """Wait no more."""
        outcomes = self.tick(at)
        waiter = self._ledger.requests.get(request_id)
        if problem := identity_problem(request_id, owner):
            outcomes.append(Refused(owner, request_id, route, "", *problem))
        elif waiter is None or waiter.owner != owner:
            text = "nobody of this owner waits under this id: the waiting ended, or never was"
            outcomes.append(Refused(owner, request_id, route, "" if waiter is None else waiter.name, "not_waiting", text))
        else:
            del self._latches[waiter.name].waiting[request_id]
            self._refuse(waiter, ("cancelled", "the waiting was cancelled by its owner"), outcomes)
        return outcomes

    def remove(self, asked: RemoveLatch, at: At) -> list[Outcome]:
        """Forget a latch; `Removed`, after `Refused` for all who wait for it."""
        outcomes, ledger, name = self.tick(at), self._ledger, asked.name
        who = (asked.owner, asked.request_id, asked.route, name)
        if problem := command_problem(asked.request_id, asked.owner, name, _WHAT):
            outcomes.append(Refused(*who, *problem))
            return outcomes
        if reused := ledger.reused(asked.request_id, asked.owner, name, asked.route, ends=("removed",), waits=False):
            outcomes.append(reused)
            return outcomes
        if (past := ledger.ended.get(asked.request_id)) is not None:
            outcomes.append(Removed(*who, past.arguments[0], repeated=True))
            return outcomes
        latch, token = self._latches.get(name), 0
        if latch is not None and asked.token in (None, latch.token):
            token = latch.token
            text = f"the latch was removed by {asked.owner}: its next use makes a new one"
            for request_id in latch.waiting:
                self._refuse(ledger.requests[request_id], ("removed", text), outcomes)
            self._forget_marks(name, latch)
            self._forget(name)
        outcomes.append(Removed(*who, token, repeated=not token))
        ledger.remember(asked.request_id, asked.owner, name, "removed", (token,))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: waiters give up, or are taken for dead."""
        outcomes: list[Outcome] = []
        due = self._ledger.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        for request_id in self._ledger.due.take(at.now_ms):
            waiter = self._ledger.requests[request_id]
            del self._latches[waiter.name].waiting[request_id]
            outcomes.append(gone(self._ledger, waiter, at))
        return outcomes

    # ---- inside

    def _latch(self, name: str, count: int | None, at: At) -> Latch | Problem:
        """Return the latch of a name, made where there is none, or why there is none."""
        latch = self._latches.get(name)
        if count is not None and (problem := range_problem("bad_count", "count", count, 1, self.limits.count_max)):
            return problem
        if latch is not None:
            if count in (None, latch.count):
                return latch
            return "wrong_count", f"{name} was made with a count of {latch.count}, and {count} is named: all name the same"
        if count is None:
            return "no_latch", f"there is no latch {name}: name a count to make it"
        if len(self._latches) - len(self._open) >= self.limits.latches_max:
            return "full", f"{self.limits.latches_max} latches count on this partition: remove some, or use more partitions"
        latch = self._latches[name] = Latch(count, count, self._ledger.next_token(at.token()))
        self._ledger.touch(LATCH, name)
        return latch

    def _cannot_wait(self, latch: Latch, name: str) -> Problem | None:
        limits = self.limits
        if len(self._ledger.requests) >= limits.requests_max:
            return "full", f"{limits.requests_max} requests wait on this partition: let some end, or use more partitions"
        if len(latch.waiting) >= limits.waiters_max:
            return "queue_full", f"{limits.waiters_max} requests wait for {name}: try again when some have ended"
        return None

    def _refuse(self, waiter: Waiter, problem: Problem, outcomes: list[Outcome]) -> None:
        outcomes.append(Refused(*waiter.who, *problem))
        self._ledger.end(waiter, "refused", problem)

    def _opens(self, name: str, latch: Latch, outcomes: list[Outcome]) -> None:
        latch.number = self._ledger.next_number()
        self._forget_marks(name, latch)
        for request_id in latch.waiting:
            waiter = self._ledger.requests[request_id]
            self._ledger.end(waiter, "opened", (latch.token, latch.count))
            outcomes.append(Opened(*waiter.who, latch.token, latch.count))
        latch.waiting = {}
        self._open[name] = None
        if len(self._open) > self.limits.open_max:
            self._forget(next(iter(self._open)))

    def _forget_marks(self, name: str, latch: Latch) -> None:
        for request_id in latch.counted:
            del self._marks[name, request_id]
            self._ledger.touch(COUNTED, name, request_id)
        latch.counted = set()

    def _forget(self, name: str) -> None:
        del self._latches[name]
        self._open.pop(name, None)
        self._ledger.touch(LATCH, name)
