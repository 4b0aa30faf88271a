"""Runs the machines of coordination over the commands topic: locks, granted in the order of the log.

    coordination.commands (by domain) ─▶ coordination ─┬─▶ <client id>.replies     each answer to who asked
                                             │         └─▶ coordination.events     each change to everybody
                                       table coordination

Events, table and offset are one kafka transaction. Answers are told at once: they follow from the log of commands alone, so every
later run of the same records says the same, and nobody learns of a grant that is not kept (see `streams.machines.cell`).
An idle partition commits a single command at once; under load a thousand share a transaction.

The number of partitions of the commands topic is for ever: with another one a domain moves to a partition that does not know its
locks. Take a new topic (`AGENT_COORDINATION_TOPIC_PREFIX`) and let everybody move. Records have the broker's time, by which
leases end; a topic that keeps the time of whoever writes stops the worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic_settings import SettingsConfigDict

from processors.coordinating import barriers, consensus, elections, latches, locks, pools, semaphores, waits
from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from streams.machines.options import PrefixedOptions
from streams.machines.running import register_machines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams import App
    from streams.machines.shells import Shell

__all__ = ["TABLE", "CoordinationOptions", "register"]

TABLE: Final = "coordination"
ENV_PREFIX: Final = "AGENT_COORDINATION_"


class CoordinationOptions(PrefixedOptions):
    """What the processor can be told, from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")


def primitives() -> tuple[Shell, ...]:
    """Return all primitives, each with its usual limits."""
    return (
        locks.shell(),
        semaphores.shell(),
        barriers.shell(),
        latches.shell(),
        elections.shell(),
        consensus.shell(),
        pools.shell(),
        waits.shell(),
    )


def register(app: App, options: CoordinationOptions | None = None, *, shells: Sequence[Shell] | None = None) -> None:
    """Declare the processor, its table and its topics.

    Args:
        app: The app.
        options: Else from the environment.
        shells: Primitives with limits of your own; else `primitives()`.
    """
    options = options or CoordinationOptions.environment()
    register_machines(
        app,
        primitives() if shells is None else shells,
        name=TABLE,
        commands=options.topic(COMMANDS_TOPIC),
        events=options.topic(EVENTS_TOPIC),
    )
