"""What all primitives of one mesh share: the conversation with the processor, the names of owners, and what is held."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from schemas.errors import AntiphonError
from schemas.waits import DEADLOCKS_TOPIC
from streams.coordination.news import News

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.channel import Channel
    from streams.coordination.leases import Lease

__all__ = ["Session"]

_NAME_CHARS: Final = 200
"""Of the client id in an owner's name, which has 256 at most."""


class Session:
    """The coordination of one mesh.

    Args:
        channel: How it speaks with the processor.
        name: The client id, which begins the names of owners.
        answer_s: How long a request may stay without any answer.
    """

    def __init__(self, channel: Channel, *, name: str, answer_s: float) -> None:
        self.channel, self.answer_s = channel, answer_s
        self.held: set[Lease] = set()
        self.on_missed: Callable[[str, dict[str, Any] | None], None] | None = None
        """Called with an owner and a grant of a lock that was over when it was told, or None where that cannot be known: such a
        request is asked for anew, and who records what is held has to know."""
        self.news = News(channel)
        self.deadlocks = News(channel, DEADLOCKS_TOPIC)
        self._name = name
        self._numbers = itertools.count(1)
        self._owners: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()

    def owner(self) -> str:
        """Return the running task's name as an owner."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("coordination is asked for in an asyncio task, or with an owner=... of its own")
        found = self._owners.get(task)
        if found is None:
            found = self._owners[task] = f"{self._name[:_NAME_CHARS]}:{self.channel.instance}:{next(self._numbers)}"
        return found

    async def close(self) -> None:
        """Give back what is still held, without waiting for answers."""
        for lease in list(self.held):
            lease.lose("the client was closed")
            lease.end()
            with contextlib.suppress(AntiphonError):
                await self.channel.send(lease.release_command(), self.channel.new_id())
        await self.news.close()
        await self.deadlocks.close()
        await self.channel.close()
