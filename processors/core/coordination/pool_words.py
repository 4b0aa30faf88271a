"""What is said to the machine of pools and what it answers: commands, outcomes, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from processors.core.coordination.request_words import HOUR_MS, Queued, Refused, RequestLimits, TimedOut

__all__ = [
    "Announce",
    "Assigned",
    "Drain",
    "Ended",
    "Finish",
    "Gone",
    "GoneHow",
    "How",
    "Outcome",
    "PoolLimits",
    "PoolStanding",
    "Return",
    "ReturnHow",
    "Returned",
    "Standing",
    "Submit",
]

How = Literal["finished", "given_up", "cancelled"]
GoneHow = Literal["left", "expired"]
ReturnHow = Literal["failed", "given_back", "lost", "overdue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits(RequestLimits):
    """What is refused, and why there is a limit; see `RequestLimits` for the others (`waiters_max`: tasks that wait in one pool).

    Attributes:
        agents_max: Of one pool. While tasks wait, a command looks at each of its agents.
        kinds_max: Different needs and weights that wait in one pool: an agent with room looks at the first task of each.
        capacity_max: Of an agent, and so of a task's weight: sums stay small numbers.
        words_max: Capabilities of an agent, needs of a task.
        word_chars_max: Of one of these.
        payload_chars_max: Of a task. It is in the task's row and written with each of its states: name what is larger.
        result_chars_max: Of a result or an error; as many are remembered as ended requests.
        attempts_max: Of a task.
        delay_ms_max: Before the next attempt, the back-off included.
        priority_max: Priorities go from minus this to this.
        ageing_ms: Waiting so long is worth one step of priority, as for locks (see `LockLimits`).
    """

    agents_max: int = 1_000
    kinds_max: int = 256
    capacity_max: int = 1_000_000
    words_max: int = 64
    word_chars_max: int = 64
    payload_chars_max: int = 16_384
    result_chars_max: int = 4_096
    attempts_max: int = 1_000
    delay_ms_max: int = 24 * HOUR_MS
    priority_max: int = 100
    ageing_ms: int = 1_000


@dataclass(frozen=True, slots=True)
class Announce:
    """An agent says that it is there and what it can do; said again with the same id it is a heartbeat, and may say otherwise.

    Attributes:
        request_id: Names this stay of the agent in the pool.
        owner: Whose session; only it finishes or returns what the agent holds.
        name: The pool.
        agent: Its name, which hashing knows it by, and operators; another stay may have the same.
        capabilities: Words; a task goes to agents that have all it needs.
        capacity: How much weight it holds at once.
        healthy: Whether it gets tasks; it keeps what it holds.
        lease_ms: How long it is believed in without being heard of; what it holds then goes to others.
        resume: Whether it wants to hear once more what it holds.
        listens: Whether tasks go from now on where this answer goes; a heartbeat that is answered elsewhere says no.
        route: Where answers and tasks go; of no meaning here.
        again: Whether this may have been said before; a stay that is not known then is refused.
    """

    request_id: str
    owner: str
    name: str
    agent: str
    capabilities: tuple[str, ...] = ()
    capacity: int = 1
    healthy: bool = True
    lease_ms: int = 10_000
    resume: bool = False
    listens: bool = True
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """Somebody says whether agents of this name get tasks. They keep what they hold; a later stay begins undrained."""

    request_id: str
    owner: str
    name: str
    agent: str
    draining: bool = True
    route: str = ""


@dataclass(frozen=True, slots=True)
class Submit:
    """Somebody has a task for a pool.

    Attributes:
        request_id: Names the task; asked again with the same one, the answer is the same.
        owner: Who wants it done.
        name: The pool.
        payload: What is to be done; of no meaning here.
        needs: Words that its agent has to have among its capabilities.
        weight: How much of an agent's capacity it takes.
        priority: Higher goes first, with ageing.
        strategy: How its agent is chosen among those that are free for it (see `strategies`).
        key: What hashing goes by; the task's id unless given.
        wait_ms: How long it waits for an agent, each time it waits; 0 to try, None for as long as it takes.
        attempts_max: How many attempts there are, those of agents that died included.
        backoff_ms: The delay after the first failed attempt; it doubles with each.
        attempt_ms: How long an attempt may take, or None: an agent may live and its work hang.
        route: Where answers go; of no meaning here.
        again: Whether this may have been asked before; one that is not known then is refused.
    """

    request_id: str
    owner: str
    name: str
    payload: str = ""
    needs: tuple[str, ...] = ()
    weight: int = 1
    priority: int = 0
    strategy: str = "least_loaded"
    key: str = ""
    wait_ms: int | None = None
    attempts_max: int = 5
    backoff_ms: int = 1_000
    attempt_ms: int | None = None
    route: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """An agent has done its task. `token`: of its attempt; `owner`: the agent's."""

    request_id: str
    owner: str
    token: int
    result: str = ""
    route: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """An agent has not done its task: it failed, or gives it back, which is not counted as an attempt.

    Attributes:
        request_id: The task.
        owner: The agent's.
        token: Of its attempt.
        failed: Whether it was tried.
        error: Why.
        delay_ms: How long nobody gets it; the task's back-off unless given.
        route: Where the answer goes.
    """

    request_id: str
    owner: str
    token: int
    failed: bool = True
    error: str = ""
    delay_ms: int | None = None
    route: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an agent stands. `load`: the weight that it holds; `repeated`: nothing but its lease has changed."""

    owner: str
    request_id: str
    route: str
    name: str
    agent: str
    capabilities: tuple[str, ...]
    capacity: int
    load: int
    tasks: int
    healthy: bool
    draining: bool
    lease_ms: int
    expires_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """How a pool stands: its agents in the order of their names, so many at most, each with a place in every tuple.

    Attributes:
        states: "ready", "draining" or "unhealthy".
        count: How many agents there are.
        waiting: Tasks that wait for one; those in a delay do not.
    """

    owner: str
    request_id: str
    route: str
    name: str
    agents: tuple[str, ...]
    owners: tuple[str, ...]
    capabilities: tuple[tuple[str, ...], ...]
    capacities: tuple[int, ...]
    loads: tuple[int, ...]
    tasks: tuple[int, ...]
    states: tuple[str, ...]
    count: int
    waiting: int
    repeated: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """An agent has gone; what it held follows as `Returned` or `Ended`."""

    owner: str
    request_id: str
    route: str
    name: str
    agent: str
    how: GoneHow
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Assigned:
    """An agent has a task. Both are told: the agent with the payload, who wants it done without.

    Attributes:
        owner: Who wants it done.
        request_id: The task.
        agent: The agent's name.
        agent_id: Its stay.
        token: Of this attempt: larger than of every one before.
        attempt: 1, 2, 3 and so on.
        expires_ms: When the attempt has taken too long; None for no limit.
        repeated: It was told before, or to somebody else.
    """

    owner: str
    request_id: str
    route: str
    name: str
    agent: str
    agent_id: str
    token: int
    attempt: int
    weight: int
    payload: str
    asked_ms: int
    expires_ms: int | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Returned:
    """An attempt has ended without a result, and the task waits again, from `again_ms` on."""

    owner: str
    request_id: str
    route: str
    name: str
    agent: str
    token: int
    attempt: int
    how: ReturnHow
    error: str
    again_ms: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A task has ended. `text`: its result, or the last error; `agent` and `token`: of the last attempt, empty and 0 if none."""

    owner: str
    request_id: str
    route: str
    name: str
    how: How
    agent: str
    token: int
    attempt: int
    text: str
    repeated: bool = False


Outcome = Queued | Refused | TimedOut | Standing | PoolStanding | Gone | Assigned | Returned | Ended
