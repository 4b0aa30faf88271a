"""What observers are told: of their name and kinds only, in order, and an end that is told too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.errors import AntiphonError
from streams.coordination import news
from streams.coordination.news import News
from streams.errors import BrokerError


class Feed:
    """Gives what is put into it; an error ends it."""

    def __init__(self) -> None:
        self.records: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    async def start(self) -> None: ...

    async def batch(self) -> list[Any]:
        record = await self.records.get()
        if isinstance(record, AntiphonError):
            raise record
        return [(None, record)]

    def take(self, lane: Any, offset: int) -> bool:
        return True

    ack = take

    async def close(self) -> None:
        self.closed = True


class Record:
    def __init__(self, kind: str, name: str, number: int = 0) -> None:
        self.offset, self.answer = 0, (kind, {"name": name, "number": number})


class Channel:
    """A channel whose codec reads the records above."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []
        self.reads = 0
        self.codec = self

    def events_feed(self, topic: str = "") -> Feed:
        self.feeds.append(Feed())
        return self.feeds[-1]

    def type_of(self, record: Record) -> str:
        return record.answer[0]

    def read(self, record: Record) -> dict[str, Any]:
        self.reads += 1
        return record.answer[1]


def made() -> tuple[News, Channel]:
    channel = Channel()
    return News(channel), channel  # type: ignore[arg-type] # as much of a channel as it needs


async def test_each_observer_is_told_of_its_name_and_kinds_by_one_reader() -> None:
    """Two observers, one feed; what nobody wants is not decoded, and the last to go closes the feed."""
    news_, channel = made()
    async with news_.follow("a", {"x"}) as a, news_.follow("b", {"x", "y"}) as b:
        (feed,) = channel.feeds
        for number, (kind, name) in enumerate((("x", "a"), ("z", "a"), ("y", "a"), ("y", "b"), ("x", "b"), ("x", "a"))):
            feed.records.put_nowait(Record(kind, name, number))
        assert [(await anext(a))[1]["number"] for _ in range(2)] == [0, 5]
        assert [(await anext(b))[1]["number"] for _ in range(2)] == [3, 4]
        assert channel.reads == 5
    assert feed.closed


async def test_a_reader_that_ends_is_told_after_what_came_before_and_the_next_observer_begins_anew() -> None:
    """An observer gets what there was and then the error."""
    news_, channel = made()
    async with news_.follow("a", {"x"}) as told:
        channel.feeds[0].records.put_nowait(Record("x", "a"))
        channel.feeds[0].records.put_nowait(BrokerError("gone"))
        await anext(told)
        with pytest.raises(BrokerError, match="gone"):
            await anext(told)
        async with news_.follow("a", {"x"}) as again:
            assert channel.feeds[0].closed
            channel.feeds[1].records.put_nowait(Record("x", "a"))
            await anext(again)


async def test_who_is_too_far_behind_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit, with what to do; others are told on."""
    monkeypatch.setattr(news, "BEHIND_MAX", 2)
    news_, channel = made()
    async with news_.follow("a", {"x"}) as slow, news_.follow("a", {"x"}) as quick:
        for number in range(4):
            channel.feeds[0].records.put_nowait(Record("x", "a", number))
            assert (await anext(quick))[1]["number"] == number
        assert [(await anext(slow))[1]["number"] for _ in range(2)] == [0, 1]
        with pytest.raises(AntiphonError, match="2 events behind"):
            await anext(slow)


async def test_a_closed_client_ends_its_observers() -> None:
    """Nobody waits for ever."""
    news_, channel = made()
    async with news_.follow("a", {"x"}) as told:
        await news_.close()
        with pytest.raises(BrokerError, match="closed"):
            await anext(told)
    assert channel.feeds[0].closed
