"""Replay: read what happened again, by offset, time or key, at its own pace or flat out; rebuild projections and compare them.

    for record in Replay("agents.events", settings=settings, selection=Selection(start_ms=noon), speed=10.0):
        ...
    rebuilt = rebuild(fold, ["agents.events"], settings=settings)           # fold(state, record) changes a dict a partition
    live = read_table("antiphon-activity-changelog", settings=settings)
    print(compare(live, rebuilt))                                           # equal: 1,492 keys

Guarantees: a replay ends at the log's ends as they were when it began, and gives committed records only. Flat out, partitions
come as they are fetched, each in its own order; with a speed, or from several topics, records come in the order of time, each
partition still in its own. Iterate with `for` in a thread, with `async for` on an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from streams.core.comparison import Comparison, Difference, Partitions
from streams.core.comparison import compare as compare_partitions
from streams.core.pace import FLAT_OUT, Pace, Progress
from streams.reader import LogReader, Selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.settings import Settings
    from streams.transport import Record

__all__ = [
    "FLAT_OUT",
    "Comparison",
    "Difference",
    "Fold",
    "Progress",
    "Projection",
    "Replay",
    "Selection",
    "compare",
    "read_table",
    "rebuild",
]

PROGRESS_S: Final = 0.25
"""Between two reports of progress: a person sees no more."""

Fold = Callable[[dict[Any, Any], "Record"], None]
"""Applies one record to the state of its partition."""

OnProgress = Callable[[Progress], None]


class Replay:
    """A bounded reading of topics; may be iterated several times, each time to the ends of that moment.

    Args:
        topics: One topic or several.
        settings: How to reach the broker; read from environment and file where not given.
        selection: Which records.
        speed: 1 is real time by the records' timestamps, 10 ten times as fast, `FLAT_OUT` does not wait.
        gap_ms_max: The longest wait between two records.
        merged: In the order of time over all partitions; always so with a speed or several topics.
        on_progress: Called now and then, and at the end, in the thread or on the loop that iterates.
    """

    def __init__(
        self,
        topics: str | Sequence[str],
        *,
        settings: Settings | None = None,
        selection: Selection | None = None,
        speed: float = FLAT_OUT,
        gap_ms_max: float = float("inf"),
        merged: bool = False,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._settings = settings
        self._selection = selection or Selection()
        self._speed, self._gap_ms_max = speed, gap_ms_max
        Pace(speed, gap_ms_max=gap_ms_max)  # refuses what is not allowed now, not at the first record
        self._merged = merged or speed > 0 or len(self._topics) > 1
        self._on_progress = on_progress

    def __iter__(self) -> Iterator[Record]:
        """The records, each when it is due.

        Raises:
            TopicMissing: A topic does not exist.
            BrokerError: The broker does not answer or refuses.
        """
        pace = Pace(self._speed, gap_ms_max=self._gap_ms_max)
        for batch in self.batches():
            for record in batch:
                wait_ms = pace.wait_ms(record.timestamp, time.monotonic() * 1000)
                if wait_ms > 0:
                    time.sleep(wait_ms / 1000)
                yield record

    async def __aiter__(self) -> AsyncIterator[Record]:
        """The records, each when it is due; raises as `__iter__`."""
        pace = Pace(self._speed, gap_ms_max=self._gap_ms_max)
        batches = self.batches()
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                for record in batch:
                    wait_ms = pace.wait_ms(record.timestamp, time.monotonic() * 1000)
                    if wait_ms > 0:
                        await asyncio.sleep(wait_ms / 1000)
                    yield record
        finally:
            await asyncio.shield(asyncio.to_thread(_close, batches))

    def batches(self) -> Iterator[list[Record]]:
        """The records in batches, without any pace: the fast way for whoever takes them all."""
        reader = LogReader(client_config(self._settings))
        bounds = reader.bounds(self._topics, self._selection)
        total = sum(max(0, end - start) for start, end in bounds.values())
        started = reported = time.monotonic()
        done = count = 0
        for batch, done in reader.read(bounds, merged=self._merged):
            records = [record for record in batch if self._selection.takes(record)]
            count += len(records)
            if records:
                yield records
            now = time.monotonic()
            if self._on_progress is not None and now - reported >= PROGRESS_S:
                reported = now
                self._on_progress(Progress(done, total, count, now - started))
        if self._on_progress is not None:
            self._on_progress(Progress(total, total, count, time.monotonic() - started))


class Projection(Mapping[Any, Any]):
    """State by partition, and as one mapping over all of them where keys do not repeat.

    Attributes:
        partitions: Partition to key to value. Compare these: a key may have a value in several.
    """

    def __init__(self, partitions: dict[int, dict[Any, Any]]) -> None:
        """Take the state."""
        self.partitions = partitions

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - whatever the fold stored
        """The value in the lowest partition that has the key."""
        for _, state in sorted(self.partitions.items()):
            if key in state:
                return state[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        """The distinct keys."""
        return iter(dict.fromkeys(key for _, state in sorted(self.partitions.items()) for key in state))

    def __len__(self) -> int:
        """How many distinct keys."""
        return sum(1 for _ in self)


def rebuild(
    fold: Fold,
    topics: str | Sequence[str],
    *,
    settings: Settings | None = None,
    selection: Selection | None = None,
    on_progress: OnProgress | None = None,
) -> Projection:
    """Fold everything in topics into a fresh projection. Blocks: call it through `asyncio.to_thread` on an event loop.

    Args:
        fold: Applies one record to the dict of its partition number. Records of several topics come in the order of time.
        topics: Where from.
        settings: How to reach the broker.
        selection: Which records, all unless given.
        on_progress: Called now and then.

    Raises:
        TopicMissing: A topic does not exist.
        BrokerError: The broker does not answer or refuses.
    """
    partitions: dict[int, dict[Any, Any]] = {}
    for batch in Replay(topics, settings=settings, selection=selection, on_progress=on_progress).batches():
        for record in batch:
            state = partitions.get(record.partition)
            if state is None:
                state = partitions[record.partition] = {}
            fold(state, record)
    return Projection(partitions)


def read_table(
    changelog: str,
    *,
    settings: Settings | None = None,
    decode_key: Callable[[bytes], Any] | None = None,
    decode_value: Callable[[bytes], Any] = orjson.loads,
    on_progress: OnProgress | None = None,
) -> Projection:
    """Read a live table from its changelog topic, `<app id>-<table>-changelog`. Blocks, as `rebuild`.

    Args:
        changelog: The topic.
        settings: How to reach the broker.
        decode_key: Bytes to key; JSON, where a list becomes a tuple, unless given.
        decode_value: Bytes to value; JSON unless given.
        on_progress: Called now and then.

    Raises:
        TopicMissing: The topic does not exist.
        BrokerError: The broker does not answer or refuses.
    """
    key_of = decode_key or _key

    latest: dict[int, dict[bytes, bytes]] = {}
    for batch in Replay(changelog, settings=settings, on_progress=on_progress).batches():
        for record in batch:
            raw = latest.setdefault(record.partition, {})
            if record.key is None:
                continue
            if record.value is None:
                raw.pop(record.key, None)
            else:
                raw[record.key] = record.value
    decoded = {partition: {key_of(key): decode_value(value) for key, value in raw.items()} for partition, raw in latest.items()}
    return Projection(decoded)


def compare(live: Projection | Partitions, rebuilt: Projection | Partitions) -> Comparison:
    """Return whether two projections are equal, or where they first differ; an empty partition equals an absent one.

    Args:
        live: As `read_table` returns it, or partition to key to value.
        rebuilt: As `rebuild` returns it, or the same.
    """
    return compare_partitions(
        live.partitions if isinstance(live, Projection) else live,
        rebuilt.partitions if isinstance(rebuilt, Projection) else rebuilt,
    )


def client_config(settings: Settings | None) -> dict[str, Any]:
    """Return what a confluent-kafka client is made with, the embedded broker resolved."""
    from streams.broker import resolve_bootstrap
    from streams.settings import Settings

    chosen = settings if settings is not None else Settings()
    return chosen.kafka.client_config(resolve_bootstrap(chosen))


def _close(batches: Iterator[Any]) -> None:
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def _key(raw: bytes) -> Any:  # noqa: ANN401 - whatever the table's keys are
    key = orjson.loads(raw)
    return _hashable(key) if type(key) is list else key


def _hashable(items: list[Any]) -> tuple[Any, ...]:
    return tuple(_hashable(item) if type(item) is list else item for item in items)
