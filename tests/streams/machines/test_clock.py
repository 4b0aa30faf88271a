"""The guess of a partition's time: how late a lease ends, and how many records are written for it, whatever clocks say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.catalogue import CATALOGUE
from schemas.coordination import AcquireLock, PassTime, RenewLock
from streams.machines import cell as module
from streams.machines.clock import MARGIN_MS, PASS_AGAIN_MS, PASS_APART_MS, Clock
from tests.processors.coordinating.commands_log import START_MS, Worker, passes_of, recorded
from tests.streams.turns.fakes import FakeRecord

HOUR_MS = 3_600_000
TRIP_MS = 3
"""From a worker to the log and back."""


class World:
    """A broker's clock, a worker's, and the log between them; time moves when it is told to.

    Args:
        patch: Sets the worker's clocks.
        ahead_ms: How far the worker's wall clock is ahead of the broker's.
    """

    def __init__(self, patch: pytest.MonkeyPatch, ahead_ms: int = 0) -> None:
        self.ms, self.broker_off_ms = 1_000_000, 0
        self.ahead_ms = ahead_ms
        patch.setattr(module, "_mono_ms", lambda: self.ms)
        patch.setattr(Clock, "__init__", self._made(Clock.__init__))
        self.worker = Worker(now_ms=self.wall_ms)
        self.log: list[FakeRecord] = []
        self.arriving: list[tuple[int, FakeRecord]] = []
        self.written: list[int] = []
        """When the worker wrote a record that lets time pass."""
        self.events: list[tuple[int, str]] = []

    def _made(self, init: Any) -> Any:
        return lambda clock, mono_ms, epoch_ms: init(clock, mono_ms, self.wall_ms())

    def wall_ms(self) -> int:
        return START_MS + self.ms + self.ahead_ms

    def broker_ms(self) -> int:
        return START_MS + self.ms + self.broker_off_ms

    def append(self, event: Any, *, trip_ms: int = 0) -> None:
        """Write a record, which is read at once unless it takes a while."""
        record = recorded(event, len(self.log), self.broker_ms(), call="c")
        self.log.append(record)
        self.arriving.append((self.ms + trip_ms, record))
        if not trip_ms:
            self.step()

    def lock(self, name: str = "d/a", lease_ms: int = 1_000) -> None:
        who: dict[str, Any] = {"domain": "d", "owner": "ann", "request_id": f"r{len(self.log)}"}
        self.append(AcquireLock(**who, resources=[name], lease_ms=lease_ms))

    def step(self) -> None:
        """Run what has arrived."""
        found = [record for at, record in self.arriving if at <= self.ms]
        self.arriving = [one for one in self.arriving if one[0] > self.ms]
        effects = self.worker.run(found)
        self.worker.commit()
        self.events += [(self.ms, CATALOGUE.type_of(output[2])) for output in effects.outputs]
        for output in passes_of(effects):
            self.written.append(self.ms)
            passed = CATALOGUE.decode(output[2])
            assert isinstance(passed, PassTime)
            self.append(passed, trip_ms=TRIP_MS)

    def run(self, ms: int) -> None:
        """Let time go by: the worker runs when a record arrives, and when it asked to."""
        end = self.ms + ms
        while True:
            woken = self.worker.woken_at
            wakes = [] if woken is None else [self.ms + max(1, woken - self.wall_ms())]
            at = min([max(at, self.ms) for at, _ in self.arriving] + wakes, default=end + 1)
            if at > end:
                self.ms = end
                return
            self.ms = at
            self.step()

    def expired(self) -> list[int]:
        """Return when leases ended."""
        return [at for at, kind in self.events if kind == "lock.expired"]

    def successor(self) -> None:
        """Let another worker take over."""
        self.worker = self.worker.successor(random.Random(0), self.wall_ms)
        self.arriving = []
        self.step()


SOON_MS = 2 * TRIP_MS + PASS_APART_MS + 2 * MARGIN_MS


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS, -HOUR_MS])
def test_a_lease_ends_in_time_whatever_the_workers_clock_says(monkeypatch: pytest.MonkeyPatch, ahead_ms: int) -> None:
    """A record that was read has told the worker what time it is at the broker; two records are enough for the lease."""
    world = World(monkeypatch, ahead_ms)
    began = world.ms
    world.lock()
    world.run(5_000)
    assert [1_000 <= at - began <= 1_000 + SOON_MS for at in world.expired()] == [True]
    assert len(world.written) <= 2


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS, -HOUR_MS])
def test_a_successor_ends_the_lease_of_a_quiet_partition(monkeypatch: pytest.MonkeyPatch, ahead_ms: int) -> None:
    """No record has told it the time yet: the partition's own is the least that it can be."""
    world = World(monkeypatch)
    began = world.ms
    world.lock()
    world.run(600)
    world.ahead_ms = ahead_ms
    world.successor()
    world.run(5_000)
    assert [1_000 <= at - began <= 1_600 + SOON_MS for at in world.expired()] == [True]
    assert len(world.written) <= 2


def test_a_broker_whose_clock_is_set_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition's time stands until the clock has caught up; it is not written for all the while."""
    world = World(monkeypatch)
    world.lock()
    world.broker_off_ms = -60_000
    world.run(50_000)
    assert world.expired() == []
    assert len(world.written) <= 2
    world.run(20_000)
    assert len(world.expired()) == 1
    assert len(world.written) <= 4


def test_commands_meanwhile_do_not_make_it_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read at the partition's time, which is not the broker's now; a lease that is due soon waits all the same."""
    world = World(monkeypatch)
    world.lock(lease_ms=120)
    world.broker_off_ms = -60_000
    for _ in range(100):
        world.append(RenewLock(domain="d", grant="nobody's", owner="ann"))
        world.run(400)
    assert world.expired() == []
    assert len(world.written) <= 2
    world.run(25_000)
    assert len(world.expired()) == 1


def test_a_broker_whose_clock_is_set_forward_ends_leases_with_the_next_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker cannot know before; what it writes at the old guess brings the new time."""
    world = World(monkeypatch)
    world.lock(lease_ms=2_000)
    world.broker_off_ms = HOUR_MS
    began = world.ms
    world.run(5_000)
    assert [at - began <= 2_000 + SOON_MS for at in world.expired()] == [True]
    assert len(world.written) == 1


def test_a_backlog_says_nothing_about_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that were appended minutes ago do not make the broker's clock minutes late."""
    world = World(monkeypatch)
    world.lock(lease_ms=600_000)
    for _ in range(10):
        world.append(RenewLock(domain="d", grant="nobody's", owner="ann"), trip_ms=120_000)
    world.run(119_000)
    late, world.arriving = world.arriving, []
    world.lock("d/b", lease_ms=500)
    began, world.arriving = world.ms, [(world.ms, record) for _, record in late]
    world.run(5_000)
    assert [at - began <= 500 + SOON_MS for at in world.expired()] == [True]
    assert len(world.written) == 1


def test_a_log_that_takes_nothing_is_written_to_every_half_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written may be lost with a broker; it is not written faster than that, and one that comes is enough."""
    world = World(monkeypatch)
    world.lock()
    append = world.append
    monkeypatch.setattr(world, "append", lambda *_, **__: None)
    world.run(5_000)
    first = world.written[0]
    assert world.written == list(range(first, first + len(world.written) * PASS_AGAIN_MS, PASS_AGAIN_MS))
    assert len(world.written) == 8
    monkeypatch.setattr(world, "append", append)
    world.run(1_000)
    assert len(world.expired()) == 1
    world.run(60_000)
    assert len(world.written) == 9


def test_what_another_worker_wrote_is_not_taken_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old record of another one, read late, says nothing about how long the worker's own took, nor that it has come back."""
    world = World(monkeypatch)
    began = world.ms
    world.lock()
    append = world.append
    append(PassTime(writer="another", written_ms=0), trip_ms=1_000 + 2 * MARGIN_MS)
    monkeypatch.setattr(world, "append", lambda *_, **__: None)  # the worker's own is lost
    world.run(1_100)
    monkeypatch.setattr(world, "append", append)
    world.run(5_000)
    assert [at - began <= 1_000 + PASS_AGAIN_MS + SOON_MS for at in world.expired()] == [True]
    assert len(world.written) == 2


def test_leases_that_end_together_share_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is due when a record lies in the log ends there; between two that came back a few milliseconds pass."""
    world = World(monkeypatch)
    for n in range(40):
        world.lock(f"d/{n}", lease_ms=1_000 + n)
    world.run(5_000)
    assert len(world.expired()) == 40
    assert len(world.written) <= 2 + 40 // PASS_APART_MS
    assert min(b - a for a, b in zip(world.written, world.written[1:], strict=False)) >= PASS_APART_MS


def test_it_is_asked_again_no_later_than_needed() -> None:
    """Before the moment: then; after writing: when that should have come back; nothing is written twice in between."""
    clock = Clock(0, 0)
    assert clock.when(1_000, 0) == (False, 1_000 + MARGIN_MS)
    assert clock.when(1_000, 1_000) == (False, MARGIN_MS)
    assert clock.when(1_000, 1_001) == (True, PASS_AGAIN_MS)
    assert clock.when(1_000, 1_101) == (False, PASS_AGAIN_MS - 100)
    clock.came_back(1_002, 1_005)
    assert clock.when(1_003, 1_005) == (False, PASS_APART_MS)
    assert clock.when(1_003, 1_005 + PASS_APART_MS) == (True, PASS_AGAIN_MS)


def test_what_comes_back_a_second_time_is_not_waited_for() -> None:
    """A record that was written again after the first only took long says nothing new."""
    clock = Clock(0, 0)
    assert clock.when(10, 11)[0]
    assert clock.when(10, 511)[0]
    clock.came_back(512, 515)
    clock.came_back(400, 516)
    assert clock.when(2_000, 520) == (False, 2_001 - 520)
