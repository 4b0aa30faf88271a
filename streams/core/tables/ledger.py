"""What came of transactions, as the events of tables and of the coordinator tell it: for people who look afterwards.

One entry a transaction; a later event wins over an earlier one, except that what has ended stays so. The oldest that have ended
are dropped beyond a limit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = ["FOLDS", "Entry", "Ledger", "explained"]

ENTRIES_MAX: Final = 100_000
"""Of a ledger: about 200 MB; more than anybody reads, and the newest are what is asked for."""
ENDED: Final = frozenset({"committed", "refused", "rolled_back"})

Fields = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """One transaction.

    Attributes:
        txn: Its id.
        owner: Who committed.
        state: committed, refused, rolled_back, prepared, waits_for_human, locking or waiting.
        isolation: Its level, where it came so far.
        at_ms: When it was last heard of.
        domains: Each domain with what came of it there and where.
        participants: All that take part, where they are several.
        writes: What it wrote: domain, table, key.
        locks: What it has locked: table, key.
        waits_for: The owners that it waits for.
        code: Why it ended otherwise, for programs.
        reason: The same for people.
        conflicts: What was in the way.
        resolved: Conflicts that a policy settled.
        incidents: What an operator has to look at.
    """

    txn: str
    owner: str = ""
    state: str = "locking"
    isolation: str = ""
    at_ms: int = 0
    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    participants: list[str] = field(default_factory=list)
    writes: list[dict[str, str]] = field(default_factory=list)
    locks: list[dict[str, str]] = field(default_factory=list)
    waits_for: list[str] = field(default_factory=list)
    code: str = ""
    reason: str = ""
    conflicts: list[Fields] = field(default_factory=list)
    resolved: list[Fields] = field(default_factory=list)
    incidents: list[Fields] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


class Ledger:
    """All transactions that the events tell of."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def take(self, kind: str, fields: Fields, at_ms: int) -> None:
        """Take one event."""
        if kind == "tables.changed":
            for change in fields["changes"]:
                if change["kind"] != "mark":
                    _changed(self._entry(change["txn"], change["owner"], change["at_ms"]), change)
        else:
            fold = FOLDS.get(kind)
            if fold is not None:
                fold(self._entry(fields["txn"], fields["owner"], at_ms), fields)

    def select(self, *, state: str = "", domain: str = "", owner: str = "", since_ms: int = 0) -> Iterator[Entry]:
        """Yield entries, the one that was last heard of last."""
        for entry in self.entries.values():
            if (
                (not state or entry.state == state)
                and (not domain or domain in entry.domains)
                and (not owner or entry.owner.startswith(owner))
                and entry.at_ms >= since_ms
            ):
                yield entry

    def _entry(self, txn: str, owner: str, at_ms: int) -> Entry:
        entry = self.entries.get(txn)
        if entry is None:
            entry = self.entries[txn] = Entry(txn)
            if len(self.entries) > ENTRIES_MAX:
                oldest = next((name for name, one in self.entries.items() if one.state in ENDED), txn)
                del self.entries[oldest]
        else:
            self.entries.move_to_end(txn)
        entry.owner = owner or entry.owner
        entry.at_ms = max(entry.at_ms, at_ms)
        return entry


def _ends(entry: Entry, state: str) -> None:
    entry.state, entry.locks, entry.waits_for = state, [], []


def _changed(entry: Entry, change: Fields) -> None:
    entry.isolation = change["isolation"] or entry.isolation
    entry.participants = list(change["participants"]) or entry.participants
    entry.domains[change["domain"]] = {"state": change["kind"], "position": change["position"]}
    if change["kind"] == "committed":
        written = [{"domain": change["domain"], "table": one["table"], "key": one["key"]} for one in change["writes"]]
        entry.writes += [one for one in written if one not in entry.writes]
        _ends(entry, "committed")
    elif entry.state != "committed":
        entry.state = change["kind"]


def _refused(entry: Entry, fields: Fields) -> None:
    if fields["request_id"]:  # a request for locks; the transaction has what it had
        entry.waits_for = []
        entry.code, entry.reason = fields["code"], fields["reason"]
        return
    if entry.state not in ENDED:
        entry.code, entry.reason, entry.conflicts = fields["code"], fields["reason"], fields["conflicts"]
        entry.domains[fields["domain"]] = {"state": "refused", "position": fields["position"]}
        _ends(entry, "refused")


def _resolved(entry: Entry, fields: Fields) -> None:
    one = {name: fields[name] for name in ("domain", "policy", "how", "reason", "conflict")}
    if one not in entry.resolved:
        entry.resolved.append(one)


def _outcome(entry: Entry, fields: Fields) -> None:
    if fields["state"] == "waits_for_human" and entry.state not in ENDED:
        entry.state, entry.reason, entry.conflicts = "waits_for_human", fields["reason"], fields["conflicts"]
        entry.domains[fields["domain"]] = {"state": "waits_for_human", "position": fields["position"]}


def _locked(entry: Entry, fields: Fields) -> None:
    if entry.state not in ENDED:
        entry.state, entry.waits_for = "locking", []
        entry.domains.setdefault(fields["domain"], {"state": "locking", "position": fields["position"]})
        entry.locks += [{"table": one["table"], "key": one["key"], "mode": one["mode"]} for one in fields["locks"]]


def _queued(entry: Entry, fields: Fields) -> None:
    if entry.state not in ENDED:
        entry.state, entry.waits_for = "waiting", list(fields["behind"])
        entry.domains.setdefault(fields["domain"], {"state": "waiting", "position": -1})


def _decided(entry: Entry, fields: Fields) -> None:
    entry.participants = list(fields["participants"]) or entry.participants
    if not fields["commit"] and entry.state != "committed":
        entry.code, entry.reason, entry.conflicts = fields["code"], fields["reason"], fields["conflicts"]
        _ends(entry, "refused")
    elif fields["commit"] and fields["decided"]:
        _ends(entry, "committed")


def _incident(entry: Entry, fields: Fields) -> None:
    one = {name: fields[name] for name in ("participant", "code", "reason")}
    if one not in entry.incidents:
        entry.incidents.append(one)


FOLDS: Final = {
    "transaction.refused": _refused,
    "transaction.conflict_resolved": _resolved,
    "transaction.outcome": _outcome,
    "transaction.locked": _locked,
    "transaction.queued": _queued,
    "transaction.decided": _decided,
    "transaction.incident": _incident,
}
"""What each event means; `tables.changed` holds several."""

_STATES: Final = {
    "committed": "It committed",
    "refused": "It was refused",
    "rolled_back": "It was rolled back",
    "prepared": "It is promised, and waits for the coordinator's decision",
    "waits_for_human": "It waits for a human's decision: `antiphon txn resolve`",
    "locking": "It has locks, and has not ended yet",
    "waiting": "It waits for locks",
}


def explained(entry: Entry) -> list[str]:
    """Return in sentences what came of a transaction, and why."""
    lines = [
        f"Transaction {entry.txn} of {entry.owner or 'somebody'}" + (f", {entry.isolation}" if entry.isolation else "") + "."
    ]
    why = f" ({entry.code}): {entry.reason}" if entry.code and entry.state != "committed" else ""
    lines.append(_STATES.get(entry.state, entry.state) + why + ("" if why.endswith((".", "?")) else "."))
    for domain, one in sorted(entry.domains.items()):
        where = f" at position {one['position']}" if one["position"] >= 0 else ""
        lines.append(f"In domain {domain}: {one['state'].replace('_', ' ')}{where}.")
    if len(entry.participants) > 1:
        lines.append(f"All of these take part: {', '.join(entry.participants)}.")
    for one in entry.conflicts:
        what = f"prefix {one['key']} of {one['table']}, row {one['row']}" if one["span"] else f"{one['table']} {one['key']}"
        lines.append(
            f"It saw {what} at {one['seen']}; {one['owner'] or 'nobody'} has made that version {one['version']} "
            f"with transaction {one['txn'] or '-'}."
        )
    for one in entry.resolved:
        row = f"{one['conflict']['table']} {one['conflict']['row']}"
        lines += [f"A conflict over {row} was {one['how']} ({one['policy']}): {one['reason']}."]
    if entry.waits_for:
        lines.append(f"It waits for {', '.join(entry.waits_for)}.")
    if entry.writes:
        lines.append("It wrote " + ", ".join(f"{one['table']} {one['key']}" for one in entry.writes) + ".")
    lines += [f"Incident at {one['participant']} ({one['code']}): {one['reason']}." for one in entry.incidents]
    return lines
