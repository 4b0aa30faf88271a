"""Overlapping work on one file: two agents changed it while neither had seen the other's change.

A change is made at `ts` and lands at `arrived`. Whoever starts at `ts` has seen exactly what landed up to then, so

    A has not seen B   ⟺   A.start < B.arrived
    A and B overlap    ⟺   A.start < B.arrived  and  B.start < A.arrived  and  A.agent ≠ B.agent

    A   ├──────────────┤                 A overlaps B: each started before the other had landed
    B          ├───────────┤             B overlaps D, a change made and landed in one moment
    C                          ├────┤    C starts after B has landed: it has seen it
    D                   │

`start` is `min(ts, arrived)`: nothing lands before it is made, so where `ts` is the later one, the author's clock was ahead.

Guarantees, for the records of one file in any order whatever (they come through several partitions, so the order of landing is
lost):

* every unordered pair of remembered changes that overlaps is found once, when the second of the two comes in; a pair names the
  change that landed first as the first, whichever came in first;
* a change that is sent twice (same agent, task and times) counts once while it is remembered;
* the state of a file is bounded. At most `Limits.changes_max` changes are remembered, and with `Limits.reach_ms` only those that
  landed within that time of the newest. The earliest landed go first: nothing that starts after their landing can overlap them.
* what forgetting may have cost is counted. `forgotten_until` is the latest landing that was forgotten. A change that starts
  before it may have overlapped a forgotten one: it counts as `uncertain`. While `uncertain` is 0 the result is exact.

Not guaranteed: that a change re-sent after it was forgotten is recognised.

The state of a file: {"changes": [[arrived, ts, agent, task], ...] in this order, "found", "repeated", "forgotten",
"forgotten_until", "uncertain": numbers}.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from processors.core.step import Step
from schemas.work import FileChanged, OverlapFound

__all__ = ["CHANGES_MAX", "EMPTY", "FileView", "Limits", "State", "step", "view"]

State = Mapping[str, Any]
Change = list[Any]

CHANGES_MAX: Final = 1024
"""Changes remembered for a file: the busiest of thirteen years of Apache Kafka has 693. 1,024 take 64 KiB in the changelog."""

NEVER: Final = -(1 << 62)
"""Before every time: nothing was forgotten."""

EMPTY: Final[State] = {"changes": [], "found": 0, "repeated": 0, "forgotten": 0, "forgotten_until": NEVER, "uncertain": 0}
"""The state of a file that nobody has changed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a file's past is remembered.

    Attributes:
        changes_max: Changes, at most.
        reach_ms: How long before the newest landing a change may have landed and still be remembered; 0 is no such limit. In live
            work the longest time an agent sits on a change is a good value; when a history is read through several partitions,
            they drift apart by years of event time, and only `changes_max` makes the result independent of that.
    """

    changes_max: int = CHANGES_MAX
    reach_ms: int = 0

    def __post_init__(self) -> None:
        """Refuse limits that make no sense."""
        if self.changes_max < 1 or self.reach_ms < 0:
            raise ValueError(
                f"changes_max is {self.changes_max} and reach_ms {self.reach_ms}: at least 1 and at least 0 are allowed"
            )


DEFAULT_LIMITS: Final = Limits()


def step(
    state: State | None,
    event: FileChanged,
    now_ms: int,  # noqa: ARG001 every machine has the same contract
    limits: Limits = DEFAULT_LIMITS,
) -> Step[State]:
    """Take in one change of a file and find the remembered ones that it overlaps.

    Args:
        state: The state of the file `event.path`; None where there is none yet.
        event: The change.
        now_ms: Not used: the result is a function of the log alone.
        limits: What is remembered.

    Returns:
        The new state, and one `OverlapFound` for each pair, in order of the other change's landing.
    """
    state = state or EMPTY
    changes: list[Change] = state["changes"]
    change: Change = [event.arrived, event.ts, event.agent, event.task]
    place = bisect_left(changes, change)
    if place < len(changes) and changes[place] == change:
        return Step({**state, "repeated": state["repeated"] + 1})
    start = min(event.ts, event.arrived)
    first_unseen = bisect_right(changes, start, key=_arrived)
    found = tuple(
        _pair(event.path, other, change)
        for other in changes[first_unseen:]
        if min(other[0], other[1]) < event.arrived and other[2] != event.agent
    )
    uncertain = state["uncertain"] + (start < state["forgotten_until"])
    kept = [*changes[:place], change, *changes[place:]]
    drop = max(0, len(kept) - limits.changes_max)
    if limits.reach_ms:
        drop = max(drop, bisect_left(kept, kept[-1][0] - limits.reach_ms, key=_arrived))
    until = max(state["forgotten_until"], kept[drop - 1][0]) if drop else state["forgotten_until"]
    return Step(
        {
            "changes": kept[drop:] if drop else kept,
            "found": state["found"] + len(found),
            "repeated": state["repeated"],
            "forgotten": state["forgotten"] + drop,
            "forgotten_until": until,
            "uncertain": uncertain,
        },
        found,
    )


@dataclass(frozen=True, slots=True)
class FileView:
    """A file's state for people: see the module's docstring for what each number means."""

    remembered: int
    found: int
    repeated: int
    forgotten: int
    uncertain: int
    exact: bool


def view(state: State | None) -> FileView:
    """Return what console, command line and metrics show of a file."""
    state = state or EMPTY
    return FileView(
        remembered=len(state["changes"]),
        found=state["found"],
        repeated=state["repeated"],
        forgotten=state["forgotten"],
        uncertain=state["uncertain"],
        exact=not state["uncertain"],
    )


def _arrived(change: Change) -> int:
    return int(change[0])


def _pair(path: str, one: Change, other: Change) -> OverlapFound:
    first, second = (one, other) if one < other else (other, one)
    return OverlapFound(
        path=path,
        first_agent=first[2],
        first_task=first[3],
        first_ts=first[1],
        first_arrived=first[0],
        second_agent=second[2],
        second_task=second[3],
        second_ts=second[1],
        second_arrived=second[0],
    )
