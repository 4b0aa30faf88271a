"""Deadlocks: every one is found, and no victim was chosen that was in none, in whatever order the domains are heard of."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from processors.core.coordination.deadlocks import POLICIES, Check, Deadlock, Detector
from processors.core.coordination.lock_places import Key
from processors.core.coordination.lock_view import LockView
from tests.processors.core.coordination.wait_world import Domain, State, World, stuck

OWNERS = ("ann", "bob", "cyd", "dan", "eve")
DOMAINS = ("a", "b")
LOCKS = tuple(f"{domain}/{name}" for domain in DOMAINS for name in ("x", "y"))
SEMAPHORES = ("a/gpu", "b/gpu")
SETTLES = 200
"""Steps within which all deadlocks of five owners are resolved."""

owners, modes = st.sampled_from(OWNERS), st.sampled_from(["exclusive", "exclusive", "shared"])
waits = st.sampled_from([None, None, None, 50])
priorities = st.sampled_from([0, 0, 0, 3, -3])
some_locks = st.lists(st.sampled_from(LOCKS), min_size=1, max_size=2, unique=True)
locking = st.tuples(st.just("lock"), owners, some_locks, modes, waits, priorities)
acts = st.one_of(
    locking,
    locking,
    locking,
    locking,
    st.tuples(st.just("permits"), owners, st.sampled_from(SEMAPHORES), st.integers(1, 3), waits, priorities),
    st.tuples(st.just("permits"), owners, st.sampled_from(SEMAPHORES), st.integers(1, 2), st.none(), st.just(0)),
    st.tuples(st.just("tell"), owners, st.lists(owners, min_size=1, max_size=2, unique=True)),
    st.tuples(st.just("release"), owners, st.integers(0, 5)),
    st.tuples(st.just("give_up"), owners),
)


class Deadlocks(RuleBasedStateMachine):
    """Owners that wait with one request at a time, as a task does, and release what they like while they do not wait.

    The detector reads each domain when it likes. Its checks and aborts are carried out when the domain likes, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.world = World({name: Domain(name) for name in DOMAINS})
        self.asked: dict[str, list[Check | Deadlock]] = {name: [] for name in DOMAINS}
        self.suspected: dict[str, State] = {}
        self.victims: list[str] = []
        self.rows: dict[Any, Any] = {}
        self.read_then = dict.fromkeys(DOMAINS, 0)
        self.starts = 0
        self.begin({})

    def begin(self, victims: dict[Key, int]) -> None:
        self.starts += 1
        policy = POLICIES[self.starts % len(POLICIES)]
        self.detector = Detector(LockView.load(self.rows.items()), policy=policy, nonce=f"n{self.starts}", victims=victims)

    # ---- what owners do

    @rule(acts=st.lists(acts, min_size=1, max_size=8))
    def work(self, acts: list[tuple[Any, ...]]) -> None:
        for kind, *arguments in acts:
            getattr(self, kind)(*arguments)

    def lock(self, owner: str, names: list[str], mode: str, wait_ms: int | None, priority: int) -> None:
        if not self.world.waits(owner) and len({name[0] for name in names}) == 1:
            self.world.lock(owner, tuple(names), mode, wait_ms, priority)

    def permits(self, owner: str, name: str, permits: int, wait_ms: int | None, priority: int) -> None:
        has = any(number == 1 and domain == name[0] for domain, number, _ in self.world.of(owner, holds=True))
        if not self.world.waits(owner) and not has:
            self.world.permits(owner, name, permits, wait_ms, priority)

    def tell(self, owner: str, others: list[str]) -> None:
        if not self.world.waits(owner) and owner not in others:
            self.world.tell(owner, tuple(others))

    def release(self, owner: str, which: int) -> None:
        grants = self.world.of(owner, holds=True)
        if grants and not self.world.waits(owner):
            self.world.release(owner, grants[which % len(grants)])

    def give_up(self, owner: str) -> None:
        """A wait is cancelled."""
        for request in self.world.of(owner, holds=False):
            self.world.cancel(owner, request)
        if owner in self.world.waits_for:
            self.world.tell_end(owner)

    @rule(name=st.sampled_from(SEMAPHORES), capacity=st.sampled_from([0, 2, 3, 4, None]))
    def resize(self, name: str, capacity: int | None) -> None:
        self.world.resize(name, capacity)

    @rule(ms=st.sampled_from([1, 20, 60]))
    def pass_time(self, ms: int) -> None:
        self.world.now_ms += ms
        for domain in self.world.domains.values():
            domain.tick(self.world.now_ms)

    # ---- what the detector does

    @rule(name=st.sampled_from(DOMAINS), count=st.integers(1, 20))
    def read(self, name: str, count: int) -> None:
        domain = self.world.domains[name]
        for told in domain.told[domain.read : domain.read + count]:
            self.detector.take(*told)
        domain.read = min(len(domain.told), domain.read + count)

    @rule()
    def step(self) -> None:
        now = self.world.snapshot()
        then = {one.core: self.suspected[one.check_id] for one in self.detector._suspicions}
        checks, found = self.detector.step(self.world.now_ms)
        for check in checks:
            self.suspected.setdefault(check.check_id, now)
            self.asked[check.domain].append(check)
        for one in found:
            self.check(then[one.core], now, one)
            self.victims.append(one.victim.owner)
            self.asked[one.victim.request[1]].append(one)

    @rule(name=st.sampled_from(DOMAINS))
    def carry_out(self, name: str) -> None:
        """A domain comes to the next command of the detector."""
        if not self.asked[name]:
            return
        command = self.asked[name].pop(0)
        if isinstance(command, Check):
            fields = {"domain": name, "request_id": command.check_id}
            self.world.domains[name].told.append(("wait.checked", fields, self.world.now_ms))
        else:
            self.world.abort(command.victim.request, command.victim.owner)

    @rule()
    def keep(self) -> None:
        """A checkpoint, by what has changed since the last one, through JSON."""
        for key, row in self.detector.view.changes().items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = json.loads(json.dumps(row))
        self.read_then = {name: domain.read for name, domain in self.world.domains.items()}

    @rule()
    def crash(self) -> None:
        """Another detector begins at the last checkpoint, and knows the victims, which are kept with the commands."""
        self.begin(dict(self.detector.victims))
        for name, domain in self.world.domains.items():
            domain.read = self.read_then[name]

    # ---- what has to hold

    @staticmethod
    def check(state: State, now: State, found: Deadlock) -> None:
        """All were in a deadlock with each other when it was suspected, and each of them was needed for that."""
        names = set(found.core.owners)
        assert len(names) > 1
        assert found.victim.owner in names
        assert stuck(state, names) == names, f"{found} was none"
        for owner in names:
            rest = names - {owner}
            assert not stuck(state, rest) or not stuck(now, rest), f"{owner} is not needed for {found}"

    @rule()
    def settle(self) -> None:
        """All is read and carried out, and victims give back what they have: then nobody is in a deadlock."""
        self.step()
        for _ in range(SETTLES):
            for name in DOMAINS:
                while self.asked[name]:
                    self.carry_out(name)
            for owner in self.victims:
                for grant in self.world.of(owner, holds=True) if not self.world.waits(owner) else ():
                    self.world.release(owner, grant)
            self.victims.clear()
            for name in DOMAINS:
                self.read(name, 10**6)
            self.step()
            if not any(self.asked.values()):
                break
        assert not any(self.asked.values()), "the detector does not come to an end"
        assert not stuck(self.world.snapshot(), set(OWNERS)), "a deadlock was not found"


TestDeadlocks = Deadlocks.TestCase
TestDeadlocks.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def walk(seed: int, steps: int, machine: Deadlocks) -> None:
    """Do what the state machine does, with more at stake: owners that seldom let go of what they have."""
    chance = random.Random(seed)

    def locks() -> None:
        names = chance.sample([one for one in LOCKS if one[0] == chance.choice(DOMAINS)] or LOCKS[:1], 1)
        if chance.random() < 0.3:
            names = [f"{names[0][0]}/x", f"{names[0][0]}/y"]
        mode = chance.choice(["exclusive", "exclusive", "shared"])
        machine.lock(chance.choice(OWNERS), names, mode, chance.choice([None, None, None, 50]), chance.choice([0, 0, 3]))

    def permits() -> None:
        machine.permits(
            chance.choice(OWNERS), chance.choice(SEMAPHORES), chance.choice([1, 1, 2, 3]), None, chance.choice([0, 0, 3])
        )

    acts: list[tuple[int, Callable[[], None]]] = [
        (30, locks),
        (14, permits),
        (2, lambda: machine.tell(chance.choice(OWNERS), chance.sample(OWNERS, 2))),
        (5, lambda: machine.release(chance.choice(OWNERS), chance.randrange(4))),
        (2, lambda: machine.give_up(chance.choice(OWNERS))),
        (1, lambda: machine.resize(chance.choice(SEMAPHORES), chance.choice([0, 2, 3, 4, None]))),
        (3, lambda: machine.pass_time(chance.choice([1, 20, 60]))),
        (20, lambda: machine.read(chance.choice(DOMAINS), chance.randint(1, 6))),
        (20, machine.step),
        (16, lambda: machine.carry_out(chance.choice(DOMAINS))),
        (1, machine.keep),
        (1, machine.crash),
        (1, machine.settle),
    ]
    weights = [weight for weight, _ in acts]
    for _ in range(steps):
        chance.choices(acts, weights)[0][1]()
    machine.settle()


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_long_walk(seed: int) -> None:
    """The same, with many deadlocks in each run."""
    walk(seed, 200, Deadlocks())
