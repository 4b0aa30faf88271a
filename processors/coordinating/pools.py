"""Pools of agents and their tasks on Kafka, queues of work among them: commands to the machine, its outcomes to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.coordinating.tables import asked, shell_of
from processors.core.coordination import pool_words as words
from processors.core.coordination.pools import Pools
from schemas import agents, tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processors.core.coordination.strategies import Strategy
    from streams.core.at import At
    from streams.machines.shells import Shell

__all__ = ["shell"]

Fields = dict[str, Any]


def shell(limits: words.PoolLimits | None = None, strategies: Mapping[str, Strategy] | None = None) -> Shell:
    """Return pools as a primitive of the coordination processor.

    Args:
        limits: What is refused.
        strategies: Strategies of one's own by name, the same in every worker (see `processors.core.coordination.strategies`).
    """
    return shell_of(
        "pools",
        {
            agents.AnnounceAgent: _announce,
            agents.LeavePool: _leave,
            agents.DrainAgent: _drain,
            agents.AskPool: _ask,
            tasks.SubmitWork: _submit,
            tasks.FinishWork: _finish,
            tasks.ReturnWork: _return,
            tasks.CancelWork: _cancel,
        },
        {
            words.Standing: agents.AgentStanding,
            words.Gone: agents.AgentGone,
            words.PoolStanding: agents.PoolStanding,
            words.Assigned: tasks.WorkAssigned,
            words.Returned: tasks.WorkReturned,
            words.Ended: tasks.WorkEnded,
        },
        lambda rows: Pools.load(rows, limits, strategies),
    )


def _announce(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.announce(asked(words.Announce, {**fields, "capabilities": tuple(fields["capabilities"])}, route), at)


def _leave(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.leave(fields["request_id"], fields["owner"], at, route=route)


def _drain(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.drain(asked(words.Drain, fields, route), at)


def _ask(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.standing(fields["name"], fields["owner"], at, request_id=fields["request_id"], route=route)


def _submit(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    rest = {name: value for name, value in fields.items() if name != "hash_key"}
    rest |= {"key": fields["hash_key"], "needs": tuple(fields["needs"])}
    return machine.submit(asked(words.Submit, rest, route), at)


def _finish(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.finish(asked(words.Finish, fields, route), at)


def _return(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.give_back(asked(words.Return, fields, route), at)


def _cancel(machine: Pools, fields: Fields, route: str, at: At) -> list[words.Outcome]:
    return machine.cancel(fields["request_id"], fields["owner"], at, route=route)
