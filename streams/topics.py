"""Topics: made, looked at, checked and removed, with errors that name the topic and say what to do.

Whatever is created is waited for: when a call returns, a client that asks for the topic's metadata finds every partition with a
leader. A topic that is there already is never changed silently; another number of partitions is an error, because keys would land
elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic, OffsetSpec, ResourceType

from streams.errors import (
    AntiphonError,
    BrokerAuthenticationFailed,
    BrokerError,
    BrokerUnavailable,
    PartitionMismatch,
    TopicError,
    TopicExists,
    TopicMissing,
)

__all__ = ["COMPACTED", "PartitionInfo", "TopicDescription", "TopicInfo", "Topics", "broker_error"]

TIMEOUT_S: Final = 20.0
"""For one call: a broker that just started elects leaders within a few seconds."""

CONNECT_S: Final = 5.0
"""For the first call, which tells an address where nobody answers: a broker that runs answers in milliseconds."""

POLL_S: Final = 0.02
"""Between two looks at metadata that is on its way."""

COMPACTED: Final[Mapping[str, str]] = MappingProxyType({"cleanup.policy": "compact"})
"""Configuration of a topic that keeps the last record of each key."""

UNREACHABLE: Final = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE})
REFUSED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)

ELECTING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
"""What a broker answers for a topic that the controller made a moment ago."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One line of a list of topics."""

    name: str
    partitions: int
    replication: int
    internal: bool


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition: where it is led, and the offsets of its first and next record."""

    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    first_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic, its partitions, and the settings that are its own, not the broker's."""

    name: str
    partitions: tuple[PartitionInfo, ...]
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Offsets between first and next over all partitions: at most so many records (compaction and markers leave gaps)."""
        return sum(one.next_offset - one.first_offset for one in self.partitions)


class Topics:
    """The topics of one Kafka cluster.

    Args:
        conf: what a confluent-kafka client is made with (``settings.kafka.client_config(...)``), or the bootstrap servers.
    """

    def __init__(self, conf: Mapping[str, Any] | str) -> None:
        self._conf: dict[str, Any] = {"bootstrap.servers": conf} if isinstance(conf, str) else dict(conf)
        self._errors: list[KafkaError] = []
        # librdkafka tells refused credentials only through its error callback; the call itself just times out.
        settings: dict[str, Any] = {"log_level": 0, **self._conf, "error_cb": self._errors.append}
        self._admin = AdminClient(settings)
        self._reached = False

    @property
    def bootstrap_servers(self) -> str:
        """The addresses it was made with."""
        return str(self._conf.get("bootstrap.servers", ""))

    def list(self, *, internal: bool = False) -> list[TopicInfo]:
        """All topics by name.

        Args:
            internal: Kafka's own too (``__consumer_offsets``).

        Raises:
            BrokerError: the broker does not answer or refuses.
        """
        found = []
        for name, topic in sorted(self._metadata().topics.items()):
            own = name.startswith("__")
            if internal or not own:
                replication = min((len(one.replicas) for one in topic.partitions.values()), default=0)
                found.append(TopicInfo(name, len(topic.partitions), replication, own))
        return found

    def exists(self, name: str) -> bool:
        """Whether the topic is there.

        Raises:
            BrokerError: the broker does not answer or refuses.
        """
        return self._partitions(name) is not None

    def create(self, name: str, *, partitions: int, replication_factor: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create it and wait until clients see it.

        Raises:
            TopicExists: it is there already.
            TopicError: the broker refuses the name or a setting; the message has its words.
            BrokerError: the broker does not answer or refuses.
        """
        self._metadata()
        new = NewTopic(name, num_partitions=partitions, replication_factor=replication_factor, config=dict(config or {}))
        try:
            self._wait(self._admin.create_topics([new], operation_timeout=TIMEOUT_S)[name])
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicExists(name) from error
            raise self._refusal(name, "create", error) from error
        self._await_partitions(name, partitions)

    def ensure(self, name: str, partitions: int, config: Mapping[str, str] | None = None, *, replication_factor: int = 1) -> bool:
        """Create it where it is missing; whether it was.

        Raises:
            PartitionMismatch: it is there with another number of partitions.
            TopicError: the broker refuses the name or a setting.
            BrokerError: the broker does not answer or refuses.
        """
        if self._partitions(name) is None:
            try:
                self.create(name, partitions=partitions, replication_factor=replication_factor, config=config)
            except TopicExists:  # another worker was faster
                self._await_partitions(name, 1)
            else:
                return True
        self.check({name: partitions})
        return False

    def check(self, expected: Mapping[str, int | None]) -> None:
        """Raise where a topic is missing or has another number of partitions.

        Args:
            expected: name to partitions; ``None`` accepts any number.

        Raises:
            TopicMissing: one does not exist.
            PartitionMismatch: one has another number.
            BrokerError: the broker does not answer or refuses.
        """
        topics = self._metadata().topics
        for name, partitions in expected.items():
            if name not in topics:
                raise TopicMissing(name, partitions=partitions)
            found = len(topics[name].partitions)
            if partitions is not None and found != partitions:
                raise PartitionMismatch(name, expected=partitions, found=found)

    def describe(self, name: str) -> TopicDescription:
        """Partitions, offsets and settings of one topic.

        Raises:
            TopicMissing: it does not exist.
            BrokerError: the broker does not answer or refuses.
        """
        topic = self._metadata(name).topics[name]
        if topic.error is not None:
            raise TopicMissing(name)
        first = self._offsets(name, topic.partitions, OffsetSpec.earliest())
        after = self._offsets(name, topic.partitions, OffsetSpec.latest())
        partitions = tuple(
            PartitionInfo(number, one.leader, tuple(one.replicas), tuple(one.isrs), first[number], after[number])
            for number, one in sorted(topic.partitions.items())
        )
        resource = ConfigResource(ResourceType.TOPIC, name)
        entries = self._call(name, "describe", self._admin.describe_configs([resource])[resource])
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        config = {key: entry.value for key, entry in sorted(entries.items()) if entry.source == own and not entry.is_sensitive}
        return TopicDescription(name, partitions, config)

    def delete(self, name: str) -> None:
        """Delete it, with all its records, and wait until clients no longer see it.

        Raises:
            TopicMissing: it does not exist.
            TopicError: the broker refuses.
            BrokerError: the broker does not answer or refuses.
        """
        self._metadata()
        try:
            self._wait(self._admin.delete_topics([name], operation_timeout=TIMEOUT_S)[name])
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(name) from error
            raise self._refusal(name, "delete", error) from error
        self._await_partitions(name, 0)

    # -- calls and what their failures mean --------------------------------

    def _metadata(self, name: str | None = None) -> Any:  # noqa: ANN401 confluent_kafka has no types
        timeout = TIMEOUT_S if self._reached else CONNECT_S
        self._errors.clear()
        try:
            metadata = self._admin.list_topics(name, timeout=timeout) if name else self._admin.list_topics(timeout=timeout)
        except KafkaException as error:
            self._admin.poll(0)
            raise broker_error(self.bootstrap_servers, error.args[0], seen=self._errors) from error
        self._reached = True
        return metadata

    def _partitions(self, name: str) -> int | None:
        """How many there are with a leader, or ``None`` for no such topic."""
        topic = self._metadata(name).topics[name]
        if topic.error is not None or not topic.partitions:
            return None
        return sum(1 for one in topic.partitions.values() if one.leader >= 0)

    def _await_partitions(self, name: str, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = self._partitions(name) or 0
            if count == 0 and found == 0:
                return
            if count and found >= count:  # the controller says so; now the leader itself
                self._offsets(name, range(found), OffsetSpec.latest())
                return
            if time.monotonic() > deadline:
                raise TopicError(
                    name,
                    f"topic {name} shows {found} partitions after {TIMEOUT_S:.0f} s, not {count}: look at the broker's log",
                )
            time.sleep(POLL_S)

    def _offsets(self, name: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        """Offsets by partition; a leader that has not taken up its office yet is asked again."""
        deadline = time.monotonic() + TIMEOUT_S
        asked = {TopicPartition(name, number): spec for number in partitions}
        while True:
            futures = self._admin.list_offsets(asked, request_timeout=TIMEOUT_S)
            try:
                return {place.partition: self._wait(future).offset for place, future in futures.items()}
            except KafkaException as error:
                if error.args[0].code() not in ELECTING or time.monotonic() > deadline:
                    raise self._refusal(name, "describe", error) from error
            time.sleep(POLL_S)

    def _call(self, name: str, verb: str, future: Future[Any]) -> Any:  # noqa: ANN401 confluent_kafka has no types
        try:
            return self._wait(future)
        except KafkaException as error:
            raise self._refusal(name, verb, error) from error

    def _wait(self, future: Future[Any]) -> Any:  # noqa: ANN401 confluent_kafka has no types
        try:
            return future.result(TIMEOUT_S + CONNECT_S)
        except TimeoutError as error:
            raise BrokerUnavailable(self.bootstrap_servers, f"no answer within {TIMEOUT_S + CONNECT_S:.0f} s") from error

    def _refusal(self, name: str, verb: str, error: KafkaException) -> AntiphonError:
        kafka_error: KafkaError = error.args[0]
        if kafka_error.code() in UNREACHABLE or kafka_error.code() in REFUSED:
            return broker_error(self.bootstrap_servers, kafka_error, seen=self._errors)
        return TopicError(name, f"the broker does not {verb} topic {name}: {_words(kafka_error)}")


def broker_error(bootstrap_servers: str, error: KafkaError, *, seen: Iterable[KafkaError] = ()) -> BrokerError:
    """What a client's error means, as one of our errors.

    Args:
        bootstrap_servers: where the client tried.
        error: what the call raised.
        seen: what its error callback was told meanwhile: refused credentials show only there.
    """
    for one in [error, *seen]:
        if one.code() in REFUSED:
            return BrokerAuthenticationFailed(bootstrap_servers, _words(one))
    if error.code() in UNREACHABLE:
        return BrokerUnavailable(bootstrap_servers, _words(next(iter(seen), error)))
    return BrokerError(f"the broker at {bootstrap_servers} refuses: {_words(error)}")


def _words(error: KafkaError) -> str:
    return " ".join(f"{error.name()}: {error.str()}".split())
