"""The primitives of coordination for agent services: `mesh.lock(...)` and the others, and what they raise."""

from streams.coordination.errors import CoordinationError, LockLost, LockRefused, LockTimedOut
from streams.coordination.facade import Coordination
from streams.coordination.grants import Grant
from streams.coordination.leases import Held, Lease

__all__ = ["Coordination", "CoordinationError", "Grant", "Held", "Lease", "LockLost", "LockRefused", "LockTimedOut"]
