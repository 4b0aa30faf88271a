"""Row locks against an oracle that looks through everything, read anew from their rows after each command."""

from __future__ import annotations

from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from processors.core.transactions.lock_modes import EXCLUDED, INTENTION, MODES, Lock, covers, excludes, joined
from processors.core.transactions.lock_places import Places
from processors.core.transactions.lock_words import Granted, LockLimits, Outcome, Queued, Refused, Waiting
from processors.core.transactions.row_locks import RowLocks
from streams.core.at import At
from tests.processors.core.transactions.row_lock_oracle import Asked, Oracle, against, reached

STRATEGIES = ("wait_die", "wound_wait", "detect")
LEASE_MS = 1_000
NO_EXPLANATION = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)  # to explain a failure takes minutes here
LIMITS = LockLimits(unheard_ms=2_500)
ROWS = ("d/a", "d/b", "d/p/a", "d/p/b", "d/p/")
SPANS = ("d/", "d/p/", "d/p/a")
LOCKS: list[Lock] = [
    *(("t", key, False, mode) for key, mode in product(ROWS, ("shared", "exclusive"))),
    *(("t", prefix, True, mode) for prefix, mode in product(SPANS, MODES)),
]
FEW: list[Lock] = [
    *(("t", key, False, mode) for key, mode in product(("d/a", "d/p/a"), ("shared", "exclusive"))),
    *(("t", prefix, True, mode) for prefix, mode in product(("d/", "d/p/"), MODES)),
]
"""So few that they are in each other's way."""


@pytest.mark.parametrize("one", LOCKS, ids=str)
def test_the_matrix_is_what_taking_rows_means(one: Lock) -> None:
    """Two locks exclude each other where both take a row and one alone, or one takes all where the other will take some."""
    for other in LOCKS:
        assert excludes(one, other) == excludes(other, one) == against(one, other), f"{one} {other}"
        assert not excludes(one, ("u", *other[1:]))
        places: Places[str] = Places()
        places.put(other[:3], "them", other[3])
        assert (list(places.against(one)) == ["them"]) == excludes(one, other)
        places.remove(other[:3], "them")
        assert not list(places.against(("t", "", True, "exclusive")))


def test_two_modes_together_exclude_what_either_does() -> None:
    """Nothing more, nothing less, against the thing itself and against wider ones; who has them needs neither again."""
    for one, other in product(EXCLUDED, EXCLUDED):
        both = joined(one, other)
        assert EXCLUDED[both] == EXCLUDED[one] | EXCLUDED[other]
        assert EXCLUDED[INTENTION[both]] == EXCLUDED[INTENTION[one]] | EXCLUDED[INTENTION[other]]
        assert covers(both, one)
        assert covers(both, other)


class Machine(RuleBasedStateMachine):
    """Six agents that lock, keep, promise and end, while time passes.

    Two machines do the same: one goes on, the other is made anew from the rows before each command.
    """

    @initialize(strategies=st.sampled_from([*({one} for one in STRATEGIES), set(STRATEGIES)]))
    def begin(self, strategies: set[str]) -> None:
        self.strategies = strategies
        self.locks = RowLocks(LIMITS)
        self.rows: dict[tuple[Any, ...], bytes] = {}
        self.offset, self.now_ms, self.number = -1, 1_000_000, 0
        self.names = {agent: f"{agent}.0" for agent in range(6)}
        self.oracle = Oracle(LIMITS.unheard_ms, self.now_ms)
        self.answers: dict[str, tuple[str, list[Lock], Outcome | None]] = {}

    # ---- what happens

    @rule(
        agent=st.integers(0, 5),
        locks=st.lists(st.sampled_from(FEW), min_size=1, max_size=2, unique=True),
        strategy=st.integers(0, 2),
        wait_ms=st.sampled_from([None, None, None, 0, 300, 5_000]),
        after_ms=st.integers(0, 50),
        lease_ms=st.sampled_from([LEASE_MS, 400]),
        lies=st.booleans(),
    )
    def ask(
        self, agent: int, locks: list[Lock], strategy: int, wait_ms: int | None, after_ms: int, lease_ms: int, *, lies: bool
    ) -> None:
        """An agent asks for locks, and may give another age than before."""
        at = self.pass_time(after_ms)
        txn = self.names[agent]
        self.number += 1
        name = f"r{self.number}"
        chosen = sorted(self.strategies)[strategy % len(self.strategies)]
        due_ms = None if wait_ms is None else self.now_ms + wait_ms
        age = self.oracle.ages.setdefault(txn, (agent // 2, txn))
        one = Asked(txn, name, locks, chosen, age, due_ms, lease_ms, self.now_ms)
        said_age = 0 if lies and self.is_known(txn) else age[0]
        self.heard(txn)
        if txn not in self.oracle.promised:
            self.oracle.waiting.append(one)
        outcomes = self.do(lambda it: it.lock(("d", txn), waiting(one, said_age), name, at))
        if txn in self.oracle.promised:
            ((said),) = outcomes
            assert isinstance(said, Refused)
            assert said.code == "promised"
            return
        self.take(outcomes)
        assert any(said.who == ("d", txn) for said in outcomes if not isinstance(said, Queued)) or self.oracle.find(name)
        assert not (wait_ms == 0 and self.oracle.find(name)), "who only tries waits"

    @rule(number=st.integers(1, 60))
    def ask_again(self, number: int) -> None:
        """A request is said again, and answered as it was."""
        name = f"r{number}"
        if name not in self.answers:
            return
        at = self.pass_time(1)
        txn, locks, said = self.answers[name]
        if txn not in self.names.values() or txn in self.oracle.promised:
            return
        waits = self.oracle.find(name)
        self.heard(txn)
        if waits is not None:
            waits.heard_ms = self.now_ms
        copy = Asked(txn, name, locks, min(self.strategies), self.oracle.ages[txn], None, LEASE_MS, self.now_ms)
        outcomes = self.do(lambda it: it.lock(("d", txn), waiting(copy, 0), name, at))
        (again,) = outcomes
        if waits is not None:
            assert isinstance(again, Queued)
            assert again.repeated
            assert again.behind == waits.behind
        elif isinstance(said, Granted):
            assert isinstance(again, Granted)
            assert again.locks == locks
            self.oracle.expires[txn] = max(self.oracle.expires[txn], self.now_ms + LEASE_MS)
            self.oracle.leases[txn] = LEASE_MS
        else:
            assert isinstance(said, Refused)
            assert again == said._replace(repeated=True)

    @rule(agent=st.integers(0, 5))
    def end(self, agent: int) -> None:
        """A transaction commits or is rolled back."""
        at = self.pass_time(1)
        self.finish(agent, at)

    @rule(
        agent=st.integers(0, 5),
        writes=st.lists(st.sampled_from(ROWS), max_size=2, unique=True),
        reads=st.lists(st.sampled_from(ROWS), max_size=2, unique=True),
        spans=st.lists(st.sampled_from(SPANS), max_size=1),
    )
    def promise(self, agent: int, writes: list[str], reads: list[str], spans: list[str]) -> None:
        """A transaction promises its commit, where nobody is in the way."""
        at = self.pass_time(1)
        txn, oracle = self.names[agent], self.oracle
        if txn in oracle.promised:
            return
        wanted: list[Lock] = [
            *(("t", key, False, "exclusive") for key in writes),
            *(("t", key, False, "shared") for key in reads),
            *(("t", key, True, "shared") for key in spans),
        ]
        asked = (
            [{"table": "t", "key": key} for key in writes],
            [{"table": "t", "key": key} for key in reads],
            [{"table": "t", "prefix": key} for key in spans],
        )
        held = {other for other, its in oracle.grants if other != txn and any(against(lock, its) for lock in wanted)}
        assert self.locks.in_the_way(("d", txn), *asked) == sorted(("d", other) for other in held)
        way = self.locks.in_the_way(("d", txn), *asked, promises=True)
        assert {other for _, other in way} >= held
        if way:
            return
        for one in oracle.waiting:
            mine = oracle.wants(Asked(txn, "", wanted, "detect", (0, txn), None, 0, 0))
            if one.txn != txn and any(against(a, b) for a in oracle.wants(one) for b in mine):
                assert txn in reached(oracle.edges(), one.txn), "a promise overtakes who waits"
        if not self.is_known(txn):
            oracle.ages[txn] = (self.now_ms, txn)  # nothing is known of it any more
        outcomes = self.do(lambda it: it.promise(("d", txn), f"agent-{txn}", *asked, at))
        oracle.promised.add(txn)
        own = [said for said in outcomes if said.who == ("d", txn)]
        self.take(own)
        oracle.grants += [(txn, lock) for lock in wanted]
        oracle.expires.pop(txn, None)
        self.take([said for said in outcomes if said.who != ("d", txn)])

    @rule(agent=st.integers(0, 5))
    def keep(self, agent: int) -> None:
        """A client says that it lives."""
        at = self.pass_time(1)
        txn = self.names[agent]
        session = self.both(lambda it: it.keep(("d", txn), f"agent-{txn}", LEASE_MS, at))
        assert (session is None) == (txn not in self.oracle.expires and txn not in self.oracle.promised)
        if txn in self.oracle.expires:
            self.oracle.expires[txn] = self.now_ms + LEASE_MS
            self.oracle.leases[txn] = LEASE_MS
        for one in self.oracle.waiting:
            if one.txn == txn:
                one.heard_ms = self.now_ms

    @rule(after_ms=st.sampled_from([100, 600, 1_100, 3_000]))
    def wait(self, after_ms: int) -> None:
        """Nobody says anything for a while."""
        self.pass_time(after_ms)

    # ---- what must be so

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.oracle.check(self.strategies)
        locks = self.locks
        has: dict[str, dict[tuple[str, str, bool], str]] = {}
        for txn, lock in self.oracle.grants:
            its = has.setdefault(txn, {})
            its[lock[:3]] = lock[3] if lock[:3] not in its else joined(its[lock[:3]], lock[3])
        assert {who[1]: session.locks for who, session in locks.sessions.items() if session.locks} == has
        assert [one.key[1] for one in locks.waiting.values()] == [one.id for one in self.oracle.waiting]
        lives = {who[1]: one.expires_ms for who, one in locks.sessions.items() if not one.promised}
        assert lives == self.oracle.expires
        assert all(ms > self.now_ms for ms in lives.values())

    def teardown(self) -> None:
        """When all have ended, nothing is left."""
        if not hasattr(self, "locks"):
            return
        for agent in self.names:
            self.finish(agent, self.pass_time(1))
        assert not self.locks.sessions
        assert not self.locks.waiting
        assert self.locks.due_ms() is None
        assert not [key for key in self.rows if key[0] in ("l", "q", "n")]

    # ---- how

    def is_known(self, txn: str) -> bool:
        return txn in self.oracle.expires or any(one.txn == txn for one in self.oracle.waiting)

    def heard(self, txn: str) -> None:
        expires = self.oracle.expires
        if txn in expires:
            expires[txn] = max(expires[txn], self.now_ms + self.oracle.leases[txn])

    def pass_time(self, ms: int) -> At:
        self.offset += 1
        self.now_ms += ms
        self.oracle.now_ms = self.now_ms
        at = At(self.offset, 0, self.now_ms)
        due_ms = self.locks.due_ms()
        if due_ms is not None and due_ms <= self.now_ms:
            self.take(self.do(lambda it: it.tick(at)))
        return at

    def finish(self, agent: int, at: At) -> None:
        txn = self.names[agent]
        gone = {one.id for one in self.oracle.waiting if one.txn == txn}
        self.oracle.drop(txn)
        outcomes = self.do(lambda it: it.release(("d", txn), at))
        own = [said for said in outcomes if said.who == ("d", txn)]
        assert {said.request_id for said in own if isinstance(said, Refused) and said.code == "ended"} == gone
        self.rename(txn)
        self.take([said for said in outcomes if said.who != ("d", txn)])

    def rename(self, txn: str) -> None:
        for agent, name in self.names.items():
            if name == txn:
                self.names[agent] = f"{agent}.{self.offset}.{int(name.rpartition('.')[2]) + 1}"

    def take(self, outcomes: list[Outcome]) -> None:
        for said in outcomes:
            if isinstance(said, Granted | Refused | Queued):
                one = self.oracle.find(said.request_id)
                assert one is not None
                self.answers[said.request_id] = (one.txn, one.locks, said)
            self.oracle.follow([said])
            if not isinstance(said, Granted | Refused | Queued):
                self.rename(said.who[1])

    def do(self, step: Any) -> list[Outcome]:
        outcomes: list[Outcome] = self.both(step)
        return outcomes

    def both(self, step: Any) -> Any:
        twin = RowLocks(LIMITS)
        twin.load([(key, orjson.loads(row)) for key, row in reversed(self.rows.items())])
        assert twin.due_ms() == self.locks.due_ms()
        assert not list(twin.changes())
        said, again = step(self.locks), step(twin)
        assert said == again, "read anew from its rows it says something else"
        changes = _written(self.locks)
        assert changes == _written(twin)
        for key, row in changes.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
        return said


def _written(locks: RowLocks) -> dict[tuple[Any, ...], bytes | None]:
    return {key: None if row is None else orjson.dumps(row) for key, row in locks.changes()}


def waiting(one: Asked, age_ms: int) -> Waiting:
    return Waiting(one.txn, f"agent-{one.txn}", age_ms, one.strategy, one.due_ms, one.lease_ms, "route", locks=list(one.locks))


TestRowLocks = Machine.TestCase
TestRowLocks.settings = settings(max_examples=150, stateful_step_count=30, deadline=None, phases=NO_EXPLANATION)
