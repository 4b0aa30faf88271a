"""A grant in the hands of its holder: its tokens, its lease, and how it learns that it has lost it.

The lease is counted from before the request was sent, by this machine's monotonic clock, so its end here is never after its end
at the processor. (A request that had to wait counts from its answer, and is renewed soon where much of the lease seems gone.)
When a third of it has passed it is renewed, by a timer: a body that waits minutes for a model's answer keeps its lock.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Literal

from schemas.coordination import LockRenewed, ReleaseLock, RenewLock
from schemas.errors import AntiphonError
from schemas.naming import domain_of
from streams.coordination.errors import LockLost
from streams.core.guards import fence_headers
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.channel import Answer, Channel

__all__ = ["Grant"]

RENEW_SHARE: Final = 3
"""Renewed after this part of the lease: two more tries fit into the rest."""
AGAIN_SHARE: Final = 6
"""Sent again when there is no answer for this part of the lease."""
RELEASE_S: Final = 10.0
"""How long a release waits for its answer; the lease ends without it too."""


class Grant:
    """A lock that is held; made by `LockBlock`.

    Attributes:
        id: Names it, and the request that asked for it.
        owner: Who holds it.
        resources: What is held.
        tokens: The fencing token of each of them, in that order.
        mode: "exclusive" or "shared".
        lost: Set when the lease is gone; `why` then says how.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        grant_id: str,
        owner: str,
        resources: tuple[str, ...],
        tokens: tuple[int, ...],
        mode: Literal["exclusive", "shared"],
        lease_s: float,
        since: float,
        renews: bool,
        on_end: Callable[[Grant], None],
    ) -> None:
        self._channel, self._on_end = channel, on_end
        self.id, self.owner, self.resources, self.tokens, self.mode = grant_id, owner, resources, tokens, mode
        self.lost = asyncio.Event()
        self.why = ""
        self.on_lost: Callable[[], None] | None = None
        """Called once, when it is lost."""
        self._lease_s, self._until, self._renews = lease_s, since + lease_s, renews
        self._next = since + lease_s / RENEW_SHARE
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._arm()

    @property
    def token(self) -> int:
        """The fencing token; of several resources the largest."""
        return max(self.tokens)

    @property
    def held(self) -> bool:
        """Whether it is held, as far as can be known here."""
        return not self._ended and not self.lost.is_set() and time.monotonic() < self._until

    def check(self) -> None:
        """Raise where it is not held any more.

        Raises:
            LockLost: It is lost or released.
        """
        if not self.held:
            raise self.loss()

    def loss(self) -> LockLost:
        """Return the error that says why it is not held."""
        why = self.why or ("it was released" if self._ended else f"its lease of {self._lease_s:g} s was not renewed in time")
        return LockLost(f"lock {', '.join(self.resources)} (token {self.token}) is not held any more: {why}")

    def guard(self, *resources: str) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that put the tokens on a record: `mesh.publish(event, headers=grant.guard())`.

        Args:
            resources: Of which; all unless given.

        Raises:
            LockLost: It is not held any more.
            ValueError: It is a shared grant, which is for reading, or has not all of these resources.
        """
        self.check()
        if self.mode == "shared":
            raise ValueError(f"a shared grant of {', '.join(self.resources)} is for reading: ask for an exclusive one to write")
        tokens = dict(zip(self.resources, self.tokens, strict=True))
        if missing := [name for name in resources if name not in tokens]:
            raise ValueError(f"the grant does not have {', '.join(missing)}: it has {', '.join(self.resources)}")
        return fence_headers((name, tokens[name]) for name in resources or self.resources)

    async def renew(self, lease_s: float | None = None) -> None:
        """Let it hold for another lease from now.

        Args:
            lease_s: The new lease, else the old one.

        Raises:
            LockLost: It is not held any more.
            RequestTimedOut: No answer came before the lease ended.
            AntiphonError: The command could not be sent.
        """
        if self._ended or self.lost.is_set():
            raise self.loss()
        began = time.monotonic()
        lease = self._lease_s if lease_s is None else lease_s
        command = RenewLock(
            domain=domain_of(self.resources[0]), grant=self.id, owner=self.owner, lease_ms=None if lease_s is None else _ms(lease)
        )
        try:
            kind, fields = await self._channel.call(
                command, again_s=self._lease_s / AGAIN_SHARE, limit_s=max(0.001, self._until - began)
            )
        except TimeoutError as error:
            raise RequestTimedOut(f"no answer to the renewal of {', '.join(self.resources)} before its lease ended") from error
        if kind == LockRenewed.event_type:
            self._lease_s = lease
            self._until, self._next = began + lease, began + lease / RENEW_SHARE
            self._arm()
            return
        self.lose(fields.get("reason", kind))
        raise self.loss()

    async def release(self) -> None:
        """Give it back and wait until that is decided; a second call does nothing.

        Raises:
            LockLost: It had been lost before.
            RequestTimedOut: No answer came; the lease ends by itself.
            AntiphonError: The command could not be sent.
        """
        if self._ended:
            return
        if self.lost.is_set():
            self.end()
            raise self.loss()
        self.end()
        try:
            kind, fields = await self._channel.call(self.release_command(), again_s=RELEASE_S / 4, limit_s=RELEASE_S)
        except TimeoutError as error:
            raise RequestTimedOut(
                f"no answer to the release of {', '.join(self.resources)} within {RELEASE_S:g} s: see whether the coordination "
                "processor runs; the lease ends by itself"
            ) from error
        if fields.get("code") == "expired":
            self.why = fields["reason"]
            self.lost.set()
            raise self.loss()
        assert kind, "every answer has a type"

    def release_command(self) -> ReleaseLock:
        """Return the command that gives it back."""
        return ReleaseLock(domain=domain_of(self.resources[0]), grant=self.id, owner=self.owner)

    # ---- used by the block

    def heard(self, answer: Answer) -> None:
        """Take what the processor says about it by itself: that it has expired."""
        kind, fields = answer
        if kind == "lock.expired":
            names = ", ".join(fields["next_owners"])
            self.lose("the processor ended its lease" + (f", and {names} has it now" if names else ""))

    def lose(self, why: str) -> None:
        """Note that it is lost, and tell the body."""
        if self._ended or self.lost.is_set():
            return
        self.why = why
        self.lost.set()
        self._stop()
        if self.on_lost is not None:
            self.on_lost()

    def end(self) -> None:
        """Stop looking after it."""
        self._ended = True
        self._stop()
        self._on_end(self)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewing is not None and self._renewing is not asyncio.current_task():
            self._renewing.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        busy = self._renewing is not None and not self._renewing.done()
        at = self._until if busy or not self._renews else min(self._next, self._until)
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._due)

    def _due(self) -> None:
        now = time.monotonic()
        if now >= self._until:
            self.lose(f"its lease of {self._lease_s:g} s was not renewed in time")
            return
        if self._renews and now >= self._next and (self._renewing is None or self._renewing.done()):
            self._next = now + self._lease_s / AGAIN_SHARE  # the next try, should this one fail
            self._renewing = asyncio.ensure_future(self._renew_quietly())
        self._arm()

    async def _renew_quietly(self) -> None:
        try:
            await self.renew()
        except LockLost:
            return  # `lost` says so
        except AntiphonError as error:
            self.why = str(error)  # told if the lease ends before a later try succeeds
        finally:
            self._renewing = None
        if not self.lost.is_set() and not self._ended:
            self._arm()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
