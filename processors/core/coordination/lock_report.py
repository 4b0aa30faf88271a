"""What `antiphon locks` shows: who holds, who waits, for whom, and the deadlocks among them, as one document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from processors.core.coordination.deadlock_graph import Edge, cores, edges
from processors.core.coordination.lock_places import SEMAPHORES, TOLD, Place, Request
from processors.core.coordination.lock_view import LockView

__all__ = ["dot", "report"]

Document = dict[str, Any]


def report(view: LockView, now_ms: int, *, prefix: str = "", contended: bool = False) -> Document:
    """Return how everything stands.

    Args:
        view: What was read.
        now_ms: The moment that ages are counted to.
        prefix: Only places whose names begin so, and waits for them.
        contended: Only places that somebody waits for.

    Returns:
        `locks` and `semaphores`, those that are waited for by most first; `told`, the waits that others tell; `graph`, who waits
        for whom; `deadlocks`, which are not confirmed here.
    """
    places = [one for one in view.places.items() if one[0][1].startswith(prefix) and (one[1].queue or not contended)]
    places.sort(key=lambda one: (-len(one[1].queue), one[0][1]))
    everybody = view.waiting_of.keys() | view.holding_of.keys()
    waits = [_wait(view, edge) for request in _waiting(view, prefix) for edge in edges(view, request, everybody, near=True)]
    return {
        "now_ms": now_ms,
        "locks": [_place(kind, name, place, now_ms) for (kind, name), place in places if kind != SEMAPHORES],
        "semaphores": [_place(kind, name, place, now_ms) for (kind, name), place in places if kind == SEMAPHORES],
        "told": [_told(one, now_ms) for one in _waiting(view, "") if one.key[0] == TOLD],
        "graph": waits,
        "deadlocks": [[_wait(view, edge) for edge in core.edges] for core in cores(view)],
    }


def _waiting(view: LockView, prefix: str) -> Iterator[Request]:
    for owner in sorted(view.waiting_of):
        for key in sorted(view.waiting_of[owner]):
            request = view.waiting_of[owner][key]
            if not prefix or any(name.startswith(prefix) for name in request.names):
                yield request


def _place(kind: str, name: str, place: Place, now_ms: int) -> Document:
    holders = [
        {**_request(kind, one, now_ms), "token": _token(one, name), "expires_in_ms": one.expires_ms - now_ms}
        for one in place.holders.values()
    ]
    queue = [{**_request(kind, one, now_ms), "priority": one.priority} for one in place.line()]
    own = {"capacity": place.capacity, "out": sum(one.permits for one in place.holders.values())} if kind == SEMAPHORES else {}
    return {"name": name, **own, "holders": holders, "queue": queue}


def _request(kind: str, one: Request, now_ms: int) -> Document:
    how = {"permits": one.permits} if kind == SEMAPHORES else {"mode": "exclusive" if one.exclusive else "shared"}
    who = {"owner": one.owner, "request_id": one.key[2]}
    return {**who, **how, "since_ms": one.since_ms, "age_ms": max(0, now_ms - one.since_ms)}


def _token(one: Request, name: str) -> int:
    return one.tokens[one.names.index(name)]


def _told(one: Request, now_ms: int) -> Document:
    who = {"owner": one.owner, "kind": one.kind, "domain": one.key[1], "request_id": one.key[2], "waits_for": list(one.waits_for)}
    return {**who, "since_ms": one.since_ms, "age_ms": max(0, now_ms - one.since_ms)}


def _wait(view: LockView, edge: Edge) -> Document:
    kind, domain, request_id = edge.request
    return {
        "owner": edge.owner,
        "waits_for": list(edge.owners),
        "kind": view.requests[edge.request].kind or kind,
        "name": edge.name,
        "how": edge.how,
        "domain": domain,
        "request_id": request_id,
    }


def dot(document: Document) -> str:
    """Return the wait-for graph of a report in the language of Graphviz; waits of deadlocks are bold and red."""
    dead = {
        (one["owner"], one["request_id"], other) for core in document["deadlocks"] for one in core for other in one["waits_for"]
    }
    lines = ["digraph waits {", "  rankdir=LR;", "  node [shape=box, fontname=sans];", "  edge [fontname=sans];"]
    for one in document["graph"]:
        for other in one["waits_for"]:
            bold = ", color=red, penwidth=2" if (one["owner"], one["request_id"], other) in dead else ""
            dashed = ", style=dashed" if one["how"] == "goes_first" else ""
            lines.append(
                f"  {_quoted(one['owner'])} -> {_quoted(other)} [label={_quoted(one['name'] or one['kind'])}{bold}{dashed}];"
            )
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
