"""What a backtest finds, and how the findings of two versions are compared. Pure: values in, values out.

Two versions agree on a match where its key and its records are the same, whatever their stages are called. As the same records
may be found more than once (a loop that may take them in several ways), findings are compared as multisets.

    new   k1: 3,7   k1: 3,9   k2: 4,5            both       k1: 3,7   k2: 4,5
    old   k1: 3,7   k2: 4,5   k2: 4,5     ─▶     only new   k1: 3,9
                                                 only old   k2: 4,5
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Literal, TypeVar

from processors.core.cep.outputs import EventFields, Evicted, Match, Stages, TimedOut
from schemas.errors import AntiphonError, Fault

if TYPE_CHECKING:
    from processors.patterns.reading import Place

__all__ = ["DIFFERENCES_MAX", "Compared", "Comparison", "Found", "Late", "Side", "Tally", "TooManyDifferences", "compare"]

DIFFERENCES_MAX: Final = 500_000
"""Matches of one version that the other has not found (yet), kept to be compared: about 500 MB of them."""

Side = Literal["new", "old"]
Taken = tuple[str, int, int, int]
"""A record: topic, partition, offset, and its event time, ms."""
Identity = tuple[str, tuple["Place", ...]]


class TooManyDifferences(AntiphonError):
    """Two versions find so different things that a comparison says nothing; choose a shorter range."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A match, or a partial match: of which records.

    Attributes:
        ended: Time of its last event, ms.
        key: The correlation key.
        started: Time of its first event, ms.
        stages: By stage, in the order in which they were taken.
    """

    ended: int
    key: str
    started: int
    stages: tuple[tuple[str, tuple[Taken, ...]], ...]

    @classmethod
    def of(cls, key: str, stages: Stages) -> Found:
        """Return what the engine found, as a value of its own."""
        taken = tuple((name, tuple(_taken(event) for event in events)) for name, events in stages.items())
        times = [one[3] for _, records in taken for one in records]
        return cls(max(times), key, min(times), taken)

    @property
    def identity(self) -> Identity:
        """What two versions must agree on: the key and the records."""
        return self.key, tuple(sorted(one[:3] for _, records in self.stages for one in records))


@dataclass(frozen=True, slots=True, order=True)
class Late:
    """An event that took no part: its time, its record, the watermark that it came after, and whether `late` or `ahead`."""

    ts: int
    place: Place
    watermark: int
    reason: str


def _taken(event: EventFields) -> Taken:
    topic, partition, offset = event["id"]
    return topic, partition, offset, event["ts"]


# ---- one version


@dataclass(slots=True)
class Tally:
    """Counts what one version finds, and keeps the first of it by time: `work.Finds` for a backtest.

    Attributes:
        limit: How many matches, and how many of everything else, are kept.
        comparison: Where each match goes too.
        side: As which version's.
        counts: How often each thing was found: matched, timed_out, evicted, failed, late, ahead.
        matches: The earliest matches.
        failures: Key and reason of the first failures.
        lates: The earliest events that took no part.
        late_by_max_ms: By how much more than allowed the latest event was late, ms.
    """

    limit: int
    comparison: Comparison | None = None
    side: Side = "new"
    counts: Counter[str] = field(default_factory=Counter)
    matches: list[Found] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    lates: list[Late] = field(default_factory=list)
    late_by_max_ms: int = 0

    def matched(self, name: str, version: int, matches: Iterable[Match]) -> None:  # noqa: ARG002 as `Finds` has it
        """Count matches, and keep the earliest."""
        for match in matches:
            self.counts["matched"] += 1
            if self.comparison is None and len(self.matches) >= self.limit and not self._earlier(match):
                continue
            found = Found.of(match.key, match.stages)  # type: ignore[arg-type] # keys are text, on the log
            keep(self.matches, found, self.limit)
            if self.comparison is not None:
                self.comparison.add(self.side, found)

    def _earlier(self, match: Match) -> bool:
        """Whether a match may belong to the earliest; it began before it ended."""
        return bool(self.matches) and match.started <= self.matches[-1].ended

    def timed_out(self, name: str, version: int, found: Iterable[TimedOut]) -> None:  # noqa: ARG002 as `Finds` has it
        """Count partial matches whose window ended."""
        self.counts["timed_out"] += sum(1 for _ in found)

    def evicted(self, name: str, version: int, found: Iterable[Evicted]) -> None:  # noqa: ARG002 as `Finds` has it
        """Count partial matches that had to go for a limit."""
        self.counts["evicted"] += sum(1 for _ in found)

    def failed(self, name: str, version: int, key: str, event: EventFields | None, reason: str) -> None:  # noqa: ARG002 as above
        """Count that a key's state was given up, and keep why."""
        self.counts["failed"] += 1
        keep(self.failures, (key, reason), self.limit)

    def late(self, name: str, version: int, event: EventFields, watermark: int, reason: str) -> None:  # noqa: ARG002 as above
        """Count an event that took no part, and keep the earliest."""
        self.counts[reason] += 1
        if reason == "late":
            self.late_by_max_ms = max(self.late_by_max_ms, watermark - event["ts"] + 1)
        keep(self.lates, Late(event["ts"], event["id"], watermark, reason), self.limit)


_T = TypeVar("_T", Found, Late, tuple[str, str])


def keep(kept: list[_T], one: _T, limit: int) -> None:
    """Put one more into a sorted list, and forget the last where there are more than `limit`."""
    if len(kept) >= limit and (not kept or one >= kept[-1]):
        return
    insort(kept, one)
    del kept[limit:]


# ---- two versions


@dataclass(frozen=True, slots=True)
class Compared:
    """What two versions found.

    Attributes:
        both: How many matches both have.
        only_new: Those that the new version alone has, by time.
        only_old: Those that the old version alone has, by time.
    """

    both: int
    only_new: tuple[Found, ...]
    only_old: tuple[Found, ...]

    @property
    def equal(self) -> bool:
        """Whether they found the same."""
        return not self.only_new and not self.only_old


class Comparison:
    """Compares while matches come in: it holds what one side has and the other has not, not what both have.

    Args:
        differences_max: How much it holds.
    """

    def __init__(self, *, differences_max: int = DIFFERENCES_MAX) -> None:
        self._alone: dict[Identity, tuple[Side, list[Found]]] = {}
        self._held, self._max, self.both = 0, differences_max, 0

    def add(self, side: Side, found: Found) -> None:
        """Take a match of one side.

        Raises:
            TooManyDifferences: More than `differences_max` are held.
        """
        identity = found.identity
        alone = self._alone.get(identity)
        if alone is None or alone[0] == side:
            if self._held >= self._max:
                raise TooManyDifferences(
                    f"the two versions differ in more than {self._max:,} matches: choose a shorter range with --from and --to"
                )
            self._held += 1
            if alone is None:
                self._alone[identity] = (side, [found])
            else:
                alone[1].append(found)
            return
        self.both += 1
        self._held -= 1
        alone[1].pop(0)  # the first with the first: which stages the rest has does not depend on who came when
        if not alone[1]:
            del self._alone[identity]

    def done(self) -> Compared:
        """Return how it stands."""
        alone: dict[Side, list[Found]] = {"new": [], "old": []}
        for side, found in self._alone.values():
            alone[side] += found
        return Compared(self.both, tuple(sorted(alone["new"])), tuple(sorted(alone["old"])))


def compare(new: Iterable[Found], old: Iterable[Found]) -> Compared:
    """Return what two versions have in common, and what each alone has.

    Raises:
        TooManyDifferences: See `Comparison.add`.
    """
    comparison = Comparison()
    for found in new:
        comparison.add("new", found)
    for found in old:
        comparison.add("old", found)
    return comparison.done()
