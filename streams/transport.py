"""What the client facade needs of a log: to append records, and to be fed with records. Kafka is one, `streams.testing` another.

    Mesh ──▶ Sender      append, acknowledged or in the background, bounded
         ──▶ Feed        one subscription's records, a lane for each partition while it is ours

A `Lane` is one partition during one assignment. When the group takes the partition away the lane is `over`: what was taken
from it can no longer be acknowledged, because somebody else may have it (a late ack is ignored, as every late answer is).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from streams.core.acks import AckWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schemas.errors import AntiphonError
    from streams.core.patterns import TopicPattern

__all__ = ["Feed", "FeedOptions", "Headers", "Lane", "Log", "OnError", "Outgoing", "Position", "Record", "Sender"]

Headers = tuple[tuple[str, bytes], ...]


class Position(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        """As `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Record(NamedTuple):
    """A record as read from a log; `timestamp` is epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def position(self) -> Position:
        """Where it lies."""
        return Position(self.topic, self.partition, self.offset)


class Outgoing(NamedTuple):
    """A record to append; partition -1 lets the key choose (murmur2, as Java clients do)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int = -1

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory and on the wire."""
        size = RECORD_OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value)
        return size


RECORD_OVERHEAD_BYTES = 200
"""What librdkafka and we keep for a record beside its bytes; measured, rounded up, so that the bound on bytes holds for empty
records too."""

OnError = "Callable[[AntiphonError, Outgoing], None]"


class Sender(Protocol):
    """Appends records."""

    async def send(self, record: Outgoing) -> Position:
        """Append and wait for the acknowledgement."""

    async def send_soon(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None] | None = None) -> None:
        """Append in the background; waits only while too much is in flight."""

    def offer(self, record: Outgoing, on_error: Callable[[AntiphonError, Outgoing], None]) -> bool:
        """Append in the background if that needs no waiting; False where it does, for `send_soon`."""

    async def flush(self) -> None:
        """Wait until everything so far is acknowledged."""

    async def close(self) -> None:
        """Flush and end."""


class Lane:
    """One partition during one assignment."""

    __slots__ = ("buffered", "committed", "over", "partition", "paused", "topic", "window")

    def __init__(self, topic: str, partition: int, position: int = -1) -> None:
        """Begin at a position; -1 where it is not known before the first record."""
        self.topic, self.partition = topic, partition
        self.window = AckWindow(position)
        self.buffered = 0
        self.committed = position
        self.paused = self.over = False


class FeedOptions(NamedTuple):
    """How a subscription reads.

    Attributes:
        pattern: Which topics.
        group: The consumer group, or None to read everything without one.
        start: Where to begin where the group has no offset yet, and without a group.
        assignor: How partitions are shared in the group.
        buffer_max: Records fetched ahead.
        unacked_max: Records of one partition that may be handed out and not acknowledged.
        read_partition: Only this partition of each topic (without a group).
    """

    pattern: TopicPattern
    group: str | None
    start: Literal["earliest", "latest"]
    assignor: Literal["cooperative", "range"] = "cooperative"
    buffer_max: int = 1_000
    unacked_max: int = 10_000
    read_partition: int | None = None


class Feed(Protocol):
    """Feeds one subscription."""

    async def start(self) -> None:
        """Begin; returns when a record appended from now on will be seen."""

    async def batch(self) -> Sequence[tuple[Lane, Record]]:
        """Wait for records."""

    def take(self, lane: Lane, offset: int) -> bool:
        """Note that a record leaves the buffer; False where its lane is over."""

    def ack(self, lane: Lane, offset: int) -> bool:
        """Note that a record is done; False where that comes too late or twice."""

    async def commit(self) -> None:
        """Make what is acknowledged so far durable."""

    async def close(self) -> None:
        """Commit and leave."""


class Log(Protocol):
    """A whole log."""

    def sender(self, *, prompt: bool = False) -> Sender:
        """Return the sender, of which there is one, or the one for what somebody waits for."""

    def feed(self, options: FeedOptions) -> Feed:
        """Return a new feed."""

    async def open(self) -> None:
        """Check that it answers."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""

    async def ensure_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        """Create a topic where it is missing."""

    async def read_back(self, topic: str, partition: int, *, start_ms: int, count_max: int) -> list[Record]:
        """Return a partition's records since a time, the last ones where there are more than `count_max`, as of now."""

    async def close(self) -> None:
        """End the sender and what belongs to the log."""
