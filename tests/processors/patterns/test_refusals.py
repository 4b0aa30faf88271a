"""What the workers say of the records of the patterns topic, and what of it still holds."""

from __future__ import annotations

import pytest

from processors.patterns.counting import counted
from processors.patterns.refusals import Heard
from tests.processors.patterns.lane_bench import Bench, pattern, stage

FOLLOWED = pattern("followed", stage("a"), stage("b"), within_ms=1_000)


def heard(bench: Bench) -> Heard:
    """Return what a lane has said."""
    found = Heard()
    for one in bench.out:
        found.take(one["event"], one)
    return found


def test_a_topic_that_no_worker_reads_is_told_with_what_goes_on() -> None:
    """A lane refuses a version: its reason is told, with the version that runs in its place, and of nothing else."""
    bench = Bench()
    elsewhere = FOLLOWED.model_copy(update={"topics": ("elsewhere",)})
    lost = bench.publish(elsewhere.model_copy(update={"name": "lost"}))
    good = bench.publish(FOLLOWED)
    bench.feed({"type": "a", "ts": 0})
    bad = bench.publish(elsewhere)
    bench.feed({"type": "a", "ts": 1})
    found = heard(bench)
    reason = "it names topic 'elsewhere', and this app reads in: add it to AGENT_CEP_TOPICS and restart the workers"
    assert found.refusal("lost", version=lost, offset=lost) == reason
    assert found.refusal("followed", version=bad, offset=bad) == f"{reason}; version {good} goes on"
    assert found.refusal("followed", version=good, offset=good) == ""
    assert found.refusal("unknown", version=bad, offset=bad) == ""


@pytest.mark.parametrize(
    ("said", "version", "offset", "reason"),
    [
        ([], 7, 7, ""),
        ([(7, "refused")], 7, 7, "why 7"),
        ([(7, "refused"), (7, "activated")], 7, 7, ""),
        ([(7, "activated"), (7, "refused")], 7, 7, ""),
        ([(7, "refused")], 7, 9, "why 7"),
        ([(7, "refused"), (9, "refused")], 7, 9, "why 7"),
        ([(7, "refused"), (9, "refused"), (7, "paused")], 7, 9, ""),
        ([(7, "activated"), (9, "refused")], 7, 9, "why 9; version 7 goes on"),
        ([(7, "activated"), (9, "refused"), (7, "paused")], 7, 9, ""),
        ([(7, "activated"), (9, "refused"), (7, "removed")], 7, 9, "why 9"),
        ([(3, "activated"), (3, "draining"), (7, "refused")], 7, 7, "why 7"),
        ([(3, "activated"), (3, "removed"), (7, "refused")], 7, 7, "why 7"),
        ([(7, "refused"), (7, "activated"), (9, "refused")], 9, 9, "why 9; version 7 goes on"),
    ],
)
def test_what_holds_of_what_was_said(said: list[tuple[int, str]], version: int, offset: int, reason: str) -> None:
    """A version that any worker took is not refused; a refused pause is told until the version is said to be paused."""
    found = Heard()
    for of, what in said:
        if what == "refused":
            found.take("pattern.refused", {"pattern": "p", "version": of, "reason": f"why {of}"})
        else:
            found.take("pattern.activated", {"pattern": "p", "version": of, "action": what})
    assert found.refusal("p", version=version, offset=offset) == reason


def test_one_is_no_plural() -> None:
    """Numbers stand with the noun that fits them."""
    assert [counted(n, "match", "matches") for n in (0, 1, 1_000)] == ["0 matches", "1 match", "1,000 matches"]
    assert counted(2, "key") == "2 keys"
