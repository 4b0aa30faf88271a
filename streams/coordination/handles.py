"""A task in the hands of who wants it done.

    handle = await mesh.assign({"review": 42}, needs=["python"])   # an agent has it
    print(handle.agent, await handle.result())

What becomes of the task is told as it happens. A handle asks after it only while somebody waits on it; a handle that is dropped
changes nothing for its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from schemas import coordination_answers as answers
from schemas import tasks as events
from schemas.errors import AntiphonError
from streams.coordination.calls import call
from streams.coordination.errors import TaskFailed, WaitRefused, WaitTimedOut
from streams.coordination.waiting import AGAIN_S, ASK_AFTER_S
from streams.coordination.words import from_json
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.channel import Answer
    from streams.coordination.session import Session

__all__ = ["TaskHandle"]

_ENDS: Final = {
    answers.RequestRefused.event_type: "refused",
    answers.RequestTimedOut.event_type: "timed_out",
}


class TaskHandle:
    """A task that was submitted; made by `mesh.assign` and `WorkQueue.put`.

    Attributes:
        id: Names it.
        pool: Where it was submitted.
        state: "waiting", "assigned", "finished", "given_up", "cancelled", "timed_out" or "refused", as far as is known here.
        agent: Who has it or had it last; empty if nobody.
        token: Of its present or last attempt.
        attempt: 1, 2, 3 and so on; 0 before the first.
    """

    def __init__(self, session: Session, command: events.SubmitWork) -> None:
        """Listen for what becomes of a task.

        Args:
            session: Whose.
            command: What submits it.
        """
        self._session, self._command = session, command
        self.id, self.pool = command.request_id, command.name
        self.state, self.agent, self.token, self.attempt = "", "", 0, 0
        self._end: Answer | None = None
        self._error: AntiphonError | None = None
        self._changed = asyncio.Event()
        session.channel.listen(self.id, self._heard)

    @property
    def what(self) -> str:
        """The task, in errors."""
        return f"task {self.id} of {self.pool}"

    @property
    def ended(self) -> bool:
        """Whether it has ended, as far as is known here."""
        return self._end is not None

    async def result(self, *, timeout_s: float | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Wait for its end, and return its result.

        Args:
            timeout_s: How long to wait; None waits as long as it takes.

        Raises:
            TaskFailed: It was given up or cancelled.
            WaitTimedOut: It has not ended in time, and goes on; or no agent came within its own limit, and it has ended.
            WaitRefused: It is not known any more ("forgotten"): it ended so long ago that its result is not remembered.
            BrokerError: The broker does not answer.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self.ended)
        except TimeoutError as error:
            raise WaitTimedOut(f"{self.what} has not ended within {timeout_s:g} s: it is {self.state}") from error
        assert self._end is not None
        _, fields = self._end
        if self.state == "finished":
            return from_json(fields["text"])
        if self.state == "timed_out":
            raise WaitTimedOut(f"{self.what}: no agent for it within {fields['waited_ms'] / 1000:g} s")
        if self.state == "refused":
            raise WaitRefused(self.what, code=fields["code"], reason=fields["reason"])
        raise TaskFailed(self.what, how=self.state, error=fields["text"], attempts=fields["attempt"])

    async def cancel(self) -> bool:
        """Have it not done any more; return False where it had ended before.

        Raises:
            RequestTimedOut: No coordination processor answers.
            BrokerError: The command was not delivered.
        """
        try:
            await call(self._session, self._cancel(), what=self.what)
        except WaitRefused as refused:
            if refused.code != "ended":
                raise
            return False
        return True

    # ---- for who submits

    async def submitted(self, *, assigned: bool) -> None:
        """Submit it, and wait until it is kept, or until an agent has it; where that fails it is cancelled.

        Args:
            assigned: Whether to wait for an agent.

        Raises:
            WaitRefused: It was refused.
            WaitTimedOut: No agent came in time.
            RequestTimedOut: No coordination processor answers.
            AntiphonError: It could not be sent.
        """
        try:
            await self._until(lambda: self.ended or (bool(self.token) if assigned else bool(self.state)))
        except BaseException:
            channel = self._session.channel
            channel.forget(self.id)
            if channel.is_open:
                with contextlib.suppress(AntiphonError):
                    await channel.send(self._cancel(), channel.new_id())
            raise
        if self.state in ("refused", "timed_out"):
            await self.result()

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Send the task until it is answered, and ask after it from then on, until what is waited for has come."""
        channel, began = self._session.channel, time.monotonic()
        ask = not self._command.again
        while True:
            self._changed.clear()
            if reached():
                return
            if ask:
                await channel.open()
                command, self._command = self._command, self._command.model_copy(update={"again": True})
                await channel.send(command, self.id)
            ask = not await self._hears(ASK_AFTER_S if self.state else AGAIN_S)
            if ask and not self.state and time.monotonic() - began >= self._session.answer_s:
                raise RequestTimedOut(
                    f"no answer to {self.what} within {self._session.answer_s:g} s: see whether the coordination processor runs"
                )

    async def _hears(self, within_s: float) -> bool:
        """Wait until something is heard, and return whether it was.

        Raises:
            AntiphonError: It could not be sent, or answers cannot be read.
        """
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def _cancel(self) -> events.CancelWork:
        command = self._command
        return events.CancelWork(domain=command.domain, request_id=self.id, owner=command.owner)

    def _heard(self, answer: Answer | AntiphonError) -> None:
        if isinstance(answer, AntiphonError):
            self._error = answer
        else:
            kind, fields = answer
            if kind == events.WorkAssigned.event_type:
                self.state, self.agent = "assigned", fields["agent"]
                self.token, self.attempt = fields["token"], fields["attempt"]
            elif kind in _ENDS or kind == events.WorkEnded.event_type:
                self.state = _ENDS.get(kind) or fields["how"]
                self._end = answer
                self._session.channel.forget(self.id)
            else:  # queued, or returned
                self.state = "waiting"
        self._changed.set()
