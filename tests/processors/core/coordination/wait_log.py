"""Events of waits as they come, made by hand, and a detector that reads them."""

from __future__ import annotations

from typing import Any

from processors.core.coordination.deadlocks import Deadlock, Detector, Policy
from processors.core.coordination.lock_view import LockView

T = 1_000_000


class Log:
    """Events as they come, and a detector that reads them."""

    def __init__(self, policy: Policy = "youngest") -> None:
        self.detector = Detector(LockView(), policy=policy, nonce="n")
        self.now_ms = T

    def take(self, kind: str, name: str, request_id: str, owner: str = "", **fields: Any) -> None:
        self.now_ms += 1
        names = {"resources": [name]} if kind.startswith("lock.") else {"name": name, "primitive": "semaphores"}
        rest = {"mode": "exclusive", "priority": 0, "order": [1, self.now_ms], "tokens": [self.now_ms], "token": self.now_ms}
        given = {**names, **rest, "expires_ms": self.now_ms + 30_000, "code": "cancelled", **fields}
        self.detector.take(kind, {"domain": name[0], "request_id": request_id, "owner": owner, **given}, self.now_ms)

    def has(self, owner: str, name: str, **fields: Any) -> None:
        self.take("lock.granted", name, f"{owner}-{name}", owner, **fields)

    def wants(self, owner: str, name: str, **fields: Any) -> None:
        self.take("lock.queued", name, f"{owner}-{name}", owner, **fields)

    def has_permits(self, owner: str, name: str, permits: int) -> None:
        self.take("semaphore.granted", name, f"{owner}-{name}", owner, permits=permits)

    def wants_permits(self, owner: str, name: str, permits: int, capacity: int) -> None:
        self.take("request.queued", name, f"{owner}-{name}+", owner, permits=permits, capacity=capacity)

    def step(self) -> tuple[list[tuple[str, str]], list[Deadlock]]:
        checks, found = self.detector.step(self.now_ms)
        return [(one.domain, one.check_id) for one in checks], found

    def found(self) -> list[Deadlock]:
        """Look until there is nothing more, and answer every check at once."""
        all_found: list[Deadlock] = []
        for _ in range(10):
            checks, found = self.step()
            all_found += found
            self.answer(checks)
        return all_found

    def answer(self, checks: list[tuple[str, str]]) -> None:
        for domain, check_id in checks:
            self.detector.take("wait.checked", {"domain": domain, "request_id": check_id}, self.now_ms)


def pair(log: Log) -> None:
    """Ann and bob, each with what the other one wants; bob came last and has two."""
    log.has("ann", "a")
    log.has("bob", "b")
    log.has("bob", "c")
    log.wants("ann", "b", priority=1)
    log.wants("bob", "a", priority=2)
