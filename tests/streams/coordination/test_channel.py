"""How commands go: in bundles, and what is said where there is no topic for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from schemas.coordination import ReleaseLock
from streams.codec import Codec
from streams.coordination.channel import Channel
from streams.errors import TopicMissing
from streams.transport import Outgoing

COMMAND = ReleaseLock(domain="r", grant="1", owner="me")


class Sender:
    """Takes what is sent, or refuses it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.sent: list[Outgoing] = []

    async def send_soon(self, record: Outgoing, on_error: Callable[..., None] | None = None) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(record)

    def offer(self, record: Outgoing, on_error: Callable[..., None]) -> bool:
        if self.error is not None:
            on_error(self.error, record)
        else:
            self.sent.append(record)
        return True


def channel(sender: Sender) -> Channel:
    nothing: Any = None
    return Channel(nothing, codec=Codec(), sender=sender, service="me", source="/me", topic_prefix="p.")  # type: ignore[arg-type]


async def test_without_a_topic_it_says_which_worker_makes_it() -> None:
    """Whoever made it by hand would make it without the broker's time, by which leases end."""
    with pytest.raises(TopicMissing) as raised:
        await channel(Sender(TopicMissing("p.coordination.commands"))).send(COMMAND, "1")
    assert str(raised.value) == (
        "topic p.coordination.commands does not exist: start the worker that makes it, `antiphon worker coordination`"
    )


async def test_commands_in_quick_succession_all_go_in_their_order() -> None:
    """The first at once, the others together."""
    sender = Sender()
    one = channel(sender)
    await asyncio.gather(*(one.send(COMMAND.model_copy(update={"grant": str(n)}), str(n)) for n in range(20)))
    assert [dict(record.headers)["ce_id"] for record in sender.sent] == [b"%d" % n for n in range(20)]


async def test_who_is_cancelled_while_it_waits_for_the_bundle_sends_nothing() -> None:
    """And keeps nobody else from sending."""
    sender = Sender()
    one = channel(sender)
    await one.send(COMMAND, "1")
    tasks = [asyncio.ensure_future(one.send(COMMAND, str(n))) for n in (2, 3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [dict(record.headers)["ce_id"] for record in sender.sent] == [b"1", b"3"]
