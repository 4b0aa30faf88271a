"""A lock in the hands of its holder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from schemas.coordination import LockExpired, LockRenewed, ReleaseLock, RenewLock
from schemas.naming import domain_of
from streams.coordination.errors import CoordinationError, LockLost, LockRefused, WaitRefused
from streams.coordination.leases import Lease
from streams.coordination.waiting import lease_began
from streams.core.guards import fence_headers

if TYPE_CHECKING:
    from streams.coordination.session import Session

__all__ = ["Grant"]


class Grant(Lease):
    """A lock that is held; made by `mesh.lock`.

    Attributes:
        resources: What is held.
        tokens: The fencing token of each of them, in that order; `token` is the largest.
        mode: "exclusive" or "shared".
    """

    renewed: ClassVar[str] = LockRenewed.event_type
    expired: ClassVar[str] = LockExpired.event_type
    lost_error: ClassVar[type[CoordinationError]] = LockLost
    refused_error: ClassVar[type[LockRefused | WaitRefused]] = LockRefused

    def __init__(self, session: Session, granted: dict[str, Any], *, sent: float, renews: bool) -> None:
        """Take what was granted.

        Args:
            session: Whose.
            granted: The fields of `LockGranted`.
            sent: When it was asked for, monotonic.
            renews: Whether it is renewed in the background.
        """
        self.resources: tuple[str, ...] = tuple(granted["resources"])
        self.tokens: tuple[int, ...] = tuple(granted["tokens"])
        self.mode: Literal["exclusive", "shared"] = granted["mode"]
        super().__init__(
            session,
            lease_id=granted["request_id"],
            owner=granted["owner"],
            token=max(self.tokens),
            lease_s=granted["lease_ms"] / 1000,
            since=lease_began(sent, granted),
            renews=renews,
        )

    @property
    def what(self) -> str:
        """What is held, in errors."""
        return f"lock {', '.join(self.resources)}"

    def guard(self, *resources: str) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that put the tokens on a record: `mesh.publish(event, headers=grant.guard())`.

        Args:
            resources: Of which; all unless given.

        Raises:
            LockLost: It is not held any more.
            ValueError: It is a shared grant, which is for reading, or has not all of these resources.
        """
        self.check()
        if self.mode == "shared":
            raise ValueError(f"a shared grant of {', '.join(self.resources)} is for reading: ask for an exclusive one to write")
        tokens = dict(zip(self.resources, self.tokens, strict=True))
        if missing := [name for name in resources if name not in tokens]:
            raise ValueError(f"the grant does not have {', '.join(missing)}: it has {', '.join(self.resources)}")
        return fence_headers((name, tokens[name]) for name in resources or self.resources)

    def renew_command(self, lease_ms: int | None) -> RenewLock:
        """Return the command that renews it; None keeps the lease's length."""
        return RenewLock(domain=domain_of(self.resources[0]), grant=self.id, owner=self.owner, lease_ms=lease_ms)

    def release_command(self) -> ReleaseLock:
        """Return the command that gives it back."""
        return ReleaseLock(domain=domain_of(self.resources[0]), grant=self.id, owner=self.owner)

    def expiry(self, fields: dict[str, Any]) -> str:
        """Return what the event of its end says: who has it now."""
        names = ", ".join(fields["next_owners"])
        return "the processor ended its lease" + (f", and {names} has it now" if names else "")
