"""What all tables and transactions of one mesh share: the copies, the commits on their way, and one clock for both."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.naming import name_problem
from streams.tables.commits import Commits
from streams.tables.copies import Copies
from streams.tables.errors import TransactionRefused
from streams.tables.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.coordination.session import Session
    from streams.tables.feeds import Change
    from streams.transport import Log

__all__ = ["TICK_S", "TableSession", "check_name", "domain_of_prefix", "from_json", "to_json"]

log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""Between two looks at what is on its way: a small part of the time after which anything is said again."""
VALUE_CHARS_MAX: Final = 65_536
"""Of a value's JSON: what a domain takes. Larger things have a place of their own, and a row names it."""

from_json = orjson.loads


class TableSession:
    """Tables and transactions of one mesh; opened with the first use.

    Args:
        log_: The log.
        session: The mesh's coordination, whose conversation and owners it shares.
        source: The CloudEvents source of commands.
        prefix: Before the names of topics.
        answer_s: How long a question may stay without an answer.
    """

    def __init__(self, log_: Log, session: Session, *, source: str, prefix: str, answer_s: float) -> None:
        self.coordination, self.answer_s = session, answer_s
        self.wire = Wire(session.channel, source=source, prefix=prefix, answer_s=answer_s)
        self.copies = Copies(log_, self.wire, answer_s=answer_s, on_change=self._changed)
        self.commits = Commits(self.wire, self.copies.domains, self.copies.reload)
        self.policies: dict[str, str] = {}
        """What is done where a write to a table conflicts, as `mesh.table` said."""
        self.on_tick: set[Callable[[float], None]] = set()
        """Called with each tick: leases that are kept."""
        self.clock: asyncio.TimerHandle | None = None
        """What looks after all that is on its way; None before the first use."""

    async def open(self) -> None:
        """Begin, where that has not been done."""
        await self.wire.open()
        if self.clock is None and not self.commits.closed:
            self.clock = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def close(self) -> None:
        """End all."""
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
            for look in list(self.on_tick):
                look(now)
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
