"""``antiphon txn``: what came of transactions, from the events alone, and a human's decision about one that waits for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table
from streams.cli.tail import Start, records, when_ms
from streams.cli.txn_incidents import incidents, settle

if TYPE_CHECKING:
    from streams.core.tables.ledger import Entry, Ledger

__all__ = ["app"]

app = typer.Typer(help="Transactions over state tables.", no_args_is_help=True)

SHOWN: Final = 50
"""Transactions shown to a person, the last ones; --json has all."""

Txn = Annotated[str, typer.Argument(help="Its id.", show_default=False)]
Since = Annotated[str, typer.Option(help="Events from this time on: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")]


@app.command(name="ls")
def list_(
    state: Annotated[
        str, typer.Option(help="Only these: committed, refused, rolled_back, prepared, waits_for_human, locking or waiting.")
    ] = "",
    domain: Annotated[str, typer.Option(help="Only those in this domain.")] = "",
    owner: Annotated[str, typer.Option(help="Only those of owners that begin so.")] = "",
    since: Since = "",
    json: JsonFlag = False,
) -> None:
    """List transactions, the last ones last, from the events: no worker is needed. Exit code 4 where none is as asked for."""
    ledger = _read(since)
    found = list(ledger.select(state=state, domain=domain, owner=owner))
    if not found and (state or domain or owner or since):
        raise fail("no transaction is like that", Exit.MISSING)
    if not found and not json:
        out.print("no transaction so far")
        return
    if json:
        for entry in found:
            print_json(entry.document())
        return
    print_table(
        ("transaction", "owner", "state", "code", "domains", "writes", "at"),
        [
            (one.txn, one.owner, one.state, one.code, ", ".join(sorted(one.domains)), len(one.writes), _at(one.at_ms))
            for one in found[-SHOWN:]
        ],
    )
    if len(found) > SHOWN:
        err.print(f"and {len(found) - SHOWN:,} before these; --json has all", style="dim")


@app.command()
def show(txn: Txn, since: Since = "", json: JsonFlag = False) -> None:
    """Show all that is known of a transaction. Exit code 4 where it is not known."""
    entry = _one(txn, since)
    if json:
        print_json(entry.document())
        return
    print_table(("", ""), [(name, _shown(value)) for name, value in entry.document().items() if value not in ("", [], {})])


@app.command()
def explain(txn: Txn, since: Since = "") -> None:
    """Say in sentences what came of a transaction, and why. Exit code 4 where it is not known."""
    from streams.core.tables.ledger import explained

    for line in explained(_one(txn, since)):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


@app.command()
def resolve(
    domain: Annotated[str, typer.Argument(help="Where it waits.", show_default=False)],
    txn: Txn,
    reason: Annotated[str, typer.Option(help="Why, for those who look later.", show_default=False)],
    commit: Annotated[bool, typer.Option("--commit/--refuse", help="Have it overwrite what it conflicts with, or refuse it.")],
    owner: Annotated[str, typer.Option(help="Who decides.")] = "operator",
    json: JsonFlag = False,
) -> None:
    """Decide about a transaction that waits for a human. It needs a worker with `transactions`."""

    async def decide() -> dict[str, Any]:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            return (await mesh.resolve(domain, txn, commit=commit, reason=reason, owner=owner))._asdict()

    found = asyncio.run(decide())
    if json:
        print_json(found)
    else:
        out.print(f"transaction {txn}: {found['state'].replace('_', ' ')}", highlight=False)


app.command()(incidents)
app.command()(settle)


def _read(since: str) -> Ledger:
    """Fold the events of tables and of the coordinator."""
    from schemas.errors import SchemaError
    from schemas.tables import EVENTS_TOPIC
    from schemas.transactions import EVENTS_TOPIC as COORDINATOR_TOPIC
    from streams.codec import Codec, as_record
    from streams.core.tables.ledger import FOLDS, Ledger
    from streams.errors import TopicMissing
    from streams.settings import Settings

    settings = Settings()
    prefix, codec, ledger = settings.client.coordination_topic_prefix, Codec.from_settings(settings), Ledger()
    conf = cluster_config(settings)
    start = Start(beginning=not since, offset=None, since_ms=when_ms(since) if since else None)
    for topic in (prefix + EVENTS_TOPIC, prefix + COORDINATOR_TOPIC):
        try:
            for message in records(conf, topic, start, partition=None, follow=False, uncommitted=False):
                record = as_record(message)
                try:
                    kind = codec.type_of(record)
                    if kind in FOLDS or kind == "tables.changed":
                        ledger.take(kind, codec.read(record), message.timestamp()[1])
                except SchemaError as error:
                    err.print(str(error), style="dim", markup=False, highlight=False)
        except TopicMissing:
            if topic.endswith(COORDINATOR_TOPIC):
                continue  # nobody has used two-phase commit
            raise fail(f"there is no topic {topic}: no worker of transactions has run here", Exit.MISSING) from None
    return ledger


def _one(txn: str, since: str) -> Entry:
    entry = _read(since).entries.get(txn)
    if entry is None:
        raise fail(f"transaction {txn} is not known; `antiphon txn ls` has those that are", Exit.MISSING)
    return entry


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _shown(value: object) -> str:
    import orjson

    return value if isinstance(value, str) else orjson.dumps(value).decode()
