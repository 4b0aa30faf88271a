"""What coordination raises in an agent service."""

from __future__ import annotations

from typing import ClassVar

from schemas.errors import AntiphonError, Fault

__all__ = ["CoordinationError", "LockLost", "LockRefused", "LockTimedOut"]


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
        self.retryable = code in ("busy", "queue_full", "owner_full", "full", "victim", "forgotten")  # type: ignore[misc] # by its code
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
