"""What the runtime needs to know, in one value: from `Settings` for the product, by hand in a test."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from streams.settings import Settings

__all__ = ["Options"]

RECORD_BYTES_MAX: Final = 1_000_000
"""Kafka's default message.max.bytes, less its framing."""
BATCH_RECORDS_MAX: Final = 16_000
"""Bounds what waits in memory. Measured on records of 4 µs each: at 4,000 the kafka transactions cost a third of the throughput,
beyond 16,000 a tenth is gained. Slow records come in smaller batches by themselves (`lanes.BATCH_S`)."""


def unique_instance() -> str:
    """Return an instance id no other worker has: two workers with one id fence each other."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How turns are run.

    Attributes:
        client: librdkafka settings that reach the broker (servers, security).
        instance: This worker's id, unique among live workers. A stable one lets a restarted worker resolve its own open kafka
        transaction
            at once, and find its RocksDB state again.
        guarantee: "exactly_once", or "at_least_once" without kafka transactions.
        batch_records_max: The most records of one batch.
        record_bytes_max: The largest record to write.
        dead_letter_topic: Where records go that a processor cannot take; default `<app id>.dead-letters`.
        fetch_wait_ms: How long the broker may hold an empty fetch.
        transaction_timeout_ms: After this the broker aborts a dead worker's open kafka transaction; others wait for that.
        revoke_grace_s: How long running batches may go on when partitions are taken away.
        stall_after_s: A batch running longer is reported as stalled.
        create_topics: Create missing source and output topics instead of refusing to start.
        partitions: Partitions of topics and tables that are created.
        replication_factor: Their copies.
        store: Where tables live: "memory" or "rocksdb".
        state_dir: Directory of RocksDB tables.
    """

    client: Mapping[str, Any]
    instance: str = field(default_factory=unique_instance)
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    batch_records_max: int = BATCH_RECORDS_MAX
    record_bytes_max: int = RECORD_BYTES_MAX
    dead_letter_topic: str = ""
    fetch_wait_ms: int = 500
    transaction_timeout_ms: int = 10_000
    revoke_grace_s: float = 3.0
    stall_after_s: float = 30.0
    create_topics: bool = False
    partitions: int = 4
    replication_factor: int = 1
    store: Literal["memory", "rocksdb"] = "memory"
    state_dir: Path = Path(".antiphon-state")

    @classmethod
    def of(cls, settings: Settings, *, bootstrap_servers: str, instance: str | None = None) -> Options:
        """Take the options from the settings."""
        worker = settings.worker
        return cls(
            client=settings.kafka.client_config(bootstrap_servers),
            instance=instance or worker.instance or unique_instance(),
            guarantee=worker.guarantee,
            batch_records_max=worker.turn_records_max,
            transaction_timeout_ms=worker.transaction_timeout_ms,
            revoke_grace_s=worker.revoke_grace_s,
            stall_after_s=worker.stall_after_s,
            create_topics=worker.create_topics,
            partitions=worker.partitions,
            replication_factor=settings.kafka.replication_factor,
            store=worker.store,
            state_dir=Path(worker.state_dir),
        )
