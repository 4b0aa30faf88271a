"""Runs the machines of coordination over the commands topic: locks, granted in the order of the log.

    coordination.commands (by domain) ─▶ coordination ─┬─▶ <client id>.replies     each answer to who asked
                                             │         └─▶ coordination.events     each change to everybody
                                       table coordination

Events, table and offset are one kafka transaction. Answers are told at once: they follow from the log of commands alone, so every
later run of the same records says the same, and nobody learns of a grant that is not kept (see `processors.coordinating.cell`).
An idle partition commits a single command at once; under load a thousand share a transaction.

The number of partitions of the commands topic is for ever: with another one a domain moves to a partition that does not know its
locks. Take a new topic (`AGENT_COORDINATION_TOPIC_PREFIX`) and let everybody move. Records have the broker's time, by which
leases end; a topic that keeps the time of whoever writes stops the worker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pydantic_settings import SettingsConfigDict

from processors.coordinating import barriers, consensus, elections, latches, locks, pools, semaphores, waits
from processors.coordinating.answers import Writer, topic_of
from processors.coordinating.cell import Cell
from processors.option_base import PrefixedOptions
from schemas.coordination import COMMANDS_TOPIC, EVENTS_TOPIC
from streams.errors import AntiphonError, CannotGoOn, TopicMissing
from streams.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from processors.coordinating.shells import Shell
    from streams import App, Batch, Table

__all__ = ["TABLE", "CoordinationOptions", "register"]

log = logging.getLogger(__name__)

TABLE: Final = "coordination"
ENV_PREFIX: Final = "AGENT_COORDINATION_"
COMMIT_WITHIN_S: Final = 0.05
"""Answers do not wait for the kafka transaction, so under load there are twenty a second and not a hundred."""
LOG_APPEND_TIME: Final = 1
"""What a record's `timestamp_type` is where its time is the broker's."""
REPLY_TOPICS_MAX: Final = 100_000
"""Names of reply topics remembered: more than clusters have topics."""


class CoordinationOptions(PrefixedOptions):
    """What the processor can be told, from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")


class ReplyTopics:
    """The reply topics that are there, with their partitions: an answer to another one would stop the partition.

    Args:
        app: Whose broker is asked.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._topics: Topics | None = None
        self.partitions: dict[str, int] = {}

    async def learn(self, batch: Batch) -> None:
        """Ask for the topics that a batch's commands name and that are not known; one that is not there is asked for again."""
        new = {topic for record in batch.records if (topic := topic_of(record)) and topic not in self.partitions}
        for topic in sorted(new):
            if self._topics is None:
                self._topics = Topics(self._app.options.client)
            try:
                found = await asyncio.to_thread(self._topics.describe, topic)
            except TopicMissing:
                continue
            except AntiphonError as error:
                if error.retryable or error.fault == "broker":
                    raise
                log.warning("reply topic %s: %s; who asked gets no answer", topic, error)  # a command's fate is the log's alone
                continue
            if len(self.partitions) >= REPLY_TOPICS_MAX:
                self.partitions.clear()
            self.partitions[topic] = len(found.partitions)


def check_times(batch: Batch) -> None:
    """Raise where a record's time is not the broker's: leases would end by the clock of whoever wrote it.

    Raises:
        CannotGoOn: Says what to do with the topic.
    """
    for record in batch.records:
        if getattr(record, "timestamp_type", LOG_APPEND_TIME) != LOG_APPEND_TIME:
            raise CannotGoOn(
                f"topic {batch.topic!r}, partition {batch.partition}, offset {record.offset}: the record's time is its writer's, "
                "not the broker's, by which leases end: set message.timestamp.type=LogAppendTime on the topic and delete the "
                f"records that it has, or take other topics ({ENV_PREFIX}TOPIC_PREFIX)"
            )


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
    shells = primitives() if shells is None else tuple(shells)
    options = options or CoordinationOptions.environment()
    table: Table = app.Table(TABLE, immutable_values=True)
    commands = app.own_topic(options.topic(COMMANDS_TOPIC), config={"message.timestamp.type": "LogAppendTime"})
    events = app.own_topic(options.topic(EVENTS_TOPIC))
    writer = Writer(app.codec, [sample for shell in shells for sample in shell.samples], events)
    cells: dict[int, Cell] = {}
    replies = ReplyTopics(app)

    @app.agent(app.batch_topic(commands), name=TABLE, concurrency=4)
    async def coordination(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            check_times(batch)
            await replies.learn(batch)
            cell = cells.get(batch.partition)
            if cell is None:
                cell = cells[batch.partition] = Cell(app.codec, writer, shells)
            cell.run(batch, batch.view(table), replies.partitions)
            batch.commit_within(COMMIT_WITHIN_S)
