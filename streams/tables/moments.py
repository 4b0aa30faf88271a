"""The moments at which several domains are seen: which of them have shown a transaction, and what has to be asked for that.

A domain is followed from a mark on. What it had promised by then is waited for; what others promise with it, it may have
committed before, so it is asked about each such transaction once. From then on its feed tells all (`streams.core.tables.cuts`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from schemas.tables import AskTransaction, TransactionOutcome
from schemas.transactions import MANAGER_PREFIX
from streams.core.tables.cuts import Crossings
from streams.errors import RequestTimedOut
from streams.tables.errors import TableError, TransactionRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from streams.coordination.channel import Answer
    from streams.tables.feeds import Change, Domain
    from streams.tables.wire import Wire

__all__ = ["Moments"]

HALF_MS: Final = 500
"""A transaction that one domain has shown and another one has not is asked after when this has passed."""


class Moments:
    """See the module.

    Args:
        wire: What asks the domains.
        domains: Those that are followed.
        answer_s: How long a moment is waited for.
        follow: Follows a domain.
        soon: Does something in the background.
    """

    def __init__(
        self,
        wire: Wire,
        domains: Mapping[str, Domain],
        *,
        answer_s: float,
        follow: Callable[[str], Awaitable[Domain]],
        soon: Callable[[Coroutine[Any, Any, object]], None],
    ) -> None:
        self._wire, self._domains, self._answer_s, self._follow, self._soon = wire, domains, answer_s, follow, soon
        self._crossings = Crossings()
        self._asked: set[tuple[str, str]] = set()
        self._moved: asyncio.Future[None] | None = None

    async def cut(self, fixed: Mapping[str, int], name: str, *, own: bool = True) -> dict[str, int]:
        """Return a moment of all domains at which every transaction over several is wholly there or not at all.

        Args:
            fixed: Positions that it has to have, of an earlier cut; empty for a new one.
            name: The domain that it is needed for.
            own: Whether this mesh's own commits have to be in it.

        Raises:
            RequestTimedOut: There was none in time.
            TransactionRefused: There is none that fits to the fixed positions.
        """
        least = {one.name: one.own for one in self._domains.values() if own} | dict(fixed)
        until = time.monotonic() + self._answer_s
        while True:
            for stranger in self._crossings.strangers() if self._crossings else ():
                await self._follow(stranger)
            if not any(one.doubts or one.ended is not None for one in self._domains.values()):
                cut = {one.name: one.position for one in self._domains.values()} | dict(fixed)
                if self._crossings:
                    cut = self._crossings.cut(cut)
                if all(cut[at] >= position for at, position in least.items()):
                    return cut
                if fixed and not self._crossings.halves and any(cut[at] < position for at, position in fixed.items()):
                    reason = (
                        f"domain {name} is new here, and nothing there fits to what was read elsewhere: begin with domains=..."
                    )
                    raise TransactionRefused("a moment of several domains", code="snapshot", reason=reason)
            await self._moves(HALF_MS / 1000)
            if time.monotonic() >= until:
                raise RequestTimedOut(
                    f"no moment of domains {', '.join(sorted(self._domains))} within {self._answer_s:g} s at which all "
                    f"transactions over several of them are whole: see `antiphon txn ls`"
                )

    async def _moves(self, limit_s: float) -> None:
        """Wait for news from any feed."""
        if self._moved is None or self._moved.done():
            self._moved = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await asyncio.shield(self._moved)

    # ---- what feeds tell

    def lost(self, domain: Domain) -> None:
        """Something of a domain was missed: it is followed anew."""
        domain.ended = set()
        self._crossings.doubt(domain.name)

    def promised(self, domain: Domain, txns: list[str]) -> None:
        """Take what a domain had promised when it began to be followed."""
        assert domain.ended is not None
        for txn in txns:
            if txn not in domain.ended:
                domain.doubts.add(txn)
                self._crossings.promised(txn, domain.name)

    async def followed(self, domain: Domain) -> None:
        """Learn what a domain has committed before it was followed; the others have been heard to that point."""
        self._crossings.track(domain.name)
        await asyncio.gather(*(self._settle(txn, domain.name) for txn in self._crossings.unclear(domain.name)))
        domain.ended = None
        self.news()

    def take(self, domain: Domain, change: Change) -> None:
        """Take a change of a transaction over several participants."""
        txn, kind, crossings = change["txn"], change["kind"], self._crossings
        several = [one for one in change["participants"] if not one.startswith(MANAGER_PREFIX)]
        if kind == "prepared":
            if len(several) > 1:
                crossings.promised(txn, domain.name, several)
            return
        if kind == "committed":
            if len(several) > 1:
                crossings.shown(txn, domain.name, change["position"], several, time.time_ns() // 1_000_000)
        else:
            crossings.rolled_back(txn)
        if domain.ended is not None:
            domain.ended.add(txn)
        if txn in domain.doubts:
            self._soon(self._resolved(domain, txn))

    def news(self) -> None:
        """Something has changed: those that wait for a moment look again."""
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
        self._moved = None

    def tick(self, floors: Mapping[str, int]) -> None:
        """Ask after what is half there or in doubt, and forget what lies below the oldest positions that are read."""
        if self._crossings:
            for stranger in self._crossings.strangers():
                self._soon(_of(self._follow(stranger)))
            for txn, name in self._crossings.overdue(time.time_ns() // 1_000_000 - HALF_MS):
                self._ask(txn, name)
            self._crossings.forget(floors)
        for domain in self._domains.values():
            for txn in domain.doubts:
                self._ask(txn, domain.name)

    # ---- inside

    async def _resolved(self, domain: Domain, txn: str) -> None:
        """A promise from before the domain was followed is decided: others may have done it before they were followed."""
        await asyncio.gather(*(self._settle(txn, name) for name in self._crossings.elsewhere(txn)))
        domain.doubts.discard(txn)
        self.news()

    def _ask(self, txn: str, name: str) -> None:
        if (txn, name) in self._asked:
            return
        self._asked.add((txn, name))

        async def ask() -> None:
            try:
                await self._settle(txn, name)
            finally:
                self._asked.discard((txn, name))

        self._soon(ask())

    async def _settle(self, txn: str, name: str) -> None:
        """Learn whether a domain has committed a transaction before it was followed."""
        _, fields = await self.outcome(txn, name)
        domain, state, position = self._domains[name], fields["state"], fields["position"]
        if state in ("prepared", "active") or (state == "committed" and position > domain.position):
            self._crossings.promised(txn, name)  # the feed will show it
            return
        if state == "committed" or txn in self._crossings.halves:
            self._crossings.shown(txn, name, max(0, position) if state == "committed" else 0, (), 0)
        if txn in domain.doubts:
            await self._resolved(domain, txn)
        self.news()

    async def outcome(self, txn: str, name: str) -> Answer:
        """Ask a domain what came of a transaction."""
        call = self._wire.channel.new_id()
        answer = await self._wire.call(
            AskTransaction, {"domain": name, "txn": txn}, key=name, call=call, what=f"the question what came of {txn}"
        )
        if answer[0] != TransactionOutcome.event_type:
            raise TableError(f"domain {name} does not say what came of transaction {txn}: {answer[1].get('reason') or answer[0]}")
        return answer


async def _of(following: Awaitable[object]) -> None:
    await following
