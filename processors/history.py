"""Reads work histories, one entry at a time: a file of JSON lines (plain or gzip) or a git repository.

    file.jsonl(.gz) ─┐
                     ├─▶ entries(...) ─▶ Entry(line, event)  or  Entry(line, malformed: raw bytes and reason)
    git repository ──┘

Nothing is dropped: every line that is not blank gives one entry, and what is no valid event says why, with its line number and
bytes. Nothing is loaded whole: memory is bounded by one line, or by one change of a repository.

A line is one JSON object with exactly these fields (times in epoch milliseconds):

    {"seq", "ts", "arrived", "agent", "task", "type": "change.committed", "files", "added", "removed", "reverts"?}
    {"seq", "ts", "arrived", "agent", "task", "type": "file.changed", "path", "added", "removed"}
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import orjson

from schemas.errors import AntiphonError, Fault, InvalidEvent
from schemas.work import ChangeCommitted, FileChanged

__all__ = [
    "BadEvent",
    "Entry",
    "HistoryError",
    "HistoryMissing",
    "Malformed",
    "WorkEvent",
    "from_fields",
    "parse_line",
    "read_file",
]

WorkEvent = ChangeCommitted | FileChanged

LINE_BYTES_MAX: Final = 64 * 1024
"""The longest line read. An event takes under 500 bytes; a path may take 4 KiB where every byte is escaped six times."""
KEPT_BYTES_MAX: Final = LINE_BYTES_MAX
"""What a dead letter keeps of a longer line; the reason says so."""
FUTURE_MS_MAX: Final = 86_400_000
"""How far after now a time may be. A day covers every time zone mistake; later than that is no time at which work was done."""
NAME_CHARS_MAX: Final = 256
"""Longest agent or task: both are in every remembered change of a file, 1,024 of which must fit a record of 1 MiB."""
PATH_CHARS_MAX: Final = 4096
"""Longest path: Linux allows no more."""
NUMBER_MAX: Final = 2**53 - 1
"""Largest number: what every JSON reader keeps exactly."""

PROGRESS_LINES: Final = 1000
"""Lines between two words about progress: some milliseconds."""

_COMMON: Final = {"seq": int, "ts": int, "arrived": int, "agent": str, "task": str, "added": int, "removed": int}
_SHAPES: Final[dict[str, tuple[type[WorkEvent], dict[str, type], frozenset[str]]]] = {
    "change.committed": (ChangeCommitted, {**_COMMON, "files": int, "reverts": str}, frozenset({"reverts"})),
    "file.changed": (FileChanged, {**_COMMON, "path": str}, frozenset()),
}
_CHARS_MAX: Final = {"agent": NAME_CHARS_MAX, "task": NAME_CHARS_MAX, "reverts": NAME_CHARS_MAX, "path": PATH_CHARS_MAX}

_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_MARK: Final = b"\xef\xbb\xbf"


class HistoryError(AntiphonError):
    """The history cannot be read at all. The message names it and says what is wrong; give another one."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


class HistoryMissing(HistoryError):
    """There is nothing where the history should be; correct the path."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """What is no event: its bytes, the class of the fault and the reason in one line."""

    raw: bytes
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a history, counted from 1, and what it holds."""

    line: int
    event: WorkEvent | Malformed


class BadEvent(ValueError):
    """A line is no event; `error` is the class of the fault, short and stable, and the message the reason."""

    def __init__(self, error: str, reason: str) -> None:
        """Take the class of the fault and the reason."""
        super().__init__(reason)
        self.error = error


def from_fields(fields: Mapping[str, Any], *, now_ms: int) -> WorkEvent:
    """Return the event that the fields of a line hold.

    Raises:
        BadEvent: They are no event.
    """
    kind = fields.get("type")
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise BadEvent("UnknownType", f"type is {_short(kind)}: allowed are {', '.join(_SHAPES)}")
    cls, types, optional = shape
    missing = [name for name in types if name not in fields and name not in optional]
    if missing:
        raise BadEvent("MissingField", f"{kind} lacks {', '.join(missing)}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "type":
            continue
        if (wanted := types.get(name)) is None:
            raise BadEvent("ExtraField", f"{kind} has no field {_short(name)}")
        if type(value) is not wanted:
            raise BadEvent(
                "WrongType", f"{name} is {_short(value)}: {'a whole number' if wanted is int else 'a string'} is allowed"
            )
        if isinstance(value, int):
            if not 0 <= value <= NUMBER_MAX:
                raise BadEvent("OutOfRange", f"{name} is {value}: 0 to {NUMBER_MAX} is allowed")
        elif not 0 < len(str(value)) <= _CHARS_MAX[name]:
            raise BadEvent("OutOfRange", f"{name} has {len(str(value))} characters: 1 to {_CHARS_MAX[name]} are allowed")
        values[name] = value
    for name in ("ts", "arrived"):
        if values[name] > now_ms + FUTURE_MS_MAX:
            raise BadEvent("InTheFuture", f"{name} is {values[name]}, more than a day after now ({now_ms})")
    try:
        return cls(**values)
    except InvalidEvent as e:
        raise BadEvent("InvalidEvent", str(e)) from e


def parse_line(raw: bytes, *, now_ms: int) -> WorkEvent | Malformed:
    """Return the event of one line, or what is wrong with it."""
    if len(raw) > LINE_BYTES_MAX:
        return Malformed(
            raw[:KEPT_BYTES_MAX], "LineTooLong", f"longer than {LINE_BYTES_MAX} bytes; the first {KEPT_BYTES_MAX} are kept"
        )
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as e:
        return Malformed(raw, "BadJson", f"not JSON: {e.msg} at column {e.colno}")
    if not isinstance(fields, dict):
        return Malformed(raw, "NoObject", f"{_short(fields)} is not a JSON object")
    try:
        return from_fields(fields, now_ms=now_ms)
    except BadEvent as e:
        return Malformed(raw, e.error, str(e))


def read_file(path: Path, *, now_ms: int, on_progress: Callable[[float], None] | None = None) -> Iterator[Entry]:
    """Read a file of JSON lines, gzip or not (its first bytes tell).

    Args:
        path: The file.
        now_ms: The time now, to refuse events of the future.
        on_progress: Told every now and then which part of the file is read, 0 to 1.

    Yields:
        One entry for each line that is not blank. Where gzip data is damaged or cut off, one malformed entry says so and is the
        last.

    Raises:
        HistoryError: There is no such file, it cannot be read, or it has nothing but blank lines.
    """
    found = False
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC
            size = max(file.seek(0, io.SEEK_END), 1)
            file.seek(0)
            lines: BinaryIO = io.BufferedReader(gzip.GzipFile(fileobj=file)) if zipped else file
            for entry in _entries(lines, now_ms):
                found = True
                if on_progress is not None and entry.line % PROGRESS_LINES == 0:
                    on_progress(file.tell() / size)
                yield entry
    except FileNotFoundError:
        raise HistoryMissing(f"{path}: there is no such file; give a file of JSON lines (.jsonl or .jsonl.gz)") from None
    except IsADirectoryError:
        raise HistoryError(f"{path}: this is a directory; give a file of JSON lines, or a git repository with --repo") from None
    except OSError as e:
        raise HistoryError(f"{path}: cannot be read: {e.strerror or e}") from e
    if not found:
        raise HistoryError(f"{path}: the file is empty, it has no event")


def _entries(lines: BinaryIO, now_ms: int) -> Iterator[Entry]:
    number = 0
    while True:
        number += 1
        try:
            raw = _line(lines)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            yield Entry(number, Malformed(b"", "BadGzip", f"the gzip data is damaged or cut off here: {e}; what follows is lost"))
            return
        if not raw:
            return
        if number == 1:
            raw = raw.removeprefix(_UTF8_MARK)
        if raw := raw.strip(b" \t\r\n"):
            yield Entry(number, parse_line(raw, now_ms=now_ms))


def _line(lines: BinaryIO) -> bytes:
    """Read one line; of one that is too long only the beginning is kept, and the rest is read past in pieces."""
    raw = lines.readline(LINE_BYTES_MAX + 2)
    if len(raw) > LINE_BYTES_MAX and not raw.endswith(b"\n"):
        while (rest := lines.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
            pass
    return raw


def _short(value: object) -> str:
    """Show a value from outside in a message: as JSON would, and not longer than a reader wants."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
