"""What the enumerator's definition covers; a reason for everything that it does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tests.processors.core.cep.naive import Json


def out_of_scope(pattern: Json) -> str | None:
    """Why the enumerator has no answer for `pattern`; None if it has one."""
    if pattern.get("skip", {}).get("strategy", "no_skip") != "no_skip":
        return "a skip strategy"
    if "previous_and_current" in {of.get("within") for of in (*pattern["stages"], pattern) if of.get("within_ms") is not None}:
        return "a window between two events"
    last = pattern["stages"][-1]
    if (
        last.get("negated")
        and last["contiguity"] == "relaxed"
        and not any(of.get("within_ms") for of in (*pattern["stages"], pattern))
    ):
        return "a final notFollowedBy without a window"
    return _of_sequence(pattern["stages"], depth=0)


def _of_sequence(stages: Sequence[Json], depth: int) -> str | None:
    checks = [_of_stage(stage, depth) for stage in stages]
    checks += [_of_pair(before, stage) for before, stage in pairwise(stages)]
    checks += [_of_end(stages, depth)]
    return next((reason for reason in checks if reason is not None), None)


def _may_be_empty(stage: Json) -> bool:
    return bool(stage.get("optional")) or (stage.get("times") or {}).get("min") == 0


def _is_plain(stage: Json) -> bool:
    return "name" in stage


def _inner(stage: Json) -> str:
    return "strict" if stage.get("consecutive") else "any" if stage.get("allow_combinations") else "relaxed"


def _is_open(stage: Json) -> bool:
    """Whether it may take something, and more, or nothing more."""
    times = stage.get("times")
    return bool(times) and (times["max"] is None or max(times["min"], 1) != times["max"])


def _ends_open(stage: Json) -> bool:
    """Whether it is, or ends with, a group that may go round again after passing over events."""
    if _is_plain(stage) or "all_of" in stage:
        return not _is_plain(stage) and _is_open(stage)
    endings = (
        [stage["group"]] if "group" in stage else [branch if isinstance(branch, list) else [branch] for branch in stage["any_of"]]
    )
    return (_is_open(stage) and not stage.get("consecutive")) or any(_ends_open(ending[-1]) for ending in endings)


def _of_stage(stage: Json, depth: int) -> str | None:
    if (stage.get("times") or {}).get("within_ms") is not None:
        return "a window between two events"
    if depth and stage.get("within_ms") is not None:
        return "a window in a group"
    if stage.get("until") is not None and (stage.get("greedy") or not _is_plain(stage)):
        return "until with greedy or on a group"
    insides = [stage["group"]] if "group" in stage else _branches(stage)
    return next((reason for inside in insides if (reason := _of_inside(stage, inside, depth)) is not None), None)


def _branches(stage: Json) -> list[Sequence[Json]]:
    return [branch if isinstance(branch, list) else [branch] for branch in stage.get("any_of", ())]


def _of_inside(stage: Json, inside: Sequence[Json], depth: int) -> str | None:
    if all(_may_be_empty(member) for member in inside):
        return "a group that may be empty"
    if not _is_plain(inside[0]):
        return "a group at the head of a group"
    if inside[0].get("times") and _inner(inside[0]) != _inner(stage):
        return "a loop at the head of a group with another contiguity inside"
    return _of_sequence(inside, depth + 1)


def _of_pair(before: Json, stage: Json) -> str | None:
    if before.get("greedy") and (stage.get("negated") or not _is_plain(stage) or _may_be_empty(stage)):
        return "greedy before anything but a mandatory stage"
    if _ends_open(before):
        return "a stage behind a group that may go round again"
    if not before.get("negated") and not stage.get("negated"):
        return None
    if before.get("negated") and stage.get("negated"):
        return "two negations in a row"
    other = stage if before.get("negated") else before
    if not _is_plain(other):
        return "a negation beside a group"
    bounded = (before.get("times") or {}).get("max") is not None
    if bounded and _is_open(before) and stage["contiguity"] == "relaxed" and not before.get("consecutive"):
        return "notFollowedBy behind a range"
    return None


def _of_end(stages: Sequence[Json], depth: int) -> str | None:
    last = stages[-1]
    if depth and (last.get("negated") or last.get("greedy")):
        return "a group that ends with a negation or a greedy loop"
    for stage in reversed(stages):
        if stage.get("negated"):
            return None if stage is last else "only optional stages behind a negation"
        if not _may_be_empty(stage):
            return None
    return None
