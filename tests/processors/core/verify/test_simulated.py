"""Histories as services make them: those of a correct lock are accepted, those of a broken one are not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from processors.core.verify import Guard, Verdict, judge
from tests.processors.core.verify.simulated import MS, Broken, Line, operations, simulated

SEEDS = st.integers(0, 2**32)

CAUGHT_OF = 40
"""Runs of each broken lock."""
CAUGHT_MIN = {Broken.ANSWERS_STRANGERS: 4, Broken.BUSY_WHEN_FREE: 6, Broken.GUARD_ASLEEP: 12}
"""Of those, by what must at least happen to be seen: a stranger's release, a refusal in a quiet moment, a zombie's write."""
STATES_PER_OPERATION_MAX = 20
"""A correct lock's history is ordered without much search, else a long one could not be judged."""


@settings(max_examples=200)
@given(SEEDS, st.sampled_from(Guard), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 3))
def test_a_correct_lock_is_accepted(seed: int, guard: Guard, shared: float, resources: int) -> None:
    """Whatever delays, deaths, freezes and lost answers there are, a correct lock's history has an order, soon found."""
    history = operations(simulated(seed, guard=guard.value, shared=shared, resources=resources))
    report = judge(history, guard=guard)
    assert report.verdict is Verdict.LINEARIZABLE
    assert sum(one.states for one in report.resources) <= STATES_PER_OPERATION_MAX * len(history)


@pytest.mark.parametrize("broken", list(Broken))
def test_a_broken_lock_is_caught(broken: Broken) -> None:
    """Each way to break the lock is seen in most runs; in the others nothing wrong happened, or no client saw it."""
    caught = 0
    for seed in range(CAUGHT_OF):
        report = judge(operations(simulated(seed, broken)))
        assert report.verdict is not Verdict.UNKNOWN
        for one in report.of(Verdict.NOT_LINEARIZABLE):
            assert one.conflict is not None
            assert "fits into no order" not in one.conflict.reason
        caught += report.verdict is Verdict.NOT_LINEARIZABLE
    assert caught >= CAUGHT_MIN.get(broken, CAUGHT_OF * 3 // 4)


def _answered(lines: list[Line], op: str) -> list[Line]:
    return [line for line in lines if line["op"] == op and line.get("outcome") == "ok"]


def _certain(lines: list[Line], chance: random.Random) -> tuple[Line, int, int]:
    """A grant that was certainly held exclusively for a while, and when: after its acquire's answer, before anything ended it."""
    found = []
    for line in _answered(lines, "acquire"):
        named = [one for one in lines if one.get("grant") == line["grant"] and one["op"] == "release"]
        until = min([one["call_ns"] for one in named] + [line["call_ns"] + line["lease_ms"] * MS])
        if line.get("mode") != "shared" and until - line["return_ns"] > MS:
            found.append((line, line["return_ns"] + 1, until - 3 * MS))
    found = [one for one in found if one[2] > one[1]]
    assume(found)
    return chance.choice(found)


def _double_holder(lines: list[Line], chance: random.Random) -> None:
    held, begin, end = _certain(lines, chance)
    stranger = {"client": "x", "op": "acquire", "resource": held["resource"], "grant": "x", "lease_ms": 10}
    lines.append({**stranger, "call_ns": begin, "return_ns": end, "outcome": "ok", "token": held["token"] + 1})


def _release_of_a_stranger(lines: list[Line], chance: random.Random) -> None:
    held, begin, end = _certain(lines, chance)
    about = {"resource": held["resource"], "grant": held["grant"], "call_ns": begin, "return_ns": end}
    lines.append({"client": "x", "op": "release", "outcome": "ok", **about})


def _lost_too_early(lines: list[Line], chance: random.Random) -> None:
    held, begin, end = _certain(lines, chance)
    about = {"client": held["client"], "resource": held["resource"], "grant": held["grant"], "call_ns": begin, "return_ns": end}
    lines.append({**about, **chance.choice([{"op": "expire"}, {"op": "renew", "lease_ms": 5}])})
    lines[-1]["outcome"] = "ok" if lines[-1]["op"] == "expire" else "refused"


def _token_again(lines: list[Line], chance: random.Random) -> None:
    first, second = _two_owners(lines, chance)
    second["token"] = first["token"]


def _tokens_swapped(lines: list[Line], chance: random.Random) -> None:
    first, second = _two_owners(lines, chance)
    first["token"], second["token"] = second["token"], first["token"]


def _two_owners(lines: list[Line], chance: random.Random) -> tuple[Line, Line]:
    """Grants one after the other; neither token may have been that of an acquire whose answer was lost."""
    lost = {line["client"] for line in lines if line["op"] == "acquire" and line.get("outcome", "unknown") == "unknown"}
    granted = [line for line in _answered(lines, "acquire") if line["client"] not in lost]
    pairs = [
        (one, other)
        for one in granted
        for other in granted
        if one["resource"] == other["resource"] and one["client"] != other["client"] and one["return_ns"] < other["call_ns"]
    ]
    assume(pairs)
    return chance.choice(pairs)


def _zombie_write(lines: list[Line], chance: random.Random) -> None:
    written = [
        (line, token)
        for line in _answered(lines, "write")
        for token in {one["token"] for one in _answered(lines, "acquire") if one["resource"] == line["resource"]}
        if token < line["token"]
    ]
    assume(written)
    line, token = chance.choice(written)
    at = line["return_ns"] + 1
    lines.append({**line, "client": "zombie", "token": token, "call_ns": at, "return_ns": at + MS})


def _renewed_after_release(lines: list[Line], chance: random.Random) -> None:
    released = _answered(lines, "release")
    assume(released)
    line = chance.choice(released)
    at = line["return_ns"] + 1
    lines.append({**line, "op": "renew", "lease_ms": 10, "call_ns": at, "return_ns": at + MS})


def _held_before_anybody(lines: list[Line], chance: random.Random) -> None:
    about = {"client": "x", "op": "acquire", "resource": lines[0]["resource"], "grant": "x", "lease_ms": 10}
    lines.append({**about, "call_ns": 1, "return_ns": 2, "outcome": "refused", "reason": "held"})


VIOLATIONS: list[Callable[[list[Line], random.Random], None]] = [
    _double_holder,
    _held_before_anybody,
    _lost_too_early,
    _release_of_a_stranger,
    _renewed_after_release,
    _token_again,
    _tokens_swapped,
    _zombie_write,
]


@pytest.mark.parametrize("violate", VIOLATIONS)
@settings(max_examples=60)
@given(seed=SEEDS, shared=st.sampled_from([0.0, 0.3]))
def test_one_violation_is_enough(violate: Callable[[list[Line], random.Random], None], seed: int, shared: float) -> None:
    """A correct lock's history with one wrong answer put into it is rejected, and the contradiction is told."""
    lines = simulated(seed, shared=shared)
    violate(lines, random.Random(seed))
    history = operations(lines)
    wrong = judge(history).of(Verdict.NOT_LINEARIZABLE)
    assert len(wrong) == 1
    assert wrong[0].conflict is not None
    assert wrong[0].conflict.stuck in wrong[0].conflict.operations
    assert wrong[0].conflict.prefix <= wrong[0].operations
