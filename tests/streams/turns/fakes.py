"""What the tests of turns share: records, a table, a committer and a shell that need neither Faust nor a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

from faust.types import TP

from streams.observer import Observer
from streams.turns.batch import Batch, Output, TableLike
from streams.turns.committer import Committer, Refusal, Turn
from streams.turns.runner import Runner, Shell
from streams.turns.stores import MemoryParts
from streams.turns.tables import JsonCodec, Table

DEADLINE_S = 10.0
IN = TP("in", 0)


class FakeRecord(NamedTuple):
    """A record in the shape that a processor sees."""

    offset: int
    value: bytes | None = b"v"
    key: bytes | None = b"k"
    topic: str = "in"
    partition: int = 0
    timestamp: int = 1_700_000_000_000
    headers: tuple[tuple[str, bytes], ...] = ()


def records(offsets: Iterable[int], *, tp: TP = IN, value: Callable[[int], bytes] = lambda n: b"v%d" % n) -> list[FakeRecord]:
    """Return one record an offset."""
    return [FakeRecord(n, value(n), b"k%d" % (n % 3), tp.topic, tp.partition) for n in offsets]


class FakeTable:
    """A table over parts in memory, without an app around it."""

    def __init__(self, name: str = "t", *, default: Callable[[], Any] | None = None, immutable_values: bool = False) -> None:
        self.name, self.default, self.immutable_values, self.codec = name, default, immutable_values, JsonCodec()
        self.parts = MemoryParts(self.codec)
        self.changelog_topic_name = f"{name}-changelog"

    def encode(self, writes: Any) -> dict[bytes, bytes | None]:
        return Table.encode(cast(Any, self), writes)


def table(name: str = "t", *, default: Callable[[], Any] | None = None, immutable_values: bool = False) -> Any:
    return FakeTable(name, default=default, immutable_values=immutable_values)


def batch(
    offsets: Iterable[int] = (0,),
    *,
    tp: TP = IN,
    below: Callable[[TableLike], tuple[dict[Any, Any], ...]] = lambda _: (),
    now_ms: int = 1_000,
    codec: Any = None,
) -> Batch:
    """Return a batch of these records."""
    found = records(offsets, tp=tp)
    return Batch(tp, cast(Any, found), now_ms=now_ms, next_offset=found[-1].offset + 1 if found else 0, below=below, codec=codec)


class FakeCommitter:
    """Takes turns as the log would: at once, or when told, or not at all."""

    transactional = True

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.refusals: list[Refusal] = []
        self.held: asyncio.Event | None = None
        self.error: Exception | None = None
        self.asked = 0

    def hold(self) -> None:
        """Let the next commits wait."""
        self.held = asyncio.Event()

    def release(self) -> None:
        """Let them happen."""
        assert self.held is not None
        self.held.set()
        self.held = None

    async def make_visible(self, turn: Turn) -> Refusal | None:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        else:
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.refusals:
            return self.refusals.pop(0)
        self.turns.append(turn)
        for number, (place, _) in enumerate(turn.tables().items(), len(self.turns) * 100):
            turn.tails[TP(place[0].changelog_topic_name, place[1])] = number  # type: ignore[attr-defined]
        return None

    # ---- what became visible

    def offsets(self, tp: TP = IN) -> list[int]:
        """Return the offsets named by outputs `offset` of one source partition, in the order of the log."""
        return [
            int(output[2] or b"")
            for turn in self.turns
            for e in turn.effects
            if e.tp == tp
            for output in e.outputs
            if output[0] == "out"
        ]

    def dead(self) -> list[tuple[bytes | None, dict[str, bytes]]]:
        """Return values and headers of the dead letters."""
        return [(o[2], dict(o[4] or ())) for turn in self.turns for e in turn.effects for o in e.outputs if o[0] == "dead"]

    def committed(self, tp: TP = IN) -> int:
        """Return the last committed offset."""
        return [turn.offsets()[tp] for turn in self.turns if tp in turn.offsets()][-1]


class Hooks(Observer):
    """Keeps every call of an observer."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in {"calls", "named", "processor_span"} or not hasattr(Observer, name):
            return super().__getattribute__(name)
        return lambda **facts: self.calls.append((name, facts))

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return what one hook was told."""
        return [facts for called, facts in self.calls if called == name]


class FakeShell:
    """A consumer around a runner: every partition has a processor that runs `work` on each batch."""

    app_id, dead_letter_topic = "app", "dead"

    def __init__(
        self, work: Callable[[Batch], Awaitable[None]], *, batch_records_max: int = 10, record_bytes_max: int = 1_000
    ) -> None:
        self.work, self.batch_records_max, self.record_bytes_max = work, batch_records_max, record_bytes_max
        self.codec: Any = None
        self.observer: Any = Hooks()
        self.checked: list[set[str]] = []
        self.refusals: list[Refusal] = []
        self.errors: list[BaseException] = []
        self.unknown: Exception | None = None
        self.offsets_committed: list[dict[TP, int]] = []
        self.offsets_taken = True
        self.batches: list[Batch] = []
        self.at_once: list[list[Output]] = []
        """What was sent at once, a list for each batch."""

    def send_at_once(self, outputs: list[Output]) -> None:
        self.at_once.append(outputs)

    async def deliver(self, batch: Batch) -> int:
        self.batches.append(batch)
        batch.waiting = 1
        error: Exception | None = None
        batch.taken("worker")
        try:
            await self.work(batch)
        except Exception as raised:  # noqa: BLE001 a processor may raise anything
            error = raised
        if not batch.ended:
            batch.finished("worker", error)
        return 1

    async def commit_offsets(self, offsets: dict[TP, int]) -> bool:
        self.offsets_committed.append(offsets)
        return self.offsets_taken

    async def check_topics(self, topics: set[str]) -> None:
        self.checked.append(set(topics))
        await asyncio.sleep(0)
        if self.unknown is not None:
            raise self.unknown

    async def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    async def broken(self, error: BaseException) -> None:
        self.errors.append(error)


class Bench:
    """A runner with its fakes."""

    def __init__(self, work: Callable[[Batch], Awaitable[None]], **options: int) -> None:
        self.shell, self.committer = FakeShell(work, **options), FakeCommitter()
        self.runner = Runner(cast(Shell, self.shell), cast(Committer, self.committer))

    def open(self, *tps: TP, at: int = 0) -> None:
        """Open for these partitions, without the timers that a start fires."""
        self.runner.open(b"member", dict.fromkeys(tps, at))

    def offer(self, found: Sequence[FakeRecord]) -> None:
        """Hand over records of one partition, as the fetch loop does."""
        self.runner.offer(TP(found[0].topic, found[0].partition), cast(Any, found))
        self.runner.dispatch()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop run until something holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds():  # noqa: ASYNC110 what is waited for has no event of its own
                await asyncio.sleep(0.001)

    async def idle(self) -> None:
        """Let the loop run until nothing runs, waits or is uncommitted."""

        def quiet() -> bool:
            lanes = self.runner.lanes
            busy = lanes is not None and any(lane.running is not None or lane.unsettled or lane.waiting for lane in lanes)
            return self.runner.settling is None and not busy

        await self.until(quiet)
