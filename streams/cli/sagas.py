"""``antiphon sagas``: what sagas do, from the events alone, and what operators say to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from streams.cli.output import Exit, JsonFlag, cluster_config, err, fail, out, print_json, print_table
from streams.cli.tail import Start, records, when_ms

if TYPE_CHECKING:
    from streams.core.sagas.ledger import Ledger
    from streams.sagas.session import Sagas

__all__ = ["app"]

app = typer.Typer(help="Sagas.", no_args_is_help=True)

SHOWN: Final = 50
"""Sagas shown to a person, the last ones; --json has all."""

Saga = Annotated[str, typer.Argument(help="Its id.", show_default=False)]
Node = Annotated[str, typer.Argument(help="The node, in a body with its pass: legs[3]/book.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for those who look later.", show_default=False)]
By = Annotated[str, typer.Option(help="Who decides.")]
Since = Annotated[str, typer.Option(help="Events from this time on: 2026-01-31T12:00:00 (UTC if no zone), or 15m, 2h, 3d ago.")]


@app.command(name="ls")
def list_(
    status: Annotated[
        str, typer.Option(help="Only these: running, paused, compensating, incident, completed, compensated or cancelled.")
    ] = "",
    definition: Annotated[str, typer.Option(help="Only those of this definition.")] = "",
    prefix: Annotated[str, typer.Option(help="Only those with ids that begin so.")] = "",
    since: Since = "",
    json: JsonFlag = False,
) -> None:
    """List sagas, the last ones last, from the events: no worker is needed. Exit code 4 where none is as asked for."""
    found = list(_read(since).select(status=status, definition=definition, prefix=prefix))
    if not found and (status or definition or prefix or since):
        raise fail("no saga is like that", Exit.MISSING)
    if json:
        for entry in found:
            print_json(entry.document())
        return
    if not found:
        out.print("no saga so far")
        return
    print_table(
        ("saga", "definition", "status", "code", "incidents", "began"),
        [
            (one.saga, f"{one.definition} {one.version}", one.status, one.code, str(len(one.incidents) or ""), _at(one.began_ms))
            for one in found[-SHOWN:]
        ],
    )
    if len(found) > SHOWN:
        err.print(f"and {len(found) - SHOWN:,} before these; --json has all", style="dim")


@app.command()
def show(
    saga: Saga,
    moments: Annotated[bool, typer.Option("--moments", help="Every decision, with the command that it followed from.")] = False,
    since: Since = "",
    json: JsonFlag = False,
) -> None:
    """Show a saga and its timeline. Exit code 4 where it is not known."""
    from streams.core.sagas.timeline import as_text, timeline_of

    entry = _read(since).entries.get(saga)
    if entry is None:
        raise fail(f"saga {saga} is not known; `antiphon sagas ls` has those that are", Exit.MISSING)
    if json:
        print_json(entry.document())
        return
    facts = {name: value for name, value in entry.document().items() if name not in ("moments", "incidents") and value}
    print_table(("", ""), [(name, _at(value) if name.endswith("_ms") else str(value)) for name, value in facts.items()])
    for line in as_text(timeline_of(entry.timeline())):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    if moments:
        rows = [
            (_at(one["at_ms"]), one["what"], one["node"], str(one["attempt"] or ""), one["note"], one["cause"])
            for one in entry.moments
        ]
        print_table(("at", "what", "node", "attempt", "note", "cause"), rows)


@app.command()
def incidents(since: Since = "", json: JsonFlag = False) -> None:
    """List what waits for an operator. Exit code 4 where nothing does."""
    found = [(entry, one) for entry in _read(since).entries.values() for one in entry.incidents]
    if not found:
        raise fail("no incident is open", Exit.MISSING)
    if json:
        for entry, one in found:
            print_json({"saga": entry.saga, **one})
        return
    print_table(
        ("saga", "node", "what", "code", "reason", "since"),
        [
            (entry.saga, one["node"], "compensation" if one["undo"] else "action", one["code"], one["reason"], _at(one["at_ms"]))
            for entry, one in found
        ],
    )


@app.command()
def retry(saga: Saga, node: Node, reason: Reason, by: By = "operator", json: JsonFlag = False) -> None:
    """Have what an incident is about tried again. It needs a worker with `sagas`."""
    _resolve(saga, node, "retry", reason, by, json=json)


@app.command()
def skip(saga: Saga, node: Node, reason: Reason, by: By = "operator", json: JsonFlag = False) -> None:
    """Go on without what an incident is about. It needs a worker with `sagas`."""
    _resolve(saga, node, "skip", reason, by, json=json)


@app.command()
def done(saga: Saga, node: Node, reason: Reason, by: By = "operator", json: JsonFlag = False) -> None:
    """Say that what an incident is about was done by hand. It needs a worker with `sagas`."""
    _resolve(saga, node, "done", reason, by, json=json)


@app.command()
def cancel(saga: Saga, reason: Reason, by: By = "operator", json: JsonFlag = False) -> None:
    """Have a saga undo what it did, and end. It needs a worker with `sagas`."""
    _say(lambda sagas: sagas.cancel(saga, by=by, reason=reason), json=json)


@app.command()
def approve(
    saga: Saga,
    node: Node,
    reason: Reason,
    approved: Annotated[bool, typer.Option("--yes/--no", help="What is said.")] = True,
    by: By = "operator",
    json: JsonFlag = False,
) -> None:
    """Say yes or no where a saga asks a human. It needs a worker with `sagas`."""
    _say(lambda sagas: sagas.approve(saga, node, approved=approved, by=by, reason=reason), json=json)


@app.command()
def fork(saga: Saga, node: Node, reason: Reason, by: By = "operator", json: JsonFlag = False) -> None:
    """Run a saga again from a node, as a new one. It needs a worker with `sagas`."""

    async def forked(sagas: Sagas) -> dict[str, Any]:
        return await (await sagas.fork(saga, node, by=by, reason=reason)).state()

    _say(forked, json=json)


def _resolve(saga: str, node: str, action: Literal["retry", "skip", "done"], reason: str, by: str, *, json: bool) -> None:
    _say(lambda sagas: sagas.resolve(saga, node, action=action, by=by, reason=reason), json=json)


def _say(what: Callable[[Sagas], Awaitable[dict[str, Any]]], *, json: bool) -> None:
    """Say something to a saga, and show what it does then."""

    async def said() -> dict[str, Any]:
        from streams.client import connect

        cluster_config()
        async with connect() as mesh:
            return await what(mesh.sagas)

    found = asyncio.run(said())
    if json:
        print_json(found)
    else:
        out.print(f"saga {found['saga']}: {found['status']}", highlight=False)


def _read(since: str) -> Ledger:
    """Fold the events of sagas."""
    from schemas.errors import SchemaError
    from schemas.sagas import EVENTS_TOPIC
    from streams.codec import Codec, as_record
    from streams.core.sagas.ledger import FOLDS, Ledger
    from streams.errors import TopicMissing
    from streams.settings import Settings

    settings = Settings()
    topic, codec, ledger = settings.client.coordination_topic_prefix + EVENTS_TOPIC, Codec.from_settings(settings), Ledger()
    start = Start(beginning=not since, offset=None, since_ms=when_ms(since) if since else None)
    try:
        for message in records(cluster_config(settings), topic, start, partition=None, follow=False, uncommitted=False):
            record = as_record(message)
            try:
                kind = codec.type_of(record)
                if kind in FOLDS:
                    cause = next((value.decode() for name, value in record.headers or () if name == "ce_causationid"), "")
                    ledger.take(kind, codec.read(record), message.timestamp()[1], cause)
            except SchemaError as error:
                err.print(str(error), style="dim", markup=False, highlight=False)
    except TopicMissing:
        raise fail(f"there is no topic {topic}: no worker of sagas has run here", Exit.MISSING) from None
    return ledger


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds") if at_ms else ""
