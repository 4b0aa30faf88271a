"""Names of what is coordinated: what is allowed in one, and the domain that its commands are keyed by.

repo/main, repo/docs/a.md   domain "repo"      one partition decides about all resources of a domain,
deploy                      domain "deploy"    so several of them can be asked for in one request
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["NAME_CHARS_MAX", "domain_of", "name_problem"]

NAME_CHARS_MAX: Final = 256
"""Characters of a name: room for a path, and a bounded row."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def domain_of(name: str) -> str:
    """Return the part of a name before its first slash: all of it where there is none."""
    return name.partition("/")[0]


def name_problem(name: str, what: str = "a name") -> str:
    """Return what is wrong with a name, as one line that says what is allowed; empty where nothing is."""
    if name.isascii() and name.isprintable() and 0 < len(name) <= NAME_CHARS_MAX:
        return ""
    shown = repr(name if len(name) <= 40 else name[:37] + "...")
    if not name:
        return f"{what} is empty: 1 to {NAME_CHARS_MAX} characters are allowed"
    if len(name) > NAME_CHARS_MAX:
        return f"{what} {shown} has {len(name)} characters: at most {NAME_CHARS_MAX} are allowed"
    if _CONTROL.search(name):
        return f"{what} {shown} has control characters or lone surrogates: printable text is allowed"
    return ""
