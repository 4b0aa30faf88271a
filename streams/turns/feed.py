"""What a processor iterates: Faust's stream, one batch at a time, surviving what the processor raises.

Stock Faust acknowledges a record when its agent raises (it is lost) and lets a restarted agent go on with the next.
Here the exception ends the batch with an error, the runtime decides what becomes of the records, and the processor's function
starts afresh on the same stream.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from streams.errors import ProcessorError
from streams.turns.batch import Batch, enter_batch

if TYPE_CHECKING:
    from faust.types import StreamT

    from streams.observer import Observer

__all__ = ["Feed", "fed"]


class Feed:
    """An async iterator of batches. Asking for the next batch ends the one before."""

    def __init__(self, stream: StreamT, name: str, observer: Observer) -> None:
        self._stream, self._name, self._observer = stream, name, observer
        self._span: AbstractContextManager[None] | None = None
        self._batches: AsyncIterator[Any] | None = None
        self.batch: Batch | None = None

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> Batch:
        self.finish(None)
        if self._batches is None:
            self._batches = self._stream.__aiter__()
        while True:
            batch: Batch = await self._batches.__anext__()
            if not batch.ended:  # a batch given up by a rebalance while it waited here
                break
        self.batch = batch
        batch.taken(self._name)
        enter_batch(batch)
        self._span = self._observer.processor_span(batch, processor=self._name)
        self._span.__enter__()
        return batch

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._stream, name):
            raise ProcessorError(
                f"processor {self._name}: stream.{name} works on single events; here `async for batch in stream`"
            )
        raise AttributeError(name)

    def finish(self, error: BaseException | None) -> None:
        """End the batch in hand, if there is one."""
        batch, self.batch = self.batch, None
        span, self._span = self._span, None
        if span is not None:
            span.__exit__(None if error is None else type(error), error, None if error is None else error.__traceback__)
        enter_batch(None)
        if batch is not None and not batch.ended:
            batch.finished(self._name, error)


def fed(fun: Callable[..., Any], name: str, observer: Callable[[], Observer]) -> Callable[..., Any]:
    """Wrap a processor's function so that it iterates a `Feed` and lives on after an exception inside a batch."""
    wrapped = _generating(fun, name, observer) if inspect.isasyncgenfunction(fun) else _consuming(fun, name, observer)
    del wrapped.__dict__["__wrapped__"]  # Faust looks through it to find out what kind of function it has
    return wrapped


def _ended(feed: Feed, name: str, error: Exception | None) -> bool:
    """Take the end of a processor's function; return whether it is to be called again."""
    if feed.batch is None:
        if error is not None:
            raise error
        return False
    early = ProcessorError(f"processor {name} returned in the middle of a batch: its loop over the stream must go on")
    feed.finish(error or early)
    return True


def _generating(fun: Callable[..., Any], name: str, observer: Callable[[], Observer]) -> Callable[..., Any]:
    @functools.wraps(fun)
    async def generate(stream: StreamT) -> AsyncIterator[Any]:
        feed, again = Feed(stream, name, observer()), True
        while again:
            error: Exception | None = None
            try:
                async for value in fun(feed):
                    yield value
            except Exception as raised:  # noqa: BLE001 the batch's error, whatever it is
                error = raised
            again = _ended(feed, name, error)

    return generate


def _consuming(fun: Callable[..., Any], name: str, observer: Callable[[], Observer]) -> Callable[..., Any]:
    @functools.wraps(fun)
    async def consume(stream: StreamT) -> None:
        feed, again = Feed(stream, name, observer()), True
        while again:
            error: Exception | None = None
            try:
                await fun(feed)
            except Exception as raised:  # noqa: BLE001 the batch's error, whatever it is
                error = raised
            again = _ended(feed, name, error)

    return consume
