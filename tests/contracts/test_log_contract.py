"""What any log behind the client facade promises: one suite, run on the in-memory log and on a real broker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.errors import SchemaError
from schemas.work import ChangeCommitted, FileChanged, OverlapFound
from streams.client import Mesh, connect
from streams.codec import Codec
from streams.core.deadletters import parse_dead_letter
from streams.errors import RequestTimedOut, TopicMissing
from streams.requests import RequestFailed
from streams.settings import Settings
from streams.subscriptions import Delivery, ErrorAction, Subscription
from streams.testing import InMemoryLog
from streams.transport import Outgoing, Record

LIMIT_S = 20.0
"""For anything that should happen: a rebalance takes seconds on a busy machine."""


@dataclass
class World:
    """A log to test: connections to it, and topics on it."""

    connect: Callable[[], AbstractAsyncContextManager[Mesh]]
    topic: Callable[..., str]


@pytest.fixture(params=["memory", "kafka"])
def world(request: pytest.FixtureRequest) -> World:
    """The in-memory log, and the embedded broker."""
    if request.param == "memory":
        log = InMemoryLog()

        def create(name: str = "topic", partitions: int = 4) -> str:
            topic = f"{name}-{secrets.token_hex(4)}"
            log.create_topic(topic, partitions=partitions)
            return topic

        return World(log.connect, create)
    broker = request.getfixturevalue("kafka")
    make = request.getfixturevalue("make_topic")
    client = {"bootstrap_servers": broker.bootstrap_servers, "client_id": f"contract-{secrets.token_hex(4)}"}
    return World(lambda: connect(Settings(kafka=client)), make)


def changed(seq: int, agent: str = "ada") -> FileChanged:
    return FileChanged(agent=agent, task="t", ts=1, arrived=2, path="p", added=1, removed=0, seq=seq)


def committed(agent: str = "ada") -> ChangeCommitted:
    return ChangeCommitted(agent=agent, task="t", ts=1, arrived=2, files=1, added=1, removed=0)


async def take(subscription: Subscription[Any], count: int) -> list[Delivery[Any]]:
    async with asyncio.timeout(LIMIT_S):
        return [await anext(subscription) for _ in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.02)


async def quiet(subscription: Subscription[Any], for_s: float = 0.5) -> bool:
    """Whether nothing more comes."""
    try:
        async with asyncio.timeout(for_s):
            await anext(subscription)
    except TimeoutError:
        return True
    return False


async def test_published_events_arrive_as_they_were_in_the_order_of_their_key(world: World) -> None:
    """A key's events come out in the order they went in, with every attribute, at the position that publish returned."""
    topic = world.topic()
    async with world.connect() as mesh:
        positions = [await mesh.publish(changed(n), topic=topic) for n in range(20)]
        async with mesh.subscribe(topic, group="g-" + topic) as subscription:
            deliveries = await take(subscription, 20)
    assert [d.position for d in deliveries] == positions
    assert [d.event.seq for d in deliveries] == list(range(20))
    assert len({d.position.partition for d in deliveries}) == 1
    event = deliveries[0].event
    assert event.id
    assert event.source
    assert event.time_ms > 0


async def test_every_event_published_in_the_background_is_there_after_flush(world: World) -> None:
    """publish_soon and flush lose and repeat nothing."""
    topic = world.topic()
    async with world.connect() as mesh:
        for n in range(500):
            await mesh.publish_soon(changed(n, f"agent-{n % 7}"), topic=topic)
        await mesh.flush()
        async with mesh.subscribe(topic, group="g-" + topic) as subscription:
            deliveries = await take(subscription, 500)
            assert await quiet(subscription)
    assert sorted(d.event.seq for d in deliveries) == list(range(500))


async def test_an_unacknowledged_delivery_comes_again_and_an_acknowledged_one_does_not(world: World) -> None:
    """Whoever takes over begins at the first record that was not acknowledged."""
    topic = world.topic(partitions=1)
    async with world.connect() as mesh:
        for n in range(5):
            await mesh.publish(changed(n), topic=topic)
        async with mesh.subscribe(topic, group="g-" + topic) as subscription:
            await take(subscription, 3)  # the third one is never acknowledged
        async with mesh.subscribe(topic, group="g-" + topic) as subscription:
            again = await take(subscription, 3)
    assert [d.event.seq for d in again] == [2, 3, 4]


async def test_acknowledgements_out_of_order_never_skip_a_record(world: World) -> None:
    """With explicit acks the group's offset stays before the first record that is at work."""
    topic = world.topic(partitions=1)
    async with world.connect() as mesh:
        for n in range(5):
            await mesh.publish(changed(n), topic=topic)
        async with mesh.subscribe(topic, group="g-" + topic, ack="explicit") as subscription:
            deliveries = await take(subscription, 5)
            for n in (0, 2, 4, 3):
                assert deliveries[n].ack()
            await subscription.commit()
        async with mesh.subscribe(topic, group="g-" + topic, ack="explicit") as subscription:
            again = await take(subscription, 4)
    assert [d.event.seq for d in again] == [1, 2, 3, 4]
    assert not deliveries[1].ack()  # its subscription is closed: too late


async def test_members_of_a_group_share_and_others_see_everything(world: World) -> None:
    """Two members of a group get each event once between them; a subscriber without a group gets all of them."""
    topic = world.topic()
    async with world.connect() as one, world.connect() as two:
        seen: list[int] = []

        async def read(subscription: Subscription[Any]) -> None:
            async for delivery in subscription:
                seen.append(delivery.event.seq)  # noqa: PERF401

        async with (
            one.subscribe(topic, group="g-" + topic) as a,
            two.subscribe(topic, group="g-" + topic) as b,
            one.subscribe(topic) as all_,
        ):
            readers = [asyncio.ensure_future(read(a)), asyncio.ensure_future(read(b))]
            for n in range(100):
                await one.publish_soon(changed(n, f"agent-{n}"), topic=topic)
            await one.flush()
            everything = await take(all_, 100)
            await until(lambda: len(set(seen)) == 100)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
    assert sorted(set(seen)) == list(range(100))
    assert sorted(d.event.seq for d in everything) == list(range(100))


async def test_without_a_group_latest_begins_now_and_earliest_at_the_beginning(world: World) -> None:
    """A subscription sees every event published after it was opened, and earlier ones only where asked."""
    topic = world.topic()
    async with world.connect() as mesh:
        await mesh.publish(changed(1), topic=topic)
        async with mesh.subscribe(topic) as late, mesh.subscribe(topic, start="earliest") as early:
            await mesh.publish(changed(2), topic=topic)
            assert [d.event.seq for d in await take(late, 1)] == [2]
            assert [d.event.seq for d in await take(early, 2)] == [1, 2]


async def test_patterns_pick_matching_topics_up_also_new_ones(world: World) -> None:
    """A glob reads the topics that match, and one that is created later from its beginning."""
    prefix = "p" + secrets.token_hex(4)
    first, other = world.topic(prefix + ".a"), world.topic("other")
    async with world.connect() as mesh, mesh.subscribe(prefix + ".*", group=prefix) as subscription:
        await mesh.publish(changed(1), topic=first)
        await mesh.publish(changed(2), topic=other)
        assert [d.position.topic for d in await take(subscription, 1)] == [first]
        second = world.topic(prefix + ".b")
        await mesh.publish(changed(3), topic=second)
        assert [d.position.topic for d in await take(subscription, 1)] == [second]


async def test_types_select_events_before_they_are_decoded(world: World) -> None:
    """Other types are passed over, and the group goes on behind them."""
    topic = world.topic(partitions=1)
    async with world.connect() as mesh:
        await mesh.publish(changed(1), topic=topic)
        await mesh.publish(committed(), topic=topic)
        async with mesh.subscribe(topic, group="g-" + topic, types=[ChangeCommitted]) as subscription:
            deliveries = await take(subscription, 1)
            assert subscription.filtered == 1
    assert isinstance(deliveries[0].event, ChangeCommitted)


@pytest.mark.parametrize("action", ["raise", "skip", "dead-letter"])
async def test_bytes_that_are_no_event_go_where_on_error_says(world: World, action: ErrorAction) -> None:
    """A poison record ends the loop, is counted, or is set aside with its bytes; the good one behind it arrives."""
    topic = world.topic(partitions=1)
    letters = world.topic("letters", partitions=1)
    group = letters
    async with world.connect() as mesh:
        if action == "dead-letter":
            await mesh._log.ensure_topic(group + ".dead-letters", 1, {})
        await mesh.send(Outgoing(topic, b"k", b"not avro", (("h", b"1"),)))
        await mesh.publish(changed(1), topic=topic)
        async with mesh.subscribe(topic, group=group, on_error=action) as subscription:
            if action == "raise":
                with pytest.raises(Exception, match=topic):
                    await take(subscription, 1)
                return
            assert (await take(subscription, 1))[0].event.seq == 1
            assert (subscription.skipped, subscription.dead_lettered) == ((1, 0) if action == "skip" else (0, 1))
        if action == "dead-letter":
            found: list[Record] = []

            def keep(_error: SchemaError, record: Record) -> ErrorAction:
                found.append(record)
                return "skip"

            feed = mesh.subscribe(group + ".dead-letters", start="earliest", on_error=keep)
            async with feed:
                assert await quiet(feed, 1.0)
            letter = parse_dead_letter(
                found[0].headers, at_topic="", at_partition=0, at_offset=0, key=found[0].key, value=found[0].value
            )
            assert (letter.key, letter.value, letter.topic, letter.offset, letter.error) == (
                b"k",
                b"not avro",
                topic,
                0,
                "MalformedRecord",
            )
            assert ("h", b"1") in letter.headers


async def test_a_missing_topic_is_named_at_once(world: World) -> None:
    """Publishing to a topic that does not exist, and subscribing to it, says which and what to do."""
    async with world.connect() as mesh:
        for publish in (mesh.publish, mesh.publish_soon):
            with pytest.raises(TopicMissing, match="no-such-topic"):
                async with asyncio.timeout(LIMIT_S):
                    await publish(changed(1), topic="no-such-topic")
        with pytest.raises(TopicMissing, match="no-such-topic"):
            await take(mesh.subscribe("no-such-topic", group="g"), 1)


async def test_a_request_gets_its_reply_in_the_same_conversation(world: World) -> None:
    """The reply is the handler's, caused by the request, and many at a time do not get mixed up."""
    topic = world.topic()

    async def handler(event: FileChanged) -> OverlapFound:
        return overlap(event.agent)

    async with world.connect() as asker, world.connect() as answerer:
        await answerer.handle(FileChanged, handler, topic=topic, group="g-" + topic)
        replies = await asyncio.gather(
            *(asker.request(changed(n, f"agent-{n}"), reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S) for n in range(20))
        )
    assert [reply.path for reply in replies] == [f"agent-{n}" for n in range(20)]
    assert all(reply.causation_id and reply.correlation_id for reply in replies)


async def test_a_handler_that_raises_fails_the_request_with_its_reason(world: World) -> None:
    """The caller learns the class and the message of what was raised, and the handler goes on."""
    topic = world.topic()

    async def handler(event: FileChanged) -> OverlapFound:
        if event.seq == 1:
            raise ValueError("no such file")
        return overlap("fine")

    async with world.connect() as mesh:
        await mesh.handle(FileChanged, handler, topic=topic, group="g-" + topic)
        with pytest.raises(RequestFailed, match="ValueError: no such file") as caught:
            await mesh.request(changed(1), reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S)
        assert caught.value.error == "ValueError"
        assert (await mesh.request(changed(2), reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S)).path == "fine"


async def test_a_request_without_an_answer_times_out_and_its_late_reply_is_counted(world: World) -> None:
    """The error names the request, its topic and the time; the later reply is dropped, not given to another request."""
    topic = world.topic()
    go = asyncio.Event()

    async def handler(event: FileChanged) -> OverlapFound:
        if event.seq == 1:
            await go.wait()
        return overlap(str(event.seq))

    async with world.connect() as mesh:
        await mesh.handle(FileChanged, handler, topic=topic, group="g-" + topic)
        assert (await mesh.request(changed(0), reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S)).path == "0"
        with pytest.raises(RequestTimedOut, match=r"file\.changed .* within 0\.3 s"):
            await mesh.request(changed(1), reply_type=OverlapFound, topic=topic, timeout_s=0.3)
        go.set()
        await until(lambda: mesh.late_replies > 0)
        assert (await mesh.request(changed(2), reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S)).path == "2"


async def test_a_request_asked_again_is_answered_from_memory(world: World) -> None:
    """The same request id runs the handler once and gets the same reply."""
    topic = world.topic()
    runs: list[int] = []

    async def handler(event: FileChanged) -> OverlapFound:
        runs.append(event.seq)
        return overlap(str(len(runs)))

    async with world.connect() as mesh:
        handling = await mesh.handle(FileChanged, handler, topic=topic, group="g-" + topic)
        request = mesh.stamp(changed(1))
        replies = [await mesh.request(request, reply_type=OverlapFound, topic=topic, timeout_s=LIMIT_S) for _ in range(3)]
        assert handling.repeated == 2
    assert runs == [1]
    assert len({reply.id for reply in replies}) == 1


def overlap(path: str) -> OverlapFound:
    return OverlapFound(
        path=path,
        first_agent="a",
        first_task="t",
        first_ts=1,
        first_arrived=2,
        second_agent="b",
        second_task="t",
        second_ts=1,
        second_arrived=2,
    )


def test_the_suite_uses_the_real_codec() -> None:
    """An event that the suite publishes is one that the catalogue knows."""
    stamped = Codec().stamp(changed(1), id="1", source="/t", time_ms=1)
    assert Codec().encode(stamped).topic == "agents.events"
