"""Resource managers: agent services that take part in transactions with something of their own, such as a payment.

    async with mesh.resource_manager("payments", prepare=reserve, commit=book, abort=give_back):
        ...                                          # votes and carries out until the block ends

    async with mesh.transaction() as txn:            # anywhere
        await txn.put("orders", "shop/17", order)
        txn.enlist("payments", {"amount": 40})       # both happen, or neither

    transactions.managers ─▶ manager.prepare ─▶ prepare(part) ─▶ transaction.voted ─▶ coordinator
                             manager.decide  ─▶ commit(part) or abort(part) ─▶ transaction.done ─▶ coordinator

A promise holds over the manager's crash, so `prepare` writes it down under the transaction's id before it returns. The three
functions may be called again for the same transaction, after a crash and after a move to another instance, and then do nothing
a second time; `abort` may be called for one that was never prepared. The coordinator tells a decision until it is done, so a
manager that was away hears of all that it has promised. Instances with one name share a group: one has the work at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import orjson

from schemas.errors import AntiphonError
from schemas.transactions import (
    COMMANDS_TOPIC,
    MANAGER_PREFIX,
    MANAGERS_TOPIC,
    DecideManager,
    ParticipantDone,
    ParticipantVoted,
    PrepareManager,
)
from streams.core.deadletters import one_line
from streams.errors import TopicMissing
from streams.tables.errors import Heuristic, VoteAgainst

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from schemas.events import Event
    from streams.client import Mesh
    from streams.subscriptions import Delivery, Subscription

__all__ = ["Part", "ResourceManager"]

log = logging.getLogger(__name__)

REMEMBERED_MAX: Final = 10_000
"""Transactions whose end is remembered, so that what is said again calls no function; beyond it functions are called again."""
PARTS_MAX: Final = 64
"""Transactions at work at a time: enough to hide the waits of the functions, few enough for their own connections."""
DRAIN_S: Final = 5.0
"""How long functions at work may finish when the block ends; what they have not finished is told again."""
REASON_CHARS_MAX: Final = 500
"""Of why a manager refuses: it goes to whoever commits, and into a row."""

_TYPES: Final[tuple[type[Event], ...]] = (PrepareManager, DecideManager)
_MADE_BY: Final = "antiphon worker two-phase-commit"


class Part(NamedTuple):
    """A manager's part of a transaction.

    Attributes:
        txn: The transaction's id: what is done for it is remembered under this.
        payload: What `txn.enlist` was given; None with a decision whose transaction ended before.
        owner: Who commits; empty with a decision after a crash.
        participants: All that take part; the same.
        reason: Why it aborts.
    """

    txn: str
    payload: Any
    owner: str = ""
    participants: tuple[str, ...] = ()
    reason: str = ""


class _Known:
    """What is remembered of a transaction."""

    __slots__ = ("part", "state", "vote")

    def __init__(self, part: Part, state: str, vote: ParticipantVoted | None = None) -> None:
        self.part, self.state, self.vote = part, state, vote


class ResourceManager:
    """One manager, which works for the time of a block; made by `Mesh.resource_manager`.

    Args:
        mesh: What it is connected with.
        name: As transactions enlist it.
        prepare: Promises a part, or raises `VoteAgainst`; whatever else it raises is a vote against, too.
        commit: Carries a promise out. What it raises is logged, and it is called again when the coordinator tells it again.
        abort: Gives a promise back; the same.
        prefix: Before the names of topics.

    Attributes:
        prepared: Parts promised.
        refused: Parts voted against.
        committed: Parts carried out.
        aborted: Parts given back.
        failed: Calls of `commit` and `abort` that raised.
    """

    def __init__(
        self,
        mesh: Mesh,
        name: str,
        *,
        prepare: Callable[[Part], Awaitable[object]],
        commit: Callable[[Part], Awaitable[object]],
        abort: Callable[[Part], Awaitable[object]],
        prefix: str = "",
    ) -> None:
        self._mesh, self.name, self._prefix = mesh, name, prefix
        self._prepare, self._commit, self._abort = prepare, commit, abort
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(PARTS_MAX)
        self._subscription: Subscription[Any] | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self.prepared = self.refused = self.committed = self.aborted = self.failed = 0

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            TopicMissing: The coordinator's worker has never run.
        """
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End; what is promised is decided when the manager runs again."""
        await self.close()

    async def open(self) -> None:
        """Begin."""
        topic = self._prefix + MANAGERS_TOPIC
        subscription = self._mesh.subscribe(
            topic,
            group=f"{self._prefix}{MANAGER_PREFIX}{self.name}",
            types=_TYPES,
            ack="explicit",
            on_error="skip",
        )
        try:
            await subscription.open()
        except TopicMissing as error:
            await subscription.close()
            raise TopicMissing(topic, made_by=_MADE_BY) from error
        except BaseException:
            await subscription.close()
            raise
        self._subscription = subscription
        self._loop_task = asyncio.ensure_future(self._run(subscription))

    async def wait(self) -> None:
        """Run until it is closed.

        Raises:
            AntiphonError: What ended it, where it ended by itself.
        """
        if self._loop_task is not None:
            await asyncio.shield(self._loop_task)

    async def close(self) -> None:
        """Take nothing more on, and let the functions at work finish."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)  # `wait` raised what ended it
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    # ---- inside

    async def _run(self, subscription: Subscription[Any]) -> None:
        name = self.name.encode()
        try:
            async for delivery in subscription:
                if delivery.record.key != name:
                    delivery.ack()
                    continue
                await self._slots.acquire()
                txn = delivery.event.txn
                task = asyncio.ensure_future(self._one(delivery, self._tails.get(txn)))
                self._tails[txn] = task
                self._tasks.add(task)
                task.add_done_callback(partial(self._done, txn))
        except AntiphonError as error:
            log.error("resource manager %s ended: %s", self.name, error)  # noqa: TRY400 - one line; `wait` raises it
            raise

    def _done(self, txn: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if self._tails.get(txn) is task:
            del self._tails[txn]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("resource manager %s, transaction %s: %r", self.name, txn, error)

    async def _one(self, delivery: Delivery[Any], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # of one transaction the vote comes before what is decided
        event = delivery.event
        try:
            if isinstance(event, PrepareManager):
                await self._vote(event)
            else:
                await self._carry_out(event)
        except AntiphonError as error:
            log.warning("resource manager %s, transaction %s: the coordinator asks again: %s", self.name, event.txn, error)
        delivery.ack()

    async def _vote(self, asked: PrepareManager) -> None:
        known = self._known.get(asked.txn)
        if known is None:
            known = await self._promise(asked)
            self._remember(asked.txn, known)
        if known.state in ("committed", "aborted"):
            await self._say_done(asked.txn, commit=known.state == "committed")
        elif known.vote is not None:
            await self._say(known.vote)

    async def _promise(self, asked: PrepareManager) -> _Known:
        code = reason = ""
        part = Part(asked.txn, None, asked.owner, tuple(asked.participants))
        try:
            part = part._replace(payload=orjson.loads(asked.payload))
            await self._prepare(part)
        except VoteAgainst as error:
            code, reason = error.code, error.reason
        except Exception as error:
            log.exception("resource manager %s votes against transaction %s, since its function raised", self.name, asked.txn)
            code, reason = "failed", one_line(f"{type(error).__name__}: {error}")
        self.refused += bool(code)
        self.prepared += not code
        vote = ParticipantVoted(
            txn=asked.txn,
            participant=MANAGER_PREFIX + self.name,
            commit=not code,
            owner=asked.owner,
            participants=asked.participants,
            timeout_ms=asked.timeout_ms,
            at_ms=asked.at_ms,
            code=code,
            reason=reason[:REASON_CHARS_MAX],
        )
        return _Known(part, "refused" if code else "promised", vote)

    async def _carry_out(self, told: DecideManager) -> None:
        known = self._known.get(told.txn)
        if known is None:
            known = _Known(Part(told.txn, None), "unknown")
        if known.state in ("committed", "aborted"):
            await self._say_done(told.txn, commit=known.state == "committed")
            return
        part, commit, reason = known.part._replace(reason=told.reason), told.commit, ""
        if part.payload is None and told.payload:
            with contextlib.suppress(orjson.JSONDecodeError):  # it was voted against then
                part = part._replace(payload=orjson.loads(told.payload))
        try:
            if told.commit:
                await self._commit(part)
            elif known.state != "refused":
                await self._abort(part)
        except Heuristic as error:
            commit, reason = error.committed, error.reason
        except Exception:
            self.failed += 1
            what = "commit" if told.commit else "abort"
            log.exception("resource manager %s could not %s transaction %s; it is told again", self.name, what, told.txn)
            return
        self.committed += commit
        self.aborted += not commit
        self._remember(told.txn, _Known(Part(told.txn, None), "committed" if commit else "aborted"))
        await self._say_done(told.txn, commit=commit, reason=reason)

    async def _say_done(self, txn: str, *, commit: bool, reason: str = "") -> None:
        participant = MANAGER_PREFIX + self.name
        await self._say(ParticipantDone(txn=txn, participant=participant, commit=commit, reason=reason[:REASON_CHARS_MAX]))

    async def _say(self, event: ParticipantVoted | ParticipantDone) -> None:
        await self._mesh.publish(event, topic=self._prefix + COMMANDS_TOPIC)

    def _remember(self, txn: str, known: _Known) -> None:
        self._known[txn] = known
        self._known.move_to_end(txn)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
