"""Compensation: what was registered is undone one after another, the last first, and nothing cancels it.

What cannot be undone is an incident: an operator has it tried again, skips it, or marks it done. What was registered before it
waits meanwhile, since undoing in another order may be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sagas.core.engine.calls import LOCK_LOST, TIMED_OUT, again_after_ms
from sagas.core.engine.inputs import grant_of, undo_input
from sagas.core.engine.moves import cancel
from sagas.core.engine.state import BACKOFF, CALLED, CHILD, COMPENSATING, INCIDENT, Undo
from sagas.core.engine.words import Told, to_text
from streams.core.sagas.definition import Child, Step
from streams.core.sagas.retries import is_final, wait_ms

if TYPE_CHECKING:
    from sagas.core.engine.moves import Turn
    from sagas.core.engine.words import Fields, Ignored

__all__ = ["SKIPPED", "child_undone", "compensate", "next_undo", "resolve_undo", "undo_answered", "undo_due", "undo_refused"]

UNDONE: Final = "undone"
SKIPPED: Final = "skipped"
_OVER: Final = frozenset({UNDONE, SKIPPED})
_LOCK_AGAIN_MS: Final = 500
"""Between looks at a lock that was lost and is asked for again."""
_NOTED: Final = 300


def compensate(turn: Turn, code: str, reason: str) -> bool:
    """Begin to compensate: cancel what runs, and undo the first. Returns whether all is undone."""
    inst = turn.inst
    inst.status, inst.code, inst.reason = COMPENSATING, code, reason
    inst.paused = False
    inst.note("compensates", note=f"{code}: {reason}"[:_NOTED])
    turn.todo.clear()
    turn.undo = None
    cancel(turn, inst.frames[""])
    return next_undo(turn)


def next_undo(turn: Turn) -> bool:
    """Undo the last that is registered and not undone. Returns whether there is none."""
    inst = turn.inst
    while (undo := _present(turn)) is not None:
        if undo.status:
            return False
        node = inst.plan.nodes[_name(undo.path)]
        if isinstance(node, Child):
            undo.status = CHILD
            inst.note("undo_called", undo.path, note=f"saga {inst.saga}/{undo.path}")
            turn.later.append(("undo", f"{inst.saga}/{undo.path}"))
            return False
        _call(turn, undo)
        return False
    return True


def _present(turn: Turn) -> Undo | None:
    return next((undo for undo in reversed(turn.inst.undos) if undo.status not in _OVER), None)


def _name(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _step(turn: Turn, undo: Undo) -> Step:
    node = turn.inst.plan.nodes[_name(undo.path)]
    assert isinstance(node, Step), "only steps are called"
    return node


def _call(turn: Turn, undo: Undo) -> None:
    """Call what undoes a step, for the first time or again."""
    node = _step(turn, undo)
    resource, token = grant_of(turn.inst, undo.path, node.grant)
    if resource and not token:
        undo.status, undo.due_ms, undo.again_ms = BACKOFF, turn.now_ms + _LOCK_AGAIN_MS, 0
        undo.code, undo.reason = LOCK_LOST, f"the lock of {node.grant} was lost, and is asked for again"
        return
    undo.attempt += 1
    undo.status, undo.sent = CALLED, 0
    undo.due_ms = turn.now_ms + node.compensation_timeout_ms
    turn.inst.note("undo_called", undo.path, undo.attempt, node.compensation)
    _send(turn, undo, node, resource, token)


def _send(turn: Turn, undo: Undo, node: Step, resource: str, token: int) -> None:
    again_ms = turn.now_ms + again_after_ms(turn, undo.sent)
    undo.sent += 1
    undo.again_ms = again_ms if again_ms < undo.due_ms else 0
    call = {
        "saga": turn.inst.saga,
        "node": undo.path,
        "undo": True,
        "attempt": undo.attempt,
        "input": to_text(undo_input(turn.inst, undo.path, node) if undo.given is None else undo.given[0]),
        "timeout_ms": node.compensation_timeout_ms,
        "at_ms": undo.due_ms - node.compensation_timeout_ms,
        "resource": resource,
        "token": token,
    }
    turn.told.append(Told("call", {"handler": node.compensation, "call": call}))


def undo_answered(turn: Turn, undo: Undo, answer: Fields) -> tuple[Ignored, bool]:
    """Take an answer to a compensation. Returns why it does not count (empty where it does), and whether all is undone."""
    waits = undo.status in {CALLED, BACKOFF, INCIDENT} and undo.attempt > 0
    if not waits or answer["attempt"] > undo.attempt:
        return ("duplicate" if undo.status == UNDONE else "late" if undo.attempt else "unknown"), False
    if answer["ok"]:
        if undo.status == INCIDENT:
            _tell(turn, undo, is_open=False)
        return "", _over(turn, undo, UNDONE, "undone", "")
    if undo.status != CALLED or answer["attempt"] != undo.attempt:
        return "late", False
    _failed(turn, undo, answer["code"] or "failed", answer["reason"], final=answer["final"])
    return "", False


def _over(turn: Turn, undo: Undo, status: str, what: str, note: str) -> bool:
    undo.status, undo.due_ms, undo.again_ms, undo.given = status, 0, 0, None
    turn.inst.note(what, undo.path, undo.attempt, note[:_NOTED])
    return next_undo(turn)


def _failed(turn: Turn, undo: Undo, code: str, reason: str, *, final: bool) -> None:
    node = _step(turn, undo)
    undo.code, undo.reason, undo.again_ms = code, reason[: turn.limits.reason_chars_max], 0
    tried = undo.attempt - undo.tried
    if final or is_final(node.compensation_retry, attempt=tried, code=code):
        undo.status, undo.due_ms = INCIDENT, 0
        turn.inst.note("incident", undo.path, undo.attempt, f"{code}: {reason}"[:_NOTED])
        _tell(turn, undo, is_open=True)
        return
    turn.inst.note("undo_failed", undo.path, undo.attempt, f"{code}: {reason}"[:_NOTED])
    pause_ms = wait_ms(node.compensation_retry, f"{turn.inst.saga}/{undo.path}/undo", attempt=tried)
    undo.status, undo.due_ms = BACKOFF, turn.now_ms + pause_ms


def _tell(turn: Turn, undo: Undo, *, is_open: bool) -> None:
    told = {"saga": turn.inst.saga, "node": undo.path, "undo": True, "open": is_open, "code": undo.code, "reason": undo.reason}
    turn.told.append(Told("incident", told, everybody=True))


def undo_due(turn: Turn, undo: Undo) -> None:
    """Do what is due of a compensation: its timeout, its next attempt, or its call again, which may be lost."""
    now_ms = turn.now_ms
    if undo.due_ms and undo.due_ms <= now_ms:
        if undo.status == BACKOFF:
            _call(turn, undo)
        elif undo.status == CALLED:
            node = _step(turn, undo)
            text = f"no answer within {node.compensation_timeout_ms} ms; does a service handle {node.compensation!r}?"
            _failed(turn, undo, TIMED_OUT, text, final=False)
    elif undo.again_ms and undo.again_ms <= now_ms:
        node = _step(turn, undo)
        _send(turn, undo, node, *grant_of(turn.inst, undo.path, node.grant))


def resolve_undo(turn: Turn, undo: Undo, action: str, by: str, reason: str) -> bool:
    """End the incident of a compensation as an operator says. Returns whether all is undone."""
    _tell(turn, undo, is_open=False)
    note = f"{action} by {by}: {reason}"
    if action == "retry":
        undo.tried = undo.attempt
        turn.inst.note("resolved", undo.path, undo.attempt, note[:_NOTED])
        undo.status = ""
        return next_undo(turn)
    return _over(turn, undo, SKIPPED if action == "skip" else UNDONE, "resolved", note)


def child_undone(turn: Turn, undo: Undo) -> bool:
    """Go on where a child has undone what it did. Returns whether all is undone."""
    return _over(turn, undo, UNDONE, "undone", "")


def undo_refused(turn: Turn, undo: Undo, code: str, reason: str) -> None:
    """Have an operator look at what a child will not undo."""
    undo.status, undo.code, undo.reason = INCIDENT, code, reason
    turn.inst.note("incident", undo.path, 0, f"{code}: {reason}"[:_NOTED])
    _tell(turn, undo, is_open=True)
