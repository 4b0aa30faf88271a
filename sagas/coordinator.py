"""Runs the coordinator of two-phase commit over its commands topic: the votes in its log are the decision.

    transactions.commands (by transaction) ─▶ two-phase-commit ─┬─▶ tables.commands          decisions, to domains
                                                      │         ├─▶ transactions.managers    to resource managers
                                             table twophase     ├─▶ <client id>.replies      to who commits
                                                                └─▶ transactions.events      to everybody

See docs/two-phase-commit.md. The number of partitions of the commands topic is for ever: with another one a transaction moves
to a partition that does not know it, and is aborted there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic_settings import SettingsConfigDict

from sagas.shells import twophase
from schemas.tables import COMMANDS_TOPIC as TABLES_TOPIC
from schemas.transactions import COMMANDS_TOPIC, EVENTS_TOPIC, MANAGERS_TOPIC
from streams.machines.options import PrefixedOptions
from streams.machines.running import BROKERS_TIME, register_machines

if TYPE_CHECKING:
    from sagas.core.twophase.words import CoordinatorLimits
    from streams import App

__all__ = ["TABLE", "CoordinatorOptions", "register"]

TABLE: Final = "twophase"
ENV_PREFIX: Final = "AGENT_COORDINATOR_"


class CoordinatorOptions(PrefixedOptions):
    """What the processor can be told, from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")


def register(app: App, options: CoordinatorOptions | None = None, *, limits: CoordinatorLimits | None = None) -> None:
    """Declare the processor, its table and its topics.

    Args:
        app: The app.
        options: Else from the environment.
        limits: Of the coordinator; else the usual ones.
    """
    options = options or CoordinatorOptions.environment()
    register_machines(
        app,
        [twophase.shell(limits, topic_prefix=options.topic_prefix)],
        name=TABLE,
        commands=options.topic(COMMANDS_TOPIC),
        events=options.topic(EVENTS_TOPIC),
        at_once={options.topic(MANAGERS_TOPIC): {}, options.topic(TABLES_TOPIC): BROKERS_TIME},
    )
