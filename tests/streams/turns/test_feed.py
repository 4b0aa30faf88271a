"""The feed: a processor iterates batches, and lives on after what it raises."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any

import pytest

from streams.errors import ProcessorError
from streams.observer import Observer
from streams.turns.batch import Batch, current_batch
from streams.turns.feed import fed
from tests.streams.turns.fakes import batch


class FakeStream:
    """A Faust stream over these batches; then it waits for ever, or ends."""

    def __init__(self, *batches: Batch, ends: bool = True) -> None:
        self.batches, self.ends = list(batches), ends
        for made in batches:
            made.waiting = 1

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> Batch:
        if self.batches:
            return self.batches.pop(0)
        if self.ends:
            raise StopAsyncIteration
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    def take(self, max_: int, within: float) -> None: ...
    def group_by(self, key: object) -> None: ...
    def events(self) -> None: ...


class Spans(Observer):
    """Remembers the spans of processors and how they ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, str]] = []

    @contextmanager
    def processor_span(self, batch: Any, *, processor: str = "", turn: int = 0) -> Any:
        end = "ok"
        try:
            yield
        except BaseException as error:
            end = type(error).__name__
            raise
        finally:
            self.seen.append((processor, batch.records[0].offset, end))


def three() -> list[Batch]:
    """Return batches of offsets 0, 1 and 2."""
    return [batch([n]) for n in range(3)]


def wrapped(fun: Any, spans: Spans | None = None) -> Any:
    """Return the processor as `App.agent` wraps it."""
    observer = spans or Observer()
    return fed(fun, "p", lambda: observer)


def ends(batches: list[Batch]) -> list[str]:
    """Return how each batch ended."""
    return [("open" if not b.ended else "ok" if b.error is None else f"{b.failed_in}: {b.error}") for b in batches]


async def test_asking_for_the_next_batch_ends_the_one_before() -> None:
    """One batch is in hand at a time; while it is, code below finds it."""
    batches, seen = three(), []

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for made in stream:
            seen.append((made.records[0].offset, current_batch() is made, ends(batches)))  # noqa: PERF401 not at once

    spans = Spans()
    await wrapped(processor, spans)(FakeStream(*batches))
    assert seen == [(0, True, ["open", "open", "open"]), (1, True, ["ok", "open", "open"]), (2, True, ["ok", "ok", "open"])]
    assert ends(batches) == ["ok", "ok", "ok"]
    assert spans.seen == [("p", 0, "ok"), ("p", 1, "ok"), ("p", 2, "ok")]
    assert current_batch() is None


async def test_what_a_processor_raises_ends_its_batch_and_not_the_processor() -> None:
    """The function starts afresh on the same stream with the batch after; the span ends with the error."""
    batches, starts = three(), []

    async def processor(stream: AsyncIterator[Batch]) -> None:
        starts.append("start")
        async for made in stream:
            if made.records[0].offset == 1:
                raise ValueError("one")

    spans = Spans()
    await wrapped(processor, spans)(FakeStream(*batches))
    assert ends(batches) == ["ok", "p: one", "ok"]
    assert len(starts) == 2
    assert [end for *_, end in spans.seen] == ["ok", "ValueError", "ok"]


async def test_a_processor_that_leaves_its_loop_is_started_afresh() -> None:
    """`break` or `return` in the middle of a batch is a mistake that is told, not a batch that silently counts."""
    batches = three()

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for made in stream:
            if made.records[0].offset == 1:
                return

    await wrapped(processor)(FakeStream(*batches))
    assert ends(batches) == ["ok", "p: processor p returned in the middle of a batch: its loop over the stream must go on", "ok"]


async def test_a_processor_may_be_an_async_generator() -> None:
    """What it yields goes where Faust's agents send it; exceptions and early returns end batches in the same way."""
    batches = [batch([n]) for n in range(4)]

    async def processor(stream: AsyncIterator[Batch]) -> AsyncIterator[int]:
        async for made in stream:
            offset = made.records[0].offset
            if offset == 1:
                raise ValueError("one")
            yield offset
            if offset == 2:
                return

    function = wrapped(processor)
    assert inspect.isasyncgenfunction(function)
    assert [value async for value in function(FakeStream(*batches))] == [0, 2, 3]
    assert [end.split(":")[0] for end in ends(batches)] == ["ok", "p", "p", "ok"]


async def test_faust_sees_what_kind_of_function_it_has() -> None:
    """Faust looks through `__wrapped__` to tell generators from coroutines, so the wrapper hides it; the name stays."""

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for _ in stream:
            pass

    function = wrapped(processor)
    assert inspect.iscoroutinefunction(function)
    assert not hasattr(function, "__wrapped__")
    assert function.__qualname__ == processor.__qualname__


async def test_an_error_outside_a_batch_is_the_processor_s_own() -> None:
    """Before its first batch, or after its last, nothing can be set aside: Faust's supervisor hears of it."""

    async def before(stream: AsyncIterator[Batch]) -> None:
        raise LookupError("at the start")

    async def after(stream: AsyncIterator[Batch]) -> AsyncIterator[int]:
        async for _ in stream:
            pass
        raise LookupError("at the end")
        yield 1

    with pytest.raises(LookupError, match="at the start"):
        await wrapped(before)(FakeStream())
    batches = three()
    with pytest.raises(LookupError, match="at the end"):
        _ = [value async for value in wrapped(after)(FakeStream(*batches))]
    assert ends(batches) == ["ok", "ok", "ok"]


async def test_batches_that_were_given_up_while_they_waited_are_passed_over() -> None:
    """A rebalance ends batches that a busy processor has not looked at yet; it never sees them."""
    batches, seen = three(), []
    batches[1].ended = True

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for made in stream:
            seen.append(made.records[0].offset)  # noqa: PERF401 one batch at a time is the matter

    await wrapped(processor)(FakeStream(*batches))
    assert seen == [0, 2]


async def test_a_batch_given_up_in_hand_is_not_ended_twice() -> None:
    """When the runtime has dropped a batch, what its processor makes of it no longer matters."""
    batches = three()
    ended: list[Batch] = []
    for made in batches:
        made.on_end = ended.append

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for made in stream:
            if made is batches[1]:
                made.ended, made.on_end = True, None
                raise ValueError("too late to matter")

    await wrapped(processor)(FakeStream(*batches))
    assert ended == [batches[0], batches[2]]
    assert batches[1].error is None


async def test_a_cancelled_processor_is_cancelled() -> None:
    """A worker that stops is not answered with a dead letter."""
    batches = three()[:1]
    started = asyncio.Event()

    async def processor(stream: AsyncIterator[Batch]) -> None:
        async for _ in stream:
            started.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wrapped(processor)(FakeStream(*batches)))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends(batches) == ["open"]


@pytest.mark.parametrize("operator", ["take", "group_by", "events"])
async def test_faust_s_stream_operators_are_refused(operator: str) -> None:
    """They work on single events: the error says how a batch topic is read."""
    refused: list[ProcessorError] = []

    async def processor(stream: Any) -> None:
        with pytest.raises(ProcessorError, match=rf"processor p: stream\.{operator} works on single events") as caught:
            getattr(stream, operator)
        refused.append(caught.value)
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = stream.no_such_thing

    await wrapped(processor)(FakeStream())
    assert len(refused) == 1
