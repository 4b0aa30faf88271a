"""The primitives of coordination for agent services: `mesh.lock(...)` and the others, and what they raise."""

from streams.coordination.barriers import Barrier, Passed
from streams.coordination.errors import (
    BarrierBroken,
    CoordinationError,
    LockLost,
    LockRefused,
    LockTimedOut,
    PermitsLost,
    WaitRefused,
    WaitTimedOut,
)
from streams.coordination.facade import Coordination
from streams.coordination.grants import Grant
from streams.coordination.latches import Latch
from streams.coordination.leases import Held, Lease
from streams.coordination.semaphores import Permits, Semaphore

__all__ = [
    "Barrier",
    "BarrierBroken",
    "Coordination",
    "CoordinationError",
    "Grant",
    "Held",
    "Latch",
    "Lease",
    "LockLost",
    "LockRefused",
    "LockTimedOut",
    "Passed",
    "Permits",
    "PermitsLost",
    "Semaphore",
    "WaitRefused",
    "WaitTimedOut",
]
