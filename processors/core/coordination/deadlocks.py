"""Finds deadlocks and chooses their victims, from the events of all partitions.

Events of two domains come in any order, so what the view shows may never have been there at one time: one wait may have ended
before another one began. So a deadlock is first *suspected*, and then *confirmed*:

    1. suspected    Each wait of it has been seen, so each began before now.
    2. asked        Each domain of it is asked (`wait.check`), behind all commands that it has been given before.
    3. confirmed    All have answered, and each wait is seen still. One that has ended does not begin again: so all of them were
                    there from 1 on until their domains answered, at one time.

The victim's request is refused if it still waits when the command comes to it, and nothing happens otherwise. Until its end is
seen its owner counts as one that gives up, so nobody else becomes a victim of the same deadlock.

Not promised: that none of the others times out or is cancelled in the moment between the confirmation and the refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from processors.core.coordination.deadlock_graph import Core, Edge, cores, smallest
from processors.core.coordination.lock_places import SEMAPHORES, TOLD, Key
from processors.core.coordination.lock_view import LockView

__all__ = ["CHECKED", "POLICIES", "Check", "Deadlock", "Detector", "Policy"]

Policy = Literal["youngest", "fewest_locks", "lowest_priority"]
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)

CHECKED: Final = "wait.checked"
BEGAN: Final = "wait.began"
AGAIN_MS: Final = 2_000
"""A check that is not answered is asked again after this: a takeover of the partition takes longer."""
GIVES_UP_MS: Final = 30_000
"""A victim that still waits after this counts no more, and another one may be chosen: it does not listen."""
SHOWN_MAX: Final = 16
"""Waits of a deadlock that are told in words; the event has all."""

_WHY: Final[dict[Policy, str]] = {
    "youngest": "it began last",
    "fewest_locks": "it has the fewest locks",
    "lowest_priority": "it has the lowest priority",
}


@dataclass(frozen=True, slots=True)
class Check:
    """A domain is to be asked whether it has come so far."""

    domain: str
    check_id: str


@dataclass(frozen=True, slots=True)
class Deadlock:
    """Confirmed: owners wait for each other, and one is to give up.

    Attributes:
        core: The waits.
        victim: The wait of it that is to end.
        policy: By which it was chosen.
        reason: All of it in words.
    """

    core: Core
    victim: Edge
    policy: Policy
    reason: str


@dataclass(slots=True)
class _Suspicion:
    core: Core
    check_id: str
    asked_ms: int
    missing: set[str] = field(default_factory=set)


class Detector:
    """See the module.

    Args:
        view: What has been read so far.
        policy: How victims are chosen.
        nonce: Begins the ids of checks, and no other detector's.
        victims: Requests that were chosen and whose end was not seen, with when that was.

    Attributes:
        view: What has been read.
        victims: As given, and those chosen since.
    """

    def __init__(
        self, view: LockView, *, policy: Policy = "youngest", nonce: str, victims: Mapping[Key, int] | None = None
    ) -> None:
        self.view, self.policy = view, policy
        self.victims: dict[Key, int] = dict(victims or {})
        self._nonce, self._checks = nonce, 0
        self._suspicions: list[_Suspicion] = []
        self._looked = -1
        self._heard: dict[Key, int | None] = {key: None for key, one in view.requests.items() if one.lease_ms}
        """When each wait with a lease was told last; None until the next look. Clocks of those that tell are not trusted."""

    def take(self, kind: str, fields: Mapping[str, Any], at_ms: int) -> None:
        """Take one event."""
        if kind != CHECKED:
            self.view.take(kind, fields, at_ms)
            if kind == BEGAN and fields["lease_ms"]:
                self._heard[TOLD, fields["domain"], fields["request_id"]] = None
            return
        for one in self._suspicions:
            if one.check_id == fields["request_id"]:
                one.missing.discard(fields["domain"])

    def step(self, now_ms: int) -> tuple[list[Check], list[Deadlock]]:
        """Look at what has been read, and return what is to be asked and what was found.

        Args:
            now_ms: For asking again.
        """
        view = self.view
        self._expire(now_ms)
        for key, chosen_ms in list(self.victims.items()):
            if view.waiting(key) is None or now_ms - chosen_ms > GIVES_UP_MS:
                del self.victims[key]
                self._looked = -1
        found: list[Deadlock] = []
        kept: list[_Suspicion] = []
        for one in self._suspicions:
            if not one.core.holds(view):
                self._looked = -1
            elif one.missing:
                kept.append(one)
            elif (core := smallest(view, one.core.owners)) is None or core.owners != one.core.owners:
                self._looked = -1  # what was heard of meanwhile makes a smaller one of it
            else:
                found.append(self._deadlock(one.core))
                self.victims[found[-1].victim.request] = now_ms
        self._suspicions = kept
        checks: list[Check] = []
        for one in kept:
            if now_ms - one.asked_ms >= AGAIN_MS:
                checks += self._ask(one, now_ms)
        if found or view.number != self._looked:
            self._looked = view.number
            checks += self._suspect(now_ms)
        return checks, found

    def _expire(self, now_ms: int) -> None:
        """End the waits that nobody tells any more."""
        for key, heard_ms in list(self._heard.items()):
            request = self.view.waiting(key)
            if request is None:
                del self._heard[key]
            elif heard_ms is None:
                self._heard[key] = now_ms
            elif now_ms - heard_ms > request.lease_ms:
                self.view.end(key)
                self._looked = -1

    def _suspect(self, now_ms: int) -> list[Check]:
        without = {self.view.requests[key].owner for key in self.victims}
        for one in self._suspicions:
            without |= one.core.owners
        checks: list[Check] = []
        for core in cores(self.view, without):
            self._checks += 1
            suspicion = _Suspicion(core, f"{self._nonce}.{self._checks}", now_ms, set(core.domains))
            self._suspicions.append(suspicion)
            checks += self._ask(suspicion, now_ms)
        return checks

    @staticmethod
    def _ask(one: _Suspicion, now_ms: int) -> list[Check]:
        one.asked_ms = now_ms
        return [Check(domain, one.check_id) for domain in sorted(one.missing)]

    # ---- the victim

    def _deadlock(self, core: Core) -> Deadlock:
        candidates: dict[str, Edge] = {}
        for edge in core.edges:
            if edge.foreign:
                candidates.setdefault(edge.owner, edge)
        victim = min(candidates.values(), key=self._rank)
        return Deadlock(core, victim, self.policy, self._words(core, victim))

    def _rank(self, edge: Edge) -> tuple[int, int, str]:
        """Return what orders candidates; the smallest is the victim."""
        view, owner = self.view, edge.owner
        holding = view.holding_of.get(owner, {}).values()
        waiting = view.waiting_of[owner].values()
        age = -min(one.since_ms for one in (*holding, *waiting))
        if self.policy == "fewest_locks":
            return sum(len(one.names) for one in holding), age, owner
        if self.policy == "lowest_priority":
            return min(one.priority for one in waiting), age, owner
        return age, 0, owner

    def _words(self, core: Core, victim: Edge) -> str:
        said = [self._wait(edge) for edge in core.edges[:SHOWN_MAX]]
        if len(core.edges) > SHOWN_MAX:
            said.append(f"and {len(core.edges) - SHOWN_MAX} more waits, which the event has")
        return f"deadlock: {'; '.join(said)}. {victim.owner} is to give up: {_WHY[self.policy]}"

    def _wait(self, edge: Edge) -> str:
        others = _listed(edge.owners)
        if edge.how == "told":
            return f"{edge.owner} waits for {others} ({self.view.requests[edge.request].kind})"
        what = f"permits of {edge.name}" if edge.request[0] == SEMAPHORES else edge.name
        if edge.how == "goes_first":
            return f"{edge.owner} waits for {what} behind {others}"
        verb = "holds" if len(edge.owners) == 1 else "hold"
        return f"{edge.owner} waits for {what}, which {others} {verb}"


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
