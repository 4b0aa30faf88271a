"""Numbers of things in sentences: "1 match", "2 matches", "1,000 keys"."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        count: How many.
        thing: What one is called.
        things: What several are called; else `thing` with an s.
    """
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"
