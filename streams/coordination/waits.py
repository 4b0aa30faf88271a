"""Waits that coordination does not see itself, told so that deadlocks through them are found; see `Mesh.waiting_for`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Self

from schemas.errors import AntiphonError
from schemas.waits import DeadlockFound, WaitBegan, WaitEnded
from streams.coordination.errors import DeadlockError
from streams.errors import TopicMissing

if TYPE_CHECKING:
    from types import TracebackType

    from streams.coordination.news import Following
    from streams.coordination.session import Session

__all__ = ["ToldWait"]

log = logging.getLogger(__name__)

LEASE_MS: Final = 30_000
"""A wait whose client has died counts for so long."""
TOLD_SHARE: Final = 3
"""It is told again after this part of its lease."""
_FOUND: Final = frozenset({DeadlockFound.event_type})


class ToldWait:
    """A wait for the time of a block, which is cancelled where its owner is to give up.

    Args:
        session: Whose.
        waits_for: Owners.
        owner: Who waits.
        kind: What the wait is called.
        domain: The key of its events.
        priority: Of the wait.
    """

    def __init__(
        self, session: Session, waits_for: tuple[str, ...], *, owner: str, kind: str, domain: str, priority: int
    ) -> None:
        self._session, self._channel = session, session.channel
        self.request_id = session.channel.new_id()
        self._began = WaitBegan(
            domain=domain,
            request_id=self.request_id,
            owner=owner,
            kind=kind,
            waits_for=list(waits_for),
            priority=priority,
            lease_ms=LEASE_MS,
        )
        self._following: Following | None = None
        self._running: list[asyncio.Task[None]] = []
        self._task: asyncio.Task[Any] | None = None
        self._reason = ""

    async def now_for(self, *waits_for: str) -> None:
        """Tell that it waits for these owners now, in place of those before.

        Raises:
            AntiphonError: It could not be told.
        """
        self._began = self._began.model_copy(update={"waits_for": list(waits_for)})
        await self._channel.publish(self._began)

    async def __aenter__(self) -> Self:
        """Tell it.

        Raises:
            AntiphonError: It could not be told.
        """
        following = self._session.deadlocks.follow(self.request_id, _FOUND, field="request_id")
        try:
            self._following = await following.__aenter__()
        except TopicMissing as missing:  # nobody looks for deadlocks: then nobody finds one
            log.debug("%s", missing)
        try:
            await self._channel.publish(self._began)
        except BaseException:
            await self._end()
            raise
        self._task = asyncio.current_task()
        self._running.append(asyncio.ensure_future(self._tell_again()))
        if self._following is not None:
            self._running.append(asyncio.ensure_future(self._listen(self._following)))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell that it has ended.

        Raises:
            DeadlockError: Its owner was chosen to give up.
        """
        task = self._task
        assert task is not None
        await self._end()
        try:
            await self._channel.publish(WaitEnded(domain=self._began.domain, request_id=self.request_id))
        except AntiphonError as problem:  # what the body did counts
            log.warning("the end of wait %s could not be told: %s", self.request_id, problem)
        if self._reason and isinstance(error, asyncio.CancelledError) and task.uncancel() == 0:
            raise DeadlockError(f"{self._began.kind} of {self._began.owner}", reason=self._reason) from None

    async def _tell_again(self) -> None:
        while True:
            await asyncio.sleep(LEASE_MS / 1000 / TOLD_SHARE)
            try:
                await self._channel.publish(self._began)
            except AntiphonError as problem:
                log.warning("wait %s could not be told again: %s", self.request_id, problem)

    async def _listen(self, following: Following) -> None:
        try:
            _, fields = await anext(following)
        except AntiphonError as error:
            log.warning("deadlocks are not heard of any more: %s", error)
            return
        self._reason = fields["reason"]
        if self._task is not None:
            self._task.cancel("a deadlock")

    async def _end(self) -> None:
        for one in self._running:
            one.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._following is not None:
            await self._following.__aexit__(None, None, None)
