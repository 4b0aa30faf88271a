"""Countdown latches as plainly as they can be written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Latch:
    count: int
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def remaining(self) -> int:
        return max(0, self.count - sum(self.counted.values()))


@dataclass
class Waiter:
    id: str
    owner: str
    name: str
    lease_ms: int
    alive_ms: int = 0
    until_ms: int | None = None
    state: str = "waiting"


class Oracle:
    """`log` has what happened, as (what, request id), since it was last emptied; a count is told as what remains."""

    def __init__(self) -> None:
        self.latches: dict[str, Latch] = {}
        self.waiters: list[Waiter] = []
        self.log: list[tuple[str, str]] = []

    def find(self, request_id: str) -> Waiter | None:
        return next((w for w in self.waiters if w.id == request_id), None)

    def waiting(self, name: str) -> list[Waiter]:
        return [w for w in self.waiters if w.name == name and w.state == "waiting"]

    def note(self, waiter: Waiter, state: str) -> None:
        waiter.state = state
        self.log.append((state, waiter.id))

    def latch(self, name: str, count: int | None) -> Latch | str:
        latch = self.latches.get(name)
        if latch is None:
            return "no_latch" if count is None else self.latches.setdefault(name, Latch(count))
        return latch if count in (None, latch.count) else "wrong_count"

    def count(self, request_id: str, name: str, count: int | None, by: int, now_ms: int) -> None:
        self.tick(now_ms)
        latch = self.latch(name, count)
        if isinstance(latch, str):
            self.log.append((latch, request_id))
            return
        if latch.remaining:
            if request_id in latch.counted:  # what remained then
                ids = list(latch.counted)
                then = latch.count - sum(latch.counted[one] for one in ids[: ids.index(request_id) + 1])
                self.log.append((str(then), request_id))
                return
            latch.counted[request_id] = by
        self.log.append((str(latch.remaining), request_id))
        if not latch.remaining:
            for waiter in self.waiting(name):
                self.note(waiter, "opened")

    def wait(self, waiter: Waiter, count: int | None, wait_ms: int | None, now_ms: int) -> None:
        self.tick(now_ms)
        latch = self.latch(waiter.name, count)
        waiter.alive_ms = now_ms + waiter.lease_ms
        waiter.until_ms = None if wait_ms is None else now_ms + wait_ms
        if isinstance(latch, str):
            self.log.append((latch, waiter.id))
            return
        waiter.state = "opened" if not latch.remaining else "timed_out" if wait_ms == 0 else "waiting"
        self.waiters.append(waiter)
        self.log.append((waiter.state, waiter.id))

    def again(self, waiter: Waiter, now_ms: int) -> None:
        self.tick(now_ms)
        if waiter.state == "waiting":
            waiter.alive_ms = max(waiter.alive_ms, now_ms + waiter.lease_ms)
        self.log.append((waiter.state, waiter.id))

    def cancel(self, request_id: str, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        waiter = self.find(request_id)
        if waiter is None or waiter.state != "waiting" or waiter.owner != owner:
            self.log.append(("not_waiting", request_id))
        else:
            self.note(waiter, "cancelled")

    def remove(self, request_id: str, name: str, now_ms: int) -> None:
        self.tick(now_ms)
        for waiter in self.waiting(name):
            self.note(waiter, "removed")
        self.latches.pop(name, None)
        self.log.append(("gone", request_id))

    def tick(self, now_ms: int) -> None:
        for waiter in [w for w in self.waiters if w.state == "waiting"]:
            if waiter.until_ms is not None and waiter.until_ms <= min(now_ms, waiter.alive_ms):
                self.note(waiter, "timed_out")
            elif waiter.alive_ms <= now_ms:
                self.note(waiter, "lapsed")
