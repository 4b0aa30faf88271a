"""Agent processes, and what the events must say about pools afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.agents import AgentGone, AgentStanding
from schemas.tasks import WorkAssigned, WorkEnded, WorkReturned
from tests.e2e.leaders_trial import LeadersTrial, Speaker
from tests.e2e.trial import read_committed

__all__ = ["WorkTrial", "judge"]


class WorkTrial(LeadersTrial):
    """As `LeadersTrial`, with other clients."""

    def speaker(self, *args: str) -> Speaker:
        """Start an agent process."""
        settings = {"SYNC_SERVERS": self.servers, "SYNC_CLIENT": f"{self.name}-p{len(self.logs)}", "SYNC_PREFIX": self.prefix}
        return Speaker(*self._start("work_client.py", *args, **settings))

    def writes(self, key: str) -> list[str]:
        """Return what became of each write behind the guard, in order."""
        records = sorted(read_committed(self.servers, self.prefix + "register.log"), key=lambda one: one[:2])
        return [(value or b"").decode() for _, _, name, value in records if name == key.encode()]


@dataclass
class Attempts:
    """One task: the agent that has it, the tokens of all attempts, how it ended."""

    agent_id: str = ""
    tokens: tuple[int, ...] = ()
    agents: tuple[str, ...] = ()
    end: WorkEnded | None = None


def judge(events: list[Any], pool: str) -> dict[str, Attempts]:
    """Check the promises of one pool; return its tasks.

    One agent has a task at a time, and only one that is there, takes tasks and has room; tokens grow; a task ends once.

    Args:
        events: Of its partition, in order.
        pool: Its name.
    """
    agents: dict[str, AgentStanding] = {}
    tasks: dict[str, Attempts] = {}
    weights: dict[str, int] = {}
    token = 0
    for event in events:
        if getattr(event, "name", None) != pool:
            continue
        if isinstance(event, AgentStanding):
            agents[event.request_id] = event
        elif isinstance(event, AgentGone):
            del agents[event.request_id]
        elif isinstance(event, WorkAssigned):
            task = tasks.setdefault(event.request_id, Attempts())
            assert not task.agent_id, f"{event} while {task.agent_id} has it"
            assert task.end is None, f"{event} after {task.end}"
            assert event.token > token, f"{event} after token {token}"
            agent = agents[event.agent_id]
            assert agent.healthy, f"{event} to {agent}"
            assert not agent.draining, f"{event} to {agent}"
            weights[event.request_id] = event.weight
            load = sum(weights[one] for one, other in tasks.items() if other.agent_id == event.agent_id)
            assert load + event.weight <= agent.capacity, f"{event} to {agent}, which has {load}"
            token, task.agent_id = event.token, event.agent_id
            task.tokens, task.agents = (*task.tokens, token), (*task.agents, event.agent)
        elif isinstance(event, WorkReturned):
            task = tasks[event.request_id]
            assert task.agent_id, f"{event}, and nobody has it"
            assert event.token == task.tokens[-1]
            task.agent_id = ""
        elif isinstance(event, WorkEnded):
            task = tasks.setdefault(event.request_id, Attempts())
            assert task.end is None, f"{event} after {task.end}"
            assert event.how != "finished" or task.agent_id, f"{event}, and nobody has it"
            assert not event.token or event.token == task.tokens[-1]
            task.end, task.agent_id = event, ""
    return tasks
