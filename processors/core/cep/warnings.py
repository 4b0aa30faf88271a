"""What the author of a pattern should know before it runs: state that nothing bounds, and splitting that multiplies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.core.cep.automaton import FALSE, TRUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.core.cep.automaton import State

__all__ = ["warnings_of"]


def warnings_of(states: Sequence[State], start: State, window_ms: int) -> tuple[str, ...]:
    """Warnings about an automaton, each a sentence with what to do.

    Args:
        states: All states.
        start: Where the empty partial match is.
        window_ms: From the first event to the last; 0 is none.
    """
    found: list[str] = []
    reachable = _reachable(start)
    if not window_ms:
        waiting = sorted(
            {
                state.stage or state.name
                for state in states
                if id(state) in reachable and state is not start and state.window_ms is None and _waits(state)
            }
        )
        if waiting:
            found.append(
                f"nothing ends the wait for {', '.join(waiting)}: a partial match may stay for ever, until the limit of partial"
                " matches per key evicts it. Add `within`, or a window on the stage."
            )
    growing = sorted({state.stage for state in states if id(state) in reachable and _splits_for_ever(state)})
    if growing:
        found.append(
            f"{', '.join(growing)} keeps what it has and takes each further event as well: the number of partial matches doubles"
            " with every event that fits. In a loop prefer relaxed contiguity to `any` and `allow_combinations`, or bound it by"
            " `times`."
        )
    if not any(state.kind == "final" for state in states if id(state) in reachable) and not any(
        state.kind == "pending" for state in states if id(state) in reachable
    ):
        found.append("no event can complete it: it matches nothing. A condition that is never true stands in its way.")
    return tuple(found)


def _reachable(start: State) -> set[int]:
    seen = {id(start)}
    stack = [start]
    while stack:
        for edge in stack.pop().edges:
            if edge.condition != FALSE and id(edge.target) not in seen:
                seen.add(id(edge.target))
                stack.append(edge.target)
    return seen


def _waits(state: State) -> bool:
    return state.kind in {"normal", "pending"} and any(edge.action == "ignore" and edge.target is state for edge in state.edges)


def _splits_for_ever(state: State) -> bool:
    loops = any(edge.action == "take" and edge.target is state for edge in state.edges)
    keeps = any(edge.action == "ignore" and edge.condition == TRUE for edge in state.edges)
    return loops and keeps
