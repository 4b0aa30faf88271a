"""Locks that are broken on purpose, in a real worker (`LOCK_BROKEN`): who judges histories has to see each of them."""

from __future__ import annotations

from typing import Any

from processors.core.coordination import locks
from processors.core.coordination.lock_rows import Asked
from processors.core.coordination.lock_state import Book

__all__ = ["BROKEN", "break_locks"]

BROKEN = ("holder", "lease", "restart", "token")


def break_locks(how: str) -> None:
    """Break the locks of this process.

    Args:
        how: "holder" forgets to look who holds; "lease" ends leases at a third of their time; "restart" has no rows where the
            machine is made anew; "token" gives a token twice.
    """
    grant, load, next_token = Book.grant, Book.load, Book.next_token

    def grant_for_short(self: Book, asked: Asked, tokens: tuple[int, ...], expires_ms: int) -> None:
        grant(self, asked, tokens, expires_ms - asked.lease_ms * 2 // 3)

    def load_nothing(self: Book, rows: Any) -> None:
        load(self, [])

    def the_same_token(self: Book, least: int) -> int:
        return next_token(self, least) if self.number % 4 else max(1, self.token)

    if how == "holder":
        setattr(locks, "free", lambda book, request: True)  # noqa: B010 it is not exported
    elif how == "lease":
        Book.grant = grant_for_short  # type: ignore[method-assign]
    elif how == "restart":
        Book.load = load_nothing  # type: ignore[method-assign]
    elif how == "token":
        Book.next_token = the_same_token  # type: ignore[method-assign]
    else:
        raise ValueError(how)
