"""What is wrong with a request for one name before it is looked at: bad input is an answer, never an exception."""

from __future__ import annotations

from typing import Protocol

from processors.core.coordination.lock_checks import identity_problem
from processors.core.coordination.request_words import RequestLimits
from schemas.naming import name_problem

__all__ = ["Asking", "Problem", "command_problem", "lease_problem", "range_problem", "waiting_problem"]

Problem = tuple[str, str]
"""A refusal's code, and its text: what, and what is allowed."""


class Asking(Protocol):
    """What every request that may wait has."""

    @property
    def request_id(self) -> str:
        """Names the request."""

    @property
    def owner(self) -> str:
        """Who asks."""

    @property
    def name(self) -> str:
        """What it is about."""

    @property
    def wait_ms(self) -> int | None:
        """How long it waits; None for as long as it takes."""

    @property
    def lease_ms(self) -> int:
        """How long it is believed in without being heard of."""


def command_problem(request_id: str, owner: str, name: str, what: str) -> Problem | None:
    """Return what is wrong with the names of a command.

    Args:
        request_id: Its id.
        owner: Who gives it.
        name: What it is about.
        what: What that is, "the semaphore" for one.
    """
    if problem := identity_problem(request_id, owner):
        return problem
    if text := name_problem(name, what):
        return "bad_name", text
    if name.startswith("/"):
        return "bad_name", f"{what} {name[:40]!r} begins with a slash: its domain, the part before the first, is empty"
    return None


def range_problem(code: str, what: str, value: int, least: int, most: int, more: str = "") -> Problem | None:
    """Return what is wrong with a number that has to be in a range."""
    return None if least <= value <= most else (code, f"{what} is {value}: {least} to {most} is allowed{more}")


def lease_problem(lease_ms: int, limits: RequestLimits) -> Problem | None:
    """Return what is wrong with a lease."""
    return range_problem("bad_lease", "lease_ms", lease_ms, limits.lease_ms_min, limits.lease_ms_max, "; renew to hold longer")


def waiting_problem(asked: Asking, limits: RequestLimits, what: str) -> Problem | None:
    """Return what is wrong with a request that may wait."""
    if problem := command_problem(asked.request_id, asked.owner, asked.name, what):
        return problem
    if problem := lease_problem(asked.lease_ms, limits):
        return problem
    if asked.wait_ms is None:
        return None
    return range_problem("bad_wait", "wait_ms", asked.wait_ms, 0, limits.wait_ms_max, ", or none for no limit")
