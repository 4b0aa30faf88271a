"""The rows of the orchestrator: which sagas, definitions and schedules a partition has, and what of them has changed.

["d", name, version]      [digest, definition as JSON text, whether its schedules run here]
["i", saga]               a saga: `state.Instance.row`
["f", saga, prefix]       a pass of a body: `state.Frame.row`
["s", name, schedule]     [when it starts the next saga]
["m"]                     [how many have ended]
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from sagas.core.engine.plan import Plan, plan_of
from sagas.core.engine.state import ENDED, Instance
from sagas.core.engine.words import SagaLimits, from_text
from streams.core.at import Deadlines

__all__ = ["Key", "Memory", "lock_call", "understood"]

Key = tuple[str | int, ...]

DEFINITION: Final = "d"
INSTANCE: Final = "i"
FRAME: Final = "f"
SCHEDULE: Final = "s"
META: Final = "m"
_PLANS: dict[tuple[str, str], Plan] = {}
"""By digest and text: partitions, and machines that are made anew, share them."""
_PLANS_MAX: Final = 2_000
_LOCK_CALLS_MAX: Final = 200_000
"""Requests for locks that are looked through for those that have ended."""


def understood(digest: str, text: str) -> Plan:
    """Return a definition ready to run.

    Raises:
        DefinitionErrors: It cannot run.
        ValueError: It is no JSON.
    """
    plan = _PLANS.get((digest, text))
    if plan is None:
        plan = plan_of(from_text(text), digest, text)
        if len(_PLANS) >= _PLANS_MAX:
            _PLANS.clear()
        _PLANS[digest, text] = plan
    return plan


class Memory:
    """What a partition has.

    Args:
        limits: What is forgotten.
    """

    def __init__(self, limits: SagaLimits) -> None:
        self.limits = limits
        self.live: dict[str, Instance] = {}
        self.children: dict[str, Instance] = {}
        """Ended, and their parent has not."""
        self.ended: OrderedDict[str, Instance] = OrderedDict()
        self.plans: dict[tuple[str, int], Plan] = {}
        self.homes: set[tuple[str, int]] = set()
        self.schedules: dict[tuple[str, str], int] = {}
        self.due = Deadlines()
        self.lock_calls: dict[str, tuple[str, str]] = {}
        """Saga and path of each lock that was asked for, by the request's id."""
        self._number = 0
        self._uses: dict[tuple[str, int], int] = {}
        self._dirty: set[Key] = set()

    # ---- rows

    def load(self, rows: Iterable[tuple[Key, Any]]) -> None:
        """Take these rows, in any order."""
        found: dict[str, list[tuple[Key, Any]]] = {DEFINITION: [], INSTANCE: [], FRAME: [], SCHEDULE: [], META: []}
        for key, row in rows:
            found[str(key[0])].append((key, row))
        for key, (digest, text, home) in sorted(found[DEFINITION], key=lambda one: one[1][0]):
            version = int(key[2])
            self.plans[str(key[1]), version] = understood(digest, text)
            if home:
                self.homes.add((str(key[1]), version))
        for key, row in found[INSTANCE]:
            name, version, _ = row[0]
            inst = Instance.of(str(key[1]), row, self.plans[name, version])
            if row[-1] is not None:
                inst.load_frame("", row[-1])
            self._place(inst)
        for key, row in sorted(found[FRAME], key=lambda one: str(one[0][2]).count("/")):  # outer ones first
            self.live[str(key[1])].load_frame(str(key[2]), row)
        for key, row in found[SCHEDULE]:
            self.set_schedule(str(key[1]), str(key[2]), row[0])
        for _, row in found[META]:
            self._number = row[0]
        self.ended = OrderedDict(sorted(self.ended.items(), key=lambda one: one[1].number))
        for inst in self.live.values():
            if due_ms := inst.due_ms():
                self.due.set(inst.saga, due_ms)
        self._dirty.clear()

    def _place(self, inst: Instance) -> None:
        self._use(inst.plan, 1)
        if inst.status != ENDED:
            self.live[inst.saga] = inst
            self._index_locks(inst)
        elif inst.number:
            self.ended[inst.saga] = inst
        else:
            self.children[inst.saga] = inst

    def changes(self) -> dict[Key, Any | None]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        found: dict[Key, Any] = {}
        for key in self._dirty:
            kind = key[0]
            if kind == INSTANCE:
                inst = self.find(str(key[1]))
                found[key] = None if inst is None else inst.row()
            elif kind == FRAME:
                inst = self.find(str(key[1]))
                frame = None if inst is None else inst.frames.get(str(key[2]))
                found[key] = None if frame is None else frame.row()
            elif kind == DEFINITION:
                name = str(key[1]), int(key[2])
                plan = self.plans.get(name)
                found[key] = None if plan is None else [plan.digest, plan.text, name in self.homes]
            elif kind == SCHEDULE:
                next_ms = self.schedules.get((str(key[1]), str(key[2])))
                found[key] = None if next_ms is None else [next_ms]
            else:
                found[key] = [self._number]
        self._dirty.clear()
        return found

    def touch(self, inst: Instance) -> None:
        """Note that a saga has changed, and when it is due."""
        self._dirty.add((INSTANCE, inst.saga))
        for prefix in inst.dirty:
            if prefix:
                self._dirty.add((FRAME, inst.saga, prefix))
        inst.dirty.clear()
        if inst.status == ENDED:
            self.due.end(inst.saga)
        elif due_ms := inst.due_ms():
            self.due.set(inst.saga, due_ms)
        else:
            self.due.end(inst.saga)
        self._index_locks(inst)

    def _index_locks(self, inst: Instance) -> None:
        if len(self.lock_calls) > _LOCK_CALLS_MAX:
            now = {
                call: place for call, place in self.lock_calls.items() if place[1] in getattr(self.find(place[0]), "locks", ())
            }
            self.lock_calls = now
        for path, lock in inst.locks.items():
            self.lock_calls[lock_call(inst.saga, path, lock[5])] = inst.saga, path

    def call_of(self, inst: Instance, path: str) -> str:
        """Return the id of the request for a lock that counts."""
        return lock_call(inst.saga, path, inst.locks[path][5])

    # ---- sagas

    def find(self, saga: str) -> Instance | None:
        """Return a saga that is known."""
        return self.live.get(saga) or self.children.get(saga) or self.ended.get(saga)

    def add(self, inst: Instance) -> None:
        """Take a new saga."""
        self.live[inst.saga] = inst
        self._use(inst.plan, 1)

    def reopen(self, inst: Instance) -> None:
        """Let a child that had ended live again."""
        del self.children[inst.saga]
        self.live[inst.saga] = inst

    def end(self, inst: Instance) -> None:
        """Let a saga have ended; what is remembered of it is forgotten with time, but not before its parent has ended."""
        del self.live[inst.saga]
        for prefix in list(inst.frames):
            if prefix:
                del inst.frames[prefix]
                self._dirty.add((FRAME, inst.saga, prefix))
        if inst.parent in self.live:
            self.children[inst.saga] = inst
            return
        self._remember(inst)
        if self.children:
            start = inst.saga + "/"
            for saga in sorted(one for one in self.children if one.startswith(start)):
                self._remember(self.children.pop(saga))

    def _remember(self, inst: Instance) -> None:
        self._number += 1
        inst.number = self._number
        self.ended[inst.saga] = inst
        self._dirty.add((INSTANCE, inst.saga))
        self._dirty.add((META,))
        while len(self.ended) > self.limits.ended_max:
            saga, oldest = self.ended.popitem(last=False)
            self._use(oldest.plan, -1)
            self._dirty.add((INSTANCE, saga))

    # ---- definitions

    def _use(self, plan: Plan, by: int) -> None:
        name = plan.definition.name, plan.definition.version
        self._uses[name] = self._uses.get(name, 0) + by

    def define(self, plan: Plan, *, home: bool) -> bool:
        """Take a definition, in place of one that nobody has where there are too many. Returns False where there is none."""
        name = plan.definition.name, plan.definition.version
        if name not in self.plans and len(self.plans) >= self.limits.definitions_max:
            needed = {child for one in self.plans.values() for child in one.children}
            free = next(
                (one for one in self.plans if not self._uses.get(one) and one not in needed and one not in self.homes), None
            )
            if free is None:
                return False
            del self.plans[free]
            self._dirty.add((DEFINITION, *free))
        self.plans[name] = plan
        self._dirty.add((DEFINITION, *name))
        if home:
            self.homes.add(name)
        return True

    def set_schedule(self, name: str, schedule: str, next_ms: int | None) -> None:
        """Say when a schedule starts its next saga; None: never again."""
        due = f"\x00{name}\x00{schedule}"
        if next_ms is None:
            self.schedules.pop((name, schedule), None)
            self.due.end(due)
        else:
            self.schedules[name, schedule] = next_ms
            self.due.set(due, next_ms)
        self._dirty.add((SCHEDULE, name, schedule))


def lock_call(saga: str, path: str, number: int) -> str:
    """Return the id of a request for a lock."""
    return "saga." + blake2b(f"{saga}\x00{path}\x00{number}".encode(), digest_size=16).hexdigest()
