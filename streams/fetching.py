"""A subscription's records from Kafka: one consumer in one thread, handed to the event loop in batches.

    consumer thread: consume ─▶ buffer (bounded) ─▶ one wake-up ─▶ event loop: take ─▶ ack
            ▲                                                                         │
            └── commit of the contiguous acknowledged offset, pause and resume ◀──────┘

Guarantees: an offset is committed only when it and everything before it in its partition is acknowledged; before partitions are
given up, what is at work may finish for `REVOKE_GRACE_S` and is committed. At most `buffer_max` records wait here, and one
fetch's worth in librdkafka. Topics that appear and match the pattern are read from their beginning.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.errors import AntiphonError, BrokerError, TopicMissing
from streams.topics import REFUSED, broker_error
from streams.transport import FeedOptions, Lane, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KafkaFeed", "record_of"]

log = logging.getLogger(__name__)

POLL_S: Final = 0.1
"""The longest wait for records; commits and new topics wait as long."""
PAUSED_POLL_S: Final = 0.01
"""The wait while a partition is paused, so that it resumes soon after there is room."""
ROOM_WAIT_S: Final = 0.2
"""How long to wait for room before pausing: a pause throws away what librdkafka has fetched, so a short hold-up is waited out."""
COMMIT_INTERVAL_S: Final = 1.0
"""Between commits: what a crash repeats, against a request a second."""
REVOKE_GRACE_S: Final = 3.0
"""How long records at work may finish when their partition is taken away; the group waits meanwhile. As
`worker.revoke_grace_s`."""
REFRESH_S: Final = 2.0
"""Between looks for new topics and partitions of a pattern."""
METADATA_S: Final = 10.0
"""For one question about topics or offsets."""
FETCH_MAX: Final = 500
"""Records taken from librdkafka at once; more delays the loop that decodes them."""
QUEUE_KBYTES: Final = 16_384
"""What librdkafka fetches ahead for one subscription: a few broker responses. Its own default, 64 MB, is for a process with
one consumer."""
SESSION_TIMEOUT_MS: Final = 10_000
"""Silence after which the group gives this member's partitions away; librdkafka's default of 45 s is long for a crashed
client."""

_STRATEGY: Final = {"cooperative": "cooperative-sticky", "range": "range"}
_HARMLESS: Final = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE})


def record_of(message: Any) -> Record:  # noqa: ANN401 confluent_kafka has no types
    """Return a confluent-kafka message as a record."""
    headers = message.headers()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        tuple((name, value or b"") for name, value in headers) if headers else (),
    )


class KafkaFeed:
    """See the module. Made and used on one event loop.

    Args:
        config: What every confluent-kafka client is made with.
        options: What to read and how.
    """

    def __init__(self, config: Mapping[str, Any], options: FeedOptions) -> None:
        self._options = options
        self._servers = str(config["bootstrap.servers"])
        self._loop = asyncio.get_running_loop()
        self._errors: deque[KafkaError] = deque(maxlen=8)
        self._config = {
            "log_level": 0,
            **config,
            "group.id": options.group
            or f"antiphon-reader-{secrets.token_hex(6)}",  # asked for by the library; without a group nothing is committed
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": options.start,
            "isolation.level": "read_committed",
            "partition.assignment.strategy": _STRATEGY[options.assignor],
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "queued.max.messages.kbytes": QUEUE_KBYTES,
            "allow.auto.create.topics": False,
            "topic.metadata.refresh.interval.ms": int(REFRESH_S * 1000),
            "error_cb": self._errors.append,
        }
        self._changed = threading.Condition()  # guards everything below
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._buffer: list[tuple[Lane, Record]] = []
        self._buffered = 0
        self._failure: AntiphonError | None = None
        self._stop = False
        self._commit_asked: list[asyncio.Future[None]] = []
        self._topics: set[str] = set()
        self._waking = False
        self._wake = asyncio.Event()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"antiphon-feed-{options.pattern.text[:40]}", daemon=True)

    # ---- on the event loop

    async def start(self) -> None:
        """Begin to read; returns when positions are known.

        Raises:
            TopicMissing: The pattern names one topic and it does not exist.
            BrokerError: The broker does not answer or refuses.
        """
        self._thread.start()
        await asyncio.shield(self._started)

    async def batch(self) -> Sequence[tuple[Lane, Record]]:
        """Wait for records."""
        while True:
            with self._changed:
                self._waking = False
                self._wake.clear()
                batch, self._buffer = self._buffer, []
                failure = self._failure
            if batch:
                return batch
            if failure is not None:
                raise failure
            await self._wake.wait()

    def take(self, lane: Lane, offset: int) -> bool:
        """Note that a record leaves the buffer; False where its lane is over."""
        with self._changed:
            self._buffered -= 1
            lane.buffered -= 1
            if lane.over:
                return False
            lane.window.take(offset)
            if lane.buffered == 0 or self._buffered == self._options.buffer_max // 2:
                self._changed.notify_all()
            return True

    def ack(self, lane: Lane, offset: int) -> bool:
        """Note that a record is done; False where that comes too late."""
        with self._changed:
            if lane.over:
                return False
            lane.window.ack(offset)
            if not lane.window.unacked:
                self._changed.notify_all()
            return True

    async def commit(self) -> None:
        """Commit what is acknowledged so far.

        Raises:
            BrokerError: The broker did not take it.
        """
        if self._options.group is None:
            return
        done: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            if self._stop:
                return
            self._commit_asked.append(done)
            self._changed.notify_all()
        await done

    async def close(self) -> None:
        """Commit what is acknowledged and leave the group."""
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        if self._thread.is_alive():
            await asyncio.shield(asyncio.to_thread(self._thread.join))

    # ---- in the thread

    def _run(self) -> None:
        consumer: Any = None
        try:
            consumer = Consumer(self._config)
            self._open(consumer)
            if self._options.group is None or self._options.start == "earliest" or not self._topics:
                self._call(self._set_started, None)  # else the first assignment tells where "latest" is
            self._read(consumer)
        except AntiphonError as error:
            self._fail(error)
        except KafkaException as error:
            self._fail(broker_error(self._servers, error.args[0], seen=list(self._errors)))
        except Exception as error:
            log.exception("the reader of %s ended", self._options.pattern.text)
            self._fail(BrokerError(f"the reader of {self._options.pattern.text} ended: {type(error).__name__}: {error}"))
        finally:
            if consumer is not None:
                self._leave(consumer)

    def _open(self, consumer: Any) -> None:  # noqa: ANN401
        topics = self._matching(consumer)
        literal = self._options.pattern.literal
        if literal and literal not in topics:
            raise TopicMissing(literal)
        self._follow(consumer, topics, first=True)

    def _matching(self, consumer: Any) -> dict[str, int]:  # noqa: ANN401
        """Topics that the pattern means, with their partitions."""
        metadata = consumer.list_topics(timeout=METADATA_S)
        return {
            name: len(one.partitions)
            for name, one in metadata.topics.items()
            if one.error is None and self._options.pattern.matches(name)
        }

    def _follow(self, consumer: Any, topics: Mapping[str, int], *, first: bool = False) -> None:  # noqa: ANN401
        """Read these topics from now on; without a group partition by partition, with a group as the group shares them."""
        if self._options.group is not None:
            if topics and set(topics) != self._topics:
                self._topics = set(topics)
                consumer.subscribe(sorted(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            return
        only = self._options.read_partition
        wanted = {(topic, number) for topic, count in topics.items() for number in range(count) if only is None or number == only}
        new = sorted(wanted - self._lanes.keys())
        if not new:
            return
        places = [TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in new]
        if first and self._options.start == "latest":
            for place in places:
                place.offset = consumer.get_watermark_offsets(place, METADATA_S)[1]
        consumer.incremental_assign(places)
        with self._changed:
            self._lanes |= {(place.topic, place.partition): Lane(place.topic, place.partition) for place in places}

    def _read(self, consumer: Any) -> None:  # noqa: ANN401
        next_commit = next_look = time.monotonic()
        while True:
            with self._changed:
                if self._stop:
                    return
                asked, self._commit_asked = self._commit_asked, []
            now = time.monotonic()
            if asked or now >= next_commit:
                self._commit(consumer, asked)
                next_commit = now + COMMIT_INTERVAL_S
            if now >= next_look:
                self._look(consumer)
                next_look = time.monotonic() + REFRESH_S
            paused = self._balance(consumer)
            message = consumer.poll(PAUSED_POLL_S if paused else POLL_S)
            if message is not None:
                room = min(FETCH_MAX, self._options.buffer_max - self._buffered) - 1
                self._offer([message, *(consumer.consume(room, 0) if room > 0 else ())])
            refused = next((one for one in self._errors if one.code() in REFUSED), None)
            if refused is not None:
                raise broker_error(self._servers, refused)

    def _look(self, consumer: Any) -> None:  # noqa: ANN401
        if self._options.pattern.literal and self._options.group is not None:
            return  # the group follows the partitions of topics that it has
        try:
            self._follow(consumer, self._matching(consumer))
        except KafkaException as error:
            if error.args[0].code() not in _HARMLESS:
                raise
            log.warning(
                "cannot look for topics of %s: %s; tried again in %g s",
                self._options.pattern.text,
                error.args[0].str(),
                REFRESH_S,
            )

    def _offer(self, messages: Sequence[Any]) -> None:
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(record_of(message))
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                if self._options.pattern.literal:
                    raise TopicMissing(message.topic() or self._options.pattern.literal)
            elif error.fatal() or error.code() in REFUSED or error.code() not in {*_HARMLESS, KafkaError._PARTITION_EOF}:
                raise broker_error(self._servers, error, seen=list(self._errors))
        with self._changed:
            for record in records:
                lane = self._lanes.get((record.topic, record.partition))
                if lane is not None:
                    lane.buffered += 1
                    self._buffered += 1
                    self._buffer.append((lane, record))
            wake = bool(self._buffer) and not self._waking
            self._waking = self._waking or wake
        if wake:
            self._call(self._wake.set)

    def _balance(self, consumer: Any) -> bool:  # noqa: ANN401
        """Wait for room, and pause what has none for longer. Returns whether something is paused."""
        options = self._options
        with self._changed:
            if self._buffered >= options.buffer_max:
                self._changed.wait_for(
                    lambda: self._buffered < options.buffer_max or self._stop or bool(self._commit_asked), ROOM_WAIT_S
                )
            full = self._buffered >= options.buffer_max
            share = max(1, options.buffer_max // max(1, len(self._lanes)))
            pause, resume = [], []
            for lane in self._lanes.values():
                held = len(lane.window)
                if not lane.paused and (full or held >= options.unacked_max):
                    lane.paused = True
                    pause.append(TopicPartition(lane.topic, lane.partition))
                elif lane.paused and not full and lane.buffered <= share // 2 and held <= options.unacked_max // 2:
                    lane.paused = False
                    resume.append(TopicPartition(lane.topic, lane.partition))
            paused = any(lane.paused for lane in self._lanes.values())
        if pause:
            consumer.pause(pause)
        if resume:
            consumer.resume(resume)
        return paused

    # ---- offsets and partitions

    def _commit(self, consumer: Any, asked: Sequence[asyncio.Future[None]] = (), lanes: Sequence[Lane] | None = None) -> None:  # noqa: ANN401
        failure: AntiphonError | None = None
        if self._options.group is not None:
            with self._changed:
                due = [one for one in (self._lanes.values() if lanes is None else lanes) if one.window.position > one.committed]
                offsets = [TopicPartition(one.topic, one.partition, one.window.position) for one in due]
            if offsets:
                try:
                    consumer.commit(offsets=offsets, asynchronous=False)
                except KafkaException as error:
                    failure = broker_error(self._servers, error.args[0])
                    log.warning(
                        "offsets of group %s were not committed, their records may come again: %s",
                        self._options.group,
                        error.args[0].str(),
                    )
                else:
                    for lane, place in zip(due, offsets, strict=True):
                        lane.committed = place.offset
        for one in asked:
            self._call(_settle, one, failure)

    def _assigned(self, consumer: Any, partitions: Sequence[Any]) -> None:  # noqa: ANN401
        with self._changed:
            for place in partitions:
                self._lanes[place.topic, place.partition] = Lane(place.topic, place.partition)
        if self._options.start == "latest" and partitions:
            # The end is looked up now: left to librdkafka it would be wherever the log ends at the first fetch.
            for place, stored in zip(partitions, consumer.committed(list(partitions), METADATA_S), strict=True):
                place.offset = stored.offset if stored.offset >= 0 else consumer.get_watermark_offsets(place, METADATA_S)[1]
            assign = consumer.incremental_assign if self._options.assignor == "cooperative" else consumer.assign
            assign(list(partitions))
        self._call(self._set_started, None)

    def _revoked(self, consumer: Any, partitions: Sequence[Any]) -> None:  # noqa: ANN401
        lanes = self._lanes_of(partitions)
        with self._changed:
            for item in self._buffer:  # not handed out yet: it is the next owner's
                if item[0] in lanes:
                    item[0].buffered -= 1
                    self._buffered -= 1
            self._buffer = [item for item in self._buffer if item[0] not in lanes]
            if not self._stop:
                self._changed.wait_for(lambda: self._stop or not any(lane.window.unacked for lane in lanes), REVOKE_GRACE_S)
        self._commit(consumer, lanes=lanes)
        self._end(lanes)

    def _lost(self, consumer: Any, partitions: Sequence[Any]) -> None:  # noqa: ANN401, ARG002
        log.warning(
            "group %s took %d partitions away without asking: their records may come again elsewhere",
            self._options.group,
            len(partitions),
        )
        self._end(self._lanes_of(partitions))

    def _lanes_of(self, partitions: Sequence[Any]) -> list[Lane]:
        return [lane for place in partitions if (lane := self._lanes.get((place.topic, place.partition))) is not None]

    def _end(self, lanes: Sequence[Lane]) -> None:
        with self._changed:
            for lane in lanes:
                lane.over = True
                self._lanes.pop((lane.topic, lane.partition), None)

    def _leave(self, consumer: Any) -> None:  # noqa: ANN401
        with self._changed:
            self._stop = True
            asked, self._commit_asked = self._commit_asked, []
        try:
            self._commit(consumer, asked)
            consumer.close()
        except KafkaException as error:
            log.warning("leaving group %s: %s", self._options.group, error.args[0].str())

    # ---- towards the event loop

    def _fail(self, error: AntiphonError) -> None:
        with self._changed:
            self._failure = error
        self._call(self._set_started, error)
        self._call(self._wake.set)

    def _set_started(self, error: AntiphonError | None) -> None:
        _settle(self._started, error)
        if error is not None:
            self._started.exception()  # batch() raises it too; start() may have been cancelled

    def _call(self, function: Any, *arguments: object) -> None:  # noqa: ANN401
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: nobody listens any more
            with self._changed:
                self._stop = True


def _settle(future: asyncio.Future[None], error: AntiphonError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
