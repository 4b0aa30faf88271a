"""Runs the patterns of the patterns topic over the topics that they name.

    antiphon.patterns ──▶ every worker, whole
    agents.events, … ──┬──▶ cep        patterns keyed by the record's own key ─┬─▶ antiphon.matches, timeouts, evictions, late,
                       └──▶ <app id>-cep-keyed ─▶ cep-keyed   by another field ┘   pattern-changes

How a record goes through is told in docs/cep.md; the parts are in `processors.patterns`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from processors.patterns.cell import Cell
from processors.patterns.options import CepOptions
from processors.patterns.rows import RowCodec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams import App, Batch, Table

__all__ = ["LANES", "STATES", "register", "register_keys"]

LANES = "cep-lanes"
STATES = "cep-states"


def register(app: App, options: CepOptions | None = None) -> None:
    """Declare the processors, their tables, and the topic of events that are keyed anew."""
    options = options or CepOptions.load()
    lanes: Table = app.Table(LANES, immutable_values=True)
    states: Table = app.Table(STATES, immutable_values=True, codec=RowCodec())
    keyed = app.own_topic(options.keyed(app.conf.id))
    app.own_topic(options.topic(options.patterns_topic), partitions=1, config={"cleanup.policy": "compact"})
    cell = _following(app, options, keyed)

    for name in options.topics:

        @app.agent(app.batch_topic(options.topic(name)), name=f"cep-{name}")
        async def cep(stream: AsyncIterator[Batch]) -> None:
            async for batch in stream:
                await cell.ready()
                cell.direct(batch, lanes=batch.view(lanes), states=batch.view(states))

    @app.agent(app.batch_topic(keyed), name="cep-keyed")
    async def cep_keyed(stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            await cell.ready()
            cell.keyed(batch, lanes=batch.view(lanes), states=batch.view(states))


def register_keys(app: App, options: CepOptions | None = None, *, for_app: str | None = None) -> None:
    """Declare the processor that keys the events of `keyed_topics` anew, for topics with other numbers of partitions.

    It runs in an app of its own, since tables need equal numbers.

    Args:
        app: That app.
        options: The same as of the app that matches.
        for_app: The id of the app that matches; else this app's id without "-keys".
    """
    options = options or CepOptions.load()
    keyed = options.keyed(for_app or app.conf.id.removesuffix("-keys"))
    cell = _following(app, options, keyed)

    for name in options.keyed_topics:

        @app.agent(app.batch_topic(options.topic(name)), name=f"cep-keys-{name}")
        async def cep_keys(stream: AsyncIterator[Batch]) -> None:
            async for batch in stream:
                await cell.ready()
                cell.keys(batch)


def _following(app: App, options: CepOptions, keyed_topic: str) -> Cell:
    """Return a cell that the patterns topic is followed for."""
    cell = Cell(app, options, keyed_topic=keyed_topic)

    @app.task
    async def follow_patterns() -> None:
        await cell.follow(asyncio.get_running_loop())

    return cell
