"""How the agent of a task is chosen among those that are free for it: each strategy ranks a match, and the lowest rank wins.

    least_loaded   whoever is loaded least with the task, in proportion to its capacity
    weighted       shares in proportion to capacity, whatever the load
    hash           tasks of one key go to the same agent, as long as it is there and has room; then to the next of that key

The last two are weighted rendezvous hashing (Thaler and Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005), of the
task's id and of its key: an agent that comes or goes moves only the keys that it gets or had. A strategy of one's own is a pure
function of a `Match`, the same in every worker, and registered under a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import log
from typing import Final

__all__ = ["STRATEGIES", "Match", "Strategy", "least_loaded", "rendezvous"]


@dataclass(frozen=True, slots=True)
class Match:
    """A task, and an agent that could have it now.

    Attributes:
        task: The task's id.
        key: Its key; empty where it has none.
        agent: The agent's name.
        load: What the agent holds, by weight.
    """

    task: str
    key: str
    needs: tuple[str, ...]
    weight: int
    agent: str
    capabilities: tuple[str, ...]
    capacity: int
    load: int


Strategy = Callable[[Match], float]
"""A rank: the lowest wins, and the agents' names decide among equals."""


def least_loaded(match: Match) -> float:
    """Return the share of its capacity that the agent would hold."""
    return (match.load + match.weight) / match.capacity


def rendezvous(key: str, agent: str, capacity: int) -> float:
    """Return the rank of an agent for a key."""
    digest = blake2b(f"{len(key)}:{key}{agent}".encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return -log((int.from_bytes(digest) + 1) / (2**48 + 1)) / capacity


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "least_loaded": least_loaded,
    "weighted": lambda match: rendezvous(match.task, match.agent, match.capacity),
    "hash": lambda match: rendezvous(match.key or match.task, match.agent, match.capacity),
}
