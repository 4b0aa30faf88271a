"""The generated backend: a function made for one pattern, several times as fast as running its automaton.

It takes patterns without a skip strategy whose only window is from the first event to the last, and no loop over what may be
empty;
everything else is the general backend's. What it finds is the same, partial match for partial match: each is the other's oracle.

How the state of a key looks and what the source does is told in `source`; `Matcher.source` shows it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, MutableMapping
from typing import Any, Final

from processors.core.cep.automaton import Automaton, PatternError
from processors.core.cep.conditions import SCOPE, Node
from processors.core.cep.general import has_cycle
from processors.core.cep.outputs import EventFields, Evicted, Match, Outputs, PartialMatch, TimedOut, evicted_because, stages_of
from processors.core.cep.plan import plan_of
from processors.core.cep.source import source_of
from processors.core.cep.specialise import OTHER, steps_of

__all__ = ["GeneratedBackend", "why_not"]

KeyState = list[Any]
Partial = tuple[Any, dict[str, Any], str, int]

STATES_MAX: Final = 64
"""States that hold partial matches: each is a place in every key's state and a test in the source; more is the general
backend's."""


def why_not(automaton: Automaton) -> str | None:
    """Why a pattern needs the general backend; None if it does not."""
    if automaton.skips:
        return f"the skip strategy {automaton.skip}"
    if any(state.window_ms for state in automaton.states):
        return "a window between two events"
    if has_cycle(automaton):
        return "a loop over what may be empty"
    if any(step.kind == "stop" for step in steps_of(automaton.start, None, None, None)):
        return "a negation that nothing need come before"
    if len(automaton.states) > 2 * STATES_MAX:
        return f"more than {STATES_MAX} states"
    return None


class GeneratedBackend:
    """Runs one pattern by its own source. It keeps nothing between calls but what it compiled.

    Raises:
        PatternError: The pattern needs the general backend; says why.
    """

    name = "generated"

    def __init__(self, automaton: Automaton, partial_matches_max: int) -> None:
        reason = why_not(automaton)
        if reason is not None:
            raise PatternError(f"{reason} needs the general backend", "pattern")
        self.automaton = automaton
        self.partial_matches_max = partial_matches_max
        self._plan = plan_of(automaton)
        self._places = [(place, state) for place, state in enumerate(self._plan.states, 1)]
        lists = sum(1 for place, _ in self._places if place not in self._plan.single)
        self.source = source_of(self._plan)
        scope: dict[str, Any] = {
            **SCOPE,
            "CLASSES": {key: number for key, number in self._plan.classes.items() if key is not OTHER and number},
            "MATCH": Match,
            "EXPIRE": self._expire,
            "EVICT": self._evict,
            # no more than this in any one list, and the sum of all cannot be too large
            "LIMIT": partial_matches_max // max(1, lists + len(self._plan.single)),
        }
        exec(compile(self.source, f"<pattern {'-'.join(automaton.stages)}>", "exec"), scope)  # noqa: S102 our own source, literals through repr
        self.run = scope["run"]

    # ------------------------------------------------------------------ time

    def advance(self, states: MutableMapping[Hashable, KeyState], key: Hashable, ts: int, out: Outputs) -> None:
        """Move the clock of one key: what has waited long enough is a match or has timed out."""
        state = states.get(key)
        if state is not None and self.automaton.window_ms and state[0] <= ts:
            self._expire(states, key, state, ts, out)

    def _expire(
        self, states: MutableMapping[Hashable, KeyState], key: Hashable, state: KeyState, ts: int, out: Outputs
    ) -> KeyState | None:
        """Take out what has waited long enough; the state, or None if nothing is left of it."""
        window = self.automaton.window_ms
        started_before = ts - window
        oldest: int | None = None
        for place, at in self._places:
            held = state[place]
            if held is None:
                continue
            alone = held.__class__ is tuple
            kept = []
            for node in (held,) if alone else held:
                if node[3] > started_before:
                    kept.append(node)
                elif at.kind == "pending":
                    out.matches.append(Match(key, node, ts, node[3]))
                else:
                    out.timed_out.append(TimedOut(key, node, node[3] + window))
            if not kept:
                state[place] = None
                continue
            if not alone:
                state[place] = kept
            first = min(node[3] for node in kept)
            oldest = first if oldest is None or first < oldest else oldest
        if oldest is None:
            del states[key]
            return None
        state[0] = oldest + window
        return state

    def deadline(self, state: KeyState) -> int | None:
        """The earliest time at which `advance` does something, ms; None is never."""
        if not self.automaton.window_ms:
            return None
        state[0] = min(node[3] for _, node in self._held(state)) + self.automaton.window_ms
        due: int = state[0]
        return due

    # ------------------------------------------------------------------ limits

    def _evict(self, states: MutableMapping[Hashable, KeyState], key: Hashable, state: KeyState, out: Outputs) -> None:
        held = [node for _, node in self._held(state)]
        excess = len(held) - self.partial_matches_max
        if excess <= 0:
            return
        limit = sorted(node[3] for node in held)[excess - 1]
        reason = evicted_because(self.partial_matches_max)
        for place, _ in self._places:
            nodes = state[place]
            if nodes is None:
                continue
            if nodes.__class__ is tuple:
                nodes = [nodes]
            out.evicted.extend(Evicted(key, node, reason) for node in nodes if node[3] <= limit)
            kept = [node for node in nodes if node[3] > limit]
            state[place] = (kept[0] if place in self._plan.single else kept) if kept else None
        if not any(state[1:]):
            del states[key]

    # ------------------------------------------------------------------ state as a value

    def copy(self, state: KeyState) -> KeyState:
        """A state that can go its own way; nodes and events are shared."""
        return [held[:] if held.__class__ is list else held for held in state]

    def _held(self, state: KeyState) -> Iterable[tuple[Any, Partial]]:
        for place, at in self._places:
            held = state[place]
            if held is None:
                continue
            if held.__class__ is tuple:
                yield at, held
            else:
                for node in held:
                    yield at, node

    def count(self, state: KeyState) -> int:
        """How many partial matches there are: what `partial_matches_max` limits."""
        return sum(1 if held.__class__ is tuple else len(held) for place, _ in self._places if (held := state[place]) is not None)

    def partials(self, state: KeyState) -> tuple[list[Any], list[Any], int]:
        """The partial matches in the general backend's form; its event numbers are given here, in order of time."""
        held = list(self._held(state))
        nodes: dict[int, Partial] = {}
        events: dict[int, EventFields] = {}
        for _, leaf in held:
            chain = []
            node: Partial | None = leaf
            while node is not None and id(node) not in nodes:
                chain.append(node)
                nodes[id(node)] = node
                node = node[0]
            for taken in reversed(chain):
                events.setdefault(id(taken[1]), taken[1])
        numbers = {id(event): number for number, event in enumerate(sorted(events.values(), key=_time_of))}
        made: dict[int, Node] = {}

        def convert(node: Partial) -> Node:
            chain = []
            at: Partial | None = node
            while at is not None and id(at) not in made:
                chain.append(at)
                at = at[0]
            for taken in reversed(chain):
                parent = None if taken[0] is None else made[id(taken[0])]
                made[id(taken)] = (parent, taken[1], taken[2], numbers[id(taken[1])])
            return made[id(node)]

        partial = []
        for at, leaf in held:
            node = convert(leaf)
            root = node
            while root[0] is not None:
                root = root[0]
            partial.append((root[3], at, node, leaf[3], leaf[1]["ts"]))
        return partial, [], len(numbers)

    def restore(self, partial: list[Any], completed: list[Any], seq: int) -> KeyState:  # noqa: ARG002 the general backend's form
        """A state from what `partials` of any backend gave."""
        state: KeyState = [0, *([None] * len(self._places))]
        slots = self._plan.slots
        made: dict[int, Partial] = {}
        for _, at, node, started, _ in partial:
            chain = []
            step = node
            while step is not None and id(step) not in made:
                chain.append(step)
                step = step[0]
            for taken in reversed(chain):
                made[id(taken)] = (None if taken[0] is None else made[id(taken[0])], taken[1], taken[2], started)
            place = slots[at.index]
            if place in self._plan.single:
                state[place] = made[id(node)]
            elif state[place] is None:
                state[place] = [made[id(node)]]
            else:
                state[place].append(made[id(node)])
        self.deadline(state)
        return state

    def view(self, state: KeyState) -> list[PartialMatch]:
        """The partial matches as they stand, oldest first."""
        window = self.automaton.window_ms
        return [
            PartialMatch(stages_of(node), at.name, node[3], node[3] + window if window else None, at.kind == "pending", node)
            for at, node in sorted(self._held(state), key=lambda pair: pair[1][3])
        ]


def _time_of(event: EventFields) -> int:
    ts: int = event["ts"]
    return ts
