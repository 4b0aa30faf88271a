"""Decides transactions of several participants: all of them commit, or none does.

    collecting ── all voted for it ──────────────────────▶ committing ── all have done it ──▶ ended, remembered
         │                                                      ▲ told again, with growing pauses, until then
         ├── one voted against it, time is over, given up ──▶ aborting ── all have done it ──▶ ended, remembered
         │
    unknown and asked for ──▶ aborted, and remembered as that (presumed abort)

What it promises, for every prefix of its log: no participant is told to commit a transaction that another is told to abort; a
decision never changes; it commits only what every participant has promised. The decision follows from the votes, which are in
the log before it is told. A participant that says that it did something else than was decided is an incident, and so is one
that is silent for long: people have to look at it.

    ["c", txn]   [state, owner, participants, [who voted for it], [who has done it], {manager: payload}, route, began, due, tries,
                  code, reason, conflicts, timeout, [open incidents]]
    ["e", txn]   [committed, position, when, owner, [participants]]
    ["meta"]     [whether an end is forgotten]

(Gray 1978, "Notes on data base operating systems"; Mohan, Lindsay and Obermarck 1986 for presumed abort.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from schemas.naming import name_problem
from schemas.transactions import MANAGER_PREFIX
from streams.core.at import At, Deadlines

__all__ = ["Coordinator", "CoordinatorLimits", "Told"]

Fields = dict[str, Any]
Key = tuple[str | int, ...]

COLLECTING: Final = 0
COMMITTING: Final = 1
ABORTING: Final = 2
LIVE: Final = "c"
ENDED: Final = "e"
META: Final[Key] = ("meta",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorLimits:
    """What is refused or forgotten, and why there is a limit.

    Attributes:
        participants_max: Of one transaction: each is a round trip that can fail.
        live_max: Transactions of one partition that have not ended; more is an outage of participants.
        ended_max: Ends of one partition that are remembered for who asks.
        timeout_ms_max: An hour: rows are locked for so long.
        again_ms: After which a decision is told again that was not done, and then twice as long each time.
        again_ms_max: The longest of these pauses.
        silent_after: So many times of telling in vain are an incident.
        payload_chars_max: What a resource manager is asked to do.
    """

    participants_max: int = 64
    live_max: int = 100_000
    ended_max: int = 200_000
    timeout_ms_max: int = 3_600_000
    again_ms: int = 1_000
    again_ms_max: int = 60_000
    silent_after: int = 6
    payload_chars_max: int = 65_536


class Told(NamedTuple):
    """Something that is said.

    Attributes:
        kind: "decide", "prepare_manager", "decide_manager" to participants; "decided", "ended", "incident" to everybody.
        fields: Of the event.
        route: Who asked.
        everybody: Whether it is an event, too.
    """

    kind: str
    fields: Fields
    route: str = ""
    everybody: bool = False


@dataclass(slots=True)
class Live:
    """A transaction that has not ended."""

    state: int
    owner: str
    participants: list[str]
    votes: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    payloads: dict[str, str] = field(default_factory=dict)
    route: str = ""
    began_ms: int = 0
    due_ms: int = 0
    tries: int = 0
    code: str = ""
    reason: str = ""
    conflicts: list[Fields] = field(default_factory=list)
    timeout_ms: int = 0
    incidents: list[str] = field(default_factory=list)

    def row(self) -> list[Any]:
        """Return its row; what it has of lists is not shared."""
        return [
            self.state,
            self.owner,
            list(self.participants),
            list(self.votes),
            list(self.done),
            dict(self.payloads),
            self.route,
            self.began_ms,
            self.due_ms,
            self.tries,
            self.code,
            self.reason,
            list(self.conflicts),
            self.timeout_ms,
            list(self.incidents),
        ]

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        """Return the transaction of a row."""
        state, owner, participants, votes, done, payloads, *rest, conflicts, timeout_ms, incidents = row
        one = cls(state, owner, list(participants), list(votes), list(done), dict(payloads), *rest)
        one.conflicts, one.timeout_ms, one.incidents = list(conflicts), timeout_ms, list(incidents)
        return one


class Coordinator:
    """The transactions of one partition.

    Args:
        limits: What is refused or forgotten.
    """

    def __init__(self, limits: CoordinatorLimits | None = None) -> None:
        self.limits = limits or CoordinatorLimits()
        self.live: dict[str, Live] = {}
        self.ended: OrderedDict[str, list[Any]] = OrderedDict()
        self._due = Deadlines()
        self._dirty: set[Key] = set()

    # ---- state

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Any]], limits: CoordinatorLimits | None = None) -> Coordinator:
        """Return the coordinator of these rows."""
        machine = cls(limits)
        ended = []
        for key, row in rows:
            if key[0] == LIVE:
                txn = str(key[1])
                live = machine.live[txn] = Live.of(row)
                machine._due.set(txn, live.due_ms)
            elif key[0] == ENDED:
                ended.append((row[1], str(key[1]), row))
        machine.ended = OrderedDict((txn, row) for _, txn, row in sorted(ended, key=lambda one: one[:2]))
        return machine

    def changes(self) -> dict[Key, Any | None]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        found: dict[Key, Any] = {}
        for key in sorted(self._dirty, key=str):
            if key[0] == LIVE:
                live = self.live.get(str(key[1]))
                found[key] = None if live is None else live.row()
            else:
                found[key] = self.ended.get(str(key[1]))
        self._dirty = set()
        return found

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._due.next_ms()

    # ---- commands

    def begin(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Have resource managers prepare."""
        txn = asked["txn"]
        if txn in self.ended:
            return [self._answer(txn, route)]
        managers = {MANAGER_PREFIX + one["name"]: one["payload"] for one in asked["managers"]}
        live = self.live.get(txn)
        if live is None:
            if problem := self._problem(txn, asked["owner"], asked["participants"], asked["timeout_ms"], managers):
                return [self._refused(asked, *problem, route)]
            live = self._new(asked, route, at)
        live.route = route or live.route
        live.payloads = managers
        self._dirty.add((LIVE, txn))
        if live.state != COLLECTING:
            return [self._answer(txn, route)]
        return [self._prepare(txn, live, one) for one in live.participants if one in managers and one not in live.votes]

    def voted(self, asked: Fields, at: At) -> list[Told]:
        """Count a vote."""
        txn, who = asked["txn"], asked["participant"]
        live = self.live.get(txn)
        if live is None:
            if (past := self.ended.get(txn)) is not None:
                return [self._decide(txn, who, None, commit=past[0], reason="")] if asked["commit"] else []
            if problem := self._problem(txn, asked["owner"], asked["participants"], asked["timeout_ms"], {}):
                return [self._refused(asked, *problem, asked["route"])]
            live = self._new(asked, asked["route"], at)
        if who not in live.participants:
            reason = f"{who} does not take part: {', '.join(live.participants)} do"
            return [self._decide(txn, who, live, commit=False, reason=reason)] if asked["commit"] else []
        live.route = live.route or asked["route"]
        self._dirty.add((LIVE, txn))
        if live.state != COLLECTING:
            if asked["commit"] and who not in live.done:
                return [self._decide(txn, who, live, commit=live.state == COMMITTING, reason=live.reason)]
            return []
        if not asked["commit"]:
            live.done.append(who)  # it holds nothing, and need not be told
            live.code, live.reason, live.conflicts = asked["code"], asked["reason"], asked["conflicts"]
            return self._decided(txn, live, ABORTING, at)
        if who not in live.votes:
            live.votes.append(who)
        return self._decided(txn, live, COMMITTING, at) if len(live.votes) == len(live.participants) else []

    def in_doubt(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Say what is decided; one that nobody knows is aborted from now on."""
        txn, who = asked["txn"], asked["participant"]
        if problem := name_problem(txn, "the transaction"):
            return [self._refused({"txn": txn, "owner": "", "participants": []}, "bad_name", problem, route)]
        live, known = self.live.get(txn), True
        if live is None and txn not in self.ended:
            known = False
            self._end(txn, commit=False, owner="", participants=[], at=at)
        if not who:
            return [self._answer(txn, route, known=known)]
        if live is None:
            return [self._decide(txn, who, None, commit=self.ended[txn][0], reason="" if known else "nobody knows it")]
        if live.state == COLLECTING or who in live.done:
            return []
        return [self._decide(txn, who, live, commit=live.state == COMMITTING, reason=live.reason)]

    def done(self, asked: Fields, at: At) -> list[Told]:
        """Note that a participant has done it, or something else."""
        txn, who = asked["txn"], asked["participant"]
        live = self.live.get(txn)
        if live is None or live.state == COLLECTING or who not in live.participants or who in live.done:
            return []
        self._dirty.add((LIVE, txn))
        if asked["commit"] != (live.state == COMMITTING):
            did, decided = ("committed", "abort") if asked["commit"] else ("rolled back", "commit")
            why = f": {asked['reason']}" if asked["reason"] else ""
            return self._incident(txn, live, who, "heuristic", f"{who} has {did}, and {decided} was decided{why}")
        live.done.append(who)
        return self._perhaps_ended(txn, live, at)

    def abandon(self, asked: Fields, at: At) -> list[Told]:
        """Abort, where nothing is decided."""
        live = self.live.get(asked["txn"])
        if live is None or live.state != COLLECTING or live.owner != asked["owner"]:
            return []
        live.code, live.reason = "abandoned", asked["reason"] or "its client gave it up"
        return self._decided(asked["txn"], live, ABORTING, at)

    def settle(self, asked: Fields, route: str, at: At) -> list[Told]:
        """End an incident: a person has dealt with it."""
        txn, who = asked["txn"], asked["participant"]
        live = self.live.get(txn)
        if live is None or who not in live.incidents:
            return [self._answer(txn, route)] if txn in self.ended or live is not None else [self._unknown(txn, route)]
        live.incidents.remove(who)
        if who not in live.done:
            live.done.append(who)
        self._dirty.add((LIVE, txn))
        fields = {"txn": txn, "owner": live.owner, "participant": who, "code": "resolved"}
        told = Told("incident", fields | {"reason": f"{asked['owner']}: {asked['reason']}"}, everybody=True)
        answer = self._answer(txn, route)
        return [told, answer, *self._perhaps_ended(txn, live, at)]

    def tick(self, at: At) -> list[Told]:
        """Let time pass: votes that do not come, decisions that are not done."""
        told: list[Told] = []
        for txn in list(self._due.take(at.now_ms)):
            live = self.live[txn]
            self._dirty.add((LIVE, txn))
            if live.state == COLLECTING:
                if (
                    live.tries == 0
                    and any(one in live.payloads for one in live.participants)
                    and self._ask_managers(txn, live, told)
                ):
                    continue
                missing = [one for one in live.participants if one not in live.votes]
                live.code = "timed_out"
                live.reason = f"no vote of {', '.join(missing[:8])} within {live.timeout_ms} ms"
                told += self._decided(txn, live, ABORTING, at)
                continue
            live.tries += 1
            left = [one for one in live.participants if one not in live.done and one not in live.incidents]
            commit = live.state == COMMITTING
            if live.tries == self.limits.silent_after:
                for who in left:
                    reason = f"{who} was told {live.tries} times what is decided, and is silent"
                    told += self._incident(txn, live, who, "silent", reason)
                    live.incidents.remove(who)  # it is told on: it may come back
            told += [self._decide(txn, who, live, commit=commit, reason=live.reason) for who in left]
            if left:
                self._again(txn, live, at)
        return told

    # ---- inside

    def _ask_managers(self, txn: str, live: Live, told: list[Told]) -> bool:
        """Ask managers that are silent once more, half-way to the timeout."""
        end_ms = live.began_ms + live.timeout_ms
        if live.due_ms >= end_ms:
            return False
        live.tries, live.due_ms = 1, end_ms
        self._due.set(txn, end_ms)
        told += [self._prepare(txn, live, one) for one in live.participants if one in live.payloads and one not in live.votes]
        return True

    def _new(self, asked: Fields, route: str, at: At) -> Live:
        txn, timeout_ms = asked["txn"], asked["timeout_ms"]
        managers = any(one.startswith(MANAGER_PREFIX) for one in asked["participants"])
        due_ms = at.now_ms + (timeout_ms // 2 if managers else timeout_ms)
        live = Live(COLLECTING, asked["owner"], list(asked["participants"]), route=route, began_ms=at.now_ms, due_ms=due_ms)
        live.timeout_ms = timeout_ms
        self.live[txn] = live
        self._due.set(txn, due_ms)
        self._dirty.add((LIVE, txn))
        return live

    def _decided(self, txn: str, live: Live, state: int, at: At) -> list[Told]:
        live.state, live.tries = state, 0
        self._dirty.add((LIVE, txn))
        told = [self._answer(txn, live.route, everybody=True)]
        commit = state == COMMITTING
        left = [who for who in live.participants if who not in live.done]
        told += [self._decide(txn, who, live, commit=commit, reason=live.reason) for who in left]
        self._again(txn, live, at)
        return told + self._perhaps_ended(txn, live, at)

    def _again(self, txn: str, live: Live, at: At) -> None:
        live.due_ms = at.now_ms + min(self.limits.again_ms * 2**live.tries, self.limits.again_ms_max)
        self._due.set(txn, live.due_ms)

    def _perhaps_ended(self, txn: str, live: Live, at: At) -> list[Told]:
        if len(live.done) < len(live.participants):
            return []
        commit = live.state == COMMITTING
        del self.live[txn]
        self._due.end(txn)
        self._dirty.add((LIVE, txn))
        self._end(txn, commit=commit, owner=live.owner, participants=live.participants, at=at)
        fields = {
            "txn": txn,
            "owner": live.owner,
            "commit": commit,
            "participants": live.participants,
            "took_ms": at.now_ms - live.began_ms,
        }
        return [Told("ended", fields, everybody=True)]

    def _end(self, txn: str, *, commit: bool, owner: str, participants: list[str], at: At) -> None:
        self.ended[txn] = [commit, at.offset + 1, at.now_ms, owner, participants]
        self._dirty.add((ENDED, txn))
        if len(self.ended) > self.limits.ended_max:
            oldest, _ = self.ended.popitem(last=False)
            self._dirty.add((ENDED, oldest))

    def _incident(self, txn: str, live: Live, who: str, code: str, reason: str) -> list[Told]:
        if who in live.incidents:
            return []
        live.incidents.append(who)
        fields = {"txn": txn, "owner": live.owner, "participant": who, "code": code, "reason": reason}
        return [Told("incident", fields, everybody=True)]

    def _prepare(self, txn: str, live: Live, who: str) -> Told:
        fields = {
            "manager": who.removeprefix(MANAGER_PREFIX),
            "txn": txn,
            "owner": live.owner,
            "payload": live.payloads[who],
            "participants": live.participants,
            "timeout_ms": live.timeout_ms,
        }
        return Told("prepare_manager", fields)

    def _decide(self, txn: str, who: str, live: Live | None, *, commit: bool, reason: str) -> Told:
        if not who.startswith(MANAGER_PREFIX):
            return Told("decide", {"domain": who, "txn": txn, "commit": commit, "reason": reason})
        payload = "" if live is None else live.payloads.get(who, "")
        name = who.removeprefix(MANAGER_PREFIX)
        return Told("decide_manager", {"manager": name, "txn": txn, "commit": commit, "reason": reason, "payload": payload})

    def _answer(self, txn: str, route: str, *, known: bool = True, everybody: bool = False) -> Told:
        live = self.live.get(txn)
        if live is None:
            commit, _, _, owner, participants = self.ended[txn]
            fields = {"decided": True, "commit": commit, "owner": owner, "participants": participants, "code": "", "reason": ""}
            fields["conflicts"] = []
        else:
            fields = {
                "decided": live.state != COLLECTING,
                "commit": live.state == COMMITTING,
                "owner": live.owner,
                "participants": live.participants,
                "code": live.code,
                "reason": live.reason,
                "conflicts": live.conflicts,
            }
        if not known:
            fields |= {"code": "unknown", "reason": "the coordinator does not know it: it has aborted"}
        return Told("decided", {"txn": txn, "known": known, **fields}, route, everybody)

    def _unknown(self, txn: str, route: str) -> Told:
        return self._refused({"txn": txn, "owner": "", "participants": []}, "unknown", "the coordinator does not know it", route)

    def _refused(self, asked: Fields, code: str, reason: str, route: str) -> Told:
        fields = {
            "txn": asked["txn"][:256],
            "owner": asked["owner"][:256],
            "known": False,
            "decided": True,
            "commit": False,
            "participants": [],
            "code": code,
            "reason": reason,
            "conflicts": [],
        }
        return Told("decided", fields, route)

    def _problem(
        self, txn: str, owner: str, participants: list[str], timeout_ms: int, managers: dict[str, str]
    ) -> tuple[str, str] | None:
        limits = self.limits
        for name, what in ((txn, "the transaction"), (owner, "the owner"), *((one, "a participant") for one in participants)):
            if problem := name_problem(name, what):
                return "bad_name", problem
        if not 1 <= len(participants) <= limits.participants_max or len(set(participants)) != len(participants):
            text = f"{len(participants)} participants: 1 to {limits.participants_max} different ones are allowed"
            return "bad_participants", text
        if not 1 <= timeout_ms <= limits.timeout_ms_max:
            return "bad_timeout", f"a timeout of {timeout_ms} ms: 1 to {limits.timeout_ms_max} are allowed"
        if unknown := sorted(set(managers) - set(participants)):
            return "bad_participants", f"{unknown[0]} is asked to prepare and is no participant: name it among them"
        if large := next((one for one, text in managers.items() if len(text) > limits.payload_chars_max), ""):
            return "too_large", f"what {large} is asked for has more than {limits.payload_chars_max} characters"
        if len(self.live) >= limits.live_max:
            return "full", f"{limits.live_max} transactions have not ended on this partition: see antiphon txn incidents"
        return None
