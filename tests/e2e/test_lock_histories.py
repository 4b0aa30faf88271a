"""Linearizability: what clients saw of locks under faults, judged by ours, by porcupine, and by a replay of the events."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.core.verify import Verdict
from streams.broker import EmbeddedBroker
from tests.e2e.lock_trial import FAULTS, LockTrial, guarded, judged, read, replayed
from tests.e2e.second_opinion import opinion, program

RUNS = int(os.environ.get("ANTIPHON_TEST_LOCK_RUNS", "200"))
CAUGHT_WITHIN = 4
"""Runs: the first as a rule."""
OUTLIVING_LEASE_MS = 30_000
"""Some leases have to last until another worker has taken over, however loaded the machine is."""
GIVEN_UP_MAX = 0.05
"""Of the locks, those that porcupine may give up after a minute: answers that nobody has make for many orders."""
PARTS = 4
"""Of the many runs, for several workers of pytest."""


@pytest.fixture
def trial(kafka: EmbeddedBroker, tmp_path: Path) -> Iterator[LockTrial]:
    with LockTrial(kafka.bootstrap_servers, tmp_path) as made:
        yield made


def opinions(trial: LockTrial, history: Path) -> tuple[bool, int, int]:
    """Return whether all locks of a history are linearizable, how many there are, and how many porcupine gave up.

    What it says of the others has to be what ours says, and ours has to know.
    """
    report = judged(history)
    assert not report.of(Verdict.UNKNOWN)
    ours = {one.resource: one.verdict is Verdict.LINEARIZABLE for one in report.resources}
    if shutil.which("go") is not None:
        theirs = opinion(program(trial.directory), history)
        assert theirs == {name: verdict for name, verdict in ours.items() if name in theirs}, history
        return all(ours.values()), len(ours), len(ours.keys() - theirs.keys())
    return all(ours.values()), len(ours), 0


def faulted(trial: LockTrial, runs: list[tuple[str, ...]]) -> Counter[str]:
    """Do runs and judge each; return how often which operation was answered how."""
    seen: Counter[str] = Counter()
    judged_locks = given_up = 0
    for faults in runs:
        history = trial.run(faults)
        operations = read(history)
        counted = Counter(f"{one.kind.value} {one.outcome.value}" for one in operations)
        assert counted["acquire ok"] > 0, f"the clients did nothing: {counted}\n{trial.said()}"
        accepted, locks, unknown = opinions(trial, history)
        assert accepted, [one.conflict for one in judged(history).of(Verdict.NOT_LINEARIZABLE)]
        judged_locks, given_up = judged_locks + locks, given_up + unknown
        seen += counted
    assert given_up <= GIVEN_UP_MAX * judged_locks, f"porcupine gave up {given_up} of {judged_locks}"
    assert seen["acquire ok"] >= 10 * len(runs), f"the clients hardly did anything: {seen}"
    assert guarded(trial.register())["taken"] > 0
    assert replayed(trial.events()) >= seen["acquire ok"] / 2, "one grant has two locks at most"
    return seen


async def test_no_two_hold_a_lock_under_faults(trial: LockTrial) -> None:
    """Eight tasks of two processes take three locks while workers and clients die and freeze: each history has an order."""
    await trial.begin()
    seen = await asyncio.to_thread(faulted, trial, [("worker_killed", "client_frozen"), ("client_killed", "worker_frozen")])
    for told in ("acquire ok", "acquire refused", "release ok", "renew ok"):  # what needs luck is asked of the soak
        assert seen[told] > 0, seen


@pytest.mark.soak
async def test_no_two_hold_a_lock_whatever_the_fault(trial: LockTrial) -> None:
    """Each fault by itself."""
    await trial.begin()
    await asyncio.to_thread(faulted, trial, [(name,) for name in sorted(FAULTS)])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_two_hold_a_lock_in_many_runs(trial: LockTrial, part: int) -> None:
    """Two hundred runs with faults at random; ANTIPHON_TEST_LOCK_RUNS has another number."""
    await trial.begin()
    runs = RUNS // PARTS + (part < RUNS % PARTS)
    await asyncio.to_thread(faulted, trial, [()] * runs)


@pytest.mark.parametrize(("broken", "fault"), [("holder", "client_frozen"), ("restart", "worker_killed")])
async def test_a_broken_lock_is_caught(trial: LockTrial, broken: str, fault: str) -> None:
    """A worker that forgets to look who holds, and one that takes over without the table: both judges see it."""
    await caught(trial, broken, fault)


@pytest.mark.soak
@pytest.mark.parametrize(("broken", "fault"), [("lease", "client_killed"), ("token", "worker_hiccup")])
async def test_more_broken_locks_are_caught(trial: LockTrial, broken: str, fault: str) -> None:
    """A worker that ends leases early, and one that gives tokens twice."""
    await caught(trial, broken, fault)


async def caught(trial: LockTrial, broken: str, fault: str) -> None:
    """Run until a history is refused by both judges."""
    trial.settings |= {"LOCK_BROKEN": broken, "LOCK_LONG_LEASE_MS": str(OUTLIVING_LEASE_MS)}
    await trial.begin()
    for _ in range(CAUGHT_WITHIN):
        history = await asyncio.to_thread(trial.run, (fault,))
        accepted, *_ = await asyncio.to_thread(opinions, trial, history)
        if not accepted:
            return
    pytest.fail(f"{CAUGHT_WITHIN} runs of a lock that is broken ({broken}) without a double holder: this test sees nothing")
