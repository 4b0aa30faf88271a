"""The primitives of coordination for agent services: `mesh.lock(...)` and the others, and what they raise."""

from streams.coordination.agents import Agent
from streams.coordination.barriers import Barrier, Passed
from streams.coordination.consensus import Consensus, ConsensusStanding, Decision, Proposal
from streams.coordination.elections import Election, ElectionStanding, Leader, Leadership
from streams.coordination.errors import (
    AgentLost,
    AlreadyDecided,
    BarrierBroken,
    CoordinationError,
    DeadlockError,
    LeadershipLost,
    LockLost,
    LockRefused,
    LockTimedOut,
    PermitsLost,
    TaskFailed,
    TaskLost,
    WaitRefused,
    WaitTimedOut,
)
from streams.coordination.facade import Coordination
from streams.coordination.grants import Grant
from streams.coordination.handles import TaskHandle
from streams.coordination.latches import Latch
from streams.coordination.leases import Held, Lease
from streams.coordination.pools import AgentInfo, AgentPool, PoolStanding
from streams.coordination.queues import WorkQueue
from streams.coordination.semaphores import Permits, Semaphore
from streams.coordination.tasks import Task
from streams.coordination.waits import ToldWait

__all__ = [
    "Agent",
    "AgentInfo",
    "AgentLost",
    "AgentPool",
    "AlreadyDecided",
    "Barrier",
    "BarrierBroken",
    "Consensus",
    "ConsensusStanding",
    "Coordination",
    "CoordinationError",
    "DeadlockError",
    "Decision",
    "Election",
    "ElectionStanding",
    "Grant",
    "Held",
    "Latch",
    "Leader",
    "Leadership",
    "LeadershipLost",
    "Lease",
    "LockLost",
    "LockRefused",
    "LockTimedOut",
    "Passed",
    "Permits",
    "PermitsLost",
    "PoolStanding",
    "Proposal",
    "Semaphore",
    "Task",
    "TaskFailed",
    "TaskHandle",
    "TaskLost",
    "ToldWait",
    "WaitRefused",
    "WaitTimedOut",
    "WorkQueue",
]
