"""Semaphores as plainly as they can be written: one list of requests, everything else is found by looking through it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Entry:
    number: int
    id: str
    owner: str
    name: str
    permits: int
    wait_ms: int | None
    lease_ms: int
    priority: int
    asked_ms: int = 0
    state: str = "waiting"
    deadline: int | None = None


class Oracle:
    """`log` has what happened, as (what, request id), since it was last emptied."""

    def __init__(self, ageing_ms: int) -> None:
        self.ageing_ms = ageing_ms
        self.entries: list[Entry] = []
        self.fixed: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self.log: list[tuple[str, str]] = []
        self.latest_ms = 0

    def live(self, name: str, state: str) -> list[Entry]:
        return [e for e in self.entries if e.name == name and e.state == state]

    def queue(self, name: str) -> list[Entry]:
        return sorted(self.live(name, "waiting"), key=lambda e: (e.asked_ms - e.priority * self.ageing_ms, e.number))

    def out(self, name: str) -> int:
        return sum(e.permits for e in self.live(name, "granted"))

    def capacity(self, name: str) -> int | None:
        return self.fixed.get(name, self.used.get(name))

    def find(self, request_id: str) -> Entry | None:
        return next((e for e in self.entries if e.id == request_id), None)

    def note(self, entry: Entry, state: str) -> None:
        entry.state = state
        self.log.append((state, entry.id))

    def settle(self, name: str, now_ms: int) -> None:
        while queue := self.queue(name):
            if self.out(name) + queue[0].permits > (self.capacity(name) or 0):
                break
            queue[0].deadline = now_ms + queue[0].lease_ms
            self.note(queue[0], "granted")
        if not self.live(name, "waiting") and not self.live(name, "granted"):
            self.used.pop(name, None)

    def ask(self, entry: Entry, capacity: int | None, now_ms: int) -> None:
        self.tick(now_ms)
        self.latest_ms = max(self.latest_ms, now_ms)
        entry.asked_ms = self.latest_ms
        there = self.capacity(entry.name)
        there = capacity if there is None else there
        self.entries.append(entry)
        if there is None:
            self.note(entry, "no_capacity")
        elif entry.permits > there > 0:
            self.note(entry, "too_many")
        else:
            self.used[entry.name] = there
            entry.deadline = None if entry.wait_ms is None else now_ms + entry.wait_ms
            mark = len(self.log)
            self.settle(entry.name, now_ms)
            assert self.log[mark:] in ([], [("granted", entry.id)])
            if entry.state == "waiting":
                self.note(entry, "busy" if entry.wait_ms == 0 else "waiting")

    def resize(self, request_id: str, name: str, capacity: int | None, now_ms: int) -> None:
        self.tick(now_ms)
        if capacity is None and self.capacity(name) == 0:
            self.log.append(("closed", request_id))
            return
        self.log.append(("resized", request_id))
        if capacity is None:
            if name in self.fixed:
                self.used[name] = self.fixed.pop(name)
        else:
            self.fixed[name] = capacity
            for entry in self.queue(name):
                if entry.permits > capacity > 0:
                    self.note(entry, "too_many")
        self.settle(name, now_ms)

    def end(self, request_id: str, owner: str, now_ms: int, what: str) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        if what == "victim":
            if entry is not None and entry.state == "waiting" and entry.owner == owner:
                self.note(entry, "victim")
                self.settle(entry.name, now_ms)
        elif entry is None:
            self.log.append(("not_held", request_id))
        elif entry.owner != owner:
            self.log.append(("not_owner", request_id))
        elif entry.state == "waiting":
            if what == "cancel":
                self.note(entry, "cancelled")
                self.settle(entry.name, now_ms)
            else:
                self.log.append(("not_granted", request_id))
        elif entry.state == "granted" and what == "renew":
            entry.deadline = now_ms + entry.lease_ms
            self.log.append(("renewed", request_id))
        elif entry.state == "granted":
            self.note(entry, "released")
            self.settle(entry.name, now_ms)
        elif entry.state == "expired" or (entry.state == "released" and what != "renew"):
            self.log.append((entry.state, request_id))
        else:
            self.log.append(("not_held", request_id))

    def tick(self, now_ms: int) -> None:
        while True:
            live = [e for e in self.entries if e.state in ("waiting", "granted") and e.deadline is not None]
            due = sorted((e.deadline, e.id) for e in live if e.deadline is not None and e.deadline <= now_ms)
            if not due:
                return
            entry = self.find(due[0][1])
            assert entry is not None
            self.note(entry, "timed_out" if entry.state == "waiting" else "expired")
            self.settle(entry.name, now_ms)
