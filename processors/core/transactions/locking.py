"""The part of the arbiter that is about what lasts longer than a command: locks and promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from processors.core.transactions.lock_words import Ended, Granted, LockLimits, Outcome, Queued, Refused, Waiting
from processors.core.transactions.reading import Reading, Who, names_problem
from processors.core.transactions.row_locks import RowLocks
from processors.core.transactions.validation import place_problem
from processors.core.transactions.words import Fields, Problem, Refusal, TableLimits, Told
from streams.core.at import At, Deadlines

__all__ = ["Locking"]

PROMISED: Final = "p"
ROW_MODES: Final = frozenset({"shared", "exclusive"})


class Locking(Reading):
    """A base of `Arbiter`.

    Args:
        limits: Of tables.
        lock_limits: Of locks.
    """

    def __init__(self, limits: TableLimits, lock_limits: LockLimits) -> None:
        super().__init__(limits)
        self.locks = RowLocks(lock_limits)
        self._due = Deadlines()
        self._dirty: set[tuple[Any, ...]] = set()

    def _end(self, who: Who, state: str, at: At, code: str = "", reason: str = "") -> None:
        raise NotImplementedError

    # ---- time

    def due_ms(self) -> int | None:
        """Return when `tick` has something to do next."""
        one, other = self._due.next_ms(), self.locks.due_ms()
        return one if other is None else other if one is None else min(one, other)

    def tick(self, at: At) -> list[Told]:
        """Let time pass: locks expire, waits end, promises are asked after."""
        told = self._told_of(self.locks.tick(at), at)
        for name in list(self._due.take(at.now_ms)):
            domain, txn = name.split("\n")
            row = self._promised[domain, txn]
            asked = row[1] + 1
            while row[2] + self._pauses_ms(asked) <= at.now_ms:
                asked += 1  # nobody was there to ask
            self._promised[domain, txn] = [row[0], asked, *row[2:]]
            self._dirty.add((PROMISED, domain, txn))
            self._due.set(name, row[2] + self._pauses_ms(asked))
            told.append(Told("in_doubt", {"txn": txn, "participant": domain, "at_ms": row[2]}))
        return told

    # ---- locks

    def lock(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Give a transaction locks, or let it wait for them."""
        limits = self.locks.limits
        if problem := names_problem(asked, "domain", "txn", "owner", "request_id"):
            return [self._refused_request(asked, *problem, route, at)]
        if not limits.lease_ms_min <= asked["lease_ms"] <= limits.lease_ms_max:
            text = f"a lease of {asked['lease_ms']} ms: {limits.lease_ms_min} to {limits.lease_ms_max} are allowed"
            return [self._refused_request(asked, "bad_lease", text, route, at)]
        wait_ms = asked["wait_ms"]
        if wait_ms is not None and wait_ms < 0:
            return [self._refused_request(asked, "bad_wait", f"a wait of {wait_ms} ms: 0 or more, or none", route, at)]
        if not asked["locks"]:
            return [self._refused_request(asked, "bad_locks", "it asks for no locks: name at least one", route, at)]
        locks = []
        for one in asked["locks"]:
            if not one["span"] and one["mode"] not in ROW_MODES:
                text = f"{one['mode']} of the row {one['key'][:40]!r}: intentions are for prefixes; a row is shared or exclusive"
                return [self._refused_request(asked, "bad_mode", text, route, at)]
            problem_: Problem | None = place_problem(
                one["table"], one["key"].rstrip("/") if one["span"] else one["key"], asked["domain"]
            )
            if problem_ is None and one["span"] and "/" not in one["key"]:
                problem_ = "bad_prefix", f"prefix {one['key'][:40]!r}: begin it with the domain and a slash"
            if problem_:
                return [self._refused_request(asked, *problem_, route, at)]
            locks.append((one["table"], one["key"], one["span"], one["mode"]))
        who = asked["domain"], asked["txn"]
        if (past := self._past(who)) is not None:
            text = f"the transaction has ended: {past[0]}" + (f", {past[3]}" if past[3] else "")
            return [self._refused_request(asked, past[2] or "ended", text, route, at)]
        waiting = Waiting(
            asked["txn"],
            asked["owner"],
            asked["age_ms"] or at.now_ms,
            asked["strategy"],
            None if wait_ms is None else at.now_ms + wait_ms,
            asked["lease_ms"],
            route,
            locks=locks,
        )
        return self._told_of(self.locks.lock(who, waiting, asked["request_id"], at), at)

    def keep(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Let a transaction's locks hold for another lease."""
        if problem := names_problem(asked, "domain", "txn", "owner"):
            return [self._refused_request(asked, *problem, route, at)]
        who, limits = (asked["domain"], asked["txn"]), self.locks.limits
        lease_ms = min(max(asked["lease_ms"], limits.lease_ms_min), limits.lease_ms_max)
        session = self.locks.keep(who, asked["owner"], lease_ms, at)
        if session is None:
            past = self._past(who)
            code, reason = ("unknown", "it has no locks here") if past is None else (past[2] or past[0], past[3])
            return [self._refused_request(asked, code, reason, route, at)]
        fields = {"domain": who[0], "txn": who[1], "owner": session.owner, "expires_ms": session.expires_ms}
        return [Told("kept", fields, route)]

    def _past(self, who: Who) -> list[Any] | None:
        raise NotImplementedError

    def _unlock(self, who: Who, at: At) -> list[Told]:
        return self._told_of(self.locks.release(who, at), at)

    def _told_of(self, outcomes: list[Outcome], at: At) -> list[Told]:
        return [told for outcome in outcomes for told in self._told_of_one(outcome, at)]

    def _told_of_one(self, outcome: Outcome, at: At) -> Iterator[Told]:
        domain, txn = outcome.who
        base: Fields = {"domain": domain, "txn": txn, "owner": outcome.owner}
        if isinstance(outcome, Granted):
            locks = [{"table": table, "key": key, "span": span, "mode": mode} for table, key, span, mode in outcome.locks]
            more = {
                "request_id": outcome.request_id,
                "position": outcome.position,
                "previous": self.rows.last,
                "locks": locks,
                "lease_ms": outcome.lease_ms,
            }
            yield Told("locked", base | more, outcome.route, everybody=True)
        elif isinstance(outcome, Queued):
            more = {"request_id": outcome.request_id, "behind": outcome.behind}
            yield Told("queued", base | more, outcome.route, everybody=not outcome.repeated)
        else:
            ended = isinstance(outcome, Ended)
            if ended:
                self._end(outcome.who, "rolled_back", at, outcome.code, outcome.reason)
            again = isinstance(outcome, Refused) and outcome.repeated
            more = {
                "request_id": "" if isinstance(outcome, Ended) else outcome.request_id,
                "position": at.offset + 1,
                "code": outcome.code,
                "reason": outcome.reason,
                "conflicts": [],
                "waits_for": [] if isinstance(outcome, Ended) else list(outcome.waits_for),
            }
            yield Told("refused", base | more, outcome.route, everybody=not again)

    # ---- promises

    def _promise(self, who: Who, asked: Fields, route: str, at: At) -> list[Told]:
        row = [at.offset + 1, 0, at.now_ms, route, asked]
        counts = asked["isolation"] in ("serializable", "repeatable_read")
        spans = asked["spans"] if asked["isolation"] == "serializable" else ()
        reads = asked["reads"] if counts else ()
        outcomes = self.locks.promise(who, asked["owner"], asked["writes"], reads, spans, at)
        self._take_promise(who, row)
        self._dirty.add((PROMISED, *who))
        self._change("prepared", at, asked, [])
        return self._told_of(outcomes, at)

    def _take_promise(self, who: Who, row: list[Any]) -> None:
        self._promised[who] = row
        self._due.set(f"{who[0]}\n{who[1]}", row[2] + self._pauses_ms(row[1]))

    def _pauses_ms(self, asked: int) -> int:
        """Return how long after its promise a question is due where so many were asked: the moments follow from that alone."""
        total_ms, pause_ms, most_ms = 0, self.limits.ask_ms, self.limits.ask_ms_max
        for number in range(asked + 1):
            if pause_ms >= most_ms:
                return total_ms + (asked + 1 - number) * most_ms
            total_ms, pause_ms = total_ms + pause_ms, 2 * pause_ms
        return total_ms

    def _forget_promise(self, who: Who) -> None:
        del self._promised[who]
        self._due.end(f"{who[0]}\n{who[1]}")
        self._dirty.add((PROMISED, *who))

    def _vote(
        self, who: Who, asked: Fields, route: str, position: int, refusal: Refusal | None = None, *, at_ms: int = 0
    ) -> Told:
        fields = {
            "txn": who[1],
            "participant": who[0],
            "commit": refusal is None,
            "owner": asked["owner"],
            "participants": asked["participants"],
            "timeout_ms": asked["timeout_ms"],
            "route": route,
            "position": position,
            "at_ms": at_ms,
            "code": "" if refusal is None else refusal.code,
            "reason": "" if refusal is None else refusal.reason,
            "conflicts": [] if refusal is None else refusal.conflicts,
        }
        return Told("voted", fields)

    def _done(self, who: Who, *, commit: bool, at: At) -> Told:
        fields = {"txn": who[1], "participant": who[0], "commit": commit, "position": at.offset + 1, "reason": ""}
        return Told("done", fields)

    def _outcome(
        self, who: Who, owner: str, state: str, position: int, code: str, reason: str, conflicts: list[Fields], route: str
    ) -> Told:
        fields = {
            "domain": who[0],
            "txn": who[1],
            "owner": owner,
            "state": state,
            "position": position,
            "code": code,
            "reason": reason,
            "conflicts": conflicts,
        }
        return Told("outcome", fields, route, everybody=state == "waits_for_human")
