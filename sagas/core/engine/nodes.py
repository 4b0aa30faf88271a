"""How each kind of node begins, and what is due of it.

What waits has a time at which it has waited for long enough; what can be said at once is done at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sagas.core.engine.calls import TIMED_OUT, attempt, step_due
from sagas.core.engine.moves import cancel, done, drop, fail, start_run, unlock
from sagas.core.engine.state import BODY, CHILD, FAILED, HELD, LOCKING, WAITING, Undo
from sagas.core.engine.words import Told
from schemas.naming import NAME_CHARS_MAX, name_problem
from streams.core.sagas import definition as d
from streams.core.sagas.expressions import is_true

if TYPE_CHECKING:
    from sagas.core.engine.moves import Turn
    from sagas.core.engine.plan import NodePlan
    from sagas.core.engine.state import Frame, Run

__all__ = ["begin", "body_ended", "due", "lock"]

_END_MS: Final = 253_402_300_799_999
"""The last millisecond that a date can say."""


def begin(turn: Turn, frame: Frame, name: str) -> None:
    """Begin a node; a paused saga begins none."""
    if turn.inst.paused:
        start_run(turn, frame, name, HELD)
        return
    plan = frame.graph.nodes[name]
    _BEGIN[plan.node.kind](turn, frame, name, plan)


def due(turn: Turn, frame: Frame, name: str, run: Run) -> None:
    """Do what is due of a node."""
    kind = frame.graph.nodes[name].node.kind
    if kind == d.Step.kind:
        step_due(turn, frame, name, run)
    elif not run.due_ms or run.due_ms > turn.now_ms:
        return
    elif kind == d.Timer.kind:
        _go_on(turn, frame, name)
    elif kind == d.Child.kind:
        run.due_ms = 0
        turn.inst.dirty.add(frame.prefix)
        child = f"{turn.inst.saga}/{frame.prefix}{name}"
        turn.later.append(("cancel", child, "its parent", "it took longer than its parent allows"))
    else:
        unlock(turn, frame.prefix + name)
        what = {d.Lock.kind: "the lock was not free", d.Approval.kind: "nobody has said yes or no"}.get(kind, "no signal came")
        code = "lock_timed_out" if kind == d.Lock.kind else TIMED_OUT
        fail(turn, frame, name, code, f"{what} within {turn.now_ms - run.began_ms} ms")


def _go_on(turn: Turn, frame: Frame, name: str) -> None:
    turn.inst.note("answered", frame.prefix + name)
    done(turn, frame, name, None)


def _choice(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node = plan.node
    assert isinstance(node, d.Choice), "by kind"
    to = next((to for when, to in plan.cases if is_true(when(frame.scope))), node.otherwise)
    turn.inst.note("answered", frame.prefix + name, note=f"to {to}" if to else "to nothing")
    done(turn, frame, name, to or None)


def _join(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    taken = [one for one in plan.sources if (run := frame.runs.get(one)) is not None and run.status == "done"]
    turn.inst.note("answered", frame.prefix + name, note=f"{len(taken)} of {len(plan.sources)}")
    done(turn, frame, name, {one: frame.scope.get(one) for one in taken})


def _timer(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node = plan.node
    assert isinstance(node, d.Timer), "by kind"
    until: Any = turn.now_ms + node.wait_ms
    if node.until:
        until = plan.values["until"](frame.scope)
        if isinstance(until, bool) or not isinstance(until, int | float) or not 0 <= until <= _END_MS:
            text = f"it waits until {str(until)[:80]}: that is no time in milliseconds since 1970"
            fail(turn, frame, name, "bad_time", text)
            return
    run = start_run(turn, frame, name, WAITING)
    run.due_ms = max(turn.now_ms + 1, int(until))
    turn.inst.note("waits", frame.prefix + name, note="timer")


def _approval(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node = plan.node
    assert isinstance(node, d.Approval), "by kind"
    run = start_run(turn, frame, name, WAITING)
    run.due_ms = turn.now_ms + node.timeout_ms if node.timeout_ms else 0
    run.input = plan.values["ask"](frame.scope)
    turn.inst.note("waits", frame.prefix + name, note=f"approval by {node.approvers}" if node.approvers else "approval")


def _signal(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node, inst = plan.node, turn.inst
    assert isinstance(node, d.Signal), "by kind"
    waiting = inst.signals.get(node.signal)
    if waiting:
        value = waiting.pop(0)
        if not waiting:
            del inst.signals[node.signal]
        inst.note("answered", frame.prefix + name, note=f"signal {node.signal}, which had come")
        done(turn, frame, name, value)
        return
    run = start_run(turn, frame, name, WAITING)
    run.due_ms = turn.now_ms + node.timeout_ms if node.timeout_ms else 0
    inst.note("waits", frame.prefix + name, note=f"signal {node.signal}")


def _lock(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node, path = plan.node, frame.prefix + name
    assert isinstance(node, d.Lock), "by kind"
    resource = plan.values["resource"](frame.scope)
    problem = name_problem(resource, "the resource") if isinstance(resource, str) else "the resource is no text"
    if problem:
        fail(turn, frame, name, "bad_name", problem)
        return
    run = start_run(turn, frame, name, LOCKING)
    run.due_ms = turn.now_ms + node.timeout_ms if node.timeout_ms else 0
    turn.inst.note("waits", path, note=f"lock {resource}")
    turn.inst.locks[path] = [resource, 0, 0, node.lease_ms, node.mode, 0]
    lock(turn, path, wait_ms=node.timeout_ms or None)


def lock(turn: Turn, path: str, *, wait_ms: int | None) -> None:
    """Ask for a lock, or for it again where its lease has ended."""
    one = turn.inst.locks[path]
    resource, _, _, lease_ms, mode, number = one
    one[1], one[2], one[5] = 0, turn.now_ms + turn.limits.again_ms, number + 1
    told = {"saga": turn.inst.saga, "node": path, "resource": resource, "number": number + 1, "lease_ms": lease_ms, "mode": mode}
    turn.told.append(Told("lock", {**told, "wait_ms": wait_ms, "again": False}))


def _child(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node, inst, path = plan.node, turn.inst, frame.prefix + name
    assert isinstance(node, d.Child), "by kind"
    child = f"{inst.saga}/{path}"
    known = turn.plans.get((node.definition, node.version))
    problem = ""
    if known is None:
        problem = f"the definition {node.definition!r}, version {node.version}, is not known any more"
    elif len(child) > NAME_CHARS_MAX or child.count("/") > turn.limits.depth_max * 2:
        problem = f"its id has more than {NAME_CHARS_MAX} characters, or it is more than {turn.limits.depth_max} children deep"
    if problem:
        fail(turn, frame, name, "no_child", problem)
        return
    if node.compensate:
        inst.undos.append(Undo(path))
    run = start_run(turn, frame, name, CHILD)
    run.due_ms = turn.now_ms + node.timeout_ms if node.timeout_ms else 0
    inst.note("called", path, note=f"saga {child}")
    turn.later.append(("start", child, known, plan.values["input"](frame.scope), inst.saga, path))


def _loop(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    run = start_run(turn, frame, name, BODY)
    run.extra = 0
    _pass(turn, frame, name, plan, 0, {"index": 0})


def _pass(turn: Turn, frame: Frame, name: str, plan: NodePlan, number: int, own: dict[str, Any]) -> None:
    assert plan.body is not None, "loops and eaches have one"
    inner = turn.inst.new_frame(f"{frame.prefix}{name}[{number}]/", plan.body, own)
    for one in plan.body.starts:
        if turn.undo is not None or turn.inst.frames.get(inner.prefix) is not inner:
            return
        if one not in inner.runs:
            begin(turn, inner, one)


def _each(turn: Turn, frame: Frame, name: str, plan: NodePlan) -> None:
    node = plan.node
    assert isinstance(node, d.Each), "by kind"
    items = plan.values["items"](frame.scope)
    if not isinstance(items, list):
        fail(turn, frame, name, "no_list", f"{node.items} is no list")
    elif len(items) > node.items_max:
        fail(turn, frame, name, "too_many_items", f"{node.items} has {len(items)} items: at most {node.items_max} are allowed")
    elif isinstance(node.need, int) and node.need > len(items):
        fail(turn, frame, name, "too_few", f"{node.need} have to succeed, and there are {len(items)}")
    elif not items:
        turn.inst.note("answered", frame.prefix + name, note="no items")
        done(turn, frame, name, [])
    else:
        run = start_run(turn, frame, name, BODY)
        run.extra = [0, [None] * len(items), 0, 0]
        _begin_items(turn, frame, name, plan, run, items)


def _begin_items(turn: Turn, frame: Frame, name: str, plan: NodePlan, run: Run, items: list[Any]) -> None:
    node = plan.node
    assert isinstance(node, d.Each), "by kind"
    at_once = node.parallel_max or len(items)
    while run.status == BODY and turn.undo is None:
        number, _, succeeded, failed = run.extra
        if number >= len(items) or number - succeeded - failed >= at_once:
            return
        run.extra[0] = number + 1
        turn.inst.dirty.add(frame.prefix)
        _pass(turn, frame, name, plan, number, {"item": items[number], "index": number})


def body_ended(turn: Turn, inner: Frame) -> None:
    """Go on where a pass of a body has ended."""
    frame = turn.inst.outside(inner.prefix)
    name, _, number = inner.prefix[len(frame.prefix) : -2].rpartition("[")
    plan, run = frame.graph.nodes[name], frame.runs[name]
    failed = any(one.status == FAILED for one in inner.runs.values())
    result = plan.values["result"](inner.scope)
    turn.inst.dirty.add(frame.prefix)
    if isinstance(plan.node, d.Loop):
        _loop_passed(turn, frame, name, plan, run, inner, result)
    else:
        drop(turn, inner)
        _item_ended(turn, frame, name, plan, run, int(number), None if failed else result, failed=failed)


def _loop_passed(turn: Turn, frame: Frame, name: str, plan: NodePlan, run: Run, inner: Frame, result: Any) -> None:  # noqa: ANN401
    node, path = plan.node, frame.prefix + name
    assert isinstance(node, d.Loop), "by kind"
    enough = is_true(plan.values["until"](inner.scope))
    number = run.extra = run.extra + 1
    drop(turn, inner)
    if enough or (number >= node.passes_max and node.at_bound == "go_on"):
        turn.inst.note("answered", path, note=f"after {number} passes")
        done(turn, frame, name, result)
    elif number >= node.passes_max:
        fail(turn, frame, name, "too_many_passes", f"{node.until} is not true after {number} passes")
    else:
        _pass(turn, frame, name, plan, number, {"index": number})


def _item_ended(
    turn: Turn,
    frame: Frame,
    name: str,
    plan: NodePlan,
    run: Run,
    number: int,
    result: Any,  # noqa: ANN401 - any JSON value
    *,
    failed: bool,
) -> None:
    node = plan.node
    assert isinstance(node, d.Each), "by kind"
    results = run.extra[1]
    results[number] = result
    run.extra[3 if failed else 2] += 1
    count, succeeded, failures = len(results), run.extra[2], run.extra[3]
    needed = count if node.need == "all" else 1 if node.need == "any" else node.need
    if succeeded >= needed:
        _rest(turn, frame, name)
        turn.inst.note("answered", frame.prefix + name, note=f"{succeeded} of {count}")
        done(turn, frame, name, results)
    elif count - failures < needed:
        _rest(turn, frame, name)
        fail(turn, frame, name, "too_few", f"{failures} of {count} items have failed, and {needed} have to succeed")
    else:
        _begin_items(turn, frame, name, plan, run, plan.values["items"](frame.scope))


def _rest(turn: Turn, frame: Frame, name: str) -> None:
    for prefix in sorted(one for one in turn.inst.frames if one.startswith(f"{frame.prefix}{name}[")):
        if (inner := turn.inst.frames.get(prefix)) is not None:
            cancel(turn, inner)
            drop(turn, inner)


_BEGIN: Final[dict[str, Callable[[Turn, Frame, str, NodePlan], None]]] = {
    d.Step.kind: lambda turn, frame, name, _: attempt(turn, frame, name),
    d.Choice.kind: _choice,
    d.Join.kind: _join,
    d.Timer.kind: _timer,
    d.Approval.kind: _approval,
    d.Signal.kind: _signal,
    d.Lock.kind: _lock,
    d.Child.kind: _child,
    d.Loop.kind: _loop,
    d.Each.kind: _each,
}
assert set(_BEGIN) == set(d.KINDS), "every kind can begin"
