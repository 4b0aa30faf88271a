"""The orchestrator: decides about the sagas of one partition, from the log of commands alone.

What it promises, for every prefix of its log: a saga that was started ends, as *completed*, *compensated* or *cancelled*, or
stands at an incident that an operator can resolve; what was registered is undone in reverse order, each once; an answer counts
once; an id is one saga. A call is told again until it is answered: participants do the same once.

    start ─▶ running ── all nodes have ended ───────────────────────▶ completed
                │ a node failed at last, the deadline, cancel; behind the pivot: an incident
                └──▶ compensating ── the last registered first ─────▶ compensated, cancelled

(Garcia-Molina and Salem 1987, "Sagas"; Richardson's orchestration and its pivot.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Self

from sagas.core.engine.calls import answered
from sagas.core.engine.flow import begin_saga, go
from sagas.core.engine.memory import Key, Memory
from sagas.core.engine.moves import Turn, done, fail, unlock
from sagas.core.engine.nodes import due, lock
from sagas.core.engine.plan import Plan
from sagas.core.engine.state import CHILD, COMPENSATING, ENDED, LOCKING, RUNNING, Instance
from sagas.core.engine.undoing import child_undone, compensate, undo_answered, undo_due, undo_refused
from sagas.core.engine.words import Fields, SagaLimits, Told, to_text
from streams.core.at import At
from streams.core.sagas.schedules import next_ms, start_id

__all__ = ["CANCELLED", "Sagas"]

CANCELLED = "cancelled"
_PAST_PIVOT = "past_pivot", "its pivot has succeeded: it only goes forward"


class Sagas:
    """The sagas of one partition.

    Args:
        limits: What is refused or forgotten.
    """

    def __init__(self, limits: SagaLimits | None = None) -> None:
        self.limits = limits or SagaLimits()
        self.memory = Memory(self.limits)
        self.calls: dict[str, list[Fields]] = {}
        """Calls of this batch by handler; `take_calls` takes them."""
        self._later: deque[tuple[Any, ...]] = deque()

    # ---- state

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Any]], limits: SagaLimits | None = None) -> Self:
        """Return the orchestrator of these rows."""
        machine = cls(limits)
        machine.memory.load(rows)
        return machine

    def changes(self) -> dict[Key, Any | None]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        return self.memory.changes()

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self.memory.due.next_ms()

    def take_calls(self) -> dict[str, list[Fields]]:
        """Return the calls since the last time, by handler and in order."""
        found, self.calls = self.calls, {}
        return found

    # ---- steps

    def turn(self, inst: Instance, at: At, told: list[Told]) -> Turn:
        """Begin a step of a saga."""
        return Turn(inst, at.now_ms, self.limits, told, self._later, self.memory.plans)

    def advance(self, turn: Turn, *, over: bool = False, began: bool = False, route: str = "") -> None:
        """Go on with a saga as far as it can, and say what has happened; then with those that this concerns.

        Args:
            turn: Its step.
            over: Whether nothing is left to undo.
            began: Whether it has begun in this step.
            route: Who started it, if they are told that.
        """
        inst = turn.inst
        if inst.status == RUNNING:
            if inst.happened > self.limits.moments_max and not inst.pivoted and turn.undo is None:
                turn.undo = "too_long", f"more than {self.limits.moments_max} things have happened in it: use child sagas"
            over = turn.undo is None and go(turn)
            if turn.undo is not None:
                over = compensate(turn, *turn.undo)
        if over and inst.status != ENDED:
            self._end(turn, began=began, route=route)
        elif began:
            turn.told.append(Told("started", self._beginning(inst), route, everybody=True))
        elif inst.moments:
            turn.told.append(Told("advanced", {"saga": inst.saga, "moments": inst.moments}, everybody=True))
        inst.moments = []
        self.memory.touch(inst)
        self._sort_out(turn)

    def _sort_out(self, turn: Turn) -> None:
        """Take calls out of what is said: they are told by handler, once a batch."""
        if any(one.kind == "call" for one in turn.told):
            for one in turn.told:
                if one.kind == "call":
                    self.calls.setdefault(one.fields["handler"], []).append(one.fields["call"])
            turn.told[:] = [one for one in turn.told if one.kind != "call"]

    def settle(self, told: list[Told], at: At) -> list[Told]:
        """Do what sagas have left to do to others, and return all that is said."""
        while self._later:
            what, saga, *more = self._later.popleft()
            getattr(self, f"_{what}_later")(saga, *more, told, at)
        return told

    def _beginning(self, inst: Instance) -> Fields:
        definition = inst.plan.definition
        return {
            "saga": inst.saga,
            "definition": definition.name,
            "version": definition.version,
            "input": to_text(inst.input),
            "deadline_ms": inst.deadline_ms,
            "parent": inst.parent,
            "forked_from": inst.forked_from,
            "by": inst.by,
            "moments": inst.moments,
        }

    def _end(self, turn: Turn, *, began: bool, route: str) -> None:
        inst = turn.inst
        if inst.status == COMPENSATING:
            inst.outcome = CANCELLED if inst.code == CANCELLED else "compensated"
        else:
            inst.outcome = "completed"
            inst.result = inst.plan.result(inst.frames[""].scope)
            if len(to_text(inst.result)) > self.limits.chars_max:
                inst.result, inst.code = None, "too_large"
                inst.reason = f"its result has more than {self.limits.chars_max} characters of JSON"
        for path in list(inst.locks):
            unlock(turn, path)
        inst.status, inst.ended_ms = ENDED, turn.now_ms
        inst.note("ended", note=inst.outcome)
        self.memory.end(inst)
        if began:
            turn.told.append(Told("started", self._beginning(inst) | {"moments": []}, route, everybody=True))
        fields = ended(inst)
        routes = inst.routes or [""]
        inst.routes = []
        turn.told.append(Told("ended", fields, routes[0], everybody=True))
        turn.told.extend(Told("ended", dict(fields), one) for one in routes[1:])
        if inst.parent:
            self._later.append(("ended", inst.parent, inst.parent_path, inst.saga))

    # ---- beginnings

    def begin(
        self, saga: str, plan: Plan, given: Any, at: At, told: list[Told], *,  # noqa: ANN401 - any JSON value
        deadline_ms: int = 0, route: str = "", follow: bool = False, **whence: str,
    ) -> None:  # fmt: skip
        """Start a saga."""
        inst = Instance(saga, plan, given, at.now_ms, at.now_ms + (deadline_ms or plan.definition.deadline_ms), **whence)  # type: ignore[arg-type]
        inst.chars = len(to_text(given))
        if follow and route:
            inst.routes.append(route)
        self.memory.add(inst)
        inst.note("started", note=f"by {inst.by}" if inst.by else "")
        turn = self.turn(inst, at, told)
        begin_saga(turn)
        self.advance(turn, began=True, route="" if follow else route)

    def _start_later(self, saga: str, plan: Plan, given: Any, parent: str, path: str, told: list[Told], at: At) -> None:  # noqa: ANN401
        if self.memory.find(saga) is None:
            self.begin(saga, plan, given, at, told, parent=parent, parent_path=path, by=parent)

    def _cancel_later(self, saga: str, by: str, reason: str, told: list[Told], at: At) -> None:
        inst = self.memory.live.get(saga)
        if inst is not None and inst.status == RUNNING and not inst.pivoted:
            self.cancel(inst, f"{by}: {reason}", told, at)

    def cancel(self, inst: Instance, reason: str, told: list[Told], at: At) -> None:
        """Have a saga that runs compensate."""
        turn = self.turn(inst, at, told)
        inst.note("cancel", note=reason)
        turn.undo = CANCELLED, reason
        self.advance(turn)

    def _ended_later(self, parent: str, path: str, child: str, told: list[Told], at: At) -> None:
        """Tell a parent that its child has ended."""
        inst, ended_child = self.memory.live.get(parent), self.memory.find(child)
        if inst is None or ended_child is None:
            return
        turn = self.turn(inst, at, told)
        undo = next((one for one in inst.undos if one.path == path), None)
        if inst.status == COMPENSATING:
            if undo is not None and undo.status == CHILD:
                self._undo_later(child, told, at)
            return
        found = inst.find(path)
        if found is None or found[1].status != CHILD:
            return
        frame, _ = found
        name = path[len(frame.prefix) :]
        if ended_child.outcome == "completed":
            inst.note("answered", path)
            done(turn, frame, name, ended_child.result)
        else:
            fail(turn, frame, name, f"child_{ended_child.outcome}", f"{ended_child.code}: {ended_child.reason}")
        self.advance(turn)

    def _undo_later(self, child: str, told: list[Told], at: At) -> None:
        """Have a child undo what it has done, and tell its parent when it has."""
        found = self.memory.find(child)
        parent = self.memory.live.get(child[: child.rfind("/")] if found is None else found.parent)
        if parent is None:
            return
        path = child[len(parent.saga) + 1 :]
        undo = next(one for one in parent.undos if one.path == path)
        turn = self.turn(parent, at, told)
        if found is None or (found.status == ENDED and found.outcome != "completed"):
            self.advance(turn, over=child_undone(turn, undo))
        elif found.status == ENDED and found.pivoted:
            undo_refused(turn, undo, *_PAST_PIVOT)
            self.advance(turn)
        elif found.status == ENDED:
            self.memory.reopen(found)
            found.outcome, found.result, found.status = "", None, RUNNING
            self.cancel(found, "its parent is compensated", told, at)

    # ---- what others say

    def answer(self, asked: Fields, at: At) -> list[Told]:
        """Take answers of a participant."""
        told: list[Told] = []
        for one in asked["answers"]:
            inst = self.memory.live.get(one["saga"])
            if inst is None:
                known = self.memory.find(one["saga"])
                why = "unknown" if known is None else "late"
                if known is not None:
                    known.ignored += 1
                    self.memory.touch(known)
                told.append(_ignored(one["saga"], one, why))
                continue
            self._take(inst, one, told, at)
        return self.settle(told, at) if self._later else told

    def _take(self, inst: Instance, answer: Fields, told: list[Told], at: At) -> None:
        turn = self.turn(inst, at, told)
        over, why, path = False, "unknown", answer["node"]
        if answer["undo"]:
            undo = next((one for one in inst.undos if one.path == path), None)
            if undo is not None and inst.status == COMPENSATING:
                why, over = undo_answered(turn, undo, answer)
        elif (found := inst.find(path)) is not None:
            frame, run = found
            why = answered(turn, frame, path[len(frame.prefix) :], run, answer)
        elif inst.plan.nodes.get(path[path.rfind("/") + 1 :]) is not None:
            why = "late"  # of a pass of a body that is over
        if why:
            inst.ignored += 1
            inst.note("ignored", path[:_SHOWN], answer["attempt"], f"{why} answer")
        self.advance(turn, over=over)

    # ---- time

    def tick(self, at: At) -> list[Told]:
        """Do what is due."""
        told: list[Told] = []
        for name in self.memory.due.take(at.now_ms):
            if name.startswith("\x00"):
                _, definition, schedule = name.split("\x00")
                self._scheduled(definition, schedule, told, at)
            elif (inst := self.memory.live.get(name)) is not None:
                self._due(inst, told, at)
            self.settle(told, at)
        return told

    def _due(self, inst: Instance, told: list[Told], at: At) -> None:
        turn = self.turn(inst, at, told)
        now_ms = at.now_ms
        if inst.status == RUNNING and not inst.pivoted and inst.deadline_ms <= now_ms:
            turn.undo = "deadline", f"it has not ended within {inst.deadline_ms - inst.began_ms} ms"
        elif inst.status == RUNNING:
            for path, run in sorted(inst.active.items()):
                found = inst.find(path)
                if found is not None and found[1] is run and not run.finished and turn.undo is None:
                    due(turn, found[0], path[len(found[0].prefix) :], run)
        if inst.status == COMPENSATING:
            for undo in inst.undos:
                undo_due(turn, undo)
        for path, one in list(inst.locks.items()):
            if one[2] and one[2] <= now_ms:
                self._lock_due(turn, path, one)
        self.advance(turn)

    def _lock_due(self, turn: Turn, path: str, one: list[Any]) -> None:
        """Renew a lock, or ask for it again where no answer has come."""
        resource, token, _, lease_ms, mode, number = one
        told = {"saga": turn.inst.saga, "node": path, "resource": resource, "number": number, "lease_ms": lease_ms, "mode": mode}
        if token:
            one[2] = turn.now_ms + lease_ms // 3
            turn.told.append(Told("renew", told))
        else:
            found = turn.inst.find(path)
            waits = found is not None and found[1].status == LOCKING and found[1].due_ms
            one[2] = turn.now_ms + self.limits.again_ms
            wait_ms = max(0, found[1].due_ms - turn.now_ms) if waits and found is not None else None
            turn.told.append(Told("lock", {**told, "wait_ms": wait_ms, "again": True}))

    def lock_told(self, asked: Fields, at: At) -> list[Told]:
        """Take what the coordination processor says about a lock."""
        told: list[Told] = []
        saga, path = self.memory.lock_calls.get(asked["call"], ("", ""))
        inst = self.memory.live.get(saga)
        one = None if inst is None else inst.locks.get(path)
        if inst is None or one is None or self.memory.call_of(inst, path) != asked["call"]:
            return told
        turn = self.turn(inst, at, told)
        found = inst.find(path)
        waits = found is not None and found[1].status == LOCKING
        name = path[path.rfind("/") + 1 :]
        if asked["granted"]:
            one[1], one[2] = asked["token"], at.now_ms + one[3] // 3
            if waits and found is not None:
                inst.note("answered", path, note=f"lock {one[0]}, token {one[1]}")
                done(turn, found[0], name, {"resource": one[0], "token": one[1]})
        elif waits and found is not None:
            del inst.locks[path]
            fail(turn, found[0], name, asked["code"] or "lock_refused", asked["reason"])
        else:
            inst.note("waits", path, note=f"lock {one[0]} was lost: {asked['reason']}")
            lock(turn, path, wait_ms=None)
        self.advance(turn)
        return self.settle(told, at)

    def _scheduled(self, definition: str, schedule: str, told: list[Told], at: At) -> None:
        """Start what a schedule starts. Of the times that were missed while no worker ran, one is made up for."""
        memory = self.memory
        time_ms = memory.schedules.get((definition, schedule), 0)
        version = max((one for name, one in memory.homes if name == definition), default=0)
        plan = memory.plans.get((definition, version))
        found = None if plan is None else next((one for one in plan.definition.schedules if one.name == schedule), None)
        if plan is None or found is None:
            memory.set_schedule(definition, schedule, None)
            return
        memory.set_schedule(definition, schedule, next_ms(found, at.now_ms))
        saga = start_id(definition, found, time_ms)
        if memory.find(saga) is None and len(memory.live) < self.limits.live_max:
            self.begin(saga, plan, found.input, at, told, by=f"schedule {schedule}")


def ended(inst: Instance) -> Fields:
    """Return what is told of an end."""
    definition = inst.plan.definition
    return {
        "saga": inst.saga,
        "definition": definition.name,
        "version": definition.version,
        "outcome": inst.outcome,
        "result": to_text(inst.result),
        "code": inst.code,
        "reason": inst.reason,
        "took_ms": inst.ended_ms - inst.began_ms,
        "moments": inst.moments,
    }


_SHOWN = 256
"""Characters of a path that somebody else wrote."""


def _ignored(saga: str, answer: Fields, why: str) -> Told:
    moment = {"what": "ignored", "node": answer["node"][:_SHOWN], "attempt": answer["attempt"], "note": f"{why} answer"}
    return Told("advanced", {"saga": saga[:_SHOWN], "moments": [moment]}, everybody=True)
