"""A processor in one file: how many changes of each agent there were, how many were reverts, and a line at every tenth.

Make the topics, then run it as any Faust app:

    antiphon topics create agents.events && antiphon topics create agents.reverts
    python examples/reverts.py worker -l info
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from schemas.work import ChangeCommitted
from streams import App, Batch, Table
from streams.broker import resolve_bootstrap
from streams.settings import Settings

State = Mapping[str, int]


def step(state: State | None, event: ChangeCommitted) -> State:
    """Count one change; pure, so a test needs no broker."""
    state = state or {"changes": 0, "reverts": 0}
    return {"changes": state["changes"] + 1, "reverts": state["reverts"] + (event.reverts is not None)}


def register(app: App) -> None:
    """Declare the processor and its table on an app."""
    table: Table = app.Table("reverts", immutable_values=True)

    @app.agent(app.batch_topic(ChangeCommitted.topic), name="reverts")
    async def reverts(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            state_of = batch.view(table)
            for _record, event in batch.events(ChangeCommitted):
                state = state_of[event.agent] = step(state_of.get(event.agent), event)
                if state["changes"] % 10 == 0:
                    line = f"{event.agent}: {state['reverts']} of {state['changes']} changes were reverts"
                    batch.send("agents.reverts", key=event.key(), value=line.encode())


if __name__ == "__main__":
    settings = Settings()
    app = App.from_settings(settings, app_id="reverts", bootstrap_servers=resolve_bootstrap(settings))
    register(app)
    app.main()
