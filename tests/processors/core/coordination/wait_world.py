"""Some domains with the real machines of locks and semaphores, as a detector sees them: their events, late and in any order.

The oracle knows no graph. Owners are in a deadlock if all their requests still wait after everybody else has given up and gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from processors.coordinating import locks, semaphores
from processors.core.coordination.lock_words import AcquireRequest
from processors.core.coordination.semaphore_words import AcquirePermits, SetCapacity
from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.catalogue import CATALOGUE
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from schemas.events import Event
from streams.core.at import At
from streams.machines.shells import Shell

SHELLS: tuple[Shell, ...] = (locks.shell(), semaphores.shell())
_ASKED: dict[str, Any] = dict.fromkeys(("id", "source"), "-") | dict.fromkeys(
    ("domain", "request_id", "owner", "primitive", "name"), ""
)
_SHARED = (
    RequestQueued(**_ASKED, behind=[]),
    RequestRefused(**_ASKED, code="", reason=""),
    RequestTimedOut(**_ASKED, waited_ms=0),
)
_SAMPLES = (*_SHARED, *(sample for shell in SHELLS for sample in shell.samples))
_PREFIXES = {type(sample): CATALOGUE.encode(sample)[:PREFIX_BYTES] for sample in _SAMPLES}

Told = tuple[str, dict[str, Any], int]


@dataclass
class Domain:
    """One domain, and what has been told about it.

    Attributes:
        told: Its events.
        read: How many of them the detector has read.
    """

    name: str
    machines: list[Any] = field(default_factory=lambda: [shell.load(()) for shell in SHELLS])
    rows: list[dict[Any, Any]] = field(default_factory=lambda: [{} for _ in SHELLS])
    told: list[Told] = field(default_factory=list)
    read: int = 0
    offset: int = 0
    now_ms: int = 0

    def write(self, cls: type[Event], fields: dict[str, Any], *, domain: str, route: str, event: bool = True) -> None:
        """Take what a shell tells, by way of Avro."""
        if event:
            value = write_body(_PREFIXES[cls], parsed(CATALOGUE.schema(cls)), {**fields, "domain": domain})
            read: Any = CATALOGUE.decode(value)
            self.told.append((cls.event_type, {one: getattr(read, one) for one in cls.payload_fields()}, self.now_ms))

    def at(self, now_ms: int) -> At:
        """Return the next moment."""
        self.offset, self.now_ms = self.offset + 1, now_ms
        return At(self.offset, 0, now_ms)

    def done(self, number: int, outcomes: Iterable[Any]) -> None:
        """Tell what came of a command."""
        SHELLS[number].tell(outcomes, self, self.name)  # type: ignore[arg-type] # it has the one method of answers that is used
        for key, row in self.machines[number].changes().items():
            if row is None:
                self.rows[number].pop(key, None)
            else:
                self.rows[number][key] = row

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        for number, machine in enumerate(self.machines):
            self.done(number, machine.tick(self.at(now_ms)))


State = tuple[dict[str, list[dict[Any, Any]]], dict[str, tuple[str, ...]]]
"""The rows of each domain's machines, and whom those wait for that tell it themselves."""


@dataclass
class World:
    """All domains.

    Attributes:
        waits_for: Waits that are told, by owner: the request, and those it waits for.
    """

    domains: dict[str, Domain]
    now_ms: int = 1_000_000
    waits_for: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    requests: int = 0

    def new_id(self) -> str:
        self.requests += 1
        return f"r{self.requests}"

    def lock(self, owner: str, names: tuple[str, ...], mode: str, wait_ms: int | None, priority: int) -> None:
        """Ask for locks."""
        domain = self.domains[names[0].partition("/")[0]]
        asked = AcquireRequest(self.new_id(), owner, names, mode, wait_ms, 60_000, priority)  # type: ignore[arg-type] # a mode
        domain.done(0, domain.machines[0].acquire(asked, domain.at(self.now_ms)))

    def permits(self, owner: str, name: str, permits: int, wait_ms: int | None, priority: int) -> None:
        """Ask for permits; there are three."""
        domain = self.domains[name.partition("/")[0]]
        asked = AcquirePermits(self.new_id(), owner, name, permits, 3, wait_ms, 60_000, priority)
        domain.done(1, domain.machines[1].acquire(asked, domain.at(self.now_ms)))

    def resize(self, name: str, capacity: int | None) -> None:
        """Give a semaphore another capacity."""
        domain = self.domains[name.partition("/")[0]]
        asked = SetCapacity(self.new_id(), "operator", name, capacity)
        domain.done(1, domain.machines[1].set_capacity(asked, domain.at(self.now_ms)))

    def of(self, owner: str, *, holds: bool) -> list[tuple[str, int, str]]:
        """Return an owner's grants, or what it waits with."""
        found = []
        for domain in self.domains.values():
            for number, requests in enumerate(_requests(domain.machines)):
                for request_id, (who, granted) in requests.items():
                    if who == owner and granted == holds:
                        found.append((domain.name, number, request_id))
        return sorted(found)

    def release(self, owner: str, grant: tuple[str, int, str]) -> None:
        """Give a grant back."""
        domain, number, request_id = grant
        at = self.domains[domain]
        at.done(number, at.machines[number].release(request_id, owner, at.at(self.now_ms)))

    def cancel(self, owner: str, request: tuple[str, int, str]) -> None:
        """Wait no more."""
        domain, number, request_id = request
        at = self.domains[domain]
        at.done(number, at.machines[number].cancel(request_id, owner, at.at(self.now_ms)))

    def abort(self, key: tuple[str, str, str], owner: str) -> None:
        """Carry out what a detector commands."""
        kind, domain, request_id = key
        if kind == "told":
            if owner in self.waits_for and self.waits_for[owner][0] == request_id:
                self.tell_end(owner)
            return
        at = self.domains[domain]
        if kind == "locks":
            at.done(0, at.machines[0].abort(request_id, "a deadlock", at.at(self.now_ms)))
        else:
            at.done(1, at.machines[1].cancel(request_id, owner, at.at(self.now_ms), victim_of="a deadlock"))

    def tell(self, owner: str, others: tuple[str, ...]) -> None:
        """Let an owner wait for others in a way of its own."""
        request_id = self.new_id()
        self.waits_for[owner] = (request_id, others)
        fields = {
            "domain": "a",
            "request_id": request_id,
            "owner": owner,
            "kind": "saga",
            "waits_for": others,
            "priority": 0,
            "lease_ms": 0,
        }
        self.domains["a"].told.append(("wait.began", fields, self.now_ms))

    def tell_end(self, owner: str) -> None:
        """Let it wait no more."""
        request_id, _ = self.waits_for.pop(owner)
        self.domains["a"].told.append(("wait.ended", {"domain": "a", "request_id": request_id}, self.now_ms))

    def waits(self, owner: str) -> bool:
        """Whether an owner waits."""
        return owner in self.waits_for or bool(self.of(owner, holds=False))

    # ---- the oracle

    def snapshot(self) -> State:
        """Return everything as it is."""
        rows = {name: [dict(one) for one in domain.rows] for name, domain in self.domains.items()}
        return rows, {owner: others for owner, (_, others) in self.waits_for.items()}


def stuck(state: State, owners: set[str]) -> set[str]:
    """Return the owners among these that are in a deadlock with each other, whatever the rest does."""
    left = set(owners)
    while True:
        can_go = {owner for owner in left if _goes_on(state, left, owner)}
        if not can_go:
            return left
        left -= can_go


def _goes_on(state: State, among: set[str], owner: str) -> bool:
    """Whether one of an owner's waits ends, or it has none, when all that are not among these owners have gone."""
    rows, told = state
    waited = False
    if owner in told:
        waited = True
        if not any(one in among for one in told[owner]):
            return True
    for domain in rows.values():
        machines: list[Any] = [shell.load(list(one.items())) for shell, one in zip(SHELLS, domain, strict=True)]
        before = _requests(machines)
        at = At(10**6, 0, 0)
        for name, semaphore in list(machines[1]._book.semaphores.items()):
            if semaphore.capacity == 0:  # who waits there waits for an operator
                machines[1].set_capacity(SetCapacity(f"open {name}", "operator", name, 1_000), at)
        for number, requests in enumerate(before):
            for request_id, (who, _) in sorted(requests.items()):
                machine: Any = machines[number]
                if who not in among:
                    machine.cancel(request_id, who, at)
        after = _requests(machines)
        for number, requests in enumerate(before):
            for request_id, (who, granted) in requests.items():
                if who == owner and not granted:
                    waited = True
                    if after[number][request_id][1]:
                        return True
    return not waited


def _requests(machines: Iterable[Any]) -> list[dict[str, tuple[str, bool]]]:
    """Return the owner of each request of each machine, and whether it is granted."""
    found = []
    for machine in machines:
        book = machine._book
        requests = book.requests if hasattr(book, "requests") else book.ledger.requests
        granted = "tokens" if hasattr(book, "requests") else "token"
        found.append({one.request_id: (one.owner, bool(getattr(one, granted))) for one in requests.values()})
    return found
