"""A moment of several domains at which every transaction over several of them is wholly there, or not at all.

    domain a   ──T1──────T2────────▶ position 9         T2 is at 8 in a, and b has not shown it:
    domain b   ──────T1────────────▶ position 5         the cut is a=7, b=5

The positions that each domain has come to are lowered until that holds: below what is not whole, then below what that cuts off in
other domains, until nothing changes. Such a cut holds with each transaction all that it could have seen: what it conflicts with
stands before it in a domain that they share, and a cut has all that stands before (so a reader of it is serializable). It is the
rule of consistent cuts (Mattern 1989) with transactions in place of messages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping

__all__ = ["Crossing", "Crossings"]


class Crossing:
    """One transaction over several domains.

    Attributes:
        txn: Its id.
        participants: The domains.
        at: Where it is in those that have shown it.
        promised: The domains that have shown its promise, so that its commit there comes later than that.
        seen_ms: When its first commit was shown.
    """

    __slots__ = ("at", "participants", "promised", "seen_ms", "txn")

    def __init__(self, txn: str, participants: frozenset[str]) -> None:
        self.txn, self.participants, self.seen_ms = txn, participants, 0
        self.at: dict[str, int] = {}
        self.promised: set[str] = set()


class Crossings:
    """The transactions over several domains that a client's copies have shown lately."""

    def __init__(self) -> None:
        self._of: dict[str, Crossing] = {}
        self._in: dict[str, list[tuple[int, Crossing]]] = {}
        """Of each domain, in the order of positions."""
        self._tracked: set[str] = set()
        self.halves: dict[str, Crossing] = {}
        """Those that some domains have shown, and others that are followed have not."""

    def __bool__(self) -> bool:
        return bool(self._of)

    def track(self, domain: str) -> None:
        """Begin to expect the transactions of a domain: it is followed from now on."""
        self._tracked.add(domain)
        for one in self._of.values():
            self._judge(one)

    def shown(self, txn: str, domain: str, position: int, participants: Collection[str], now_ms: int) -> None:
        """Take a commit that a domain has shown."""
        one = self._known(txn, participants)
        if domain in one.at:
            return
        if not one.at:
            one.seen_ms = now_ms
        one.at[domain] = position
        known = self._in.setdefault(domain, [])
        if known and known[-1][0] > position:
            known.insert(bisect_right(known, position, key=_position), (position, one))
        else:
            known.append((position, one))
        self._judge(one)

    def promised(self, txn: str, domain: str, participants: Collection[str] = ()) -> None:
        """Take a promise that a domain has shown: it is not committed there yet."""
        self._known(txn, participants).promised.add(domain)

    def rolled_back(self, txn: str) -> None:
        """Take the news that a transaction has come to nothing."""
        one = self._of.get(txn)
        if one is not None and not one.at:
            del self._of[txn]

    def doubt(self, domain: str) -> None:
        """Take no promise of a domain for a commit that is still to come: something of it was missed."""
        for one in self._of.values():
            one.promised.discard(domain)

    def unclear(self, domain: str) -> list[str]:
        """Return the transactions of which it is not known whether a domain has committed them before it was followed."""
        return [
            one.txn
            for one in self._of.values()
            if domain in one.participants and domain not in one.at and domain not in one.promised
        ]

    def elsewhere(self, txn: str) -> list[str]:
        """Return the followed domains of which it is not known whether they have committed a transaction."""
        one = self._of.get(txn)
        return [] if one is None else sorted((one.participants & self._tracked) - one.at.keys() - one.promised)

    def strangers(self) -> set[str]:
        """Return the domains that take part in what was shown and are not followed."""
        return {domain for one in self._of.values() if not one.participants <= self._tracked for domain in one.participants} - (
            self._tracked
        )

    def overdue(self, before_ms: int) -> Iterator[tuple[str, str]]:
        """Yield transactions that are not whole since then, each with a domain that has not shown it."""
        for one in list(self.halves.values()):
            if one.seen_ms <= before_ms:
                for domain in (one.participants & self._tracked) - one.at.keys():
                    yield one.txn, domain

    def cut(self, positions: Mapping[str, int]) -> dict[str, int]:
        """Return the newest cut at or below these positions.

        Args:
            positions: How far each followed domain has come.
        """
        cut = dict(positions)
        lowered = [
            (domain, known[-1][0]) for domain, known in self._in.items() if known and known[-1][0] > cut.get(domain, known[-1][0])
        ]
        if not (self.halves or lowered):
            return cut

        def lower(one: Crossing) -> None:
            for domain, position in one.at.items():
                if (top := cut.get(domain)) is not None and position <= top:
                    lowered.append((domain, top))
                    cut[domain] = position - 1

        for half in self.halves.values():
            lower(half)
        while lowered:
            domain, top = lowered.pop()
            known = self._in[domain]
            first = bisect_right(known, cut[domain], key=_position)
            for position, one in known[first:]:
                if position > top:
                    break
                lower(one)
        return cut

    def forget(self, floors: Mapping[str, int]) -> None:
        """Drop what is whole and lies below the oldest position that is read in each of its domains."""
        for txn, one in list(self._of.items()):
            if txn in self.halves or not one.at:
                continue
            if all(position <= floors.get(domain, position) for domain, position in one.at.items()):
                del self._of[txn]
                for domain, position in one.at.items():
                    known = self._in[domain]
                    index = bisect_right(known, position, key=_position) - 1
                    while index >= 0 and known[index][1] is not one:
                        index -= 1
                    if index >= 0:
                        del known[index]

    def _known(self, txn: str, participants: Collection[str]) -> Crossing:
        one = self._of.get(txn)
        if one is None:
            one = self._of[txn] = Crossing(txn, frozenset(participants))
        elif participants and not one.participants:
            one.participants = frozenset(participants)
        return one

    def _judge(self, one: Crossing) -> None:
        if one.at and (one.participants & self._tracked) - one.at.keys():
            self.halves[one.txn] = one
        else:
            self.halves.pop(one.txn, None)


def _position(entry: tuple[int, Crossing]) -> int:
    return entry[0]
