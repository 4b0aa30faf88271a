"""Runs machines over a commands topic, as one Faust agent: the part that every processor of machines shares.

    <commands> (by domain) ─▶ machines ─┬─▶ <client id>.replies     each answer to who asked, at once
                                │       └─▶ <events>                each change to everybody
                          table <name>

Events, table and offset are one kafka transaction. Answers are told at once: they follow from the log of commands alone, so every
later run of the same records says the same (see `streams.machines.cell`). An idle partition commits a single command at once;
under load a thousand share a transaction. Records have the broker's time, by which leases end; a topic that keeps the time of
whoever writes stops the worker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from streams.errors import AntiphonError, CannotGoOn, TopicMissing
from streams.machines.answers import Writer, topic_of
from streams.machines.cell import Cell
from streams.topics import Topics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streams import App, Batch, Table
    from streams.machines.shells import Shell

__all__ = ["BROKERS_TIME", "COMMIT_WITHIN_S", "ReplyTopics", "check_times", "register_machines"]

log = logging.getLogger(__name__)

COMMIT_WITHIN_S: Final = 0.05
"""Answers do not wait for the kafka transaction, so under load there are twenty a second and not a hundred."""
LOG_APPEND_TIME: Final = 1
"""What a record's `timestamp_type` is where its time is the broker's."""
REPLY_TOPICS_MAX: Final = 100_000
"""Names of reply topics remembered: more than clusters have topics."""
BROKERS_TIME: Final = {"message.timestamp.type": "LogAppendTime"}
"""Of a topic of commands; one that other machines are told something on is made too, since a missing one stops the worker."""


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
                "records that it has, or take other topics (the option TOPIC_PREFIX of the processor)"
            )


def register_machines(
    app: App,
    shells: Sequence[Shell],
    *,
    name: str,
    commands: str,
    events: str,
    at_once: Mapping[str, Mapping[str, str]] | None = None,
    commit_within_s: float = COMMIT_WITHIN_S,
) -> None:
    """Declare a processor of machines, its table and its topics.

    Args:
        app: The app.
        shells: Its machines.
        name: Of the processor and of its table.
        commands: The topic of its commands, with the broker's time.
        events: The topic of what everybody is told.
        at_once: More topics that it writes to, each with the settings that it is made with where it is not there.
        commit_within_s: How far apart kafka transactions are under load.
    """
    table: Table = app.Table(name, immutable_values=True)
    commands_topic = app.own_topic(commands, config=BROKERS_TIME)
    events_topic = app.own_topic(events)
    for topic, config in (at_once or {}).items():
        app.own_topic(topic, config=dict(config))
    writer = Writer(app.codec, [sample for shell in shells for sample in shell.samples], events_topic)
    cells: dict[int, Cell] = {}
    replies = ReplyTopics(app)

    @app.agent(app.batch_topic(commands_topic), name=name, concurrency=4)
    async def machines(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            check_times(batch)
            await replies.learn(batch)
            cell = cells.get(batch.partition)
            if cell is None:
                cell = cells[batch.partition] = Cell(app.codec, writer, shells)
            cell.run(batch, batch.view(table), replies.partitions)
            batch.commit_within(commit_within_s)
