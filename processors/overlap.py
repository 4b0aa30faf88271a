"""Runs `processors.core.overlap`: the changed files are keyed anew by path, then folded file by file.

    agents.events (by agent) ─▶ overlap-files ─▶ agents.files (by path) ─▶ overlap ─▶ table overlap, agents.overlaps

Between the two stands a topic, because the changes of one file come from many agents and so from many partitions. Both steps are
exactly once, so every change of a file is folded once. The record goes on as it is: same bytes, same id, another key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.core.overlap import step
from processors.options import CHANGED_FILES, WorkOptions
from schemas.work import FileChanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch, Table

__all__ = ["TABLE", "register"]

TABLE = "overlap"


def register(app: App, options: WorkOptions | None = None) -> None:
    """Declare the two processors and the table."""
    options = options or WorkOptions.load()
    limits = options.limits
    files = options.topic(CHANGED_FILES)
    table: Table = app.Table(TABLE, immutable_values=True)

    @app.agent(app.batch_topic(options.topic(FileChanged.topic)), name="overlap-files")
    async def key_by_path(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            for record, event in batch.events(FileChanged):
                batch.send(files, key=event.path.encode(), value=record.value, headers=list(record.headers))

    @app.agent(app.batch_topic(files), name=TABLE)
    async def overlap(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            state_of = batch.view(table)
            for record, event in batch.events(FileChanged):
                done = step(state_of.get(event.path), event, batch.now_ms, limits)
                state_of[event.path] = done.state
                for output in done.outputs:
                    batch.publish(output, cause=record, topic=options.topic(output.topic))
