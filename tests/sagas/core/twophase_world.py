"""A coordinator among participants that promise, ask, crash and do other things, over a network that loses, repeats and reorders.

The coordinator's log is kept, and a crash runs it again from the last committed rows: what it says then is said a second time.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sagas.core.twophase.coordinator import Coordinator
from sagas.core.twophase.words import CoordinatorLimits, Told
from schemas.transactions import MANAGER_PREFIX
from streams.core.at import At

__all__ = ["LIMITS", "Command", "Participant", "World", "as_said", "carry_out", "decision_of"]

Fields = dict[str, Any]
Command = tuple[str, Fields, str, int]
"""Its kind, fields, the route of who asks, and the partition's time."""

LIMITS = CoordinatorLimits(timeout_ms_max=10_000, again_ms=100, again_ms_max=400, silent_after=3, incident_ms=4_000)
NAMES = ("a", "b", "c", f"{MANAGER_PREFIX}pay", f"{MANAGER_PREFIX}mail")
TIMEOUT_MS = 300


def carry_out(machine: Coordinator, command: Command, offset: int) -> list[Told]:
    """Let time pass as a cell does, then carry a command out."""
    kind, fields, route, now_ms = command
    at = At(offset, 0, now_ms)
    due_ms = machine.due_ms()
    told = machine.tick(at) if due_ms is not None and due_ms <= now_ms else []
    if kind == "begin":
        return told + machine.begin(fields, route, at)
    if kind == "voted":
        return told + machine.voted(fields, at)
    if kind == "in_doubt":
        return told + machine.in_doubt(fields, route, at)
    if kind == "done":
        return told + machine.done(fields, at)
    if kind == "abandon":
        return told + machine.abandon(fields, at)
    if kind == "settle":
        return told + machine.settle(fields, route, at)
    return told


def as_said(told: list[Told]) -> str:
    """Return what is said as text."""
    return json.dumps(told)


def decision_of(txn: str, log: list[Command], participants: list[str]) -> bool | None:
    """Return what is decided about a transaction, by looking at all its commands: the oracle.

    It commits with the first command after which all have promised; it aborts with the first that is against it, with the first
    that comes when its time is over, and with the first question where nobody has spoken of it. None: nothing is decided.
    """
    promised: set[str] = set()
    began_ms = -1
    for kind, fields, _, now_ms in log:
        if began_ms >= 0 and began_ms + TIMEOUT_MS <= now_ms:
            return False
        if fields.get("txn") != txn or kind == "settle":
            continue
        if kind == "abandon" or (began_ms < 0 and kind == "in_doubt"):
            return False
        if began_ms < 0 and kind == "done":
            if fields["commit"]:
                return False
            continue
        if kind == "in_doubt" and not fields["participant"]:
            continue
        began_ms = now_ms if began_ms < 0 else began_ms
        if kind == "begin":
            continue
        if not fields.get("commit", True):
            return False
        promised.add(fields["participant"])
        if promised == set(participants):
            return True
    return None


@dataclass
class Participant:
    """One part of one transaction; what it has promised and done is durable."""

    txn: str
    name: str
    votes_for: bool
    state: str = "new"
    at_ms: int = 0
    by_itself: bool = False
    """Whether it did something without being told."""


@dataclass
class World:
    """All of them.

    Args:
        chance: What happens follows from it.
        limits: Of the coordinator.
        heuristic: Whether participants may do something that was not decided.
    """

    chance: random.Random
    limits: CoordinatorLimits = LIMITS
    heuristic: bool = False
    now_ms: int = 1_000
    log: list[Command] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    rows: dict[Any, Any] = field(default_factory=dict)
    committed: int = 0
    parts: dict[tuple[str, str], Participant] = field(default_factory=dict)
    txns: dict[str, list[str]] = field(default_factory=dict)
    network: list[tuple[str, Fields]] = field(default_factory=list)
    decisions: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))
    decided_at: dict[str, int] = field(default_factory=dict)
    answers: dict[str, list[Fields]] = field(default_factory=lambda: defaultdict(list))
    incidents: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.machine = Coordinator(self.limits)

    # ---- the coordinator

    def command(self, kind: str, fields: Fields, route: str = "") -> None:
        """Append a command to its log, and carry it out."""
        self.log.append((kind, json.loads(json.dumps(fields)), route, self.now_ms))
        told = carry_out(self.machine, self.log[-1], len(self.log) - 1)
        self.said.append(as_said(told))
        self._send(told, len(self.log) - 1)

    def commit(self) -> None:
        """Write its rows."""
        for key, row in self.machine.changes().items():
            text = json.dumps(row)
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = text
        self.committed = len(self.log)

    def crash(self) -> None:
        """Make it anew from the rows that are committed, and run what lies behind them again."""
        rows = [(key, json.loads(text)) for key, text in self.rows.items()]
        self.chance.shuffle(rows)
        self.machine = Coordinator.load(rows, self.limits)
        for offset in range(self.committed, len(self.log)):
            told = carry_out(self.machine, self.log[offset], offset)
            assert as_said(told) == self.said[offset], "it says the same of the same log"
            self._send(told, offset)

    def _send(self, told: list[Told], offset: int) -> None:
        for kind, fields, route, everybody in told:
            if kind == "decide":
                self.network.append((fields["domain"], fields))
            elif kind == "decide_manager":
                self.network.append((MANAGER_PREFIX + fields["manager"], fields))
            elif kind == "prepare_manager":
                self.network.append((MANAGER_PREFIX + fields["manager"], {"prepare": True, **fields}))
            elif kind == "decided" and (route or everybody):
                self.answers[fields["txn"]].append({**fields, "offset": offset})
            elif kind == "incident":
                self.incidents[fields["txn"], fields["participant"]].append(fields["code"])
            elif kind == "ended":
                self.ended.add(fields["txn"])
            if kind in ("decide", "decide_manager"):
                self.decisions[fields["txn"]].add(fields["commit"])
                self.decided_at.setdefault(fields["txn"], offset)

    # ---- participants

    def begin(self) -> None:
        """Begin a transaction; its client may die on the way."""
        chance, txn = self.chance, f"t{len(self.txns)}"
        names = sorted(chance.sample(NAMES, chance.choice([1, 2, 2, 2, 3])))
        self.txns[txn] = names
        for name in names:
            self.parts[txn, name] = Participant(txn, name, chance.random() < 0.85)
            if chance.random() < 0.95 and not name.startswith(MANAGER_PREFIX):
                self.network.append((name, {"prepare": True, "txn": txn, "participants": names}))
        managers = [
            {"name": one.removeprefix(MANAGER_PREFIX), "payload": "{}"} for one in names if one.startswith(MANAGER_PREFIX)
        ]
        if managers and chance.random() < 0.95:
            asked = {"txn": txn, "owner": "ann", "participants": names, "managers": managers, "timeout_ms": TIMEOUT_MS}
            self.network.append(("coordinator", {"kind": "begin", **asked, "again": False}))

    def deliver(self, number: int, *, keep: bool) -> None:
        """Hand over one of the messages under way."""
        to, fields = self.network[number] if keep else self.network.pop(number)
        if keep and "again" in fields:
            self.network[number] = (to, {**fields, "again": True})  # a client says it again, and that it does
        if to == "coordinator":
            fields = dict(fields)
            self.command(fields.pop("kind"), fields, "1|call|x.replies" if fields.pop("asks", False) else "")
        elif part := self.parts.get((fields["txn"], to)):
            self._take(part, fields)

    def _take(self, part: Participant, fields: Fields) -> None:
        if "prepare" in fields:
            if part.state == "new":
                part.state = "promised" if part.votes_for else "aborted"
                part.at_ms = fields.get("at_ms", self.now_ms)
            if part.state == "committed":
                self._say(part, "done", commit=True)
            else:
                self._vote(part)
            return
        if part.state in ("new", "promised"):
            part.state = "committed" if fields["commit"] else "aborted"
        self._say(part, "done", commit=part.state == "committed")

    def _vote(self, part: Participant) -> None:
        asked = {
            "owner": "ann",
            "participants": self.txns[part.txn],
            "timeout_ms": TIMEOUT_MS,
            "route": "",
            "position": 1,
            "at_ms": part.at_ms,
        }
        self._say(part, "voted", commit=part.state == "promised", code="", conflicts=[], **asked)

    def _say(self, part: Participant, kind: str, **more: Any) -> None:
        fields = {"kind": kind, "txn": part.txn, "participant": part.name, "reason": "", **more}
        self.network.append(("coordinator", fields))

    def ask(self, part: Participant) -> None:
        """Let a participant in doubt ask."""
        if part.state == "promised":
            asked = {"txn": part.txn, "participant": part.name, "at_ms": part.at_ms}
            self.network.append(("coordinator", {"kind": "in_doubt", **asked}))

    def do_something_else(self, part: Participant) -> None:
        """Let a manager that has promised decide by itself."""
        if self.heuristic and part.state == "promised" and part.name.startswith(MANAGER_PREFIX):
            part.state, part.by_itself = self.chance.choice(["committed", "aborted"]), True
            self._say(part, "done", commit=part.state == "committed")

    # ---- what happens

    def step(self) -> None:
        """Let something happen."""
        chance = self.chance
        self.now_ms += chance.choice([0, 0, 0, 1, 5, 40])
        what = chance.random()
        if what < 0.12:
            self.begin()
        elif what < 0.70 and self.network:
            self.deliver(chance.randrange(len(self.network)), keep=chance.random() < 0.15)
        elif what < 0.73 and self.network:
            self.network.pop(chance.randrange(len(self.network)))
        elif what < 0.80 and self.parts:
            self.ask(chance.choice(list(self.parts.values())))
        elif what < 0.83 and self.parts:
            self.do_something_else(chance.choice(list(self.parts.values())))
        elif what < 0.86 and self.txns:
            self.network.append(
                ("coordinator", {"kind": "in_doubt", "txn": self._some(), "participant": "", "asks": True, "at_ms": 0})
            )
        elif what < 0.88 and self.txns:
            self.network.append(("coordinator", {"kind": "abandon", "txn": self._some(), "owner": "ann", "reason": ""}))
        elif what < 0.93:
            self.commit()
        elif what < 0.97:
            self.crash()
        else:
            self.now_ms += chance.choice([100, 300])
            self.command("time", {})

    def _some(self) -> str:
        return self.chance.choice(list(self.txns)[-4:])

    def calm_down(self) -> None:
        """Let everything arrive, and time pass, until nothing happens any more; operators settle what is left."""
        for _ in range(60):
            while self.network:
                self.deliver(0, keep=False)
            for part in self.parts.values():
                self.ask(part)
            self.now_ms += 400
            self.command("time", {})
            if not self.network and not self.machine.live:
                break
        for txn, live in list(self.machine.live.items()):
            for who in list(live.participants):
                self.command("settle", {"txn": txn, "participant": who, "owner": "op", "reason": "seen to"}, "1|call|x.replies")
