"""Agents, tasks and queues of work on a real broker, with kill -9 and SIGSTOP of agents and kill -9 of the worker."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec

import pytest

from schemas.tasks import FinishWork
from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.coordination import (
    AgentLost,
    AgentPool,
    Task,
    TaskFailed,
    TaskHandle,
    TaskLost,
    WaitRefused,
    WaitTimedOut,
    WorkQueue,
)
from streams.coordination.calls import call
from streams.transport import Outgoing
from tests.e2e.work_trial import WorkTrial, judge

LEASE_S = 2.0
LATE_S = 1.5
"""After a lease's end, on a loaded machine."""
LIMIT_S = 50
P = ParamSpec("P")


def bounded(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """End a test that hangs in time for its processes to be ended too."""

    @wraps(test)
    async def within(*args: P.args, **kwargs: P.kwargs) -> None:
        async with asyncio.timeout(LIMIT_S):
            await test(*args, **kwargs)

    return within


@pytest.fixture(scope="module")
def trial(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkTrial]:
    """One for all: each test has pools of its own, and leaves a worker behind."""
    with WorkTrial(kafka.bootstrap_servers, tmp_path_factory.mktemp("work")) as made:
        asyncio.run(made.begin())
        yield made


@pytest.fixture
async def mesh(trial: WorkTrial) -> AsyncIterator[Mesh]:
    async with trial.mesh("a") as made:
        yield made


async def waiting(pool: AgentPool | WorkQueue, count: int) -> None:
    """Ask until so many tasks wait."""
    async with asyncio.timeout(60):
        while (await pool.standing()).waiting != count:
            pass


async def cancelled(task: Task, handle: TaskHandle) -> None:
    """Do a task that is cancelled meanwhile."""
    async with task:
        assert task.id == handle.id
        assert await handle.cancel()
        await asyncio.Event().wait()


@bounded
async def test_the_tasks_of_dead_and_frozen_agents_go_to_another_within_their_leases(trial: WorkTrial, mesh: Mesh) -> None:
    """With larger tokens, each once; the frozen one cannot write through a guard, and learns that it has lost."""
    pool = mesh.agents("coders/a")
    dead = trial.speaker("hold", "coders/a", "dead", f"{LEASE_S}", "2")
    frozen = trial.speaker("write", "coders/a", "frozen", f"{LEASE_S}")
    for one in (dead, frozen):
        await asyncio.to_thread(one.wait, "announced")
    handles = [await pool.assign(number) for number in range(3)]
    assert Counter(handle.agent for handle in handles) == {"dead": 2, "frozen": 1}
    await asyncio.to_thread(dead.wait, "has", 2)
    frozen_task, frozen_token = await asyncio.to_thread(frozen.wait, "has")
    tokens = {task: int(token) for task, token in (*dead.said("has"), *frozen.said("has"))}
    async with pool.announce("alive", capacity=3, lease_s=60) as agent:
        frozen.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(trial.kill, dead)
        killed = time.monotonic()
        tasks = {task.id: task for task in [await agent.task(wait_s=30) for _ in handles]}
        assert time.monotonic() - killed < LEASE_S + LATE_S
        assert tasks.keys() == tokens.keys()
        assert all(task.token > tokens[task.id] and task.attempt == 2 for task in tasks.values())
        key = f"task:{frozen_task}"
        await mesh.send(Outgoing(trial.prefix + "register.writes", key.encode(), b"alive", tasks[frozen_task].guard()))
        frozen.process.send_signal(signal.SIGCONT)
        last, lost = await asyncio.to_thread(frozen.wait, "lost")
        assert lost == "True"
        for task in tasks.values():
            async with task:
                task.result = task.payload
        assert [await handle.result(timeout_s=30) for handle in handles] == [0, 1, 2]
    async with asyncio.timeout(30):
        while not any(one.startswith(f"{frozen_token}:{last} ") for one in await asyncio.to_thread(trial.writes, key)):
            pass
    writes = trial.writes(key)
    at = writes.index("alive taken")
    assert at, "it wrote before it was frozen"
    assert all(write.endswith(" taken") for write in writes[: at + 1])
    assert writes[at + 1 :]
    assert all("is too old" in write for write in writes[at + 1 :])
    found = judge(trial.events(), "coders/a")
    assert sorted(found[handle.id].agents for handle in handles) == [("dead", "alive"), ("dead", "alive"), ("frozen", "alive")]


@bounded
async def test_no_task_is_lost_or_done_twice_through_a_kill_of_the_worker(trial: WorkTrial) -> None:
    """Four agents of three meshes do sixty tasks, a third of them from a queue; the worker is killed in the midst of it."""
    done: list[str] = []
    doing: set[str] = set()
    midst = asyncio.Event()

    async def do(task: Task) -> str:
        assert task.id not in doing, "two have it at once"
        doing.add(task.id)
        await asyncio.sleep(0)
        doing.remove(task.id)
        done.append(task.id)
        if len(done) == 15:
            midst.set()
        return f"{task.payload} by {task.attempt}"

    async with trial.mesh("a") as a, trial.mesh("b") as b, trial.mesh("c") as c:

        async def take(mesh: Mesh) -> None:
            async with mesh.work("coders/queue").consumer(prefetch=2, lease_s=60) as tasks:
                await tasks.serve(do)

        async def submit(mesh: Mesh, first: int) -> list[Any]:
            handles = []
            for number in range(first, first + 20):
                if number % 3:
                    handles.append(await mesh.assign(number, pool="coders/c", strategy=("least_loaded", "hash")[number % 2]))
                else:
                    handles.append(await mesh.work("coders/queue").put(number, priority=number % 5))
            return [await handle.result(timeout_s=60) for handle in handles]

        async with asyncio.TaskGroup() as group:
            serving = [
                group.create_task(mesh.agents("coders/c").serve(do, name, capacity=2, lease_s=60))
                for mesh, name in ((a, "ann"), (b, "bob"), (c, "cyd"))
            ]
            serving.append(group.create_task(take(c)))
            submitting = [group.create_task(submit(mesh, 20 * number)) for number, mesh in enumerate((a, b, c))]
            await midst.wait()
            await trial.replace()
            results = [result for one in submitting for result in await one]
            for one in serving:
                one.cancel()
    assert results == [f"{number} by 1" for number in range(60)]
    assert max(Counter(done).values()) == 1
    events = trial.events()
    found = judge(events, "coders/c") | judge(events, "coders/queue")
    assert {task: len(one.tokens) for task, one in found.items()} == dict.fromkeys(done, 1)
    assert all(one.end is not None and one.end.how == "finished" for one in found.values())


@bounded
async def test_load_health_and_draining(trial: WorkTrial, mesh: Mesh) -> None:
    """The least loaded fit agent gets a task; unhealthy and drained ones get none, and a drained one does what it has."""
    pool = mesh.agents("coders/d")
    async with (
        pool.announce("small", owner="s", lease_s=60) as small,
        pool.announce("big", capabilities="gpu", capacity=3, owner="b", lease_s=60) as big,
    ):
        assert (await pool.assign("x", needs="gpu", wait_s=0)).agent == "big"
        handles = [await pool.assign(number) for number in range(3)]
        assert [handle.agent for handle in handles] == ["big", "big", "small"], "in proportion to capacity"
        with pytest.raises(WaitRefused, match="busy"):
            await pool.assign("y", wait_s=0)
        with pytest.raises(WaitRefused, match="no_agent"):
            await pool.assign("y", needs=["gpu", "tpu"], wait_s=0)
        with pytest.raises(WaitTimedOut):
            await pool.assign("y", wait_s=0.1)
        standing = await pool.standing()
        assert [(one.name, one.load, one.state) for one in standing.agents] == [("big", 3, "ready"), ("small", 1, "ready")]
        async with await small.task():
            await small.update(healthy=False)
        with pytest.raises(WaitRefused, match="busy"):
            await pool.assign("y", wait_s=0)
        await pool.drain("big")
        async for task in big:  # ends with what it has
            async with task:
                task.result = "drained"
        assert [await handle.result() for handle in handles] == ["drained", "drained", None]
        late = asyncio.create_task(pool.assign("late"))
        await waiting(pool, 1)
        assert [one.state for one in (await pool.standing()).agents] == ["draining", "unhealthy"]
        await pool.drain("big", draining=False)
        handle = await late
        with pytest.raises(TaskLost, match="nobody wants it done"):
            await cancelled(await big.task(), handle)
        with pytest.raises(TaskFailed, match="cancelled"):
            await handle.result()
        assert not await handles[0].cancel()
    assert (await pool.standing()).count == 0
    assert judge(trial.events(), "coders/d")[handle.id].agents == ("big",)


@bounded
async def test_a_queue_by_priority_with_redelivery(trial: WorkTrial, mesh: Mesh) -> None:
    """The highest priority first; what fails, takes too long or was with a killed one is taken again, then given up."""
    queue = mesh.work("builds")
    handles = [await queue.put({"priority": priority}, priority=priority, backoff_s=0, attempts=2) for priority in (-50, 0, 50)]
    for wanted in (50, 0):
        async with await queue.take(wait_s=0) as task:
            assert task.payload == {"priority": wanted}
            task.result = wanted
    assert [await handle.result() for handle in handles[1:]] == [0, 50]
    task = await queue.take()
    await task.give_back()
    taker = trial.speaker("take", "builds", f"{LEASE_S}")
    task_id, token = await asyncio.to_thread(taker.wait, "has")
    assert (task_id, int(token) > task.token) == (task.id, True)
    with pytest.raises(WaitTimedOut):
        await queue.take(wait_s=0)
    await asyncio.to_thread(trial.kill, taker)
    again = await queue.take(wait_s=LEASE_S + LATE_S)
    assert (again.id, again.attempt, again.token > int(token)) == (task_id, 2, True), "what is given back is no attempt"
    with pytest.raises(ValueError, match="no luck"):
        async with again:
            raise ValueError("no luck")
    with pytest.raises(TaskFailed, match="given up after 2 attempts: ValueError: no luck"):
        await handles[0].result()
    slow = await queue.put("slow", attempt_s=0.3, attempts=1)
    with pytest.raises(TaskLost, match="took too long"):
        async with await queue.take():
            await asyncio.Event().wait()
    with pytest.raises(TaskFailed, match="given up"):
        await slow.result()
    with pytest.raises(WaitTimedOut):
        await (await queue.put("late", wait_s=0.1)).result()
    waits = asyncio.create_task(queue.take())
    async with asyncio.timeout(30):
        while not (await queue.standing()).count:
            pass
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    async with asyncio.timeout(30):
        while (await queue.standing()).count:
            pass
    judge(trial.events(), "builds")


@bounded
async def test_bad_input_is_refused_with_a_reason(trial: WorkTrial, mesh: Mesh) -> None:
    """Names, leases, payloads, words, and tasks that somebody else has; nobody is the worse for it."""
    pool = mesh.agents("coders/e")
    for name in ("", "x" * 100_000, "/x", "a\nb"):
        with pytest.raises(WaitRefused, match="bad_name"):
            await mesh.assign("x", pool=name)
    for lease_s in (-1, 0, math.nan, math.inf):
        with pytest.raises(WaitRefused, match="bad_lease"):
            await pool.announce("ann", lease_s=lease_s).acquire()
    with pytest.raises(WaitRefused, match="bad_agent"):
        await pool.announce("a" * 257).acquire()
    for wrong, code in (
        ({"weight": 0}, "bad_weight"),
        ({"needs": ["w" * 65]}, "bad_needs"),
        ({"strategy": "luck"}, "bad_strategy"),
        ({"attempts": 0}, "bad_attempts"),
        ({"wait_s": -1}, "bad_wait"),
        ({"attempt_s": -1}, "bad_attempt"),
        ({"priority": 1_000}, "bad_priority"),
    ):
        with pytest.raises(WaitRefused, match=code):
            await pool.assign("x", **wrong)
    with pytest.raises(WaitRefused, match="bad_payload"):
        await pool.assign("x" * 20_000)
    for nothing in (object(), math.nan):
        with pytest.raises((TypeError, ValueError)):
            await pool.assign(nothing)
    with pytest.raises(WaitRefused, match="no_agent"):
        await pool.drain("nobody")
    async with pool.announce("ann", lease_s=60) as agent:
        with pytest.raises(WaitRefused, match="bad_capacity"):
            await agent.update(capacity=-1)
        with pytest.raises(WaitRefused, match="bad_lease"):
            await agent.renew(-1)
        handle = await pool.assign("\ud800 half", attempts=1)
        task = await agent.task()
        assert task.payload == "\ud800 half"
        for owner, token, code in (("thief", task.token, "not_owner"), (agent.owner, task.token - 1, "lost")):
            finish = FinishWork(domain="coders", request_id=task.id, owner=owner, token=token, result="")
            with pytest.raises(WaitRefused, match=code):
                await call(mesh.session, finish, what="it")
        with pytest.raises(WaitRefused, match="bad_result"):
            await task.done("x" * 5_000)
        with pytest.raises(WaitRefused, match="bad_delay"):
            await task.fail(retry_in_s=-1)
        assert task.held
        await task.done("mine")
        with pytest.raises(TaskLost, match="ended here"):
            await task.done("again")
        assert await handle.result() == "mine"
        handle = await pool.assign("x", attempts=1)
        with pytest.raises(TypeError):
            async with await agent.task() as task:
                task.result = object()
        with pytest.raises(TaskFailed, match="TypeError"):
            await handle.result()
    with pytest.raises(AgentLost, match="has left"):
        await agent.task()
    judge(trial.events(), "coders/e")
