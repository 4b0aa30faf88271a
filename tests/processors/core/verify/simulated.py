"""Histories of a simulated lock service: clients with delays, deaths and freezes; a correct lock, and the ways to break it.

The service works one message at a time, reads a clock of whole milliseconds, and is late with its timers; messages take time
each way, and some answers are lost. Clients hold, renew, write, release, release twice, release what is not theirs, die, and
freeze past their lease and go on as if nothing had happened.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from processors.core.verify import Operation, read_history

MS = 1_000_000
LOST = 0.03
"""Of answers."""

Line = dict[str, Any]
Client = Generator[Line | int, Line, None]
"""Yields what it asks, or for how long it sleeps (ns); is sent the answer."""


class Broken(StrEnum):
    """What is wrong with the lock."""

    GRANTS_TWICE = "grants what is held"
    SHARES_EXCLUSIVE = "grants shared beside exclusive"
    WAKES_TWO = "grants to two that wait when one releases"
    FORGETS = "forgets its holders at a restart"
    CUTS_LEASES = "ends leases at half their time"
    FORGETS_RENEWALS = "says that it renewed and does not"
    RENEWS_THE_LOST = "renews what has ended"
    RELEASES_BY_NAME = "any release frees the lock, whosever grant it names"
    ANSWERS_STRANGERS = "accepts the release of somebody else's grant"
    REUSES_TOKENS = "gives a token twice"
    TOKENS_GO_BACK = "gives smaller tokens"
    GUARD_ASLEEP = "accepts writes with any token"
    GUARD_TOO_STRICT = "refuses writes of the holder"
    BUSY_WHEN_FREE = "says held when nobody holds"


@dataclass(slots=True)
class Held:
    owner: str
    exclusive: bool
    token: int
    ends_ms: int


@dataclass(slots=True)
class Lock:
    held: dict[str, Held] = field(default_factory=dict)
    queue: list[tuple[Line, Callable[[Line], None]]] = field(default_factory=list)
    largest: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    released: set[tuple[str, str]] = field(default_factory=set)


class Service:
    """The lock service."""

    def __init__(self, chance: random.Random, broken: Broken | None, guard: str) -> None:
        self.chance = chance
        self.broken = broken
        self.guard = guard
        self.locks: dict[str, Lock] = {}
        self.offset = 0
        self.now_ms = 0

    def breaks(self, how: Broken, often: float = 1.0) -> bool:
        return self.broken is how and self.chance.random() < often

    def tick(self, now_ns: int) -> None:
        """Let leases end."""
        self.now_ms = now_ns // MS
        for lock in self.locks.values():
            if self.breaks(Broken.FORGETS, 0.02):
                lock.held.clear()
            over = [grant for grant, held in lock.held.items() if held.ends_ms <= self.now_ms]
            for grant in over:
                del lock.held[grant]
            self.settle(lock)

    def take(self, asked: Line, reply: Callable[[Line], None], now_ns: int) -> None:
        """Process one message."""
        self.tick(now_ns)
        self.offset += 1
        lock = self.locks.setdefault(asked["resource"], Lock())
        if asked["op"] == "acquire":
            self.acquire(lock, asked, reply)
        elif asked["op"] == "write":
            reply(self.write(lock, asked))
        else:
            reply(self.end_or_renew(lock, asked))

    def conflicts(self, lock: Lock, asked: Line) -> bool:
        if self.breaks(Broken.GRANTS_TWICE, 0.3):
            return False
        exclusive = asked["mode"] == "exclusive"
        if self.breaks(Broken.SHARES_EXCLUSIVE) and not exclusive:
            return False
        return any(held.owner != asked["client"] and (exclusive or held.exclusive) for held in lock.held.values())

    def acquire(self, lock: Lock, asked: Line, reply: Callable[[Line], None]) -> None:
        nested = any(held.owner == asked["client"] for held in lock.held.values())
        if self.breaks(Broken.BUSY_WHEN_FREE, 0.2) and asked["note"] == "try":
            reply({"outcome": "refused", "reason": "held"})
        elif (nested or not lock.queue) and not self.conflicts(lock, asked):
            reply(self.grant(lock, asked))
        elif asked["note"] == "try":
            reply({"outcome": "refused", "reason": "held"} if lock.held else {"outcome": "refused", "reason": "queue"})
        else:
            lock.queue.append((asked, reply))

    def grant(self, lock: Lock, asked: Line) -> Line:
        same = [held for held in lock.held.values() if held.owner == asked["client"]]
        exclusive = asked["mode"] == "exclusive"
        fitting = [held.token for held in same if held.exclusive or not exclusive]
        token = fitting[0] if fitting else self.token(lock)
        lease_ms = asked["lease_ms"] // 2 if self.breaks(Broken.CUTS_LEASES) else asked["lease_ms"]
        lock.held[asked["grant"]] = Held(asked["client"], exclusive, token, self.now_ms + lease_ms)
        lock.largest = max(lock.largest, token)
        return {"outcome": "ok", "token": token}

    def token(self, lock: Lock) -> int:
        if lock.largest and self.breaks(Broken.REUSES_TOKENS, 0.3):
            return lock.largest
        if lock.largest and self.breaks(Broken.TOKENS_GO_BACK, 0.3):
            return lock.largest - 1
        return max(self.offset << 20, lock.largest + 1)

    def settle(self, lock: Lock) -> None:
        """Grant to those that wait, in order."""
        two = self.breaks(Broken.WAKES_TWO)
        while lock.queue:
            asked, reply = lock.queue[0]
            until = asked["until_ms"]
            if until <= self.now_ms:
                reply({"outcome": "timed_out"})
            elif not self.conflicts(lock, asked):
                reply(self.grant(lock, asked))
                if two and len(lock.queue) > 1:
                    other, other_reply = lock.queue.pop(1)
                    other_reply(self.grant(lock, other))
            else:
                break
            del lock.queue[0]

    def end_or_renew(self, lock: Lock, asked: Line) -> Line:
        owner, grant, release = asked["client"], asked["grant"], asked["op"] == "release"
        held = lock.held.get(grant)
        if held is not None and held.owner != owner and self.breaks(Broken.ANSWERS_STRANGERS):
            owner = held.owner
        answer: Line = {"outcome": "refused", "reason": "not held"}
        if release and self.breaks(Broken.RELEASES_BY_NAME):
            lock.held.clear()
        if held is not None and held.owner == owner:
            answer = {"outcome": "ok"}
            if release:
                lock.held.pop(grant, None)
                lock.released.add((grant, owner))
            elif not self.breaks(Broken.FORGETS_RENEWALS):
                held.ends_ms = self.now_ms + asked["lease_ms"]
        elif (release and (grant, owner) in lock.released) or (not release and self.breaks(Broken.RENEWS_THE_LOST)):
            answer = {"outcome": "ok"}
        self.settle(lock)
        return answer

    def write(self, lock: Lock, asked: Line) -> Line:
        token, store = asked["token"], asked["store"]
        largest = lock.largest if self.guard == "granted" else lock.seen.get(store, 0)
        if self.breaks(Broken.GUARD_TOO_STRICT, 0.3) or (token < largest and not self.breaks(Broken.GUARD_ASLEEP)):
            return {"outcome": "refused", "reason": "token"}
        lock.seen[store] = max(token, lock.seen.get(store, 0))
        return {"outcome": "ok"}


class World:
    """Clients and service, in simulated time."""

    def __init__(self, seed: int, broken: Broken | None, guard: str, *, shared: float, resources: int) -> None:
        self.chance = random.Random(seed)
        self.service = Service(self.chance, broken, guard)
        self.now_ns = 10**9
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.numbers = itertools.count(1)
        self.lines: list[Line] = []
        self.grants: list[tuple[str, str]] = []
        self.shared = shared
        self.resources = [f"repo/{number}" for number in range(resources)]

    def at(self, delay_ns: int, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_ns + delay_ns, next(self.numbers), do))

    def delay(self) -> int:
        """Of a message: short as a rule."""
        return self.chance.randint(10_000, 2 * MS) if self.chance.random() < 0.9 else self.chance.randint(2 * MS, 15 * MS)

    def run(self, clients: int, rounds: int) -> list[Line]:
        for number in range(clients):
            client = self.client(f"c{number}", rounds)
            self.at(self.chance.randint(0, 5 * MS), lambda client=client: self.resume(client, None))  # type: ignore[misc]
        while self.events:
            self.now_ns, _, do = heapq.heappop(self.events)
            do()
        return self.lines

    def resume(self, client: Client, answer: Line | None) -> None:
        try:
            wanted = next(client) if answer is None else client.send(answer)
        except StopIteration:
            return
        if isinstance(wanted, int):
            self.at(wanted, lambda: self.resume(client, {}))
            return
        line = {**wanted, "call_ns": self.now_ns}
        self.lines.append(line)
        asked = {"note": "", "mode": "exclusive", "store": "", "until_ms": 0, **line}
        line.pop("until_ms", None)

        def reply(answer: Line) -> None:
            lost = self.chance.random() < LOST
            self.at(
                100 * MS if lost else self.delay(),
                lambda: self.answered(client, line, {"outcome": "unknown"} if lost else answer),
            )

        def timers() -> None:
            self.service.tick(self.now_ns)

        self.at(self.delay(), lambda: self.service.take(asked, reply, self.now_ns))
        for late in (asked.get("lease_ms", 0), asked.get("lease_ms", 0) + 20, 60):
            self.at(late * MS + self.delay(), timers)

    def answered(self, client: Client, line: Line, answer: Line) -> None:
        line.update(answer)
        if line["outcome"] != "unknown":
            line["return_ns"] = self.now_ns
        self.resume(client, answer)

    def client(self, name: str, rounds: int) -> Client:
        """What a client does: some rounds of getting a lock and using it; it may die at any time."""
        chance = self.chance
        for number in range(rounds):
            resource, lease_ms = chance.choice(self.resources), chance.choice([20, 30, 60])
            grant = f"{name}-{number}"
            asked = {"client": name, "op": "acquire", "resource": resource, "grant": grant, "lease_ms": lease_ms}
            asked |= {"mode": "shared"} if chance.random() < self.shared else {}
            asked |= {"note": "try"} if chance.random() < 0.3 else {}
            answer = yield asked | {"until_ms": self.now_ns // MS + 200}
            if chance.random() < 0.03:
                return  # killed with the lock
            self.grants.append((resource, grant))
            if answer["outcome"] == "ok":
                yield from self.use(name, resource, grant, lease_ms, answer["token"])
            if chance.random() < 0.15:  # what is not its own, or not held any more
                resource, grant = chance.choice(self.grants)
                yield {"client": name, "op": "release", "resource": resource, "grant": grant}
            yield chance.randint(0, 10 * MS)

    def use(self, name: str, resource: str, grant: str, lease_ms: int, token: int) -> Client:
        chance = self.chance
        about = {"client": name, "resource": resource}
        for _ in range(chance.randint(0, 3)):
            frozen = chance.random() < 0.12
            yield chance.randint(2 * lease_ms * MS, 4 * lease_ms * MS) if frozen else chance.randint(0, lease_ms * MS // 2)
            if chance.random() < 0.6:
                yield {**about, "op": "write", "token": token, "store": chance.choice(["", "index"])}
            if chance.random() < 0.5:
                yield {**about, "op": "renew", "grant": grant, "lease_ms": lease_ms}
        for _ in range(chance.choice([0, 1, 1, 1, 1, 1, 1, 2])):
            yield {**about, "op": "release", "grant": grant}


def simulated(
    seed: int,
    broken: Broken | None = None,
    *,
    guard: str = "seen",
    clients: int = 5,
    rounds: int = 6,
    shared: float = 0.3,
    resources: int = 2,
) -> list[Line]:
    """Return the lines of a history; the same for the same arguments."""
    return World(seed, broken, guard, shared=shared, resources=resources).run(clients, rounds)


def operations(lines: list[Line]) -> tuple[Operation, ...]:
    """Read lines as a file of them would be read."""
    return read_history([("history", [json.dumps(line).encode() for line in lines])])
