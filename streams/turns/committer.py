"""One kafka transaction a turn, in a thread of its own.

The transactional producer's calls block, so all of them run in one worker thread. The kafka transaction is open only while it
commits; dropping a turn before that costs the broker nothing. After any refusal the producer is made anew: `init_transactions`
with the same id aborts or completes whatever its predecessor left, and a reused producer fails its next turn with
OUT_OF_ORDER_SEQUENCE_NUMBER.

`at_least_once` uses an idempotent producer without kafka transactions; offsets are then committed by the group's own member
after every record is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from faust.types import TP

from streams.turns.threads import CallThread

if TYPE_CHECKING:
    from streams.turns.batch import Effects, TableLike

__all__ = ["DEAD_LETTER_BYTES_MAX", "Committer", "Refusal", "Turn"]

log = logging.getLogger(__name__)
T = TypeVar("T")
TableWrites = tuple[Mapping[Any, Any], Mapping[bytes, bytes | None]]

PARTITIONER: Final = "murmur2_random"
"""The Java clients' and Faust's choice: the same key goes to the same partition whoever writes it."""

SEND_OFFSETS_TIMEOUT_S: Final = 6.0
"""It takes milliseconds, a second on a loaded machine; a turn that is given up only runs again."""
OFFSETS_STUCK_S: Final = SEND_OFFSETS_TIMEOUT_S + 2.0
"""When send_offsets_to_transaction is taken for lost. librdkafka 2.16 forgets its own timeout when the broker restarts between
AddOffsetsToTxn and TxnOffsetCommit, and waits for ever."""
CLOSE_S: Final = 5.0
"""What closing waits for a call that still runs."""
COMMIT_TIMEOUT_S: Final = 30.0
ABORT_TIMEOUT_S: Final = 15.0
INIT_TIMEOUT_S: Final = 30.0
INIT_RETRY_S: Final = 0.5
FULL_QUEUE_POLL_S: Final = 0.05
DEAD_LETTER_BYTES_MAX: Final = 16 << 20
"""The largest dead letter: a source record that its topic took, with the headers that say why it was set aside, must never be
too large for its own; batches of smaller records keep librdkafka's batch.size."""
QUEUE_RECORDS_MAX: Final = 1_000_000
"""librdkafka's own queue: larger than any turn, so that a turn is never cut by it."""

FENCE_CODES: Final = frozenset(
    {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID, KafkaError.REBALANCE_IN_PROGRESS}
)
TAKEN_OVER_CODES: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


@dataclass(slots=True)
class Turn:
    """The finished batches that one kafka transaction makes visible.

    Attributes:
        member: The group metadata that fences the offsets.
        effects: The batches, per partition in offset order.
        tails: After the commit: for each changelog partition, the offset of the turn's last record there.
    """

    member: bytes
    effects: list[Effects]
    tails: dict[TP, int] = field(default_factory=dict)
    _tables: dict[tuple[TableLike, int], TableWrites] | None = None

    def offsets(self) -> dict[TP, int]:
        """Return the next offset of every source partition in the turn."""
        return {e.tp: e.next_offset for e in self.effects}

    def tables(self) -> dict[tuple[TableLike, int], TableWrites]:
        """Return what the turn writes, one entry a key, by table and partition: the values, and the changelog records."""
        if self._tables is None:
            self._tables = {}
            for effects in self.effects:
                for table, encoded in effects.encoded.items():
                    place = (table, effects.tp.partition)
                    writes, records = self._tables.get(place, ({}, {}))
                    self._tables[place] = (
                        ({**writes, **effects.writes[table]}, {**records, **encoded})
                        if writes
                        else (effects.writes[table], encoded)
                    )
        return self._tables


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a turn is not visible, or not known to be.

    Attributes:
        step: The call that failed: begin, produce, offsets, commit.
        code: The Kafka error's name.
        reason: What Kafka says.
        fenced: The group has moved on; this worker must rejoin it.
        taken_over: Another producer uses this worker's transactional id.
        permanent: Trying again cannot help.
    """

    step: str
    code: str
    reason: str
    fenced: bool = False
    taken_over: bool = False
    permanent: bool = False


RETRY_BACKOFF_MS: Final = 1
"""The coordinator answers CONCURRENT_TRANSACTIONS for the few milliseconds in which it completes the one before. librdkafka waits
this long before it asks again, each time twice as long: at its default of 100 ms, small kafka transactions that follow each other
closely took 110 ms each, with 1 ms they take 5 (docs/performance.md)."""
RETRY_BACKOFF_MAX_MS: Final = 50
"""Where a broker is away for longer: twenty requests a second."""

PERMANENT_CODES: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


class Committer:
    """Makes turns visible, one at a time.

    Args:
        client: librdkafka settings that reach the broker.
        transactional_id: This worker's, unique among live workers; None for at-least-once.
        transaction_timeout_ms: After this the broker aborts what a dead worker left open.
    """

    def __init__(self, client: Mapping[str, Any], *, transactional_id: str | None, transaction_timeout_ms: int) -> None:
        self.transactional = transactional_id is not None
        self._conf: dict[str, Any] = {
            **client,
            "linger.ms": 0,
            "retry.backoff.ms": RETRY_BACKOFF_MS,
            "retry.backoff.max.ms": RETRY_BACKOFF_MAX_MS,
            "partitioner": PARTITIONER,
            "enable.idempotence": True,
            "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
            "message.max.bytes": DEAD_LETTER_BYTES_MAX,
            "batch.num.messages": 10_000,
            "log_level": 3,
            "error_cb": self._noticed,
        }
        if transactional_id is not None:
            self._conf |= {"transactional.id": transactional_id, "transaction.timeout.ms": transaction_timeout_ms}
        self._thread = CallThread("turn-commit")
        self._producer: Producer | None = None
        self._step, self._step_at = "", 0.0
        self._closing = threading.Event()
        self._undelivered: list[KafkaError] = []
        self._asking = False
        """Whether each record's fate is asked for: after a commit that failed without a reason, since it costs 1 µs a record."""
        self.waiting_since: float | None = None
        """Monotonic time since when the transaction coordinator has not answered."""
        self.last_error = ""

    def _noticed(self, error: KafkaError) -> None:
        self.last_error = error.str()

    async def run(self, fun: Callable[..., T], *args: Any) -> T:
        """Run a call in the commit thread."""
        return await self._thread.run(fun, *args)

    async def make_visible(self, turn: Turn) -> Refusal | None:
        """Commit a turn in the commit thread; see `commit`.

        A call that librdkafka does not come back from is left behind with its thread.
        """
        future = self._thread.run(self.commit, turn)
        while not (await asyncio.wait({future}, timeout=1.0))[0]:
            if self._step == "offsets" and time.monotonic() - self._step_at > OFFSETS_STUCK_S:
                log.warning(
                    "send_offsets_to_transaction has not come back for %.0f s: going on with a new producer", OFFSETS_STUCK_S
                )
                self._thread.close()
                self._thread, self._producer = CallThread("turn-commit"), None
                return Refusal("offsets", "_TIMED_OUT", "librdkafka did not come back")
        return future.result()

    def ready(self) -> None:
        """Have a producer whose predecessors' transactions, also those of a dead process with this id, are resolved."""
        while self._producer is None and not self._closing.is_set():
            producer = Producer(self._conf)
            try:
                if self.transactional:
                    producer.init_transactions(INIT_TIMEOUT_S)
                self._producer, self.waiting_since = producer, None
            except KafkaException as error:
                kafka_error = error.args[0]
                if kafka_error.code() in PERMANENT_CODES:
                    raise
                self.last_error = kafka_error.str()
                self.waiting_since = self.waiting_since or time.monotonic()
                log.warning("the transaction coordinator does not answer yet: %s", kafka_error.str())
                self._closing.wait(INIT_RETRY_S)

    def close(self) -> None:
        """End the thread; an open transaction is aborted by the next holder of the id or by its timeout."""
        self._closing.set()
        self._thread.close()
        self._thread.join(CLOSE_S)
        self._producer = None

    def commit(self, turn: Turn) -> Refusal | None:
        """Make the turn visible. Return None, or why nothing of it (or, where an answer was lost, perhaps all of it) is visible.

        Either way the log is the truth: after a refusal the worker reads its tables and offsets again.
        """
        producer: Producer | None = None
        try:
            self._at("begin")
            self.ready()
            producer = self._producer
            if producer is None:
                return Refusal("begin", "_DESTROY", "the worker is stopping")
            if self.transactional:
                producer.begin_transaction()
            if self.transactional:
                self._at("offsets")
                offsets = [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in turn.offsets().items()]
                producer.send_offsets_to_transaction(offsets, turn.member, SEND_OFFSETS_TIMEOUT_S)
            self._at("produce")
            self._produce(producer, turn)
            if self.transactional:
                self._at("commit")
                self._commit(producer)
            else:
                self._at("flush")
                self._flush(producer)
        except KafkaException as error:
            return self._refused(producer, error.args[0])
        finally:
            if producer is self._producer:
                self._at("")
        return None

    def _at(self, step: str) -> None:
        self._step, self._step_at = step, time.monotonic()

    def _produce(self, producer: Producer, turn: Turn) -> None:
        report = None if self.transactional and not self._asking else self._reported
        self._undelivered = []
        for effects in turn.effects:
            for topic, key, value, partition, headers in effects.outputs:
                self._put(producer, topic, value, key, partition, report, headers)
        for (table, partition), (_, records) in turn.tables().items():
            topic, last = table.changelog_topic_name, len(records)  # type: ignore[attr-defined]
            for key, value in records.items():
                last -= 1
                self._put(
                    producer,
                    topic,
                    value,
                    key,
                    partition,
                    report if last else partial(self._landed, turn, TP(topic, partition)),
                    None,
                )

    @staticmethod
    def _put(
        producer: Producer,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        report: Callable[..., None] | None,
        headers: Any,
    ) -> None:
        while True:
            try:
                if headers:
                    producer.produce(topic, value, key, partition, on_delivery=report, headers=headers)
                else:
                    producer.produce(topic, value, key, partition, on_delivery=report)
            except BufferError:
                producer.poll(FULL_QUEUE_POLL_S)
            else:
                return

    def _landed(self, turn: Turn, tp: TP, error: KafkaError | None, message: Any) -> None:
        if error is None:
            turn.tails[tp] = message.offset()
        else:
            self._reported(error, message)

    def _reported(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._undelivered.append(error)

    def _commit(self, producer: Producer) -> None:
        deadline = time.monotonic() + 2 * COMMIT_TIMEOUT_S
        while True:
            try:
                producer.commit_transaction(COMMIT_TIMEOUT_S)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline or self._closing.is_set():
                    raise
            else:
                return

    def _flush(self, producer: Producer) -> None:
        left = producer.flush(COMMIT_TIMEOUT_S)
        failed, self._undelivered = self._undelivered, []
        if failed:
            raise KafkaException(failed[0])
        if left:
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"{left} records were not acknowledged within {COMMIT_TIMEOUT_S:.0f} s")
            )

    def _refused(self, producer: Producer | None, error: KafkaError) -> Refusal:
        step = self._step
        cause = error
        if error.code() == KafkaError._INCONSISTENT:  # "n messages failed delivery": why, is known only where it was asked for
            cause, self._asking = next(iter(self._undelivered), error), True
        if producer is self._producer:  # else this call was left behind, and the one that came after it has its own
            self._producer = None
        if producer is not None and error.txn_requires_abort():
            try:
                producer.abort_transaction(ABORT_TIMEOUT_S)
            except KafkaException as abort:
                log.warning("abort_transaction: %s (the next producer with this id resolves it)", abort.args[0].str())
        code = cause.code()
        return Refusal(
            step,
            cause.name(),
            cause.str(),
            fenced=code in FENCE_CODES,
            taken_over=code in TAKEN_OVER_CODES,
            permanent=code in PERMANENT_CODES,
        )
