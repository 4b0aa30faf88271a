"""Replay on a real broker: ranges, ends that are no records, pace, rebuilt projections."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson
import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.errors import SettingsError, TopicError, TopicMissing
from streams.replay import Progress, Replay, Selection, compare, read_table, rebuild
from streams.settings import Settings
from streams.transport import Record

MakeTopic = Callable[..., str]


@pytest.fixture
def settings(kafka: EmbeddedBroker) -> Settings:
    return Settings(kafka={"bootstrap_servers": kafka.bootstrap_servers})


def fill(kafka: EmbeddedBroker, topic: str, count: int = 100, *, partitions: int = 4, step_ms: int = 10) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for n in range(count):
        producer.produce(topic, b"%d" % n, b"k%02d" % (n % 10), n % partitions, timestamp=1_700_000_000_000 + n * step_ms)
    assert producer.flush(20) == 0


def values(replay: Replay) -> list[int]:
    return [int(record.value or b"") for record in replay]


def test_everything_is_read_in_order_with_progress_that_ends_at_all_of_it(
    kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings
) -> None:
    """Every record once, each partition in its order, and the last report says done."""
    topic = make_topic()
    fill(kafka, topic)
    reports: list[Progress] = []
    records = list(Replay(topic, settings=settings, on_progress=reports.append))
    assert sorted(int(r.value or b"") for r in records) == list(range(100))
    for partition in range(4):
        offsets = [r.offset for r in records if r.partition == partition]
        assert offsets == sorted(offsets)
    assert (reports[-1].share, reports[-1].eta_s, reports[-1].records) == (1.0, 0.0, 100)


def test_ranges_of_offset_time_and_key_restrict(kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings) -> None:
    """Each range takes exactly its records, and all given ones must hold."""
    topic = make_topic()
    fill(kafka, topic)
    base = 1_700_000_000_000
    assert sorted(values(Replay(topic, settings=settings, selection=Selection(start_offset=5, end_offset=7)))) == list(
        range(20, 28)
    )
    assert sorted(values(Replay(topic, settings=settings, selection=Selection(start_offset=-1)))) == [96, 97, 98, 99]
    times = Selection(start_ms=base + 500, end_ms=base + 600)
    assert sorted(values(Replay(topic, settings=settings, selection=times))) == list(range(50, 60))
    assert sorted(values(Replay(topic, settings=settings, selection=Selection(key=b"k03")))) == list(range(3, 100, 10))
    keys = Selection(first_key=b"k03", last_key=b"k04", end_ms=base + 200)
    assert sorted(values(Replay(topic, settings=settings, selection=keys))) == [3, 4, 13, 14]
    assert sorted(values(Replay(topic, settings=settings, selection=Selection(partitions=frozenset({2}))))) == list(
        range(2, 100, 4)
    )
    assert values(Replay(topic, settings=settings, selection=Selection(start_ms=base + 10_000_000))) == []


def test_it_ends_where_the_log_ends_in_aborted_transactions_and_markers(
    kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings
) -> None:
    """Aborted records are not given, and the end behind them is reached."""
    topic = make_topic(partitions=1)
    fill(kafka, topic, 5, partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(30)
    for commit in (True, False):
        producer.begin_transaction()
        producer.produce(topic, b"100" if commit else b"666", b"k")
        producer.flush(20)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)
    started = time.monotonic()
    assert values(Replay(topic, settings=settings)) == [0, 1, 2, 3, 4, 100]
    assert time.monotonic() - started < 10


def test_what_is_written_meanwhile_is_not_part_of_it(kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings) -> None:
    """The end is the one at the beginning, however much comes later."""
    topic = make_topic()
    fill(kafka, topic, 8)
    seen: list[Record] = []
    for record in Replay(topic, settings=settings):
        if not seen:
            fill(kafka, topic, 100)
        seen.append(record)
    assert len(seen) == 8


async def test_a_speed_keeps_the_time_between_records(kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings) -> None:
    """At ten times real time five seconds take half a second, in the order of time over all partitions; long gaps are cut."""
    topic = make_topic()
    fill(kafka, topic, 51, step_ms=100)
    started = 0.0
    seen: list[Record] = []
    async for record in Replay(topic, settings=settings, speed=10.0):
        started = started or time.monotonic()
        seen.append(record)
    assert [int(r.value or b"") for r in seen] == list(range(51))
    assert 0.45 < time.monotonic() - started < 3
    started = time.monotonic()
    assert len(values(Replay(topic, settings=settings, speed=0.001, gap_ms_max=1))) == 51
    assert time.monotonic() - started < 10


def test_a_projection_rebuilt_from_the_log_equals_the_table(
    kafka: EmbeddedBroker, make_topic: MakeTopic, settings: Settings
) -> None:
    """Equal where they are, and else the first difference with both values in words."""
    topic, changelog = make_topic(), make_topic("table", **{"cleanup.policy": "compact"})
    fill(kafka, topic)

    def fold(state: dict[str, list[int]], record: Record) -> None:
        key = (record.key or b"").decode()
        state[key] = [*state.get(key, []), int(record.value or b"")]

    rebuilt = rebuild(fold, topic, settings=settings)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for partition, state in rebuilt.partitions.items():
        producer.produce(changelog, orjson.dumps([1]), orjson.dumps("gone"), partition)
        producer.produce(changelog, None, orjson.dumps("gone"), partition)
        for key, value in state.items():
            producer.produce(changelog, orjson.dumps(value[:1]), orjson.dumps(key), partition)
            producer.produce(changelog, orjson.dumps(value), orjson.dumps(key), partition)
    producer.flush(20)
    live = read_table(changelog, settings=settings)
    found = compare(live, rebuilt)
    assert found.equal
    assert found.count == sum(len(state) for state in rebuilt.partitions.values())
    assert str(found) == f"equal: {found.count} keys"
    first = min(rebuilt.partitions)
    key = min(rebuilt.partitions[first])
    rebuilt.partitions[first][key] = [7]
    del live.partitions[max(live.partitions)][max(live.partitions[max(live.partitions)])]
    found = compare(live, rebuilt)
    assert (found.equal, found.differences) == (False, 2)
    assert f'partition {first}, key "{key}": live has [' in str(found)
    assert "rebuilt has [7]" in str(found)


def test_what_cannot_be_read_is_said_in_one_line(settings: Settings, make_topic: MakeTopic) -> None:
    """A missing topic, a missing partition, and a range the wrong way round name themselves."""
    with pytest.raises(TopicMissing, match="no-such-topic"):
        list(Replay("no-such-topic", settings=settings))
    with pytest.raises(TopicError, match="no partition 9"):
        list(Replay(make_topic(), settings=settings, selection=Selection(partitions=frozenset({9}))))
    with pytest.raises(SettingsError, match="wrong way round"):
        Selection(start_offset=5, end_offset=4)
    with pytest.raises(ValueError, match="negative"):
        Replay("t", settings=settings, speed=-1)
