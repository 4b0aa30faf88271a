"""``antiphon txn incidents`` and ``antiphon txn settle``: what two-phase commit cannot mend by itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table
from streams.cli.tail import Start, records, when_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Incident", "incidents", "settle"]

RESOLVED = "resolved"


class Incident(NamedTuple):
    """An incident as its last event tells it.

    Attributes:
        txn: The transaction.
        participant: Whose part it is about.
        code: "heuristic": it did something else than was decided; "silent": it does not answer; "resolved".
        reason: For people.
        owner: Who commits.
        at_ms: When that was told.
    """

    txn: str
    participant: str
    code: str
    reason: str
    owner: str
    at_ms: int


def incidents(
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that are resolved.")] = False,
    since: Annotated[
        str, typer.Option(help="Events from this time on: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")
    ] = "",
    json: JsonFlag = False,
) -> None:
    """List participants that did something else than was decided, or do not answer. Exit code 4 where there are none.

    It reads the events, so it needs no worker; one that is open is told anew each day.
    """
    found = {(one.txn, one.participant): one for one in _told(since)}
    shown = sorted((one for one in found.values() if every or one.code != RESOLVED), key=lambda one: one.at_ms)
    if not shown:
        raise fail("no transaction has an incident" + ("" if every else " that is open"), Exit.MISSING)
    if json:
        for one in shown:
            print_json(one._asdict())
        return
    print_table(
        ("transaction", "participant", "code", "reason", "owner", "at"),
        [(one.txn, one.participant, one.code, one.reason, one.owner, _at(one.at_ms)) for one in shown],
    )
    if any(one.code != RESOLVED for one in shown):
        err.print("mend each by hand, then: antiphon txn settle TRANSACTION PARTICIPANT --reason ...", style="dim")


def settle(
    txn: Annotated[str, typer.Argument(help="The transaction's id.", show_default=False)],
    participant: Annotated[str, typer.Argument(help="As `antiphon txn incidents` names it.", show_default=False)],
    reason: Annotated[str, typer.Option(help="What was done about it, for those who look later.", show_default=False)],
    owner: Annotated[str, typer.Option(help="Who says so.")] = "operator",
    json: JsonFlag = False,
) -> None:
    """End an incident that was mended by hand. It needs a worker with `two-phase-commit`. Exit code 4 where none is open."""

    async def decide() -> dict[str, Any]:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            return await mesh.settle(txn, participant, reason=reason, owner=owner)

    found = asyncio.run(decide())
    if not found["known"] or found["code"] == "no_incident":
        raise fail(f"transaction {txn}: {found['reason']}", Exit.MISSING)
    if json:
        print_json(found)
    else:
        decided = "committed" if found["commit"] else "aborted"
        out.print(f"transaction {txn}, {participant}: settled; the transaction has {decided}", highlight=False)


def _told(since: str) -> Iterator[Incident]:
    """Yield all that was told of incidents, in order."""
    from schemas.errors import SchemaError
    from schemas.transactions import EVENTS_TOPIC, TransactionIncident
    from streams.codec import Codec, as_record
    from streams.errors import TopicMissing
    from streams.settings import Settings

    settings = Settings()
    topic, codec = settings.client.coordination_topic_prefix + EVENTS_TOPIC, Codec.from_settings(settings)
    start = Start(beginning=not since, offset=None, since_ms=when_ms(since) if since else None)
    try:
        for message in records(cluster_config(settings), topic, start, partition=None, follow=False, uncommitted=False):
            record = as_record(message)
            try:
                if codec.type_of(record) != TransactionIncident.event_type:
                    continue
                fields = codec.read(record)
            except SchemaError as error:
                err.print(str(error), style="dim", markup=False, highlight=False)
                continue
            told = {name: fields[name] for name in ("txn", "participant", "code", "reason", "owner")}
            yield Incident(**told, at_ms=message.timestamp()[1])
    except TopicMissing:
        raise fail(f"there is no topic {topic}: no worker of two-phase-commit has run here", Exit.MISSING) from None


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
