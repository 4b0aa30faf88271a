"""Reading a lock history: JSON lines into operations, with the place of everything that is wrong.

A line is an operation, or a part of one: lines of the same client and ``id`` are put together, whatever file and order they stand
in. So a recorder writes the call before it asks and the answer when it has it, and a client that is killed between leaves a
call without an answer.

    {"id": 7, "client": "a", "op": "acquire", "resource": "repo/main", "grant": "g7", "lease_ms": 500, "call_ns": 1000}
    {"id": 7, "client": "a", "return_ns": 1900, "outcome": "ok", "token": 4194304}
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

import orjson

from processors.core.verify.operations import NEVER_NS, Kind, Operation, Outcome

__all__ = ["HistoryError", "Wrong", "parse_line", "read_history"]

NAME_CHARS_MAX: Final = 256
"""Of a name or id; what the locks themselves allow."""
LINE_BYTES_MAX: Final = 65_536
"""Of a line: names at their limit take a tenth of it; more is another kind of file."""
OPERATIONS_MAX: Final = 2_000_000
"""Of a history: about a gigabyte of memory; a longer one is judged by resource, in several files."""
PROBLEMS_MAX: Final = 20
"""Told of a file: the first ones are as a rule one mistake."""
NS_PER_MS: Final = 1_000_000
Choice = TypeVar("Choice", bound=StrEnum)

NEEDED: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.ACQUIRE: ("grant", "lease_ms"),
    Kind.RELEASE: ("grant",),
    Kind.RENEW: ("grant", "lease_ms"),
    Kind.EXPIRE: ("grant",),
    Kind.WRITE: ("token",),
}
"""Beside client, op, resource and call_ns."""
ALLOWED: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.ACQUIRE: frozenset({"grant", "lease_ms", "mode", "token", "reason"}),
    Kind.RELEASE: frozenset({"grant", "reason"}),
    Kind.RENEW: frozenset({"grant", "lease_ms", "reason"}),
    Kind.EXPIRE: frozenset({"grant"}),
    Kind.WRITE: frozenset({"token", "store", "reason"}),
}
"""Of the fields that not every operation has."""
ANSWERS: Final[Mapping[Kind, tuple[Outcome, ...]]] = {
    Kind.ACQUIRE: tuple(Outcome),
    Kind.RELEASE: (Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN),
    Kind.RENEW: (Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN),
    Kind.EXPIRE: (Outcome.OK,),
    Kind.WRITE: (Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN),
}
SPECIFIC: Final[frozenset[str]] = frozenset().union(*ALLOWED.values())
FIELDS: Final = SPECIFIC | {"id", "client", "owner", "op", "resource", "call_ns", "return_ns", "outcome", "note"}


class HistoryError(Exception):
    """The file is not a history; ``problems`` has a line for each mistake, with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Wrong(Exception):
    """What is wrong with one line or operation."""


def read_history(files: Iterable[tuple[str, Iterable[bytes]]]) -> tuple[Operation, ...]:
    """Return the operations of some files, in the order of their calls.

    Args:
        files: Name and lines of each; the order does not matter.

    Raises:
        HistoryError: A line or an operation is not as docs/verify.md says, or there is none.
    """
    problems: list[str] = []
    parts: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    names = []
    for name, lines in files:
        names.append(name)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            try:
                _gather(parts, place, parse_line(line))
            except Wrong as wrong:
                problems.append(f"{place}: {wrong}")
            if len(problems) >= PROBLEMS_MAX:
                raise HistoryError([*problems, f"{place}: no further line was read after {PROBLEMS_MAX} mistakes"])
            if len(parts) > OPERATIONS_MAX:
                raise HistoryError([f"{place}: more than {OPERATIONS_MAX:,} operations: judge fewer resources at a time"])
    operations = _operations(parts, problems)
    if problems:
        raise HistoryError(problems)
    if not operations:
        raise HistoryError([f"{' '.join(names) or 'no file'}: no operation in it"])
    return tuple(sorted(operations, key=lambda one: (one.call_ns, one.return_ns)))


def _operations(parts: Mapping[tuple[str, str], tuple[str, dict[str, Any]]], problems: list[str]) -> list[Operation]:
    """The operations of what was gathered; mistakes are added to ``problems``."""
    operations: list[Operation] = []
    acquired: dict[tuple[str, str], str] = {}
    for place, fields in parts.values():
        try:
            operation = _operation(place, fields)
            if operation.kind is Kind.ACQUIRE:
                first = acquired.setdefault((operation.resource, operation.grant), place)
                if first != place:
                    raise Wrong(
                        f"grant {operation.grant!r} of {operation.resource!r} is acquired at {first} too:"
                        " record a request and its retries as one operation"
                    )
            operations.append(operation)
        except Wrong as wrong:
            if len(problems) < PROBLEMS_MAX:
                problems.append(f"{place}: {wrong}")
    return operations


def parse_line(line: bytes, *, known: Collection[str] = FIELDS, bytes_max: int = LINE_BYTES_MAX) -> dict[str, Any]:
    """Return the fields of a line of a history.

    Args:
        line: The line.
        known: The fields that it may have.
        bytes_max: How long it may be.

    Raises:
        Wrong: It is none; the message says what is wrong with it.
    """
    if len(line) > bytes_max:
        raise Wrong(f"the line has {len(line):,} bytes: at most {bytes_max:,} are read")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Wrong(f"no JSON ({error.msg}, column {error.colno})") from None
    if not isinstance(fields, dict):
        raise Wrong("not a JSON object")
    if unknown := sorted(fields.keys() - set(known)):
        raise Wrong(f"unknown field {unknown[0]!r}: known are {', '.join(sorted(known))}")
    return fields


def _gather(parts: dict[tuple[str, str], tuple[str, dict[str, Any]]], place: str, fields: dict[str, Any]) -> None:
    """Put a line to the others of its operation."""
    if "id" not in fields:
        parts["", place] = (place, fields)
        return
    name = fields["id"]
    if isinstance(name, bool) or not isinstance(name, int | str):
        raise Wrong(f"id is {_seen(name)}: a text or a whole number")
    key = (_name(fields, "client"), f"{type(name).__name__} {name}")
    first, known = parts.setdefault(key, (place, fields))
    if known is fields:
        return
    for field, value in fields.items():
        if field in known and field not in ("id", "client", "note") and known[field] != value:
            raise Wrong(f"{field} is {_seen(value)}, and {_seen(known[field])} at {first}: an id is used once by a client")
    parts[key] = (first, {**known, **fields})


def _operation(place: str, fields: Mapping[str, Any]) -> Operation:
    kind = _choice(fields, "op", Kind)
    for field in ("client", "resource", "call_ns", *NEEDED[kind]):
        if field not in fields:
            raise Wrong(f"{kind} without {field}")
    if stray := sorted((fields.keys() & SPECIFIC) - ALLOWED[kind]):
        raise Wrong(f"{stray[0]} does not belong to {kind}")
    client = _name(fields, "client")
    outcome = _choice(fields, "outcome", Outcome) if "outcome" in fields else Outcome.UNKNOWN
    if outcome not in ANSWERS[kind]:
        raise Wrong(f"outcome of {kind} is {outcome.value!r}: allowed are {', '.join(ANSWERS[kind])}")
    call_ns, return_ns = _times(fields, outcome)
    return Operation(
        place=place,
        client=client,
        owner=_name(fields, "owner") if "owner" in fields else client,
        kind=kind,
        resource=_name(fields, "resource"),
        call_ns=call_ns,
        return_ns=return_ns,
        outcome=outcome,
        exclusive=_mode(fields),
        grant=_name(fields, "grant") if "grant" in fields else "",
        lease_ns=_lease(fields),
        token=_token(fields, kind, outcome),
        store=_text(fields, "store"),
        reason=_text(fields, "reason"),
    )


def _times(fields: Mapping[str, Any], outcome: Outcome) -> tuple[int, int]:
    call_ns = _whole(fields, "call_ns", 0)
    if fields.get("return_ns") is None:
        if outcome is not Outcome.UNKNOWN:
            raise Wrong(f"outcome {outcome.value!r} without return_ns: only an unknown outcome has none")
        return call_ns, NEVER_NS
    if "outcome" not in fields:
        raise Wrong("return_ns without an outcome")
    return_ns = _whole(fields, "return_ns", 0)
    if return_ns < call_ns:
        raise Wrong(f"return_ns {return_ns} is before call_ns {call_ns}")
    return call_ns, NEVER_NS if outcome is Outcome.UNKNOWN else return_ns


def _mode(fields: Mapping[str, Any]) -> bool:
    mode = fields.get("mode", "exclusive")
    if mode not in ("exclusive", "shared"):
        raise Wrong(f"mode is {_seen(mode)}: exclusive or shared")
    return bool(mode == "exclusive")


def _lease(fields: Mapping[str, Any]) -> int:
    """Its length; null is a lease that does not end."""
    if fields.get("lease_ms") is None:
        return NEVER_NS
    return min(_whole(fields, "lease_ms", 1) * NS_PER_MS, NEVER_NS)


def _token(fields: Mapping[str, Any], kind: Kind, outcome: Outcome) -> int:
    if kind is Kind.ACQUIRE and outcome is not Outcome.OK:
        if fields.get("token"):
            raise Wrong(f"an acquire with the outcome {outcome.value!r} has no token")
        return 0
    if kind is Kind.ACQUIRE and "token" not in fields:
        raise Wrong("acquire with the outcome 'ok' without token")
    return _whole(fields, "token", 1) if kind in (Kind.ACQUIRE, Kind.WRITE) else 0


def _choice(fields: Mapping[str, Any], field: str, choices: type[Choice]) -> Choice:
    if field not in fields:
        raise Wrong(f"no {field}")
    try:
        return choices(fields[field])
    except ValueError:
        raise Wrong(f"{field} is {_seen(fields[field])}: {', '.join(choices)}") from None


def _name(fields: Mapping[str, Any], field: str) -> str:
    text = fields.get(field)
    if not isinstance(text, str) or not 0 < len(text) <= NAME_CHARS_MAX:
        raise Wrong(f"{field} is {_seen(text)}: a text of 1 to {NAME_CHARS_MAX} characters")
    return text


def _text(fields: Mapping[str, Any], field: str) -> str:
    text = fields.get(field)
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > NAME_CHARS_MAX:
        raise Wrong(f"{field} is {_seen(text)}: a text of at most {NAME_CHARS_MAX} characters")
    return text


def _whole(fields: Mapping[str, Any], field: str, least: int) -> int:
    number = fields.get(field)
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number < NEVER_NS:
        raise Wrong(f"{field} is {_seen(number)}: a whole number from {least} to 2^63 - 2")
    return number


def _seen(value: object) -> str:
    """A value as it may stand in a line of an error."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
