"""The machine of pools against a dumb oracle, and its rules one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.core.coordination.pool_words import (
    Announce,
    Assigned,
    Drain,
    Ended,
    Finish,
    Gone,
    Outcome,
    PoolLimits,
    PoolStanding,
    Return,
    Returned,
    Standing,
    Submit,
)
from processors.core.coordination.pools import Pools
from processors.core.coordination.request_words import Queued, Refused, TimedOut
from processors.core.coordination.strategies import Match
from streams.core.at import At
from tests.processors.core.coordination.pool_oracle import Job, Oracle, Said, Worker
from tests.processors.core.coordination.twin import Twin

AGEING_MS = 50
LIMITS = PoolLimits(ageing_ms=AGEING_MS)
POOLS = ("coders", "reviews")
WORDS = ("gpu", "python")
AGENTS = ("ann", "bob", "cyd")


def last_name(match: Match) -> float:
    """A strategy of one's own."""
    return -ord(match.agent[0])


MINE = {"last_name": last_name}


def word(outcome: Outcome) -> Said:
    """The oracle's word for an outcome."""
    about = outcome.request_id
    match outcome:
        case Refused():
            return outcome.code, about
        case Queued():
            return "waiting", about
        case TimedOut():
            return "timed_out", about
        case Standing():
            return "standing", about, outcome.load
        case PoolStanding():
            return "pool_standing", about
        case Assigned():
            return "assigned", about, outcome.agent_id, outcome.attempt
        case Returned():
            return "returned", about, outcome.how
        case Gone() | Ended():
            return outcome.how, about


def words(outcomes: list[Outcome]) -> list[Said]:
    return [word(outcome) for outcome in outcomes]


def few(*options: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(options)


class PoolsAgainstOracle(RuleBasedStateMachine):
    """Agents that come, change, die and lie, and tasks of all kinds, in two pools."""

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(lambda rows: Pools.load(rows, LIMITS, MINE))
        self.oracle, self.number = Oracle(AGEING_MS), 0
        self.tokens: dict[str, list[int]] = {}
        self.submitted: dict[str, Submit] = {}
        self.holder: dict[str, str] = {}

    @property
    def now_ms(self) -> int:
        return self.twin.now_ms

    def both(self, method: str, *args: Any, **kwargs: Any) -> None:
        outcomes = self.twin.do(method, *args, **kwargs)
        for one in outcomes:
            if isinstance(one, Assigned) and not one.repeated:
                assert one.request_id not in self.holder, "one agent has it"
                assert one.token > max((tokens[-1] for tokens in self.tokens.values()), default=0)
                self.tokens.setdefault(one.request_id, []).append(one.token)
                self.holder[one.request_id] = one.agent_id
            elif isinstance(one, Ended | Returned) and not one.repeated:
                self.holder.pop(one.request_id, None)
        found, wanted = words(outcomes), self.oracle.log
        if method == "leave" and wanted and wanted[-1][0] == "left or not":
            wanted[-1] = (found[-1][0], wanted[-1][1])
            assert found[-1][0] in ("left", "no_agent")
        assert Counter(found) == Counter(wanted), f"{method}{args}"
        assert self.in_order(found) == self.in_order(wanted)
        self.oracle.log = []

    def in_order(self, said: list[Said]) -> list[Said]:
        """What was assigned, in order for each pool."""
        return sorted((one for one in said if one[0] == "assigned"), key=lambda one: self.oracle.job(one[1]).pool)

    def new_id(self) -> str:
        self.number += 1
        return f"{self.number:03}"

    @rule(
        pool=few(*POOLS),
        agent=few(*AGENTS),
        capabilities=st.sets(few(*WORDS)),
        capacity=few(1, 2, 3, 5),
        healthy=few(True, True, True, False),
        lease_ms=few(100, 300, 10_000, 10_000),
    )
    def comes(self, pool: str, agent: str, capabilities: set[str], capacity: int, healthy: bool, lease_ms: int) -> None:
        self.says(self.new_id(), pool, agent, capabilities, capacity, healthy, lease_ms)

    @precondition(lambda self: self.oracle.workers)
    @rule(
        data=st.data(),
        capabilities=st.sets(few(*WORDS)),
        capacity=few(1, 2, 3, 5),
        healthy=st.booleans(),
        lease_ms=few(100, 10_000),
        same=st.booleans(),
    )
    def heartbeat(
        self, data: st.DataObject, capabilities: set[str], capacity: int, healthy: bool, lease_ms: int, same: bool
    ) -> None:
        it = data.draw(st.sampled_from(self.oracle.workers))
        if same:
            capabilities, capacity, healthy = it.capabilities, it.capacity, it.healthy
        self.says(it.id, it.pool, it.agent, capabilities, capacity, healthy, lease_ms, again=True)

    def says(
        self,
        worker_id: str,
        pool: str,
        agent: str,
        capabilities: set[str],
        capacity: int,
        healthy: bool,
        lease_ms: int,
        *,
        again: bool = False,
    ) -> None:
        owner = f"{agent}-session"
        worker = Worker(worker_id, owner, pool, agent, capabilities, capacity, healthy, lease_ms, 0)
        self.oracle.announce(worker, self.now_ms)
        what = (worker_id, owner, pool, agent, tuple(capabilities), capacity, healthy, lease_ms)
        self.both("announce", Announce(*what, again=again))

    @precondition(lambda self: self.oracle.workers)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        it = data.draw(st.sampled_from(self.oracle.workers))
        self.oracle.leave(it.id, self.now_ms)
        self.both("leave", it.id, it.owner)

    @rule(pool=few(*POOLS), agent=few(*AGENTS), draining=st.booleans())
    def drain(self, pool: str, agent: str, draining: bool) -> None:
        self.oracle.drain(pool, agent, draining, self.now_ms)
        self.both("drain", Drain("drain", "ops", pool, agent, draining))

    @rule(
        pool=few(*POOLS),
        needs=st.sets(few(*WORDS), max_size=1),
        weight=few(1, 1, 1, 2, 4),
        priority=few(0, 0, 0, 1, 5, -2),
        strategy=few("least_loaded", "least_loaded", "weighted", "hash", "last_name"),
        key=few("", "one", "two"),
        wait_ms=few(None, None, None, 0, 10, 200),
        attempts_max=few(1, 2, 3),
        backoff_ms=few(0, 20),
        attempt_ms=few(None, None, 100, 200),
    )
    def submit(self, pool: str, needs: set[str], weight: int, priority: int, strategy: str, key: str, **limits: Any) -> None:
        task_id = self.new_id()
        self.oracle.submit(Job(self.number, task_id, pool, needs, weight, priority, strategy, key, **limits), self.now_ms)
        asked = Submit(task_id, "boss", pool, "do it", tuple(needs), weight, priority, strategy, key, **limits)
        self.submitted[task_id] = asked
        self.both("submit", asked)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(list(self.submitted.values())))
        self.oracle.tick(self.now_ms)
        job = self.oracle.job(asked.request_id)
        state = "waiting" if job.state == "delayed" else job.state
        held = ("assigned", job.id, job.worker, job.attempts)
        self.oracle.log.append(held if state == "held" else (state, job.id))
        self.both("submit", asked)

    @precondition(lambda self: self.tokens)
    @rule(
        data=st.data(),
        how=few("finished", "finished", "failed", "failed", "given_back"),
        delay_ms=few(None, 0, 30),
        late=few(False, False, False, True),
    )
    def report(self, data: st.DataObject, how: str, delay_ms: int | None, late: bool) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.holder) or sorted(self.tokens)) | st.sampled_from(sorted(self.tokens)))
        job, tokens = self.oracle.job(task_id), self.tokens[task_id]
        assert len(tokens) == job.held
        owner = self.oracle.worker(job.worker).owner
        held = max(1, job.held - late)
        token = tokens[held - 1]
        self.oracle.report(task_id, how, delay_ms, self.now_ms, held=held)
        if how == "finished":
            self.both("finish", Finish(task_id, owner, token, "done"))
        else:
            self.both("give_back", Return(task_id, owner, token, how == "failed", "oh", delay_ms))

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.submitted)))
        self.oracle.cancel(task_id, self.now_ms)
        self.both("cancel", task_id, "boss")

    @rule(ms=few(1, 9, 60, 150, 400, -30))
    def time_passes(self, ms: int) -> None:
        self.twin.now_ms += ms
        self.oracle.tick(self.now_ms)
        self.both("tick", command=False)

    @invariant()
    def nobody_waits_who_could_be_served(self) -> None:
        for job in self.oracle.jobs:
            assert job.state != "waiting" or not self.oracle.free_for(job)

    @invariant()
    def who_has_what_is_what_was_told(self) -> None:
        assert self.holder == {j.id: j.worker for j in self.oracle.jobs if j.state == "held"}


TestPoolsAgainstOracle = PoolsAgainstOracle.TestCase
TestPoolsAgainstOracle.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


# ---- the rules one by one


class Desk(Twin):
    """One pool, commands a millisecond apart."""

    def __init__(self, limits: PoolLimits | None = None, *, loads: bool = True) -> None:
        super().__init__(lambda rows: Pools.load(rows, limits, MINE), loads=loads)

    def comes(self, agent: str, *capabilities: str, capacity: int = 1, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        agent_id = kwargs.pop("agent_id", agent)
        return self.do("announce", Announce(agent_id, f"{agent}-session", "coders", agent, capabilities, capacity, **kwargs))

    def submit(self, task_id: str, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        return self.do("submit", Submit(task_id, "boss", "coders", **kwargs))

    def token(self, task_id: str) -> int:
        return int(self.machine._book.task(task_id).token)

    def finish(self, task_id: str, agent: str, token: int | None = None, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        token = self.token(task_id) if token is None else token
        return self.do("finish", Finish(task_id, f"{agent}-session", token, "done", **kwargs))

    def give_back(self, task_id: str, agent: str, **kwargs: Any) -> list[Outcome]:
        self.now_ms += 1
        return self.do("give_back", Return(task_id, f"{agent}-session", self.token(task_id), **kwargs))


def to(outcomes: list[Outcome]) -> list[Said]:
    """Who was told what: the route, the outcome, whether only this one is told."""
    return [(outcome.route, word(outcome)[0], getattr(outcome, "repeated", False)) for outcome in outcomes]


def test_the_tasks_of_a_dead_agent_go_to_others_with_a_larger_token_and_what_it_says_later_changes_nothing() -> None:
    """Its lease ends to the millisecond; the attempt of the smaller token is lost, whatever its agent says."""
    desk = Desk()
    desk.comes("ann", lease_ms=100)
    desk.submit("1")
    first = desk.token("1")
    desk.comes("bob")
    assert desk.tick(97) == []
    assert words(desk.tick(1)) == [("expired", "ann"), ("returned", "1", "lost"), ("assigned", "1", "bob", 2)]
    assert desk.token("1") > first
    assert words(desk.finish("1", "ann", first)) == [("lost", "1")]
    assert words(desk.finish("1", "ann")) == [("not_owner", "1")]
    assert words(desk.finish("1", "bob")) == [("finished", "1")]


def test_two_that_die_at_once_give_nothing_to_each_other() -> None:
    """All leases that are over end before anything is assigned."""
    desk = Desk()
    desk.comes("ann", lease_ms=100)
    desk.comes("bob", lease_ms=100)
    desk.comes("cyd")
    desk.submit("1", strategy="hash", key="k")
    desk.submit("2")
    desk.submit("3")
    after = words(desk.tick(500))
    assert {one[2] for one in after if one[0] == "assigned"} <= {"cyd"}
    assert [one for one in after if one[0] in ("expired", "assigned")][:2] == [("expired", "ann"), ("expired", "bob")]


def test_a_heartbeat_renews_and_says_what_has_changed() -> None:
    """The same again is told to nobody else; other capabilities bring what waits for them."""
    desk = Desk()
    desk.comes("ann", lease_ms=100)
    desk.submit("1", needs=("gpu",))
    desk.now_ms += 90
    assert to(desk.comes("ann", lease_ms=100, route="r", again=True)) == [("r", "standing", True)]
    assert desk.tick(98) == []
    assert words(desk.comes("ann", "gpu", lease_ms=100, again=True))[-1] == ("assigned", "1", "ann", 1)
    (_, told) = desk.comes("ann", "gpu", lease_ms=100, again=True, resume=True)
    assert isinstance(told, Assigned)
    assert told.repeated
    desk.tick(100)
    assert words(desk.comes("ann", "gpu", again=True)) == [("expired", "ann")]
    (forgotten,) = desk.comes("bob", again=True)
    assert isinstance(forgotten, Refused)
    assert (forgotten.code, forgotten.request_id, forgotten.name) == ("forgotten", "bob", "coders")


def test_both_are_told_each_at_its_own_place_and_everybody_once() -> None:
    """The agent hears of its task, and who wants it done of agent and result; copies are marked as told before."""
    desk = Desk()
    desk.comes("ann", route="agent")
    mine, copy = desk.submit("1", payload="do it", route="boss")
    assert to([mine, copy]) == [("agent", "assigned", False), ("boss", "assigned", True)]
    assert (mine.payload, copy.payload) == ("do it", "")  # type: ignore[union-attr] # they are told of it
    assert to(desk.give_back("1", "ann", delay_ms=0, route="call"))[:2] == [
        ("call", "returned", False),
        ("boss", "returned", True),
    ]
    assert to(desk.finish("1", "ann", route="call")) == [("call", "finished", False), ("boss", "finished", True)]
    (again,) = desk.submit("1", route="boss")
    assert isinstance(again, Ended)
    assert (again.text, again.agent, again.repeated) == ("done", "ann", True)
    desk.submit("2", route="boss")
    assert to(desk.do("cancel", "2", "boss", route="call")) == [
        ("call", "cancelled", False),
        ("boss", "cancelled", True),
        ("agent", "cancelled", True),
    ]


def test_drained_and_unhealthy_agents_keep_what_they_have_and_get_nothing() -> None:
    """Until they are taken in again; being announced does not end it."""
    desk = Desk()
    desk.comes("ann", capacity=2)
    desk.submit("1")
    assert to(desk.do("drain", Drain("d", "ops", "coders", "ann", route="ops"))) == [
        ("", "standing", False),
        ("ops", "standing", True),
    ]
    assert words(desk.submit("2", wait_ms=0)) == [("no_agent", "2")]
    desk.comes("ann", capacity=3, again=True)
    assert words(desk.submit("3")) == [("waiting", "3")]
    assert words(desk.finish("1", "ann")) == [("finished", "1")]
    assert words(desk.do("drain", Drain("d", "ops", "coders", "ann", draining=False)))[-1] == ("assigned", "3", "ann", 1)
    desk.comes("ann", capacity=3, healthy=False, again=True)
    assert words(desk.submit("4", wait_ms=0)) == [("no_agent", "4")]
    assert words(desk.finish("3", "ann")) == [("finished", "3")]


def test_attempts_are_delayed_twice_as_long_each_time_until_the_task_is_given_up() -> None:
    """What is given back does not count; what it failed of last is told."""
    desk = Desk()
    desk.comes("ann", lease_ms=1_000_000)
    desk.submit("1", attempts_max=3, backoff_ms=100)
    for delay in (100, 200):
        (returned,) = desk.give_back("1", "ann", error="no luck")
        assert isinstance(returned, Returned)
        assert returned.again_ms == desk.now_ms + delay
        assert desk.tick(delay - 1) == []
        assert words(desk.tick(1))[0][:3] == ("assigned", "1", "ann")
        desk.give_back("1", "ann", failed=False, delay_ms=0)
    (given_up,) = desk.give_back("1", "ann", error="never")
    assert isinstance(given_up, Ended)
    assert (given_up.how, given_up.attempt, given_up.text) == ("given_up", 3, "never")


def test_a_failed_task_goes_to_another_agent_if_another_is_free() -> None:
    """An agent that fails everything at once is always the least loaded one."""
    desk = Desk()
    desk.comes("ann", lease_ms=1_000_000)
    desk.submit("1", backoff_ms=0)
    desk.comes("bob", lease_ms=1_000_000)
    assert words(desk.give_back("1", "ann"))[-1] == ("assigned", "1", "bob", 2)
    assert words(desk.give_back("1", "bob"))[-1] == ("assigned", "1", "ann", 3)


def test_a_large_task_is_not_passed_over_by_small_ones_for_ever() -> None:
    """An agent that is fit for it gets nothing behind it until there is room for it; others go on."""
    desk = Desk()
    desk.comes("big", capacity=3)
    desk.comes("small", capacity=2)
    for number in "12345":
        desk.submit(number)
    assert words(desk.submit("large", weight=3)) == [("waiting", "large")]
    desk.submit("6")
    held = {task: desk.machine._book.task(task).agent for task in "12345"}
    first = next(task for task in held if held[task] == "small")
    assert words(desk.finish(first, "small"))[1:] == [("assigned", "6", "small", 1)]
    big = [task for task in held if held[task] == "big"]
    assert [words(desk.finish(task, "big"))[1:] for task in big] == [[], [], [("assigned", "large", "big", 1)]]


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 30), st.booleans()), min_size=2, max_size=30),
    st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_nobody_starves(arrivals: list[tuple[int, int, bool]], capacity: int) -> None:
    """Who comes later begins earlier only by priority, and only within so many steps' worth of time."""
    desk = Desk(PoolLimits(ageing_ms=10), loads=False)
    desk.comes("ann", capacity=capacity, lease_ms=1_000_000)
    begun: list[str] = []
    asked: dict[str, tuple[int, int]] = {}

    def note(outcomes: list[Outcome]) -> None:
        begun.extend(one.request_id for one in outcomes if isinstance(one, Assigned))

    def finish_oldest() -> None:
        held = next(iter(desk.machine._book.agent("ann").tasks), None)
        if held is not None:
            note(desk.finish(held, "ann"))

    for number, (priority, pause, done) in enumerate(arrivals):
        desk.now_ms += pause
        task_id = f"{number:03}"
        outcomes = desk.submit(task_id, priority=priority)
        asked[task_id] = (desk.now_ms, priority)
        note(outcomes)
        if done:
            finish_oldest()
    while len(begun) < len(asked):
        finish_oldest()
    for place, task_id in enumerate(begun):
        came, priority = asked[task_id]
        for earlier in begun[:place]:
            came_then, priority_then = asked[earlier]
            assert came_then - came <= max(0, priority_then - priority) * 10


def test_tasks_of_one_key_go_to_one_agent_and_only_those_of_a_lost_one_move() -> None:
    """Rendezvous hashing by the agents' names, in proportion to capacity."""
    agents = {f"agent-{number}": 1_000 * (1 + number % 2) for number in range(6)}

    def homes(without: str = "") -> dict[str, str]:
        desk = Desk(loads=False)
        for agent, capacity in agents.items():
            if agent != without:
                desk.comes(agent, capacity=capacity, lease_ms=1_000_000)
        told = [desk.submit(f"task-{number}", strategy="hash", key=f"key-{number % 300}")[0] for number in range(600)]
        return {f"{number}": one.agent_id for number, one in enumerate(told) if isinstance(one, Assigned)}

    before, after = homes(), homes(without="agent-3")
    assert len(before) == 600
    assert all(before[f"{number}"] == before[f"{number + 300}"] for number in range(300))
    assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == "agent-3"}
    shares = Counter(before.values())
    large = sum(shares[agent] for agent, capacity in agents.items() if capacity == 2_000)
    assert 0.55 < large / 600 < 0.78


def test_the_least_loaded_in_proportion_to_capacity_gets_the_next() -> None:
    """Three tasks in four to the agent that is three times as large."""
    desk = Desk()
    desk.comes("ann", capacity=10)
    desk.comes("bob", capacity=30)
    told = [desk.submit(f"{number}")[0] for number in range(40)]
    assert Counter(one.agent_id for one in told if isinstance(one, Assigned)) == {"ann": 10, "bob": 30}
    assert words(desk.submit("41", wait_ms=0)) == [("busy", "41")]


def test_an_attempt_may_not_take_longer_than_its_limit_though_its_agent_lives() -> None:
    """The agent is told, too."""
    desk = Desk()
    desk.comes("ann", route="agent")
    desk.submit("1", attempt_ms=100, attempts_max=1, route="boss")
    assert to(desk.tick(100)) == [("", "given_up", False), ("boss", "given_up", True), ("agent", "given_up", True)]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Submit("", "boss", "coders"), "bad_request_id"),
        (Submit("1", "b\x00ss", "coders"), "bad_owner"),
        (Submit("1", "boss", ""), "bad_name"),
        (Submit("1", "boss", "/coders"), "bad_name"),
        (Submit("1", "boss", "coders", "x" * 16_385), "bad_payload"),
        (Submit("1", "boss", "coders", needs=("",)), "bad_needs"),
        (Submit("1", "boss", "coders", needs=("x" * 65,)), "bad_needs"),
        (Submit("1", "boss", "coders", needs=tuple(str(number) for number in range(65))), "bad_needs"),
        (Submit("1", "boss", "coders", weight=0), "bad_weight"),
        (Submit("1", "boss", "coders", priority=101), "bad_priority"),
        (Submit("1", "boss", "coders", strategy="luck\n"), "bad_strategy"),
        (Submit("1", "boss", "coders", key="\ud800"), "bad_key"),
        (Submit("1", "boss", "coders", wait_ms=-1), "bad_wait"),
        (Submit("1", "boss", "coders", attempts_max=0), "bad_attempts"),
        (Submit("1", "boss", "coders", backoff_ms=-1), "bad_backoff"),
        (Submit("1", "boss", "coders", attempt_ms=0), "bad_attempt"),
        (Submit("1", "boss", "coders", wait_ms=0), "no_agent"),
        (Submit("1", "boss", "coders", again=True), "forgotten"),
        (Announce("1", "ann", "coders", ""), "bad_agent"),
        (Announce("1", "ann", "coders", "ann", capacity=0), "bad_capacity"),
        (Announce("1", "ann", "coders", "ann", ("\x7f",)), "bad_capabilities"),
        (Announce("1", "ann", "coders", "ann", lease_ms=-1), "bad_lease"),
        (Drain("1", "ops", "coders", "a" * 257), "bad_agent"),
        (Drain("1", "ops", "coders", "nobody"), "no_agent"),
        (Finish("1", "", 1), "bad_owner"),
        (Finish("1", "ann", 1), "not_held"),
        (Finish("1", "ann", 1, "x" * 4_097), "bad_result"),
        (Return("1", "ann", 1, delay_ms=-1), "bad_delay"),
    ],
)
def test_bad_input_is_refused_with_a_reason(asked: Any, code: str) -> None:
    """What is not allowed is answered with a code and one line, and leaves nothing behind but the answer."""
    machine = Pools()
    method = {Submit: "submit", Announce: "announce", Drain: "drain", Finish: "finish", Return: "give_back"}[type(asked)]
    (refused,) = getattr(machine, method)(asked, At(0, 0, 0))
    assert isinstance(refused, Refused)
    assert refused.code == code
    assert refused.text
    assert "\n" not in refused.text
    assert not machine._book.pools
    assert not machine._book.ledger.requests


def test_a_queue_is_bounded_and_its_length_costs_a_command_no_more_than_its_own_row() -> None:
    """Ten thousand wait, and the next is refused by name of the limit; so for kinds and agents."""
    desk = Desk(loads=False)
    for number in range(10_000):
        desk.submit(f"{number:05}")
    assert words(desk.submit("more")) == [("queue_full", "more")]
    assert len(desk.store.rows) == 10_002
    desk.do("announce", Announce("ann", "ann-session", "coders", "ann"))
    assert desk.machine._book.agent("ann").tasks == {"00000": None}
    few_only = Desk(PoolLimits(kinds_max=2, agents_max=1), loads=False)
    few_only.submit("1", weight=5)
    few_only.submit("2", weight=6)
    assert words(few_only.submit("3", weight=7)) == [("too_many_kinds", "3")]
    assert words(few_only.submit("4", weight=6)) == [("waiting", "4")]
    few_only.comes("ann")
    assert words(few_only.comes("bob")) == [("too_many_agents", "bob")]


def test_an_id_of_another_is_refused() -> None:
    """Agents and tasks share the space of ids, and so do owners."""
    desk = Desk()
    desk.comes("ann")
    assert words(desk.submit("ann")) == [("id_reused", "ann")]
    desk.submit("1")
    assert words(desk.do("submit", Submit("1", "other", "coders"))) == [("id_reused", "1")]
    assert words(desk.comes("bob", agent_id="1")) == [("id_reused", "1")]
    assert words(desk.do("cancel", "1", "other")) == [("not_owner", "1")]
    assert words(desk.do("leave", "ann", "other")) == [("not_owner", "ann")]


def test_nothing_is_kept_of_a_pool_that_nobody_uses() -> None:
    """The last agent that goes and the last task that ends leave only answers."""
    desk = Desk()
    desk.comes("ann")
    desk.submit("1")
    desk.finish("1", "ann")
    assert words(desk.do("leave", "ann", "ann-session")) == [("left", "ann")]
    assert words(desk.do("leave", "ann", "ann-session")) == [("left", "ann")]
    assert not desk.machine._book.pools
    assert {row[0] for key, row in desk.store.rows.items() if key[0] == "r"} == {3}


def test_a_heartbeat_that_is_answered_elsewhere_leaves_tasks_where_the_agent_listens() -> None:
    """A client tells apart the answers of its heartbeats by the call, and hears of its tasks on one."""
    desk = Desk()
    desk.comes("ann", route="tasks", capacity=2)
    assert to(desk.comes("ann", route="beat", capacity=2, again=True, listens=False)) == [("beat", "standing", True)]
    assert to(desk.submit("1")) == [("tasks", "assigned", False)]
    desk.comes("ann", route="moved", capacity=2, again=True)
    assert to(desk.submit("2")) == [("moved", "assigned", False)]


def test_how_a_pool_stands_is_told_to_who_asks_only() -> None:
    """Agents in the order of names, what they could do and what they have, and how many tasks wait."""
    desk = Desk()
    desk.comes("cyd", "gpu", capacity=3)
    desk.comes("ann", healthy=False)
    desk.comes("bob")
    desk.do("drain", Drain("d", "ops", "coders", "bob"))
    desk.submit("1", weight=2)
    desk.submit("2", weight=2)
    (told,) = desk.do("standing", "coders", "ops", request_id="q", route="r")
    assert told.repeated
    assert (told.agents, told.states) == (("ann", "bob", "cyd"), ("unhealthy", "draining", "ready"))
    assert (told.capabilities, told.capacities) == (((), (), ("gpu",)), (1, 1, 3))
    assert (told.loads, told.tasks, told.count, told.waiting) == ((0, 0, 2), (0, 0, 1), 3, 1)
    (empty,) = desk.do("standing", "other", "ops", request_id="q")
    assert (empty.agents, empty.count, empty.waiting) == ((), 0, 0)
    assert words(desk.do("standing", "", "ops", request_id="q")) == [("bad_name", "q")]
    many = Desk(loads=False)
    for number in range(101):
        many.comes(f"{number:03}")
    (told,) = many.do("standing", "coders", "ops", request_id="q")
    assert (len(told.agents), told.count) == (100, 101)
