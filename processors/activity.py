"""Runs `processors.core.activity` over the agents' events: rows in a table, closed windows and late events as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.core.activity import step
from processors.options import WorkOptions
from schemas.work import ChangeCommitted, FileChanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch, Table

__all__ = ["TABLE", "register"]

TABLE = "activity"
TYPES: tuple[type[ChangeCommitted | FileChanged], ...] = (ChangeCommitted, FileChanged)


def register(app: App, options: WorkOptions | None = None) -> None:
    """Declare the processor and its table."""
    options = options or WorkOptions.load()
    windows = options.windows
    table: Table = app.Table(TABLE, immutable_values=True)

    @app.agent(app.batch_topic(options.topic(ChangeCommitted.topic)), name=TABLE)
    async def activity(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            rows = batch.view(table)
            for record, event in batch.events(*TYPES):
                done = step(rows, event, batch.now_ms, windows)
                for key, row in done.state.items():
                    if row is None:
                        del rows[key]
                    else:
                        rows[key] = row
                for output in done.outputs:
                    batch.publish(output, cause=record, topic=options.topic(output.topic))
