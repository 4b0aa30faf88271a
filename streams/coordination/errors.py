"""What coordination raises in an agent service."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from schemas.errors import AntiphonError, Fault

if TYPE_CHECKING:
    from streams.coordination.consensus import Decision

__all__ = [
    "AgentLost",
    "AlreadyDecided",
    "BarrierBroken",
    "CoordinationError",
    "DeadlockError",
    "LeadershipLost",
    "LockLost",
    "LockRefused",
    "LockTimedOut",
    "PermitsLost",
    "TaskFailed",
    "TaskLost",
    "WaitRefused",
    "WaitTimedOut",
]

VICTIM: Final = "victim"
"""The code where a request was refused to end a deadlock."""
_RETRYABLE: Final = frozenset(
    {"busy", "queue_full", "owner_full", "full", "no_agent", "too_many_agents", "too_many_kinds", VICTIM, "forgotten"}
)


class CoordinationError(AntiphonError):
    """A base: something was not granted, or is not held any more."""


class LockRefused(CoordinationError):
    """The request was refused. `code` says why for programs: busy, upgrade_deadlock, victim, queue_full, bad_name and so on."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, what: str, *, code: str, reason: str) -> None:
        """Say what was refused and why.

        Args:
            what: The resources.
            code: For programs.
            reason: For people.
        """
        self.code, self.reason = code, reason
        self.retryable = code in _RETRYABLE  # type: ignore[misc] # by its code
        super().__init__(f"lock {what} was refused ({code}): {reason}")


class LockTimedOut(CoordinationError):
    """The lock was not free in time. Try again, or wait longer."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "caller"


class LockLost(CoordinationError):
    """The lease ended before the lock was released, so somebody else may have it: what was begun under it may be half done.

    Writes that carry `grant.guard()` are refused from then on, wherever a guard is.
    """

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"


class WaitRefused(CoordinationError):
    """A request to a primitive other than a lock was refused. `code` says why for programs, `reason` for people."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, what: str, *, code: str, reason: str) -> None:
        """Say what was refused and why.

        Args:
            what: The primitive and its name.
            code: For programs.
            reason: For people.
        """
        self.code, self.reason = code, reason
        self.retryable = code in _RETRYABLE  # type: ignore[misc] # by its code
        super().__init__(f"{what} was refused ({code}): {reason}")


class DeadlockError(LockRefused, WaitRefused):
    """Owners waited for each other, and this one was chosen to give up: `reason` has the whole cycle (docs/deadlocks.md).

    What the blocks around it hold is given back as they are left; then try again, from the beginning and after a moment. Where it
    comes again and again take locks in one order, or several in one request.
    """

    retryable: ClassVar[bool] = True

    def __init__(self, what: str, *, reason: str) -> None:
        """Say what was waited for, and who waits for whom.

        Args:
            what: What this one waited for.
            reason: The cycle.
        """
        self.code, self.reason = VICTIM, reason
        CoordinationError.__init__(self, f"{what} was refused: {reason}")


class WaitTimedOut(CoordinationError):
    """What was waited for did not come in time. Try again, or wait longer."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "caller"


class PermitsLost(CoordinationError):
    """The lease of permits ended before they were released, so others may have them: more may be at work than are allowed."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"


class LeadershipLost(CoordinationError):
    """The lease ended before the leader resigned, so another may lead by now, in a later term: what was begun may be half done.

    Writes that carry `leadership.guard()` are refused from then on, wherever a guard has seen the later term.
    """

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"


class AgentLost(CoordinationError):
    """An agent was not heard of within its lease, so it is taken for dead, and what it held goes to others. Announce it anew."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"


class TaskLost(CoordinationError):
    """An attempt at a task has ended before its agent said how it went: another one may have the task, with a larger token.

    Its agent was taken for dead, it took too long, it was cancelled, or it has been ended here already. Writes that carry
    `task.guard()` are refused wherever a guard has seen the larger token.
    """

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "operator"


class TaskFailed(CoordinationError):
    """A task has ended without a result. `how` says so for programs, `error` what its last attempt said."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, what: str, *, how: str, error: str, attempts: int) -> None:
        """Say which task, and how it ended.

        Args:
            what: The task.
            how: "given_up" after its last attempt, or "cancelled".
            error: Of the last attempt; may be empty.
            attempts: How many there were.
        """
        self.how, self.error, self.attempts = how, error, attempts
        said = f": {error}" if error else ""
        super().__init__(f"{what} was {how.replace('_', ' ')} after {attempts} attempts{said}")


class AlreadyDecided(CoordinationError):
    """A value cannot be proposed any more: another one is decided, for ever. `decision` is that."""

    fault: ClassVar[Fault] = "caller"

    def __init__(self, what: str, decision: Decision) -> None:
        """Say what is decided.

        Args:
            what: The consensus.
            decision: What was decided there.
        """
        self.decision = decision
        super().__init__(f"{what} has been decided in term {decision.term}, for proposal {decision.proposal}")


class BarrierBroken(CoordinationError):
    """A party gave up or died, so this generation of the barrier never trips. Reset it by its generation, and arrive again."""

    retryable: ClassVar[bool] = True
    fault: ClassVar[Fault] = "operator"

    def __init__(self, what: str, *, generation: int, code: str, by: str) -> None:
        """Say which generation broke and how.

        Args:
            what: The barrier.
            generation: Which one.
            code: timed_out, died, cancelled or reset.
            by: Who broke it.
        """
        self.generation, self.code, self.by = generation, code, by
        super().__init__(f"{what} is broken (generation {generation}): {by} {_HOW.get(code, code)}")


_HOW: Final = {
    "timed_out": "did not want to wait longer",
    "died": "was not heard of within its lease",
    "cancelled": "left",
    "reset": "reset it",
}
