"""A record of the patterns topic: what a pattern is to be from now on.

    key      the pattern's name
    value    {"format": 1, "definition": {...}, "paused": false, "version": null, "published_at": 1700000000000}
             none: the pattern is removed

The last record of a name is the whole truth about it, so the topic may be compacted at any time. The **version** of a
definition is the offset of the record that brought it; a record that only pauses or resumes repeats the definition and names
that offset. Offsets grow and are never given twice, so a version names one definition for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson
from pydantic import ValidationError

from processors.core.cep.automaton import PatternError
from processors.core.cep.engine import compile_pattern
from processors.core.cep.expressions import ExpressionError
from processors.core.cep.model import Definition
from schemas.errors import AntiphonError, Fault

__all__ = ["CONTROL_BYTES_MAX", "Control", "ControlError", "encode", "read", "words"]

FORMAT: Final = 1
CONTROL_BYTES_MAX: Final = 500_000
"""Bytes of a record: half of what Kafka takes, as the definition also lives in the workers' tables."""
WORDS_CHARS_MAX: Final = 1_000
"""Characters of a reason that goes into an event: enough for the first mistakes of a definition."""


class ControlError(AntiphonError, ValueError):
    """A record of the patterns topic that means nothing; says why. Publish the pattern again."""

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"


@dataclass(frozen=True, slots=True)
class Control:
    """What a record says.

    Attributes:
        name: The pattern.
        offset: Of the record.
        version: Of the definition; for a removal, the record's own offset.
        definition: What to run; None removes the pattern.
        paused: Whether it is to rest.
    """

    name: str
    offset: int
    version: int
    definition: Definition | None
    paused: bool


def encode(definition: Definition, *, paused: bool = False, version: int | None = None, now_ms: int) -> bytes:
    """Return a record's value.

    Args:
        definition: What to run.
        paused: Whether it is to rest.
        version: The definition's version where the record only pauses or resumes; None for a new one, which gets the offset.
        now_ms: The wall clock.

    Raises:
        ControlError: It is larger than `CONTROL_BYTES_MAX`.
    """
    content = {
        "format": FORMAT,
        "definition": definition.to_data(),
        "paused": paused,
        "version": version,
        "published_at": now_ms,
    }
    value = orjson.dumps(content)
    if len(value) > CONTROL_BYTES_MAX:
        raise ControlError(f"the definition has {len(value)} bytes, at most {CONTROL_BYTES_MAX} are allowed: split the pattern")
    return value


def name_of(key: bytes | None) -> str:
    """Return the name that a record's key is.

    Raises:
        ControlError: It is none.
    """
    if not key:
        raise ControlError("the record has no key: the key is the pattern's name")
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ControlError(f"the key {key[:40]!r} is no UTF-8 text: it is the pattern's name") from None


def read(key: bytes | None, value: bytes | None, offset: int) -> Control:
    """Return what a record says; its definition has been compiled once.

    Raises:
        ControlError: It means nothing; says why.
    """
    name = name_of(key)
    if value is None:
        return Control(name, offset, offset, None, paused=False)
    content = _content(value)
    version = content.get("version")
    paused = content.get("paused", False)
    if not (version is None or (type(version) is int and 0 <= version < offset)):
        raise ControlError(f"version is {version!r}: the offset of an earlier record, or null for a new definition, is allowed")
    if type(paused) is not bool:
        raise ControlError(f"paused is {paused!r}: true or false is allowed")
    definition = definition_of(content.get("definition"))
    if definition.name != name:
        raise ControlError(f"the key is {name!r} and the definition's name {definition.name!r}: they are the same name")
    return Control(name, offset, offset if version is None else version, definition, paused=paused)


def _content(value: bytes) -> dict[str, Any]:
    if len(value) > CONTROL_BYTES_MAX:
        raise ControlError(f"the record has {len(value)} bytes, at most {CONTROL_BYTES_MAX} are read")
    try:
        content = orjson.loads(value)
    except ValueError as error:
        raise ControlError(f"no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ControlError("no JSON object")
    if content.get("format") != FORMAT:
        raise ControlError(f"format is {content.get('format')!r}: {FORMAT} is read here; a newer worker may know it")
    return content


def definition_of(data: object) -> Definition:
    """Return a definition that compiles.

    Raises:
        ControlError: It does not; says why.
    """
    try:
        definition = Definition.model_validate(data)
        compile_pattern(definition.pattern)
    except (ValidationError, PatternError, ExpressionError, RecursionError) as error:
        raise ControlError(words(error)) from None
    return definition


def words(error: Exception) -> str:
    """Return why a definition is none, in a line."""
    if isinstance(error, ValidationError):
        found = [f"{'.'.join(map(str, one['loc'])) or 'definition'}: {one['msg']}" for one in error.errors(include_url=False)]
        text = "; ".join(found)
    else:
        text = str(error) or type(error).__name__
    return text if len(text) <= WORDS_CHARS_MAX else text[: WORDS_CHARS_MAX - 3] + "..."
