"""What a holder learns of its lease from each answer, without a broker."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from schemas.coordination import LockExpired, LockRefused, LockReleased, LockRenewed
from schemas.events import Event
from streams.coordination import Grant, Held, LockLost
from streams.coordination import LockRefused as Refusal
from streams.coordination.waiting import lease_began

LEASE_S = 0.2


class Channel:
    """Answers each command as the test says; None is no answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, dict[str, Any]] | None] = []
        self.asked: list[str] = []
        self.forgotten: list[str] = []

    async def call(self, command: Event, *, again_s: float, limit_s: float) -> tuple[str, dict[str, Any]]:
        self.asked.append(command.event_type)
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if self.answers else None
        if answer is None:
            await asyncio.sleep(limit_s)
            raise TimeoutError
        return answer

    def forget(self, call: str) -> None:
        self.forgotten.append(call)


class Session:
    def __init__(self) -> None:
        self.channel = Channel()
        self.held: set[Grant] = set()


def granted(session: Session, *, lease_s: float = LEASE_S, renews: bool = False) -> Grant:
    fields = {
        "resources": ["r/a"], "tokens": [7], "mode": "exclusive", "request_id": "g", "owner": "me",
        "lease_ms": round(lease_s * 1000), "expires_ms": round(lease_s * 1000), "asked_ms": 0,
    }  # fmt: skip
    return Grant(session, fields, sent=time.monotonic(), renews=renews)  # type: ignore[arg-type]


def refused(code: str) -> tuple[str, dict[str, Any]]:
    return LockRefused.event_type, {"code": code, "reason": f"because of {code}"}


RELEASED = (LockReleased.event_type, {"request_id": "g"})
RENEWED = (LockRenewed.event_type, {"request_id": "g"})


async def test_a_renewal_with_a_bad_lease_loses_nothing() -> None:
    """The refusal says what is allowed, and the lock is held as before."""
    session = Session()
    grant = granted(session, lease_s=60)
    session.channel.answers = [refused("bad_lease"), RELEASED]
    with pytest.raises(Refusal, match="because of bad_lease"):
        await grant.renew(-1)
    assert grant.held
    assert not grant.lost.is_set()
    await grant.release()


async def test_a_renewal_that_comes_too_late_loses_the_lock() -> None:
    """And the holder is told."""
    session = Session()
    grant = granted(session, lease_s=60)
    session.channel.answers = [refused("expired")]
    with pytest.raises(LockLost, match="because of expired"):
        await grant.renew()
    assert grant.lost.is_set()


@pytest.mark.parametrize("code", ["not_held", "expired"])
async def test_a_release_after_the_lease_says_that_it_was_lost(code: str) -> None:
    """Also where the processor has forgotten the grant by then: the block did not have the lock to its end."""
    session = Session()
    grant = granted(session, lease_s=0.001)
    grant._until = time.monotonic()  # its timer has not been called yet
    session.channel.answers = [refused(code)]
    with pytest.raises(LockLost):
        await grant.release()


async def test_a_release_whose_first_answer_was_lost_is_a_release() -> None:
    """Within the lease a grant can only have gone by the same release before."""
    session = Session()
    grant = granted(session, lease_s=60)
    session.channel.answers = [refused("not_held")]
    await grant.release()
    await grant.release()
    assert session.channel.asked == ["lock.release"]


async def test_what_is_lost_is_not_kept() -> None:
    """A client that loses locks and never releases them does not grow."""
    session = Session()
    grant = granted(session)
    assert session.held == {grant}
    await asyncio.wait_for(grant.lost.wait(), 5)
    assert session.held == set()
    assert session.channel.forgotten == ["g"]
    with pytest.raises(LockLost):
        await grant.release()


async def test_it_is_renewed_in_the_background_until_no_answer_comes() -> None:
    """Two answers hold it for longer than its lease; then it is lost, not before its end."""
    session = Session()
    session.channel.answers = [RENEWED, RENEWED]
    began = time.monotonic()
    grant = granted(session, renews=True)
    await asyncio.wait_for(grant.lost.wait(), 5)
    assert time.monotonic() - began > LEASE_S * 4 / 3
    assert session.channel.asked[:2] == ["lock.renew"] * 2
    with pytest.raises(LockLost, match="not renewed in time"):
        grant.check()


async def test_a_block_is_cancelled_by_the_event_of_its_end() -> None:
    """Not only by its own clock; whoever cancels the task besides is heard too."""
    session = Session()

    async def acquire() -> Grant:
        return granted(session, lease_s=60)

    async def body(cancelled: bool) -> None:
        async with Held(acquire) as grant:
            grant.heard((LockExpired.event_type, {"next_owners": ["you"]}))
            if cancelled:
                task.cancel()
            await asyncio.Event().wait()

    task = asyncio.create_task(body(False))
    with pytest.raises(LockLost, match="you has it now"):
        await task
    task = asyncio.create_task(body(True))
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("processor_ms", [0, -3_600_000, 3_600_000])
def test_a_lease_is_counted_without_comparing_clocks(processor_ms: int) -> None:
    """It began when it was asked for plus what it waited at the processor, whatever the processor's clock says."""
    granted_ms = processor_ms + 400
    fields = {"asked_ms": processor_ms, "lease_ms": 1_000, "expires_ms": granted_ms + 1_000}
    sent = time.monotonic() - 10
    assert lease_began(sent, fields) == pytest.approx(sent + 0.4)
    assert lease_began(time.monotonic(), fields) <= time.monotonic(), "never in the future"
