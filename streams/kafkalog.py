"""Kafka as the log behind the client facade."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from streams.fetching import KafkaFeed
from streams.producer import KafkaSender
from streams.reader import LogReader, Selection
from streams.topics import Topics

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.transport import FeedOptions, Record

__all__ = ["KafkaLog"]

PROMPT_LINGER_MS: Final = 1
"""For commands that somebody waits for: a loop's worth of them still shares a batch."""


class KafkaLog:
    """A Kafka cluster. Made and used on one event loop.

    Args:
        settings: How to reach it, and the client's limits.
        bootstrap_servers: The resolved brokers.
    """

    def __init__(self, settings: Settings, bootstrap_servers: str) -> None:
        self._config: dict[str, Any] = settings.kafka.client_config(bootstrap_servers)
        self._client = settings.client
        self._replication = settings.kafka.replication_factor
        self._topics: Topics | None = None
        self._senders: dict[bool, KafkaSender] = {}

    async def open(self) -> None:
        """Check that the broker answers and lets us in.

        Raises:
            BrokerUnavailable: Nobody answers.
            BrokerAuthenticationFailed: It refuses the credentials.
        """
        self._topics = await asyncio.to_thread(Topics, self._config)
        await asyncio.to_thread(self._topics.list)

    def sender(self, *, prompt: bool = False) -> KafkaSender:
        """Return the sender, or the prompt one; there is one of each."""
        sender = self._senders.get(prompt)
        if sender is None:
            client = self._client
            sender = self._senders[prompt] = KafkaSender(
                self._config,
                in_flight_max=client.in_flight_max,
                delivery_timeout_s=client.delivery_timeout_s,
                linger_ms=min(client.linger_ms, PROMPT_LINGER_MS) if prompt else client.linger_ms,
                compression=client.compression,
            )
        return sender

    def feed(self, options: FeedOptions) -> KafkaFeed:
        """Return a new feed."""
        return KafkaFeed(self._config, options)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has.

        Raises:
            TopicMissing: It does not exist.
        """
        assert self._topics is not None, "the log is opened first"
        described = await asyncio.to_thread(self._topics.describe, topic)
        return len(described.partitions)

    async def ensure_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        """Create a topic where it is missing; one that is there stays as it is."""
        assert self._topics is not None, "the log is opened first"
        if not await asyncio.to_thread(self._topics.exists, topic):
            await asyncio.to_thread(self._topics.ensure, topic, partitions, config, replication_factor=self._replication)

    async def read_back(self, topic: str, partition: int, *, start_ms: int, count_max: int) -> list[Record]:
        """Return a partition's records since a time, the last ones where there are more than `count_max`, as of now.

        Raises:
            TopicMissing: It does not exist.
            BrokerError: The broker does not answer or refuses.
        """

        def read() -> list[Record]:
            reader = LogReader(self._config)
            chosen = Selection(start_ms=start_ms, start_offset=-count_max, partitions=frozenset({partition}))
            return [record for batch, _ in reader.read(reader.bounds([topic], chosen)) for record in batch]

        return await asyncio.to_thread(read)

    async def close(self) -> None:
        """Flush and end the senders."""
        for sender in self._senders.values():
            await sender.close()
