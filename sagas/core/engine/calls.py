"""Calls of steps: an attempt, its answer, its timeout, the next attempt.

An answer counts for the step and not for its attempt: where the first attempt succeeded too late and the second is on its way,
the step is done, since a participant does the same only once. Of a failure only the present attempt's counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from sagas.core.engine.inputs import grant_of
from sagas.core.engine.moves import done, fail, start_run
from sagas.core.engine.state import BACKOFF, CALLED, DONE, HELD, INCIDENT, Undo
from sagas.core.engine.words import Told, from_text, to_text
from streams.core.sagas.definition import Step
from streams.core.sagas.retries import is_final, wait_ms

if TYPE_CHECKING:
    from sagas.core.engine.moves import Turn
    from sagas.core.engine.state import Frame, Run
    from sagas.core.engine.words import Fields, Ignored

__all__ = ["LOCK_LOST", "TIMED_OUT", "again_after_ms", "answered", "attempt", "read_result", "step_due"]

TIMED_OUT: Final = "timed_out"
LOCK_LOST: Final = "lock_lost"
_NOTED: Final = 300


def attempt(turn: Turn, frame: Frame, name: str) -> None:
    """Call a step's handler, for the first time or again."""
    inst, path = turn.inst, frame.prefix + name
    plan = frame.graph.nodes[name]
    node = plan.node
    assert isinstance(node, Step), "only steps are called"
    given = to_text(plan.values["input"](frame.scope))
    if len(given) > turn.limits.payload_chars_max:
        text = f"its input has {len(given)} characters of JSON: at most {turn.limits.payload_chars_max} are allowed"
        fail(turn, frame, name, "too_large", text)
        return
    resource, token = grant_of(inst, path, node.grant)
    if node.grant and not token:
        fail(turn, frame, name, LOCK_LOST, f"the lock of {node.grant} was lost: its lease ended")
        return
    run = start_run(turn, frame, name, CALLED)
    run.attempt += 1
    if node.compensation and run.attempt == 1:
        inst.undos.append(Undo(path))  # before the action is called: its outcome may stay unknown
    inst.note("called", path, run.attempt, node.handler)
    _send(turn, path, run, node, given, resource, token, first=True)


def _send(turn: Turn, path: str, run: Run, node: Step, given: str, resource: str, token: int, *, first: bool) -> None:
    if first:
        run.sent = 0
        run.due_ms = turn.now_ms + node.timeout_ms
        began_ms = turn.now_ms
    else:
        began_ms = run.due_ms - node.timeout_ms
    again_ms = turn.now_ms + again_after_ms(turn, run.sent)
    run.sent += 1
    run.again_ms = again_ms if again_ms < run.due_ms else 0
    call = {
        "saga": turn.inst.saga,
        "node": path,
        "undo": False,
        "attempt": run.attempt,
        "input": given,
        "timeout_ms": node.timeout_ms,
        "at_ms": began_ms,
        "resource": resource,
        "token": token,
    }
    turn.told.append(Told("call", {"handler": node.handler, "call": call}))


def again_after_ms(turn: Turn, sent: int) -> int:
    """Return after how long an unanswered call is sent again."""
    return min(turn.limits.again_ms << min(sent, 32), turn.limits.again_ms_max)


def answered(turn: Turn, frame: Frame, name: str, run: Run, answer: Fields) -> Ignored:
    """Take an answer to a step's action. Returns why it does not count; empty where it does."""
    inst, path = turn.inst, frame.prefix + name
    waits = run.status in {CALLED, BACKOFF, HELD, INCIDENT} and run.attempt > 0
    if not waits or answer["attempt"] > run.attempt:
        return "duplicate" if run.status == DONE else "late" if run.attempt else "unknown"
    if not answer["ok"]:
        if run.status != CALLED or answer["attempt"] != run.attempt:
            return "late"
        _failed(turn, frame, name, run, answer["code"] or "failed", answer["reason"], final=answer["final"])
        return ""
    result, problem = read_result(turn, answer["result"])
    if problem:
        fail(turn, frame, name, "too_large", problem)
        return ""
    if run.status == INCIDENT:
        turn.told.append(Told("incident", _closed(inst.saga, path, run.extra), everybody=True))
        inst.note("resolved", path, run.attempt, "it was answered after all")
    node = frame.graph.nodes[name].node
    inst.note("answered", path, run.attempt)
    inst.pivoted = inst.pivoted or bool(getattr(node, "pivot", False))
    done(turn, frame, name, result)
    return ""


def _closed(saga: str, path: str, extra: list[str]) -> Fields:
    return {"saga": saga, "node": path, "undo": False, "open": False, "code": extra[0], "reason": extra[1]}


def read_result(turn: Turn, text: str) -> tuple[Any, str]:
    """Return an answer's value, and what is wrong with it."""
    inst, limits = turn.inst, turn.limits
    if len(text) > limits.payload_chars_max:
        return None, f"the answer has {len(text)} characters of JSON: at most {limits.payload_chars_max} are allowed"
    if inst.chars + len(text) > limits.chars_max:
        return None, f"with this answer the saga holds more than {limits.chars_max} characters of data: have steps return less"
    inst.chars += len(text)
    try:
        return (from_text(text) if text else None), ""
    except orjson.JSONDecodeError:
        return text, ""  # what somebody else wrote and is no JSON, as text


def step_due(turn: Turn, frame: Frame, name: str, run: Run) -> None:
    """Do what is due of a step: its timeout, its next attempt, or its call again, which may be lost."""
    now_ms = turn.now_ms
    if run.due_ms and run.due_ms <= now_ms:
        if run.status == BACKOFF:
            if turn.inst.paused:
                run.status, run.due_ms = HELD, 0
            else:
                attempt(turn, frame, name)
        elif run.status == CALLED:
            node = frame.graph.nodes[name].node
            assert isinstance(node, Step), "only steps are called"
            text = f"no answer within {node.timeout_ms} ms; does a service handle {node.handler!r}?"
            _failed(turn, frame, name, run, TIMED_OUT, text, final=False)
    elif run.again_ms and run.again_ms <= now_ms:
        plan = frame.graph.nodes[name]
        assert isinstance(plan.node, Step), "only steps are called"
        resource, token = grant_of(turn.inst, frame.prefix + name, plan.node.grant)
        _send(turn, frame.prefix + name, run, plan.node, to_text(plan.values["input"](frame.scope)), resource, token, first=False)
    turn.inst.dirty.add(frame.prefix)


def _failed(turn: Turn, frame: Frame, name: str, run: Run, code: str, reason: str, *, final: bool) -> None:
    inst, path = turn.inst, frame.prefix + name
    node = frame.graph.nodes[name].node
    assert isinstance(node, Step), "only steps are called"
    tried = run.attempt - (run.extra or 0)
    if final or is_final(node.retry, attempt=tried, code=code):
        fail(turn, frame, name, code, reason)
        return
    pause_ms = wait_ms(node.retry, f"{inst.saga}/{path}", attempt=tried)
    inst.note("failed", path, run.attempt, f"{code}: {reason}"[:_NOTED])
    inst.dirty.add(frame.prefix)
    run.status, run.again_ms, run.due_ms = BACKOFF, 0, turn.now_ms + pause_ms
