"""Random definitions, answers, failures and operators: whatever happens, the orchestrator keeps what it promises."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sagas.core.engine.words import SagaLimits
from streams.core.sagas.checking import check
from streams.core.sagas.definition import (
    Approval,
    Case,
    Child,
    Choice,
    Definition,
    Each,
    Join,
    Loop,
    Node,
    Retry,
    Signal,
    Step,
    Timer,
)
from tests.sagas.core.engine.world import World


class _Maker:
    """Makes a definition that can run, from chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.count = chance, 0

    def graph(self, depth: int, size: int, *, pivot: bool) -> tuple[Node, ...]:
        nodes: list[Node] = []
        chosen: set[str] = set()
        for _ in range(self.chance.randint(1, size)):
            earlier = [one.name for one in nodes if not isinstance(one, Choice) and one.name not in chosen]
            after = tuple(self.chance.sample(earlier, min(len(earlier), self.chance.choice([0, 1, 1, 2]))))
            nodes += self.node(after, depth, pivot=pivot, chosen=chosen)
        return tuple(nodes)

    def node(self, after: tuple[str, ...], depth: int, *, pivot: bool, chosen: set[str]) -> list[Node]:  # noqa: PLR0911 - a kind each
        chance = self.chance
        self.count += 1
        name = f"n{self.count}"
        fails: Any = chance.choice(["compensate", "compensate", "go_on", "skip"])
        kind = chance.choice(["step"] * 6 + ["choice", "join", "timer", "approval", "signal", "loop", "each", "child"])
        if kind == "choice":
            a, b = f"{name}a", f"{name}b"
            chosen.update({a, b})
            return [
                Choice(name=name, after=after, cases=(Case("input.a == 1", a),), otherwise=b),
                Step(name=a, handler=a, compensation=f"undo_{a}"),
                Step(name=b, handler=b),
            ]
        if kind == "join" and len(after) > 1:
            return [
                Join(
                    name=name,
                    after=after,
                    need=chance.choice(["all", "any", 2]),
                    rest=chance.choice(["run_on", "cancel"]),
                    if_fails=fails,
                )
            ]
        if kind == "timer":
            return [Timer(name=name, after=after, wait_ms=chance.randint(1, 5_000))]
        if kind == "approval":
            return [Approval(name=name, after=after, timeout_ms=chance.choice([0, 4_000]), if_fails=fails)]
        if kind == "signal":
            return [
                Signal(
                    name=name,
                    after=after,
                    signal=chance.choice(["go", "stop"]),
                    timeout_ms=chance.choice([0, 4_000]),
                    if_fails=fails,
                )
            ]
        if kind == "child":
            return [Child(name=name, after=after, definition="leaf", version=1, compensate=chance.random() < 0.8, if_fails=fails)]
        if kind == "loop" and depth:
            body = self.graph(depth - 1, 2, pivot=False)
            return [
                Loop(
                    name=name,
                    after=after,
                    body=body,
                    until="index == 1",
                    passes_max=chance.choice([1, 3]),
                    at_bound="go_on",
                    if_fails=fails,
                )
            ]
        if kind == "each" and depth:
            body = self.graph(depth - 1, 2, pivot=False)
            need: Any = chance.choice(["all", "any", 2])
            return [
                Each(
                    name=name,
                    after=after,
                    items="input.list",
                    body=body,
                    items_max=5,
                    parallel_max=chance.choice([0, 1, 2]),
                    need=need,
                    if_fails=fails,
                )
            ]
        retry = Retry(attempts=chance.choice([1, 2, 3]), backoff_ms=100)
        undo = chance.choice(["", f"undo_{name}"])
        return [
            Step(
                name=name, handler=name, after=after, compensation=undo, retry=retry, timeout_ms=chance.choice([500, 30_000]),
                compensation_retry=Retry(attempts=2, backoff_ms=50), pivot=pivot and chance.random() < 0.1, if_fails=fails,
            )
        ]  # fmt: skip


def _definition(chance: random.Random) -> Definition | None:
    maker = _Maker(chance)
    made = Definition(
        name="walk", nodes=maker.graph(2, 6, pivot=True), deadline_ms=chance.choice([60_000, 10**8]), result={"a": "=n1"}
    )
    return made if not check(made) else None


LEAF = Definition(
    name="leaf", nodes=(Step(name="one", handler="one", compensation="undo_one"), Step(name="two", handler="two", after=("one",)))
)


def _walk(seed: int) -> None:
    chance = random.Random(seed)
    made = None
    while made is None:
        made = _definition(chance)
    world = World(SagaLimits(again_ms=1_000, ended_max=50), twin=True)
    world.define(LEAF)
    world.start(made, {"a": chance.randint(0, 1), "list": [1, 2, 3][: chance.randint(0, 3)]})
    old: list[Any] = []
    called: dict[tuple[str, str, bool], int] = {}
    succeeded: set[tuple[str, str, bool]] = set()
    looked: list[Any] = []
    for step in range(400):
        for _, call in world.calls:
            if any(call is one for one in looked):
                continue
            looked.append(call)
            key = call["saga"], call["node"], call["undo"]
            assert key not in succeeded, f"{key} is called again, and was answered"
            assert call["attempt"] >= called.get(key, 0), "attempts only grow"
            called[key] = call["attempt"]
        if world.machine.memory.find("s") is None or world.machine.memory.find("s").status == "ended":  # type: ignore[union-attr]
            break
        eager = step > 200  # then all goes well, so that it ends
        _one_thing(world, chance, old, succeeded, eager=eager)
        _never_stuck(world)
    end = world.end()
    state = world.state()
    registered = [undo["node"] for undo in state["undos"]]
    undone = [
        node
        for what, node in world.moments()
        if what == "undone" or (what == "resolved" and node in registered and state["status"] != "completed")
    ]
    if end["outcome"] == "completed":
        assert not [node for what, node in world.moments() if what == "undo_called"]
    else:
        assert all(undo["status"] in {"undone", "skipped"} for undo in state["undos"])
        over = [node for node in undone if node in registered]
        order = list(dict.fromkeys(reversed(over)))
        assert order == [node for node in registered if node in order], (registered, over)


def _one_thing(world: World, chance: random.Random, old: list[Any], succeeded: set[Any], *, eager: bool) -> None:  # noqa: C901, PLR0912 - one way each
    state = world.state()
    what = "answer" if eager else chance.choice(["answer"] * 6 + ["wait", "old", "control", "signal", "approve", "wrong"])
    if state["incidents"] and (eager or chance.random() < 0.5):
        one = chance.choice(state["incidents"])
        world.resolve(one["node"], chance.choice(["retry", "skip", "done"]) if not eager else "skip")
        return
    for child in [one for one in world.machine.memory.live if one != "s"]:
        for one in world.state(child)["incidents"]:
            world.resolve(one["node"], "skip", child)
            return
    if eager and state["status"] == "paused":
        world.control("resume")
    if eager:
        for one in state["approvals"]:
            world.approve(one["node"])
        world.signal("go")
        world.signal("stop")
        if not world.calls:
            world.wait(20_000)
            return
    if what == "answer" and world.calls:
        _, call = chance.choice(world.calls)
        ok = eager or chance.random() < 0.75
        if ok and world.machine.memory.live.get(call["saga"]):
            found = world.state(call["saga"])["nodes"].get(call["node"])
            if call["undo"] or (found and found["status"] in {"called", "backoff", "held"}):
                succeeded.add((call["saga"], call["node"], call["undo"]))
        old.append(call)
        world.answer(call, {"n": 1}, ok=ok, final=chance.random() < 0.3)
        world.calls = [one for one in world.calls if (one[1]["saga"], one[1]["node"], one[1]["undo"]) not in succeeded]
    elif what == "wait":
        world.wait(chance.choice([10, 600, 5_000]))
    elif what == "old" and old:
        world.answer(chance.choice(old), {"n": 2}, ok=chance.random() < 0.5)
    elif what == "wrong":
        wrong = {"saga": "s", "node": chance.choice(["nowhere", "n1", "n2[0]/n3"]), "undo": chance.random() < 0.5, "attempt": 99}
        world.answer(wrong, ok=chance.random() < 0.5)
    elif what == "control":
        world.control(chance.choice(["pause", "resume", "resume", "cancel"]))
    elif what == "signal":
        world.signal(chance.choice(["go", "stop"]), {"n": 1})
    elif what == "approve":
        for one in state["approvals"]:
            world.approve(one["node"], approved=chance.random() < 0.6)


def _never_stuck(world: World) -> None:
    """Each live saga waits for a time, for an answer, for somebody, or for a child."""
    for saga, inst in world.machine.memory.live.items():
        state = world.state(saga)
        waits = (
            inst.due_ms()
            or state["incidents"]
            or state["status"] == "paused"
            or any(run.status in {"waiting", "child", "held"} for run in inst.active.values())
        )
        assert waits or any(undo["status"] == "child" for undo in state["undos"]), f"{saga} is stuck: {state}"


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_a_saga_ends_whatever_happens(seed: int) -> None:
    """It ends, what was registered is undone in reverse order, nothing that succeeded is called again, and rows say all."""
    _walk(seed)
