"""The engine: one pattern, compiled, and the state of any number of keys.

    matcher = Matcher(compile_pattern(pattern))
    states, out = {}, Outputs()
    matcher.run(states, [{"id": "e1", "key": "agent-7", "ts": 1_000, "type": "tool.failed"}], out)

Two backends do the same. *general* runs the automaton as it stands. *generated* is source made for the pattern, several times
as fast, where the pattern allows it. Each is the other's oracle; `backend="auto"` takes the generated one where it can.

The state of a key belongs to the caller (a dict here, a table's row in a worker). It is opaque, except through this class.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, MutableMapping
from typing import Any, Final, Literal, Protocol

from processors.core.cep import snapshot
from processors.core.cep.automaton import Automaton, PatternError
from processors.core.cep.automaton import State as AutomatonState
from processors.core.cep.compiler import compile_pattern
from processors.core.cep.conditions import Node
from processors.core.cep.general import GeneralBackend
from processors.core.cep.generated import GeneratedBackend, why_not
from processors.core.cep.ordered import OrderedBackend
from processors.core.cep.outputs import EventFields, Outputs, PartialMatch

__all__ = ["PARTIAL_MATCHES_MAX", "Backend", "Matcher", "compile_pattern"]

PARTIAL_MATCHES_MAX: Final = 1000
"""Partial matches of one key: a relaxed loop over a busy key stays far below; a thousand small ones take about 100 KiB."""

State = Any
States = MutableMapping[Hashable, State]


class Backend(Protocol):
    """What runs an automaton; see `general` for what each method promises."""

    name: str

    def run(self, states: States, events: Iterable[EventFields], out: Outputs) -> None:
        """Take in events: the clock of each event's key goes to its time first."""

    def advance(self, states: States, key: Hashable, ts: int, out: Outputs) -> None:
        """Move the clock of one key."""

    def deadline(self, state: State) -> int | None:
        """The earliest time at which `advance` does something, ms; None is never."""

    def copy(self, state: State) -> State:
        """A state that can go its own way."""

    def count(self, state: State) -> int:
        """How many partial matches there are."""

    def partials(self, state: State) -> tuple[list[Any], list[Any], int]:
        """Partial matches, completed ones held back, and the event counter."""

    def restore(self, partial: list[Any], completed: list[Any], seq: int) -> State:
        """A state from what `partials` of any backend gave."""

    def view(self, state: State) -> list[PartialMatch]:
        """The partial matches as they stand, oldest first."""


class Matcher:
    """A pattern at work.

    Args:
        automaton: From `compile_pattern`.
        backend: "auto", "general" or "generated".
        partial_matches_max: Partial matches kept for one key, at least 1; those that began first are evicted beyond it.
        begins: Whether events may begin partial matches. A version that drains only ends what it has; it runs on the general
            backend, which reads what `dump` of any backend wrote.

    Raises:
        PatternError: "generated" was asked for, and the pattern needs the general backend.
    """

    def __init__(
        self,
        automaton: Automaton,
        *,
        backend: Literal["auto", "general", "generated"] = "auto",
        partial_matches_max: int = PARTIAL_MATCHES_MAX,
        begins: bool = True,
    ) -> None:
        if partial_matches_max < 1:
            raise PatternError(f"partial_matches_max is {partial_matches_max}: at least 1 is needed", "pattern")
        self.automaton = automaton
        self.partial_matches_max = partial_matches_max
        self._backend: Backend = (
            _backend(automaton, backend, partial_matches_max)
            if begins
            else GeneralBackend(automaton, partial_matches_max, begins=False)
        )
        self.run = self._backend.run
        self.advance = self._backend.advance
        self.deadline = self._backend.deadline
        self.copy = self._backend.copy
        self.count = self._backend.count
        self.view = self._backend.view

    @property
    def backend(self) -> str:
        """The backend at work: "general" or "generated"."""
        return self._backend.name

    @property
    def source(self) -> str | None:
        """The generated source, for people to read; None with the general backend."""
        return getattr(self._backend, "source", None)

    def dump(self, state: State) -> list[Any]:
        """The state of a key as a JSON value; `load` of any backend reads it."""
        return snapshot.dump(*self._backend.partials(state))

    def partials(self, state: State) -> list[tuple[int, AutomatonState, Node | None, int, int]]:
        """The partial matches of a key with their places in the automaton, oldest first: (rank, state, last node, started, last).

        The empty one is left out.
        """
        partial, _, _ = self._backend.partials(state)
        return sorted((one for one in partial if one[2] is not None), key=lambda one: one[0])

    def load(self, value: list[Any]) -> State:
        """The state that `dump` wrote.

        Raises:
            StateMismatch: It was written for another pattern.
        """
        return self._backend.restore(*snapshot.load(value, self.automaton))


def _backend(automaton: Automaton, wanted: str, partial_matches_max: int) -> Backend:
    if wanted == "general":
        return GeneralBackend(automaton, partial_matches_max)
    try:
        # generated code counts no further than one for each state
        if why_not(automaton) is None and partial_matches_max > len(automaton.states):
            return GeneratedBackend(automaton, partial_matches_max)
        return OrderedBackend(automaton, partial_matches_max)
    except (PatternError, SyntaxError, RecursionError):  # also source that Python's parser finds nested too deeply
        if wanted == "generated":
            raise
    return GeneralBackend(automaton, partial_matches_max)
