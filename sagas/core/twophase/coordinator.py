"""Decides transactions of several participants: all of them commit, or none does.

    collecting ── all voted for it ──────────────────────▶ committing ── all have done it ──▶ ended, remembered
         │                                                      ▲ told again, with growing pauses, until then
         ├── one voted against it, time is over, given up ──▶ aborting ── all have done it ──▶ ended, remembered
         │
    unknown and asked for ──▶ aborted, and remembered as that (presumed abort)

What it promises, for every prefix of its log: no participant is told to commit a transaction that another is told to abort; a
decision never changes; it commits only what every participant has promised. The decision follows from the votes, which are in
the log before it is told. A participant that says that it did something else than was decided is an incident, and so is one
that has promised and is silent for long: people have to look at it.

Of the ended the newest are remembered. A vote says when it was promised: where that is before the end of one that is forgotten,
the vote may be a repeated one, and does not begin its transaction anew. A client is not told that what may be forgotten has
aborted, but that nobody knows any more.

    ["c", txn]   a transaction that has not ended: `live.Live.row`
    ["e", txn]   [committed, number, owner, participants, code, reason, when]     ended, while it is remembered
    ["meta"]     [when the newest of the forgotten ended]

(Gray 1978, "Notes on data base operating systems"; Mohan, Lindsay and Obermarck 1986 for presumed abort.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from sagas.core.twophase.live import ABORTED, COMMITTED, HEURISTIC, NOTHING, PROMISED, SETTLED, WAITED_FOR, Live
from sagas.core.twophase.words import CoordinatorLimits, Fields, Told, managers_problem, names_problem
from schemas.naming import NAME_CHARS_MAX, name_problem
from schemas.transactions import MANAGER_PREFIX
from streams.core.at import At, Deadlines

__all__ = ["Coordinator"]

LIVE: Final = "c"
ENDED: Final = "e"
META: Final = "meta"

Key = tuple[str | int, ...]


class Coordinator:
    """The transactions of one partition.

    Args:
        limits: What is refused or forgotten.
    """

    def __init__(self, limits: CoordinatorLimits | None = None) -> None:
        self.limits = limits or CoordinatorLimits()
        self.live: dict[str, Live] = {}
        self.ended: OrderedDict[str, list[Any]] = OrderedDict()
        self._number = 0
        self._forgotten_ms = -1
        self._due = Deadlines()
        self._dirty: set[tuple[str, str]] = set()

    # ---- state

    @classmethod
    def load(cls, rows: Iterable[tuple[Key, Any]], limits: CoordinatorLimits | None = None) -> Coordinator:
        """Return the coordinator of these rows."""
        machine = cls(limits)
        ended: list[tuple[int, str, list[Any]]] = []
        for key, row in rows:
            if key[0] == META:
                machine._forgotten_ms = row[0]
                continue
            txn = str(key[1])
            if key[0] == LIVE:
                live = machine.live[txn] = Live.of(row)
                machine._due.set(txn, live.due_ms)
            else:
                ended.append((row[1], txn, row))
        ended.sort()
        machine.ended = OrderedDict((txn, row) for _, txn, row in ended)
        machine._number = ended[-1][0] if ended else 0
        return machine

    def changes(self) -> dict[Key, Any | None]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        found: dict[Key, Any] = {}
        for kind, txn in self._dirty:
            if kind == ENDED:
                found[kind, txn] = self.ended.get(txn)
            elif kind == META:
                found[(META,)] = [self._forgotten_ms]
            else:
                live = self.live.get(txn)
                found[kind, txn] = None if live is None else live.row()
        self._dirty.clear()
        return found

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        return self._due.next_ms()

    # ---- commands

    def begin(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Have resource managers prepare."""
        txn, participants = asked["txn"], asked["participants"]
        if txn in self.ended:
            return [self._answer(txn, route)]
        payloads = {MANAGER_PREFIX + one["name"]: one["payload"] for one in asked["managers"]}
        live = self.live.get(txn)
        problem = managers_problem(participants, payloads, self.limits)
        if live is None:
            if asked["again"] and self._may_be_forgotten(at):
                return [self._refused(txn, asked["owner"], *_FORGOTTEN, route)]
            problem = problem or self._problem(asked)
            if problem:
                return [self._refused(txn, asked["owner"], *problem, route)]
            live = self._new(txn, asked, at)
        if route:
            live.route = route
        self._dirty.add((LIVE, txn))
        if live.commit is not None:
            return [self._answer(txn, route)]
        if problem or set(participants) != set(live.participants):
            return self._abort(txn, live, at, *(problem or _DIFFER))
        live.payloads = payloads
        return self._ask_managers(txn, live, at)

    def voted(self, asked: Fields, at: At) -> list[Told]:
        """Count a vote."""
        txn, who, commit, route = asked["txn"], asked["participant"], asked["commit"], asked["route"]
        live = self.live.get(txn)
        if live is None:
            if txn in self.ended:
                return self._past_vote(txn, who, route, at, commit=commit)
            if problem := self._problem(asked) or (None if who in asked["participants"] else _DIFFER):
                told = [self._refused(txn, asked["owner"], *problem, route)]
                return [*told, self._decide(txn, who, None, commit=False, reason=problem[1])] if commit else told
            if self._is_stale(asked):
                self._end(txn, _nobodys(asked["owner"], *_FORGOTTEN), at)
                return self._past_vote(txn, who, route, at, commit=commit)
            live = self._new(txn, asked, at)
        if route:
            live.route = route
        self._dirty.add((LIVE, txn))
        if asked["participants"] != live.participants and set(asked["participants"]) != set(live.participants):
            told = [] if live.commit is not None else self._abort(txn, live, at, *_DIFFER)
            if commit and who not in live.participants:
                told.append(self._decide(txn, who, live, commit=False, reason=_DIFFER[1]))
            return told
        if live.commit is not None:
            return self._late_vote(txn, live, who, route, at, commit=commit)
        if commit:
            return self._promised(txn, live, asked, at)
        live.mark(who, NOTHING)
        live.conflicts = asked["conflicts"]
        return self._abort(txn, live, at, asked["code"] or "refused", asked["reason"])

    def in_doubt(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Say what is decided; one that nobody knows is aborted from now on."""
        txn, who = asked["txn"], asked["participant"]
        if problem := name_problem(txn, "the transaction"):
            return [self._refused(txn, "", "bad_name", problem, route)]
        live = self.live.get(txn)
        if live is None:
            if txn not in self.ended:
                stale = self._is_stale(asked) if who else self._may_be_forgotten(at, asked["at_ms"])
                code, reason = _FORGOTTEN if stale else _UNKNOWN
                self._end(txn, _nobodys("", code, reason), at)
            return [self._past_decision(txn, who, at)] if who else [self._answer(txn, route)]
        if not who:
            return [self._answer(txn, route)]
        mark = live.mark_of(who)
        if not mark:
            return [self._decide(txn, who, live, commit=False, reason=_DIFFER[1])]
        if live.commit is None:  # who is in doubt has promised: its vote is lost, or is still to come
            self._dirty.add((LIVE, txn))
            return self._promised(txn, live, asked, at)
        return [self._decide(txn, who, live, commit=live.commit, reason=live.reason)]

    def done(self, asked: Fields, at: At) -> list[Told]:
        """Note that a participant has done it, or something else."""
        txn, who, commit = asked["txn"], asked["participant"], asked["commit"]
        live = self.live.get(txn)
        if live is None:
            return self._done_by_itself(txn, who, asked["reason"], at) if commit else []
        mark = live.mark_of(who)
        if live.commit is None and mark in (WAITED_FOR, PROMISED):
            return self._done_early(txn, live, who, asked, at)
        if mark not in (WAITED_FOR, PROMISED, HEURISTIC):
            return []
        self._dirty.add((LIVE, txn))
        if commit == live.commit:
            told = []
            if live.has_incident(who):
                told.append(self._incident(txn, live, who, "resolved", f"{who} has done what was decided"))
            live.mark(who, COMMITTED if commit else ABORTED)
            return [*told, *self._perhaps_ended(txn, live, at)]
        if mark == HEURISTIC:
            return []
        live.mark(who, HEURISTIC)
        if not live.marked(WAITED_FOR, PROMISED):
            self._look_at(txn, live, at.now_ms + self.limits.incident_ms)
        return [self._heuristic(txn, live, who, asked["reason"])]

    def abandon(self, asked: Fields, at: At) -> list[Told]:
        """Abort, where nothing is decided; one that nobody knows is aborted before it begins."""
        txn = asked["txn"]
        code, reason = "abandoned", asked["reason"] or "its client gave it up"
        live = self.live.get(txn)
        if live is None:
            if txn not in self.ended and not name_problem(txn) and not name_problem(asked["owner"]):
                if self._may_be_forgotten(at):
                    code, reason = _FORGOTTEN
                self._end(txn, _nobodys(asked["owner"], code, reason), at)
            return []
        if live.commit is not None or live.owner != asked["owner"]:
            return []
        return self._abort(txn, live, at, code, reason)

    def settle(self, asked: Fields, route: str, at: At) -> list[Told]:
        """End an incident: a person has dealt with it."""
        txn, who = asked["txn"], asked["participant"]
        live = self.live.get(txn)
        if live is None and txn not in self.ended:
            return [self._refused(txn, "", *_UNKNOWN, route)]
        if live is None or not live.has_incident(who):
            told = self._answer(txn, route)
            return [told._replace(fields={**told.fields, "code": "no_incident", "reason": f"{who[:40]} has no open incident"})]
        told = self._incident(txn, live, who, "resolved", f"{asked['owner']}: {asked['reason']}")
        live.mark(who, SETTLED)
        self._dirty.add((LIVE, txn))
        return [told, self._answer(txn, route), *self._perhaps_ended(txn, live, at)]

    def misplaced(self, asked: Fields, route: str) -> Told:
        """Refuse a command that came to a partition which may not be its transaction's."""
        text = "the record's key is not its transaction: key a command by it"
        return self._refused(asked["txn"], "", "misplaced", text, route)

    def tick(self, at: At) -> list[Told]:
        """Let time pass: votes that do not come, decisions that are not done, incidents that nobody ends."""
        told: list[Told] = []
        for txn in self._due.take(at.now_ms):
            live = self.live[txn]
            self._dirty.add((LIVE, txn))
            if live.commit is not None:
                told += self._tell_again(txn, live, at)
            elif at.now_ms < (end_ms := live.began_ms + live.timeout_ms):
                self._look_at(txn, live, end_ms)
                told += self._ask_managers(txn, live, at)
            else:
                missing = ", ".join(live.marked(WAITED_FOR)[:8])
                told += self._abort(txn, live, at, "timed_out", f"no vote of {missing} within {live.timeout_ms} ms")
        return told

    # ---- votes

    def _new(self, txn: str, asked: Fields, at: At) -> Live:
        participants, timeout_ms = asked["participants"], asked["timeout_ms"]
        managers = any(one.startswith(MANAGER_PREFIX) for one in participants)
        due_ms = at.now_ms + (timeout_ms // 2 if managers else timeout_ms)  # managers are asked a second time on the way
        live = Live(asked["owner"], participants, [WAITED_FOR] * len(participants), at.now_ms, timeout_ms, due_ms)
        self.live[txn] = live
        self._due.set(txn, due_ms)
        return live

    def _problem(self, asked: Fields) -> tuple[str, str] | None:
        if len(self.live) >= self.limits.live_max:
            text = f"{len(self.live)} transactions have not ended on this partition: see antiphon txn incidents"
            return "full", text
        return names_problem(asked["txn"], asked["owner"], asked["participants"], asked["timeout_ms"], self.limits)

    def _is_stale(self, asked: Fields) -> bool:
        """Return whether a promise may be of a transaction that ended and is forgotten: what says so has come a second time."""
        at_ms: int = asked["at_ms"]
        return 0 < at_ms <= self._forgotten_ms

    def _promised(self, txn: str, live: Live, asked: Fields, at: At) -> list[Told]:
        who = asked["participant"]
        if live.mark_of(who) == WAITED_FOR:
            live.mark(who, PROMISED)
            if self._is_stale(asked):
                return self._abort(txn, live, at, *_FORGOTTEN)
        return [] if WAITED_FOR in live.marks else self._decided(txn, live, at, commit=True)

    def _past_vote(self, txn: str, who: str, route: str, at: At, *, commit: bool) -> list[Told]:
        told = [self._answer(txn, route)] if route else []
        return [*told, self._past_decision(txn, who, at)] if commit else told

    def _past_decision(self, txn: str, who: str, at: At) -> Told:
        """Tell what was decided to a participant that may have promised after it ended: it is remembered from now on."""
        row = self.ended[txn]
        if not row[0]:
            self._number += 1
            self.ended[txn] = [row[0], self._number, *row[2:6], at.now_ms]
            self.ended.move_to_end(txn)
            self._dirty.add((ENDED, txn))
        return self._decide(txn, who, None, commit=row[0], reason=row[5])

    def _late_vote(self, txn: str, live: Live, who: str, route: str, at: At, *, commit: bool) -> list[Told]:
        told = [self._answer(txn, route)] if route else []
        mark = live.mark_of(who)
        if not commit or mark not in (WAITED_FOR, PROMISED, NOTHING):
            return told
        live.mark(who, PROMISED)
        if mark == NOTHING:
            self._look_at(txn, live, at.now_ms + self.limits.again_ms)
        return [*told, self._decide(txn, who, live, commit=bool(live.commit), reason=live.reason)]

    def _abort(self, txn: str, live: Live, at: At, code: str, reason: str) -> list[Told]:
        live.code, live.reason = code, reason
        return self._decided(txn, live, at, commit=False)

    def _decided(self, txn: str, live: Live, at: At, *, commit: bool) -> list[Told]:
        live.commit, live.tries = commit, 0
        self._dirty.add((LIVE, txn))
        told = [self._answer(txn, live.route, everybody=True)]
        waits = False
        for n, who in enumerate(live.participants):
            mark = live.marks[n]
            if mark == WAITED_FOR and not live.was_asked(who):
                live.marks[n] = NOTHING
            elif mark in (WAITED_FOR, PROMISED):
                waits = True
                told.append(self._decide(txn, who, live, commit=commit, reason=live.reason))
            elif mark == COMMITTED and not commit:
                live.marks[n] = HEURISTIC
                told.append(self._heuristic(txn, live, who, ""))
        self._look_at(txn, live, at.now_ms + (self.limits.again_ms if waits else self.limits.incident_ms))
        return told if waits else [*told, *self._perhaps_ended(txn, live, at)]

    # ---- what was done

    def _may_be_forgotten(self, at: At, began_ms: int = 0) -> bool:
        """Return whether a client's transaction may have ended and be forgotten.

        Args:
            at: The moment.
            began_ms: When it began, by the client's clock; 0: within the time in which clients ask.
        """
        limits = self.limits
        began_ms = began_ms - limits.skew_ms if began_ms else at.now_ms - limits.again_within_ms
        return self._forgotten_ms >= 0 and began_ms <= self._forgotten_ms

    def _done_early(self, txn: str, live: Live, who: str, asked: Fields, at: At) -> list[Told]:
        """Take what a participant did before anything was decided: as its vote, and as what it did."""
        self._dirty.add((LIVE, txn))
        live.mark(who, COMMITTED if asked["commit"] else ABORTED)
        if not asked["commit"]:
            return self._abort(txn, live, at, "rolled_back", asked["reason"] or f"{who} has rolled back")
        return [] if WAITED_FOR in live.marks else self._decided(txn, live, at, commit=True)

    def _done_by_itself(self, txn: str, who: str, reason: str, at: At) -> list[Told]:
        """Take that a participant has committed what has aborted, or what nobody knows: open it for an operator."""
        past = self.ended.get(txn)
        if past is None:
            if self._forgotten_ms >= 0 or name_problem(txn) or name_problem(who):
                return []
            past = [False, 0, "", [], *_UNKNOWN]
        elif past[0] or past[4] == _FORGOTTEN[0] or (self._forgotten_ms >= 0 and not who.startswith(MANAGER_PREFIX)):
            return []
        else:
            del self.ended[txn]
            self._dirty.add((ENDED, txn))
        participants = past[3] if who in past[3] else [*past[3], who]
        marks = [HEURISTIC if one == who else NOTHING for one in participants]
        live = Live(past[2], participants, marks, at.now_ms, 0, 0, commit=False, code=past[4], reason=past[5])
        self.live[txn] = live
        self._dirty.add((LIVE, txn))
        self._look_at(txn, live, at.now_ms + self.limits.incident_ms)
        return [self._heuristic(txn, live, who, reason)]

    def _tell_again(self, txn: str, live: Live, at: At) -> list[Told]:
        live.tries += 1
        limits, told = self.limits, list[Told]()
        if live.tries >= limits.silent_after and not live.commit:
            for who in live.marked(WAITED_FOR):  # it has promised nothing; where it does so later, it is told then
                live.mark(who, NOTHING)
        left = live.marked(WAITED_FOR, PROMISED)
        if not left and (ended := self._perhaps_ended(txn, live, at)):
            return ended
        pause_ms = min(limits.again_ms << min(live.tries, 32), limits.again_ms_max) if left else limits.incident_ms
        self._look_at(txn, live, at.now_ms + pause_ms)
        if live.tries == limits.silent_after or (live.tries > limits.silent_after and self._daily(live)):
            live.silent = left or live.silent
            for who in left:
                reason = f"{who} was told {live.tries} times what is decided, and is silent"
                told.append(self._incident(txn, live, who, "silent", reason))
        if not left or self._daily(live):
            told += [self._heuristic(txn, live, who, "nobody has settled it") for who in live.marked(HEURISTIC)]
        return [*told, *(self._decide(txn, who, live, commit=bool(live.commit), reason=live.reason) for who in left)]

    def _daily(self, live: Live) -> bool:
        return live.tries % max(1, self.limits.incident_ms // self.limits.again_ms_max) == 0

    def _perhaps_ended(self, txn: str, live: Live, at: At) -> list[Told]:
        if live.marked(WAITED_FOR, PROMISED, HEURISTIC):
            return []
        del self.live[txn]
        self._due.end(txn)
        self._dirty.add((LIVE, txn))
        self._end(txn, live, at)
        fields = {
            "txn": txn,
            "owner": live.owner,
            "commit": live.commit,
            "participants": live.participants,
            "took_ms": at.now_ms - live.began_ms,
        }
        return [Told("ended", fields, everybody=True)]

    def _end(self, txn: str, live: Live, at: At) -> None:
        self._number += 1
        self.ended[txn] = [live.commit, self._number, live.owner, live.participants, live.code, live.reason, at.now_ms]
        dirty = self._dirty
        dirty.add((ENDED, txn))
        if len(self.ended) > self.limits.ended_max:
            oldest, row = self.ended.popitem(last=False)
            self._forgotten_ms = row[6]
            dirty.add((ENDED, oldest))
            dirty.add((META, ""))

    def _look_at(self, txn: str, live: Live, ms: int) -> None:
        live.due_ms = ms
        self._due.set(txn, ms)

    # ---- words

    def _heuristic(self, txn: str, live: Live, who: str, reason: str) -> Told:
        did, decided = ("rolled back", "commit") if live.commit else ("committed", "abort")
        text = f"{who} has {did}, and {decided} was decided"
        return self._incident(txn, live, who, "heuristic", f"{text}: {reason}" if reason else text)

    def _incident(self, txn: str, live: Live, who: str, code: str, reason: str) -> Told:
        fields = {"txn": txn, "owner": live.owner, "participant": who, "code": code, "reason": reason}
        return Told("incident", fields, everybody=True)

    def _ask_managers(self, txn: str, live: Live, at: At) -> list[Told]:
        return [
            Told(
                "prepare_manager",
                {
                    "manager": who.removeprefix(MANAGER_PREFIX),
                    "txn": txn,
                    "owner": live.owner,
                    "payload": payload,
                    "participants": live.participants,
                    "timeout_ms": live.timeout_ms,
                    "at_ms": at.now_ms,
                },
            )
            for who, payload in (live.payloads or {}).items()
            if live.mark_of(who) == WAITED_FOR
        ]

    def _decide(self, txn: str, who: str, live: Live | None, *, commit: bool, reason: str) -> Told:
        if not who.startswith(MANAGER_PREFIX):
            return Told("decide", {"domain": who, "txn": txn, "commit": commit, "reason": reason})
        payload = "" if live is None or live.payloads is None else live.payloads.get(who, "")
        name = who.removeprefix(MANAGER_PREFIX)
        return Told("decide_manager", {"manager": name, "txn": txn, "commit": commit, "reason": reason, "payload": payload})

    def _answer(self, txn: str, route: str, *, everybody: bool = False) -> Told:
        live = self.live.get(txn)
        if live is None:
            commit, _, owner, participants, code, reason, _ = self.ended[txn]
            decided, conflicts, known = True, [], code not in (_UNKNOWN[0], _FORGOTTEN[0])
        else:
            decided, commit, known = live.commit is not None, bool(live.commit), live.code != _UNKNOWN[0]
            owner, participants, code, reason = live.owner, live.participants, live.code, live.reason
            conflicts = live.conflicts
        fields = {
            "txn": txn,
            "owner": owner,
            "known": known,
            "decided": decided,
            "commit": commit,
            "participants": participants,
            "code": code,
            "reason": reason,
            "conflicts": conflicts,
        }
        return Told("decided", fields, route, everybody)

    def _refused(self, txn: str, owner: str, code: str, reason: str, route: str) -> Told:
        """Return the answer to what is not taken on; what is bad may be large."""
        refused = {"known": False, "decided": True, "commit": False, "participants": [], "conflicts": []}
        who = {"txn": txn[:NAME_CHARS_MAX], "owner": owner[:NAME_CHARS_MAX]}
        return Told("decided", {**who, **refused, "code": code, "reason": reason}, route)


def _nobodys(owner: str, code: str, reason: str) -> Live:
    """Return a transaction that aborts before anybody takes part."""
    return Live(owner, [], [], 0, 0, 0, commit=False, code=code, reason=reason)


_DIFFER: Final = "bad_participants", "those who take part do not agree who they are: name the same to all"
_UNKNOWN: Final = "unknown", "the coordinator does not know it: it has aborted"
_FORGOTTEN: Final = "forgotten", "it may have ended so long ago that this is not remembered: look at what it would have written"
