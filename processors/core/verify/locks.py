"""Judging a history of locks: is there, for each lock, an order of its operations that a correct lock could have gone through?

Locks are judged one by one: a history is linearizable if that of each object is (Herlihy & Wing, "Linearizability: a correctness
condition for concurrent objects", TOPLAS 12(3), 1990). That a request for several locks is granted at once for all is not judged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from processors.core.verify.conflict import Conflict, conflict
from processors.core.verify.model import Guard, LockModel
from processors.core.verify.operations import NEVER_NS, Kind, Operation
from processors.core.verify.search import Search, search
from processors.core.verify.telling import telling

__all__ = ["SLACK_NS", "STATES_MAX", "Report", "ResourceVerdict", "Verdict", "judge", "verdicts"]

SLACK_NS: Final = 2_000_000
"""A service that reads a clock of whole milliseconds, when it grants and when it ends a lease, may be off by one each time."""
STATES_MAX: Final = 500_000
"""Of one lock: about ten seconds and 300 MB. A history of a correct lock takes about one state an operation."""


class Verdict(StrEnum):
    """What is known of a history."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ResourceVerdict:
    """Of one lock.

    Attributes:
        resource: Its name.
        verdict: What is known.
        operations: How many it has.
        states: How many states the search entered.
        conflict: What can't be ordered, where it is not linearizable.
    """

    resource: str
    verdict: Verdict
    operations: int
    states: int
    conflict: Conflict | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Of a history: the verdict of each of its locks, by name."""

    resources: tuple[ResourceVerdict, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst one."""
        found = {one.verdict for one in self.resources}
        return next((one for one in (Verdict.NOT_LINEARIZABLE, Verdict.UNKNOWN) if one in found), Verdict.LINEARIZABLE)

    def of(self, verdict: Verdict) -> tuple[ResourceVerdict, ...]:
        """The locks with a verdict."""
        return tuple(one for one in self.resources if one.verdict is verdict)


def judge(
    operations: Iterable[Operation], *, guard: Guard = Guard.SEEN, slack_ns: int = SLACK_NS, states_max: int = STATES_MAX
) -> Report:
    """Judge a history.

    Args:
        operations: In any order.
        guard: What guarded stores compare a token with.
        slack_ns: By how much a lease may be over early.
        states_max: States of one lock to enter before the verdict is unknown.
    """
    return Report(tuple(verdicts(operations, guard=guard, slack_ns=slack_ns, states_max=states_max)))


def verdicts(
    operations: Iterable[Operation], *, guard: Guard = Guard.SEEN, slack_ns: int = SLACK_NS, states_max: int = STATES_MAX
) -> Iterator[ResourceVerdict]:
    """Judge each lock of a history, by name; see :func:`judge`."""
    by_resource = defaultdict(list)
    for one in operations:
        by_resource[one.resource].append(one)
    for resource, those in sorted(by_resource.items()):
        ordered = sorted(those, key=lambda one: (one.call_ns, one.return_ns))
        times = Counter(one.grant for one in those if one.kind is Kind.RELEASE)
        repeated = frozenset(grant for grant, count in times.items() if count > 1)
        yield _judge_one(resource, ordered, LockModel(guard, slack_ns, repeated), states_max)


def _judge_one(resource: str, operations: Sequence[Operation], model: LockModel, states_max: int) -> ResourceVerdict:
    told = telling(operations)
    found = search(told, model, states_max=states_max)
    if found.linearizable:
        return ResourceVerdict(resource, Verdict.LINEARIZABLE, len(operations), found.states)
    if found.linearizable is None:
        return ResourceVerdict(resource, Verdict.UNKNOWN, len(operations), found.states)
    cut_ns, shortest = _shortest(told, model, states_max, found)
    named = conflict(operations, told, cut_ns, shortest, model, states_max)
    return ResourceVerdict(resource, Verdict.NOT_LINEARIZABLE, len(operations), found.states, named)


def _shortest(operations: Sequence[Operation], model: LockModel, states_max: int, found: Search) -> tuple[int, Search]:
    """The shortest prefix that can't be ordered: the time of its last answer, and the search that found that.

    The search came to an answer that it could not get past. As a rule that ends the prefix; but the search knows the tokens of
    acquires that are still to come, so it may end later. A prefix of a history that can be ordered can be ordered too, so the
    answers from there on are searched by halves.
    """
    assert found.stuck is not None
    answers = sorted(one.return_ns for one in operations if one.return_ns < NEVER_NS)
    low, high = answers.index(operations[found.stuck].return_ns), len(answers) - 1
    last = found
    middle = low
    while low < high:
        at = search(operations, model, states_max=states_max, cut_ns=answers[middle])
        if at.linearizable is False:
            high, last = middle, at
        else:  # in order; or not known, then a longer prefix is told
            low = middle + 1
        middle = (low + high) // 2
    return answers[high], last
