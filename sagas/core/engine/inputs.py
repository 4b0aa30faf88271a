"""What a step's calls are given: by the frame in which it ran, and by the lock that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.core.engine.state import DONE, prefix_of

if TYPE_CHECKING:
    from sagas.core.engine.state import Instance
    from streams.core.sagas.definition import Step

__all__ = ["capture", "grant_of", "lock_path", "undo_input"]


def undo_input(inst: Instance, path: str, node: Step) -> Any:  # noqa: ANN401 - any JSON value
    """Return what the compensation of a step is given."""
    frame = inst.frames[prefix_of(path)]
    plan = frame.graph.nodes[node.name]
    run = frame.runs.get(node.name)
    result = None if run is None or run.status != DONE else run.result
    template = plan.values.get("compensation_input")
    if template is None:
        return {"input": plan.values["input"](frame.scope), "result": result}
    return template({**frame.scope, node.name: result})


def capture(inst: Instance, prefix: str) -> None:
    """Keep what compensations are given, where the frame of their steps goes."""
    for undo in inst.undos:
        if undo.given is None and prefix_of(undo.path) == prefix:
            node: Any = inst.plan.nodes[undo.path[len(prefix) :]]
            undo.given = [None if node.kind == "child" else undo_input(inst, undo.path, node)]


def lock_path(inst: Instance, path: str, grant: str) -> str:
    """Return the path of the lock that a step at `path` holds: in its frame, or in one outside; empty where there is none."""
    prefix = prefix_of(path)
    while grant:
        if prefix + grant in inst.locks:
            return prefix + grant
        if not prefix:
            break
        prefix = prefix_of(prefix[:-1])
    return ""


def grant_of(inst: Instance, path: str, grant: str) -> tuple[str, int]:
    """Return resource and token of the lock that a step at `path` holds; token 0: it holds none any more."""
    lock = inst.locks.get(lock_path(inst, path, grant))
    return (lock[0], lock[1]) if lock is not None else ("", 0)
