"""The state of a worker at one moment: one frozen value that the web pages, the metrics and the command line share.

The runtime makes a `Status` (`app.status()`); nobody else judges. The words of `reasons` are for an operator: each is one
line that says what is not as it should be, on which partition, and for how long. The makers of the common ones are here, so
that they read the same wherever they appear.

    starting -> recovering -> running <-> rebalancing -> stopping
                     ^___________________________|

A worker is *healthy* while it can still do its work by itself: recovering and rebalancing are healthy; a stalled
processor is not, because only a restart or a fix ends it. It is *ready* when it processes what it is assigned.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = [
    "PartitionStatus",
    "State",
    "Status",
    "TableStatus",
    "reason_broker_unreachable",
    "reason_no_partitions",
    "reason_recovering",
    "reason_stalled",
]

State = Literal["starting", "recovering", "running", "rebalancing", "stopping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """One source partition of this worker.

    Attributes:
        topic: Source topic.
        partition: Its partition.
        committed: Next offset to process after a restart; -1 if nothing was committed yet.
        end: Offset after the last record of the log; -1 if not known yet.
        lag_records: Records between the two.
        lag_seconds: Age of the oldest record not yet processed.
        paused: Whether backpressure stopped its fetching.
        processor: Name of the processor its batch is in now; empty when idle.
        busy_s: How long that batch has been in it.
        stalled: Whether that is longer than `worker.stall_after_s`.
    """

    topic: str
    partition: int
    committed: int = -1
    end: int = -1
    lag_records: int = 0
    lag_seconds: float = 0.0
    paused: bool = False
    processor: str = ""
    busy_s: float = 0.0
    stalled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """One partition of a table on this worker.

    Attributes:
        table: Name of the table.
        partition: Its partition.
        keys: Live keys.
        recovered: Changelog offsets passed in the present or last recovery.
        to_recover: Changelog offsets that recovery had to pass.
    """

    table: str
    partition: int
    keys: int = 0
    recovered: int = 0
    to_recover: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A worker at one moment.

    Attributes:
        app_id: Its application, which is also the consumer group.
        instance: Unique id of this worker.
        generation: The group's generation; -1 before the first assignment.
        state: What it is doing.
        partitions: Its source partitions, sorted.
        tables: Its table partitions, sorted.
        reasons: Why it is not healthy or not ready, one line each; empty when it is both.
        healthy: False when only a restart or a fix helps.
        ready: True when it processes what it is assigned.
    """

    app_id: str
    instance: str
    generation: int = -1
    state: State = "starting"
    partitions: tuple[PartitionStatus, ...] = ()
    tables: tuple[TableStatus, ...] = ()
    reasons: tuple[str, ...] = ()
    healthy: bool = True
    ready: bool = False

    @property
    def lag_records(self) -> int:
        """Records not yet processed, over all partitions."""
        return sum(one.lag_records for one in self.partitions)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest record not yet processed on any partition; 0.0 when there is none."""
        return max((one.lag_seconds for one in self.partitions), default=0.0)

    @property
    def recovered_share(self) -> float:
        """How much of the tables' recovery is done, from 0.0 to 1.0; 1.0 when there was nothing to recover."""
        total = sum(one.to_recover for one in self.tables)
        return sum(min(one.recovered, one.to_recover) for one in self.tables) / total if total else 1.0

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self) | {"lag_records": self.lag_records, "lag_seconds": self.lag_seconds}


def reason_recovering(tables: tuple[TableStatus, ...]) -> str:
    """One line for tables still being read back.

    Args:
        tables: The worker's tables; those that are complete are passed over.
    """
    open_ones = [one for one in tables if one.recovered < one.to_recover]
    total = sum(one.to_recover for one in open_ones)
    done = sum(one.recovered for one in open_ones)
    names = ", ".join(sorted({one.table for one in open_ones})) or "its tables"
    share = f"{100 * done // total} %" if total else "0 %"
    return f"recovering {names}: {share} ({done} of {total} changelog offsets)"


def reason_no_partitions(topics: tuple[str, ...]) -> str:
    """One line for a worker that the group gave nothing.

    Args:
        topics: The source topics it subscribed to.
    """
    return (
        f"no partitions assigned of {', '.join(topics) or 'any topic'}: "
        "more workers than partitions, or the first rebalance is not over"
    )


def reason_broker_unreachable(bootstrap_servers: str, seconds: float) -> str:
    """One line for a broker that does not answer.

    Args:
        bootstrap_servers: Where it was looked for.
        seconds: Since when.
    """
    return f"broker {bootstrap_servers} unreachable for {seconds:.0f} s: start it, or check kafka.bootstrap_servers"


def reason_stalled(*, topic: str, partition: int, offset: int, processor: str, seconds: float) -> str:
    """One line for a processor that does not come back.

    Args:
        topic: Source topic of the batch.
        partition: Its partition.
        offset: First offset of the batch.
        processor: Name of the processor.
        seconds: How long it has had the batch.
    """
    return f"stalled: {topic}[{partition}] at offset {offset} in processor {processor} for {seconds:.0f} s"
