"""A request that may have to wait: sent until it is answered, asked after while queued, cancelled when nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import AntiphonError
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from schemas.events import Event
    from streams.coordination.channel import Answer
    from streams.coordination.leases import Lease
    from streams.coordination.session import Session

__all__ = ["AGAIN_S", "ANEW", "ASK_AFTER_S", "EXPIRED", "Request", "lease_began"]

AGAIN_S: Final = 2.0
"""Without any answer a request is sent again after this: several kafka transactions under load, and a takeover takes longer."""
ASK_AFTER_S: Final = 20.0
"""A request that waits is asked after this often, in case its answer was lost."""
ANEW: Final = frozenset({"forgotten", "ended"})
"""Codes of a request that was sent again: the processor knows nothing of it, or its lease was over before its grant was told.
It is asked anew, under another id."""
EXPIRED: Final = frozenset({"lock.expired", "semaphore.expired"})
"""The end of a grant whose lease was over when it was told; it is asked for anew as well."""
_QUEUED: Final = frozenset({"lock.queued", "request.queued"})


class Request:
    """One request until its answer.

    Args:
        session: Whose.
        command: The command, with a `request_id` that names it and an `again` that says whether it was sent before.
        cancel: Ends it where nobody waits for its answer any more; it may have been granted by then.
        what: What it is for, in errors.
        ask_after_s: How often it is asked after while it waits.
    """

    def __init__(
        self, session: Session, command: Event, *, cancel: Event | None, what: str, ask_after_s: float = ASK_AFTER_S
    ) -> None:
        self._channel, self._answer_s = session.channel, session.answer_s
        self._ask_after_s = ask_after_s
        self._command, self._cancel, self._what = command, cancel, what
        self._id: str = command.request_id  # type: ignore[attr-defined] # the commands of requests have one
        self._future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._lease: Lease | None = None
        self._later: list[Answer] = []
        """What came after the answer, before somebody took over."""
        self._queued = False
        self.over: list[dict[str, Any]] = []
        """Grants whose leases were over when they were told."""
        self.sent = 0.0
        """When it was first sent, by the monotonic clock: its lease does not begin before."""
        self._channel.listen(self._id, self._heard)

    async def answer(self) -> Answer:
        """Send the request until it is answered, and return the answer.

        A grant whose lease is over when it is told is none: it is asked for again. That is what becomes of a request that lay in
        the log before a worker came, for the lease begins where the request lies.

        Raises:
            RequestTimedOut: There was no answer at all, or only such grants.
            AntiphonError: It could not be sent, or answers cannot be read.
        """
        command = self._command
        self.sent = began = time.monotonic()
        again_s = min(AGAIN_S, self._ask_after_s)
        try:
            while True:
                await self._channel.send(command, self._id)
                command = self._command.model_copy(update={"again": True})
                done, _ = await asyncio.wait([self._future], timeout=self._ask_after_s if self._queued else again_s)
                if done:
                    answer = self._future.result()
                    if not self._over(answer):
                        return answer
                    self.over.append(answer[1])
                    self._future, self._later = asyncio.get_running_loop().create_future(), []
                if not self._queued and time.monotonic() - began >= self._answer_s:
                    raise RequestTimedOut(
                        f"no answer to the request for {self._what} within {self._answer_s:g} s"
                        + (", or only when its lease was over" if done else "")
                        + ": see whether the coordination processor runs"
                    )
        except BaseException:
            self.end()
            if self._cancel is not None and self._channel.is_open:
                with contextlib.suppress(AntiphonError):
                    await self._channel.send(self._cancel, self._channel.new_id())
            raise

    def _over(self, answer: Answer) -> bool:
        _, fields = answer
        if "lease_ms" not in fields or "asked_ms" not in fields:
            return False
        lease_s: float = fields["lease_ms"] / 1000
        return lease_began(self.sent, fields) + lease_s <= time.monotonic()

    def hand_over(self, lease: Lease) -> None:
        """Let what has come since the answer, and what comes later, go to the lease."""
        self._lease = lease
        later, self._later = self._later, []
        for answer in later:
            lease.heard(answer)

    def end(self) -> None:
        """Listen no more."""
        self._channel.forget(self._id)

    def _heard(self, answer: Answer | AntiphonError) -> None:
        if self._lease is not None:
            if not isinstance(answer, AntiphonError):
                self._lease.heard(answer)
        elif isinstance(answer, AntiphonError):
            if not self._future.done():
                self._future.set_exception(answer)
        elif answer[0] in _QUEUED:
            self._queued = True
        elif not self._future.done():
            self._future.set_result(answer)
        else:
            self._later.append(answer)


def lease_began(sent: float, granted: dict[str, Any]) -> float:
    """Return when a lease began at the earliest, by this machine's monotonic clock.

    The processor had the request after it was sent here, and granted it so long after it had it as the answer says: both moments
    are by the processor's clock, so this machine's may be wrong by hours, and the process may have been frozen meanwhile.

    Args:
        sent: When the request was first sent, monotonic.
        granted: The answer, with `asked_ms`, `expires_ms` and `lease_ms`.
    """
    waited_ms: int = granted["expires_ms"] - granted["lease_ms"] - granted["asked_ms"]
    return min(time.monotonic(), sent + max(0, waited_ms) / 1000)
