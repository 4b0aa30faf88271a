"""The locks of one pessimistic transaction: asked for as it reads and writes, held until it ends, kept alive meanwhile.

    get   shared on the row           put, delete   exclusive on the row           scan   shared on the prefix

A request that has to wait tells whom for, as `mesh.waiting_for` does, so that deadlocks through transactions, locks and whatever
else waits are found; the domain refuses by itself where the strategy says so. Locks that are granted bring the position up to
which the copy has to be, so what is read under them is what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import AntiphonError
from schemas.tables import EndTransaction, KeepTransaction, LockRows, RowsLocked, RowsQueued, TransactionRefused
from streams.errors import RequestTimedOut, TopicMissing
from streams.tables.errors import TransactionConflict, refusal
from streams.tables.wire import AGAIN_S

if TYPE_CHECKING:
    from streams.coordination.channel import Answer
    from streams.coordination.waits import ToldWait
    from streams.tables.feeds import Domain
    from streams.tables.session import TableSession

__all__ = ["HeldLocks"]

log = logging.getLogger(__name__)

TELL_AFTER_S: Final = 0.05
"""A wait is told when it has lasted so long: most are over before, and telling costs two records."""
ASK_AFTER_S: Final = 20.0
"""A request that waits is asked after this often, in case its answer was lost."""
KEEP_SHARE: Final = 3
"""Locks are kept after this part of their lease."""
STRENGTH: Final = {"intend_shared": 1, "intend_exclusive": 2, "shared": 2, "exclusive": 3}

Thing = tuple[str, str, bool]
"""A table, a key or a prefix, and whether it is a prefix."""


class _Request:
    """One request for locks until it is granted or refused."""

    def __init__(self) -> None:
        self.granted: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.behind: list[str] | None = None
        self.moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done where those that it waits for have changed."""

    def waits_for(self, behind: list[str]) -> None:
        """Note whom it waits for."""
        if behind != self.behind:
            self.behind = behind
            if not self.moved.done():
                self.moved.set_result(None)

    async def next(self, asking: asyncio.Task[None]) -> bool:
        """Wait until it is over, or those that it waits for have changed; return whether it is over."""
        if self.moved.done():
            self.moved = asyncio.get_running_loop().create_future()
        parts: list[asyncio.Future[Any]] = [self.granted, asking, self.moved]
        await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        return self.granted.done() or asking.done()


class HeldLocks:
    """See the module.

    Args:
        session: Whose.
        txn: The transaction's id.
        owner: Its owner.
        strategy: "wait_die", "wound_wait" or "detect".
        age_ms: When the first of its attempts began.
        wait_s: How long one request may wait; None for as long as it takes.
        lease_s: Its locks end where it is not heard of for so long.
        priority: Where victims of deadlocks are chosen by it.
    """

    def __init__(
        self,
        session: TableSession,
        txn: str,
        owner: str,
        *,
        strategy: str,
        age_ms: int,
        wait_s: float | None,
        lease_s: float,
        priority: int,
    ) -> None:
        self._session, self._txn, self._owner, self._priority = session, txn, owner, priority
        self._lease_ms = round(lease_s * 1000)
        wait_ms = None if wait_s is None else round(wait_s * 1000)
        self._fields = {"txn": txn, "owner": owner, "strategy": strategy, "age_ms": age_ms, "wait_ms": wait_ms}
        self._held: dict[str, dict[Thing, str]] = {}
        self._requests: dict[str, _Request] = {}
        self._lost: TransactionConflict | None = None
        self._call, self._keep_call = f"{txn}.l", f"{txn}.k"
        self._keep_at = 0.0

    @property
    def domains(self) -> list[str]:
        """Where it has locks."""
        return [domain for domain, held in self._held.items() if held]

    async def take(self, domain: Domain, table: str, key: str, mode: str, *, span: bool = False) -> None:
        """Have a lock, waiting for it where that is needed, and the copy as far as it was granted.

        Raises:
            TransactionConflict: It was refused, or the transaction has lost its locks.
            DeadlockError: It was refused to end a deadlock.
            RequestTimedOut: No worker of transactions answers.
        """
        if self._lost is not None:
            raise self._lost
        thing = (table, key, span)
        held = self._held.get(domain.name)
        if held is None:
            held = self._begin(domain.name)
        if (has := held.get(thing)) is not None and STRENGTH[has] >= STRENGTH[mode]:
            return
        granted = await self._ask(domain.name, {"table": table, "key": key, "span": span, "mode": mode})
        held[thing] = mode
        previous: int = granted["previous"]
        if domain.position < previous:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    await domain.feed.reached(previous)
            if domain.position < previous:
                await self._session.copies.mark(domain)

    def end(self, *, roll_back: bool) -> None:
        """Look after them no more, and give them back where nothing else does.

        Args:
            roll_back: Whether the transaction did not come to commit.
        """
        session = self._session
        session.held.discard(self)
        session.wire.channel.forget(self._call)
        session.wire.channel.forget(self._keep_call)
        if roll_back:
            for domain in self._held:
                fields = {"domain": domain, "txn": self._txn, "owner": self._owner, "reason": ""}
                session.wire.send(EndTransaction, fields, key=domain, call=session.wire.channel.new_id())

    # ---- inside

    def _begin(self, domain: str) -> dict[Thing, str]:
        session = self._session
        if not self._held:
            session.wire.channel.listen(self._call, self._heard)
            session.wire.channel.listen(self._keep_call, self._heard)
            session.held.add(self)
            self._keep_at = time.monotonic() + self._lease_ms / 1000 / KEEP_SHARE
        found = self._held[domain] = {}
        return found

    async def _ask(self, domain: str, lock: dict[str, Any]) -> dict[str, Any]:
        session = self._session
        request_id = session.wire.channel.new_id()
        request = self._requests[request_id] = _Request()
        fields = {**self._fields, "domain": domain, "request_id": request_id, "locks": [lock], "lease_ms": self._lease_ms}
        asking = asyncio.ensure_future(self._until_answered(request, fields, domain))
        try:
            parts: list[asyncio.Future[Any]] = [request.granted, asking]
            await asyncio.wait(parts, timeout=TELL_AFTER_S, return_when=asyncio.FIRST_COMPLETED)
            over = request.granted.done() or asking.done()
            while not over and request.behind is None:
                over = await request.next(asking)
            if not over:
                try:
                    await self._tell(request, asking)
                except TopicMissing:  # no coordination runs here, so nobody looks for deadlocks
                    while not await request.next(asking):
                        pass
            if not request.granted.done():
                await asking
            return await request.granted
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            del self._requests[request_id]
            if request.granted.done():
                request.granted.exception()  # nobody may have waited for it any more

    async def _tell(self, request: _Request, asking: asyncio.Task[None]) -> None:
        """Wait for locks, and tell whom for."""
        waiting_for, owner = self._session.waiting_for, self._owner
        told: ToldWait
        async with waiting_for(
            request.behind or (), owner=owner, kind="transaction", domain=owner, priority=self._priority
        ) as told:
            while not await request.next(asking):
                await told.now_for(*(request.behind or ()))

    async def _until_answered(self, request: _Request, fields: dict[str, Any], domain: str) -> None:
        wire = self._session.wire
        began = time.monotonic()
        again = False
        while not request.granted.done():
            await wire.open()
            wire.send(LockRows, {**fields, "again": again}, key=domain, call=self._call)
            again = True
            await asyncio.wait([request.granted], timeout=AGAIN_S if request.behind is None else ASK_AFTER_S)
            if request.behind is None and time.monotonic() - began > self._session.answer_s:
                raise RequestTimedOut(
                    f"no answer to the request for locks in domain {domain} within {self._session.answer_s:g} s: see whether "
                    f"the worker of transactions runs"
                )

    def _heard(self, answer: Answer | AntiphonError) -> None:
        if isinstance(answer, AntiphonError):
            log.warning("locks of transaction %s: %s", self._txn, answer)
            return
        kind, fields = answer
        request = self._requests.get(fields.get("request_id", ""))
        if kind == RowsLocked.event_type:
            if request is not None and not request.granted.done():
                request.granted.set_result(fields)
        elif kind == RowsQueued.event_type:
            if request is not None:
                request.waits_for(fields["behind"])
        elif kind == TransactionRefused.event_type:
            error = refusal(f"transaction {self._txn}", fields)
            if not fields["request_id"]:
                self._lose(error)
            elif request is not None and not request.granted.done():
                request.granted.set_exception(error)

    def _lose(self, error: Exception) -> None:
        """It was rolled back: to let an older one go on, or since it was not heard of."""
        if not isinstance(error, TransactionConflict):
            error = TransactionConflict(f"transaction {self._txn}", code="expired", reason=str(error), txn=self._txn)
        self._lost = error
        for request in self._requests.values():
            if not request.granted.done():
                request.granted.set_exception(error)

    def keep(self, now: float) -> None:
        """Say that the transaction still lives, where it is time for that."""
        if now < self._keep_at or self._lost is not None:
            return
        self._keep_at = now + self._lease_ms / 1000 / KEEP_SHARE
        for domain in self.domains:
            fields = {"domain": domain, "txn": self._txn, "owner": self._owner, "lease_ms": self._lease_ms}
            self._session.wire.send(KeepTransaction, fields, key=domain, call=self._keep_call)
