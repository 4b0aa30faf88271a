"""Commands of tables as records: written without the detour over their classes, and sent with the next bundle.

A commit is on the way of every transaction, so what never changes of it is made once: the schema's id, the parsed schema and the
headers. What is left is the value, which fastavro writes from a dict.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from schemas import tables, transactions
from schemas.avro import PREFIX_BYTES, parsed, write_body
from schemas.cloudevents import CONTENT_TYPE, SPEC_VERSION, rfc3339
from schemas.tables import CommitTransaction, PrepareTransaction
from streams.core.tables.encoding import commit_body
from streams.errors import RequestTimedOut
from streams.transport import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.errors import AntiphonError
    from schemas.events import Event
    from streams.coordination.channel import Answer, Channel
    from streams.core.tables.encoding import Said

__all__ = ["AGAIN_S", "Wire"]

AGAIN_S: Final = 2.0
"""Without any answer a command is sent again after this: longer than kafka transactions under load take."""

_NAMES: Final[dict[str, Any]] = dict.fromkeys(("id", "source", "domain", "txn", "owner"), "-")
_SAMPLES: Final[tuple[Event, ...]] = (
    tables.CommitTransaction(**_NAMES, isolation="snapshot"),
    tables.PrepareTransaction(**_NAMES, isolation="snapshot", participants=[]),
    tables.LockRows(**_NAMES, request_id="", locks=[]),
    tables.KeepTransaction(**_NAMES, lease_ms=0),
    tables.EndTransaction(**_NAMES),
    tables.AskTransaction(id="-", source="-", domain="", txn=""),
    tables.ResolveConflict(**_NAMES, commit=True, reason=""),
    tables.MarkTable(id="-", source="-", domain="", request_id=""),
    tables.ReadRows(id="-", source="-", domain="", request_id=""),
    transactions.BeginTransaction(id="-", source="-", txn="", owner="", participants=[], managers=[]),
    transactions.AskDecision(id="-", source="-", txn="", participant=""),
    transactions.AbandonTransaction(id="-", source="-", txn="", owner=""),
    transactions.ResolveTransaction(id="-", source="-", txn="", participant="", owner="", reason=""),
)
"""An event of each kind that is sent."""

_Kind = tuple[str, bytes, dict[str, Any], tuple[tuple[str, bytes], ...]]
"""The topic, the bytes before the value, the schema, and the headers that are always the same."""


class Wire:
    """What one mesh says to domains and to the coordinator.

    Args:
        channel: The conversation, which has the answers.
        source: The CloudEvents source of commands.
        prefix: Before the names of topics.
        answer_s: How long a command may stay without an answer.
        samples: An event of each kind that is sent.
        made_by: Who answers, in errors.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        source: str,
        prefix: str,
        answer_s: float,
        samples: tuple[Event, ...] = _SAMPLES,
        made_by: str = "the worker of transactions",
    ) -> None:
        self.channel, self.prefix, self.answer_s = channel, prefix, answer_s
        self._samples, self._made_by = samples, made_by
        self._kinds: dict[type[Event], _Kind] = {}
        self._source = ("ce_source", source.encode())
        self._now_ms = -1
        self._time = ("ce_time", b"")

    async def open(self) -> None:
        """Begin to read answers, and learn the schemas' ids, where that has not been done."""
        await self.channel.open()
        if not self._kinds:
            self._kinds = await asyncio.to_thread(self._written)  # a Schema Registry is asked over the network

    def _written(self) -> dict[type[Event], _Kind]:
        codec = self.channel.codec
        kinds: dict[type[Event], _Kind] = {}
        for sample in self._samples:
            cls, topic = type(sample), self.prefix + sample.topic
            fixed = (
                ("ce_specversion", SPEC_VERSION.encode()),
                ("ce_type", cls.event_type.encode()),
                ("content-type", CONTENT_TYPE.encode()),
                self._source,
            )
            prefix = codec.encode(sample, topic=topic).value[:PREFIX_BYTES]
            kinds[cls] = (topic, prefix, parsed(codec.catalogue.schema(cls)), fixed)
        return kinds

    def send(self, cls: type[Event], fields: dict[str, Any], *, key: str, call: str) -> None:
        """Send a command with the next bundle; whoever listens to the call is told where it cannot be delivered.

        Args:
            cls: Which command.
            fields: All its fields.
            key: Its domain, or its transaction for the coordinator.
            call: Names it and its answers.
        """
        topic, prefix, schema, fixed = self._kinds[cls]
        self._post(topic, key, write_body(prefix, schema, fields), fixed, call)

    def send_commit(self, said: Said, *, again: bool) -> None:
        """Send a commit, or a prepare where there are participants, with the next bundle."""
        kind = CommitTransaction if said.participants is None else PrepareTransaction
        topic, prefix, _, fixed = self._kinds[kind]
        self._post(topic, said.domain, prefix + commit_body(said, again=again), fixed, said.txn)

    def _post(self, topic: str, key: str, value: bytes, fixed: tuple[tuple[str, bytes], ...], call: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        if now_ms != self._now_ms:
            self._now_ms, self._time = now_ms, ("ce_time", rfc3339(now_ms).encode())
        headers = (*fixed, ("ce_id", call.encode()), self._time, *self.channel.reply_headers(call))
        self.channel.post(Outgoing(topic, key.encode(), value, headers))

    async def call(
        self, cls: type[Event], fields: dict[str, Any], *, key: str, call: str, what: str, limit_s: float | None = None
    ) -> Answer:
        """Send a command until it is answered, and return the answer; `limit_s` is how long that may take, else `answer_s`.

        Raises:
            RequestTimedOut: There was none.
            AntiphonError: It could not be sent, or answers cannot be read.
        """
        answers: asyncio.Queue[Answer | AntiphonError] = asyncio.Queue()
        listener: Callable[[Answer | AntiphonError], None] = answers.put_nowait
        limit_s = self.answer_s if limit_s is None else limit_s
        until = time.monotonic() + limit_s
        self.channel.listen(call, listener)
        try:
            while True:
                await self.open()
                self.send(cls, fields, key=key, call=call)
                try:
                    async with asyncio.timeout(min(AGAIN_S, max(0.0, until - time.monotonic()))):
                        answer = await answers.get()
                except TimeoutError:
                    if time.monotonic() >= until:
                        raise RequestTimedOut(
                            f"no answer to {what} within {limit_s:g} s: see whether {self._made_by} runs"
                        ) from None
                    continue
                if not isinstance(answer, tuple):
                    raise answer
                return answer
        finally:
            self.channel.forget(call)
