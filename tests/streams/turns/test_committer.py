"""The committer on a real broker: what a turn holds becomes visible together, or nothing of it does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from faust.types import TP

from streams.broker import EmbeddedBroker
from streams.turns.batch import GONE, Effects
from streams.turns.committer import DEAD_LETTER_BYTES_MAX, Committer, Turn
from streams.turns.fence import group_metadata
from streams.turns.lookup import Lookup
from tests.e2e.trial import read_committed
from tests.streams.turns.fakes import FakeTable

NOBODY = -1
Topic = Callable[..., str]


class Place:
    """A group, a source and an output on the broker, and committers that share a transactional id."""

    def __init__(self, servers: str, topic: Topic) -> None:
        self.servers, self.client = servers, {"bootstrap.servers": servers}
        self.group = f"commit-{secrets.token_hex(4)}"
        self.source, self.out, self.changelog = topic("in", partitions=1), topic("out", partitions=1), topic("log", partitions=1)
        self.tp = TP(self.source, 0)
        self.made: list[Committer] = []

    def committer(self, *, transactional: bool = True) -> Committer:
        made = Committer(self.client, transactional_id=self.group if transactional else None, transaction_timeout_ms=10_000)
        self.made.append(made)
        return made

    def member(self, generation: int = NOBODY) -> bytes:
        """Return metadata of nobody in the group, which a group without members accepts, or of a stranger to it."""
        return group_metadata(group_id=self.group, generation=generation, member_id="" if generation == NOBODY else "gone")

    def turn(self, offset: int, *outputs: tuple[Any, ...], member: bytes | None = None) -> Turn:
        """Return a turn of one batch: outputs are topic and value, and perhaps a partition and headers."""
        effects = Effects(self.tp, next_offset=offset, records=1)
        for topic, value, *rest in outputs:
            partition = rest[0] if rest else -1
            effects.outputs.append((topic, b"k", value, partition, rest[1] if len(rest) > 1 else None))
        return Turn(self.member() if member is None else member, [effects])

    def seen(self, topic: str = "") -> list[bytes | None]:
        """Return the committed values of a topic."""
        return [value for *_, value in read_committed(self.servers, topic or self.out, 1)]

    async def offset(self) -> int:
        """Return the group's offset."""
        lookup = Lookup(self.client, self.group)
        try:
            return (await lookup.ask(lookup.committed, [self.tp]))[self.tp]
        finally:
            lookup.close()


@pytest.fixture
def place(kafka: EmbeddedBroker, topic: Topic) -> Iterator[Place]:
    """A place of this test's own. Its group has a coordinator, as every worker's has that joined it."""
    made = Place(kafka.bootstrap_servers, topic)
    asyncio.run(made.offset())
    yield made
    for committer in made.made:
        committer.close()


async def test_outputs_tables_and_offsets_become_visible_together(place: Place) -> None:
    """The output, one changelog record a key and the offset are there, and the turn knows where its changelog ended."""
    table: Any = FakeTable("t")
    table.changelog_topic_name = place.changelog
    turn = place.turn(5, (place.out, b"a"), (place.out, b"b", 0, [("h", b"1"), ("none", None)]))
    for writes in ({"x": 1, "y": 1}, {"x": 2, "z": GONE}):
        effects = Effects(place.tp, next_offset=6, records=1)
        effects.writes[table], effects.encoded[table] = dict(writes), table.encode(writes)
        turn.effects.append(effects)
    assert await place.committer().make_visible(turn) is None
    assert place.seen() == [b"a", b"b"]
    log = [(key, value) for _, _, key, value in read_committed(place.servers, place.changelog, 1)]
    assert log == [(b'"x"', b"2"), (b'"y"', b"1"), (b'"z"', None)]
    assert turn.tails == {TP(place.changelog, 0): 2}
    assert await place.offset() == 6


async def test_a_fenced_turn_leaves_nothing_and_the_next_one_commits(place: Place) -> None:
    """Offsets of a member that the group does not know are refused as fenced; nothing is seen, and the committer goes on."""
    committer = place.committer()
    refusal = await committer.make_visible(place.turn(5, (place.out, b"zombie"), member=place.member(3)))
    assert refusal is not None
    assert (refusal.step, refusal.code, refusal.fenced, refusal.permanent) == ("offsets", "ILLEGAL_GENERATION", True, False)
    assert await committer.make_visible(place.turn(1, (place.out, b"good"))) is None
    assert (place.seen(), await place.offset()) == ([b"good"], 1)


async def test_an_older_holder_of_the_id_is_told_that_it_was_taken_over(place: Place) -> None:
    """Two committers with one transactional id fence each other: the first learns of it and leaves nothing behind."""
    first, second = place.committer(), place.committer()
    assert await first.make_visible(place.turn(1, (place.out, b"1"))) is None
    assert await second.make_visible(place.turn(2, (place.out, b"2"))) is None
    refusal = await first.make_visible(place.turn(3, (place.out, b"3")))
    assert refusal is not None
    assert refusal.taken_over
    assert (place.seen(), await place.offset()) == ([b"1", b"2"], 2)


async def test_an_output_that_can_never_be_written_is_refused_for_good(place: Place) -> None:
    """At first librdkafka tells that a record failed, not why; tried once more the reason is asked for, and ends the trying."""
    committer, turn = place.committer(), place.turn(5, (place.out, b"lost", 99))
    first = await committer.make_visible(turn)
    assert first is not None
    assert (first.step, first.permanent) == ("commit", False)
    again = await committer.make_visible(turn)
    assert again is not None
    assert again.step in ("produce", "commit")  # once the metadata is there the call itself knows
    assert (again.code, again.permanent) == ("_UNKNOWN_PARTITION", True)
    assert place.seen() == []


async def test_a_record_too_large_for_its_topic_is_refused_for_good(place: Place, topic: Topic) -> None:
    """A topic may take less than the runtime allows; the broker itself says so."""
    small = topic("small", partitions=1, **{"max.message.bytes": "1000"})
    refusal = await place.committer().make_visible(place.turn(5, (small, secrets.token_bytes(5_000))))
    assert refusal is not None
    assert refusal.step in ("offsets", "commit")  # the broker's answer may come before the commit is asked for
    assert (refusal.code, refusal.permanent) == ("MSG_SIZE_TOO_LARGE", True)


async def test_the_largest_record_of_a_source_can_become_a_dead_letter(place: Place, topic: Topic) -> None:
    """A record as large as a default topic takes, and the headers that say why it is set aside, fit the dead-letter topic."""
    dead = topic("dead", partitions=1, **{"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)})
    largest = b"x" * 1_048_500
    producer = Producer({**place.client, "message.max.bytes": 2_000_000})
    producer.produce(place.source, largest)
    assert producer.flush(30) == 0
    assert place.seen(place.source) == [largest]
    headers = [("dl-reason", b"r" * 1_000)]
    assert await place.committer().make_visible(place.turn(1, (dead, largest, -1, headers))) is None
    assert place.seen(dead) == [largest]


async def test_at_least_once_writes_without_a_kafka_transaction(place: Place) -> None:
    """The records are acknowledged when the turn is visible; offsets are left to the group's member."""
    committer = place.committer(transactional=False)
    assert await committer.make_visible(place.turn(5, (place.out, b"a"))) is None
    assert (place.seen(), await place.offset() < 0) == ([b"a"], True)
    refusal = await committer.make_visible(place.turn(5, (place.out, b"lost", 99)))
    assert refusal is not None
    assert (refusal.code, refusal.permanent) == ("_UNKNOWN_PARTITION", True)


async def test_a_closed_committer_refuses(place: Place) -> None:
    """A worker that stops does not begin another kafka transaction, and closing does not wait for a broker."""
    away = Committer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, transactional_id="x", transaction_timeout_ms=10_000)
    turn = asyncio.ensure_future(away.make_visible(place.turn(5)))
    away._closing.set()
    refusal = await turn
    assert refusal is not None
    assert refusal.step == "begin"
    away.close()
