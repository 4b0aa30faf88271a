"""The state of a key as a JSON value, the same for every backend, and back.

::

    [1, seq, [event, ...], [[parent, event, stage, seq], ...], [[rank, state, node, started, previous], ...], [...]]

Events and nodes that partial matches share are written once; a node names its parent and its event by place in the list (-1:
no parent).
The two last lists are the partial matches and the completed ones that are held back. States go by name, so a state survives a new
compilation of the same pattern. An `id` that was a tuple (topic, partition, offset) comes back as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from processors.core.cep.automaton import Automaton, State
    from processors.core.cep.conditions import Node

__all__ = ["StateMismatch", "dump", "load"]

VERSION: Final = 1


class StateMismatch(ValueError):
    """The stored state is not of this pattern: it was written under another version; restart the pattern or drain the old one."""


Partial = tuple[int, "State", "Node | None", int, int]


def dump(partial: list[Partial], completed: list[Partial], seq: int) -> list[Any]:
    """The state as a JSON value."""
    events: list[dict[str, Any]] = []
    event_places: dict[int, int] = {}
    nodes: list[list[Any]] = []
    node_places: dict[int, int] = {}

    def place_of(node: Node | None) -> int:
        path = []
        while node is not None and id(node) not in node_places:
            path.append(node)
            node = node[0]
        place = -1 if node is None else node_places[id(node)]
        for new in reversed(path):
            event = new[1]
            event_place = event_places.get(id(event))
            if event_place is None:
                event_place = event_places[id(event)] = len(events)
                events.append(event)
            nodes.append([place, event_place, new[2], new[3]])
            place = node_places[id(new)] = len(nodes) - 1
        return place

    rows = [
        [[rank, state.name, place_of(node), started, previous] for rank, state, node, started, previous in matches]
        for matches in (partial, completed)
    ]
    return [VERSION, seq, events, nodes, *rows]


def load(value: list[Any], automaton: Automaton) -> tuple[list[Partial], list[Partial], int]:
    """Partial matches, completed ones held back, and the event counter.

    Raises:
        StateMismatch: The value has another form, or names a state that the automaton does not have.
    """
    if not value or value[0] != VERSION:
        raise StateMismatch(f"state of form {value[0] if value else None!r}: {VERSION} is read here")
    _, seq, events, nodes, partial, completed = value
    by_name = {state.name: state for state in automaton.states}
    events = [_event(event) for event in events]
    made: list[Node] = []
    for parent, event, stage, number in nodes:
        made.append((None if parent < 0 else made[parent], events[event], stage, number))

    def matches(rows: list[list[Any]]) -> list[Partial]:
        found: list[Partial] = []
        for rank, name, node, started, previous in rows:
            state = by_name.get(name)
            if state is None:
                raise StateMismatch(f"the stored state waits in {name!r}, which this pattern does not have")
            found.append((rank, state, None if node < 0 else made[node], started, previous))
        return found

    return matches(partial), matches(completed), seq


def _event(event: dict[str, Any]) -> dict[str, Any]:
    identity = event.get("id")
    return {**event, "id": tuple(identity)} if isinstance(identity, list) else event
