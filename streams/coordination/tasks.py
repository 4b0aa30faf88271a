"""A task in the hands of the agent that has it.

    async with task:                                  # done at the end of the block, failed where it raises
        await mesh.publish(Built(...), headers=task.guard())
        task.result = {"image": "..."}                # what `handle.result()` returns; JSON

The block is cancelled when the task is lost: its agent is taken for dead, it took too long, or nobody wants it done any more.
Without a block, `done`, `fail` and `give_back` end it, and `lost` has to be watched.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

from schemas import tasks as events
from schemas.errors import AntiphonError
from schemas.naming import domain_of
from streams.coordination.calls import call, milliseconds
from streams.coordination.errors import TaskLost, WaitRefused
from streams.coordination.words import from_json, to_json
from streams.core.guards import fence_headers

if TYPE_CHECKING:
    from types import TracebackType

    from streams.coordination.agents import Agent
    from streams.coordination.session import Session

__all__ = ["Task"]

ERROR_CHARS_MAX: Final = 1_000
"""Of what an attempt says that it failed of: a line for a person; the processor takes some more."""
_GUARD: Final = "task:"


class Task:
    """One attempt at a task; made by its agent.

    Attributes:
        id: Names the task in all its attempts.
        pool: Where it was assigned.
        payload: What is to be done.
        token: The fencing token of this attempt: larger than that of every one before.
        attempt: 1, 2, 3 and so on.
        weight: How much of the agent's capacity it takes.
        result: What the end of the block reports.
        lost: Set when the attempt is over without the agent's doing; `why` then says how.
    """

    def __init__(self, session: Session, agent: Agent, fields: dict[str, Any]) -> None:
        """Take what was assigned.

        Args:
            session: Whose.
            agent: Who has it.
            fields: Those of `WorkAssigned`.
        """
        self._session, self._agent = session, agent
        self.id: str = fields["request_id"]
        self.pool: str = fields["name"]
        self.payload: Any = from_json(fields["payload"])
        self.token: int = fields["token"]
        self.attempt: int = fields["attempt"]
        self.weight: int = fields["weight"]
        self.result: Any = None
        self.lost = asyncio.Event()
        self.why = ""
        self._ended = False
        self._body: asyncio.Task[Any] | None = None
        self._interrupted = False

    @property
    def what(self) -> str:
        """The attempt, in errors."""
        return f"attempt {self.attempt} at task {self.id} of {self.pool} (token {self.token})"

    @property
    def held(self) -> bool:
        """Whether its agent has it, as far as can be known here."""
        return not self._ended and not self.lost.is_set() and self._agent.held

    def check(self) -> None:
        """Raise where the agent does not have it any more.

        Raises:
            TaskLost: It is lost, or ended.
        """
        if not self.held:
            raise self.loss()

    def loss(self) -> TaskLost:
        """Return the error that says why the agent does not have it."""
        why = self.why or ("it was ended here" if self._ended else "its agent was not heard of within its lease")
        return TaskLost(f"{self.what} is over: {why}")

    def guard(self) -> tuple[tuple[str, bytes], ...]:
        """Return the header that puts the token on a record: `mesh.publish(event, headers=task.guard())`.

        A guard knows it as `task:<id>`.

        Raises:
            TaskLost: The agent does not have it any more.
        """
        self.check()
        return fence_headers([(_GUARD + self.id, self.token)])

    async def done(self, result: Any = None) -> None:  # noqa: ANN401 - any JSON value
        """End the task: nobody does it again.

        Args:
            result: What `handle.result()` returns; JSON, 4,096 characters at most. Name what is larger.

        Raises:
            TaskLost: The attempt was over before.
            WaitRefused: The result is too large ("bad_result"); the agent has the task as before.
            RequestTimedOut: No coordination processor answers; say it again.
            BrokerError: The command was not delivered.
        """
        domain, text = domain_of(self.pool), to_json(result)
        await self._report(
            events.FinishWork(domain=domain, request_id=self.id, owner=self._agent.owner, token=self.token, result=text)
        )

    async def fail(self, error: str = "", *, retry_in_s: float | None = None) -> bool:
        """End this attempt, and return whether there will be another one.

        Args:
            error: Why; what is longer than 1,000 characters is cut.
            retry_in_s: How long nobody gets the task; its back-off unless given.

        Raises:
            TaskLost: The attempt was over before.
            WaitRefused: The delay is not allowed ("bad_delay"); the agent has the task as before.
            RequestTimedOut: No coordination processor answers; say it again.
            BrokerError: The command was not delivered.
        """
        return await self._return(failed=True, error=error[:ERROR_CHARS_MAX], delay_s=retry_in_s)

    async def give_back(self, *, delay_s: float = 0.0) -> None:
        """Let another agent do the task; this is not counted as an attempt.

        Args:
            delay_s: How long nobody gets it.

        Raises:
            TaskLost: The attempt was over before.
            WaitRefused: The delay is not allowed ("bad_delay"); the agent has the task as before.
            RequestTimedOut: No coordination processor answers; say it again.
            BrokerError: The command was not delivered.
        """
        await self._return(failed=False, error="", delay_s=delay_s)

    # ---- for who looks after it

    def lose(self, why: str) -> None:
        """Note that the attempt is over, and tell the block."""
        if self._ended or self.lost.is_set():
            return
        self.why = why
        self.lost.set()
        self._agent.forget(self)
        self._interrupt()

    async def _return(self, *, failed: bool, error: str, delay_s: float | None) -> bool:
        command = events.ReturnWork(
            domain=domain_of(self.pool),
            request_id=self.id,
            owner=self._agent.owner,
            token=self.token,
            failed=failed,
            error=error,
            delay_ms=milliseconds(delay_s),
        )
        return await self._report(command) == events.WorkReturned.event_type

    async def _report(self, command: events.FinishWork | events.ReturnWork) -> str:
        self.check()
        try:
            kind, _ = await call(self._session, command, what=self.what)
        except WaitRefused as refused:
            if refused.code.startswith("bad_"):
                raise
            self.lose(refused.reason)
            raise self.loss() from refused
        self._ended = True
        self._agent.forget(self)
        await self._agent.left()
        return kind

    # ---- the block

    async def __aenter__(self) -> Self:
        """Begin to do it."""
        if self._body is not None:
            raise RuntimeError("a task is done in one block")
        self._body = asyncio.current_task()
        if self.lost.is_set():
            self._interrupt()
        return self

    def _interrupt(self) -> None:
        if self._body is not None and not self._interrupted:
            self._interrupted = True
            self._body.cancel("the task was lost")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it: done, failed with what the body raised, or given back where the body was cancelled by somebody else.

        Raises:
            TaskLost: The attempt was over before; with what the body raised as its cause.
        """
        body, self._body = self._body, None
        assert body is not None
        if self._interrupted:
            if not isinstance(error, asyncio.CancelledError):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # the cancellation that came as the body ended
            if body.uncancel() > 0:
                return  # somebody else cancelled it too, and that goes on
        if self._ended:
            return  # in the block, by who does it
        if not self.held:
            if error is None or isinstance(error, Exception | asyncio.CancelledError):
                raise self.loss() from error
            return
        if error is None:
            try:
                await self.done(self.result)
            except (TypeError, ValueError, WaitRefused) as wrong:  # no JSON, or too large: it is not done
                await self._failed(wrong)
                raise
        elif isinstance(error, Exception):
            await self._failed(error)
        else:
            with contextlib.suppress(AntiphonError):
                await self.give_back()

    async def _failed(self, error: Exception) -> None:
        with contextlib.suppress(AntiphonError):  # what the body raised counts; without an answer the lease ends the attempt
            await self.fail(f"{type(error).__name__}: {error}")
