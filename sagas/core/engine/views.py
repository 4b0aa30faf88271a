"""What a saga is doing, as JSON for those who ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.core.engine.state import ENDED, INCIDENT, WAITING, Instance
from streams.core.sagas.definition import Approval

if TYPE_CHECKING:
    from sagas.core.engine.words import Fields

__all__ = ["status_of", "view"]


def status_of(inst: Instance) -> str:
    """Return its status in a word: that of the end, or incident, paused, compensating, running."""
    if inst.status == ENDED:
        return inst.outcome
    if any(run.status == INCIDENT for run in inst.active.values()) or any(undo.status == INCIDENT for undo in inst.undos):
        return "incident"
    return "paused" if inst.paused else inst.status


def view(inst: Instance) -> Fields:
    """Return all that is known of a saga.

    Returns:
        `saga`, `definition`, `version`, `status`, `code`, `reason`, `input`, `result`, `began_ms`, `deadline_ms`, `ended_ms`,
        `parent`, `forked_from`, `by`, `pivoted`, `ignored` (answers that did not count); `nodes` by path, each `status`,
        `attempt`, `result`; `undos` in the order of their registration, each `node`, `status`, `attempt`; `incidents`, each
        `node`, `undo`, `code`, `reason`; `approvals`, each `node`, `approvers`, `ask`; `locks`, each `node`, `resource`, `token`.
    """
    nodes: dict[str, Any] = {}
    incidents: list[Fields] = []
    approvals: list[Fields] = []
    for prefix, frame in sorted(inst.frames.items()):
        for name, run in frame.runs.items():
            path = prefix + name
            nodes[path] = {"status": run.status, "attempt": run.attempt, "result": run.result}
            if run.status == INCIDENT:
                incidents.append({"node": path, "undo": False, "code": run.extra[0], "reason": run.extra[1]})
            node = frame.graph.nodes[name].node
            if run.status == WAITING and isinstance(node, Approval):
                approvals.append({"node": path, "approvers": node.approvers, "ask": run.input})
    incidents += [
        {"node": undo.path, "undo": True, "code": undo.code, "reason": undo.reason}
        for undo in inst.undos
        if undo.status == INCIDENT
    ]
    definition = inst.plan.definition
    return {
        "saga": inst.saga,
        "definition": definition.name,
        "version": definition.version,
        "status": status_of(inst),
        "code": inst.code,
        "reason": inst.reason,
        "input": inst.input,
        "result": inst.result,
        "began_ms": inst.began_ms,
        "deadline_ms": inst.deadline_ms,
        "ended_ms": inst.ended_ms,
        "parent": inst.parent,
        "forked_from": inst.forked_from,
        "by": inst.by,
        "pivoted": inst.pivoted,
        "ignored": inst.ignored,
        "nodes": nodes,
        "undos": [{"node": undo.path, "status": undo.status or "registered", "attempt": undo.attempt} for undo in inst.undos],
        "incidents": incidents,
        "approvals": approvals,
        "locks": [{"node": path, "resource": lock[0], "token": lock[1]} for path, lock in inst.locks.items()],
    }
