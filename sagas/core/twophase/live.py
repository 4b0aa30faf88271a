"""A transaction that has not ended: who has voted, what is decided, who has done it.

Each participant has a mark:

    ?  has not voted              c  has committed               h  has done something else than was decided, or did so before
    y  has promised               a  has rolled back             s  settled by an operator
    n  holds nothing
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from sagas.core.twophase.words import Fields
from schemas.transactions import MANAGER_PREFIX

__all__ = ["ABORTED", "COMMITTED", "HEURISTIC", "NOTHING", "PROMISED", "SETTLED", "WAITED_FOR", "Live"]

WAITED_FOR: Final = "?"
PROMISED: Final = "y"
NOTHING: Final = "n"
COMMITTED: Final = "c"
ABORTED: Final = "a"
HEURISTIC: Final = "h"
SETTLED: Final = "s"
_OPEN: Final = frozenset({WAITED_FOR, PROMISED})


@dataclass(slots=True)
class Live:
    """One of them.

    Attributes:
        owner: Who commits.
        participants: Domains, and managers with their prefix.
        marks: One a participant.
        commit: What is decided; None: nothing yet.
        began_ms: When it was first heard of.
        timeout_ms: How long votes are waited for.
        due_ms: When it is looked at again.
        tries: How often that has been.
        route: Who asked.
        code: Why it aborts.
        reason: The same for people.
        conflicts: The same in detail.
        payloads: What managers are asked for; None until they are.
        silent: Who was told to be silent: an incident each.
    """

    owner: str
    participants: list[str]
    marks: list[str]
    began_ms: int
    timeout_ms: int
    due_ms: int
    commit: bool | None = None
    tries: int = 0
    route: str = ""
    code: str = ""
    reason: str = ""
    conflicts: list[Fields] = field(default_factory=list)
    payloads: dict[str, str] | None = None
    silent: list[str] = field(default_factory=list)

    def row(self) -> list[Any]:
        """Return its row; nothing in it is changed later."""
        return [
            self.owner,
            self.participants,
            "".join(self.marks),
            self.began_ms,
            self.timeout_ms,
            self.due_ms,
            self.commit,
            self.tries,
            self.route,
            self.code,
            self.reason,
            self.conflicts,
            self.payloads,
            self.silent,
        ]

    @classmethod
    def of(cls, row: list[Any]) -> Self:
        """Return the transaction of a row."""
        owner, participants, marks, *rest = row
        return cls(owner, participants, list(marks), *rest)

    def mark_of(self, who: str) -> str:
        """Return a participant's mark; empty where it takes no part."""
        return self.marks[self.participants.index(who)] if who in self.participants else ""

    def mark(self, who: str, mark: str) -> None:
        """Give a participant its mark."""
        self.marks[self.participants.index(who)] = mark

    def marked(self, *marks: str) -> list[str]:
        """Return the participants with one of these marks."""
        return [who for who, mark in zip(self.participants, self.marks, strict=True) if mark in marks]

    def was_asked(self, who: str) -> bool:
        """Return whether a participant may know of it: a manager whose transaction was never begun does not."""
        return self.payloads is not None or not who.startswith(MANAGER_PREFIX)

    def has_incident(self, who: str) -> bool:
        """Return whether an operator can settle something of a participant."""
        mark = self.mark_of(who)
        return mark == HEURISTIC or (who in self.silent and mark in _OPEN)
