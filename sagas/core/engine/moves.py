"""What can become of a node: it is done, it fails, it is passed over, it is cancelled; and what is to be looked at then.

Nothing here looks at what follows: a `Turn` keeps what has finished, and `flow.go` takes it from there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from sagas.core.engine.inputs import capture
from sagas.core.engine.state import (
    BODY,
    CANCELLED,
    CHILD,
    DONE,
    FAILED,
    INCIDENT,
    LOCKING,
    PASSED,
    Frame,
    Instance,
    Run,
)
from sagas.core.engine.words import Told, to_text

if TYPE_CHECKING:
    from sagas.core.engine.plan import Plan
    from sagas.core.engine.words import SagaLimits

__all__ = ["Turn", "cancel", "done", "drop", "fail", "finish", "incident", "pass_over", "start_run", "unlock"]


class Turn:
    """One step of one saga.

    Args:
        inst: The saga.
        now_ms: The partition's time.
        limits: What is refused.
        told: What is said is added here.
        later: What other sagas are to do after it is added here: (what, saga, more).
        plans: Definitions by name and version: for children.
    """

    __slots__ = ("inst", "later", "limits", "now_ms", "plans", "todo", "told", "undo")

    def __init__(
        self,
        inst: Instance,
        now_ms: int,
        limits: SagaLimits,
        told: list[Told],
        later: deque[tuple[Any, ...]],
        plans: dict[tuple[str, int], Plan],
    ) -> None:
        self.inst, self.now_ms, self.limits, self.told, self.later, self.plans = inst, now_ms, limits, told, later, plans
        self.todo: deque[tuple[Frame, str]] = deque()
        """Nodes that have finished, and what follows them is to be looked at."""
        self.undo: tuple[str, str] | None = None
        """Code and reason, where the saga is to be compensated."""


_NOTED: Final = 300
"""Characters of a note: a line of a timeline."""


def start_run(turn: Turn, frame: Frame, name: str, status: str) -> Run:
    """Note that a node has begun, or go on with the run of one that was held."""
    inst, path = turn.inst, frame.prefix + name
    run = frame.runs.get(name)
    if run is None:
        run = frame.runs[name] = Run(status, turn.now_ms)
    else:
        run.status, run.began_ms = status, turn.now_ms
    inst.active[path] = run
    inst.dirty.add(frame.prefix)
    return run


def finish(turn: Turn, frame: Frame, name: str, status: str, result: Any = None) -> None:  # noqa: ANN401 - any JSON value
    """End a run, in whatever way."""
    inst = turn.inst
    run = frame.runs.get(name)
    if run is None:
        run = frame.runs[name] = Run(status, turn.now_ms)
    else:
        run.status, run.due_ms, run.again_ms, run.sent, run.input, run.extra = status, 0, 0, 0, None, None
    run.result = result
    frame.left -= 1
    inst.active.pop(frame.prefix + name, None)
    inst.dirty.add(frame.prefix)


def done(turn: Turn, frame: Frame, name: str, result: Any) -> None:  # noqa: ANN401 - any JSON value
    """Give a node its result."""
    finish(turn, frame, name, DONE, result)
    frame.scope[name] = result
    turn.todo.append((frame, name))


def pass_over(turn: Turn, frame: Frame, name: str) -> None:
    """Pass a node over: nothing that leads to it was taken."""
    finish(turn, frame, name, PASSED)
    turn.inst.note("passed_over", frame.prefix + name)
    turn.todo.append((frame, name))


def fail(turn: Turn, frame: Frame, name: str, code: str, reason: str) -> None:
    """Let a node fail at last: what comes of it is the node's to say, and behind the pivot an operator's."""
    inst, path = turn.inst, frame.prefix + name
    node = frame.graph.nodes[name].node
    how = getattr(node, "if_fails", "compensate")
    reason = reason[: turn.limits.reason_chars_max]
    run = frame.runs.get(name)
    inst.note("gave_up", path, 0 if run is None else run.attempt, f"{code}: {reason}"[:_NOTED])
    if how == "go_on":
        done(turn, frame, name, {"error": {"code": code, "reason": reason}})
    elif how == "skip":
        finish(turn, frame, name, FAILED)
        turn.todo.append((frame, name))
    elif inst.pivoted:
        incident(turn, frame, name, code, reason)
    else:
        finish(turn, frame, name, FAILED)
        if turn.undo is None:
            turn.undo = code, f"{path}: {reason}"


def incident(turn: Turn, frame: Frame, name: str, code: str, reason: str) -> None:
    """Have an operator look at a node: there is no way back, and it does not go forward."""
    path = frame.prefix + name
    run = start_run(turn, frame, name, INCIDENT)
    run.due_ms = run.again_ms = 0
    run.extra = [code, reason]
    turn.inst.note("incident", path, run.attempt, f"{code}: {reason}"[:_NOTED])
    told = {"saga": turn.inst.saga, "node": path, "undo": False, "open": True, "code": code, "reason": reason}
    turn.told.append(Told("incident", told, everybody=True))


def cancel(turn: Turn, frame: Frame) -> None:
    """Cancel every run of a frame, and of the frames in it."""
    for name, run in list(frame.runs.items()):
        if not run.finished:
            cancel_run(turn, frame, name, run)


def cancel_run(turn: Turn, frame: Frame, name: str, run: Run) -> None:
    """Cancel one run: a call that is on its way may still have its effect, and stays registered for its compensation."""
    inst, path = turn.inst, frame.prefix + name
    if run.status == BODY:
        start = f"{path}["
        for prefix in sorted(one for one in inst.frames if one.startswith(start)):
            inner = inst.frames.get(prefix)
            if inner is not None:
                cancel(turn, inner)
                drop(turn, inner)
    elif run.status == CHILD:
        turn.later.append(("cancel", f"{inst.saga}/{path}", "the saga that started it", "its parent does not need it any more"))
    elif run.status == LOCKING:
        unlock(turn, path)
    inst.note("cancelled", path, run.attempt)
    if run.status == INCIDENT:
        code, reason = run.extra
        told = {"saga": inst.saga, "node": path, "undo": False, "open": False, "code": code, "reason": reason}
        turn.told.append(Told("incident", told, everybody=True))
    finish(turn, frame, name, CANCELLED)


def drop(turn: Turn, frame: Frame) -> None:
    """Forget a frame of a body, with what its nodes resulted in."""
    inst = turn.inst
    capture(inst, frame.prefix)
    del inst.frames[frame.prefix]
    inst.dirty.add(frame.prefix)
    inst.chars -= sum(len(to_text(run.result)) for run in frame.runs.values() if run.result is not None)


def unlock(turn: Turn, path: str) -> None:
    """Give a lock back, or what was asked for."""
    lock = turn.inst.locks.pop(path, None)
    if lock is not None:
        told = {"saga": turn.inst.saga, "node": path, "resource": lock[0], "number": lock[5], "held": bool(lock[1])}
        turn.told.append(Told("unlock", told))
