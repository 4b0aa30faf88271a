"""Decides about the transactions of one partition: the order of its commands is the order of its commits.

    commit ──▶ known already? ──▶ said again
               bad input, fenced, stale, locked ──▶ refused
               conflicts ──▶ settled by policy, refused, or a human's
               else ──▶ rows written, one change in the feed

    prepare ──▶ the same checks; then its rows are locked until the coordinator decides, and the answer is a vote

What it promises, for every prefix of the log: a transaction is carried out whole or not at all, and once, however often it is
asked for; committed transactions of a level are what the level says (`validation`); a promise is kept; what is refused is never
carried out later under the same name. A snapshot is a position: all commits at or before it, and none after.

Rows, beside those of `rows`, `lock_words`, `endings` and `fences`:

    ["p", domain, txn]    [position, asked again, when, route, the prepare]        promised
    ["h", domain, txn]    [position, when, route, the commit, [conflicts]]         waits for a human
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from processors.core.transactions.endings import ENDED, Endings
from processors.core.transactions.fences import FENCE, Fences
from processors.core.transactions.lock_words import KINDS, LockLimits
from processors.core.transactions.locking import Locking
from processors.core.transactions.policies import Merge, settle
from processors.core.transactions.reading import Who, names_problem
from processors.core.transactions.rows import META, ROW
from processors.core.transactions.validation import input_problem, participants_problem, stale, too_old
from processors.core.transactions.words import Fields, Refusal, TableLimits, Told
from streams.core.at import At

__all__ = ["Arbiter"]

PROMISED: Final = "p"
HUMAN: Final = "h"

Key = tuple[Any, ...]


class Arbiter(Locking):
    """The transactions of one partition.

    Args:
        limits: What is refused or forgotten.
        lock_limits: The same for locks.
        merges: Merge functions by table.
    """

    def __init__(
        self,
        limits: TableLimits | None = None,
        lock_limits: LockLimits | None = None,
        merges: Mapping[str, Merge] | None = None,
    ) -> None:
        super().__init__(limits or TableLimits(), lock_limits or LockLimits())
        self._merges = merges or {}
        self._fences = Fences(self.limits.fences_max)
        self._ended = Endings(self.limits.ended_max, self.limits.again_ms)
        self._human: dict[Who, list[Any]] = {}
        self._dirty: set[Key] = set()

    # ---- state

    @classmethod
    def load(
        cls,
        rows: Iterable[tuple[Key, Any]],
        limits: TableLimits | None = None,
        lock_limits: LockLimits | None = None,
        merges: Mapping[str, Merge] | None = None,
    ) -> Arbiter:
        """Return the arbiter of these rows."""
        machine = cls(limits, lock_limits, merges)
        places, locks, ended = [], [], []
        for key, row in rows:
            kind = key[0]
            if kind == ROW:
                places.append(((key[1], key[2]), row))
            elif kind in KINDS:
                locks.append((key, row))
            elif kind == ENDED:
                ended.append(((key[1], key[2]), row))
            elif kind == PROMISED:
                machine._take_promise((key[1], key[2]), row)
            elif kind == HUMAN:
                machine._human[key[1], key[2]] = row
            elif kind == FENCE:
                machine._fences.load(key[1], row)
            else:
                machine.rows.last, machine.rows.gone, machine.rows.gone_ms, machine._ended.forgotten = row
        machine.rows.load(places)
        machine.locks.load(locks)
        machine._ended.load(ended)
        machine._told = machine.rows.last
        return machine

    def changes(self) -> dict[Key, Any]:
        """Return the rows that have changed since the last call, None for those that are gone."""
        found: dict[Key, Any] = dict(self.rows.changes())
        found.update(self.locks.changes())
        found.update(self._ended.changes())
        for kind, domain, name in self._dirty:
            kept: Mapping[Who, Any] = {PROMISED: self._promised, HUMAN: self._human}[kind]
            found[kind, domain, name] = kept.get((domain, name))
        found.update(self._fences.changes())
        self._dirty = set()
        found[META] = [self.rows.last, self.rows.gone, self.rows.gone_ms, self._ended.forgotten]
        return found

    # ---- commands

    def commit(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Commit a transaction within this domain. A commit is told in the feed alone.

        Args:
            asked: The fields of `CommitTransaction`.
            route: Where an answer goes.
            at: The moment.
        """
        who = asked["domain"], asked["txn"]
        if (known := self._known(who, asked, route, at)) is not None:
            return [known]
        if self.locks.sessions and (foreign := self._foreign(who, asked, route, at)):
            return foreign
        refusal, writes, settled, human = self._checked(who, asked, at)
        if refusal is not None:
            return self._refuse(who, asked, refusal, route, at)
        if human:
            return self._leave_to_human(who, asked, settled, route, at)
        told = [self._resolved(who, asked["owner"], *one, at=at) for one in settled]
        self._write(asked, writes, at)
        self._end(who, "committed", at)
        told += self._unlock(who, at)
        return told

    def prepare(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Promise a transaction's part, or vote against it."""
        if problem := names_problem(asked, "domain", "txn", "owner") or participants_problem(asked, self.limits):
            return [self._refused_request(asked, *problem, route, at)]  # not a vote: with such names it might not fit into one
        who = asked["domain"], asked["txn"]
        if (row := self._promised.get(who)) is not None:
            return [self._vote(who, row[4], row[3], row[0], at_ms=row[2])]
        if (past := self._ended.get(who)) is not None:
            if past[0] == "committed":
                return [self._done(who, commit=True, at=at)]
            refusal = Refusal(past[2], past[3], [], [])
            return [self._vote(who, asked, route, past[1], refusal, at_ms=past[4])]
        if (foreign := self._foreign(who, asked, route, at)) or (foreign := self._waits_for_human(who, asked, route, at)):
            return foreign
        if asked["again"] and self._ended.may_be_forgotten(asked["snapshot"], at.now_ms):
            refusal = Refusal("forgotten", "it may have been asked for before, so long ago that this is not remembered", [], [])
            return [self._vote(who, asked, route, at.offset + 1, refusal, at_ms=at.now_ms)]
        refusal_, writes, settled, human = self._checked(who, asked, at)
        if refusal_ is None and human:
            refusal_ = Refusal("conflict", "a human cannot decide about one part of a transaction over several domains", [], [])
        if refusal_ is None and len(self._promised) >= self.limits.prepared_max:
            refusal_ = Refusal("full", f"{self.limits.prepared_max} promises wait for their decision on this partition", [], [])
        if refusal_ is not None:
            self._end(who, "refused", at, refusal_.code, refusal_.reason)
            return [self._vote(who, asked, route, at.offset + 1, refusal_, at_ms=at.now_ms), *self._unlock(who, at)]
        told = [self._resolved(who, asked["owner"], *one, at=at) for one in settled]
        told += self._promise(who, {**asked, "writes": writes}, route, at)
        return [*told, self._vote(who, asked, route, at.offset + 1, at_ms=at.now_ms)]

    def decide(self, asked: Fields, at: At) -> list[Told]:
        """Do what the coordinator has decided about a promise."""
        who = asked["domain"], asked["txn"]
        if names_problem(asked, "domain", "txn"):
            return []
        reason = asked["reason"][: self.limits.reason_chars_max]
        row = self._promised.get(who)
        if row is None:
            past = self._ended.get(who)
            if past is None and not asked["commit"]:
                self._end(who, "rolled_back", at, "aborted", reason)  # a prepare that is still under way comes too late
            if past is None:  # a promise ends by its decision alone: where one is missing, and ends are forgotten, it was done
                return [self._done(who, commit=asked["commit"] and self._ended.forgotten > 0, at=at)]
            return [self._done(who, commit=past[0] == "committed", at=at)]
        self._forget_promise(who)
        promised = row[4]
        if asked["commit"]:
            self._write(promised, promised["writes"], at)
            self._end(who, "committed", at)
        else:
            self._change("rolled_back", at, promised, [])
            self._end(who, "rolled_back", at, "aborted", reason)
        return [self._done(who, commit=asked["commit"], at=at), *self._unlock(who, at)]

    def ask(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Say what came of a transaction."""
        if problem := names_problem(asked, "domain", "txn"):
            return [self._refused_request(asked, *problem, route, at)]
        who = asked["domain"], asked["txn"]
        known = self._known(who, {**asked, "owner": "", "again": True, "snapshot": 0}, route, at)
        if known is not None and (known.fields["code"] != "forgotten" or who not in self.locks.sessions):
            return [known]
        active = who in self.locks.sessions
        return [self._outcome(who, "", "active" if active else "unknown", -1, "", "", [], route)]

    def end(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Roll back: give locks back, end waits, withdraw a commit from a human. A promise stays."""
        if problem := names_problem(asked, "domain", "txn", "owner"):
            return [self._refused_request(asked, *problem, route, at)]
        who = asked["domain"], asked["txn"]
        if (known := self._ended.get(who)) is not None:
            return [self._outcome(who, asked["owner"], known[0], known[1], known[2], known[3], [], route)]
        if who in self._promised:
            row = self._promised[who]
            return [self._outcome(who, row[4]["owner"], "prepared", row[0], "", "only its coordinator ends it", [], route)]
        session = self.locks.sessions.get(who)
        if session is not None and session.owner != asked["owner"]:
            text = f"it is a transaction of {session.owner}"
            return [self._outcome(who, session.owner, "active", -1, "not_yours", text, [], route)]
        if self._human.pop(who, None) is not None:
            self._dirty.add((HUMAN, *who))
        self._end(who, "rolled_back", at, "ended", asked["reason"][: self.limits.reason_chars_max] or "its client rolled it back")
        answer = self._outcome(who, asked["owner"], "rolled_back", at.offset + 1, "ended", "", [], route)
        return [answer, *self._unlock(who, at)]

    def resolve(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Do what a human has decided about a commit that waits for it."""
        if problem := names_problem(asked, "domain", "txn", "owner"):
            return [self._refused_request(asked, *problem, route, at)]
        who = asked["domain"], asked["txn"]
        row = self._human.get(who)
        if row is None:
            if (known := self._known(who, {**asked, "again": False}, route, at)) is not None:
                return [known]
            return [self._outcome(who, asked["owner"], "unknown", -1, "not_waiting", "it waits for nobody's decision", [], route)]
        commit, conflicts = row[3], row[4]
        why = f"{asked['owner']}: {asked['reason'][: self.limits.reason_chars_max]}"
        if asked["commit"] and self.locks.in_the_way(who, commit["writes"], (), ()):
            # somebody else is at it now: the decision has to wait, and may be given again
            text = "some of its rows are locked: decide again later"
            return [self._outcome(who, commit["owner"], "waits_for_human", -1, "locked", text, [], route)]
        del self._human[who]
        self._dirty.add((HUMAN, *who))
        if not asked["commit"]:
            told = [self._resolved(who, commit["owner"], one, "human", "refused", why, at=at) for one in conflicts]
            return [*told, *self._refuse(who, commit, Refusal("conflict", why, conflicts, []), route or row[2], at)]
        conflicts = list(stale(self.rows, commit, self.limits.conflicts_max))
        writes, settled, refusal, _ = settle(self.rows, commit, conflicts, self._merges, self.limits, decided=why)
        if refusal is not None:
            return self._refuse(who, commit, refusal, route or row[2], at)
        told = [self._resolved(who, commit["owner"], *one, at=at) for one in settled]
        self._write(commit, writes, at)
        self._end(who, "committed", at)
        return [
            *told,
            self._outcome(who, commit["owner"], "committed", at.offset + 1, "", why, [], route),
            *self._unlock(who, at),
        ]

    # ---- inside

    def _foreign(self, who: Who, asked: Fields, route: str, at: At) -> list[Told]:
        """Refuse what is asked under the name of somebody else's transaction, which stays as it is."""
        session = self.locks.sessions.get(who)
        if session is None or session.owner == asked["owner"]:
            return []
        return [self._refused_request(asked, "not_yours", f"it is a transaction of {session.owner}", route, at)]

    def _past(self, who: Who) -> list[Any] | None:
        return self._ended.get(who)

    def _known(self, who: Who, asked: Fields, route: str, at: At) -> Told | None:
        """Return the answer where the transaction has come to an end, or waits for one."""
        if (past := self._ended.get(who)) is not None:
            return self._outcome(who, asked["owner"], past[0], past[1], past[2], past[3], [], route)
        if (promised := self._promised.get(who)) is not None:
            return self._outcome(who, promised[4]["owner"], "prepared", promised[0], "", "", [], route)
        if (waits := self._human.get(who)) is not None:
            return self._outcome(who, waits[3]["owner"], "waits_for_human", -1, "", "", waits[4], route)
        if asked["again"] and self._ended.may_be_forgotten(asked["snapshot"], at.now_ms):
            text = (
                "it may have been carried out before, so long ago that this is not remembered: look at what it would have written"
            )
            return self._outcome(who, asked["owner"], "unknown", -1, "forgotten", text, [], route)
        return None

    def _waits_for_human(self, who: Who, asked: Fields, route: str, at: At) -> list[Told]:
        if who not in self._human:
            return []
        return [self._refused_request(asked, "not_yet", "the same transaction waits for a human: take another name", route, at)]

    def _checked(
        self, who: Who, asked: Fields, at: At
    ) -> tuple[Refusal | None, list[Fields], list[tuple[Fields, str, str, str]], bool]:
        """Return why it is refused, its writes, what was settled, and whether a human has to decide."""
        writes: list[Fields] = asked["writes"]
        if problem := input_problem(asked, self.limits, at.offset + 1):
            return Refusal(*problem, [], []), writes, [], False
        self.rows.bury(at.now_ms)
        if (full := self._full(asked)) is not None:
            return full, writes, [], False
        if asked["fences"] and (fenced := self._fences.problem(asked["fences"])):
            return Refusal("fenced", fenced, [], []), writes, [], False
        if self.locks.sessions and (held := self._locked(who, asked)) is not None:
            return held, writes, [], False
        if too_old(self.rows, asked):
            text = f"snapshot {asked['snapshot']} is older than what is remembered of deleted rows: begin again"
            return Refusal("too_old", text, [], []), writes, [], False
        conflicts = list(stale(self.rows, asked, self.limits.conflicts_max))
        if not conflicts:
            return None, writes, [], False
        writes, settled, refusal, human = settle(self.rows, asked, conflicts, self._merges, self.limits)
        return refusal, writes, settled, human

    def _full(self, asked: Fields) -> Refusal | None:
        """Return the refusal of what would be too much to remember; rows that are there can still be written, and deleted."""
        rows, limits = self.rows, self.limits
        if len(rows) + len(asked["writes"]) > limits.keys_max:
            new = sum(rows.newest((one["table"], one["key"])) is None for one in asked["writes"] if one["value"] is not None)
            if new and len(rows) + new > limits.keys_max:
                text = f"this partition has {len(rows)} rows, at most {limits.keys_max}: delete some, or use more partitions"
                return Refusal("full", text, [], [])
        if asked["fences"] and (text := self._fences.full(asked["fences"])):
            return Refusal("full", text, [], [])
        return None

    def _locked(self, who: Who, asked: Fields) -> Refusal | None:
        counts = asked["isolation"] in ("serializable", "repeatable_read")
        reads, spans = asked["reads"] if counts else (), asked["spans"] if asked["isolation"] == "serializable" else ()
        held = self.locks.in_the_way(who, asked["writes"], reads, spans, promises="participants" in asked)
        if not held:
            return None
        owners = self.locks.owners(held)
        return Refusal("locked", f"some of its rows are locked by {', '.join(owners)}: try again", [], owners)

    def _refuse(self, who: Who, asked: Fields, refusal: Refusal, route: str, at: At) -> list[Told]:
        bad = refusal.code.startswith("bad_") or refusal.code in ("too_large", "domains_mixed")
        if not bad:  # what is bad stays so, and may be large
            self._end(who, "refused", at, refusal.code, refusal.reason)
        fields = {
            "domain": who[0][: self.limits.name_chars_max],
            "txn": who[1][: self.limits.name_chars_max],
            "owner": asked["owner"][: self.limits.name_chars_max],
            "request_id": "",
            "position": at.offset + 1,
            "code": refusal.code,
            "reason": refusal.reason,
            "conflicts": refusal.conflicts,
            "waits_for": refusal.waits_for,
        }
        told = Told("refused", fields, route, everybody=not bad)
        return [told, *self._unlock(who, at)]

    def _leave_to_human(
        self, who: Who, asked: Fields, settled: list[tuple[Fields, str, str, str]], route: str, at: At
    ) -> list[Told]:
        if len(self._human) >= self.limits.human_max:
            text = f"{self.limits.human_max} commits wait for a human on this partition: decide about some"
            return self._refuse(who, asked, Refusal("full", text, [], []), route, at)
        settled = [one for one in settled if one[2] == "waits"][: self.limits.conflicts_max]
        conflicts = [one[0] for one in settled]
        self._human[who] = [at.offset + 1, at.now_ms, route, asked, conflicts]
        self._dirty.add((HUMAN, *who))
        told = [self._resolved(who, asked["owner"], *one, at=at) for one in settled]
        told.append(self._outcome(who, asked["owner"], "waits_for_human", -1, "", settled[0][3], conflicts, route))
        return [*told, *self._unlock(who, at)]

    def _write(self, asked: Fields, writes: list[Fields], at: At) -> None:
        by = (at.offset + 1, asked["txn"], asked["owner"], at.now_ms, asked["priority"])
        write = self.rows.write
        for one in writes:
            write((one["table"], one["key"]), one["value"], by)
        self._change("committed", at, asked, writes)

    def _end(self, who: Who, state: str, at: At, code: str = "", reason: str = "") -> None:
        self._ended.add(who, [state, at.offset + 1, code, reason, at.now_ms])

    def _resolved(self, who: Who, owner: str, conflict: Fields, policy: str, how: str, reason: str, *, at: At) -> Told:
        fields = {
            "domain": who[0],
            "txn": who[1],
            "owner": owner,
            "position": at.offset + 1,
            "policy": policy,
            "how": how,
            "reason": reason,
            "conflict": conflict,
        }
        return Told("resolved", fields, everybody=True)
