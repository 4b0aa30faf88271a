"""What a transaction has read and written so far, by domain: what its commit says, and what it sees of its own.

Its writes lie over what it reads; a savepoint remembers them, and going back to it restores them. What was read stays read: the
transaction may have acted on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from schemas.naming import domain_of
from streams.core.tables.rows import Version

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

    def fields(self, isolation: str) -> dict[str, Any]:
        """Return the fields of a commit or a prepare that come from this part."""
        snapshot, reads, spans = VALIDATED[isolation]
        return {
            "isolation": isolation,
            "snapshot": self.snapshot if snapshot else -1,
            "reads": [{"table": table, "key": key} for table, key in self.reads] if reads else [],
            "spans": [{"table": table, "prefix": prefix} for table, prefix in self.spans] if spans else [],
            "expects": [{"table": table, "key": key, "version": version} for (table, key), version in self.expects.items()],
            "writes": [
                {"table": table, "key": key, "value": value, "policy": policy}
                for (table, key), (value, policy) in self.writes.items()
            ],
        }

    def over(self, rows: Iterable[tuple[str, Version]], table: str, prefix: str) -> Iterator[tuple[str, str, Version | None]]:
        """Yield key, value and version of rows with the transaction's own writes over them, by key; its own have no version."""
        own = sorted((key, value) for (at, key), (value, _) in self.writes.items() if at == table and key.startswith(prefix))
        index = 0
        for key, version in rows:
            while index < len(own) and own[index][0] < key:
                if (value := own[index][1]) is not None:
                    yield own[index][0], value, None
                index += 1
            if index < len(own) and own[index][0] == key:
                if (value := own[index][1]) is not None:
                    yield key, value, None
                index += 1
            elif version.value is not None:
                yield key, version.value, version
        for key, value in own[index:]:
            if value is not None:
                yield key, value, None


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
