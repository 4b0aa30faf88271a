"""Requests to primitives other than locks: each ends as its answer, or as one of the same few errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, overload

from schemas import coordination_answers as answers
from streams.coordination.errors import VICTIM, DeadlockError, WaitRefused, WaitTimedOut
from streams.coordination.waiting import AGAIN_S, ANEW, ASK_AFTER_S, EXPIRED, Request
from streams.errors import RequestTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.events import Event
    from streams.coordination.channel import Answer
    from streams.coordination.session import Session

__all__ = ["call", "milliseconds", "wait_for"]

_SECONDS_MAX: Final = 1e12
"""Beyond every limit, and it fits into a field."""


async def wait_for(
    session: Session,
    command: Event,
    cancel: Callable[[str], Event],
    *,
    what: str,
    ask_after_s: float = ASK_AFTER_S,
    anew: bool = True,
) -> tuple[Request, str, dict[str, Any]]:
    """Ask for something that may have to be waited for.

    Args:
        session: Whose.
        command: The request; it gets an id of its own.
        cancel: Makes the command that ends the request of an id.
        what: What it is for, in errors.
        ask_after_s: How often it is asked after while it waits.
        anew: Whether it is asked anew where it is not known any more; not where what it asked for may have happened.

    Returns:
        The request, which still listens, with the type and the fields of its answer.

    Raises:
        WaitRefused: It was refused; DeadlockError where that ended a deadlock.
        WaitTimedOut: It waited as long as it said.
        RequestTimedOut: There was no answer at all.
        AntiphonError: It could not be sent, or answers cannot be read.
    """
    while True:
        await session.channel.open()
        request_id = session.channel.new_id()
        asked = command.model_copy(update={"request_id": request_id})
        request = Request(session, asked, cancel=cancel(request_id), what=what, ask_after_s=ask_after_s)
        kind, fields = await request.answer()
        if kind in EXPIRED:
            request.end()
            continue
        if kind == answers.RequestTimedOut.event_type:
            request.end()
            raise WaitTimedOut(f"{what}: waited for {fields['waited_ms'] / 1000:g} s in vain")
        if kind != answers.RequestRefused.event_type:
            return request, kind, fields
        request.end()
        if fields["code"] == VICTIM:
            raise DeadlockError(what, reason=fields["reason"])
        if not (anew and fields["code"] in ANEW):
            raise WaitRefused(what, code=fields["code"], reason=fields["reason"])


async def call(session: Session, command: Event, *, what: str) -> Answer:
    """Give a command that is answered at once, and return its answer.

    Args:
        session: Whose.
        command: The command; it may come twice.
        what: What it is for, in errors.

    Raises:
        WaitRefused: It was refused.
        RequestTimedOut: There was no answer.
        AntiphonError: It could not be sent, or answers cannot be read.
    """
    try:
        kind, fields = await session.channel.call(command, again_s=AGAIN_S, limit_s=session.answer_s)
    except TimeoutError as error:
        raise RequestTimedOut(
            f"no answer to the command for {what} within {session.answer_s:g} s: see whether the coordination processor runs"
        ) from error
    if kind == answers.RequestRefused.event_type:
        raise WaitRefused(what, code=fields["code"], reason=fields["reason"])
    return kind, fields


@overload
def milliseconds(seconds: float) -> int: ...
@overload
def milliseconds(seconds: None) -> None: ...
@overload
def milliseconds(seconds: float | None) -> int | None: ...
def milliseconds(seconds: float | None) -> int | None:
    """Return seconds as whole milliseconds; what is endless or no number as some that the processor refuses."""
    if seconds is None:
        return None
    return -1 if math.isnan(seconds) else round(min(max(seconds, -_SECONDS_MAX), _SECONDS_MAX) * 1000)
