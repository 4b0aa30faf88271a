"""Locks for agent services.

    async with mesh.lock("repo/main", lease_s=30) as grant:
        await mesh.publish(ChangeWritten(...), headers=grant.guard())      # refused by a guard once the lock is lost
        ...                                                                # cancelled when the lease is gone: LockLost

    async with mesh.lock(["repo/a", "repo/b"], mode="shared", wait_s=5):   # both or none

Without an `owner` each asyncio task is an owner of its own: two tasks exclude each other, and a task that asks again for what it
has gets it at once. Tasks that are to share a lock name the same owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary

from schemas.coordination import AcquireLock, CancelLock, LockGranted, LockQueued, LockTimedOut
from schemas.errors import AntiphonError
from schemas.naming import domain_of
from streams.coordination.errors import LockRefused
from streams.coordination.errors import LockTimedOut as WaitTimedOut
from streams.coordination.grants import Grant
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from types import TracebackType

    from streams.coordination.channel import Answer, Channel

__all__ = ["LockBlock", "LockClient"]

AGAIN_S: Final = 2.0
"""Without any answer a request is sent again after this: several kafka transactions under load, and a takeover takes longer."""
ASK_AFTER_S: Final = 20.0
"""A request that waits is asked after this often, in case its answer was lost."""
_FORGOTTEN: Final = "forgotten"


class LockClient:
    """The locks of one mesh.

    Args:
        channel: How it speaks with the processor.
        name: The client id, which begins the names of owners.
        answer_s: How long a request may stay without any answer.
    """

    def __init__(self, channel: Channel, *, name: str, answer_s: float) -> None:
        self._channel, self._name, self._answer_s = channel, name, answer_s
        self._numbers = itertools.count(1)
        self._owners: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        self._grants: set[Grant] = set()

    def owner(self) -> str:
        """Return the running task's name as an owner."""
        task = asyncio.current_task()
        assert task is not None, "a lock is asked for in a task"
        found = self._owners.get(task)
        if found is None:
            found = self._owners[task] = f"{self._name[:200]}:{self._channel.instance}:{next(self._numbers)}"
        return found

    async def acquire(
        self,
        resources: tuple[str, ...],
        *,
        mode: Literal["exclusive", "shared"],
        wait_s: float | None,
        lease_s: float,
        priority: int,
        owner: str,
        renew: bool,
    ) -> Grant:
        """Ask for a lock and wait for it; see `Mesh.lock`."""
        command = AcquireLock(
            domain=domain_of(resources[0]) if resources else "",
            request_id="-",
            owner=owner or self.owner(),
            resources=list(resources),
            mode=mode,
            wait_ms=None if wait_s is None else round(wait_s * 1000),
            lease_ms=round(lease_s * 1000),
            priority=priority,
        )
        while True:
            await self._channel.open()
            request = _Request(self._channel, command.model_copy(update={"request_id": self._channel.new_id()}), self._answer_s)
            kind, fields = await request.answer()
            if kind == LockGranted.event_type:
                return self._grant(request, fields, renew=renew)
            request.end()
            if kind == LockTimedOut.event_type:
                raise WaitTimedOut(f"lock {', '.join(resources)} was not free within {fields['waited_ms'] / 1000:g} s")
            if fields["code"] != _FORGOTTEN:
                raise LockRefused(", ".join(resources), code=fields["code"], reason=fields["reason"])

    def _grant(self, request: _Request, fields: dict[str, Any], *, renew: bool) -> Grant:
        lease_s = fields["lease_ms"] / 1000
        since = request.sent
        if request.queued:
            left_s = fields["expires_ms"] / 1000 - time.time()
            since = time.monotonic() - (lease_s / 3 if left_s < lease_s * 2 / 3 else 0.0)
        grant = Grant(
            self._channel,
            grant_id=fields["request_id"],
            owner=fields["owner"],
            resources=tuple(fields["resources"]),
            tokens=tuple(fields["tokens"]),
            mode=fields["mode"],
            lease_s=lease_s,
            since=since,
            renews=renew,
            on_end=self._ended,
        )
        request.hand_over(grant)
        self._grants.add(grant)
        return grant

    def _ended(self, grant: Grant) -> None:
        self._grants.discard(grant)
        self._channel.forget(grant.id)

    async def close(self) -> None:
        """Give back what is still held, without waiting for answers."""
        for grant in list(self._grants):
            grant.lose("the client was closed")
            grant.end()
            with contextlib.suppress(AntiphonError):
                await self._channel.send(grant.release_command(), self._channel.new_id())
        await self._channel.close()


class _Request:
    """One request for a lock until its answer."""

    def __init__(self, channel: Channel, command: AcquireLock, answer_s: float) -> None:
        self._channel, self._command, self._answer_s = channel, command, answer_s
        self._future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._grant: Grant | None = None
        self.queued = False
        self.sent = 0.0
        """When it was first sent, monotonic: its lease does not begin before."""
        channel.listen(command.request_id, self._heard)

    def _heard(self, answer: Answer | AntiphonError) -> None:
        if self._grant is not None:
            if not isinstance(answer, AntiphonError):
                self._grant.heard(answer)
        elif isinstance(answer, AntiphonError):
            if not self._future.done():
                self._future.set_exception(answer)
        elif answer[0] == LockQueued.event_type:
            self.queued = True
        elif not self._future.done():
            self._future.set_result(answer)

    async def answer(self) -> Answer:
        """Send the request until it is answered.

        Raises:
            RequestTimedOut: There was no answer at all.
            AntiphonError: It could not be sent, or answers cannot be read.
        """
        command = self._command
        self.sent = began = time.monotonic()
        try:
            while True:
                await self._channel.send(command, command.request_id)
                command = self._command.model_copy(update={"again": True})
                done, _ = await asyncio.wait([self._future], timeout=ASK_AFTER_S if self.queued else AGAIN_S)
                if done:
                    return self._future.result()
                if not self.queued and time.monotonic() - began >= self._answer_s:
                    raise RequestTimedOut(
                        f"no answer to the request for {', '.join(command.resources)} within {self._answer_s:g} s: "
                        "see whether the coordination processor runs"
                    )
        except BaseException:
            self.end()
            if self._channel.is_open:  # it may be granted all the same, to nobody
                cancel = CancelLock(domain=command.domain, request_id=command.request_id, owner=command.owner)
                with contextlib.suppress(AntiphonError):
                    await self._channel.send(cancel, self._channel.new_id())
            raise

    def hand_over(self, grant: Grant) -> None:
        """Let what comes later go to the grant."""
        self._grant = grant

    def end(self) -> None:
        """Listen no more."""
        self._channel.forget(self._command.request_id)


class LockBlock:
    """A lock for the time of a block; made by `Mesh.lock`."""

    def __init__(self, client: LockClient, resources: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401 - those of `Mesh.lock`
        self._client, self._resources, self._options = client, resources, options
        self._grant: Grant | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def acquire(self) -> Grant:
        """Ask for the lock without a block: `Grant.release` gives it back, and `Grant.lost` has to be watched."""
        return await self._client.acquire(self._resources, **self._options)

    async def __aenter__(self) -> Grant:
        """Wait for the lock."""
        if self._grant is not None:
            raise RuntimeError("a lock's block is entered once: call mesh.lock again")
        grant = self._grant = await self.acquire()
        self._task = asyncio.current_task()
        grant.on_lost = self._lost
        if grant.lost.is_set():
            self._lost()
        return grant

    def _lost(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel("the lock was lost")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give it back.

        Raises:
            LockLost: The lease ended before; with what the body raised as its cause.
        """
        grant, task = self._grant, self._task
        assert grant is not None
        assert task is not None
        self._task = None
        held = grant.held
        if not held and not grant.lost.is_set():
            grant.lose("")  # its end has come, and its timer has not been called yet
        if self._cancelled:
            if not isinstance(error, asyncio.CancelledError):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # the cancellation that came as the body ended
            if task.uncancel() > 0:
                grant.end()
                return  # somebody else cancelled the task too, and that goes on
        if not held:
            grant.end()
            if error is None or isinstance(error, Exception | asyncio.CancelledError):
                raise grant.loss() from error
            return
        if error is None:
            await grant.release()
        else:
            with contextlib.suppress(AntiphonError):  # what the body raised counts; the lease ends by itself
                await grant.release()
