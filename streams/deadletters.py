"""Dead letters: look at them, send them back exactly once, or put them away.

    app.dead-letters            the record as it was, and why it is here      ─┐ one kafka transaction:
    app.dead-letters.redriven   key = partition/offset of a settled letter    ◀┼─ the marker
    the original topic          the record as it was, dl-redriven-from        ◀┘  and the record

Guarantees: a letter is redriven once, also when the process dies at any moment (the marker and the record are visible together
or not at all), when `redrive` runs again (marked letters are passed over), and when two run at the same time: both have the
transactional id of the topic, so the broker fences the one that began first, and the other sees all it has done. A redriven
record keeps its bytes, its key, its headers and its partition, and is a new record: later ones of its key may have been
processed meanwhile.

`purge` marks letters as put away, and lets the broker delete the beginning of a partition where all is settled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.core.deadletters import (
    DEAD_LETTERS_SUFFIX,
    DeadLetter,
    dead_letter_headers,
    dead_letter_topic,
    fingerprint,
    marker_key,
    parse_dead_letter,
    redrive_headers,
    redriven_topic,
)
from streams.core.pace import Progress
from streams.errors import AntiphonError, BrokerError, BrokerUnavailable, TransactionsUnsupported
from streams.reader import LogReader
from streams.topics import COMPACTED, broker_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.settings import Settings

__all__ = [
    "DEAD_LETTERS_SUFFIX",
    "DeadLetter",
    "DeadLetters",
    "Filter",
    "Group",
    "Outcome",
    "RedriveSuperseded",
    "dead_letter_headers",
    "dead_letter_topic",
    "fingerprint",
]

CHUNK: Final = 500
"""Letters in one kafka transaction: milliseconds of work, so that a fence or a crash costs little."""
TRANSACTION_TIMEOUT_MS: Final = 60_000
"""After this the broker aborts what a dead redrive left open; a chunk takes a hundredth of it."""
CALL_S: Final = 30.0
"""For one transactional call; a new broker makes its transaction topic at the first, which takes seconds."""
FLUSH_S: Final = 30.0
"""For the records of one chunk to be acknowledged."""

_FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})

OnProgress = Callable[[Progress], None]


class RedriveSuperseded(AntiphonError):
    """Another redrive or purge of the topic took over. What was done stays done; run it again when that one has ended."""

    retryable = True
    fault = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters; what is given must all hold.

    Attributes:
        fingerprint: Of their failure; the beginning of it is enough.
        error: The error's class.
        topic: Where they came from.
        key: Their key.
        partition: Of the dead letter topic.
        offset: Of the dead letter topic.
        processor: Who refused them; the end of the name is enough.
    """

    fingerprint: str = ""
    error: str = ""
    topic: str = ""
    key: bytes | None = None
    partition: int | None = None
    offset: int | None = None
    processor: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        """Return whether a letter is meant."""
        return (
            letter.fingerprint.startswith(self.fingerprint)
            and self.error in ("", letter.error)
            and self.topic in ("", letter.topic)
            and (self.key is None or letter.key == self.key)
            and self.partition in (None, letter.at_partition)
            and self.offset in (None, letter.at_offset)
            and letter.processor.endswith(self.processor)
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Letters that failed alike.

    Attributes:
        fingerprint: What they have in common.
        count: How many are not settled.
        first: The oldest of them.
        last: The newest.
    """

    fingerprint: str
    count: int
    first: DeadLetter
    last: DeadLetter


@dataclass(slots=True)
class Outcome:
    """What a redrive or a purge did.

    Attributes:
        done: Letters that were redriven or put away now.
        settled_before: Selected letters that had been already.
        refused: Letters that cannot go back, by reason: they stay.
    """

    done: int = 0
    settled_before: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class DeadLetters:
    """The dead letters of one application. Blocks: call it through `asyncio.to_thread` on an event loop.

    Args:
        app: The application id, or the name of its dead letter topic.
        config: What every confluent-kafka client is made with.
        replication_factor: Of the topic of markers, where it is created.
    """

    def __init__(self, app: str, config: Mapping[str, Any], *, replication_factor: int = 1) -> None:
        self.topic = app if app.endswith(DEAD_LETTERS_SUFFIX) else dead_letter_topic(app)
        self.markers = redriven_topic(self.topic)
        self._config = dict(config)
        self._servers = str(config["bootstrap.servers"])
        self._replication = replication_factor
        self._reader = LogReader(config)

    @classmethod
    def from_settings(cls, settings: Settings, app: str = "") -> DeadLetters:
        """Return those of an application, else of the one the settings name."""
        from streams.broker import resolve_bootstrap  # only a caller without a running broker needs the embedded one

        config = settings.kafka.client_config(resolve_bootstrap(settings))
        return cls(app or settings.worker.app_id, config, replication_factor=settings.kafka.replication_factor)

    # ---- looking

    def list(self, chosen: Filter | None = None, *, settled: bool = False) -> Iterator[DeadLetter]:
        """The letters, oldest first in each partition.

        Args:
            chosen: Which.
            settled: Also those that were redriven or put away.

        Raises:
            TopicMissing: The application has no dead letter topic.
            BrokerError: The broker does not answer or refuses.
        """
        done = {} if settled else self.settled()
        for letter in self._letters(chosen or Filter()):
            if marker_key(letter.at_partition, letter.at_offset) not in done:
                yield letter

    def groups(self, chosen: Filter | None = None) -> Sequence[Group]:
        """What failed alike, the most frequent first; raises as `list`."""
        count: Counter[str] = Counter()
        first: dict[str, DeadLetter] = {}
        last: dict[str, DeadLetter] = {}
        for letter in self.list(chosen):
            count[letter.fingerprint] += 1
            if letter.fingerprint not in first or letter.time_ms < first[letter.fingerprint].time_ms:
                first[letter.fingerprint] = letter
            if letter.fingerprint not in last or letter.time_ms >= last[letter.fingerprint].time_ms:
                last[letter.fingerprint] = letter
        return [Group(mark, number, first[mark], last[mark]) for mark, number in count.most_common()]

    def show(self, partition: int, offset: int) -> DeadLetter | None:
        """Return the letter at a place, settled or not; None where there is none. Raises as `list`."""
        return next(self._letters(Filter(partition=partition, offset=offset)), None)

    def settled(self) -> dict[bytes, str]:
        """Return what became of settled letters: marker key to "redriven" or "purged"; raises as `list`."""
        if not self._reader.topics.exists(self.markers):
            return {}
        found: dict[bytes, str] = {}
        for records, _ in self._reader.read(self._reader.bounds([self.markers])):
            for record in records:
                if record.key is None:
                    continue
                if record.value is None:
                    found.pop(record.key, None)
                else:
                    found[record.key] = str(orjson.loads(record.value).get("action", ""))
        return found

    # ---- settling

    def redrive(self, chosen: Filter | None = None, *, on_progress: OnProgress | None = None) -> Outcome:
        """Send letters back to where they came from, each exactly once.

        Args:
            chosen: Which, all unless given.
            on_progress: Called after each kafka transaction.

        Raises:
            TopicMissing: The application has no dead letter topic.
            RedriveSuperseded: Another one took over.
            TransactionsUnsupported: The broker has no kafka transactions.
            BrokerError: The broker does not answer or refuses; what was committed stays, the rest can be redriven again.
        """
        return self._settle(chosen or Filter(), "redriven", on_progress)

    def purge(self, chosen: Filter | None = None, *, on_progress: OnProgress | None = None) -> Outcome:
        """Put letters away: they are no longer listed nor redriven, and deleted as far as a partition's beginning is settled.

        Args:
            chosen: Which, all unless given.
            on_progress: Called after each kafka transaction.

        Raises:
            TopicMissing: As `redrive`, and so are the others.
        """
        outcome = self._settle(chosen or Filter(), "purged", on_progress)
        self._delete_settled()
        return outcome

    def _settle(self, chosen: Filter, action: Literal["redriven", "purged"], on_progress: OnProgress | None) -> Outcome:
        bounds = self._reader.bounds([self.topic])
        self._reader.topics.ensure(self.markers, len(bounds), COMPACTED, replication_factor=self._replication)
        producer = self._producer()  # from here on every other redrive of this topic is fenced, so what it did is all there
        done = self.settled()
        partitions = {one.name: one.partitions for one in self._reader.topics.list(internal=True)}
        outcome = Outcome()
        total = sum(end - start for start, end in bounds.values())
        started = time.monotonic()

        def wanted() -> Iterator[DeadLetter]:
            for letter in self._letters(chosen):
                if marker_key(letter.at_partition, letter.at_offset) in done:
                    outcome.settled_before += 1
                elif action == "redriven" and not letter.topic:
                    outcome.refused["it has no dl-topic header, so it is no dead letter of ours"] += 1
                elif action == "redriven" and letter.topic not in partitions:
                    outcome.refused[f"its topic {letter.topic} does not exist"] += 1
                else:
                    yield letter

        letters = wanted()
        while chunk := list(islice(letters, CHUNK)):
            self._transact(producer, chunk, action, partitions)
            outcome.done += len(chunk)
            if on_progress is not None:
                seen = outcome.done + outcome.settled_before + outcome.refused.total()
                on_progress(Progress(seen, max(seen, total), outcome.done, time.monotonic() - started))
        return outcome

    def _transact(self, producer: Any, chunk: Iterable[DeadLetter], action: str, partitions: Mapping[str, int]) -> None:  # noqa: ANN401
        """One kafka transaction: the records that go back, and their markers."""
        failures: list[KafkaError] = []

        def reported(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                failures.append(error)

        now_ms = time.time_ns() // 1_000_000
        try:
            producer.begin_transaction()
            for letter in chunk:
                if action == "redriven":
                    where = letter.partition if letter.partition < partitions[letter.topic] else -1
                    headers = redrive_headers(letter)
                    producer.produce(letter.topic, letter.value, letter.key, where, on_delivery=reported, headers=headers)
                marker = orjson.dumps(
                    {"action": action, "to": letter.topic, "fingerprint": letter.fingerprint, "time_ms": now_ms}
                )
                key = marker_key(letter.at_partition, letter.at_offset)
                producer.produce(self.markers, marker, key, letter.at_partition, on_delivery=reported)
                producer.poll(0)
            producer.flush(FLUSH_S)
            if failures:
                raise KafkaException(failures[0])
            producer.commit_transaction(CALL_S)
        except KafkaException as error:
            raise self._meaning(producer, error) from error

    def _meaning(self, producer: Any, error: KafkaException) -> AntiphonError:  # noqa: ANN401
        kafka_error: KafkaError = error.args[0]
        second: KafkaError | None = None
        try:
            producer.abort_transaction(CALL_S)
        except KafkaException as refused:  # a fenced producer is told so here, if the first error was only "fatal"
            second = refused.args[0]
        if kafka_error.code() in _FENCED or (second is not None and second.code() in _FENCED):
            return RedriveSuperseded(
                f"another redrive or purge of {self.topic} took over; what was done stays done: run it again when that has ended"
            )
        if second is not None:  # the broker aborts it by itself after the transaction timeout
            return BrokerError(
                f"the broker at {self._servers} refuses the transaction ({kafka_error.str()}) and its end ({second.str()}): "
                f"nothing of it is visible, redrive again"
            )
        return broker_error(self._servers, kafka_error)

    def _producer(self) -> Any:  # noqa: ANN401
        conf = {
            "log_level": 0,
            **self._config,
            "transactional.id": f"antiphon-redrive-{self.topic}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "partitioner": "murmur2_random",
        }
        producer = Producer(conf)
        try:
            producer.init_transactions(CALL_S)
        except KafkaException as error:
            words: KafkaError = error.args[0]
            raise TransactionsUnsupported(self._servers, f"{words.name()}: {words.str()}") from error
        return producer

    def _letters(self, chosen: Filter) -> Iterator[DeadLetter]:
        bounds = self._reader.bounds([self.topic])
        if chosen.partition is not None:
            bounds = {lane: ends for lane, ends in bounds.items() if lane[1] == chosen.partition}
        if chosen.offset is not None:
            at = chosen.offset
            bounds = {lane: (max(start, at), min(end, at + 1)) for lane, (start, end) in bounds.items()}
        for records, _ in self._reader.read(bounds):
            for record in records:
                letter = parse_dead_letter(
                    record.headers,
                    at_topic=record.topic,
                    at_partition=record.partition,
                    at_offset=record.offset,
                    key=record.key,
                    value=record.value,
                )
                if chosen.takes(letter):
                    yield letter

    def _delete_settled(self) -> None:
        """Let the broker delete the beginning of each partition up to the first letter that is not settled."""
        bounds = self._reader.bounds([self.topic])
        ends = {lane[1]: end for lane, (_, end) in bounds.items()}
        for letter in self.list():
            ends[letter.at_partition] = min(ends[letter.at_partition], letter.at_offset)
        places = [
            TopicPartition(self.topic, lane[1], ends[lane[1]]) for lane, (start, _) in bounds.items() if ends[lane[1]] > start
        ]
        if not places:
            return
        admin = AdminClient({"log_level": 0, **self._config})  # its answers come only while it lives
        try:
            for future in admin.delete_records(places, operation_timeout=CALL_S).values():
                future.result(CALL_S)
        except TimeoutError as error:
            raise BrokerUnavailable(self._servers, f"no answer to a deletion within {CALL_S:.0f} s") from error
        except KafkaException as error:
            raise broker_error(self._servers, error.args[0]) from error
