"""``antiphon table``: rows of state tables, as they are, were, and became."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, fail, print_json, print_table
from streams.cli.tail import when_ms

if TYPE_CHECKING:
    from streams.tables import Row

__all__ = ["app"]

app = typer.Typer(help="Rows of state tables.", no_args_is_help=True)

Table = Annotated[str, typer.Argument(help="The table.", show_default=False)]
Key = Annotated[str, typer.Argument(help="The row's key, such as repo/main.", show_default=False)]
At = Annotated[str, typer.Option(help="As it was at this time: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")]


@app.command()
def get(table: Table, key: Key, at: At = "", json: JsonFlag = False) -> None:
    """Show a row, as it is or was. Exit code 4 where it is not there. It needs a worker with `transactions`."""

    async def read() -> Row | None:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            found = mesh.table(table)
            return await found.as_of(key, at_ms=when_ms(at)) if at else await found.row(key, fresh=True)

    row = asyncio.run(read())
    if row is None:
        raise fail(f"table {table} has no row {key}" + (f" at {at}" if at else ""), Exit.MISSING)
    _print([row], json=json)


@app.command()
def scan(
    table: Table,
    prefix: Annotated[str, typer.Argument(help="Of the keys, with a slash: repo/.", show_default=False)],
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="At most so many.", min=1)] = None,
    json: JsonFlag = False,
) -> None:
    """Show the rows whose keys begin with a prefix. Exit code 4 where there are none. It needs a worker with `transactions`."""

    async def read() -> list[Row]:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            return await mesh.table(table).scan(prefix, limit=limit, fresh=True)

    rows = asyncio.run(read())
    if not rows:
        raise fail(f"table {table} has no rows with prefix {prefix}", Exit.MISSING)
    _print(rows, json=json)


@app.command()
def history(table: Table, key: Key, json: JsonFlag = False) -> None:
    """Show the versions of a row that are kept, deletions too. Exit code 4 where there are none. It needs a worker."""

    async def read() -> list[Row]:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            return await mesh.table(table).history(key)

    rows = asyncio.run(read())
    if not rows:
        raise fail(f"table {table} has no versions of {key}", Exit.MISSING)
    _print(rows, json=json)


def _print(rows: list[Row], *, json: bool) -> None:
    if json:
        for row in rows:
            print_json(row._asdict())
        return
    from streams.tables.session import to_json

    print_table(
        ("key", "version", "at", "by", "transaction", "value"),
        [
            (
                row.key,
                row.version,
                datetime.fromtimestamp(row.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
                row.owner,
                row.txn,
                "(deleted)" if row.deleted else to_json(row.value),
            )
            for row in rows
        ],
    )
