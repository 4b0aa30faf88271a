"""What a repository says of the work it receives: each change and each file of it when it lands, and what a change takes back.

    change.committed (ts, arrived) ─▶ change.landed (ts = arrived, begun = ts), and change.reverted where it reverts another
    file.changed     (ts, arrived) ─▶ file.landed   (ts = arrived, begun = ts)

One event of work gives the same landings, always. Their `ts` is when the work landed: in a history that is the order in which it
came, while the times at which it was made are years apart.
"""

from __future__ import annotations

from typing import Any

from schemas.events import Event
from schemas.fleet import ChangeLanded, ChangeReverted, FileLanded
from schemas.work import ChangeCommitted, FileChanged

__all__ = ["landings"]


def landings(event: ChangeCommitted | FileChanged, *, id: str = "", source: str = "") -> tuple[Event, ...]:  # noqa: A002 as in `Event`
    """Return what the landing of one piece of work says, in order.

    Args:
        event: The work.
        id: The landings' ids begin with it.
        source: Their source.
    """
    agent, task, ts, begun = event.agent, event.task, event.arrived, event.ts
    said: dict[str, Any] = {"source": source, "time_ms": ts, "agent": agent, "ts": ts}
    if isinstance(event, FileChanged):
        return (FileLanded(id=f"{id}-landed", path=event.path, task=task, begun=begun, **said),)
    landed = ChangeLanded(id=f"{id}-landed", task=task, begun=begun, files=event.files, **said)
    if event.reverts is None:
        return (landed,)
    return (landed, ChangeReverted(id=f"{id}-reverted", task=event.reverts, by_task=task, **said))
