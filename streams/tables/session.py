"""What all tables and transactions of one mesh share: the copies, the commits on their way, and one clock for both."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from schemas.naming import name_problem
from schemas.tables import ResolveConflict, TransactionOutcome
from schemas.transactions import ResolveTransaction
from streams.tables.commits import Commits
from streams.tables.copies import Copies
from streams.tables.errors import TransactionRefused, refusal
from streams.tables.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.session import Session
    from streams.coordination.waits import ToldWait
    from streams.tables.feeds import Change
    from streams.tables.locking import HeldLocks
    from streams.transport import Log

__all__ = ["TICK_S", "Outcome", "TableSession", "check_name", "domain_of_prefix", "from_json", "to_json"]

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""Between two looks at what is on its way: a small part of the time after which anything is said again."""
VALUE_CHARS_MAX: Final = 65_536
"""Of a value's JSON: what a domain takes. Larger things have a place of their own, and a row names it."""

from_json = orjson.loads


class Outcome(NamedTuple):
    """What came of a transaction, as far as a domain knows.

    Attributes:
        txn: The transaction.
        domain: Who says so.
        state: committed, refused, rolled_back, prepared, waits_for_human, active or unknown.
        position: Of its commit, or of what ended it; -1 where it has not ended.
        code: Why it ended otherwise, for programs.
        reason: The same for people.
        owner: Who committed.
    """

    txn: str
    domain: str
    state: str
    position: int
    code: str
    reason: str
    owner: str

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Outcome:
        """Return that of an answer's fields."""
        return cls(**{name: fields[name] for name in cls._fields})


class TableSession:
    """Tables and transactions of one mesh; opened with the first use.

    Args:
        log_: The log.
        session: The mesh's coordination, whose conversation and owners it shares.
        source: The CloudEvents source of commands.
        prefix: Before the names of topics.
        answer_s: How long a question may stay without an answer.
        waiting_for: Tells that an owner waits for others, as `Mesh.waiting_for` does.
    """

    def __init__(
        self, log_: Log, session: Session, *, source: str, prefix: str, answer_s: float, waiting_for: Callable[..., ToldWait]
    ) -> None:
        self.coordination, self.answer_s, self.waiting_for = session, answer_s, waiting_for
        self.wire = Wire(session.channel, source=source, prefix=prefix, answer_s=answer_s)
        self.copies = Copies(log_, self.wire, answer_s=answer_s, on_change=self._changed)
        self.commits = Commits(self.wire, self.copies.domains, self.copies.reload)
        self.policies: dict[str, str] = {}
        """What is done where a write to a table conflicts, as `mesh.table` said."""
        self.held: set[HeldLocks] = set()
        """The locks of transactions that have not ended."""
        self.clock: asyncio.TimerHandle | None = None
        """What looks after all that is on its way; None before the first use."""

    async def open(self) -> None:
        """Begin, where that has not been done."""
        await self.wire.open()
        if self.clock is None and not self.commits.closed:
            self.clock = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def outcome(self, txn: str, domain: str) -> Outcome:
        """Ask a domain what came of a transaction; see `Mesh.outcome`."""
        await self.open()
        _, fields = await self.copies.moments.outcome(txn, domain)
        return Outcome.of(fields)

    async def resolve(self, domain: str, txn: str, *, commit: bool, reason: str, owner: str) -> Outcome:
        """Decide about a commit that waits for a human; see `Mesh.resolve`."""
        await self.open()
        call = self.wire.channel.new_id()
        who = owner or self.coordination.owner()
        asked = {"domain": domain, "txn": txn, "owner": who, "commit": commit, "reason": reason}
        kind, fields = await self.wire.call(ResolveConflict, asked, key=domain, call=call, what=f"the decision about {txn}")
        if kind == TransactionOutcome.event_type:
            if fields["code"] == "not_waiting":
                raise refusal(f"the decision about transaction {txn}", fields)
            return Outcome.of(fields)
        if not commit and fields["code"] == "conflict":
            return Outcome.of({**fields, "state": "refused"})
        raise refusal(f"the decision about transaction {txn}", fields)

    async def settle(self, txn: str, participant: str, *, reason: str, owner: str) -> dict[str, Any]:
        """End an incident of two-phase commit; see `Mesh.settle`."""
        await self.open()
        call = self.wire.channel.new_id()
        who = owner or self.coordination.owner()
        asked = {"txn": txn, "participant": participant, "owner": who, "reason": reason}
        what = f"the settlement of transaction {txn}"
        _, fields = await self.wire.call(ResolveTransaction, asked, key=txn, call=call, what=what)
        return fields

    async def close(self) -> None:
        """End all: transactions that are still open are rolled back."""
        for locks in list(self.held):
            locks.end(roll_back=True)
        self.commits.close()
        if self.clock is not None:
            self.clock.cancel()
            self.clock = None
        await self.copies.close()

    def _tick(self) -> None:
        now = time.monotonic()
        self.clock = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        try:
            self.copies.tick()
            self.commits.tick(now)
            for locks in list(self.held):
                locks.keep(now)
            if not self.wire.channel.is_open:
                self.copies.soon(self.wire.open())
        except Exception:
            log.exception("a tick of the clock of transactions failed")

    def _changed(self, change: Change) -> None:
        if change["kind"] == "committed":
            self.commits.committed(change["txn"], change["domain"], change["position"])


def to_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a value as JSON text.

    Raises:
        TransactionRefused: It is none, or too large.
    """
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise TransactionRefused("a value", code="bad_value", reason=f"{error}: JSON values are allowed") from error
    if len(text) > VALUE_CHARS_MAX:
        reason = f"it has {len(text):,} characters: at most {VALUE_CHARS_MAX:,} are allowed; put it elsewhere, and its name here"
        raise TransactionRefused("a value", code="bad_value", reason=reason)
    return text


def check_name(name: str, what: str) -> None:
    """Refuse a name that a domain would refuse.

    Raises:
        TransactionRefused: It is not allowed; the message says what is.
    """
    if problem := name_problem(name, what):
        raise TransactionRefused(what, code="bad_name", reason=problem)


def domain_of_prefix(prefix: str) -> str:
    """Return the domain of all keys with a prefix.

    Raises:
        TransactionRefused: They are not in one domain: the prefix has no slash.
    """
    domain, slash, _ = prefix.partition("/")
    if not slash:
        reason = f"{prefix!r} has no slash, so it names no domain: one domain's keys are read together, such as 'repo/'"
        raise TransactionRefused("a scan", code="bad_prefix", reason=reason)
    return domain
