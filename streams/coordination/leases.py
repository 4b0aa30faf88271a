"""Something that is held for a time: its token, its lease, and how its holder learns that it has lost it.

The lease is counted from before the request was sent (see `lease_began`), by this machine's monotonic clock, so its end here is
never after its end at the processor. When a third of it has passed it is renewed, by a timer: a body that waits minutes for a
model's answer keeps what it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from schemas.errors import AntiphonError
from streams.coordination.calls import milliseconds
from streams.coordination.errors import CoordinationError, LockRefused, WaitRefused
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from schemas.events import Event
    from streams.coordination.channel import Answer
    from streams.coordination.session import Session

__all__ = ["Held", "Lease"]

RENEW_SHARE: Final = 3
"""Renewed after this part of the lease: two more tries fit into the rest."""
AGAIN_SHARE: Final = 6
"""Sent again when there is no answer for this part of the lease."""
RELEASE_AGAIN_S: Final = 2.0
RELEASE_S: Final = 30.0
"""How long a release waits for its answer, longer than a takeover takes; the lease ends without it too."""


class Lease:
    """A base: what is held, from its grant to its end. A primitive says what its commands and events are.

    Attributes:
        id: Names it: the request that asked for it.
        owner: Who holds it.
        token: The fencing token.
        lost: Set when the lease is gone; `why` then says how.
    """

    renewed: ClassVar[str]
    """The type of the answer to a renewal."""
    expired: ClassVar[str]
    """The type of the event that says that the processor has ended it."""
    lost_error: ClassVar[type[CoordinationError]]
    """What is raised where it is not held any more."""
    refused_error: ClassVar[type[LockRefused | WaitRefused]] = WaitRefused
    """What is raised where a renewal asks for what is not allowed."""

    def __init__(
        self, session: Session, *, lease_id: str, owner: str, token: int, lease_s: float, since: float, renews: bool
    ) -> None:
        self._session, self._channel = session, session.channel
        self.id, self.owner, self.token = lease_id, owner, token
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
        session.held.add(self)
        self._arm()

    # ---- what a primitive says

    @property
    def what(self) -> str:
        """What is held, in errors."""
        raise NotImplementedError

    def renew_command(self, lease_ms: int | None) -> Event:
        """Return the command that renews it; None keeps the lease's length."""
        raise NotImplementedError

    def release_command(self) -> Event:
        """Return the command that gives it back."""
        raise NotImplementedError

    def expiry(self, fields: dict[str, Any]) -> str:  # noqa: ARG002 - for those that know more
        """Return what the event of its end says to the holder."""
        return "the processor ended its lease"

    async def renewed_with(self, fields: dict[str, Any]) -> None:
        """Take what else the answer to a renewal says; for those that want to know."""

    # ---- for the holder

    @property
    def held(self) -> bool:
        """Whether it is held, as far as can be known here."""
        return not self._ended and not self.lost.is_set() and time.monotonic() < self._until

    @property
    def given_back(self) -> bool:
        """Whether its holder gave it back before it was lost."""
        return self._ended and not self.lost.is_set()

    def check(self) -> None:
        """Raise where it is not held any more.

        Raises:
            CoordinationError: It is lost or released.
        """
        if not self.held:
            raise self.loss()

    def loss(self) -> CoordinationError:
        """Return the error that says why it is not held."""
        why = self.why or ("it was released" if self._ended else f"its lease of {self._lease_s:g} s was not renewed in time")
        return self.lost_error(f"{self.what} (token {self.token}) is not held any more: {why}")

    async def renew(self, lease_s: float | None = None) -> None:
        """Let it hold for another lease from now.

        Args:
            lease_s: The new lease, else the old one.

        Raises:
            CoordinationError: It is not held any more; or such a lease is not allowed, and it is held as before.
            RequestTimedOut: No answer came before the lease ended.
            AntiphonError: The command could not be sent.
        """
        if self._ended or self.lost.is_set():
            raise self.loss()
        began = time.monotonic()
        lease = self._lease_s if lease_s is None else lease_s
        command = self.renew_command(milliseconds(lease_s))
        limit_s = max(0.001, self._until - began)
        try:
            kind, fields = await self._channel.call(command, again_s=self._lease_s / AGAIN_SHARE, limit_s=limit_s)
        except TimeoutError as error:
            raise RequestTimedOut(f"no answer to the renewal of {self.what} before its lease ended") from error
        if kind == self.renewed:
            self._lease_s = lease
            self._until, self._next = began + lease, began + lease / RENEW_SHARE
            self._arm()
            await self.renewed_with(fields)
            return
        reason, code = fields.get("reason", kind), fields.get("code", "")
        if code.startswith("bad_"):
            raise self.refused_error(self.what, code=code, reason=reason)
        self.lose(reason)
        raise self.loss()

    async def release(self) -> None:
        """Give it back and wait until that is decided; a second call does nothing.

        Raises:
            CoordinationError: It had been lost before.
            RequestTimedOut: No answer came; the lease ends by itself.
            AntiphonError: The command could not be sent.
        """
        await self._give_back(self.release_command())

    async def _give_back(self, command: Event) -> None:
        if self._ended:
            return
        if self.lost.is_set():
            self.end()
            raise self.loss()
        self.end()
        try:
            _, fields = await self._channel.call(command, again_s=RELEASE_AGAIN_S, limit_s=RELEASE_S)
        except TimeoutError as error:
            raise RequestTimedOut(
                f"no answer to the release of {self.what} within {RELEASE_S:g} s: see whether the coordination processor runs; "
                "the lease ends by itself"
            ) from error
        code = fields.get("code", "")
        if code == "expired" or (code and time.monotonic() >= self._until):  # within the lease: an earlier try has released it
            self.why = fields["reason"]
            self.lost.set()
            raise self.loss()

    # ---- for who looks after it

    def heard(self, answer: Answer) -> None:
        """Take what the processor says about it by itself: that it has ended."""
        kind, fields = answer
        if kind == self.expired:
            self.lose(self.expiry(fields))

    def lose(self, why: str) -> None:
        """Note that it is lost, and tell the holder."""
        if self._ended or self.lost.is_set():
            return
        self.why = why
        self.lost.set()
        self._forget()
        if self.on_lost is not None:
            self.on_lost()

    def end(self) -> None:
        """Stop looking after it."""
        self._ended = True
        self._forget()

    def _forget(self) -> None:
        self._session.held.discard(self)
        self._channel.forget(self.id)
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
        except CoordinationError:
            return  # `lost` says so
        except AntiphonError as error:
            self.why = str(error)  # told if the lease ends before a later try succeeds
        finally:
            self._renewing = None
        if not self.lost.is_set() and not self._ended:
            self._arm()


L = TypeVar("L", bound=Lease)


class Held(Generic[L]):
    """A lease for the time of a block, which is cancelled when the lease is gone.

    Args:
        acquire: Asks for it.
    """

    def __init__(self, acquire: Callable[[], Awaitable[L]]) -> None:
        self._acquire = acquire
        self._lease: L | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def acquire(self) -> L:
        """Ask for it without a block: `release` gives it back, and `lost` has to be watched."""
        return await self._acquire()

    async def __aenter__(self) -> L:
        """Wait for it."""
        if self._lease is not None:
            raise RuntimeError("a block is entered once: ask the mesh for another one")
        lease = self._lease = await self.acquire()
        self._task = asyncio.current_task()
        lease.on_lost = self._lost
        if lease.lost.is_set():
            self._lost()
        return lease

    def _lost(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel("the lease was lost")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give it back.

        Raises:
            CoordinationError: The lease ended before; with what the body raised as its cause.
        """
        lease, task = self._lease, self._task
        assert lease is not None
        assert task is not None
        self._task = None
        if lease.given_back:
            return  # in the block, by its holder
        held = lease.held
        if not held and not lease.lost.is_set():
            lease.lose("")  # its end has come, and its timer has not been called yet
        if self._cancelled:
            if not isinstance(error, asyncio.CancelledError):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # the cancellation that came as the body ended
            if task.uncancel() > 0:
                lease.end()
                return  # somebody else cancelled the task too, and that goes on
        if not held:
            lease.end()
            if error is None or isinstance(error, Exception | asyncio.CancelledError):
                raise lease.loss() from error
            return
        if error is None:
            await lease.release()
        else:
            with contextlib.suppress(AntiphonError):  # what the body raised counts; the lease ends by itself
                await lease.release()
