"""`lock_app.py` with a worker that waits at one of two places, as long as a file is there: TOLD_COMMIT, TOLD_RUN.

TOLD_COMMIT    after its batches have ended, and what is told at once was told; before their kafka transaction
TOLD_RUN       with commands that it has fetched, before they are carried out
"""

from __future__ import annotations

import asyncio
import os
import runpy
from pathlib import Path
from typing import Any

from streams.machines import running
from streams.turns.committer import Committer


async def gone(name: str) -> None:
    """Wait until a file is not there."""
    path = Path(os.environ[name])
    while path.exists():  # noqa: ASYNC110, ASYNC240 - another process removes it
        await asyncio.sleep(0.01)


make_visible, learn = Committer.make_visible, running.ReplyTopics.learn


async def waits_to_commit(self: Committer, turn: Any) -> Any:
    """Commit when the file is gone."""
    await gone("TOLD_COMMIT")
    return await make_visible(self, turn)


async def waits_to_run(self: Any, batch: Any) -> None:
    """Go on with a batch that has commands when the file is gone."""
    await learn(self, batch)
    path = Path(os.environ["TOLD_RUN"])
    if batch.records and path.exists():  # noqa: ASYNC240
        path.with_suffix(".reached").touch()
        await gone("TOLD_RUN")


if __name__ == "__main__":
    Committer.make_visible = waits_to_commit  # type: ignore[method-assign]
    running.ReplyTopics.learn = waits_to_run  # type: ignore[method-assign]
    runpy.run_module("tests.e2e.lock_app", run_name="__main__")
