"""Dead letters as data: which headers a record gets when it is set aside, and what can be read back from them.

A dead letter is the original record, its key, value and headers byte for byte, with these headers added:

    dl-app  dl-topic  dl-partition  dl-offset  dl-timestamp-ms   where it came from
    dl-processor  dl-error  dl-reason  dl-time-ms                who refused it, why and when
    dl-fingerprint                                               the same for all records that failed in the same way
    dl-redriven-from                                             the dead letter it was redriven from, if it was

The fingerprint groups failures. It is made of the error's class, the place in the processor's own code, and the message
without what varies:

    ValueError at fold:41 "bad amount '12.50' of order 9917"  ─▶  ValueError|fold:41|bad amount ? of order #  ─▶  5c0f0c2c4b1d9a7e

Guarantees: what is parsed is what was written; nothing is lost from the original record; a header is never longer than its limit.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = [
    "APP",
    "DEAD_LETTERS_SUFFIX",
    "ERROR",
    "FINGERPRINT",
    "OFFSET",
    "PARTITION",
    "PREFIX",
    "PROCESSOR",
    "REASON",
    "REASON_CHARS_MAX",
    "REDRIVEN_FROM",
    "REDRIVEN_SUFFIX",
    "TIMESTAMP_MS",
    "TIME_MS",
    "TOPIC",
    "DeadLetter",
    "dead_letter_headers",
    "dead_letter_topic",
    "fingerprint",
    "marker_key",
    "one_line",
    "parse_dead_letter",
    "redrive_headers",
    "redriven_topic",
]

PREFIX: Final = "dl-"
APP: Final = "dl-app"
TOPIC: Final = "dl-topic"
PARTITION: Final = "dl-partition"
OFFSET: Final = "dl-offset"
TIMESTAMP_MS: Final = "dl-timestamp-ms"
PROCESSOR: Final = "dl-processor"
ERROR: Final = "dl-error"
REASON: Final = "dl-reason"
FINGERPRINT: Final = "dl-fingerprint"
TIME_MS: Final = "dl-time-ms"
REDRIVEN_FROM: Final = "dl-redriven-from"
"""Stays on a record that fails again after a redrive, so that a loop shows."""

DEAD_LETTERS_SUFFIX: Final = ".dead-letters"
REDRIVEN_SUFFIX: Final = ".redriven"

REASON_CHARS_MAX: Final = 500
"""Characters of the reason: it is one line for a person; some libraries put the whole input into their message."""

FINGERPRINT_HEX: Final = 16
"""Hex digits of the fingerprint: 64 bits keep a million different failures apart, and still fit a table's column."""

FRAMES_MAX: Final = 1_000
"""Frames of a traceback that are looked at: Python's own recursion limit."""

_QUOTED: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`""")
_WORD_WITH_DIGIT: Final = re.compile(r"\w*\d\w*")
_SPACE: Final = re.compile(r"\s+")
_LIBRARY_FILE: Final = re.compile(r"[/\\](?:site-packages|dist-packages)[/\\]|[/\\]lib[/\\]python\d|^<frozen ")
_RUNTIME_PACKAGES: Final = frozenset({"streams", "schemas", "faust", "mode", "asyncio"})
"""Frames of these are never the processor's own code, wherever they are installed."""

HeaderPairs = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was set aside: where it lies now, where it came from, and why it is here.

    Attributes:
        at_topic: The dead letter topic.
        at_partition: Its partition there.
        at_offset: Its offset there.
        key: The original key.
        value: The original value.
        headers: All headers, the original's and ours.
        app: The application whose processor refused it.
        topic: The original topic; empty where the record is no dead letter of ours.
        partition: The original partition.
        offset: The original offset.
        timestamp_ms: The original timestamp.
        processor: Who refused it.
        error: The error's class.
        reason: The error's message, one line.
        fingerprint: The same for all records that failed in the same way.
        time_ms: When it was set aside.
        redriven_from: The dead letter it was redriven from before it failed again; empty if it was not.
    """

    at_topic: str
    at_partition: int
    at_offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    app: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    processor: str
    error: str
    reason: str
    fingerprint: str
    time_ms: int
    redriven_from: str

    @property
    def position(self) -> str:
        """Where the dead letter lies, as `topic/partition/offset`."""
        return f"{self.at_topic}/{self.at_partition}/{self.at_offset}"

    @property
    def origin(self) -> str:
        """Where the original lies, as `topic/partition/offset`; empty where that is not known."""
        return f"{self.topic}/{self.partition}/{self.offset}" if self.topic else ""


def dead_letter_topic(app: str) -> str:
    """Return the dead letter topic of an application."""
    return app + DEAD_LETTERS_SUFFIX


def redriven_topic(topic: str) -> str:
    """Return the compacted topic that remembers which dead letters of `topic` were redriven or purged."""
    return topic + REDRIVEN_SUFFIX


def marker_key(partition: int, offset: int) -> bytes:
    """Return the key under which a settled dead letter is remembered."""
    return b"%d/%d" % (partition, offset)


def dead_letter_headers(
    original_headers: Iterable[tuple[str, bytes | None]] | None,
    *,
    app: str,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    processor: str,
    error: BaseException | str,
    reason: str,
    now_ms: int,
) -> HeaderPairs:
    """Return the headers of the dead letter: the original ones in their order, then ours.

    Args:
        original_headers: As the record had them; those of an earlier dead letter are replaced.
        app: The application that sets the record aside.
        topic: The record's topic.
        partition: The record's partition.
        offset: The record's offset, or its line number where the input is a file.
        timestamp_ms: The record's timestamp.
        processor: Who refused it.
        error: What was raised, or a name for it where nothing was.
        reason: Why, for a person; cut to one line of `REASON_CHARS_MAX`.
        now_ms: The turn's clock.
    """
    name = error if isinstance(error, str) else type(error).__name__
    mark = _digest(name, "", reason) if isinstance(error, str) else fingerprint(error)
    ours = {
        APP: app,
        TOPIC: topic,
        PARTITION: str(partition),
        OFFSET: str(offset),
        TIMESTAMP_MS: str(timestamp_ms),
        PROCESSOR: processor,
        ERROR: name,
        REASON: one_line(reason),
        FINGERPRINT: mark,
        TIME_MS: str(now_ms),
    }
    kept = [(name, value or b"") for name, value in original_headers or () if name not in ours]
    return kept + [(name, value.encode("utf-8", "replace")) for name, value in ours.items()]


def redrive_headers(letter: DeadLetter) -> HeaderPairs:
    """Return the headers of the record when it goes back: the original ones, and where it comes from."""
    kept = [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)]
    return [*kept, (REDRIVEN_FROM, letter.position.encode())]


def parse_dead_letter(
    headers: Iterable[tuple[str, bytes | None]] | None,
    *,
    at_topic: str,
    at_partition: int,
    at_offset: int,
    key: bytes | None,
    value: bytes | None,
) -> DeadLetter:
    """Read a record of a dead letter topic. A record that is no dead letter of ours comes back with an empty `topic`."""
    pairs = tuple((name, value or b"") for name, value in headers or ())
    ours = {name: value.decode("utf-8", "replace") for name, value in pairs if name.startswith(PREFIX)}
    number = {name: _number(ours.get(name)) for name in (PARTITION, OFFSET, TIMESTAMP_MS, TIME_MS)}
    whole = number[PARTITION] >= 0 and number[OFFSET] >= 0
    return DeadLetter(
        at_topic=at_topic,
        at_partition=at_partition,
        at_offset=at_offset,
        key=key,
        value=value,
        headers=pairs,
        app=ours.get(APP, ""),
        topic=ours.get(TOPIC, "") if whole else "",
        partition=number[PARTITION],
        offset=number[OFFSET],
        timestamp_ms=number[TIMESTAMP_MS],
        processor=ours.get(PROCESSOR, ""),
        error=ours.get(ERROR, ""),
        reason=ours.get(REASON, ""),
        fingerprint=ours.get(FINGERPRINT, ""),
        time_ms=number[TIME_MS],
        redriven_from=ours.get(REDRIVEN_FROM, ""),
    )


def fingerprint(error: BaseException) -> str:
    """Return the same short hash for all errors of one class, from one place in the processor's own code, with messages alike.

    Numbers, words with digits in them and quoted strings do not count, so that a thousand bad records make one group. The
    place is the innermost frame outside of libraries and of the runtime; where there is none, the innermost frame.
    """
    return _digest(type(error).__qualname__, _place(error.__traceback__), str(error))


def one_line(text: str) -> str:
    """Return `text` on one line, cut to `REASON_CHARS_MAX`."""
    flat = _SPACE.sub(" ", text).strip()
    return flat if len(flat) <= REASON_CHARS_MAX else flat[: REASON_CHARS_MAX - 1] + "…"


def _number(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        return -1


def _digest(name: str, place: str, message: str) -> str:
    alike = _WORD_WITH_DIGIT.sub("#", _QUOTED.sub("?", one_line(message)))
    return hashlib.sha256(f"{name}|{place}|{alike}".encode("utf-8", "replace")).hexdigest()[:FINGERPRINT_HEX]


def _place(trace: TracebackType | None) -> str:
    own = innermost = ""
    for _ in range(FRAMES_MAX):
        if trace is None:
            break
        code = trace.tb_frame.f_code
        innermost = f"{code.co_name}:{trace.tb_lineno}"
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _RUNTIME_PACKAGES and not _LIBRARY_FILE.search(code.co_filename):
            own = innermost
        trace = trace.tb_next
    return own or innermost
