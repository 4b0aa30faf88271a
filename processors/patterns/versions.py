"""Compiled pattern versions, and what a lane keeps of each in memory."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.model import Definition
from processors.core.watermarks import Bounds, Watermarks
from processors.patterns.needs import Need

if TYPE_CHECKING:
    from processors.patterns.rows import Row
    from processors.patterns.work import Rows
    from schemas.catalogue import Catalogue

__all__ = ["Compiled", "Run", "Shelf", "Status"]

Status = Literal["active", "paused", "draining", "dropping"]

COMPILED_MAX: Final = 1_000
"""Compiled versions kept by a process; those that no lane runs go when there are more."""
_NOTHING: Final = {"stages": [{"name": "nothing", "where": "false"}]}
STALE_MIN: Final = 1_000
"""Stale entries of a heap that nobody minds."""


class Compiled:
    """One version, ready to run: shared by the lanes of a process, and without state.

    Attributes:
        need: What it needs of the log.
        matcher: Runs it.
        draining: Runs it while it drains, with events that came before: the general backend.
        ending: As `draining`, with events that came after: it begins nothing. The states of the two are the same.
        stepwise: Whether waits must end one by one: with a skip strategy, what ends first decides what may still end.
        bounds: What is promised about the times of its events.
        problem: Why it stands for a version that cannot be run here, which is to be deleted only; empty as a rule.
    """

    problem = ""

    def __init__(self, definition: Definition, catalogue: Catalogue, rekeyed: frozenset[str]) -> None:
        automaton = compile_pattern(definition.pattern)
        self.need = Need(definition, catalogue, rekeyed)
        self.matcher = Matcher(automaton, partial_matches_max=definition.partial_matches_max)
        general = self.matcher.backend == "general"
        self.draining = (
            self.matcher if general else Matcher(automaton, backend="general", partial_matches_max=definition.partial_matches_max)
        )
        self.ending = Matcher(automaton, begins=False, partial_matches_max=definition.partial_matches_max)
        self.stepwise = automaton.skips and (bool(automaton.window_ms) or any(state.window_ms for state in automaton.states))
        self.bounds = Bounds(disorder_ms=definition.disorder_ms, idle_after_ms=definition.idle_after_ms)

    @property
    def definition(self) -> Definition:
        """The definition."""
        return self.need.definition

    @classmethod
    def gone(cls, name: str, problem: str, catalogue: Catalogue) -> Compiled:
        """Return what stands for a version that cannot be run here and is to be deleted."""
        made = cls(Definition.model_validate({"name": name, "topics": [], "pattern": _NOTHING}), catalogue, frozenset())
        made.problem = problem
        return made


class Shelf:
    """The compiled versions of a process.

    Args:
        catalogue: The event types, which tell the keys of records.
        rekeyed: Topics whose events are always keyed anew.
    """

    def __init__(self, catalogue: Catalogue, rekeyed: frozenset[str] = frozenset()) -> None:
        self.catalogue, self._rekeyed = catalogue, rekeyed
        self._compiled: dict[int, Compiled] = {}

    def get(self, version: int, definition: Definition | dict[str, Any]) -> Compiled:
        """Return a version, compiled once."""
        compiled = self._compiled.get(version)
        if compiled is None:
            if isinstance(definition, dict):
                definition = Definition.model_validate(definition)
            if len(self._compiled) >= COMPILED_MAX:
                self._compiled.clear()
            compiled = self._compiled[version] = Compiled(definition, self.catalogue, self._rekeyed)
        return compiled


@dataclass(slots=True, eq=False)
class Run:
    """One version on one lane: what is in memory beside the table.

    Attributes:
        version: The version.
        compiled: It, ready to run.
        status: Whether it takes events, rests, ends or is being deleted.
        reason: Why it is being deleted.
        told: For each topic, the status said last and the offset from which it holds.
        marks: Its watermark on this lane.
        since: When this worker began to listen, or the version to take events, ms: no source is silent for longer than that.
        newest: The largest `ts` taken, and when that event was written to the log; None before the first.
        rows: How many rows of the table are its.
        deadlines: When waiting alone changes a key's state, as a heap of (time, key); entries may be stale.
        releases: When a waiting event is the earliest of its key, likewise.
        to_drop: Keys still to be deleted, while dropping.
    """

    version: int
    compiled: Compiled
    status: Status
    marks: Watermarks
    reason: str = ""
    told: dict[str, list[Any]] = field(default_factory=dict)
    newest: tuple[int, int] | None = None
    since: int = 0
    rows: int = 0
    deadlines: list[tuple[int, str]] = field(default_factory=list)
    releases: list[tuple[int, str]] = field(default_factory=list)
    to_drop: list[str] = field(default_factory=list)

    @classmethod
    def load(
        cls,
        version: int,
        compiled: Compiled,
        status: Status,
        clock: dict[str, Any] | None,
        reason: str = "",
        told: dict[str, list[Any]] | None = None,
    ) -> Run:
        """Return a version with the clock that was stored for it, or for the version before; None: a new one."""
        marks = Watermarks.load(None if clock is None else clock["marks"], compiled.bounds)
        newest = None if clock is None or clock["newest"] is None else (clock["newest"][0], clock["newest"][1])
        return cls(version, compiled, status, marks, reason, told or {}, newest)

    def clock(self) -> dict[str, Any]:
        """Return what the lane's table keeps of its time."""
        return {"marks": self.marks.dump(), "newest": None if self.newest is None else list(self.newest)}

    def follow(self, now_ms: int) -> None:
        """Let time go on with the wall clock where the log is silent and something waits.

        Event time then is that of the newest event, and as much more as has passed since it was written: for live events the wall
        clock less their delay, for a history that was written today its own time going on from its last event.
        """
        if self.newest is None or not self.rows or not all(one.idle for one in self.marks.view(now_ms).sources):
            return
        ts, logged = self.newest
        self.marks.mark = max(self.marks.mark, ts + now_ms - logged - self.compiled.bounds.disorder_ms - 1)

    def reaches(self, mark: int, now_ms: int) -> int | None:
        """Return the wall time at which the watermark is at `mark` if no further event comes; None: never."""
        at = self.marks.reaches(mark, now_ms)
        if at is not None or self.newest is None:
            return at
        heard = max((one.seen_ms for one in self.marks.view(now_ms).sources), default=now_ms)
        ts, logged = self.newest
        passed = mark - ts + logged + self.compiled.bounds.disorder_ms + 1
        return max(heard + self.compiled.definition.idle_after_ms, passed)

    @property
    def name(self) -> str:
        """The pattern's name."""
        return self.compiled.definition.name

    @property
    def matcher(self) -> Matcher:
        """What runs it now."""
        return self.compiled.draining if self.status == "draining" else self.compiled.matcher

    def stored(self) -> dict[str, Any]:
        """Return what the lane's table keeps of it."""
        return {
            "name": self.name,
            "definition": self.compiled.definition.to_data(),
            "status": self.status,
            "reason": self.reason,
            "told": {topic: list(said) for topic, said in self.told.items()},
        }

    def index(self, key: str, row: Row) -> None:
        """Remember when a row that was read is to be looked at."""
        self.rows += 1
        if row.due is not None:
            self.deadlines.append((row.due, key))
        if row.first is not None:
            self.releases.append((row.first, key))

    def tidy(self, rows: Rows) -> None:
        """Forget stale times before they are most of a heap: with a long window, waits that ended early would pile up."""
        for heap, of in ((self.deadlines, "due"), (self.releases, "first")):
            if len(heap) > STALE_MIN + 2 * self.rows:
                found = {(at, key) for at, key in heap if (row := rows.get((self.version, key))) and getattr(row, of) == at}
                heap[:] = sorted(found)  # a heap

    def indexed(self) -> None:
        """Put the remembered times in order."""
        heapq.heapify(self.deadlines)
        heapq.heapify(self.releases)
