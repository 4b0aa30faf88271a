"""The shells of semaphores, barriers and latches: every command reaches its machine, every outcome becomes an event."""

from __future__ import annotations

from typing import Any

import pytest

from processors.coordinating import barriers, latches, semaphores
from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.barriers import ArriveAtBarrier, BarrierBroken, BarrierReset, BarrierTripped, CancelArrival, ResetBarrier
from schemas.catalogue import CATALOGUE
from schemas.coordination_answers import RequestQueued, RequestRefused, RequestTimedOut
from schemas.events import Event
from schemas.latches import (
    AwaitLatch,
    CancelAwaitLatch,
    CountDown,
    LatchCounted,
    LatchOpened,
    LatchRemoved,
    RemoveLatch,
)
from schemas.semaphores import (
    AcquirePermits,
    CancelPermits,
    PermitsExpired,
    PermitsGranted,
    PermitsReleased,
    PermitsRenewed,
    ReleasePermits,
    RenewPermits,
    SemaphoreResized,
    SetCapacity,
)
from streams.core.at import At
from streams.machines.shells import Shell

SHELLS = (semaphores.shell(), barriers.shell(), latches.shell())


class Answers:
    """What is written, by way of Avro as the real ones do it."""

    def __init__(self, shell: Shell) -> None:
        self.prefixes = {type(sample): CATALOGUE.encode(sample)[:PREFIX_BYTES] for sample in shell.samples}
        self.told: list[tuple[Any, str, bool]] = []

    def write(self, cls: type[Event], fields: dict[str, Any], *, domain: str, route: str, event: bool = True) -> None:
        value = write_body(self.prefixes[cls], parsed(CATALOGUE.schema(cls)), {**fields, "domain": domain})
        self.told.append((CATALOGUE.decode(value), route, event))


class Desk:
    """One machine behind its shell; commands go through Avro, and each has its number as its route."""

    def __init__(self, shell: Shell) -> None:
        self.shell, self.machine = shell, shell.load(())
        self.offset, self.now_ms = -1, 1_000_000

    def send(self, command: Event, key: bytes | None = None) -> list[Any]:
        self.offset += 1
        fields = CATALOGUE.read(CATALOGUE.encode(command))
        outcomes = self.shell.carry_out(
            self.machine, command.event_type, fields, key or command.key(), f"r{self.offset}", At(self.offset, 0, self.now_ms)
        )
        return self.tell(outcomes, fields["domain"])

    def wait(self, ms: int) -> list[Any]:
        self.now_ms += ms
        return self.tell(self.machine.tick(At(self.offset, 0, self.now_ms)), "")

    def tell(self, outcomes: list[Any], domain: str) -> list[Any]:
        answers = Answers(self.shell)
        self.shell.tell(outcomes, answers, domain)  # type: ignore[arg-type] # all that it does with them
        self.told = answers.told
        return [event for event, _, _ in self.told]


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


COMMON: dict[str, Any] = {"domain": "gpu", "owner": "ann"}


def test_semaphores_from_command_to_event() -> None:
    """Each command has its answer, and who is told of it is who asked; a repeated answer is not told to everybody."""
    desk = Desk(SHELLS[0])
    ask = AcquirePermits(**COMMON, request_id="1", name="gpu/a", permits=2, capacity=2, lease_ms=1_000)
    (granted,) = desk.send(ask)
    assert granted == PermitsGranted(
        **COMMON,
        request_id="1",
        name="gpu/a",
        permits=2,
        token=1,
        lease_ms=1_000,
        expires_ms=1_001_000,
        asked_ms=1_000_000,
    )
    assert desk.told[0][1:] == ("r0", True)
    assert kinds(desk.send(ask.model_copy(update={"again": True}))) == [PermitsGranted]
    assert desk.told[0][1:] == ("r1", False)
    waits = {**COMMON, "owner": "bob", "request_id": "2", "name": "gpu/a", "wait_ms": 100}
    (queued,) = desk.send(AcquirePermits(**waits))
    assert (queued.primitive, queued.behind) == ("semaphores", ["ann"])
    assert kinds(desk.wait(100)) == [RequestTimedOut]
    assert desk.told[0][1:] == ("r2", True)
    assert kinds(desk.send(RenewPermits(**COMMON, grant="1"))) == [PermitsRenewed]
    assert kinds(desk.send(SetCapacity(**COMMON, request_id="s", name="gpu/a", capacity=None))) == [SemaphoreResized]
    assert kinds(desk.wait(1_000)) == [PermitsExpired]
    (refused,) = desk.send(ReleasePermits(**COMMON, grant="1"))
    assert (refused.code, refused.name) == ("expired", "gpu/a")
    assert "lease ended" in refused.reason
    desk.send(ask.model_copy(update={"request_id": "3"}))
    desk.send(AcquirePermits(**{**waits, "request_id": "4"}))
    assert kinds(desk.send(CancelPermits(**COMMON, request_id="3"))) == [PermitsReleased, PermitsGranted]
    assert kinds(desk.send(CancelPermits(**COMMON, request_id="4", victim_of="a circle"))) == []


def test_barriers_from_command_to_event() -> None:
    """All parties are told of a trip and of a break, each on its own route."""
    desk = Desk(SHELLS[1])
    first = ArriveAtBarrier(**COMMON, request_id="1", name="gpu/b", parties=2)
    second = ArriveAtBarrier(**{**COMMON, "owner": "bob"}, request_id="2", name="gpu/b", parties=2)
    assert kinds(desk.send(first)) == [RequestQueued]
    assert kinds(desk.send(second)) == [BarrierTripped] * 2
    assert [route for _, route, _ in desk.told] == ["r0", "r1"]
    desk.send(first.model_copy(update={"request_id": "3"}))
    assert kinds(desk.send(ResetBarrier(**COMMON, request_id="r", name="gpu/b"))) == [BarrierBroken, BarrierReset]
    desk.send(first.model_copy(update={"request_id": "4"}))
    assert kinds(desk.send(CancelArrival(**COMMON, request_id="4"))) == [RequestRefused]


def test_latches_from_command_to_event() -> None:
    """Counting, waiting, giving up and removing."""
    desk = Desk(SHELLS[2])
    wait = AwaitLatch(**COMMON, request_id="w", name="gpu/c", count=1)
    assert kinds(desk.send(wait)) == [RequestQueued]
    assert kinds(desk.send(CountDown(**COMMON, request_id="a", name="gpu/c", count=1))) == [LatchCounted, LatchOpened]
    assert [route for _, route, _ in desk.told] == ["r1", "r0"]
    assert kinds(desk.send(RemoveLatch(**COMMON, request_id="r", name="gpu/c"))) == [LatchRemoved]
    desk.send(wait.model_copy(update={"request_id": "w2"}))
    assert kinds(desk.send(CancelAwaitLatch(**COMMON, request_id="w2"))) == [RequestRefused]


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        (SHELLS[0], AcquirePermits(**COMMON, request_id="1", name="tpu/a", capacity=1)),
        (SHELLS[1], ArriveAtBarrier(**COMMON, request_id="1", name="tpu/a", parties=1)),
        (SHELLS[2], CountDown(**COMMON, request_id="1", name="tpu/a", count=1)),
    ],
)
def test_a_command_in_the_wrong_place_is_refused(shell: Shell, command: Event) -> None:
    """A name of another domain, or a record of another key, may be on a partition that does not decide about it."""
    desk = Desk(shell)
    for key in (None, b"elsewhere"):
        (refused,) = desk.send(command, key)
        assert refused.code == "misplaced"
        assert desk.told[0][2] is False
    assert desk.machine.changes() == {}


def test_what_is_bad_is_told_shortened_and_to_who_asked_only() -> None:
    """A huge name comes back in the refusal with 256 characters, under the command's domain."""
    (refused,) = Desk(SHELLS[0]).send(AcquirePermits(**COMMON, request_id="1", name="gpu/" + "x" * 300_000, capacity=1))
    assert (refused.code, refused.domain, len(refused.name)) == ("bad_name", "gpu", 256)


def test_every_event_of_a_shell_has_a_sample_and_every_command_a_carrier() -> None:
    """The samples give the writer its schema ids, so one that is missing would fail with the first such event."""
    for shell in SHELLS:
        written = {type(sample) for sample in shell.samples}
        assert {RequestQueued, RequestRefused, RequestTimedOut} < written
        for sample in shell.samples:
            CATALOGUE.encode(sample)
    told = {sample.event_type for shell in SHELLS for sample in shell.samples}
    carried = {kind for shell in SHELLS for kind in shell.commands}
    families = ("semaphore.", "barrier.", "latch.")
    wanted = {one.event_type for one in CATALOGUE.entries() if one.event_type.startswith(families)}
    assert told | carried >= wanted
