"""Runs the arbiter of tables over its commands topic: every commit is decided in the order of the log.

    tables.commands (by domain) ─▶ transactions ─┬─▶ <client id>.replies      answers, at once
                                         │       ├─▶ tables.feed              changes, at once; tables.events, with the kafka
                                         transaction
                                  table tables   └─▶ transactions.commands    votes for the coordinator of two-phase commit

Who follows the feed has a copy of the rows; see docs/tables.md. The number of partitions of the commands topic is for ever: with
another one a domain moves to a partition that does not know its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, ImportString, field_validator
from pydantic_settings import SettingsConfigDict

from processors.core.transactions.words import TableLimits
from processors.transacting import tables
from schemas.tables import COMMANDS_TOPIC, EVENTS_TOPIC, FEED_TOPIC
from schemas.transactions import COMMANDS_TOPIC as COORDINATOR_TOPIC
from streams.machines.options import PrefixedOptions
from streams.machines.running import BROKERS_TIME, register_machines

if TYPE_CHECKING:
    from streams import App

__all__ = ["TABLE", "TransactionOptions", "register"]

TABLE: Final = "tables"
ENV_PREFIX: Final = "AGENT_TABLES_"
FEED_RETENTION_MS: Final = 600_000
"""Of the feed: who was away for longer reads its rows anew."""
FEED_CONFIG: Final = {"retention.ms": str(FEED_RETENTION_MS), "segment.ms": "300000"}


class TransactionOptions(PrefixedOptions):
    """What the processor can be told, from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    merges: ImportString[Any] | None = Field(
        None, description="module:name of a mapping from tables to merge functions (base, theirs, mine), the same on all workers."
    )
    keys_max: int = Field(TableLimits().keys_max, ge=1, description="Rows of one partition; beyond it commits are refused.")
    versions_max: int = Field(TableLimits().versions_max, ge=1, le=1_000, description="Versions of one row that are kept.")
    horizon_ms: int = Field(
        TableLimits().horizon_ms, ge=1_000, description="How long a version that was replaced, or a deletion, is kept."
    )

    @field_validator("merges")
    @classmethod
    def _functions(cls, value: Any) -> Any:  # noqa: ANN401 - whatever was imported
        if value is not None and not (isinstance(value, dict) and all(callable(one) for one in value.values())):
            raise ValueError("a dict from names of tables to functions of three arguments is allowed")
        return value


def register(app: App, options: TransactionOptions | None = None) -> None:
    """Declare the processor, its table and its topics.

    Args:
        app: The app.
        options: Else from the environment.
    """
    options = options or TransactionOptions.environment()
    limits = TableLimits(keys_max=options.keys_max, versions_max=options.versions_max, horizon_ms=options.horizon_ms)
    register_machines(
        app,
        [tables.shell(limits, None, options.merges, topic_prefix=options.topic_prefix)],
        name=TABLE,
        commands=options.topic(COMMANDS_TOPIC),
        events=options.topic(EVENTS_TOPIC),
        at_once={options.topic(FEED_TOPIC): FEED_CONFIG, options.topic(COORDINATOR_TOPIC): BROKERS_TIME},
    )
