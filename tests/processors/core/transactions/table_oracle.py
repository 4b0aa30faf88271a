"""A deliberately dumb arbiter: a list of all that was ever written, looked at from the beginning for every question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Fields = dict[str, Any]


@dataclass
class Oracle:
    """What rows a domain has had.

    Attributes:
        written: Position, table, key, value, transaction, in the order of the log.
        promised: Transactions that have promised, with what they were asked.
        ended: Transaction to how it ended.
    """

    written: list[tuple[int, str, str, str | None, str]] = field(default_factory=list)
    promised: dict[str, Fields] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def newest(self, table: str, key: str) -> tuple[int, str | None]:
        """Return version and value of a row; a row that was never there has version 0."""
        found: tuple[int, str | None] = (0, None)
        for position, its_table, its_key, value, _ in self.written:
            if (its_table, its_key) == (table, key):
                found = position, value
        return found

    def locked(self, asked: Fields) -> bool:
        """Return whether a promise of another transaction is in the way."""
        for txn, other in self.promised.items():
            if txn == asked["txn"]:
                continue
            theirs, its_spans = self._needs(other)
            mine, my_spans = self._needs(asked)
            for place, writes in mine.items():
                if place in theirs and (writes or theirs[place]):
                    return True
                if writes and any(place[0] == table and place[1].startswith(prefix) for table, prefix in its_spans):
                    return True
            for place, writes in theirs.items():
                if writes and any(place[0] == table and place[1].startswith(prefix) for table, prefix in my_spans):
                    return True
        return False

    @staticmethod
    def _needs(asked: Fields) -> tuple[dict[tuple[str, str], bool], list[tuple[str, str]]]:
        """Return the rows that a transaction needs, with whether it writes them, and the spans."""
        needs: dict[tuple[str, str], bool] = {}
        if asked["isolation"] in ("serializable", "repeatable_read"):
            needs |= {(one["table"], one["key"]): False for one in asked["reads"]}
        needs |= {(one["table"], one["key"]): True for one in asked["writes"]}
        spans = [(one["table"], one["prefix"]) for one in asked["spans"]] if asked["isolation"] == "serializable" else []
        return needs, spans

    def stale(self, asked: Fields) -> bool:
        """Return whether something has changed that must not have."""
        level, snapshot = asked["isolation"], asked["snapshot"]
        later = [(table, key) for position, table, key, *_ in self.written if position > snapshot]
        if level in ("serializable", "repeatable_read") and any((one["table"], one["key"]) in later for one in asked["reads"]):
            return True
        if level == "serializable":
            for span in asked["spans"]:
                if any(table == span["table"] and key.startswith(span["prefix"]) for table, key in later):
                    return True
        if level == "snapshot" and any((one["table"], one["key"]) in later for one in asked["writes"]):
            return True
        for expect in asked["expects"]:
            version, value = self.newest(expect["table"], expect["key"])
            if (version if value is not None else 0) != expect["version"]:
                return True
        return False

    def commit(self, asked: Fields, position: int) -> str:
        """Carry a commit out, and return what came of it."""
        txn = asked["txn"]
        if txn in self.ended:
            return "outcome"
        if txn in self.promised:
            return "outcome"
        how = "locked" if self.locked(asked) else "conflict" if self.stale(asked) else "committed"
        if how == "committed":
            self._write(asked, position)
        self.ended[txn] = "committed" if how == "committed" else "refused"
        return how

    def prepare(self, asked: Fields) -> bool | None:
        """Promise, and return the vote; None where it has committed already."""
        txn = asked["txn"]
        if txn in self.promised:
            return True
        if txn in self.ended:
            return None if self.ended[txn] == "committed" else False
        if self.locked(asked) or self.stale(asked):
            self.ended[txn] = "refused"
            return False
        self.promised[txn] = asked
        return True

    def decide(self, txn: str, commit: bool, position: int) -> bool:
        """Do what was decided, and return whether it has committed."""
        asked = self.promised.pop(txn, None)
        if asked is None:
            if txn not in self.ended and not commit:
                self.ended[txn] = "rolled_back"
            return self.ended.get(txn) == "committed"
        if commit:
            self._write(asked, position)
        self.ended[txn] = "committed" if commit else "rolled_back"
        return commit

    def _write(self, asked: Fields, position: int) -> None:
        for one in asked["writes"]:
            if one["value"] is None and self.newest(one["table"], one["key"])[0] == 0:
                continue
            self.written.append((position, one["table"], one["key"], one["value"], asked["txn"]))
