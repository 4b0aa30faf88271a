"""Elections as plainly as they can be written: one list of candidates, everything else is found by looking through it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Entry:
    id: str
    owner: str
    name: str
    priority: int
    lease_ms: int
    until_ms: int
    gives_up_ms: int | None
    place: int
    state: str = "waiting"
    term: int = 0


class Oracle:
    """`log` has what happened, as (what, candidacy, term), since it was last emptied."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.terms: dict[str, int] = {}
        self.log: list[tuple[str, str, int]] = []
        self.places = 0

    def find(self, request_id: str) -> Entry | None:
        return next((e for e in self.entries if e.id == request_id), None)

    def leader(self, name: str) -> Entry | None:
        leaders = [e for e in self.entries if e.name == name and e.state == "leading"]
        assert len(leaders) < 2
        return leaders[0] if leaders else None

    def queue(self, name: str) -> list[Entry]:
        return sorted((e for e in self.entries if e.name == name and e.state == "waiting"), key=lambda e: (-e.priority, e.place))

    def place(self) -> int:
        self.places += 1
        return self.places

    def say(self, what: str, entry: Entry) -> None:
        self.log.append((what, entry.id, entry.term if what in ("leading", "stepped_down") else 0))

    def elect(self, entry: Entry) -> None:
        self.terms[entry.name] = self.terms.get(entry.name, 0) + 1
        entry.state, entry.term, entry.gives_up_ms = "leading", self.terms[entry.name], None
        self.say("leading", entry)

    def fill(self, name: str) -> None:
        if self.leader(name) is None and (queue := self.queue(name)):
            self.elect(queue[0])

    def stand(self, entry: Entry, now_ms: int, *, tries: bool) -> None:
        self.tick(now_ms)
        self.entries.append(entry)
        if self.leader(entry.name) is None:
            self.elect(entry)
        elif tries:
            entry.state = "led"
            self.say("led", entry)
        else:
            self.say("waiting", entry)

    def stand_again(self, request_id: str, now_ms: int, *, stranger: bool) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        assert entry is not None
        self.say("id_reused" if stranger else entry.state, entry)
        if not stranger:
            entry.until_ms = now_ms + entry.lease_ms

    def named(self, request_id: str, owner: str) -> Entry | None:
        entry = self.find(request_id)
        if entry is None or (entry.state not in ("leading", "waiting", "expired") and entry.owner == owner):
            self.log.append(("not_candidate", request_id, 0))
        elif entry.owner != owner:
            self.say("not_owner", entry)
        elif entry.state == "expired":
            self.say("expired", entry)
        else:
            return entry
        return None

    def renew(self, request_id: str, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        if (entry := self.named(request_id, owner)) is not None:
            entry.until_ms = now_ms + entry.lease_ms
            self.say("renewed", entry)

    def resign(self, request_id: str, owner: str, now_ms: int) -> None:
        self.tick(now_ms)
        entry = self.find(request_id)
        if entry is not None and entry.state == "resigned" and entry.owner == owner:
            self.say("resigned", entry)
        elif (entry := self.named(request_id, owner)) is not None:
            entry.state = "resigned"
            self.say("resigned", entry)
            self.fill(entry.name)

    def step_down(self, request_id: str, owner: str, term: int, successor: str, now_ms: int) -> None:
        self.tick(now_ms)
        entry = self.named(request_id, owner)
        if entry is None:
            return
        if entry.state == "waiting" and entry.term == term > 0:
            self.say("stepped_down", entry)
            return
        if entry.state != "leading" or entry.term != term:
            self.say("not_leader", entry)
            return
        others = [e for e in self.queue(entry.name) if not successor or e.owner == successor]
        if not others:
            self.say("no_successor", entry)
            return
        self.say("stepped_down", entry)
        entry.state, entry.place = "waiting", self.place()
        self.elect(others[0])

    def tick(self, now_ms: int) -> None:
        for entry in self.entries:
            if entry.state in ("waiting", "leading") and entry.until_ms <= now_ms:
                entry.state = "expired"
                self.say("expired", entry)
            elif entry.state == "waiting" and entry.gives_up_ms is not None and entry.gives_up_ms <= now_ms:
                entry.state = "timed_out"
                self.say("timed_out", entry)
        for name in list(self.terms):
            self.fill(name)
