"""Locks as plainly as they can be written: one list of requests, everything else is found by looking through it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Entry:
    number: int
    id: str
    owner: str
    names: tuple[str, ...]
    exclusive: bool
    wait_ms: int | None
    lease_ms: int
    priority: int
    asked_ms: int
    upgrade: bool = False
    state: str = "waiting"
    deadline: int | None = None

    def conflicts(self, other: Entry, name: str) -> bool:
        return name in self.names and name in other.names and (self.exclusive or other.exclusive)


class Oracle:
    """`log` has what happened, as (what, request id), since it was last emptied."""

    def __init__(self, ageing_ms: int) -> None:
        self.ageing_ms = ageing_ms
        self.entries: list[Entry] = []
        self.log: list[tuple[str, str]] = []
        self.latest_ms = 0

    def find(self, request_id: str) -> Entry | None:
        return next((e for e in self.entries if e.id == request_id), None)

    def granted(self) -> list[Entry]:
        return [e for e in self.entries if e.state == "granted"]

    def waiting(self) -> list[Entry]:
        found = [e for e in self.entries if e.state == "waiting"]
        return sorted(found, key=lambda e: (not e.upgrade, e.asked_ms - e.priority * self.ageing_ms, e.number))

    def has(self, owner: str, name: str, *, exclusive: bool) -> bool:
        return any(e.owner == owner and name in e.names and (e.exclusive or not exclusive) for e in self.granted())

    def can(self, entry: Entry) -> bool:
        order = self.waiting()
        ahead = order[: order.index(entry)] if entry in order else order  # a new one is not in it yet
        if entry not in order:
            key = (not entry.upgrade, entry.asked_ms - entry.priority * self.ageing_ms, entry.number)
            ahead = [e for e in order if (not e.upgrade, e.asked_ms - e.priority * self.ageing_ms, e.number) < key]
        for name in entry.names:
            if self.has(entry.owner, name, exclusive=entry.exclusive):
                continue
            if any(e.owner != entry.owner and entry.conflicts(e, name) for e in self.granted()):
                return False
            if any(entry.conflicts(e, name) for e in ahead):
                return False
        return True

    def settle(self, now_ms: int) -> None:
        while True:
            entry = next((e for e in self.waiting() if self.can(e)), None)
            if entry is None:
                return
            self.grant(entry, now_ms)

    def grant(self, entry: Entry, now_ms: int) -> None:
        entry.state, entry.deadline = "granted", now_ms + entry.lease_ms
        self.log.append(("granted", entry.id))

    def ask(self, entry: Entry, now_ms: int) -> None:
        self.tick(now_ms)
        known = self.find(entry.id)
        if known is not None:
            if (known.owner, known.names) != (entry.owner, entry.names):
                self.log.append(("id_reused", entry.id))
            else:
                self.log.append((known.state, entry.id))
            return
        self.latest_ms = max(self.latest_ms, now_ms)
        entry.asked_ms = self.latest_ms
        mine = [n for n in entry.names if self.has(entry.owner, n, exclusive=False)]
        entry.upgrade = entry.exclusive and any(not self.has(entry.owner, n, exclusive=True) for n in mine)
        if entry.upgrade and len(entry.names) > 1:
            self.refuse(entry, "upgrade_alone")
        elif self.can(entry):
            self.entries.append(entry)
            self.grant(entry, now_ms)
            self.settle(now_ms)
        elif entry.upgrade and any(e.upgrade and e.owner != entry.owner and e.names == entry.names for e in self.waiting()):
            self.refuse(entry, "upgrade_deadlock")
        elif entry.wait_ms == 0:
            self.refuse(entry, "busy")
        else:
            entry.deadline = None if entry.wait_ms is None else now_ms + entry.wait_ms
            self.entries.append(entry)
            self.log.append(("waiting", entry.id))

    def refuse(self, entry: Entry, code: str) -> None:
        if entry not in self.entries:
            self.entries.append(entry)
        entry.state = code
        self.log.append((code, entry.id))

    def end(self, entry: Entry, state: str, now_ms: int, *, settle: bool = True) -> None:
        entry.state = state
        self.log.append((state, entry.id))
        for waiter in self.waiting():
            name = waiter.names[0]
            stood = waiter.upgrade and waiter.owner == entry.owner and name in entry.names
            if stood and not self.has(waiter.owner, name, exclusive=False):
                self.refuse(waiter, "upgrade_lost")
        if settle:
            self.settle(now_ms)

    def release(self, request_id: str, owner: str, now_ms: int, *, renew: bool = False) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        if entry is None:
            self.log.append(("not_held", request_id))
        elif entry.owner != owner:
            self.log.append(("not_owner", request_id))
        elif entry.state == "waiting":
            self.log.append(("not_granted", request_id))
        elif entry.state == "granted" and renew:
            entry.deadline = now_ms + entry.lease_ms
            self.log.append(("renewed", request_id))
        elif entry.state == "granted":
            self.end(entry, "released", now_ms)
        elif entry.state == "expired" or (entry.state == "released" and not renew):
            self.log.append((entry.state, request_id))
        else:
            self.log.append(("not_held", request_id))

    def cancel(self, request_id: str, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        if entry is not None and entry.state == "waiting" and entry.owner == owner:
            self.end(entry, "cancelled", now_ms)
        else:
            self.release(request_id, owner, now_ms)

    def abort(self, request_id: str, now_ms: int) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        if entry is not None and entry.state == "waiting":
            self.end(entry, "victim", now_ms)

    def leave(self, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        for state, after in (("waiting", "cancelled"), ("granted", "released")):
            for entry in [e for e in self.entries if e.owner == owner and e.state == state]:
                self.end(entry, after, now_ms, settle=False)
        self.settle(now_ms)
        self.log.append(("left", owner))

    def tick(self, now_ms: int) -> None:
        while True:
            live = [e for e in self.entries if e.state in ("waiting", "granted") and e.deadline is not None]
            due = sorted((e.deadline, e.id, e) for e in live if e.deadline is not None and e.deadline <= now_ms)
            if not due:
                return
            entry = due[0][2]
            self.end(entry, "timed_out" if entry.state == "waiting" else "expired", now_ms)
