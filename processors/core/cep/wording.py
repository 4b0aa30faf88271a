"""What pydantic finds wrong with a definition, in the words of the people who wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from pydantic_core import ErrorDetails

from streams.core.words import did_you_mean, shown

__all__ = ["expected"]


def _of(details: ErrorDetails, wanted: str) -> str:
    return f"{wanted} is wanted, and this is {shown(details['input'])}"


def _too_long(details: ErrorDetails) -> str:
    ctx = details["ctx"]
    return f"at most {ctx['max_length']} are allowed, and there are {ctx.get('actual_length', 'more')}"


def _literal(details: ErrorDetails) -> str:
    allowed = tuple(re.findall(r"'([^']*)'", details["ctx"]["expected"]))
    return f"{', '.join(allowed)} are allowed, and this is {shown(details['input'])}.{did_you_mean(details['input'], allowed)}"


_WORDS: Final[Mapping[str, Callable[[ErrorDetails], str]]] = {
    "int_type": lambda d: _of(d, "a whole number"),
    "bool_type": lambda d: _of(d, "true or false"),
    "string_type": lambda d: _of(d, "text") + ("" if isinstance(d["input"], Mapping | list) else ": put it in quotes"),
    "tuple_type": lambda d: _of(d, "a list ('- ' in front of each item)"),
    "model_type": lambda d: _of(d, "a mapping (keys with values)"),
    "model_attributes_type": lambda d: _of(d, "a mapping (keys with values)"),
    "greater_than_equal": lambda d: f"at least {d['ctx']['ge']} is allowed, and this is {d['input']}",
    "less_than_equal": lambda d: f"at most {d['ctx']['le']} is allowed, and this is {d['input']}",
    "too_short": lambda d: f"at least {d['ctx']['min_length']} is wanted, and there are {d['ctx']['actual_length']}",
    "too_long": _too_long,
    "string_too_short": lambda _: "the text is empty: leave the key away, or say something",
    "string_too_long": lambda d: f"at most {d['ctx']['max_length']} characters are allowed, and there are {len(d['input'])}",
    "literal_error": _literal,
    "value_error": lambda d: str(d["ctx"]["error"]),
    "recursion_loop": lambda _: "groups nest too deep: make the pattern flatter",
}
"""What pydantic found, in our words."""


def expected(details: ErrorDetails) -> str:
    """Say on one line what is wrong and what is allowed."""
    words = _WORDS.get(details["type"])
    return words(details) if words else details["msg"]
