"""What agents and tasks say: words, and payloads and results as JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["from_json", "to_json", "words"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""A half of a character, which UTF-8 does not have: escaped, as in all of the text then."""


def words(given: Collection[str]) -> tuple[str, ...]:
    """Return capabilities or needs; one that is given by itself is one."""
    return (given,) if isinstance(given, str) else tuple(given)


def to_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a payload or result as it travels.

    Raises:
        TypeError: It is no JSON value.
        ValueError: It has a number that JSON does not have.
    """
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return json.dumps(value) if _SURROGATE.search(text) else text


def from_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what travelled: None for nothing, and what somebody else wrote and is no JSON as text."""
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
