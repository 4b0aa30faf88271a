"""What runs machines as a processor: the times and the reply topics of commands."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import pytest

from streams.errors import BrokerUnavailable, CannotGoOn, TopicError, TopicMissing
from streams.machines.running import ReplyTopics, check_times
from streams.requests import REPLY_TO
from streams.turns.batch import Batch
from tests.streams.turns.fakes import IN, records


class Timed(NamedTuple):
    """A record as it is fetched, as far as its time goes."""

    offset: int
    timestamp_type: int


def batch_of(found: list[Any]) -> Batch:
    return Batch(IN, cast(Any, found), now_ms=0, next_offset=0, below=lambda _: (), codec=cast(Any, None))


def test_records_with_their_writers_time_stop_the_worker() -> None:
    """One line: which topic and record, what is wrong, what to do. No record is to blame, so none becomes a dead letter."""
    with pytest.raises(CannotGoOn) as raised:
        check_times(batch_of([Timed(7, 1), Timed(8, 0)]))
    said = str(raised.value)
    assert said.startswith("topic 'in', partition 0, offset 8: ")
    assert "message.timestamp.type=LogAppendTime" in said
    assert "TOPIC_PREFIX" in said
    assert "\n" not in said


def test_records_with_the_brokers_time_are_taken() -> None:
    """So are those of fakes, which have none of either kind, and a batch without records."""
    check_times(batch_of([Timed(7, 1), Timed(8, 1)]))
    check_times(batch_of(records([0])))
    check_times(batch_of([]))


class Topics:
    """Says of each topic what the test says."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def describe(self, topic: str) -> Any:
        raise self.error


def asking(error: Exception) -> tuple[ReplyTopics, Batch]:
    replies = ReplyTopics(cast(Any, None))
    replies._topics = cast(Any, Topics(error))
    record = records([0])[0]._replace(headers=((REPLY_TO, b"me.replies"),))
    return replies, batch_of([record])


@pytest.mark.parametrize("error", [TopicMissing("me.replies"), TopicError("me.replies", "not allowed")])
async def test_a_reply_topic_that_cannot_be_used_is_no_route(error: Exception) -> None:
    """The command is carried out all the same: its fate is the log's alone."""
    replies, batch = asking(error)
    await replies.learn(batch)
    assert replies.partitions == {}


async def test_while_the_broker_is_away_commands_wait() -> None:
    """It is asked again; nothing is dropped."""
    replies, batch = asking(BrokerUnavailable("nobody answers"))
    with pytest.raises(BrokerUnavailable):
        await replies.learn(batch)
