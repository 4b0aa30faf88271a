"""`antiphon replay` on a real broker: what is selected, how it is printed, its pace and its exit codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from schemas.work import ChangeCommitted
from streams.broker import EmbeddedBroker
from streams.codec import Codec

Run = Callable[..., tuple[int, str, str]]
MakeTopic = Callable[..., str]

BASE_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


@pytest.fixture
def filled(kafka: EmbeddedBroker, make_topic: MakeTopic) -> str:
    """Two partitions of ten records each, a second apart, keys a-0 to a-9 and b-0 to b-9."""
    topic = make_topic("cli-replay", partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for n in range(10):
        for partition, letter in enumerate("ab"):
            producer.produce(topic, f"{letter}{n}", f"{letter}-{n}", partition, timestamp=BASE_MS + n * 1000)
    assert producer.flush(20) == 0
    return topic


def _values(answer: tuple[int, str, str]) -> list[str]:
    assert answer[0] == 0, answer
    return sorted(json.loads(line)["value"] for line in answer[1].splitlines())


def test_all_is_printed_as_json_with_its_place(run: Run, filled: str) -> None:
    """Each record once, one document a line, its partition in order, and nothing else on standard output."""
    code, out, err = run("replay", filled, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert "20 records" in err
    for partition, letter in enumerate("ab"):
        mine = [one for one in records if one["partition"] == partition]
        assert [(one["offset"], one["key"], one["value"]) for one in mine] == [
            (n, f"{letter}-{n}", f"{letter}{n}") for n in range(10)
        ]
        assert mine[3]["timestamp_ms"] == BASE_MS + 3000


def test_offsets_times_keys_and_partitions_select(run: Run, filled: str) -> None:
    """--from and --to take offsets (negative: from the end) and times; --key a key or a pattern; what is given must all hold."""
    assert _values(run("replay", filled, "--from", "2", "--to", "4", "--json")) == ["a2", "a3", "b2", "b3"]
    assert _values(run("replay", filled, "--from", "-1", "--json")) == ["a9", "b9"]
    times = ("--from", "2026-01-01T00:00:08", "--to", "2026-01-01T01:00:09+01:00")
    assert _values(run("replay", filled, *times, "--json")) == ["a8", "b8"]
    assert _values(run("replay", filled, "--key", "b-7", "--json")) == ["b7"]
    assert _values(run("replay", filled, "--key", "?-[12]", "--from", "2", "--json")) == ["a2", "b2"]
    assert _values(run("replay", filled, "--first-key", "a-8", "--last-key", "b-0", "--json")) == ["a8", "a9", "b0"]
    assert _values(run("replay", filled, "--partition", "1", "--to", "2", "--json")) == ["b0", "b1"]


def test_several_topics_come_in_the_order_of_time(run: Run, kafka: EmbeddedBroker, filled: str, make_topic: MakeTopic) -> None:
    """Records of another topic stand between those of the first, by timestamp."""
    other = make_topic("cli-replay-other", partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(other, "between", "c", 0, timestamp=BASE_MS + 4_500)
    assert producer.flush(20) == 0
    code, out, _ = run("replay", filled, other, "--json")
    values = [json.loads(line)["value"] for line in out.splitlines()]
    at = values.index("between")
    assert code == 0
    assert (len(values), {value[1] for value in values[:at]}) == (21, set("01234"))


def test_a_speed_keeps_the_distances_of_time(run: Run, filled: str) -> None:
    """Nine seconds of records take nine tenths of a second at 10x; --gap-max cuts each pause; flat out waits for nothing."""
    took = {}
    for options in (("--speed", "10x"), ("--speed", "10", "--gap-max", "0.01"), ("--speed", "flat")):
        began = time.monotonic()
        assert run("replay", filled, "--count", *options)[:2] == (0, "20\n")
        took[options[-1]] = time.monotonic() - began
    assert took["10x"] >= 0.9


def test_an_event_is_shown_decoded_for_people_and_machines(run: Run, kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """The type and the fields of an event, not its Avro bytes; bytes that only look like one say why they could not be read."""
    topic = make_topic("cli-replay-events", partitions=1)
    event = ChangeCommitted(id="e-1", source="test", agent="ada", task="T-1", ts=1, arrived=2, files=3, added=4, removed=5)
    _, key, value, headers = Codec().encode(event)
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(topic, value, key, headers=list(headers))
    producer.produce(topic, b"\0\0\0\xff\xff??", b"odd")
    assert producer.flush(20) == 0
    code, out, _ = run("replay", topic, "--json")
    good, odd = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert (good["type"], good["value"]["agent"], good["value"]["files"], good["error"]) == ("change.committed", "ada", 3, None)
    assert odd["error"].startswith(f"{topic} partition 0 offset 1")
    assert "change.committed ada" in run("replay", topic)[1]


def test_counting_prints_a_number_only(run: Run, filled: str) -> None:
    """--count, for people and as JSON."""
    assert run("replay", filled, "--count", "--key", "a-*")[1] == "10\n"
    assert json.loads(run("replay", filled, "--count", "--json")[1]) == {"records": 20}


def test_nothing_selected_is_code_4(run: Run, filled: str) -> None:
    """So is a topic that is not there; the line says which."""
    code, out, err = run("replay", filled, "--key", "nobody")
    assert (code, out) == (4, "")
    assert filled in err.splitlines()[-1]
    code, out, err = run("replay", "no-such-topic")
    assert (code, out, err.count("\n")) == (4, "", 1)


@pytest.mark.parametrize(
    "options",
    [
        ("--speed", "fast"),
        ("--speed", "0"),
        ("--speed", "nan"),
        ("--from", "yesterday"),
        ("--to", "-3"),
        ("--from", "7", "--to", "3"),
        ("--first-key", "b", "--last-key", "a"),
        ("--partition", "-1"),
    ],
)
def test_wrong_usage_is_code_2_and_reads_nothing(run: Run, filled: str, options: tuple[str, ...]) -> None:
    """A speed, a place or a range that cannot be is refused."""
    code, out, err = run("replay", filled, *options)
    assert (code, out) == (2, "")
    assert err
