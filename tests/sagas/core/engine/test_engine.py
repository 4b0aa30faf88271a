"""The orchestrator's machine, promise by promise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagas.core.engine import commands
from sagas.core.engine.words import SagaLimits
from streams.core.sagas.builder import Body, Saga
from streams.core.sagas.definition import (
    NO_RETRY,
    Approval,
    Case,
    Child,
    Choice,
    Definition,
    Each,
    Join,
    Lock,
    Loop,
    Retry,
    Schedule,
    Signal,
    Timer,
)
from tests.sagas.core.engine.world import ROUTE, World


def trip(**options: Any) -> Saga:
    """Three steps; the first two can be undone."""
    saga = Saga("trip", **options)
    saga.step("flight", compensation="no_flight", retry=NO_RETRY)
    saga.step("hotel", compensation="no_hotel", retry=NO_RETRY)
    saga.step("pay", retry=NO_RETRY)
    return saga


def test_steps_follow_each_other_and_the_result_is_of_all() -> None:
    """Each is called once with its input; the end is told to everybody and to who asked."""
    world = World(twin=True)
    world.start(trip(result={"f": "=flight.of", "who": "=input.who"}), {"who": "ann"})
    assert world.work() == ["flight", "hotel", "pay"]
    end = next(one for one in world.told if one.kind == "ended")
    assert (end.route, end.fields["outcome"], json.loads(end.fields["result"])) == (
        ROUTE,
        "completed",
        {"f": "flight", "who": "ann"},
    )


def test_a_failure_undoes_in_reverse_order_also_what_failed() -> None:
    """The action that failed may have had an effect, so it is undone first; what undoes it is told input and result."""
    world = World(twin=True)
    world.start(trip(), {"n": 1})
    assert world.work({"hotel": "full"}, limit=2) == ["flight", "hotel"]
    undo = world.take("no_hotel")
    assert (undo["undo"], json.loads(undo["input"])) == (True, {"input": {"n": 1}, "result": None})
    world.answer(undo)
    assert json.loads(world.take("no_flight")["input"]) == {"input": {"n": 1}, "result": {"of": "flight"}}
    world.work()
    assert (world.end()["outcome"], world.end()["code"]) == ("compensated", "full")


def test_answers_that_do_not_count_are_counted() -> None:
    """Duplicate, late, unknown, of a finished saga, of no saga: nothing comes of them, and each is a moment."""
    world = World(twin=True)
    world.start(trip())
    first = world.take()
    world.answer(first)
    world.answer(first)
    world.answer({**first, "node": "nowhere"})
    world.answer({**first, "attempt": 9})
    assert world.work() == ["hotel", "pay"]
    world.answer(first)
    world.answer({**first, "saga": "another"})
    assert world.state()["ignored"] == 4
    assert [what for what, _ in world.moments()].count("ignored") == 4
    assert [what for what, _ in world.moments("another")] == ["ignored"]


def test_who_never_answers_is_called_again_and_then_timed_out() -> None:
    """The same attempt comes again with growing pauses; then the next attempt, and at last the saga is undone."""
    world = World(twin=True)
    saga = Saga("slow")
    saga.step("step", timeout_ms=20_000, retry=Retry(attempts=2, backoff_ms=1_000, jitter=0.0))
    world.start(saga)
    seen: list[tuple[int, int]] = []
    for _ in range(50):
        seen += [(world.now_ms - 1_000_000, call["attempt"]) for _, call in world.calls]
        world.calls.clear()
        world.wait(1_000)
    assert seen == [(0, 1), (5_000, 1), (15_000, 1), (21_000, 2), (26_000, 2), (36_000, 2)]
    assert (world.end()["outcome"], world.end()["code"]) == ("compensated", "timed_out")


def test_a_late_success_counts_for_the_step() -> None:
    """The first attempt was answered after its timeout: a participant does the same once, so the step is done."""
    world = World(twin=True)
    saga = Saga("slow", result="=step")
    saga.step("step", timeout_ms=1_000, retry=Retry(attempts=2, backoff_ms=100, jitter=0.0))
    world.start(saga)
    first = world.take()
    world.wait(1_000)
    world.answer(first, 42)
    assert json.loads(world.end()["result"]) == 42


def test_codes_that_are_never_tried_again() -> None:
    """One attempt, though there would be three."""
    world = World(twin=True)
    saga = Saga("picky")
    saga.step("step", retry=Retry(attempts=3, never=("forbidden",)))
    world.start(saga)
    world.answer(world.take(), ok=False, code="forbidden")
    assert world.end()["code"] == "forbidden"


def test_behind_the_pivot_a_failure_is_an_incident() -> None:
    """It is not undone; an operator has it tried again, or says what came of it."""
    world = World(twin=True)
    saga = Saga("forward", result="=last")
    saga.step("pay", pivot=True, retry=NO_RETRY)
    saga.step("last", retry=NO_RETRY)
    world.start(saga)
    world.answer(world.take())
    world.answer(world.take(), ok=False, code="down")
    assert world.state()["incidents"] == [{"node": "last", "undo": False, "code": "down", "reason": "it broke"}]
    assert world.control("cancel").fields["code"] == "past_pivot"
    assert world.resolve("last", "retry", reason=" ").fields["code"] == "no_reason"
    world.resolve("last", "retry")
    world.answer(world.take("last"), ok=False, code="down")
    world.resolve("last", "done", result="7")
    assert json.loads(world.end()["result"]) == 7


@pytest.mark.parametrize("action", ["retry", "skip", "done"])
def test_a_compensation_that_keeps_failing_is_an_incident(action: str) -> None:
    """What was registered before it waits until an operator has ended it."""
    world = World(twin=True)
    saga = Saga("stubborn")
    saga.step("one", compensation="undo_one", retry=NO_RETRY)
    saga.step("two", compensation="undo_two", compensation_retry=NO_RETRY, retry=NO_RETRY)
    saga.step("three", retry=NO_RETRY)
    world.start(saga)
    world.work({"three": "no", "undo_two": "no"})
    assert (world.state()["status"], world.calls) == ("incident", [])
    assert world.state()["incidents"][0]["undo"]
    world.resolve("two", action)
    if action == "retry":
        world.answer(world.take("undo_two"))
    assert world.work() == ["undo_one"]
    assert world.end()["outcome"] == "compensated"


def test_a_deadline_undoes_and_a_cancel_too() -> None:
    """Both are shielded: nothing interrupts what is undone."""
    world = World(twin=True)
    world.start(trip(deadline_ms=5_000))
    world.answer(world.take())
    world.wait(5_000)
    world.control("cancel")
    assert world.control("pause").fields["code"] == "compensating"
    world.calls = [one for one in world.calls if one[1]["undo"]]
    assert world.work() == ["no_hotel", "no_flight"]
    assert (world.end()["outcome"], world.end()["code"]) == ("compensated", "deadline")
    world.start(trip(), saga="other")
    world.control("cancel", "other")
    world.work()
    assert world.end("other")["outcome"] == "cancelled"


def test_a_paused_saga_begins_nothing() -> None:
    """What is at work is answered; the next step begins when it is resumed."""
    world = World(twin=True)
    world.start(trip())
    world.control("pause")
    world.answer(world.take())
    assert world.calls == []
    assert world.state()["status"] == "paused"
    world.control("resume")
    assert world.work() == ["hotel", "pay"]


def test_signals_count_once_whether_they_come_before_or_after() -> None:
    """One that came before its node is kept for it; the same id again is the same signal."""
    world = World(twin=True)
    saga = Saga("signals", result=["=a", "=b"])
    saga.add(Timer(name="wait", wait_ms=100))
    saga.add(Signal(name="a", signal="go"))
    saga.add(Signal(name="b", signal="go", timeout_ms=1_000))
    world.start(saga)
    world.signal("go", 1, signal_id="x")
    world.signal("go", 2, signal_id="x")
    world.wait(100)
    assert [path for path, one in world.state()["nodes"].items() if one["status"] == "waiting"] == ["b"]
    world.signal("go", 3)
    assert json.loads(world.end()["result"]) == [1, 3]


def test_an_approval_is_yes_no_or_too_late() -> None:
    """No is a failure with the code `rejected`, silence one with `timed_out`."""
    for approved, code in ((True, ""), (False, "rejected"), (None, "timed_out")):
        world = World(twin=True)
        saga = Saga("ask")
        saga.add(Approval(name="ask", timeout_ms=1_000))
        world.start(saga)
        if approved is None:
            world.wait(1_000)
        else:
            world.approve("ask", approved=approved)
            assert world.ask(commands.approve, node="ask", approved=True, by="op", reason="").fields["code"] == "ended"
        assert world.end()["code"] == code


def test_branches_choices_and_joins() -> None:
    """The way that is not chosen is passed over; the join has what came."""
    world = World(twin=True)
    saga = Saga("ways", result="=both")
    saga.add(Choice(name="which", cases=(Case("input.n > 5", "big"),), otherwise="small"))
    saga.step("big", after=[])
    saga.step("small", after=[])
    saga.step("beside", after=[])
    saga.add(Join(name="both", after=("big", "small", "beside"), need=2))
    world.start(saga, {"n": 9})
    assert world.work() == ["big", "beside"]
    assert json.loads(world.end()["result"]) == {"big": {"of": "big"}, "beside": {"of": "beside"}}
    assert world.state()["nodes"]["small"]["status"] == "passed"


def test_the_first_of_several_cancels_the_rest() -> None:
    """An answer of a branch that is cancelled comes late."""
    world = World(twin=True)
    saga = Saga("race", result="=first")
    saga.step("a", after=[])
    saga.step("b", after=[])
    saga.add(Join(name="first", after=("a", "b"), need="any", rest="cancel"))
    world.start(saga)
    loser = world.take("b")
    world.answer(world.take("a"), 1)
    assert json.loads(world.end()["result"]) == {"a": 1}
    world.answer(loser, 2)
    assert world.state()["ignored"] == 1


def test_loops_have_a_bound_and_lists_a_width() -> None:
    """A loop fails at its bound; a list runs so many at once, and what it did is undone by what each pass had."""
    world = World(twin=True)
    body = Body()
    body.step("try_it")
    looping = Saga("looping")
    looping.add(Loop(name="loop", body=body.nodes(), until="try_it.ok", passes_max=3))
    world.start(looping)
    assert world.work() == ["try_it"] * 3
    assert world.end()["code"] == "too_many_passes"
    each = Body()
    each.step("one", input={"item": "=item"}, compensation="undo_one", retry=NO_RETRY)
    listing = Saga("listing")
    listing.add(Each(name="all", items="input", body=each.nodes(), items_max=5, parallel_max=2, result="=one.of"))
    listing.step("last", retry=NO_RETRY)
    world.start(listing, [1, 2, 3], saga="list")
    assert len(world.calls) == 2
    world.work({"last": "no"}, limit=4)
    undone: list[Any] = []
    while world.calls:
        call = world.take("undo_one")
        undone.append(json.loads(call["input"])["input"]["item"])
        world.answer(call)
    assert undone == [3, 2, 1]
    world.start(listing, [1] * 6, saga="long")
    assert world.end("long")["code"] == "too_many_items"


def _parent(**options: Any) -> Saga:
    saga = Saga("parent", result="=sub")
    saga.add(Child(name="sub", definition="trip", version=1, input={"who": "kid"}, **options))
    saga.step("after", retry=NO_RETRY)
    return saga


def test_a_child_is_a_saga_that_its_parent_undoes() -> None:
    """Its result is the node's; a child that had completed undoes when its parent does, before the parent has ended."""
    world = World(twin=True)
    world.define(trip(result="=input.who"))
    world.start(_parent())
    assert world.work({"after": "no"}) == ["flight", "hotel", "pay", "after", "no_hotel", "no_flight"]
    kinds = [(one.kind, one.fields["saga"], one.fields.get("outcome")) for one in world.told if one.kind == "ended"]
    assert kinds == [("ended", "s/sub", "completed"), ("ended", "s/sub", "cancelled"), ("ended", "s", "compensated")]


def test_a_child_that_fails_fails_its_node() -> None:
    """With a code that says how it ended."""
    world = World(twin=True)
    world.define(trip())
    world.start(_parent(if_fails="go_on"))
    world.work({"pay": "no"})
    assert json.loads(world.end()["result"])["error"]["code"] == "child_compensated"


def test_a_fork_keeps_what_does_not_follow() -> None:
    """It is a new saga with a link; what was undone cannot be kept."""
    world = World(twin=True)
    world.start(trip(result="=flight"))
    world.work()
    asked = {"saga": "s", "fork": "s/fork-1", "node": "hotel", "by": "op", "reason": "again", "follow": True}
    world.do(commands.fork, asked, ROUTE)
    assert world.work() == ["hotel", "pay"]
    assert json.loads(world.end("s/fork-1")["result"]) == {"of": "flight"}
    assert world.state("s/fork-1")["forked_from"] == "s"
    world.start(trip(), saga="t")
    world.work({"pay": "no"})
    answer = world.do(commands.fork, {**asked, "saga": "t", "fork": "t/fork-1", "node": "pay"}, ROUTE)[-1]
    assert "fork from 'flight'" in answer.fields["reason"]
    assert "is no node" in world.do(commands.fork, {**asked, "saga": "t", "fork": "t/f", "node": "x"}, ROUTE)[-1].fields["reason"]


def test_a_schedule_starts_each_time_once() -> None:
    """Also after a time without any worker: one of the missed times is made up for."""
    world = World(twin=True)
    made = Definition(name="tick", nodes=trip().definition().nodes[:1], schedules=(Schedule(name="often", every_ms=1_000),))
    world.define(made, home=True)
    world.define(made, home=True)
    for _ in range(3):
        world.wait(1_000)
    assert [one.fields["saga"] for one in world.told if one.kind == "started"] == [
        f"tick/often/{ms}" for ms in (1_001_000, 1_002_000, 1_003_000)
    ]
    world.wait(60_000)
    assert len([one for one in world.told if one.kind == "started"]) == 4


def test_definitions_and_inputs_that_are_refused() -> None:
    """Each says what is wrong: unknown, changed under running sagas, no definition, a missing input, too large."""
    world = World(twin=True, limits=SagaLimits(definitions_max=2))
    asked = {
        "saga": "s",
        "definition": "trip",
        "version": 1,
        "digest": "",
        "input": "{}",
        "deadline_ms": 0,
        "follow": True,
        "by": "me",
    }
    assert world.do(commands.start, asked, ROUTE)[-1].fields["code"] == "unknown_definition"
    world.start(trip(inputs=["who"]))
    assert "needs who" in world.told[-1].fields["reason"]
    assert world.define(trip(), digest="other").fields["code"] == "definition_changed"
    world.start(trip(inputs=["who"]), {"who": "x" * 70_000})
    assert "at most 65536" in world.told[-1].fields["reason"]
    bad = {"domain": "bad", "version": 1, "digest": "d", "definition": '{"name": "bad", "nodes": []}', "home": False}
    assert world.do(commands.define, bad, ROUTE)[-1].fields["code"] == "bad_definition"
    world.start(trip(inputs=["who"]), {"who": "ann"})
    world.start(trip(inputs=["who"]), {"who": "bob"})
    assert world.told[-1].fields["code"] == "different"


def test_a_result_too_large_and_a_history_too_long() -> None:
    """The step fails for good; the saga is undone."""
    world = World(twin=True, limits=SagaLimits(moments_max=30))
    world.start(trip())
    world.answer(world.take(), "x" * 70_000)
    world.work()
    assert world.end()["code"] == "too_large"
    body = Body()
    body.step("again")
    saga = Saga("long")
    saga.add(Loop(name="loop", body=body.nodes(), until="false", passes_max=1_000))
    world.start(saga, saga="l")
    world.calls = [one for one in world.calls if one[1]["saga"] == "l"]
    world.work(limit=100)
    assert world.end("l")["code"] == "too_long"


def test_a_lock_is_held_until_the_end() -> None:
    """Its token goes with the step and with what undoes it; it is renewed, asked for again where it was lost, and given back."""
    world = World(twin=True)
    saga = Saga("locked")
    saga.add(Lock(name="seats", resource="=input.row", lease_ms=3_000))
    saga.step("take", grant="seats", compensation="give", retry=NO_RETRY)
    saga.step("last", retry=NO_RETRY)
    told = world.start(saga, {"row": "plane/7"})
    asked = next(one.fields for one in told if one.kind == "lock")
    assert (asked["resource"], asked["mode"], asked["again"]) == ("plane/7", "write", False)
    world.lock("seats", token=7)
    assert (world.take("take")["resource"], world.take("take")["token"]) == ("plane/7", 7)
    assert [one.kind for one in world.wait(1_000)] == ["renew"]
    world.answer(world.take("take"))
    again = world.lock("seats", granted=False, code="expired")
    assert [one.fields["number"] for one in again if one.kind == "lock"] == [2]
    world.answer(world.take("last"), ok=False, code="no")
    assert world.calls == [], "nothing is undone without the lock"
    world.lock("seats", number=2, token=9)
    world.wait(500)
    assert world.take("give")["token"] == 9
    told = world.answer(world.take("give"))
    assert [one.fields["resource"] for one in told if one.kind == "unlock"] == ["plane/7"]


def test_a_lock_that_is_not_free_in_time_fails_its_node() -> None:
    """With a code of its own."""
    world = World(twin=True)
    saga = Saga("locked")
    saga.add(Lock(name="seats", resource="plane/7", timeout_ms=1_000))
    world.start(saga)
    world.wait(1_000)
    assert world.end()["code"] == "lock_timed_out"
