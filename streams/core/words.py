"""What messages about a mistake have in common: the wrong value on one line, and the word that was meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final

__all__ = ["SHOWN_CHARS_MAX", "did_you_mean", "shown"]

SHOWN_CHARS_MAX: Final = 60
"""Characters of a wrong value in a message, which is one line."""


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """Return " Did you mean 'x'?" where one of `known` is close to `word`, else nothing."""
    close = get_close_matches(word.lower(), known, n=1, cutoff=0.6) if isinstance(word, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """`value` of a file, as a message names it: `the text 'abc'`, `nothing`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value if len(value) <= SHOWN_CHARS_MAX else f"{value[:SHOWN_CHARS_MAX]}…"
        return f"the text {text!r}"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"the number {value}"
