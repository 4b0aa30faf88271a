"""What stands in the way of a transaction: rows that changed since it read them, by its isolation level.

    level            what must not have changed since the snapshot            what it so forbids beyond the one above
    read_committed   nothing                                                  dirty writes and reads
    repeatable_read  the rows that were read                                  lost updates, read skew, write skew on rows
    snapshot         the rows that are written (first committer wins)         lost updates; reads are one snapshot anyway
    serializable     the rows that were read, and the prefixes scanned        all anomalies (Kung and Robinson 1981)

An expectation is for one row and of any level: it has just this version, or, where it is 0, it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from processors.core.transactions.rows import Rows
from processors.core.transactions.sizes import size_problem
from processors.core.transactions.words import Fields, Problem, TableLimits
from schemas.naming import domain_of, name_problem

__all__ = ["conflict", "domain_problem", "input_problem", "participants_problem", "place_problem", "stale", "too_old"]

READS_COUNT = frozenset({"repeatable_read", "serializable"})


def conflict(rows: Rows, table: str, key: str, *, seen: int, prefix: str | None = None) -> Fields:
    """Return a conflict over a row: who wrote the version that is there.

    Args:
        rows: The rows.
        table: Whose.
        key: The row that changed.
        seen: The version or snapshot that the transaction saw.
        prefix: The prefix that was scanned, where it was a scan.
    """
    version = rows.newest((table, key)) or [0, None, "", "", 0, 0]
    return {
        "table": table,
        "key": key if prefix is None else prefix,
        "span": prefix is not None,
        "row": key,
        "seen": seen,
        "version": version[0],
        "txn": version[2],
        "owner": version[3],
    }


def stale(rows: Rows, asked: Fields, span_max: int) -> Iterator[tuple[Fields, bool]]:
    """Yield what has changed since the snapshot, and whether the policy of a write may settle it.

    Rows that are written come with True, also where they were read: who writes a row has seen it.

    Args:
        rows: The rows.
        asked: The transaction.
        span_max: How many rows of one prefix are named: a single one is enough to refuse it.
    """
    level, snapshot = asked["isolation"], asked["snapshot"]
    written: set[tuple[str, str]] | None = None
    version = rows.version
    if level in READS_COUNT:
        for read in asked["reads"]:
            if version(read["table"], read["key"]) > snapshot:
                if written is None:
                    written = {(write["table"], write["key"]) for write in asked["writes"]}
                place = read["table"], read["key"]
                yield conflict(rows, *place, seen=snapshot), place in written
        if level == "serializable":
            for span in asked["spans"]:
                table, prefix = span["table"], span["prefix"]
                for place in rows.changed_since(asked["domain"], table, prefix, snapshot)[:span_max]:
                    yield conflict(rows, *place, seen=snapshot, prefix=prefix), False
    elif level == "snapshot" and snapshot >= 0:
        for write in asked["writes"]:
            if version(write["table"], write["key"]) > snapshot:
                yield conflict(rows, write["table"], write["key"], seen=snapshot), True
    for expect in asked["expects"]:
        place = expect["table"], expect["key"]
        newest = rows.newest(place)
        there = 0 if newest is None or newest[1] is None else newest[0]
        if there != expect["version"]:
            yield conflict(rows, *place, seen=expect["version"]), False


def too_old(rows: Rows, asked: Fields) -> bool:
    """Return whether the snapshot is older than rows that are forgotten, so that nobody can tell what has changed."""
    return (
        0 <= asked["snapshot"] < rows.gone
        and asked["isolation"] != "read_committed"
        and bool(asked["reads"] or asked["spans"] or asked["writes"])
    )


def domain_problem(domain: str) -> str:
    """Return what is wrong with a domain's name, empty where nothing is."""
    if "/" in domain:
        return f"domain {domain[:40]!r} has a slash: a domain is the part of a key before its first slash"
    return name_problem(domain, "the domain")


def participants_problem(asked: Fields, limits: TableLimits) -> Problem | None:
    """Return what is wrong with those that take part in a transaction over several domains, if anything is."""
    them: list[str] = asked["participants"]
    if not 1 <= len(them) <= limits.participants_max or len(set(them)) != len(them) or asked["domain"] not in them:
        text = f"{len(them)} participants: 1 to {limits.participants_max} different ones are allowed, this domain among them"
        return "bad_participants", text
    text = next((text for one in them if (text := name_problem(one, "a participant"))), "")
    return ("bad_participants", text) if text else None


def input_problem(asked: Fields, limits: TableLimits, position: int) -> Problem | None:
    """Return what is wrong with a commit or a prepare, if anything is.

    Args:
        asked: Its fields.
        limits: What is allowed.
        position: Where it lies itself.
    """
    domain, most, snapshot = asked["domain"], limits.rows_max, asked["snapshot"]
    if problem := domain_problem(domain) or name_problem(asked["txn"], "the txn") or name_problem(asked["owner"], "the owner"):
        return "bad_name", problem
    for what in ("reads", "spans", "expects", "writes", "fences"):
        if len(asked[what]) > most:
            return "too_large", f"the transaction has {len(asked[what])} {what}: at most {most} are allowed; make several of it"
    if snapshot < 0 and asked["isolation"] != "read_committed" and (asked["reads"] or asked["spans"]):
        return "bad_snapshot", f"a {asked['isolation']} transaction with reads names no snapshot: name the position that they saw"
    if snapshot >= position:
        return "bad_snapshot", f"snapshot {snapshot} is not before the commit, at {position}: was the topic deleted meanwhile?"
    for what in ("reads", "expects", "writes"):
        for one in asked[what]:
            if wrong := place_problem(one["table"], one["key"], domain):
                return wrong
    if (asked["spans"] or asked["fences"]) and (wrong := _spans_problem(asked, domain)):
        return wrong
    return _writes_problem(asked, limits)


def _spans_problem(asked: Fields, domain: str) -> Problem | None:
    for span in asked["spans"]:
        prefix = span["prefix"]
        if text := name_problem(span["table"], "a table") or name_problem(prefix, "a prefix"):
            return "bad_name", text
        if "/" not in prefix or domain_of(prefix) != domain:
            text = f"prefix {prefix[:40]!r} is not within domain {domain[:40]!r}: begin it with the domain and a slash"
            return "bad_prefix", text
    text = next((text for one in asked["fences"] if (text := name_problem(one["resource"], "a fenced resource"))), "")
    return ("bad_name", text) if text else None


def _writes_problem(asked: Fields, limits: TableLimits) -> Problem | None:
    seen = set()
    chars = 0
    for write in asked["writes"]:
        place = write["table"], write["key"]
        if place in seen:
            return "bad_writes", f"table {place[0]!r}, key {place[1]!r} is written twice in one transaction: write it once"
        seen.add(place)
        value = write["value"]
        if value is not None:
            chars += len(value)
            if len(value) > limits.value_chars_max:
                return "too_large", (
                    f"table {place[0]!r}, key {place[1]!r}: the value has {len(value)} characters, at most "
                    f"{limits.value_chars_max} are allowed: keep it elsewhere, and its name here"
                )
        if write["policy"] not in POLICIES:
            return "bad_policy", f"policy {write['policy'][:40]!r} is none: {', '.join(sorted(POLICIES - {''}))} are allowed"
    return size_problem(asked, limits, chars)


POLICIES = frozenset({"", "last_writer_wins", "merge", "priority", "human"})


def place_problem(table: str, key: str, domain: str) -> Problem | None:
    """Return what is wrong with the place of a row in a command to a domain, if anything is."""
    if not (table.isascii() and table.isprintable() and 0 < len(table) <= 256) and (problem := name_problem(table, "a table")):
        return "bad_name", problem
    if not (key.isascii() and key.isprintable() and 0 < len(key) <= 256) and (problem := name_problem(key, "a key")):
        return "bad_name", problem
    if not key.startswith(domain) or (len(key) > len(domain) and key[len(domain)] != "/"):
        return (
            "domains_mixed",
            f"key {key[:40]!r} is not of domain {domain[:40]!r}: rows of other domains are transactions over several",
        )
    return None
