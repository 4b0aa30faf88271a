"""A request until its answer, without a broker: sent again, and asked for again where its lease is over when it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.coordination import AcquireLock, LockExpired, LockGranted, LockQueued, LockRefused
from schemas.events import Event
from streams.coordination.locks import acquire
from streams.coordination.waiting import Request
from streams.errors import RequestTimedOut

Answer = tuple[str, dict[str, Any]]
LEASE_MS = 60_000


class Channel:
    """Answers each command that is sent with what the test says, at once."""

    is_open = True

    def __init__(self, *answers: list[Answer]) -> None:
        self.answers = list(answers)
        self.sent: list[Event] = []
        self.some = asyncio.Event()
        self.listeners: dict[str, Callable[[Answer], None]] = {}
        self.ids = 0

    def new_id(self) -> str:
        self.ids += 1
        return str(self.ids)

    async def open(self) -> None:
        """It is."""

    def listen(self, call: str, listener: Callable[[Answer], None]) -> None:
        self.listeners[call] = listener

    def forget(self, call: str) -> None:
        self.listeners.pop(call, None)

    async def send(self, command: Event, call: str) -> None:
        self.sent.append(command)
        self.some.set()
        for answer in self.answers.pop(0) if self.answers else ():
            if call in self.listeners:
                self.listeners[call](answer)


class Session:
    def __init__(self, channel: Channel, answer_s: float = 30.0) -> None:
        self.channel, self.answer_s = channel, answer_s
        self.held: set[Any] = set()
        self.on_missed: Any = None


def granted(token: int, *, lease_ms: int = LEASE_MS, waited_ms: int = 0) -> Answer:
    asked_ms = 1_000_000
    return LockGranted.event_type, {
        "resources": ["r/a"], "tokens": [token], "mode": "exclusive", "request_id": "1", "owner": "me",
        "lease_ms": lease_ms, "expires_ms": asked_ms + waited_ms + lease_ms, "asked_ms": asked_ms,
    }  # fmt: skip


OVER = granted(7, lease_ms=0)
"""Its lease ended as it began: as that of a request that lay in the log for longer than its lease."""


async def ask(channel: Channel, answer_s: float = 30.0) -> Any:
    return await acquire(
        Session(channel, answer_s),  # type: ignore[arg-type]
        ("r/a",),
        mode="exclusive",
        wait_s=None,
        lease_s=LEASE_MS / 1000,
        priority=0,
        owner="me",
        renew=False,
    )


def asked(channel: Channel) -> list[tuple[str, bool]]:
    return [(one.request_id, one.again) for one in channel.sent if isinstance(one, AcquireLock)]


async def test_a_grant_that_is_over_when_it_is_told_is_asked_for_again() -> None:
    """Under the same id, and what the processor says then counts."""
    channel = Channel([OVER], [granted(8)])
    grant = await ask(channel)
    assert (grant.token, grant.held) == (8, True)
    assert asked(channel) == [("1", False), ("1", True)]
    grant.end()


@pytest.mark.parametrize(
    "told",
    [
        [OVER, (LockExpired.event_type, {"next_owners": []})],
        [(LockRefused.event_type, {"code": "ended", "reason": "it has expired"})],
        [(LockExpired.event_type, {"next_owners": []})],
        [(LockRefused.event_type, {"code": "forgotten", "reason": "never came"})],
    ],
)
async def test_where_it_has_expired_meanwhile_it_is_asked_for_anew(told: list[Answer]) -> None:
    """Under another id: the processor remembers that the first one has ended."""
    again = [[OVER], told] if told[0] is not OVER else [told, [(LockExpired.event_type, {"next_owners": []})]]
    channel = Channel(*again, [granted(9)])
    grant = await ask(channel)
    assert grant.token == 9
    assert asked(channel) == [("1", False), ("1", True), ("2", False)]
    grant.end()


async def test_a_queued_request_whose_lease_began_late_is_no_such_grant() -> None:
    """The lease of one that waited begins when it is granted."""
    queued = (LockQueued.event_type, {"behind": ["you"]})
    channel = Channel([queued, granted(8, lease_ms=50, waited_ms=3_600_000)])
    grant = await ask(channel)
    assert grant.token == 8
    assert len(channel.sent) == 1
    grant.end()


async def test_grants_that_are_always_over_end_as_an_error() -> None:
    """A processor that is slower than the lease is told as what it is."""
    channel = Channel(*[[OVER]] * 100_000)
    with pytest.raises(RequestTimedOut, match="or only when its lease was over"):
        await ask(channel, answer_s=0.05)


async def test_no_answer_ends_as_an_error_and_the_request_is_cancelled() -> None:
    """It is asked again on the way."""
    channel = Channel()
    command = AcquireLock(domain="r", request_id="1", owner="me", resources=["r/a"])
    cancel = command.model_copy(update={"owner": "cancelled"})
    request = Request(Session(channel, 0.05), command, cancel=cancel, what="lock r/a", ask_after_s=0.02)  # type: ignore[arg-type]
    with pytest.raises(RequestTimedOut, match=r"no answer to the request for lock r/a within 0.05 s: see"):
        await request.answer()
    assert channel.sent[-1] is cancel
    assert [one.again for one in channel.sent[:2]] == [False, True]  # type: ignore[attr-defined]
    assert not channel.listeners


async def test_an_answer_for_who_is_cancelled_is_not_kept() -> None:
    """A request that nobody waits for is taken back."""
    channel = Channel([(LockQueued.event_type, {"behind": ["you"]})])
    task = asyncio.ensure_future(ask(channel))
    await channel.some.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert channel.sent[-1].event_type == "lock.cancel"
