"""How a saga goes forward: which node begins, which is passed over, and when all has ended.

An edge is taken where its node is done (out of a choice: the edge that was chosen), and passed over where it was passed over,
failed or cancelled. A node begins when each edge into it is one or the other; a join may begin earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sagas.core.engine.moves import cancel_run, fail, pass_over, start_run
from sagas.core.engine.nodes import begin, body_ended
from sagas.core.engine.state import DONE, FAILED, WAITING
from streams.core.sagas.definition import Choice, Join

if TYPE_CHECKING:
    from sagas.core.engine.moves import Turn
    from sagas.core.engine.plan import NodePlan
    from sagas.core.engine.state import Frame

__all__ = ["begin_saga", "go"]

_UNKNOWN: Final = 0
_TAKEN: Final = 1
_PASSED: Final = 2
_FAILED: Final = 3


def begin_saga(turn: Turn) -> None:
    """Begin the graph of the definition, where nothing of it has begun, or what a fork has to begin."""
    inst = turn.inst
    frame = inst.frames.get("") or inst.new_frame("", inst.plan.graph, {})
    for name in frame.graph.nodes:
        if turn.undo is not None:
            return
        if name not in frame.runs:
            _look_at(turn, frame, name)


def go(turn: Turn) -> bool:
    """Look at what follows the nodes that have finished, until the saga waits.

    Returns:
        Whether all has ended. Where `turn.undo` is set, the saga is to be compensated instead.
    """
    inst, todo = turn.inst, turn.todo
    while todo and turn.undo is None:
        frame, name = todo.popleft()
        if inst.frames.get(frame.prefix) is not frame:
            continue  # dropped since
        for target in frame.graph.nodes[name].targets:
            if turn.undo is not None:
                return False
            _look_at(turn, frame, target)
        if frame.left == 0 and not any(one is frame for one, _ in todo):
            if not frame.prefix:
                return True
            body_ended(turn, frame)
    return False


def _look_at(turn: Turn, frame: Frame, name: str) -> None:
    """Begin a node, or pass it over, if that can be said."""
    run = frame.runs.get(name)
    plan = frame.graph.nodes[name]
    if isinstance(plan.node, Join):
        if run is None or run.status == WAITING:
            _look_at_join(turn, frame, name, plan, plan.node)
        return
    if run is not None:
        return
    taken = not plan.sources
    for source in plan.sources:
        edge = _edge(frame, source, name)
        if edge == _UNKNOWN:
            return
        taken = taken or edge == _TAKEN
    if taken:
        begin(turn, frame, name)
    else:
        pass_over(turn, frame, name)


def _look_at_join(turn: Turn, frame: Frame, name: str, plan: NodePlan, node: Join) -> None:
    edges = [_edge(frame, source, name) for source in plan.sources]
    taken, unknown, total = edges.count(_TAKEN), edges.count(_UNKNOWN), len(edges)
    if not taken and not unknown and (node.need == "all" or _FAILED not in edges):
        pass_over(turn, frame, name)
        return
    needed = total if node.need == "all" else 1 if node.need == "any" else node.need
    if taken >= needed:
        if plan.alone and unknown:
            for one in plan.alone:
                run = frame.runs.get(one)
                if run is not None and not run.finished:
                    cancel_run(turn, frame, one, run)
                    turn.todo.append((frame, one))
        begin(turn, frame, name)
        _pass_rest(turn, frame, plan)
    elif taken + unknown < needed and (taken or _FAILED in edges or not unknown):
        if name not in frame.runs:
            start_run(turn, frame, name, WAITING)
        fail(turn, frame, name, "too_few", f"{taken} of {total} branches came, and {needed} are needed")


def _pass_rest(turn: Turn, frame: Frame, plan: NodePlan) -> None:
    """Pass over the nodes of cancelled branches that have not begun."""
    for one in plan.alone:
        if one not in frame.runs:
            pass_over(turn, frame, one)


def _edge(frame: Frame, source: str, target: str) -> int:
    run = frame.runs.get(source)
    if run is None or not run.finished:
        return _UNKNOWN
    if run.status == DONE:
        node = frame.graph.nodes[source].node
        return _TAKEN if not isinstance(node, Choice) or run.result == target else _PASSED
    return _FAILED if run.status == FAILED else _PASSED
