"""What sagas raise in an agent service."""

from __future__ import annotations

from typing import ClassVar, Final

from schemas.errors import AntiphonError, Fault

__all__ = ["SagaError", "SagaFailed", "SagaRefused", "StepFailed"]

_AGAIN: Final = frozenset({"too_many", "too_many_definitions"})


class SagaError(AntiphonError):
    """A base: something of a saga was not done."""


class SagaRefused(SagaError):
    """A command did nothing. `code` says why for programs: unknown, ended, different, past_pivot, definition_changed and so on.

    Attributes:
        code: For programs.
        reason: For people.
    """

    fault: ClassVar[Fault] = "caller"

    def __init__(self, what: str, *, code: str, reason: str) -> None:
        """Say what was refused and why.

        Args:
            what: What it was.
            code: For programs.
            reason: For people.
        """
        self.code, self.reason = code, reason
        self.retryable = code in _AGAIN  # type: ignore[misc] # by its code
        super().__init__(f"{what} was refused ({code}): {reason}")


class SagaFailed(SagaError):
    """A saga ended without completing: what it had done is undone.

    Attributes:
        saga: Its id.
        outcome: compensated or cancelled.
        code: Why, for programs: the code of the step that failed, deadline, cancelled.
        reason: The same for people.
    """

    fault: ClassVar[Fault] = "caller"

    def __init__(self, saga: str, *, outcome: str, code: str, reason: str) -> None:
        """Say which saga it was and how it ended.

        Args:
            saga: Its id.
            outcome: How it ended.
            code: For programs.
            reason: For people.
        """
        self.saga, self.outcome, self.code, self.reason = saga, outcome, code, reason
        super().__init__(f"saga {saga} was {outcome} ({code}): {reason}")


class StepFailed(SagaError):
    """Raised by a handler: the step has failed, and this is the code that retry policies name.

    Attributes:
        code: For programs.
        reason: For people.
        final: Whether another attempt is in vain.
    """

    fault: ClassVar[Fault] = "caller"

    def __init__(self, code: str, reason: str = "", *, final: bool = False) -> None:
        """Say why.

        Args:
            code: For programs.
            reason: For people.
            final: Whether another attempt is in vain.
        """
        self.code, self.reason, self.final = code, reason, final
        super().__init__(f"{code}: {reason}" if reason else code)
