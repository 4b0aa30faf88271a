"""The primitives of coordination for agent services: `mesh.lock(...)` and what it raises."""

from streams.coordination.errors import CoordinationError, LockLost, LockRefused, LockTimedOut
from streams.coordination.grants import Grant
from streams.coordination.locks import LockBlock

__all__ = ["CoordinationError", "Grant", "LockBlock", "LockLost", "LockRefused", "LockTimedOut"]
