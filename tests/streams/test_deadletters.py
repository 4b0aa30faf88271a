"""Dead letters on a real broker: listed, redriven exactly once, purged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.core.deadletters import DeadLetter, dead_letter_headers, fingerprint, parse_dead_letter
from streams.deadletters import DeadLetters, Filter, RedriveSuperseded
from streams.reader import LogReader
from streams.topics import Topics
from streams.transport import Record

MakeTopic = Callable[..., str]


def conf(kafka: EmbeddedBroker) -> dict[str, str]:
    return {"bootstrap.servers": kafka.bootstrap_servers}


def letters_of(kafka: EmbeddedBroker, app: str, source: str, count: int, *, error: type[Exception] = ValueError) -> None:
    """Write what the runtime writes for records that failed."""
    Topics(conf(kafka)).ensure(app + ".dead-letters", 2)
    producer = Producer(conf(kafka))
    for n in range(count):
        headers = dead_letter_headers(
            [("h", b"%d" % n)],
            app=app,
            topic=source,
            partition=n % 4,
            offset=n,
            timestamp_ms=1,
            processor="p",
            error=error(f"bad row {n}"),
            reason=f"bad row {n}",
            now_ms=n,
        )
        producer.produce(app + ".dead-letters", b"\x00value %d" % n, b"key %d" % n, headers=list(headers))
    assert producer.flush(20) == 0


def records(kafka: EmbeddedBroker, topic: str) -> list[Record]:
    reader = LogReader(conf(kafka))
    return [record for batch, _ in reader.read(reader.bounds([topic])) for record in batch]


def test_a_redriven_record_is_the_original_and_goes_back_once(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """Bytes, key, headers and partition are the original's, and a second redrive finds nothing to do."""
    source = make_topic("source")
    letters_of(kafka, source, source, 20)
    letters = DeadLetters(source, conf(kafka))
    assert len(list(letters.list())) == 20
    seen: list[int] = []
    assert letters.redrive(on_progress=lambda p: seen.append(p.records)).done == 20
    back = records(kafka, source)
    assert sorted(r.key or b"" for r in back) == sorted(b"key %d" % n for n in range(20))
    for record in back:
        n = int((record.key or b"").split()[1])
        assert record.value == b"\x00value %d" % n
        assert record.partition == n % 4
        assert record.headers[0] == ("h", b"%d" % n)
        assert [name for name, _ in record.headers[1:]] == ["dl-redriven-from"]
    assert seen == [20]
    again = letters.redrive()
    assert (again.done, again.settled_before) == (0, 20)
    assert len(records(kafka, source)) == 20
    assert list(letters.list()) == []


def test_only_what_the_filter_means_is_redriven(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """By fingerprint, by error and by place; the others stay."""
    source = make_topic("source")
    letters_of(kafka, source, source, 6)
    letters_of(kafka, source, source, 4, error=KeyError)
    letters = DeadLetters(source, conf(kafka))
    groups = letters.groups()
    assert [(group.count, group.first.error) for group in groups] == [(6, "ValueError"), (4, "KeyError")]
    assert letters.redrive(Filter(fingerprint=groups[1].fingerprint)).done == 4
    one = next(letters.list())
    assert letters.show(one.at_partition, one.at_offset) == one
    assert letters.redrive(Filter(partition=one.at_partition, offset=one.at_offset)).done == 1
    assert len(list(letters.list())) == 5


def test_letters_that_cannot_go_back_stay_and_say_why(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """A topic that is gone, and a record that is no dead letter, are counted by reason; the others go."""
    source = make_topic("source")
    letters_of(kafka, source, source, 2)
    letters_of(kafka, source, "gone-" + source, 3)
    producer = Producer(conf(kafka))
    producer.produce(source + ".dead-letters", b"foreign")
    producer.flush(20)
    outcome = DeadLetters(source, conf(kafka)).redrive()
    assert outcome.done == 2
    assert sorted(outcome.refused.values()) == [1, 3]
    assert len(list(DeadLetters(source, conf(kafka)).list())) == 4


def test_purged_letters_are_gone_and_never_redriven(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """What is purged is no longer listed nor redriven, and the broker deletes the settled beginning."""
    source = make_topic("source")
    letters_of(kafka, source, source, 10)
    letters = DeadLetters(source, conf(kafka))
    assert letters.purge().done == 10
    assert letters.redrive().done == 0
    assert list(letters.list(settled=True)) == []
    assert records(kafka, source) == []


def test_the_second_redrive_fences_the_first(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """Two at the same time: the earlier one is stopped by the broker, and each letter goes back once."""
    source = make_topic("source")
    letters_of(kafka, source, source, 1_200)
    first, second = DeadLetters(source, conf(kafka)), DeadLetters(source, conf(kafka))
    done: list[int] = []

    def overtaken(progress: object) -> None:
        if not done:
            done.append(second.redrive().done)

    with pytest.raises(RedriveSuperseded, match=source):
        first.redrive(on_progress=overtaken)
    assert done == [700]
    assert len(records(kafka, source)) == 1_200


def _redrive_and_die(servers: str, app: str, chunks: int) -> None:
    letters = DeadLetters(app, {"bootstrap.servers": servers})
    original = letters._transact

    def transact(producer: object, chunk: object, action: str, partitions: object) -> None:
        nonlocal chunks
        if chunks == 0:
            commit = producer.commit_transaction  # type: ignore[attr-defined]

            class Dying:
                def __getattr__(self, name: str) -> object:
                    if name == "commit_transaction":
                        os.kill(os.getpid(), signal.SIGKILL)  # everything is written, nothing is committed
                    return getattr(producer, name)

            assert commit
            original(Dying(), chunk, action, partitions)  # type: ignore[arg-type]
        chunks -= 1
        original(producer, chunk, action, partitions)  # type: ignore[arg-type]

    letters._transact = transact  # type: ignore[method-assign]
    letters.redrive()


def test_a_redrive_that_dies_before_its_commit_repeats_nothing(kafka: EmbeddedBroker, make_topic: MakeTopic) -> None:
    """After kill -9 between writing and committing redrive does the rest, and every letter is back once."""
    source = make_topic("source")
    letters_of(kafka, source, source, 1_200)
    process = multiprocessing.get_context("spawn").Process(target=_redrive_and_die, args=(kafka.bootstrap_servers, source, 1))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    outcome = DeadLetters(source, conf(kafka)).redrive()
    assert (outcome.done, outcome.settled_before) == (700, 500)
    keys = [record.key for record in records(kafka, source)]
    assert len(keys) == len(set(keys)) == 1_200


def test_a_fingerprint_is_of_the_place_and_the_words_not_of_the_values() -> None:
    """Errors from one line with other numbers and names are alike; another line, class or wording is not."""

    def fail(error: Exception) -> Exception:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            return caught

    alike = {fingerprint(fail(ValueError(f"order {n}: bad amount '{n}.50'"))) for n in range(3)}
    assert len(alike) == 1
    assert fingerprint(fail(ValueError("order 1: bad currency"))) not in alike
    assert fingerprint(fail(KeyError("order 1: bad amount '1.50'"))) not in alike


def test_what_is_written_is_what_is_read() -> None:
    """Headers survive the way there and back; those of an earlier dead letter are replaced, its origin in a redrive stays."""
    before = [("a", b"1"), ("dl-topic", b"old"), ("dl-redriven-from", b"x/0/1"), ("a", b"2")]
    at = int(time.time() * 1000)
    headers = dead_letter_headers(
        before,
        app="app",
        topic="t",
        partition=3,
        offset=9,
        timestamp_ms=5,
        processor="p",
        error=ValueError(),
        reason="a\nb" * 999,
        now_ms=at,
    )
    letter = parse_dead_letter(headers, at_topic="app.dead-letters", at_partition=0, at_offset=1, key=None, value=b"v")
    assert isinstance(letter, DeadLetter)
    assert (letter.origin, letter.error, letter.time_ms, letter.redriven_from) == ("t/3/9", "ValueError", at, "x/0/1")
    assert [one for one in letter.headers if one[0] == "a"] == [("a", b"1"), ("a", b"2")]
    assert "\n" not in letter.reason
    assert len(letter.reason) <= 500
