"""What is wrong with a request before it is looked at: bad input is an answer, never an exception."""

from __future__ import annotations

from processors.core.coordination.lock_words import AcquireRequest, LockLimits
from schemas.naming import domain_of, name_problem

__all__ = ["identity_problem", "lease_problem", "request_problem"]

Problem = tuple[str, str]
"""A refusal's code, and its text: what, and what is allowed."""


def identity_problem(request_id: str, owner: str) -> Problem | None:
    """Return what is wrong with the names that every command has."""
    if text := name_problem(request_id, "the request id"):
        return "bad_request_id", text
    if text := name_problem(owner, "the owner"):
        return "bad_owner", text
    return None


def lease_problem(lease_ms: int, limits: LockLimits) -> Problem | None:
    """Return what is wrong with a lease."""
    if limits.lease_ms_min <= lease_ms <= limits.lease_ms_max:
        return None
    return (
        "bad_lease",
        f"lease_ms is {lease_ms}: {limits.lease_ms_min} to {limits.lease_ms_max} is allowed; renew it to hold longer",
    )


def request_problem(asked: AcquireRequest, limits: LockLimits) -> Problem | None:
    """Return what is wrong with a request."""
    problem = identity_problem(asked.request_id, asked.owner) or lease_problem(asked.lease_ms, limits)
    if problem is not None:
        return problem
    if asked.mode not in ("exclusive", "shared"):
        return "bad_mode", f"mode is {str(asked.mode)[:40]!r}: exclusive or shared is allowed"
    if asked.wait_ms is not None and not 0 <= asked.wait_ms <= limits.wait_ms_max:
        return "bad_wait", f"wait_ms is {asked.wait_ms}: 0 (try) to {limits.wait_ms_max}, or none for no limit, is allowed"
    if abs(asked.priority) > limits.priority_max:
        return "bad_priority", f"priority is {asked.priority}: {-limits.priority_max} to {limits.priority_max} is allowed"
    return _resources_problem(asked.resources, limits)


def _resources_problem(names: tuple[str, ...], limits: LockLimits) -> Problem | None:
    if not 1 <= len(names) <= limits.resources_max:
        return "bad_resources", f"{len(names)} resources are asked for: 1 to {limits.resources_max} in one request are allowed"
    for name in names:
        if text := name_problem(name, "the resource"):
            return "bad_name", text
        if name.startswith("/"):
            return "bad_name", f"the resource {name[:40]!r} begins with a slash: its domain, the part before the first, is empty"
    if len(names) > 1:
        if len(set(names)) < len(names):
            return "bad_resources", "a resource is named twice: name each once"
        if len(domains := {domain_of(name) for name in names}) > 1:
            shown = ", ".join(sorted(domains)[:3])
            return "domains_mixed", f"the resources are of {len(domains)} domains ({shown}): one request is for one domain"
    return None
