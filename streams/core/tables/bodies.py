"""What a transaction has read and written so far, by domain: what its commit says, and what it sees of its own.

Its writes lie over what it reads; a savepoint remembers them, and going back to it restores them. What was read stays read: the
transaction may have acted on it.
"""

from __future__ import annotations

from typing import Final

from schemas.naming import domain_of

__all__ = ["VALIDATED", "Body", "Part", "Place"]

Place = tuple[str, str]
"""A table and a key, or a prefix."""

VALIDATED: Final[dict[str, tuple[bool, bool, bool]]] = {
    "read_committed": (False, False, False),
    "repeatable_read": (True, True, False),
    "snapshot": (True, False, False),
    "serializable": (True, True, True),
}
"""What the commit of a level says: its snapshot, the rows that it read, the prefixes that it scanned."""


class Part:
    """What it did in one domain.

    Attributes:
        snapshot: The position that its reads see; -1 before the first.
        reads: Rows that it has read.
        spans: Prefixes that it has scanned.
        writes: The new values with the policy of each.
        expects: Versions that rows have to have.
    """

    __slots__ = ("expects", "reads", "snapshot", "spans", "writes")

    def __init__(self) -> None:
        self.snapshot = -1
        self.reads: dict[Place, None] = {}
        self.spans: dict[Place, None] = {}
        self.writes: dict[Place, tuple[str | None, str]] = {}
        self.expects: dict[Place, int] = {}

    def over(self, rows: list[tuple[str, str]], table: str, prefix: str) -> list[tuple[str, str]]:
        """Return key and value of rows with the transaction's own writes over them, by key."""
        if not self.writes:
            return rows
        seen = dict(rows)
        for (at, key), (value, _) in self.writes.items():
            if at == table and key.startswith(prefix):
                seen.pop(key, None)
                if value is not None:
                    seen[key] = value
        return sorted(seen.items())


class Body:
    """What it did everywhere.

    Attributes:
        parts: By domain.
    """

    __slots__ = ("_savepoints", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self._savepoints: dict[str, dict[str, dict[Place, tuple[str | None, str]]]] = {}

    def part(self, key: str) -> tuple[str, Part]:
        """Return the domain of a key, and what it did there."""
        domain = domain_of(key)
        part = self.parts.get(domain)
        if part is None:
            part = self.parts[domain] = Part()
        return domain, part

    @property
    def writes(self) -> int:
        """How many rows it writes."""
        return sum(len(part.writes) for part in self.parts.values())

    def savepoint(self, name: str) -> None:
        """Remember what is written so far, in place of an older savepoint of this name."""
        self._savepoints.pop(name, None)
        self._savepoints[name] = {domain: dict(part.writes) for domain, part in self.parts.items()}

    def rollback_to(self, name: str) -> None:
        """Take back what was written since a savepoint; later savepoints are gone, itself it stays.

        Raises:
            KeyError: There is none of this name.
        """
        kept = self._savepoints[name]
        for domain, part in self.parts.items():
            part.writes = dict(kept.get(domain, {}))
        names = list(self._savepoints)
        for later in names[names.index(name) + 1 :]:
            del self._savepoints[later]
