"""One operation on a lock, as a client saw it: what it asked, when, and what it was answered.

    call_ns                                   return_ns
       │◀───────── took effect in here ─────────▶│            ok, refused, timed_out
       │◀───────── took effect in here, or never ─ ─ ─ ▶      unknown: killed, or gave up waiting for the answer

The file format and what each field means is in docs/verify.md; :mod:`processors.core.verify.history` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["NEVER_NS", "Kind", "Operation", "Outcome"]

NEVER_NS: Final = 2**63 - 1
"""Later than any time of a history: the end of a lease that does not end, the answer that never came."""


class Kind(StrEnum):
    """What was asked."""

    ACQUIRE = "acquire"
    RELEASE = "release"
    RENEW = "renew"
    EXPIRE = "expire"
    WRITE = "write"


class Outcome(StrEnum):
    """What was answered."""

    OK = "ok"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation, checked and complete.

    Attributes:
        place: Where it begins, ``file:line``.
        client: The process or session that recorded it.
        owner: Whose lock it is about: who may release and renew, and for whom it is reentrant.
        kind: What was asked.
        resource: The lock's name; for a write the name of the lock that guards it.
        call_ns: Just before it was asked.
        return_ns: Just after it was answered; ``NEVER_NS`` where the outcome is unknown.
        outcome: What was answered.
        exclusive: The mode of an acquire.
        grant: What it is about: made by an acquire, named by release, renew and expire.
        lease_ns: How long the grant lasts from an acquire or renewal on; ``NEVER_NS`` where it does not end.
        token: The fencing token of an acquire's answer, or of a write; 0 where there is none.
        store: What a write writes to: each store has seen its own largest token.
        reason: Why it was refused; ``held`` is judged, other words are not.
    """

    place: str
    client: str
    owner: str
    kind: Kind
    resource: str
    call_ns: int
    return_ns: int
    outcome: Outcome
    exclusive: bool = True
    grant: str = ""
    lease_ns: int = NEVER_NS
    token: int = 0
    store: str = ""
    reason: str = ""

    @property
    def answered(self) -> bool:
        """Whether it was; if not, it took effect at any time since its call, or never."""
        return self.outcome is not Outcome.UNKNOWN
