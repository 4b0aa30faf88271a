"""Consensus as plainly as it can be written: lists of what was said, and everything else is found by looking through them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Wait:
    id: str
    until_ms: int
    state: str = "waiting"


@dataclass
class Plain:
    """One group."""

    size_min: int = 1
    rule: str = "majority"
    round_ms: int = 60_000
    term: int = 0
    members: list[str] = field(default_factory=list)
    members_of: dict[int, list[str]] = field(default_factory=dict)
    proposals: dict[str, tuple[str, str]] = field(default_factory=dict)
    votes: list[tuple[int, str, str]] = field(default_factory=list)
    first_vote_ms: int | None = None
    decided: str | None = None
    waits: list[Wait] = field(default_factory=list)

    def quorum(self) -> int:
        size = max(len(self.members), self.size_min)
        return size if self.rule == "all" else size // 2 + 1

    def votes_for(self, proposal: str) -> list[str]:
        return [member for term, member, one in self.votes if (term, one) == (self.term, proposal)]

    def vote_of(self, member: str) -> str | None:
        return next((one for term, who, one in self.votes if (term, who) == (self.term, member)), None)

    def next_term(self) -> None:
        self.term += 1
        self.first_vote_ms = None
        self.members_of[self.term] = list(self.members)


class Oracle:
    """`log` has what happened, as (what, request id or group and term), since it was last emptied."""

    def __init__(self) -> None:
        self.groups: dict[str, Plain] = {}
        self.done: dict[str, str] = {}
        self.log: list[tuple[str, str]] = []

    def group(self, name: str) -> Plain:
        return self.groups.setdefault(name, Plain())

    def say(self, what: str, request_id: str, *, keep: bool = False) -> None:
        self.log.append((what, request_id))
        if keep:
            self.done[request_id] = what

    def join(self, request_id: str, owner: str, name: str, size_min: int | None, rule: str | None, now_ms: int) -> None:
        self.tick(now_ms)
        group = self.group(name)
        if owner in group.members:
            self.say(f"term {group.term} joined", request_id)
        elif group.members and ((size_min or group.size_min) != group.size_min or (rule or group.rule) != group.rule):
            self.say("settings_differ", request_id, keep=True)
        else:
            if not group.members:
                group.size_min, group.rule = size_min or 1, rule or "majority"
            group.members.append(owner)
            group.next_term()
            self.say(f"term {group.term} joined", request_id, keep=True)

    def leave(self, request_id: str, owner: str, name: str, member: str, now_ms: int) -> None:
        self.tick(now_ms)
        group = self.group(name)
        if member not in group.members or owner not in group.members:
            self.say("not_member", request_id, keep=True)
        else:
            group.members.remove(member)
            group.next_term()
            self.say(f"term {group.term} left", request_id, keep=True)

    def propose(self, request_id: str, owner: str, name: str, value: str, now_ms: int) -> None:
        self.tick(now_ms)
        group = self.group(name)
        if group.decided is not None:
            self.say(f"decided {group.decided}", request_id)
        elif owner not in group.members:
            self.say("not_member", request_id, keep=True)
        else:
            group.proposals[request_id] = (owner, value)
            self.say("proposed", request_id)

    def vote(self, request_id: str, owner: str, name: str, proposal: str, term: int, now_ms: int) -> None:
        self.tick(now_ms)
        group = self.group(name)
        before = group.vote_of(owner)
        if group.decided is not None:
            self.say(f"decided {group.decided}", request_id)
        elif owner not in group.members:
            self.say("not_member", request_id)
        elif term != group.term:
            self.say("stale_term", request_id)
        elif before not in (None, proposal):
            self.say("voted", request_id)
        elif proposal not in group.proposals:
            self.say("no_proposal", request_id)
        elif len(group.members) < group.quorum():
            self.say("too_few", request_id)
        else:
            if before is None:
                group.votes.append((group.term, owner, proposal))
                group.first_vote_ms = now_ms if group.first_vote_ms is None else group.first_vote_ms
            self.say("counted", request_id)
            self.settle(name, group, request_id)

    def settle(self, name: str, group: Plain, request_id: str) -> None:
        counts = {one: len(group.votes_for(one)) for one in group.proposals}
        left = [member for member in group.members if group.vote_of(member) is None]
        winner = next((one for one, count in counts.items() if count >= group.quorum()), None)
        if winner is not None:
            group.decided = winner
            self.say(f"decided {winner}", winner)
            self.say(f"decided {winner}", request_id)
            for wait in group.waits:
                if wait.state == "waiting":
                    wait.state = f"decided {winner}"
                    self.say(wait.state, wait.id)
        elif max(counts.values()) + len(left) < group.quorum():
            group.next_term()
            self.say(f"term {group.term} split", "")

    def wait(self, request_id: str, name: str, wait_ms: int, now_ms: int) -> None:
        self.tick(now_ms)
        group = self.group(name)
        if group.decided is not None:
            self.say(f"decided {group.decided}", request_id)
        elif wait_ms == 0:
            self.say("undecided", request_id, keep=True)
        else:
            group.waits.append(Wait(request_id, now_ms + wait_ms))
            self.say("waiting", request_id)

    def find(self, request_id: str) -> Wait | None:
        return next((wait for group in self.groups.values() for wait in group.waits if wait.id == request_id), None)

    def cancel(self, request_id: str, now_ms: int) -> None:
        self.tick(now_ms)
        wait = self.find(request_id)
        if wait is None or wait.state != "waiting":
            self.say("not_waiting", request_id)
        else:
            wait.state = "cancelled"
            self.say("cancelled", request_id)

    def tick(self, now_ms: int) -> None:
        for group in self.groups.values():
            for wait in group.waits:
                if wait.state == "waiting" and wait.until_ms <= now_ms:
                    wait.state = "timed_out"
                    self.say("timed_out", wait.id)
            begun = group.first_vote_ms
            if group.decided is None and begun is not None and begun + group.round_ms <= now_ms:
                group.next_term()
                self.say(f"term {group.term} timed_out", "")
