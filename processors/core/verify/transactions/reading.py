"""Reading a history of transactions: JSON lines, with the place of everything that is wrong.

A line is a transaction or a part of one; lines of the same `txn` are put together. So a recorder writes what it did before it
commits and the outcome when it knows it, and a client that is killed between leaves a transaction of unknown outcome.

    {"txn": "a-7", "process": "a", "invoked_ns": 1000, "isolation": "serializable", "ops": [["append", "d/x", 7], ["read",
    "d/x", [3, 7]]]} {"txn": "a-7", "ended_ns": 1900, "outcome": "committed"}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from processors.core.verify.history import HistoryError, Wrong, parse_line
from processors.core.verify.transactions.model import NEVER_NS, Op, Outcome, Transaction, Value

__all__ = ["read_transactions"]

NAME_CHARS_MAX: Final = 256
LINE_BYTES_MAX: Final = 4 << 20
"""Of a line: a scan returns many lists; more is another kind of file."""
TRANSACTIONS_MAX: Final = 500_000
"""Of a history: a few gigabytes of memory at ten operations each."""
OPS_MAX: Final = 10_000
"""Of a transaction."""
PROBLEMS_MAX: Final = 20
FIELDS: Final = frozenset({"txn", "process", "isolation", "invoked_ns", "ended_ns", "outcome", "ops", "note"})
ISOLATIONS: Final = frozenset({"", "read_committed", "repeatable_read", "snapshot", "serializable"})


def read_transactions(files: Iterable[tuple[str, Iterable[bytes]]]) -> tuple[Transaction, ...]:
    """Return the transactions of some files, in the order in which they began.

    Args:
        files: Name and lines of each.

    Raises:
        HistoryError: A line or a transaction is not as docs/verify-transactions.md says, or there is none.
    """
    problems: list[str] = []
    parts: dict[str, tuple[str, dict[str, Any]]] = {}
    names = []
    for name, lines in files:
        names.append(name)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            try:
                _gather(parts, place, line)
            except Wrong as wrong:
                problems.append(f"{place}: {wrong}")
            if len(problems) >= PROBLEMS_MAX:
                raise HistoryError([*problems, f"{place}: no further line was read after {PROBLEMS_MAX} mistakes"])
            if len(parts) > TRANSACTIONS_MAX:
                raise HistoryError([f"{place}: more than {TRANSACTIONS_MAX:,} transactions: judge a part at a time"])
    found = []
    for txn, (place, fields) in parts.items():
        try:
            found.append(_transaction(txn, place, fields))
        except Wrong as wrong:
            problems.append(f"{place}: {wrong}")
    problems += _twice(found)
    if problems:
        raise HistoryError(problems[:PROBLEMS_MAX])
    if not found:
        raise HistoryError([f"{' '.join(names) or 'no file'}: no transaction in it"])
    return tuple(sorted(found, key=lambda one: (one.invoked_ns, one.ended_ns, one.name)))


def _gather(parts: dict[str, tuple[str, dict[str, Any]]], place: str, line: bytes) -> None:
    fields = parse_line(line, known=FIELDS, bytes_max=LINE_BYTES_MAX)
    txn = _text(fields, "txn")
    first, known = parts.setdefault(txn, (place, fields))
    if known is fields:
        return
    for field, value in fields.items():
        if field in known and field != "note" and known[field] != value:
            raise Wrong(f"{field} of transaction {txn!r} is another one at {first}: an id is used once")
    parts[txn] = (first, {**known, **fields})


def _transaction(txn: str, place: str, fields: dict[str, Any]) -> Transaction:
    for field in ("process", "invoked_ns", "ops"):
        if field not in fields:
            raise Wrong(f"transaction {txn!r} without {field}")
    outcome = fields.get("outcome", "unknown")
    if outcome not in set(Outcome):
        raise Wrong(f"outcome is {outcome!r}: committed, aborted or unknown")
    isolation = fields.get("isolation", "")
    if isolation not in ISOLATIONS:
        raise Wrong(f"isolation is {isolation!r}: {', '.join(sorted(ISOLATIONS - {''}))}")
    invoked_ns = _whole(fields, "invoked_ns")
    ended_ns = NEVER_NS if outcome == "unknown" or fields.get("ended_ns") is None else _whole(fields, "ended_ns")
    if ended_ns < invoked_ns:
        raise Wrong(f"ended_ns {ended_ns} is before invoked_ns {invoked_ns}")
    ops = fields["ops"]
    if not isinstance(ops, list) or len(ops) > OPS_MAX:
        raise Wrong(f"ops is no list of {OPS_MAX:,} operations at most")
    made = tuple(_op(number, op) for number, op in enumerate(ops, 1))
    return Transaction(place, txn, _text(fields, "process"), isolation, Outcome(outcome), invoked_ns, ended_ns, made)


def _op(number: int, op: Any) -> Op:  # noqa: ANN401 - JSON
    if not isinstance(op, list) or len(op) != 3 or op[0] not in ("append", "read", "scan") or not isinstance(op[1], str):
        raise Wrong(
            f'operation {number} is {_seen(op)}: ["append", key, value], ["read", key, [...]] or ["scan", prefix, {{...}}]'
        )
    kind, key, what = op
    if kind == "append":
        if isinstance(what, bool) or not isinstance(what, int | str):
            raise Wrong(
                f"operation {number} appends {_seen(what)}: a text or a whole number, which no other append of the key has"
            )
        return Op("append", key, what)
    if kind == "read":
        return Op("read", key, found={key: _list(number, what)})
    if not isinstance(what, dict):
        raise Wrong(f"operation {number} scanned {_seen(what)}: an object of lists by key")
    if stray := next((one for one in what if not one.startswith(key)), None):
        raise Wrong(f"operation {number} scanned {key!r} and found {stray!r}, which does not begin with it")
    return Op("scan", key, found={one: _list(number, values) for one, values in what.items()})


def _list(number: int, what: Any) -> tuple[Value, ...]:  # noqa: ANN401 - JSON
    if what is None:
        return ()
    if not isinstance(what, list) or any(isinstance(one, bool) or not isinstance(one, int | str) for one in what):
        raise Wrong(f"operation {number} read {_seen(what)}: a list of texts or whole numbers")
    return tuple(what)


def _twice(found: list[Transaction]) -> list[str]:
    """Return what was appended twice: nobody could tell the two apart."""
    seen: dict[tuple[str, Value], str] = {}
    problems = []
    for one in found:
        for key, values in one.appends().items():
            for value in values:
                first = seen.setdefault((key, value), one.place)
                if first != one.place or values.count(value) > 1:
                    problems.append(f"{one.place}: {value!r} is appended to {key!r} at {first} too: append each value once")
    return list(dict.fromkeys(problems))


def _text(fields: dict[str, Any], field: str) -> str:
    text = fields.get(field)
    if not isinstance(text, str) or not 0 < len(text) <= NAME_CHARS_MAX:
        raise Wrong(f"{field} is {_seen(text)}: a text of 1 to {NAME_CHARS_MAX} characters")
    return text


def _whole(fields: dict[str, Any], field: str) -> int:
    number = fields[field]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < NEVER_NS:
        raise Wrong(f"{field} is {_seen(number)}: a whole number of nanoseconds")
    return number


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
