"""Commits on their way: each is sent until what came of it is known.

    optimistic, one domain     transaction.commit ─▶ the domain            its change in the feed is the answer
    several                    transaction.prepare ─▶ each domain ─▶ votes ─▶ coordinator ─▶ transaction.decided, then the changes

A refusal is an answer to the call that the transaction's id names. Where nothing comes, the same is said again under the same id,
which does nothing twice and is answered with what came of it. One clock looks after all of them: on the way of a commit that goes
well there is one future and no timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from schemas.errors import AntiphonError
from schemas.tables import AskTransaction, TransactionOutcome, TransactionRefused
from schemas.transactions import AskDecision, BeginTransaction, TransactionDecided
from streams.errors import BrokerError
from streams.tables.errors import TransactionUnknown, TransactionWaits, refusal
from streams.tables.wire import AGAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.channel import Answer
    from streams.core.tables.encoding import Said
    from streams.tables.feeds import Domain
    from streams.tables.wire import Wire

__all__ = ["Commits", "Committed"]

log = logging.getLogger(__name__)

DECISION_ASKED_AFTER: Final = 10
"""After so many times in vain, twenty seconds, the coordinator is asked as well: a transaction that it does not know by then has
aborted. A takeover takes less, and votes that lie in the log are counted first."""
BEHIND_MAX: Final = 3
"""After so many answers that a domain has committed what its feed does not show, its rows are read anew."""


class Committed(NamedTuple):
    """What came of a transaction that committed.

    Attributes:
        txn: Its id.
        positions: Where it is in each domain: the version of every row that it wrote there.
    """

    txn: str
    positions: dict[str, int]


class _Pending:
    """One of them."""

    __slots__ = (
        "asked",
        "began",
        "behind",
        "decided",
        "due",
        "future",
        "left",
        "manager",
        "positions",
        "said",
        "txn",
        "until",
    )

    def __init__(self, txn: str, said: dict[str, Said], now: float, until: float | None) -> None:
        self.txn, self.said = txn, said
        self.left = set(said)
        self.positions: dict[str, int] = {}
        self.future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self.manager: dict[str, Any] | None = None
        self.decided = False
        self.asked = self.behind = 0
        self.began, self.due, self.until = now, now + AGAIN_S, until


class Commits:
    """All commits of one mesh that are not known yet.

    Args:
        wire: Sends them.
        domains: Those that are followed.
        reload: Called with a domain whose feed does not show what it has committed.
    """

    def __init__(self, wire: Wire, domains: dict[str, Domain], reload: Callable[[Domain], None]) -> None:
        self._wire, self._domains, self._reload = wire, domains, reload
        self._pending: dict[str, _Pending] = {}
        self.closed = False

    def commit(self, said: Said, *, timeout_s: float | None) -> asyncio.Future[Committed]:
        """Send a commit inside one domain, and return the future of what comes of it."""
        pending = self._new(said.txn, {said.domain: said}, timeout_s)
        self._wire.send_commit(said, again=False)
        return pending.future

    def prepare(
        self, txn: str, said: dict[str, Said], manager: dict[str, Any] | None, *, timeout_s: float | None
    ) -> asyncio.Future[Committed]:
        """Send a transaction to all that take part, and return the future of what comes of it.

        Args:
            txn: Its id.
            said: Each domain's prepare.
            manager: The fields for the coordinator where resource managers take part.
            timeout_s: How long to ask for what came of it; None for as long as it takes.
        """
        pending = self._new(txn, said, timeout_s)
        pending.manager = manager
        self._say(pending)
        return pending.future

    def committed(self, txn: str, domain: str, position: int) -> None:
        """Take a commit that the feed has shown."""
        pending = self._pending.get(txn)
        if pending is None:
            return
        pending.positions[domain] = position
        pending.left.discard(domain)
        if not pending.left and (pending.decided or pending.manager is None):
            self._done(pending)

    def tick(self, now: float) -> None:
        """Say again what has not been answered for a while."""
        for pending in list(self._pending.values()):
            if pending.future.done():  # nobody waits any more: it was cancelled
                self._forget(pending)
            elif pending.until is not None and now >= pending.until:
                self._fail(pending, TransactionUnknown(pending.txn, domains=pending.said, waited_s=now - pending.began))
            elif now >= pending.due:
                pending.due = now + AGAIN_S
                pending.asked += 1
                self._say(pending)

    def close(self) -> None:
        """End all: what came of them is not known here."""
        self.closed = True
        for pending in list(self._pending.values()):
            self._fail(pending, BrokerError(f"the client was closed before it was known what came of transaction {pending.txn}"))

    # ---- inside

    def _new(self, txn: str, said: dict[str, Said], timeout_s: float | None) -> _Pending:
        now = time.monotonic()
        pending = _Pending(txn, said, now, None if timeout_s is None else now + timeout_s)
        self._pending[txn] = pending

        def heard(answer: Answer | AntiphonError) -> None:
            self._heard(pending, answer)

        self._wire.channel.listen(txn, heard)
        return pending

    def _say(self, pending: _Pending) -> None:
        """Send what is still open: what it is, or the question what came of it."""
        send, txn = self._wire.send, pending.txn
        if pending.decided:
            for domain in pending.left:
                send(AskTransaction, {"domain": domain, "txn": txn}, key=domain, call=txn)
            return
        for domain in pending.left:
            self._wire.send_commit(pending.said[domain], again=pending.asked > 0)
        if pending.manager is not None:
            send(BeginTransaction, pending.manager | {"again": pending.asked > 0}, key=txn, call=txn)
        several = len(pending.said) > 1 or pending.manager is not None
        if several and pending.asked >= DECISION_ASKED_AFTER:
            began_ms = time.time_ns() // 1_000_000 - round((time.monotonic() - pending.began) * 1000)
            send(AskDecision, {"txn": txn, "participant": "", "at_ms": began_ms}, key=txn, call=txn)

    def _heard(self, pending: _Pending, answer: Answer | AntiphonError) -> None:
        if isinstance(answer, AntiphonError):
            if self.closed:
                self._fail(pending, answer)
            else:  # it may have been delivered all the same: the clock says it again
                log.warning("transaction %s is said again: %s", pending.txn, answer)
            return
        kind, fields = answer
        if kind == TransactionRefused.event_type:
            self._refused(pending, fields)
        elif kind == TransactionOutcome.event_type:
            self._outcome(pending, fields)
        elif kind == TransactionDecided.event_type and fields["decided"]:
            if not fields["commit"]:
                code, reason = fields["code"] or "aborted", fields["reason"]
                self._refused(pending, {**fields, "code": code, "reason": reason, "domain": ""})
                return
            pending.decided = True
            if not pending.left:
                self._done(pending)

    def _outcome(self, pending: _Pending, fields: dict[str, Any]) -> None:
        domain, state = fields["domain"], fields["state"]
        if state in ("refused", "rolled_back"):
            if state == "refused" or not pending.decided:
                self._refused(pending, {**fields, "code": fields["code"] or state})
        elif state == "waits_for_human":
            self._fail(pending, TransactionWaits(pending.txn, domain=domain, reason=fields["reason"]))
        elif state == "unknown" and fields["code"] == "forgotten":
            self._refused(pending, fields)
        elif state == "committed" and domain in pending.left:
            known = self._domains[domain]
            if fields["position"] <= known.position:
                self.committed(pending.txn, domain, fields["position"])
            else:
                pending.behind += 1
                if pending.behind % BEHIND_MAX == 0:
                    self._reload(known)

    def _refused(self, pending: _Pending, fields: dict[str, Any]) -> None:
        if fields["code"] == "forgotten":
            now = time.monotonic()
            self._fail(pending, TransactionUnknown(pending.txn, domains=pending.said, waited_s=now - pending.began))
        else:
            self._fail(pending, refusal(f"transaction {pending.txn}", fields))

    def _done(self, pending: _Pending) -> None:
        for domain, position in pending.positions.items():
            known = self._domains[domain]
            known.own = max(known.own, position)
        if not pending.future.done():
            pending.future.set_result(Committed(pending.txn, pending.positions))
        self._forget(pending)

    def _fail(self, pending: _Pending, error: AntiphonError) -> None:
        if not pending.future.done():
            pending.future.set_exception(error)
        self._forget(pending)

    def _forget(self, pending: _Pending) -> None:
        self._pending.pop(pending.txn, None)
        self._wire.channel.forget(pending.txn)
