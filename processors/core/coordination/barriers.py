"""Barriers: parties wait for each other, generation after generation.

One machine holds the barriers of one partition. What holds after every command:

* A generation begins with its first arrival, which says how many parties there are, and trips once: at the moment when exactly so
  many different parties wait. Each then learns the generation and how many came before it.
* A generation's number is a token, the log position of its first arrival: those of one barrier grow strictly.
* A party that gives up (its time is over, or it cancels) or dies (it was not heard of within its lease) breaks the generation, or
  withdraws its arrival and lets the others wait on: each party says which for both.
* A broken generation has ended for all who waited, and the barrier stays broken: who comes later is told so, until a reset. A
  reset that names the generation does nothing to another one, so all who hear of the break may ask for it.
* Each arrival ends at most once, and is answered the same when it is asked again, as long as its end is remembered.

                       ┌──────────── first arrival ◀───────────────┐
                       ▼                                           │
                  ┌─────────┐ n wait: tripped ──────────────────▶ none (nothing is kept)
                  │ waiting │ the last withdraws ───────────────▶ none
                  └─────────┘                                      ▲
                       └──── one gives up or dies ──▶ broken ──────┘ reset

After `java.util.concurrent.CyclicBarrier`, where a reset cannot name the generation. Not promised: that a party which has not
arrived lives. The others' time limits are for that.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, Self

from processors.core.coordination.barrier_words import (
    Arrive,
    BarrierLimits,
    Broken,
    Leaving,
    Outcome,
    Reset,
    ResetBarrier,
    Tripped,
)
from processors.core.coordination.ledger import Ledger
from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.lock_rows import Key, Past, Row
from processors.core.coordination.request_checks import Problem, command_problem, range_problem, waiting_problem
from processors.core.coordination.request_words import BEHIND_SHOWN, Queued, Refused
from processors.core.coordination.waiters import Waiter, gone, hear_again, new_waiter
from streams.core.at import At

__all__ = ["Barriers"]

BARRIER: Final = "b"
_WHAT: Final = "the barrier"
_ENDS: Final = frozenset({"refused", "timed_out", "tripped", "broken"})
_LEAVINGS: Final = ("break", "withdraw")


class Barrier:
    """One generation: who waits, or how it broke.

    Attributes:
        code: How it broke; empty while it is whole.
        by: Who broke it.
        number: Grows from each that broke to the next.
        arrived: Request ids by party, in the order in which they came.
    """

    __slots__ = ("arrived", "by", "code", "generation", "number", "parties")

    def __init__(self, parties: int, generation: int, code: str = "", by: str = "", number: int = 0) -> None:
        self.parties, self.generation, self.code, self.by, self.number = parties, generation, code, by, number
        self.arrived: dict[str, str] = {}

    def row(self) -> Row:
        """Return its row."""
        return (self.parties, self.generation, self.code, self.by, self.number)


class Barriers:
    """The barriers of one partition; see the module."""

    def __init__(self, limits: BarrierLimits | None = None) -> None:
        self.limits = limits or BarrierLimits()
        self._ledger: Ledger[Waiter] = Ledger(ended_max=self.limits.ended_max)
        self._barriers: dict[str, Barrier] = {}
        self._broken: dict[str, None] = {}
        """The names of broken ones, in the order in which they broke."""
        self._ledger.kinds[BARRIER] = self._barriers

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Row]], limits: BarrierLimits | None = None) -> Self:
        """Return the machine that wrote these rows."""
        machine = cls(limits)
        ledger, barriers = machine._ledger, machine._barriers
        for key, row in ledger.load(rows, Waiter.of):
            barriers[str(key[1])] = Barrier(*row)
        for waiter in sorted(ledger.requests.values(), key=lambda one: one.order):
            barriers[waiter.name].arrived[waiter.owner] = waiter.request_id
            ledger.due.set(waiter.request_id, waiter.due_ms)
        broken = [(one.number, name) for name, one in barriers.items() if one.code]
        machine._broken = {name: None for _, name in sorted(broken)}
        return machine

    def changes(self) -> dict[Key, Row | None]:
        """Return the rows that changed since the last call, None for those to delete."""
        return self._ledger.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._ledger.due.next_ms()

    # ---- commands

    def arrive(self, asked: Arrive, at: At) -> list[Outcome]:
        """Arrive: `Tripped` for all where this is the last party, else `Queued`, with another answer to come."""
        outcomes, ledger = self.tick(at), self._ledger
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if problem := self._problem(asked):
            outcomes.append(Refused(*who, *problem))
        elif reused := ledger.reused(asked.request_id, asked.owner, asked.name, asked.route, ends=_ENDS):
            outcomes.append(reused)
        elif (waiter := ledger.requests.get(asked.request_id)) is not None:
            hear_again(ledger, waiter, asked.route, at)
            outcomes.append(self._queued(waiter, repeated=True))
        elif (past := ledger.ended.get(asked.request_id)) is not None:
            outcomes.append(self._repeated(asked, past))
        elif asked.again:
            outcomes.append(ledger.forgotten(asked.request_id, asked.owner, asked.name, asked.route))
        elif (barrier := self._barriers.get(asked.name)) is not None and barrier.code:
            outcomes.append(Broken(*who, barrier.generation, barrier.code, barrier.by, repeated=True))
            ledger.remember(asked.request_id, asked.owner, asked.name, "broken", (barrier.generation, barrier.code, barrier.by))
        elif problem := self._cannot_enter(asked, barrier):
            ledger.remember(asked.request_id, asked.owner, asked.name, "refused", problem)
            outcomes.append(Refused(*who, *problem))
        else:
            self._enter(asked, at, outcomes)
        return outcomes

    def cancel(self, request_id: str, owner: str, at: At, *, route: str = "") -> list[Outcome]:
        """Give up an arrival that waits: it is refused as cancelled, and what becomes of the generation is as it was chosen."""
        outcomes = self.tick(at)
        waiter = self._ledger.requests.get(request_id)
        if problem := identity_problem(request_id, owner):
            outcomes.append(Refused(owner, request_id, route, "", *problem))
        elif waiter is None or waiter.owner != owner:
            past = self._ledger.ended.get(request_id)
            name = waiter.name if waiter is not None else past.resources[0] if past is not None else ""
            text = "no arrival of this owner waits under this id: it ended, or never was"
            outcomes.append(Refused(owner, request_id, route, name, "not_waiting", text))
        else:
            refusal = ("cancelled", "the arrival was cancelled by its party")
            outcomes.append(Refused(*waiter.who, *refusal))
            self._ledger.end(waiter, "refused", refusal)
            self._left(waiter, "cancelled", outcomes)
        return outcomes

    def reset(self, asked: ResetBarrier, at: At) -> list[Outcome]:
        """Make a barrier as new; `Reset`, after `Broken` for all who wait there."""
        outcomes, ledger, name = self.tick(at), self._ledger, asked.name
        who = (asked.owner, asked.request_id, asked.route, name)
        if problem := command_problem(asked.request_id, asked.owner, name, _WHAT):
            outcomes.append(Refused(*who, *problem))
            return outcomes
        if reused := ledger.reused(asked.request_id, asked.owner, name, asked.route, ends=("reset",), waits=False):
            outcomes.append(reused)
            return outcomes
        if (past := ledger.ended.get(asked.request_id)) is not None:
            outcomes.append(Reset(*who, past.arguments[0], repeated=True))
            return outcomes
        barrier, ended = self._barriers.get(name), 0
        if barrier is not None and asked.generation in (None, barrier.generation):
            ended = barrier.generation
            if not barrier.code:
                self._break(name, barrier, "reset", asked.owner, outcomes)
            self._forget(name)
        outcomes.append(Reset(*who, ended, repeated=not ended))
        ledger.remember(asked.request_id, asked.owner, name, "reset", (ended,))
        return outcomes

    def tick(self, at: At) -> list[Outcome]:
        """Let time pass: parties give up, or are taken for dead."""
        outcomes: list[Outcome] = []
        due = self._ledger.due.next_ms()
        if due is None or due > at.now_ms:
            return outcomes
        for request_id in self._ledger.due.take(at.now_ms):
            waiter = self._ledger.requests[request_id]
            outcomes.append(gone(self._ledger, waiter, at))
            self._left(waiter, "timed_out" if waiter.gives_up else "died", outcomes)
        return outcomes

    # ---- what is refused, and what is known

    def _problem(self, asked: Arrive) -> Problem | None:
        problem = waiting_problem(asked, self.limits, _WHAT)
        problem = problem or range_problem("bad_parties", "parties", asked.parties, 1, self.limits.parties_max)
        if problem is None and not (asked.on_timeout in _LEAVINGS and asked.on_death in _LEAVINGS):
            text = (
                f"on_timeout is {asked.on_timeout[:40]!r} and on_death is {asked.on_death[:40]!r}: break or withdraw is allowed"
            )
            return "bad_leaving", text
        return problem

    def _cannot_enter(self, asked: Arrive, barrier: Barrier | None) -> Problem | None:
        if len(self._ledger.requests) >= self.limits.requests_max:
            return "full", f"{self.limits.requests_max} parties wait on this partition: let some end, or use more partitions"
        if barrier is None:
            return None
        if asked.parties != barrier.parties:
            text = f"{asked.name} is waited at by {barrier.parties} parties, and {asked.parties} are named: all name the same"
            return "wrong_parties", text
        if asked.owner in barrier.arrived:
            text = f"{asked.owner} waits at {asked.name} already, as {barrier.arrived[asked.owner]}: a party arrives once"
            return "arrived_twice", text
        return None

    def _repeated(self, asked: Arrive, past: Past) -> Outcome:
        who = (asked.owner, asked.request_id, asked.route, asked.name)
        if past.kind == "tripped":
            generation, parties, index = past.arguments
            return Tripped(*who, generation, parties, index, repeated=True)
        if past.kind == "broken":
            generation, code, by = past.arguments
            return Broken(*who, generation, code, by, repeated=True)
        again = self._ledger.repeated(asked.request_id, past, asked.route)
        assert again is not None, "an arrival ends in one of four ways"
        return again

    def _queued(self, waiter: Waiter, *, repeated: bool = False) -> Queued:
        """Say that a party waits; those that it waits for are not known, so those that wait with it are named."""
        others = (owner for owner in self._barriers[waiter.name].arrived if owner != waiter.owner)
        return Queued(*waiter.who, tuple(islice(others, BEHIND_SHOWN)), repeated)

    # ---- what moves

    def _enter(self, asked: Arrive, at: At, outcomes: list[Outcome]) -> None:
        ledger, name = self._ledger, asked.name
        order = ledger.next_token(at.token())
        barrier = self._barriers.get(name)
        if barrier is None:
            barrier = self._barriers[name] = Barrier(asked.parties, order)
            ledger.touch(BARRIER, name)
        waiter = new_waiter(ledger, asked, asked.route, at, order=order, choices=(asked.on_timeout, asked.on_death))
        barrier.arrived[waiter.owner] = waiter.request_id
        ledger.keep(waiter, waiter.due_ms)
        if len(barrier.arrived) == barrier.parties:
            self._trip(name, barrier, outcomes)
        elif asked.wait_ms == 0:
            outcomes += self.tick(at)
        else:
            outcomes.append(self._queued(waiter))

    def _trip(self, name: str, barrier: Barrier, outcomes: list[Outcome]) -> None:
        for index, request_id in enumerate(barrier.arrived.values()):
            waiter = self._ledger.requests[request_id]
            arguments = (barrier.generation, barrier.parties, index)
            self._ledger.end(waiter, "tripped", arguments)
            outcomes.append(Tripped(*waiter.who, *arguments))
        self._forget(name)

    def _left(self, waiter: Waiter, code: str, outcomes: list[Outcome]) -> None:
        """Let the generation of a party that has left break or go on."""
        barrier = self._barriers[waiter.name]
        del barrier.arrived[waiter.owner]
        on_timeout, on_death = waiter.choices
        chosen: Any = on_death if code == "died" else on_timeout
        leaving: Leaving = chosen
        if leaving == "break":
            self._break(waiter.name, barrier, code, waiter.owner, outcomes)
        elif not barrier.arrived:
            self._forget(waiter.name)

    def _break(self, name: str, barrier: Barrier, code: str, by: str, outcomes: list[Outcome]) -> None:
        for request_id in barrier.arrived.values():
            waiter = self._ledger.requests[request_id]
            self._ledger.end(waiter, "broken", (barrier.generation, code, by))
            outcomes.append(Broken(*waiter.who, barrier.generation, code, by))
        barrier.arrived, barrier.code, barrier.by, barrier.number = {}, code, by, self._ledger.next_number()
        self._broken[name] = None
        self._ledger.touch(BARRIER, name)
        if len(self._broken) > self.limits.broken_max:
            self._forget(next(iter(self._broken)))

    def _forget(self, name: str) -> None:
        del self._barriers[name]
        self._broken.pop(name, None)
        self._ledger.touch(BARRIER, name)
