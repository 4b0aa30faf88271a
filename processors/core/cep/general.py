"""The general backend: runs the automaton as it stands, for every pattern. It is the oracle of the generated one.

The state of a key is a `KeyState`: its partial matches, its completed matches that an earlier partial match still holds back,
and a counter of events. A partial match is a tuple

    (rank, state, node, started, previous)

of its rank (the number of its first event; later events rank higher, the empty partial match last), its state in the
automaton, the
node of its last event, and the times of its first and last event. Without a skip strategy the empty partial match is not kept,
and the order of the others does not matter; with one they are a heap (`heap`).

Guarantees:

* a partial match is never changed in place, so a copy of the lists is a copy of the state;
* with at most `partial_matches_max` partial matches, the matches, timeouts and their times are those of Apache Flink CEP 2.2
on the same
  events (`antiphon cep check`); beyond it the oldest are evicted, and said to be;
* a key without a partial match has no state.

Events of a key are taken in the order given. Its clock goes to each event's time first and never back: an event with an
earlier time than the one before it is taken like any other, and ends no wait.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, MutableMapping
from typing import Final

from processors.core.cep import heap
from processors.core.cep.automaton import TRUE, Automaton, Edge, State
from processors.core.cep.conditions import Condition, Node, compile_condition
from processors.core.cep.expressions import Expr
from processors.core.cep.outputs import (
    EventFields,
    Evicted,
    Match,
    Outputs,
    PartialMatch,
    SkipMissed,
    TimedOut,
    evicted_because,
    stages_of,
)

__all__ = ["GeneralBackend", "KeyState", "has_cycle"]

Partial = tuple[int, State, Node | None, int, int]

LAST: Final = 1 << 62
"""The rank of the empty partial match: after every event's."""

NEVER: Final = 1 << 63
"""A deadline that no clock reaches: beyond the largest time, 2^63 - 1."""


class KeyState:
    """What is kept for one key. `due` is a time before which no wait ends; it may be too early, never too late."""

    __slots__ = ("completed", "due", "partial", "seq")

    def __init__(self, partial: list[Partial], completed: list[Partial], seq: int, due: int) -> None:
        self.partial = partial
        self.completed = completed
        self.seq = seq
        self.due = due


class _Compiled:
    """An edge with its condition as a function; None is a condition that always holds."""

    __slots__ = ("action", "stage", "target", "test")

    def __init__(self, edge: Edge, test: Condition | None) -> None:
        self.action = edge.action
        self.stage = edge.stage
        self.target = edge.target
        self.test = test


class GeneralBackend:
    """Runs one automaton. It keeps nothing between calls but what it compiled.

    Args:
        automaton: From `compile_pattern`.
        partial_matches_max: Of one key.
        begins: Whether an event may begin a partial match; a version that only drains ends what it has.
    """

    name = "general"

    def __init__(self, automaton: Automaton, partial_matches_max: int, *, begins: bool = True) -> None:
        self.begins = begins
        self.automaton = automaton
        self.partial_matches_max = partial_matches_max
        tests: dict[Expr, Condition | None] = {}
        self._edges: list[list[_Compiled]] = []
        for state in automaton.states:
            edges = []
            for edge in state.edges:
                if edge.condition not in tests:
                    tests[edge.condition] = _test(edge.condition)
                edges.append(_Compiled(edge, tests[edge.condition]))
            self._edges.append(edges)
        self._cyclic = has_cycle(automaton)
        self._start: Partial = (LAST, automaton.start, None, -1, -1)
        self._timed = bool(automaton.window_ms) or any(state.window_ms for state in automaton.states)

    # ------------------------------------------------------------------ running

    def run(self, states: MutableMapping[Hashable, KeyState], events: Iterable[EventFields], out: Outputs) -> None:
        """Take in events: each key's clock first, then the event.

        Args:
            states: The state of every key that has any; changed in place.
            events: With `id`, `key` and `ts`.
            out: What is found is appended here.

        Raises:
            SkipMissed: The pattern says so; what earlier events completed stays in `out`.
        """
        for event in events:
            key, ts = event["key"], event["ts"]
            state = states.get(key)
            if state is None:
                state = self._new()
            elif state.due <= ts:
                self._advance(state, key, ts, out)
            self._take(state, key, ts, event, out)
            if self._is_empty(state):
                states.pop(key, None)
            else:
                states[key] = state

    def advance(self, states: MutableMapping[Hashable, KeyState], key: Hashable, ts: int, out: Outputs) -> None:
        """Move the clock of one key: what has waited long enough is a match or has timed out."""
        state = states.get(key)
        if state is None or state.due > ts:
            return
        self._advance(state, key, ts, out)
        if self._is_empty(state):
            del states[key]

    def _new(self) -> KeyState:
        return KeyState([self._start] if self.automaton.skips else [], [], 0, NEVER)

    def _is_empty(self, state: KeyState) -> bool:
        return not state.completed and (not state.partial or (len(state.partial) == 1 and state.partial[0][2] is None))

    def _take(self, state: KeyState, key: Hashable, ts: int, event: EventFields, out: Outputs) -> None:
        found: list[Partial] = []
        kept: list[Partial] = []
        seq = state.seq
        state.seq = seq + 1
        skips = self.automaton.skips
        due = state.due
        for partial in (*state.partial, self._start) if self.begins and not skips else state.partial:
            stopped = False
            retained: list[Partial] = []
            for new in self._next(partial, event, ts, seq):
                kind = new[1].kind
                if kind == "final":
                    found.append(new) if not skips else heap.push(found, new)
                elif kind == "stop":
                    stopped = True
                else:
                    retained.append(new)
            if stopped:
                continue
            for new in retained:
                if new[2] is not None and self._timed:
                    due = min(due, self._deadline(new))
                if skips:
                    heap.push(kept, new)
                elif new[2] is not None:
                    kept.append(new)
        state.partial = kept
        state.due = due
        if found or state.completed:
            self._emit(state, found, key, ts, out)
        if len(state.partial) - skips > self.partial_matches_max:
            self._evict(state, key, ts, out)

    def _advance(self, state: KeyState, key: Hashable, ts: int, out: Outputs) -> None:
        found: list[Partial] = []
        kept: list[Partial] = []
        skips = self.automaton.skips
        due = NEVER
        timed_out: list[TimedOut] = []  # all or none, as with matches
        for partial in state.partial:
            deadline = self._deadline(partial)
            if deadline <= ts:
                if partial[1].kind == "pending":
                    found.append(partial) if not skips else heap.push(found, partial)
                else:
                    timed_out.append(TimedOut(key, partial[2], self._timeout_ts(partial, ts)))
                continue
            due = min(due, deadline)
            if skips:
                heap.push(kept, partial)
            else:
                kept.append(partial)
        state.partial = kept
        state.due = due
        if found or state.completed:
            self._emit(state, found, key, ts, out)
        out.timed_out += timed_out

    def _next(self, partial: Partial, event: EventFields, ts: int, seq: int) -> list[Partial]:
        """What `partial` becomes with `event`."""
        rank, state, node, started, previous = partial
        results: list[Partial] = []
        at_start = node is None and state is self.automaton.start
        if at_start and not self.begins:
            return [partial]
        for edge in self._followed(state, event, node):
            if edge.action == "ignore":
                if not at_start:
                    results.append((rank, edge.target, node, started, previous))
                continue
            taken: Node = (node, event, edge.stage, seq)
            first = (seq, ts) if at_start else (rank, started)
            results.append((first[0], edge.target, taken, first[1], ts))
            final = self._final_after(edge.target, event, node)
            if final is not None:
                results.append((first[0], final, taken, first[1], ts))
        if at_start:
            results.append(self._start)
        return results

    def _followed(self, state: State, event: EventFields, node: Node | None) -> list[_Compiled]:
        """The take and ignore edges that hold, through proceed edges."""
        found = []
        stack = [state]
        seen = {state.index} if self._cyclic else None
        while stack:
            for edge in self._edges[stack.pop().index]:
                if edge.test is not None and not edge.test(event, node):
                    continue
                if edge.action != "proceed":
                    found.append(edge)
                elif seen is None:
                    stack.append(edge.target)
                elif edge.target.index not in seen:
                    seen.add(edge.target.index)
                    stack.append(edge.target)
        return found

    def _final_after(self, state: State, event: EventFields, node: Node | None) -> State | None:
        """The final state, if proceed edges lead there from `state`."""
        stack = [state]
        seen = {state.index}
        while stack:
            for edge in self._edges[stack.pop().index]:
                if edge.action == "proceed" and (edge.test is None or edge.test(event, node)):
                    if edge.target.kind == "final":
                        return edge.target
                    if edge.target.index not in seen:
                        seen.add(edge.target.index)
                        stack.append(edge.target)
        return None

    # ------------------------------------------------------------------ time

    def _deadline(self, partial: Partial) -> int:
        _, state, node, started, previous = partial
        if node is None:
            return NEVER
        deadline = started + self.automaton.window_ms if self.automaton.window_ms else NEVER
        if state.window_ms:
            deadline = min(deadline, previous + state.window_ms)
        return deadline

    def _timeout_ts(self, partial: Partial, ts: int) -> int:
        _, state, _, started, previous = partial
        if state.window_ms and ts - previous >= state.window_ms:
            return previous + state.window_ms
        return started + self.automaton.window_ms

    def deadline(self, state: KeyState) -> int | None:
        """The earliest time at which `advance` does something, ms; None is never."""
        due = min((self._deadline(partial) for partial in state.partial), default=NEVER)
        state.due = due
        return None if due == NEVER else due

    # ------------------------------------------------------------------ matches

    def _emit(self, state: KeyState, found: list[Partial], key: Hashable, ts: int, out: Outputs) -> None:
        if not self.automaton.skips:
            out.matches.extend(Match(key, match[2], ts, match[3]) for match in found)
            return
        completed = state.completed
        for match in found:
            heap.push(completed, match)
        emitted: list[Match] = []  # all or none: an error takes back what the same event had completed
        while completed and (not state.partial or completed[0][0] <= state.partial[0][0]):
            match = heap.pop(completed)
            unwanted = self._unwanted(match)
            if unwanted is not None:
                heap.discard(state.partial, unwanted)
                heap.discard(completed, unwanted)
            emitted.append(Match(key, match[2], ts, match[3]))
        out.matches += emitted

    def _unwanted(self, match: Partial) -> Callable[[Partial], bool] | None:
        """Which other matches the skip strategy removes."""
        automaton = self.automaton
        node = match[2]
        assert node is not None
        if automaton.skip in {"to_next", "past_last"}:
            limit = node[3] if automaton.skip == "past_last" else match[0]
            return lambda other: other[2] is not None and other[0] <= limit
        taken = [seq for stage, seq in _path(node) if stage == automaton.skip_stage]
        if not taken:
            if automaton.throw_on_miss:
                raise SkipMissed(f"the match has no event of stage {automaton.skip_stage!r} to skip to: {stages_of(node)}")
            return None
        limit = taken[0] if automaton.skip == "to_last" else taken[-1]
        if automaton.throw_on_miss and limit == match[0]:
            raise SkipMissed(
                f"skipping to stage {automaton.skip_stage!r} would skip to the match's own first event: {stages_of(node)}"
            )
        return lambda other: other[2] is not None and other[0] < limit

    def _evict(self, state: KeyState, key: Hashable, ts: int, out: Outputs) -> None:
        """Drop the oldest: all that began at the same time as the oldest go together, until few enough are left."""
        started = sorted(partial[3] for partial in state.partial if partial[2] is not None)
        limit = started[len(started) - self.partial_matches_max - 1]
        reason = evicted_because(self.partial_matches_max)
        gone = [partial for partial in state.partial if partial[2] is not None and partial[3] <= limit]
        out.evicted.extend(Evicted(key, partial[2], reason) for partial in gone)
        if self.automaton.skips:
            heap.discard(state.partial, lambda partial: partial[2] is not None and partial[3] <= limit)
            if state.completed:
                self._emit(state, [], key, ts, out)
        else:
            state.partial = [partial for partial in state.partial if partial[3] > limit]

    # ------------------------------------------------------------------ state as a value

    def copy(self, state: KeyState) -> KeyState:
        """A state that can go its own way; nodes and events are shared."""
        return KeyState(list(state.partial), list(state.completed), state.seq, state.due)

    def count(self, state: KeyState) -> int:
        """How many partial matches there are: what `partial_matches_max` limits."""
        return sum(1 for partial in state.partial if partial[2] is not None)

    def partials(self, state: KeyState) -> tuple[list[Partial], list[Partial], int]:
        """Partial matches, completed matches held back, and the event counter, for `snapshot`."""
        return state.partial, state.completed, state.seq

    def restore(self, partial: list[Partial], completed: list[Partial], seq: int) -> KeyState:
        """A state from what `partials` gave."""
        state = KeyState(partial, completed, seq, NEVER)
        self.deadline(state)
        return state

    def view(self, state: KeyState) -> list[PartialMatch]:
        """The partial matches as they stand, oldest first."""
        found = []
        for partial in sorted((p for p in state.partial if p[2] is not None), key=lambda p: p[0]):
            deadline = self._deadline(partial)
            ends = None if deadline == NEVER else deadline
            found.append(
                PartialMatch(stages_of(partial[2]), partial[1].name, partial[3], ends, partial[1].kind == "pending", partial[2])
            )
        return found


def _path(node: Node | None) -> list[tuple[str, int]]:
    """The stages and event numbers from the last event to the first."""
    found = []
    while node is not None:
        found.append((node[2], node[3]))
        node = node[0]
    return found


def _test(condition: Expr) -> Condition | None:
    return None if condition == TRUE else compile_condition(condition)


def has_cycle(automaton: Automaton) -> bool:
    """Whether proceed edges lead in a circle: a loop whose content may be empty."""
    colour: dict[int, int] = {}

    def visit(state: State) -> bool:
        known = colour.get(state.index)
        if known is not None:
            return known == 1
        colour[state.index] = 1
        if any(edge.action == "proceed" and visit(edge.target) for edge in state.edges):
            return True
        colour[state.index] = 2
        return False

    return any(visit(state) for state in automaton.states)
